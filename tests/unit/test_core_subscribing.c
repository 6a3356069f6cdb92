/*
 * Subscriptions (contract section 6): requests of vinhub.v1 clients, the answers and their order,
 * and what they may cost other clients.
 */
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "client_rig.h"
#include "common/metrics.h"
#include "core/client/further.h"
#include "core/node/node.h"
#include "core/session/state.h"

#define LENGTH(array) (sizeof(array) / sizeof((array)[0]))

/* A list of urls "/u/vN?svc" from first on, for a SUBSCRIBE. The caller frees. */
static char *urls(unsigned first, unsigned count)
{
    char *text = malloc(count * 24 + 1);
    size_t len = 0;
    assert_non_null(text);
    text[0] = '\0';
    for (unsigned i = 0; i < count; i++)
        len += (size_t)sprintf(text + len, "%s\"/u/v%u?svc\"", i ? "," : "", first + i);
    return text;
}

static void subscribe_to(struct browser *browser, unsigned first, unsigned count)
{
    char *list = urls(first, count);
    browser_say(browser, "{\"type\":\"SUBSCRIBE\",\"id\":1,\"urls\":[%s]}", list);
    free(list);
}

/* It got these texts, in this order. */
static void assert_in_order(const struct browser *browser, const char *const *wanted, size_t len)
{
    const char *at = browser->text;
    for (size_t i = 0; i < len; i++) {
        at = strstr(at, wanted[i]);
        if (!at)
            fail_msg("%s is missing, or too early, in\n%s", wanted[i], browser->text);
        at += strlen(wanted[i]);
    }
}

static void a_connection_may_have_no_session_of_its_own(void **state)
{
    (void)state;
    static struct browser browser;
    browser_come(&browser, "/u?subscribe");
    rig_turns(2);
    assert_int_equal(browser_count(&browser, "\"type\":\"WELCOME\""), 1);
    assert_true(browser_heard(&browser, "\"epoch\":0,\"offset\":0,\"resumed\":false"));
    browser_forget(&browser);
    browser_say(&browser, "{\"type\":\"SEND\",\"id\":3,\"payload\":\"x\"}");
    assert_true(browser_heard(&browser, "\"id\":3,\"code\":\"not_subscribed\""));
    browser_say(&browser, "{\"type\":\"PING\"}");
    assert_true(browser_heard(&browser, "\"type\":\"PONG\""));
    struct hub_counts counts;
    hub_count(client_rig.hub, &counts);
    assert_int_equal(counts.clients, 1);
    assert_int_equal(counts.sessions, 0);
    browser_leave(&browser);
    hub_count(client_rig.hub, &counts);
    assert_int_equal(counts.clients, 0);
}

static void each_url_is_answered_in_its_order(void **state)
{
    (void)state;
    static struct browser browser;
    browser_come(&browser, "/u?subscribe");
    rig_turns(1);
    browser_forget(&browser);
    browser_say(&browser,
                "{\"type\":\"SUBSCRIBE\",\"id\":9,\"urls\":[\"/u/v1?svc\",\"/u/v2?none\",\"u/v3\","
                "\"/u/v1?svc&resume=x\",\"/u/v2?svc\",\"/u?subscribe\"]}");
    rig_turns(3);
    static const char *const wanted[] = {
        "\"type\":\"WELCOME\",\"id\":9,\"url\":\"/u/v1?svc\"",
        "\"id\":9,\"url\":\"/u/v2?none\",\"code\":\"unknown_service\"",
        "\"id\":9,\"url\":\"u/v3\",\"code\":\"malformed_url\"",
        "\"id\":9,\"url\":\"/u/v1?svc&resume=x\",\"code\":\"subscribed\"",
        "\"type\":\"WELCOME\",\"id\":9,\"url\":\"/u/v2?svc\"",
        "\"id\":9,\"url\":\"/u?subscribe\",\"code\":\"unknown_service\"",
    };
    assert_in_order(&browser, wanted, LENGTH(wanted));
    assert_int_equal(client_subscriptions(&browser.client), 2);
    browser_forget(&browser);
    rig_turns(2);
    rig_turn_begin();
    rig_push(1, "one");
    rig_push(2, "two");
    rig_turn_end();
    assert_int_equal(browser.writes, 1);
    assert_int_equal(browser_count(&browser, "\"type\":\"MESSAGE\",\"session\":\"svc:v1\""), 1);
    assert_int_equal(browser_count(&browser, "\"type\":\"MESSAGE\",\"session\":\"svc:v2\""), 1);
    browser_leave(&browser);
}

static void a_send_names_its_session(void **state)
{
    (void)state;
    static struct browser browser;
    browser_come(&browser, "/u/v0?svc");
    subscribe_to(&browser, 1, 1);
    rig_turns(3);
    browser_say(&browser,
                "{\"type\":\"SEND\",\"id\":1,\"payload\":\"to one\",\"session\":\"svc:v1\"}");
    assert_string_equal(client_rig.last_sent, "to one");
    browser_say(&browser, "{\"type\":\"SEND\",\"id\":2,\"payload\":\"own\"}");
    assert_string_equal(client_rig.last_sent, "own");
    browser_say(&browser,
                "{\"type\":\"SEND\",\"id\":3,\"payload\":\"own\",\"session\":\"svc:v0\"}");
    assert_int_equal(client_rig.sent, 3);
    browser_say(&browser, "{\"type\":\"SEND\",\"id\":4,\"payload\":\"x\",\"session\":\"svc:v2\"}");
    assert_int_equal(client_rig.sent, 3);
    assert_true(browser_heard(&browser, "\"id\":4,\"code\":\"not_subscribed\""));
    assert_int_equal(browser_count(&browser, "\"type\":\"ACK\""), 3);
    browser_leave(&browser);
}

