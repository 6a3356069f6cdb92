/* The owner's memory of SENDs: how long it lasts, and that nobody else's clock counts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>

#include "core/session/last_sends.h"

#define SENDS 10000 /* more clients of a session are not remembered */

static struct last_sends sends;
static uint64_t now_ms;

static int set_up(void **state)
{
    (void)state;
    now_ms = 1000;
    sends = (struct last_sends){0};
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    last_sends_fini(&sends);
    return 0;
}

static void an_id_that_went_upstream_covers_those_before_it(void **state)
{
    (void)state;
    last_sends_note(&sends, now_ms, "one", 5);
    assert_true(last_sends_covers(&sends, "one", 4));
    assert_true(last_sends_covers(&sends, "one", 5));
    assert_false(last_sends_covers(&sends, "one", 6));
    assert_false(last_sends_covers(&sends, "two", 1));
    last_sends_note(&sends, now_ms, "one", 3); /* what an owner before says, late */
    assert_true(last_sends_covers(&sends, "one", 5));
}

static void an_id_is_remembered_for_five_minutes(void **state)
{
    (void)state;
    last_sends_note(&sends, now_ms, "one", 1);
    now_ms += SEND_MEMORY_MS - 1;
    last_sends_note(&sends, now_ms, "two", 1);
    assert_true(last_sends_covers(&sends, "one", 1));
    now_ms++;
    last_sends_note(&sends, now_ms, "three", 1);
    assert_false(last_sends_covers(&sends, "one", 1));
    assert_true(last_sends_covers(&sends, "two", 1));
}

static void of_too_many_clients_the_longest_silent_are_forgotten(void **state)
{
    (void)state;
    char client[33];
    for (unsigned i = 0; i < SENDS + 10; i++) {
        snprintf(client, sizeof(client), "%u", i);
        last_sends_note(&sends, now_ms, client, 1);
        last_sends_note(&sends, now_ms, "0", i + 1);
    }
    assert_true(last_sends_covers(&sends, "0", SENDS + 10));
    assert_false(last_sends_covers(&sends, "1", 1));
    assert_true(last_sends_covers(&sends, client, 1));
    assert_in_range(last_sends_len(&sends), SENDS, SENDS + 2);
}

static void many_that_expired_are_bounded_and_none_is_acknowledged(void **state)
{
    (void)state;
    for (uint64_t id = 1; id <= 3 * EXPIRED_MAX; id++)
        last_sends_expire(&sends, now_ms, "one", id, id % 2);
    assert_int_equal(sends.expired, EXPIRED_MAX);
    assert_int_equal(sends.unreported, EXPIRED_MAX / 2);
    for (uint64_t id = 1; id <= 3 * EXPIRED_MAX; id++)
        assert_true(last_sends_may_have_expired(&sends, "one", id));
    assert_false(last_sends_may_have_expired(&sends, "one", 3 * EXPIRED_MAX + 1));
    assert_false(last_sends_may_have_expired(&sends, "two", 1));
    last_sends_report_again(&sends);
    assert_int_equal(sends.unreported, EXPIRED_MAX);
    now_ms += SEND_MEMORY_MS;
    last_sends_note(&sends, now_ms, "two", 1);
    assert_false(last_sends_may_have_expired(&sends, "one", 1));
    assert_int_equal(sends.expired, 0);
    assert_int_equal(sends.unreported, 0);
}

static void ids_below_those_that_expired_have_not(void **state)
{
    (void)state;
    last_sends_note(&sends, now_ms, "one", 9);
    for (uint64_t id = 11; id < 11 + EXPIRED_MAX + 2; id++) /* 11 and 12 are not listed any more */
        last_sends_expire(&sends, now_ms, "one", id, true);
    for (uint64_t id = 0; id <= 10; id++)
        assert_false(last_sends_may_have_expired(&sends, "one", id));
    assert_false(last_sends_expired(&sends, "one", 11));
    assert_true(last_sends_may_have_expired(&sends, "one", 11));
    assert_true(last_sends_may_have_expired(&sends, "one", 12));
    assert_true(last_sends_expired(&sends, "one", 13));
    last_sends_note(&sends, now_ms, "one", 500);
    assert_true(last_sends_expired(&sends, "one", 13));
}

static void one_below_the_unlisted_that_expires_later_is_listed(void **state)
{
    (void)state;
    for (uint64_t id = 11; id < 11 + EXPIRED_MAX + 2; id++)
        last_sends_expire(&sends, now_ms, "one", id, true);
    last_sends_expire(&sends, now_ms, "one", 10, true); /* takes the place of 13 */
    assert_true(last_sends_expired(&sends, "one", 10));
    last_sends_expire(&sends, now_ms, "one", 500, true); /* takes that of 10 */
    for (uint64_t id = 10; id <= 13; id++) {
        assert_false(last_sends_expired(&sends, "one", id));
        assert_true(last_sends_may_have_expired(&sends, "one", id));
    }
    assert_false(last_sends_may_have_expired(&sends, "one", 9));
    assert_int_equal(sends.expired, EXPIRED_MAX);
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        CASE(an_id_that_went_upstream_covers_those_before_it),
        CASE(many_that_expired_are_bounded_and_none_is_acknowledged),
        CASE(ids_below_those_that_expired_have_not),
        CASE(one_below_the_unlisted_that_expires_later_is_listed),
        CASE(an_id_is_remembered_for_five_minutes),
        CASE(of_too_many_clients_the_longest_silent_are_forgotten),
    };
    return cmocka_run_group_tests_name("last_sends", tests, NULL, NULL);
}
