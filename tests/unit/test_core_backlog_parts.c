/* The parts of the backlog, each alone: the last publications, what the store has not confirmed,
 * which session sends next, and the calls of the store. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/session/backlog_end.h"
#include "core/session/backlog_items.h"
#include "core/session/backlog_publish.h"
#include "core/session/backlog_ring.h"
#include "core/session/backlog_row.h"
#include "core_rig.h"

#define MIB (1024u * 1024)

static struct core_rig rig;
static struct session *session;
static struct backlog_store store;
static struct backlog_publish calls;
static size_t in_flight;

static int set_up(void **state)
{
    (void)state;
    rig_init(&rig, SESSION_OWNER);
    session = &rig.session;
    in_flight = 0;
    backlog_store_init(&store, &rig.hub);
    backlog_publish_init(&calls, session);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    backlog_store_fini(&store);
    assert_int_equal(in_flight, 0);
    rig_fini(&rig);
    return 0;
}

static struct publication *placed(uint64_t offset, size_t len)
{
    struct publication *publication = rig_publication(len);
    publication->at = (struct position){session->epoch, offset};
    return publication;
}

static void add_to_ring(struct backlog_ring *ring, uint64_t offset, size_t len)
{
    struct publication *publication = placed(offset, len);
    backlog_ring_add(ring, publication, 10, rig.hub.now_ms);
    publication_unref(publication);
    backlog_ring_check(ring);
}

static void the_ring_keeps_the_last_ones_within_a_megabyte(void **state)
{
    (void)state;
    struct backlog_ring ring = {.credit = {.in_flight = &in_flight}};
    for (uint64_t offset = 1; offset <= 25; offset++)
        add_to_ring(&ring, offset, 20);
    assert_int_equal(ring.len, 10);
    assert_int_equal(backlog_ring_item_at(&ring, 0)->publication->at.offset, 16);
    add_to_ring(&ring, 26, MIB / 2);
    add_to_ring(&ring, 27, MIB / 2);
    assert_int_equal(ring.len, 1);
    add_to_ring(&ring, 28, 2 * MIB);
    assert_int_equal(ring.len, 1);
    backlog_ring_clear(&ring);
    assert_int_equal(ring.bytes, 0);
}

static void what_the_store_may_have_lost_is_taken_once_and_not_what_it_never_had(void **state)
{
    (void)state;
    struct backlog_ring ring = {.credit = {.in_flight = &in_flight}};
    struct pubs pubs = {0};
    add_to_ring(&ring, 1, 20);
    rig.hub.now_ms += 5000;
    add_to_ring(&ring, 2, 20);
    add_to_ring(&ring, 3, 20);
    backlog_ring_append(&ring, 1000);
    backlog_ring_append(&ring, 500); /* the longer of both counts */
    rig.hub.now_ms += 1000;
    struct publication *third = backlog_ring_item_at(&ring, 2)->publication;
    size_t bytes = backlog_ring_take(&ring, rig.hub.now_ms, third, &pubs);
    assert_int_equal(pubs.len, 1);
    assert_int_equal(pubs.items[0]->at.offset, 2);
    assert_int_equal(in_flight, bytes);
    assert_int_equal(backlog_ring_take(&ring, rig.hub.now_ms, NULL, &pubs), 0);
    backlog_credit_return_all(&ring.credit);
    pubs_fini(&pubs);
    backlog_ring_clear(&ring);
}

static void add_item(struct backlog_items *items, uint64_t offset, size_t len)
{
    struct publication *publication = placed(offset, len);
    backlog_items_add(items, publication);
    publication_unref(publication);
}

static void the_cursor_moves_on_and_credit_comes_back_with_what_is_confirmed(void **state)
{
    (void)state;
    struct backlog_items items;
    struct publication *out[4];
    size_t bytes;
    backlog_items_init(&items, &store, &in_flight);
    for (uint64_t offset = 1; offset <= 3; offset++)
        add_item(&items, offset, 100);
    items.cursor = items.first;
    assert_int_equal(backlog_items_take(&items, out, 2, MIB, &bytes), 2);
    assert_int_equal(in_flight, bytes);
    assert_int_equal(items.cursor->publication->at.offset, 3);
    backlog_items_drop_first(&items);
    assert_int_equal(in_flight, bytes / 2);
    backlog_items_drop_first(&items);
    assert_int_equal(in_flight, 0);
    backlog_items_drop_first(&items); /* it was not sent: the cursor moves on */
    assert_null(items.cursor);
    backlog_items_check(&items);
    backlog_items_fini(&items);
}