static void what_is_unsubscribed_is_closed_and_no_more(void **state)
{
    (void)state;
    static struct browser browser;
    browser_come(&browser, "/u/v0?svc");
    subscribe_to(&browser, 1, 3);
    rig_turns(3);
    browser_forget(&browser);
    browser_say(&browser, "{\"type\":\"UNSUBSCRIBE\",\"id\":5,\"sessions\":[\"svc:v2\",\"svc:v9\","
                          "\"svc:v0\",\"svc:v2\"]}");
    assert_true(browser_heard(&browser, "\"type\":\"CLOSED\",\"payload\":{\"id\":5,\"session\":"
                                        "\"svc:v2\",\"code\":1000,\"reason\":\""));
    assert_int_equal(browser_count(&browser, "\"type\":\"CLOSED\""), 1);
    assert_int_equal(browser_count(&browser, "\"id\":5,\"code\":\"not_subscribed\""), 3);
    rig_turn_begin();
    rig_push(2, "not for it");
    rig_push(1, "for it");
    rig_turn_end();
    assert_false(browser_heard(&browser, "not for it"));
    assert_true(browser_heard(&browser, "for it"));
    assert_int_equal(client_subscriptions(&browser.client), 2);
    browser_leave(&browser);
}

/* UNSUBSCRIBE comes before the session is known: answers come in the order of the requests. */
static void a_session_may_be_left_right_after_it_was_asked_for(void **state)
{
    (void)state;
    static struct browser browser;
    browser_come(&browser, "/u/v0?svc");
    rig_turns(3);
    browser_forget(&browser);
    rig_turn_begin();
    static const char subscribe[] = "{\"type\":\"SUBSCRIBE\",\"id\":1,\"urls\":[\"/u/v1?svc\"]}",
                      leave[] = "{\"type\":\"UNSUBSCRIBE\",\"id\":2,\"sessions\":[\"svc:v1\"]}",
                      again[] = "{\"type\":\"SUBSCRIBE\",\"id\":3,\"urls\":[\"/u/v1?svc\"]}";
    door_message(&browser.client, OPCODE_TEXT, subscribe, sizeof(subscribe) - 1);
    door_message(&browser.client, OPCODE_TEXT, leave, sizeof(leave) - 1);
    door_message(&browser.client, OPCODE_TEXT, again, sizeof(again) - 1);
    rig_turn_end();
    rig_turns(10);
    const char *first = strstr(browser.text, "\"type\":\"WELCOME\",\"id\":1"),
               *closed = strstr(browser.text, "{\"id\":2,\"session\":\"svc:v1\",\"code\":1000"),
               *second = strstr(browser.text, "\"type\":\"WELCOME\",\"id\":3");
    assert_true(first && closed && second && first < closed && closed < second);
    assert_int_equal(client_subscriptions(&browser.client), 1);
    assert_false(browser.paused);
    browser_leave(&browser);
}

static void full_opens_nothing(void **state)
{
    (void)state;
    static struct browser browser;
    client_rig.conf->clients.max_subscriptions = 5;
    browser_come(&browser, "/u/v0?svc");
    subscribe_to(&browser, 1, 9);
    rig_turns(5);
    assert_int_equal(client_subscriptions(&browser.client), 5);
    assert_int_equal(browser_count(&browser, "\"code\":\"full\""), 4);
    assert_int_equal(client_rig.upstreams, 6);
    struct hub_counts counts;
    hub_count(client_rig.hub, &counts);
    assert_int_equal(counts.sessions, 6);
    assert_int_equal(metric_get(METRIC_SUBSCRIPTIONS), 5);
    client_rig.conf->clients.max_subscriptions = 3; /* closes nothing */
    browser_forget(&browser);
    browser_say(&browser, "{\"type\":\"UNSUBSCRIBE\",\"id\":5,\"sessions\":[\"svc:v2\"]}");
    subscribe_to(&browser, 9, 1);
    rig_turns(1);
    assert_true(browser_heard(&browser, "\"code\":\"full\""));
    assert_int_equal(client_subscriptions(&browser.client), 4);
    browser_leave(&browser);
}

static void a_token_covers_each_session_apart(void **state)
{
    (void)state;
    static struct browser browser;
    browser_come(&browser, "/u/v0?svc");
    client_rig.uncovered = "v2";
    subscribe_to(&browser, 1, 3);
    rig_turns(3);
    assert_true(browser_heard(&browser, "\"url\":\"/u/v2?svc\",\"code\":\"unauthorized\""));
    assert_int_equal(client_subscriptions(&browser.client), 2);
    client_rig.uncovered = "v3";
    browser_forget(&browser);
    browser_say(&browser, "{\"type\":\"REFRESH\",\"id\":7,\"token\":\"t\"}");
    rig_turns(1);
    assert_true(browser_heard(&browser, "\"type\":\"ACK\",\"payload\":{\"id\":7}"));
    assert_true(browser_heard(
        &browser, "\"type\":\"CLOSED\",\"payload\":{\"session\":\"svc:v3\",\"code\":4001"));
    assert_int_equal(browser_count(&browser, "CLOSED"), 1);
    assert_int_equal(client_subscriptions(&browser.client), 1);
    assert_false(browser.closed);
    browser_leave(&browser);
}

