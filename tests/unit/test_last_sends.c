/* The owner's memory of SENDs: how long it lasts, and that only its own clock counts. */
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

static void expire(uint64_t id, bool reported)
{
    last_sends_expire(&sends, now_ms, "one", (struct expired_row){id, id, reported});
}

static void an_id_that_went_upstream_covers_those_before_it(void **state)
{
    (void)state;
    last_sends_note(&sends, now_ms, "one", 5);
    assert_true(last_sends_covers(&sends, "one", 4));
    assert_true(last_sends_covers(&sends, "one", 5));
    assert_false(last_sends_covers(&sends, "one", 6));
    assert_false(last_sends_covers(&sends, "two", 1));
    last_sends_note(&sends, now_ms, "one", 3); /* a late report of the former owner */
    assert_true(last_sends_covers(&sends, "one", 5));
}

static void what_went_of_a_connection_begins_with_its_first(void **state)
{
    (void)state;
    last_sends_begin_here(&sends, "one", 4);
    assert_false(last_sends_went_from_here(&sends, "one", 4)); /* nothing of it went */
    last_sends_note(&sends, now_ms, "one", 6);
    assert_false(last_sends_went_from_here(&sends, "one", 6)); /* another node said so */
    last_sends_begin_here(&sends, "one", 6);
    last_sends_begin_here(&sends, "one", 4);
    last_sends_note(&sends, now_ms, "one", 8);
    assert_true(last_sends_went_from_here(&sends, "one", 6));
    assert_true(last_sends_went_from_here(&sends, "one", 7));
    assert_false(last_sends_went_from_here(&sends, "one", 5));
    assert_false(last_sends_went_from_here(&sends, "one", 9));
    last_sends_begin_here(&sends, "one", 0);
    assert_false(last_sends_went_from_here(&sends, "one", 8));
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

static void ids_one_after_the_other_are_one_row(void **state)
{
    (void)state;
    for (uint64_t id = 1; id <= 1000; id++)
        expire(id % 2 ? 501 - (id + 1) / 2 : 500 + id / 2, id > 990);
    assert_int_equal(sends.expired, 1);
    assert_int_equal(sends.unreported, 1); /* a row is reported whole, or once more */
    for (uint64_t id = 1; id <= 1000; id++)
        assert_true(last_sends_expired(&sends, "one", id));
    assert_false(last_sends_may_have_expired(&sends, "one", 1001));
    expire(1003, true);
    assert_int_equal(sends.expired, 2);
    last_sends_expire(&sends, now_ms, "one", (struct expired_row){900, 1002, true});
    assert_int_equal(sends.expired, 1);
    last_sends_note(&sends, now_ms, "one", 2000);
    assert_true(last_sends_expired(&sends, "one", 1002));
    assert_false(last_sends_may_have_expired(&sends, "one", 1004));
}

static void a_row_takes_in_what_it_overlaps_and_touches(void **state)
{
    (void)state;
    for (uint64_t id = 10; id <= 50; id += 10)
        expire(id, true);
    assert_int_equal(sends.expired, 5);
    last_sends_expire(&sends, now_ms, "one", (struct expired_row){21, 39, true});
    assert_int_equal(sends.expired, 3); /* 10, 20 to 40, 50 */
    for (uint64_t id = 1; id <= 60; id++)
        assert_int_equal(last_sends_expired(&sends, "one", id),
                         id == 10 || (id >= 20 && id <= 40) || id == 50);
    expire(1, true);
    last_sends_expire(&sends, now_ms, "one", (struct expired_row){1, UINT64_MAX, true});
    assert_int_equal(sends.expired, 1);
    assert_true(last_sends_expired(&sends, "one", UINT64_MAX));
}

/* Every other id expires, so that no two are adjacent. */
static void many_rows_are_bounded_and_none_is_acknowledged(void **state)
{
    (void)state;
    for (uint64_t id = 2; id <= 6 * EXPIRED_MAX; id += 2)
        expire(id, id % 4);
    assert_int_equal(sends.expired, EXPIRED_MAX + 1); /* and the ids that are no longer listed */
    assert_int_equal(sends.unreported, EXPIRED_MAX / 2 + 1);
    for (uint64_t id = 2; id <= 6 * EXPIRED_MAX; id += 2)
        assert_true(last_sends_may_have_expired(&sends, "one", id));
    assert_false(last_sends_may_have_expired(&sends, "one", 1));
    assert_false(last_sends_may_have_expired(&sends, "one", 6 * EXPIRED_MAX + 2));
    assert_false(last_sends_may_have_expired(&sends, "two", 2));
    assert_false(last_sends_expired(&sends, "one", 2));
    assert_true(last_sends_expired(&sends, "one", 6 * EXPIRED_MAX));
    last_sends_report_again(&sends);
    assert_int_equal(sends.unreported, EXPIRED_MAX + 1);
    assert_int_equal(last_sends_len(&sends), EXPIRED_MAX + 2);
    now_ms += SEND_MEMORY_MS;
    last_sends_note(&sends, now_ms, "two", 1);
    assert_false(last_sends_may_have_expired(&sends, "one", 2));
    assert_int_equal(sends.expired, 0);
    assert_int_equal(sends.unreported, 0);
}

static void one_below_the_unlisted_that_expires_later_is_listed(void **state)
{
    (void)state;
    for (uint64_t n = 0; n < EXPIRED_MAX + 2; n++) /* 20 and 22 are no longer listed */
        expire(20 + 2 * n, true);
    assert_false(last_sends_expired(&sends, "one", 22));
    assert_true(last_sends_expired(&sends, "one", 24));
    expire(10, true); /* takes the place of 24 */
    assert_true(last_sends_expired(&sends, "one", 10));
    expire(5000, true); /* takes that of 10 */
    for (uint64_t id = 10; id <= 24; id += 2) {
        assert_false(last_sends_expired(&sends, "one", id));
        assert_true(last_sends_may_have_expired(&sends, "one", id));
    }
    assert_false(last_sends_may_have_expired(&sends, "one", 9));
    assert_false(last_sends_may_have_expired(&sends, "one", 25));
    assert_int_equal(sends.expired, EXPIRED_MAX + 1);
}

/* Another node reports ids that it no longer lists one by one. */
static void some_of_a_row_may_have_expired(void **state)
{
    (void)state;
    last_sends_note(&sends, now_ms, "one", 100);
    last_sends_doubt(&sends, now_ms, "one", (struct expired_row){5, 9, true});
    last_sends_doubt(&sends, now_ms, "one", (struct expired_row){20, 30, false});
    assert_int_equal(sends.expired, 1);
    assert_int_equal(sends.unreported, 1);
    for (uint64_t id = 1; id <= 40; id++) {
        assert_false(last_sends_expired(&sends, "one", id));
        assert_int_equal(last_sends_may_have_expired(&sends, "one", id), id >= 5 && id <= 30);
    }
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        CASE(an_id_that_went_upstream_covers_those_before_it),
        CASE(ids_one_after_the_other_are_one_row),
        CASE(a_row_takes_in_what_it_overlaps_and_touches),
        CASE(many_rows_are_bounded_and_none_is_acknowledged),
        CASE(some_of_a_row_may_have_expired),
        CASE(one_below_the_unlisted_that_expires_later_is_listed),
        CASE(what_went_of_a_connection_begins_with_its_first),
        CASE(an_id_is_remembered_for_five_minutes),
        CASE(of_too_many_clients_the_longest_silent_are_forgotten),
    };
    return cmocka_run_group_tests_name("last_sends", tests, NULL, NULL);
}