static void a_portion_has_a_bound_of_bytes_but_for_one_larger(void **state)
{
    (void)state;
    struct backlog_items items;
    struct publication *out[4];
    size_t bytes;
    backlog_items_init(&items, &store, &in_flight);
    add_item(&items, 1, 2 * MIB);
    add_item(&items, 2, MIB);
    add_item(&items, 3, MIB);
    items.cursor = items.first;
    assert_int_equal(backlog_items_take(&items, out, 4, MIB, &bytes), 1);
    assert_int_equal(backlog_items_take(&items, out, 4, MIB, &bytes), 1);
    assert_int_equal(backlog_items_take(&items, out, 4, MIB, &bytes), 1);
    assert_int_equal(backlog_items_take(&items, out, 4, MIB, &bytes), 0);
    backlog_items_fini(&items);
}

static void beyond_the_bound_of_the_node_the_oldest_is_dropped_whosever_it_is(void **state)
{
    (void)state;
    struct backlog_items one, other;
    backlog_items_init(&one, &store, &in_flight);
    backlog_items_init(&other, &store, &in_flight);
    add_item(&one, 1, 30 * MIB);
    add_item(&other, 1, 30 * MIB);
    add_item(&one, 2, 30 * MIB);
    backlog_store_bound(&store);
    assert_int_equal(one.len, 1);
    assert_int_equal(one.first->publication->at.offset, 2);
    assert_int_equal(other.len, 1);
    assert_int_equal(backlog_items_discard(&one), 1);
    assert_true(store.bytes < 31 * MIB);
    backlog_items_check(&one);
    rig_pass(&rig, 0); /* the row is freed */
    assert_null(store.discarded);
    backlog_items_fini(&one);
    backlog_items_fini(&other);
}

static struct backlog_place places[3];
static size_t left[3], portion, order[16], written;
static struct backlog_row row;

static enum backlog_written on_write(struct backlog_place *place, size_t *bytes)
{
    size_t i = (size_t)(place - places);
    if (!left[i]) {
        backlog_row_remove(&row, place);
        return BACKLOG_DONE;
    }
    left[i]--;
    order[written++ % 16] = i;
    *bytes = portion;
    row.in_flight += portion;
    return BACKLOG_WROTE;
}

static void sessions_write_one_after_the_other_under_a_credit_and_a_budget(void **state)
{
    (void)state;
    backlog_row_init(&row, &rig.hub, on_write);
    portion = MIB;
    written = 0;
    for (size_t i = 0; i < 3; i++) {
        left[i] = 2;
        backlog_row_add(&row, &places[i]);
    }
    backlog_row_run(&row);
    assert_int_equal(written, 2); /* the budget of a turn */
    backlog_row_check(&row);
    rig_pass(&rig, 0);
    assert_int_equal(written, 4); /* the credit */
    assert_int_equal(order[1], 0);
    assert_int_equal(order[2], 1);
    rig_pass(&rig, 1000);
    assert_int_equal(written, 4);
    row.in_flight = 0; /* all is answered */
    rig.lease = false;
    backlog_row_run(&row);
    assert_int_equal(written, 4); /* without a lease nothing is written */
    rig.lease = true;
    backlog_row_run(&row);
    rig_pass(&rig, 0);
    assert_int_equal(written, 6);
    assert_null(row.first);
    row.in_flight = 0;
    backlog_row_fini(&row);
}

/* Announces one; returns the flags of the call. */
static unsigned announce(uint64_t offset, bool late)
{
    struct publication *publication = placed(offset, 10);
    backlog_publish_announce(&calls, &publication, 1, late);
    publication_unref(publication);
    return rig.published[rig.published_len - 1].how;
}