/* It never goes upstream, and is no part of a session key. */
static void a_token_in_a_url_goes_nowhere(void **state)
{
    (void)state;
    static struct browser browser;
    browser_come(&browser, "/u?subscribe");
    browser_say(&browser, "{\"type\":\"SUBSCRIBE\",\"id\":1,\"urls\":[\"/u?svc&token=secret\","
                          "\"/u?svc&token=%%zz&token=b\"]}");
    rig_turns(3);
    assert_int_equal(browser_count(&browser, "\"type\":\"WELCOME\",\"id\":1"), 1);
    assert_int_equal(browser_count(&browser, "\"code\":\"subscribed\""), 1);
    assert_true(browser_heard(&browser, "\"session\":\"svc:/u\""));
    browser_leave(&browser);
}

static void an_operator_closes_a_session_and_not_its_connection(void **state)
{
    (void)state;
    static struct browser browser, own;
    browser_come(&browser, "/u?subscribe");
    browser_come(&own, "/u/v2?svc");
    subscribe_to(&browser, 1, 3);
    rig_turns(3);
    browser_forget(&browser);
    rig_turn_begin();
    hub_close_session(client_rig.hub, "svc:v2");
    rig_turn_end();
    rig_turns(2);
    assert_true(browser_heard(
        &browser, "\"type\":\"CLOSED\",\"payload\":{\"session\":\"svc:v2\",\"code\":4006"));
    assert_false(browser.closed);
    assert_true(own.closed);
    assert_int_equal(own.code, CLOSE_BY_OPERATOR);
    browser_leave(&own);
    assert_int_equal(client_subscriptions(&browser.client), 2);
    browser_leave(&browser);
}

/* A position that no session has reached yet: a WELCOME waits a second for it. */
#define AHEAD "resume=1700009999999.1.abc"

/* Alone, before another URL of the list, after one, and between two. */
static void a_session_closed_before_its_welcome_is_answered_in_its_turn(void **state)
{
    (void)state;
    static const struct {
        unsigned first, count;
    } rows[] = {{5, 1}, {5, 2}, {4, 2}, {4, 3}};
    static const char *const options[] = {"svc&" AHEAD, "svc&replay=3"};
    for (size_t i = 0; i < LENGTH(rows) * LENGTH(options); i++) {
        unsigned first = rows[i / 2].first, count = rows[i / 2].count;
        static struct browser browser;
        char list[256], welcomes[3][64];
        const char *wanted[4];
        size_t len = 0, n = 0;
        for (unsigned k = 0; k < count; k++) {
            const char *option = first + k == 5 ? options[i % 2] : options[0];
            len += (size_t)sprintf(list + len, "%s\"/u/v%u?%s\"", k ? "," : "", first + k, option);
            sprintf(welcomes[k], "\"type\":\"WELCOME\",\"id\":1,\"url\":\"/u/v%u?", first + k);
            wanted[n++] = welcomes[k];
            if (first + k == 5)
                wanted[n++] = "\"CLOSED\",\"payload\":{\"session\":\"svc:v5\",\"code\":4006";
        }
        browser_come(&browser, "/u?subscribe");
        rig_turns(1);
        browser_forget(&browser);
        browser_say(&browser, "{\"type\":\"SUBSCRIBE\",\"id\":1,\"urls\":[%s]}", list);
        rig_turn_begin();
        hub_close_session(client_rig.hub, "svc:v5");
        rig_turn_end();
        assert_int_equal(client_subscriptions(&browser.client), count - 1);
        rig_turns(150);
        assert_in_order(&browser, wanted, n);
        assert_int_equal(browser_count(&browser, "\"WELCOME\""), count);
        assert_int_equal(browser_count(&browser, "\"CLOSED\""), 1);
        assert_false(browser.closed || browser.paused);
        browser_leave(&browser);
        rig_turns(1200); /* linger */
    }
}

/* A late CONFIRM for an earlier life of this id confirms nothing of this one. */
static void numbers_begin_above_those_of_an_earlier_life(void **state)
{
    (void)state;
    struct hub *hub = client_rig.hub;
    assert_int_equal(hub->numbers, node_first_number(hub));
    assert_int_equal(hub->sessions->commands, node_first_number(hub));
    uint64_t first = node_first_number(hub);
    hub->setup.life++;
    assert_true(node_first_number(hub) - first > 50000);
    hub->setup.life--;
}

