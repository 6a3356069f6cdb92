/* Who watches a session: which user counts, and which rosters the owner accepts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "client_rig.h"
#include "common/node_messages.h"
#include "core/presence.h"
#include "core/session/messages.h"
#include "core/session/roster.h"
#include "core/session/session.h"

static struct browser browser;

static struct session *session_of(const char *id)
{
    struct session *session = session_find(client_rig.hub, id, strlen(id));
    assert_non_null(session);
    return session;
}

static int set_up(void **state)
{
    int result = client_rig_start(state);
    client_rig.conf->services[0]->presence = true;
    return result;
}

/* A member of that life with one client. */
static void join(struct session *session, const char *node, uint64_t life)
{
    const struct join_message message = {.number = 1, .clients = 1};
    struct envelope envelope = join_encode(&message);
    envelope.session = slice_of(session->id);
    envelope.node = slice_of(node);
    envelope.life = life;
    messages_on_inbox(client_rig.hub, session, &envelope);
}

static void say_roster(struct session *session, const char *node, uint64_t life, const char *user)
{
    const struct envelope_item item = watcher_item(&(struct watcher_entry){slice_of(user), 1});
    const struct roster_message message = {.epoch = session->epoch, .watchers = {&item, 1}};
    struct envelope envelope = roster_encode(&message);
    envelope.session = slice_of(session->id);
    envelope.node = slice_of(node);
    envelope.life = life;
    presence_on_roster(session, &envelope);
}

/* The first roster of a node counts even if its life and number are 0. */
static void a_roster_of_life_0_counts(void **state)
{
    (void)state;
    browser_come(&browser, "/here/v1?svc");
    rig_turns(10);
    struct session *session = session_of("svc:v1");
    rig_turn_begin();
    join(session, "n9", 0);
    assert_non_null(roster_find(session, slice_of("n9")));
    say_roster(session, "n9", 0, "there");
    rig_turn_end();
    rig_turns(110);
    assert_int_equal(presence_shown(session, "there"), 1);
    assert_int_equal(presence_shown(session, "here"), 1);
    rig_turn_begin();
    say_roster(session, "n9", 0, "somebody"); /* of the same number: ignored */
    rig_turn_end();
    rig_turns(110);
    assert_int_equal(presence_shown(session, "there"), 1);
    browser_leave(&browser);
}

static void only_a_members_roster_of_its_own_life_counts(void **state)
{
    (void)state;
    browser_come(&browser, "/here/v1?svc");
    rig_turns(10);
    struct session *session = session_of("svc:v1");
    rig_turn_begin();
    join(session, "n9", 5);
    say_roster(session, "n9", 0, "there");
    say_roster(session, "n9", 4, "there");
    say_roster(session, "n8", 5, "there");
    rig_turn_end();
    rig_turns(110);
    assert_int_equal(presence_shown(session, "there"), 0);
    browser_leave(&browser);
}

/* Each subscription is named by the URL that a connection of its own would have. */
static void the_user_of_a_subscription_is_that_of_its_url(void **state)
{
    (void)state;
    browser_come(&browser, "/page?subscribe");
    browser_say(&browser, "{\"type\":\"SUBSCRIBE\",\"id\":1,\"urls\":"
                          "[\"/bob/v1?svc\",\"/ws?svc&vin=v2\",\"/page/v3?svc\"]}");
    rig_turns(110);
    assert_int_equal(presence_shown(session_of("svc:v1"), "bob"), 1);
    assert_int_equal(presence_shown(session_of("svc:v1"), "page"), 0);
    assert_int_equal(presence_shown(session_of("svc:v2"), ""), 1);
    assert_int_equal(presence_shown(session_of("svc:v3"), "page"), 1);
    struct browser other;
    browser_come(&other, "/carol/v1?svc");
    browser_say(&browser, "{\"type\":\"UNSUBSCRIBE\",\"id\":2,\"sessions\":[\"svc:v1\"]}");
    rig_turns(110);
    assert_int_equal(presence_shown(session_of("svc:v1"), "bob"), 0);
    assert_int_equal(presence_shown(session_of("svc:v1"), "carol"), 1);
    browser_leave(&other);
    browser_leave(&browser);
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, client_rig_stop)
    const struct CMUnitTest tests[] = {
        CASE(a_roster_of_life_0_counts),
        CASE(only_a_members_roster_of_its_own_life_counts),
        CASE(the_user_of_a_subscription_is_that_of_its_url),
    };
    return cmocka_run_group_tests_name("presence", tests, NULL, NULL);
}