static void writing_late_begins_when_the_store_has_said_that_it_knows(void **state)
{
    (void)state;
    rig.service.history.every_ms = 5000;
    assert_int_equal(announce(1, false), BUS_ANNOUNCE);
    assert_int_equal(announce(2, true), BUS_ANNOUNCE | BUS_LATE);
    uint64_t tag = rig.published[rig.published_len - 1].tag;
    assert_int_equal(announce(3, true), BUS_ANNOUNCE);
    assert_int_equal(calls.mark, MARK_ASKED);
    backlog_publish_answered(&calls, tag + 2);
    assert_int_equal(calls.mark, MARK_ASKED);
    backlog_publish_answered(&calls, tag);
    assert_int_equal(calls.mark, MARK_SET);
    assert_int_equal(announce(4, false), BUS_ANNOUNCE | BUS_PROMPT);
    assert_int_equal(calls.mark, MARK_NONE);
    backlog_publish_doubt(&calls);
    assert_int_equal(announce(5, false), BUS_ANNOUNCE | BUS_PROMPT);
    size_t before = rig.published_len;
    backlog_publish_prompt(&calls);
    assert_int_equal(rig.published_len, before);
}

static void what_the_bus_was_given_before_is_marked(void **state)
{
    (void)state;
    assert_int_equal(announce(1, false), BUS_ANNOUNCE);
    assert_int_equal(announce(2, false), BUS_ANNOUNCE);
    assert_int_equal(announce(1, false), BUS_ANNOUNCE | BUS_AGAIN);
    assert_int_equal(announce(2, false), BUS_ANNOUNCE | BUS_AGAIN);
    assert_int_equal(announce(3, false), BUS_ANNOUNCE);
    session->epoch++;
    assert_int_equal(announce(1, false), BUS_ANNOUNCE);
}

static void a_call_has_at_most_so_many_of_one_epoch(void **state)
{
    (void)state;
#define MANY (PUBLISH_COUNT + 2)
    struct publication *items[MANY];
    for (size_t i = 0; i < MANY; i++)
        items[i] = placed(i + 1, 10);
    items[0]->at.epoch--;
    backlog_publish_append(&calls, items, MANY);
    assert_int_equal(rig.published_len, 3);
    assert_int_equal(rig.published[0].len, 1);
    assert_int_equal(rig.published[1].len, PUBLISH_COUNT);
    assert_int_equal(rig.published[2].len, 1);
    assert_int_equal(backlog_publish_announced(rig.published[2].tag), 0);
    for (size_t i = 0; i < MANY; i++)
        publication_unref(items[i]);
}

static void who_may_be_on_its_way_gets_it_at_once(void **state)
{
    (void)state;
    rig.service.history.every_ms = 5000;
    calls.until_ms = rig.hub.now_ms + 6000;
    assert_false(backlog_publish_may_be_late(&calls, false));
    rig.hub.now_ms += 6000;
    assert_true(backlog_publish_may_be_late(&calls, false));
    assert_false(backlog_publish_may_be_late(&calls, true));
    uint64_t due_ms = backlog_publish_late_due_ms(&calls);
    assert_true(due_ms <= rig.hub.now_ms + 5000 && due_ms + 625 > rig.hub.now_ms + 5000);
    assert_int_equal(due_ms % 625, 0);
    rig.service.history.size = 0;
    assert_false(backlog_publish_is_wanted(&calls, false));
    assert_true(backlog_publish_is_wanted(&calls, true));
}

static void the_end_of_an_epoch_is_announced_once_and_remembered_for_a_minute(void **state)
{
    (void)state;
    struct backlog_end end = {0};
    backlog_end_lost(&end, (struct position){7, 5});
    backlog_end_lost(&end, (struct position){7, 3});
    assert_int_equal(end.unannounced.at[0].offset, 5);
    assert_int_equal(epoch_ends_last(backlog_end_last(&end, 1000)), 0);
    backlog_end_is_announced(&end, 1000);
    assert_int_equal(epoch_ends_last(&end.unannounced), 0);
    backlog_end_lost(&end, (struct position){8, 2});
    backlog_end_is_announced(&end, 2000);
    const struct epoch_ends *ends = backlog_end_last(&end, 2000 + ANNOUNCED_END_MS - 1);
    assert_int_equal(ends->len, 2);
    assert_int_equal(ends->at[0].offset, 5);
    assert_int_equal(ends->at[1].offset, 2);
    assert_int_equal(epoch_ends_last(backlog_end_last(&end, 2000 + ANNOUNCED_END_MS)), 0);
}