static void a_drain_closes_connections_not_subscriptions(void **state)
{
    (void)state;
    static struct browser alone, own;
    client_rig.conf->node.drain_ms = 100;
    browser_come(&alone, "/u?subscribe");
    browser_come(&own, "/u/v9?svc");
    subscribe_to(&alone, 1, 3);
    subscribe_to(&own, 1, 3);
    rig_turns(3);
    browser_forget(&own);
    rig_turn_begin();
    hub_drain(client_rig.hub);
    rig_turn_end();
    subscribe_to(&own, 7, 1); /* the other one is closed first */
    assert_true(browser_heard(&own, "\"code\":\"full\""));
    rig_turns(30);
    assert_int_equal(alone.code, CLOSE_RESTART);
    assert_int_equal(own.code, CLOSE_RESTART);
    assert_false(browser_heard(&own, "CLOSED"));
    browser_leave(&alone);
    browser_leave(&own);
    rig_turns(700);
    assert_int_equal(hub_state(client_rig.hub), NODE_STOPPED);
}

/* A thousand at once: no turn does much of it, others go on, and all is answered. */
static void much_is_worked_off_in_portions(void **state)
{
    (void)state;
    static struct browser browser, other;
    browser_come(&other, "/u/v0?svc");
    browser_come(&browser, "/u?subscribe");
    rig_turns(3);
    browser_forget(&browser);
    browser_forget(&other);
    subscribe_to(&browser, 1, 1000);
    unsigned turns = 0;
    while (browser_count(&browser, "\"type\":\"WELCOME\"") < 1000 && turns++ < 50) {
        size_t before = client_subscriptions(&browser.client);
        rig_turns(1);
        assert_true(client_subscriptions(&browser.client) - before <= 250);
        assert_true(browser.paused || client_subscriptions(&browser.client) == 1000);
        browser_say(&other, "{\"type\":\"PING\"}");
    }
    assert_true(turns >= 2 && turns < 20);
    assert_int_equal(browser_count(&other, "PONG"), turns);
    assert_int_equal(client_rig.upstreams, 1001);
    rig_turns(2);
    browser_forget(&browser);
    rig_turn_begin();
    for (unsigned i = 1; i <= 1000; i++)
        rig_push(i, "push");
    rig_turn_end();
    assert_int_equal(browser_count(&browser, "\"type\":\"MESSAGE\""), 1000);
    assert_false(browser.paused);
    assert_true(browser.writes <= 8); /* of 64 KiB each */
    browser_leave(&browser);
    struct hub_counts counts;
    for (turns = 0; turns < 20; turns++) {
        hub_count(client_rig.hub, &counts);
        rig_turns(1);
    }
    assert_int_equal(metric_get(METRIC_SUBSCRIPTIONS), 0);
    browser_leave(&other);
}

/* urls "/u/vN?other&AAA...", each so long. The caller frees. */
static char *long_urls(unsigned count, size_t len)
{
    char *text = malloc(count * (len + 4) + 1), *at = text;
    assert_non_null(text);
    for (unsigned i = 0; i < count; i++) {
        int n = sprintf(at, "%s\"/u/v%u?none&", i ? "," : "", i);
        memset(at + n, 'A', len - (size_t)n);
        at += len;
        *at++ = '"';
    }
    *at = '\0';
    return text;
}

/* A turn that reads many bytes of them does none, and any other some 128 KiB. */
static void long_urls_are_worked_off_in_smaller_portions(void **state)
{
    (void)state;
    static struct browser browser;
    browser_come(&browser, "/u?subscribe");
    rig_turns(1);
    char *list = long_urls(200, 8000);
    browser_say(&browser, "{\"type\":\"SUBSCRIBE\",\"id\":1,\"urls\":[%s]}", list);
    free(list);
    assert_int_equal(browser_count(&browser, "unknown_service"), 0);
    size_t before = 0, answered = 0;
    for (unsigned turns = 0; answered < 200 && turns < 50; turns++, before = answered) {
        rig_turns(1);
        answered = browser_count(&browser, "unknown_service");
        assert_true(answered > before && answered - before <= 20);
    }
    assert_int_equal(answered, 200);
    browser_leave(&browser);
}

/* What is no URL for its length alone is not repeated in the answer. */
static void a_huge_url_is_refused_in_few_words(void **state)
{
    (void)state;
    static struct browser browser;
    browser_come(&browser, "/u?subscribe");
    rig_turns(1);
    browser_forget(&browser);
    char *list = long_urls(1, 1000000);
    browser_say(&browser, "{\"type\":\"SUBSCRIBE\",\"id\":6,\"urls\":[%s,\"/u/v1?svc\"]}", list);
    free(list);
    rig_turns(4);
    assert_true(browser_heard(&browser,
                              "{\"id\":6,\"code\":\"malformed_url\",\"message\":\"the URL is too"));
    assert_true(browser_heard(&browser, "\"type\":\"WELCOME\",\"id\":6,\"url\":\"/u/v1?svc\""));
    assert_true(browser.len < 2000);
    browser_leave(&browser);
}

/* Two that ask for much get it side by side. */
static void all_clients_have_their_turn(void **state)
{
    (void)state;
    static struct browser browsers[2];
    for (size_t i = 0; i < 2; i++)
        browser_come(&browsers[i], "/u?subscribe");
    subscribe_to(&browsers[0], 0, 900);
    subscribe_to(&browsers[1], 900, 900);
    rig_turns(1);
    assert_true(client_subscriptions(&browsers[1].client) >= 100);
    assert_true(client_subscriptions(&browsers[0].client) < 900);
    rig_turns(20);
    assert_int_equal(browser_count(&browsers[0], "WELCOME"), 901);
    assert_int_equal(browser_count(&browsers[1], "WELCOME"), 901);
    for (size_t i = 0; i < 2; i++)
        browser_leave(&browsers[i]);
}

