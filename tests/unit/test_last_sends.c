/* The owner's memory of SENDs: how long it lasts, and that nobody else's clock counts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>

#include "core/last_sends.h"

#define SENDS 10000 /* more clients of a session are not remembered */

static struct hub hub;
static struct session session;

static int set_up(void **state)
{
    (void)state;
    hub.now_ms = 1000;
    session = (struct session){.hub = &hub};
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    last_sends_free(&session);
    return 0;
}

static void an_id_that_went_upstream_covers_those_before_it(void **state)
{
    (void)state;
    last_sends_note(&session, "one", 5);
    assert_true(last_sends_covers(&session, "one", 4));
    assert_true(last_sends_covers(&session, "one", 5));
    assert_false(last_sends_covers(&session, "one", 6));
    assert_false(last_sends_covers(&session, "two", 1));
    last_sends_note(&session, "one", 3); /* what an owner before says, late */
    assert_true(last_sends_covers(&session, "one", 5));
}

static void an_id_is_remembered_for_five_minutes(void **state)
{
    (void)state;
    last_sends_note(&session, "one", 1);
    hub.now_ms += SEND_MEMORY_MS - 1;
    last_sends_note(&session, "two", 1);
    assert_true(last_sends_covers(&session, "one", 1));
    hub.now_ms++;
    last_sends_note(&session, "three", 1);
    assert_false(last_sends_covers(&session, "one", 1));
    assert_true(last_sends_covers(&session, "two", 1));
}

static void of_too_many_clients_the_longest_silent_are_forgotten(void **state)
{
    (void)state;
    char client[33];
    for (unsigned i = 0; i < SENDS + 10; i++) {
        snprintf(client, sizeof client, "%u", i);
        last_sends_note(&session, client, 1);
        last_sends_note(&session, "0", i + 1);
    }
    assert_true(last_sends_covers(&session, "0", SENDS + 10));
    assert_false(last_sends_covers(&session, "1", 1));
    assert_true(last_sends_covers(&session, client, 1));
    assert_in_range(HASH_COUNT(session.last_sends), SENDS, SENDS + 2);
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        CASE(an_id_that_went_upstream_covers_those_before_it),
        CASE(an_id_is_remembered_for_five_minutes),
        CASE(of_too_many_clients_the_longest_silent_are_forgotten),
    };
    return cmocka_run_group_tests_name("last_sends", tests, NULL, NULL);
}
