/* A step through publications by their positions, and publications held while others are missing.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/session/stream_held.h"
#include "core/session/stream_step.h"
#include "core_rig.h"

#define MIB (1024u * 1024)

static size_t taken, gaps;
static uint64_t gap_epoch, gap_from, gap_to;

static void on_publication(void *ctx, struct publication *publication)
{
    (void)ctx, (void)publication;
    taken++;
}

static void on_gap(void *ctx, uint64_t epoch, uint64_t from, uint64_t to)
{
    (void)ctx;
    gaps++;
    gap_epoch = epoch;
    gap_from = from;
    gap_to = to;
}

static const struct stream_sink sink = {on_publication, on_gap, NULL};

static int set_up(void **state)
{
    (void)state;
    taken = gaps = 0;
    return 0;
}

static void step(struct position *at, struct position oldest, struct position to)
{
    struct publication *publication = rig_publication(1);
    publication->at = to;
    stream_step(at, oldest, publication, &sink);
    publication_unref(publication);
}

static void the_next_one_is_taken_and_a_double_is_not(void **state)
{
    (void)state;
    struct position at = {7, 1}, none = {0, 0};
    step(&at, none, (struct position){7, 2});
    step(&at, none, (struct position){7, 2});
    step(&at, none, (struct position){6, 9});
    assert_int_equal(taken, 1);
    assert_int_equal(gaps, 0);
    assert_int_equal(at.offset, 2);
}

static void what_is_missing_before_it_is_a_gap(void **state)
{
    (void)state;
    struct position at = {7, 1};
    step(&at, (struct position){7, 5}, (struct position){7, 5});
    assert_int_equal(taken, 1);
    assert_int_equal(gaps, 1);
    assert_int_equal(gap_from, 2);
    assert_int_equal(gap_to, 4);
}

static void into_the_next_epoch_without_a_gap_only_where_the_history_keeps_the_end(void **state)
{
    (void)state;
    struct position at = {7, 3};
    step(&at, (struct position){7, 2}, (struct position){8, 1});
    assert_int_equal(gaps, 0);
    at = (struct position){7, 3};
    step(&at, (struct position){8, 1}, (struct position){8, 1});
    assert_int_equal(gaps, 1);
    assert_int_equal(gap_epoch, 7);
    assert_int_equal(gap_from, 4);
    assert_int_equal(gap_to, 0); /* the end is not known */
    assert_int_equal(taken, 2);
}

static void closing_reports_the_rest_once(void **state)
{
    (void)state;
    struct position at = {7, 3};
    stream_close(&at, (struct position){7, 1}, (struct position){7, 6}, &sink);
    stream_close(&at, (struct position){7, 1}, (struct position){7, 6}, &sink);
    assert_int_equal(gaps, 1);
    assert_int_equal(gap_from, 4);
    assert_int_equal(gap_to, 6);
}

static void what_is_held_has_a_bound_of_which_the_oldest_fall_out(void **state)
{
    (void)state;
    struct stream_held held = {0};
    for (uint64_t offset = 1; offset <= 6; offset++) {
        struct publication *publication = rig_publication(MIB);
        publication->at = (struct position){7, offset};
        stream_held_add(&held, publication);
        publication_unref(publication);
        stream_held_check(&held);
    }
    assert_int_equal(held.pubs.len, 3);
    struct pubs pubs = stream_held_take(&held);
    assert_int_equal(pubs.items[0]->at.offset, 4);
    stream_held_check(&held);
    pubs_fini(&pubs);
    pubs_fini(&held.pubs);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(the_next_one_is_taken_and_a_double_is_not, set_up),
        cmocka_unit_test_setup(what_is_missing_before_it_is_a_gap, set_up),
        cmocka_unit_test_setup(
            into_the_next_epoch_without_a_gap_only_where_the_history_keeps_the_end, set_up),
        cmocka_unit_test_setup(closing_reports_the_rest_once, set_up),
        cmocka_unit_test_setup(what_is_held_has_a_bound_of_which_the_oldest_fall_out, set_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