/* Refusals repeat what the client sent: a client that does not read gets no more of them. */
static void answers_wait_for_a_client_that_reads(void **state)
{
    (void)state;
    static char list[600 * 1024];
    static struct browser browser;
    browser_come(&browser, "/u?subscribe");
    rig_turns(1);
    size_t len = 0;
    for (unsigned i = 0; i < 100; i++) {
        len += (size_t)sprintf(list + len, "%s\"/u/v?none&", i ? "," : "");
        memset(list + len, 'x', 5000);
        len += 5000;
        list[len++] = '"';
    }
    for (unsigned i = 0; i < 8; i++) {
        browser.busy = true;
        browser_forget(&browser);
        browser_say(&browser, "{\"type\":\"SUBSCRIBE\",\"id\":1,\"urls\":[%s]}", list);
        rig_turns(100);
        assert_true(client_queue_bytes(&browser.client) < 600 * 1024);
        assert_false(browser.closed);
        browser.busy = false;
        rig_turn_begin();
        door_writable(&browser.client);
        rig_turn_end();
        rig_turns(100);
        assert_int_equal(browser_count(&browser, "unknown_service"), 100);
        assert_false(browser.paused);
    }
    browser.busy = true;
    for (unsigned i = 0; i < 2; i++)
        browser_say(&browser, "{\"type\":\"SUBSCRIBE\",\"id\":1,\"urls\":[%s]}", list);
    rig_turns(1200);
    assert_true(browser.closed);
    assert_int_equal(browser.code, CLOSE_SLOW);
    browser_leave(&browser);
}

/* The later connection with the id comes to ?subscribe as well, or to a session that the older one
 * follows. */
static void a_client_id_holds_for_all_its_sessions(void **state)
{
    (void)state;
    static const char *const laters[] = {"/u?subscribe&resume=0.0.abc", "/u/v2?svc&resume=0.0.abc"};
    for (size_t i = 0; i < LENGTH(laters); i++) {
        struct browser older, later, third;
        browser_come(&older, "/u?subscribe&resume=0.0.abc");
        browser_come(&third, "/u/v9?svc&resume=0.0.abc");
        subscribe_to(&older, 1, 3);
        rig_turns(3);
        assert_true(browser_heard(&older, "\"client\":\"abc\""));
        browser_come(&later, laters[i]);
        rig_turns(2);
        assert_true(older.closed);
        assert_int_equal(older.code, CLOSE_TAKEN_OVER);
        assert_false(later.closed || third.closed);
        browser_leave(&older);
        /* What it follows later counts as well */
        subscribe_to(&third, 2, 1);
        rig_turns(2);
        if (!i) {
            subscribe_to(&later, 2, 1);
            rig_turns(2);
            assert_int_equal(third.code, CLOSE_TAKEN_OVER);
        } else {
            assert_int_equal(later.code, CLOSE_TAKEN_OVER);
        }
        browser_leave(&later);
        browser_leave(&third);
        rig_turns(5);
    }
}

static void a_repeat_is_known_for_each_session_apart(void **state)
{
    (void)state;
    static struct browser browser, later;
    browser_come(&browser, "/u?subscribe&resume=0.0.abc");
    subscribe_to(&browser, 1, 2);
    rig_turns(3);
    browser_say(&browser, "{\"type\":\"SEND\",\"id\":5,\"payload\":\"x\",\"session\":\"svc:v1\"}");
    browser_come(&later, "/u?subscribe&resume=0.0.abc");
    rig_turns(1);
    browser_leave(&browser);
    subscribe_to(&later, 1, 2);
    rig_turns(3);
    client_rig.sent = 0;
    browser_say(&later, "{\"type\":\"SEND\",\"id\":5,\"payload\":\"x\",\"session\":\"svc:v1\"}");
    assert_int_equal(client_rig.sent, 0);
    browser_say(&later, "{\"type\":\"SEND\",\"id\":5,\"payload\":\"x\",\"session\":\"svc:v2\"}");
    assert_int_equal(client_rig.sent, 1);
    assert_int_equal(browser_count(&later, "\"type\":\"ACK\""), 2);
    browser_leave(&later);
}

/* A connection that goes in the middle of it leaves nothing behind. */
static void a_client_may_go_at_any_time(void **state)
{
    (void)state;
    for (unsigned turns = 0; turns < 8; turns++) {
        struct browser browser;
        browser_come(&browser, turns % 2 ? "/u?subscribe" : "/u/v0?svc");
        subscribe_to(&browser, 1, 700);
        rig_turns(turns);
        browser_leave(&browser);
        rig_turns(turns);
    }
    rig_turns(700); /* linger */
    struct hub_counts counts;
    hub_count(client_rig.hub, &counts);
    assert_int_equal(counts.clients, 0);
    assert_int_equal(metric_get(METRIC_SUBSCRIPTIONS), 0);
}

static void nothing_is_left_when_the_node_stops_in_the_middle(void **state)
{
    (void)state;
    static struct browser browsers[3];
    for (size_t i = 0; i < 3; i++) {
        browser_come(&browsers[i], i ? "/u?subscribe" : "/u/v0?svc");
        subscribe_to(&browsers[i], 0, 400);
    }
    rig_turns(1);
    browser_leave(&browsers[2]);
    free(browsers[0].text);
    free(browsers[1].text);
}