/* --- ends of several epochs --- */

struct told_gaps {
    size_t len;
    struct {
        uint64_t epoch, from, to;
    } at[16];
};

static void on_told_gap(void *ctx, uint64_t epoch, uint64_t from, uint64_t to)
{
    struct told_gaps *told = ctx;
    told->at[told->len].epoch = epoch;
    told->at[told->len].from = from;
    told->at[told->len++].to = to;
}

static void assert_told(const struct told_gaps *told, size_t i, uint64_t epoch, uint64_t from,
                        uint64_t to)
{
    assert_true(i < told->len);
    assert_int_equal(told->at[i].epoch, epoch);
    assert_int_equal(told->at[i].from, from);
    assert_int_equal(told->at[i].to, to);
}

static void who_was_away_for_several_ends_is_told_of_each(void **state)
{
    (void)state;
    struct epoch_ends ends = {0};
    struct told_gaps told = {0};
    const struct stream_sink sink = {.gap = on_told_gap, .ctx = &told};
    epoch_ends_add(&ends, (struct position){9, 4}); /* in any order */
    epoch_ends_add(&ends, (struct position){7, 5});
    struct position at = {7, 2};
    assert_true(epoch_ends_lack(&ends, at, 8));
    assert_false(epoch_ends_lack(&ends, at, 7));
    epoch_ends_leave(&ends, &at, (struct position){7, 1}, 10, &sink);
    assert_int_equal(told.len, 2);
    assert_told(&told, 0, 7, 3, 5);
    assert_told(&told, 1, 9, 1, 4);
    assert_int_equal(at.epoch, 9);
    assert_int_equal(at.offset, 4);
    assert_false(epoch_ends_lack(&ends, at, 10));
}

static void an_end_that_is_not_listed_any_more_is_a_gap_to_the_end_of_its_epoch(void **state)
{
    (void)state;
    struct epoch_ends ends = {0};
    struct told_gaps told = {0};
    const struct stream_sink sink = {.gap = on_told_gap, .ctx = &told};
    for (uint64_t epoch = 7; epoch < 8 + EPOCH_ENDS; epoch++)
        epoch_ends_add(&ends, (struct position){epoch, 5});
    assert_int_equal(ends.len, EPOCH_ENDS);
    struct position at = {7, 2};
    assert_true(epoch_ends_lack(&ends, at, 8));
    epoch_ends_leave(&ends, &at, (struct position){7, 1}, 8, &sink);
    assert_int_equal(told.len, 1);
    assert_told(&told, 0, 7, 3, 0);
    assert_false(epoch_ends_lack(&ends, at, 8));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_ring_keeps_the_last_ones_within_a_megabyte, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(
            what_the_store_may_have_lost_is_taken_once_and_not_what_it_never_had, set_up,
            tear_down),
        cmocka_unit_test_setup_teardown(
            the_cursor_moves_on_and_credit_comes_back_with_what_is_confirmed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_portion_has_a_bound_of_bytes_but_for_one_larger, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(
            beyond_the_bound_of_the_node_the_oldest_is_dropped_whosever_it_is, set_up, tear_down),
        cmocka_unit_test_setup_teardown(
            sessions_write_one_after_the_other_under_a_credit_and_a_budget, set_up, tear_down),
        cmocka_unit_test_setup_teardown(writing_late_begins_when_the_store_has_said_that_it_knows,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_the_bus_was_given_before_is_marked, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_call_has_at_most_so_many_of_one_epoch, set_up, tear_down),
        cmocka_unit_test_setup_teardown(who_may_be_on_its_way_gets_it_at_once, set_up, tear_down),
        cmocka_unit_test_setup_teardown(
            the_end_of_an_epoch_is_announced_once_and_remembered_for_a_minute, set_up, tear_down),
        cmocka_unit_test(who_was_away_for_several_ends_is_told_of_each),
        cmocka_unit_test(an_end_that_is_not_listed_any_more_is_a_gap_to_the_end_of_its_epoch),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