/* --- replay --- */

/* Vehicle 1 pushes m1 to m5 while somebody watches. */
static void push_five(struct browser *watcher)
{
    browser_come(watcher, "/u/v1?svc");
    rig_turns(4);
    for (unsigned i = 1; i <= 5; i++) {
        char text[8];
        snprintf(text, sizeof(text), "m%u", i);
        rig_turn_begin();
        rig_push(1, text);
        rig_turn_end();
    }
}

/* The welcome's offset, then these payloads and no others. */
static void assert_replayed(const struct browser *browser, const char *payloads)
{
    const char *at = strstr(browser->text, "\"type\":\"WELCOME\"");
    char got[64] = "";
    assert_non_null(at);
    const char *offset = strstr(at, "\"offset\":");
    unsigned before = (unsigned)atoi(offset + strlen("\"offset\":"));
    while ((at = strstr(at, "\"type\":\"MESSAGE\"")) != NULL) {
        assert_int_equal(atoi(strstr(at, "\"offset\":") + strlen("\"offset\":")), ++before);
        at = strstr(at, "\"payload\":\"") + strlen("\"payload\":\"");
        snprintf(got + strlen(got), sizeof(got) - strlen(got), "%.2s ", at);
    }
    assert_string_equal(got, payloads);
    assert_false(browser_heard(browser, "\"type\":\"GAP\""));
}

static void the_last_that_are_kept_come_first(void **state)
{
    (void)state;
    static struct browser watcher, browser;
    static const struct {
        const char *url, *wanted;
    } rows[] = {
        {"/u/v1?svc&replay=2", "m4 m5 "},    {"/u/v1?svc&replay=9", "m1 m2 m3 m4 m5 "},
        {"/u/v1?svc&replay=0", ""},          {"/u/v1?svc", ""},
        {"/u/v1?svc&replay=2&resume=x", ""}, {"/u/v1?svc&replay=2&resume=0.0.abc", ""},
    };
    push_five(&watcher);
    for (size_t i = 0; i < LENGTH(rows); i++) {
        browser_come(&browser, rows[i].url);
        rig_turns(120);
        assert_replayed(&browser, rows[i].wanted);
        assert_true(browser_heard(&browser, "\"resumed\":false"));
        browser_leave(&browser);
    }
    browser_leave(&watcher);
}

static void what_is_pushed_meanwhile_follows_once(void **state)
{
    (void)state;
    static struct browser watcher, browser;
    push_five(&watcher);
    rig_turn_begin();
    browser_come(&browser, "/u/v1?svc&replay=2");
    rig_push(1, "m6");
    rig_turn_end();
    rig_turn_begin();
    rig_push(1, "m7");
    rig_turn_end();
    rig_turns(3);
    const char *first = strstr(browser.text, "\"payload\":\"m");
    assert_non_null(first);
    assert_true(browser_heard(&browser, "\"payload\":\"m7\""));
    assert_int_equal(browser_count(&browser, "\"payload\":\"m6\""), 1);
    assert_int_equal(browser_count(&browser, "\"payload\":\"m7\""), 1);
    browser_leave(&browser);
    browser_leave(&watcher);
}

/* The session was released, and its backend is away when a client comes. */
static void what_a_former_epoch_left_is_replayed_without_a_backend(void **state)
{
    (void)state;
    static struct browser watcher, browser;
    push_five(&watcher);
    browser_leave(&watcher);
    rig_turns(1200);
    struct hub_counts counts;
    hub_count(client_rig.hub, &counts);
    assert_int_equal(counts.sessions, 0);
    client_rig.backends_away = true;
    browser_come(&browser, "/u/v1?svc&replay=2");
    rig_turns(120);
    assert_replayed(&browser, "m4 m5 ");
    client_rig.backends_away = false;
    rig_turns(1200);
    rig_turn_begin();
    rig_push(1, "m6");
    rig_turn_end();
    assert_true(browser_heard(&browser, "\"offset\":1,\"encoding\":\"text\",\"payload\":\"m6\""));
    assert_false(browser_heard(&browser, "\"type\":\"GAP\""));
    browser_leave(&browser);
}

static void each_url_of_a_subscribe_has_its_own_replay(void **state)
{
    (void)state;
    static struct browser watcher, browser;
    push_five(&watcher);
    browser_come(&browser, "/u?subscribe");
    browser_say(&browser, "{\"type\":\"SUBSCRIBE\",\"id\":1,\"urls\":[\"/u/v7?svc&replay=1\","
                          "\"/u/v1?svc&replay=2\",\"/u/v8?svc\",\"/u/v9?other&replay=3\"]}");
    rig_turns(120);
    assert_int_equal(browser_count(&browser, "\"type\":\"WELCOME\",\"id\":1"), 4);
    const char *seven = strstr(browser.text, "\"url\":\"/u/v7?svc&replay=1\""),
               *one = strstr(browser.text, "\"url\":\"/u/v1?svc&replay=2\""),
               *four = strstr(browser.text, "\"payload\":\"m4\""),
               *eight = strstr(browser.text, "\"url\":\"/u/v8?svc\"");
    assert_true(seven && one && four && eight && seven < one && one < four && one < eight);
    assert_int_equal(browser_count(&browser, "\"type\":\"MESSAGE\",\"session\":\"svc:v1\""), 2);
    browser_leave(&browser);
    browser_leave(&watcher);
}

/* --- replay over epochs whose owner died before it wrote everything --- */

#define EPOCH(n) (1700000000000u + (n)) /* lower than the node's own epochs */

static uint64_t asked_tag; /* of the last history call; 0: none */
static struct position asked_after;

static void history_asked(struct bus *bus, const char *session, uint64_t tag, struct position after,
                          size_t limit)
{
    (void)bus, (void)session, (void)limit;
    asked_tag = tag;
    asked_after = after;
}

/* Epoch 1: a note of a lost end. Epoch 2: a1, a2, a note. Epoch 3: b1, a note. */
static size_t torn_history(struct publication **kept)
{
    static const struct {
        unsigned epoch, offset;
        const char *payload; /* NULL: a note */
    } rows[] = {{1, 0, NULL}, {2, 1, "a1"}, {2, 2, "a2"}, {2, 0, NULL}, {3, 1, "b1"}, {3, 0, NULL}};
    for (size_t i = 0; i < LENGTH(rows); i++) {
        kept[i] = rows[i].payload ? publication_copy(OPCODE_TEXT, rows[i].payload, 2)
                                  : publication_lost_end(EPOCH(rows[i].epoch));
        assert_non_null(kept[i]);
        if (rows[i].payload)
            kept[i]->at = (struct position){EPOCH(rows[i].epoch), rows[i].offset};
    }
    return LENGTH(rows);
}

/* Answers the history calls, at_once publications at a time. */
static void answer_history(size_t at_once)
{
    struct publication *kept[8];
    size_t len = torn_history(kept), first = 0;
    uint64_t tag = asked_tag;
    asked_tag = 0;
    while (first < len && position_compare(kept[first]->at, asked_after) <= 0)
        first++;
    size_t n = len - first < at_once ? len - first : at_once;
    rig_turn_begin();
    client_rig.bus->events->on_history(client_rig.bus->events_ctx, "svc:v1", tag, STATUS_OK,
                                       kept[0]->at, kept + first, n, first + n < len);
    rig_turn_end();
    for (size_t i = 0; i < len; i++)
        publication_unref(kept[i]);
}

/* The WELCOME's position, then the messages after it: "2.0: a1 a2 gap 2.3-0 ". */
static void summarize(const struct browser *browser, char *got, size_t size)
{
    uint64_t epoch, offset, to;
    size_t len = 0;
    char payload[3];
    got[0] = '\0';
    for (const char *at = strstr(browser->text, "\"type\":"); at;
         at = strstr(at + 1, "\"type\":")) {
        const char *place = strstr(at, "\"epoch\":"), *text = strstr(at, "\"payload\":\"");
        if (!strncmp(at, "\"type\":\"WELCOME\"", 16) && place &&
            sscanf(place, "\"epoch\":%" SCNu64 ",\"offset\":%" SCNu64, &epoch, &offset) == 2)
            len += (size_t)snprintf(got + len, size - len, "%u.%u: ", (unsigned)(epoch - EPOCH(0)),
                                    (unsigned)offset);
        else if (!strncmp(at, "\"type\":\"MESSAGE\"", 16) && text &&
                 sscanf(text, "\"payload\":\"%2s", payload) == 1)
            len += (size_t)snprintf(got + len, size - len, "%s ", payload);
        else if (!strncmp(at, "\"type\":\"GAP\"", 12) && place &&
                 sscanf(place, "\"epoch\":%" SCNu64 ",\"from\":%" SCNu64 ",\"to\":%" SCNu64, &epoch,
                        &offset, &to) == 3)
            len += (size_t)snprintf(got + len, size - len, "gap %u.%u-%u ",
                                    (unsigned)(epoch - EPOCH(0)), (unsigned)offset, (unsigned)to);
    }
}

/* As in a resume from there; notes do not count among the N, and none comes first. */
static void a_loss_within_what_is_replayed_is_a_gap(void **state)
{
    (void)state;
    static const struct {
        const char *url, *wanted;
    } rows[] = {
        {"/u/v1?svc&resume=1700000000002.0.abc", "2.0: a1 a2 gap 2.3-0 b1 gap 3.2-0 "},
        {"/u/v1?svc&replay=9", "2.0: a1 a2 gap 2.3-0 b1 gap 3.2-0 "},
        {"/u/v1?svc&replay=3", "2.0: a1 a2 gap 2.3-0 b1 gap 3.2-0 "},
        {"/u/v1?svc&replay=2", "2.1: a2 gap 2.3-0 b1 gap 3.2-0 "},
        {"/u/v1?svc&replay=1", "3.0: b1 gap 3.2-0 "},
    };
    static struct browser watcher, browser;
    struct bus_ops ops = *client_rig.bus->ops;
    const struct bus_ops *own = client_rig.bus->ops;
    browser_come(&watcher, "/u/v1?svc");
    rig_turns(4);
    ops.history = history_asked;
    client_rig.bus->ops = &ops;
    for (size_t i = 0; i < LENGTH(rows) * 8; i++) {
        char got[128];
        asked_tag = 0;
        browser_come(&browser, rows[i / 8].url);
        rig_turns(2);
        assert_true(asked_tag);
        while (asked_tag)
            answer_history(i % 8 + 1);
        rig_turns(2);
        summarize(&browser, got, sizeof(got));
        assert_string_equal(got, rows[i / 8].wanted);
        browser_leave(&browser);
    }
    client_rig.bus->ops = own;
    browser_leave(&watcher);
}

/* While the history is read, and while the replay waits for the URL before it. */
static void a_client_may_go_before_its_replay_begins(void **state)
{
    (void)state;
    static const char *const lists[] = {
        "\"/u/v1?svc&replay=5\"", "\"/u/v1?svc&replay=2\"", "\"/u/v1?svc&replay=9\"",
        "\"/u/v2?svc&" AHEAD "\",\"/u/v1?svc&replay=2\"",
        "\"/u/v2?svc&" AHEAD "\",\"/u/v1?svc&replay=9\",\"/u/v3?svc&replay=1\""};
    static struct browser watcher, browser;
    push_five(&watcher);
    for (size_t i = 0; i < LENGTH(lists) * 4; i++) {
        browser_come(&browser, "/u?subscribe");
        browser_say(&browser, "{\"type\":\"SUBSCRIBE\",\"id\":1,\"urls\":[%s]}", lists[i / 4]);
        rig_turns(i % 4);
        browser_leave(&browser);
        rig_turns(5);
    }
    struct hub_counts counts;
    hub_count(client_rig.hub, &counts);
    assert_int_equal(counts.clients, 1);
    assert_int_equal(metric_get(METRIC_SUBSCRIPTIONS), 0);
    browser_leave(&watcher);
}

/* --- ttl --- */

static void a_send_that_is_too_late_is_answered_as_expired(void **state)
{
    (void)state;
    static struct browser browser, later;
    client_rig.backends_away = true;
    browser_come(&browser, "/u?subscribe&resume=0.0.abc");
    subscribe_to(&browser, 1, 2);
    rig_turns(3);
    browser_say(&browser, "{\"type\":\"SEND\",\"id\":4,\"payload\":\"late\",\"session\":\"svc:v1\","
                          "\"ttl\":200}");
    browser_say(&browser, "{\"type\":\"SEND\",\"id\":5,\"payload\":\"in time\","
                          "\"session\":\"svc:v1\",\"ttl\":20000}");
    rig_turns(15);
    assert_false(browser_heard(&browser, "expired"));
    rig_turns(10);
    assert_true(browser_heard(&browser, "\"payload\":{\"id\":4,\"code\":\"expired\""));
    client_rig.backends_away = false;
    rig_turns(1200);
    assert_int_equal(client_rig.sent, 1);
    assert_string_equal(client_rig.last_sent, "in time");
    browser_leave(&browser);
    browser_come(&later, "/u?subscribe&resume=0.0.abc");
    subscribe_to(&later, 1, 2);
    rig_turns(3);
    browser_say(&later, "{\"type\":\"SEND\",\"id\":4,\"payload\":\"late\",\"session\":\"svc:v1\","
                        "\"ttl\":200}");
    assert_true(browser_heard(&later, "\"payload\":{\"id\":4,\"code\":\"expired\""));
    browser_say(&later, "{\"type\":\"SEND\",\"id\":5,\"payload\":\"x\",\"session\":\"svc:v1\"}");
    assert_true(browser_heard(&later, "\"type\":\"ACK\",\"payload\":{\"id\":5}"));
    assert_int_equal(client_rig.sent, 1);
    browser_leave(&later);
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, client_rig_start, client_rig_stop)
    const struct CMUnitTest tests[] = {
        CASE(a_connection_may_have_no_session_of_its_own),
        CASE(each_url_is_answered_in_its_order),
        CASE(a_send_names_its_session),
        CASE(what_is_unsubscribed_is_closed_and_no_more),
        CASE(a_session_may_be_left_right_after_it_was_asked_for),
        CASE(full_opens_nothing),
        CASE(a_token_covers_each_session_apart),
        CASE(a_token_in_a_url_goes_nowhere),
        CASE(an_operator_closes_a_session_and_not_its_connection),
        CASE(a_session_closed_before_its_welcome_is_answered_in_its_turn),
        CASE(numbers_begin_above_those_of_an_earlier_life),
        CASE(a_drain_closes_connections_not_subscriptions),
        CASE(much_is_worked_off_in_portions),
        CASE(long_urls_are_worked_off_in_smaller_portions),
        CASE(a_huge_url_is_refused_in_few_words),
        CASE(all_clients_have_their_turn),
        CASE(answers_wait_for_a_client_that_reads),
        CASE(a_client_id_holds_for_all_its_sessions),
        CASE(a_repeat_is_known_for_each_session_apart),
        CASE(a_client_may_go_at_any_time),
        CASE(nothing_is_left_when_the_node_stops_in_the_middle),
        CASE(the_last_that_are_kept_come_first),
        CASE(what_is_pushed_meanwhile_follows_once),
        CASE(what_a_former_epoch_left_is_replayed_without_a_backend),
        CASE(each_url_of_a_subscribe_has_its_own_replay),
        CASE(a_loss_within_what_is_replayed_is_a_gap),
        CASE(a_client_may_go_before_its_replay_begins),
        CASE(a_send_that_is_too_late_is_answered_as_expired),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
