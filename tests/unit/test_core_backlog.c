/* Publications an owner keeps for other nodes: in order, within a bound, written in portions. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>

#include "common/metrics.h"
#include "core/session/backlog.h"
#include "core_rig.h"

#define MIB (1024u * 1024)

static struct core_rig rig;
static struct session *session;

static int set_up(void **state)
{
    (void)state;
    rig_init(&rig, SESSION_OWNER);
    session = &rig.session;
    backlogs_new(&rig.hub);
    backlog_new(session);
    backlog_begin_epoch(session);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    backlog_check(session);
    backlog_free(session);
    backlogs_free(&rig.hub);
    rig_fini(&rig);
    return 0;
}

static void place(size_t len)
{
    struct publication *publication = rig_publication(len);
    backlog_place(session, publication, true);
    publication_unref(publication);
}

/* Each in a turn of its own. */
static void place_many(size_t n, size_t len, bool may_publish)
{
    for (size_t i = 0; i < n; i++) {
        place(len);
        backlog_flush(session, may_publish, true);
    }
    backlog_check(session);
}

static size_t announced(void)
{
    size_t n = 0;
    for (size_t i = 0; i < rig.published_len; i++)
        n += rig.published[i].how & BUS_ANNOUNCE ? rig.published[i].len : 0;
    return n;
}

/* The store answers the calls from i on; returns the number of calls then. */
static size_t answer_from(size_t i)
{
    for (; i < rig.published_len; i++)
        assert_int_equal(backlog_on_published(session, rig.published[i].tag, STATUS_OK), STATUS_OK);
    return i;
}

static void what_a_turn_places_leaves_in_one_call(void **state)
{
    (void)state;
    for (int i = 0; i < 10; i++)
        place(20);
    backlog_flush(session, true, true);
    assert_int_equal(rig.published_len, 1);
    assert_int_equal(rig.published[0].len, 10);
    assert_int_equal(backlog_on_the_way(session), 10);
    answer_from(0);
    assert_int_equal(backlog_on_the_way(session), 0);
}

/* It is given again each second. Without a history it was given to nobody. */
static void a_history_that_a_reload_begins_has_a_time_to_live(void **state)
{
    (void)state;
    rig.service.history.size = 0;
    place_many(1, 10, true);
    rig_pass(&rig, 10);
    rig.service.history.size = 100;
    place_many(2, 10, true);
    assert_int_equal(rig.published_len, 3);
    assert_int_equal(rig.published[1].ttl_ms, 300000);
    assert_int_equal(rig.published[2].ttl_ms, 0);
    answer_from(0);
}

static void what_is_held_goes_out_in_order_once_the_record_is_proven(void **state)
{
    (void)state;
    place_many(3, 10, true);
    place_many(4, 10, false);
    assert_int_equal(announced(), 3);
    backlog_resume(session, 0, false);
    assert_int_equal(announced(), 3 + 7); /* nothing was answered: all is sent again, in one call */
    assert_true(backlog_is_live(session));
    place_many(1, 10, true);
    assert_int_equal(announced(), 3 + 7 + 1);
    answer_from(0);
    assert_int_equal(backlog_on_the_way(session), 0);
}

static void what_was_answered_is_only_appended_again(void **state)
{
    (void)state;
    place_many(5, 10, true);
    size_t calls = answer_from(0);
    place_many(2, 10, false);
    backlog_resume(session, LOST_WRITES_MS, false);
    assert_int_equal(rig.published_len, calls + 2);
    assert_int_equal(rig.published[calls].how, BUS_QUIETLY);
    assert_int_equal(rig.published[calls].len, 5);
    assert_int_equal(rig.published[calls + 1].how, BUS_ANNOUNCE);
    assert_int_equal(rig.published[calls + 1].len, 2);
}

static void what_is_older_than_a_fail_over_may_lose_is_not_appended(void **state)
{
    (void)state;
    place_many(5, 10, true);
    size_t calls = answer_from(0);
    rig_pass(&rig, LOST_WRITES_MS + 1);
    backlog_resume(session, LOST_WRITES_MS, false);
    assert_int_equal(rig.published_len, calls);
    backlog_append_all(session);
    backlog_resume(session, LOST_WRITES_MS, false);
    assert_int_equal(rig.published_len, calls + 1);
}

static void much_is_written_in_portions_under_a_credit(void **state)
{
    (void)state;
    rig.service.history.size = 0;
    place_many(20000, 1024, false); /* some 24 MiB */
    backlog_resume(session, LOST_WRITES_MS, false);
    size_t first = announced();
    assert_true(first > 0 && first < 6000); /* within 4 MiB and a portion */
    assert_false(backlog_is_live(session));
    rig_pass(&rig, 1000);
    size_t waiting = announced();
    assert_true(waiting < 6000); /* nothing was answered: nothing more goes out */
    size_t answered = 0;
    for (size_t i = 0; i < rig.published_len; i++) {
        assert_true(announced() - answered < 6000);
        assert_int_equal(backlog_on_published(session, rig.published[i].tag, STATUS_OK), STATUS_OK);
        answered += rig.published[i].len;
        rig_pass(&rig, 0);
    }
    assert_true(backlog_is_live(session));
    assert_int_equal(announced(), 20000);
}

static void what_comes_meanwhile_keeps_its_place(void **state)
{
    (void)state;
    rig.service.history.size = 0;
    place_many(10000, 1024, false);
    backlog_resume(session, 0, false);
    assert_false(backlog_is_live(session));
    place_many(10, 1024, true);
    size_t calls = 0;
    while (!backlog_is_live(session)) {
        calls = answer_from(calls);
        rig_pass(&rig, 0);
    }
    assert_int_equal(announced(), 10010);
    uint64_t last = 0;
    for (size_t i = 0; i < rig.published_len; i++) {
        assert_true(rig.published[i].tag > last);
        last = rig.published[i].tag;
    }
}

static void a_node_keeps_64_mib_and_drops_the_oldest_counted(void **state)
{
    (void)state;
    rig.service.history.size = 0;
    uint64_t before = metric_drops(DROP_GAP);
    place_many(1000, 128 * 1024, false); /* 125 MiB */
    uint64_t dropped = metric_drops(DROP_GAP) - before;
    assert_true(dropped > 480 && dropped < 500);
    backlog_resume(session, 0, false);
    assert_int_equal(rig.published[0].epoch, 7);
    assert_true(rig.published[0].tag / 2 > dropped); /* the newest ones are left */
}

static void messages_without_content_have_a_bound_too(void **state)
{
    (void)state;
    rig.service.history.size = 0;
    uint64_t before = metric_drops(DROP_GAP);
    place_many(400000, 0, false);
    assert_true(metric_drops(DROP_GAP) > before);
}

static void an_answer_that_is_none_holds_what_follows(void **state)
{
    (void)state;
    place_many(2, 10, true);
    assert_int_equal(backlog_on_published(session, rig.published[0].tag, STATUS_IO), STATUS_IO);
    size_t calls = rig.published_len;
    place_many(2, 10, false);
    assert_int_equal(rig.published_len, calls);
    backlog_resume(session, 0, false);
    assert_int_equal(rig.published[calls].len, 4);
}

static void without_a_lease_nothing_leaves(void **state)
{
    (void)state;
    place_many(2, 10, false);
    rig.lease = false;
    backlog_resume(session, 0, false);
    assert_int_equal(rig.published_len, 0);
    uint64_t before = metric_drops(DROP_FENCED);
    place(10);
    backlog_flush(session, true, true);
    assert_int_equal(metric_drops(DROP_FENCED) - before, 1);
    assert_int_equal(rig.published_len, 0);
}

/* Members' links may come back a second later than the owner's. */
static void more_than_the_history_holds_waits_until_members_hear_again(void **state)
{
    (void)state;
    rig.service.history.size = 10;
    place_many(11, 10, false);
    backlog_resume(session, 0, true);
    assert_int_equal(rig.published_len, 0);
    place_many(1, 10, true);
    assert_int_equal(rig.published_len, 0);
    rig_pass(&rig, 1200);
    assert_true(session->turn.dirty);
    backlog_flush(session, true, true);
    assert_int_equal(announced(), 12);
    assert_true(backlog_is_live(session));
    answer_from(0);
    place_many(10, 10, false); /* as much as the history holds: members read it there */
    size_t calls = rig.published_len;
    backlog_resume(session, 0, true);
    assert_int_equal(rig.published_len, calls + 1);
}

static void what_still_waits_goes_out_before_the_epoch_ends(void **state)
{
    (void)state;
    rig.service.history.size = 0;
    place_many(20000, 1024, false);
    backlog_resume(session, 0, true);
    assert_int_equal(announced(), 0);
    backlog_finish(session);
    assert_int_equal(announced(), 20000);
    answer_from(0);
}

/* Clients of this node got it, and no other node did. */
static void how_far_a_lost_epoch_went_is_known(void **state)
{
    (void)state;
    place_many(3, 1, true);
    answer_from(0);
    backlog_drop(session);
    assert_int_equal(epoch_ends_last(backlog_unannounced_ends(session)),
                     0); /* the store has it all */
    place_many(2, 1, true);
    backlog_drop(session);
    assert_int_equal(epoch_ends_last(backlog_unannounced_ends(session)), 7);
    assert_int_equal(backlog_unannounced_ends(session)->at[0].offset, 5);
    assert_int_equal(epoch_ends_last(backlog_announced_ends(session)), 0);
    backlog_ends_announced(session);
    assert_int_equal(epoch_ends_last(backlog_unannounced_ends(session)), 0);
    assert_int_equal(backlog_announced_ends(session)->at[0].offset, 5);
    rig_pass(&rig, 60000);
    assert_int_equal(epoch_ends_last(backlog_announced_ends(session)), 0);
}

/* Each in a turn of its own, while no other node watches. */
static void place_alone(size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct publication *publication = rig_publication(10);
        backlog_place(session, publication, false);
        publication_unref(publication);
        backlog_flush(session, true, false);
    }
    backlog_check(session);
}

/* Makes the store know that the session is written late. Returns how many calls there were. */
static size_t begin_late(void)
{
    rig.service.history.every_ms = 250;
    place_alone(1);
    assert_int_equal(rig.published[0].how, BUS_ANNOUNCE | BUS_LATE);
    return answer_from(0);
}

static void what_nobody_else_waits_for_is_written_late_in_one_call(void **state)
{
    (void)state;
    size_t calls = begin_late();
    place_alone(5);
    rig_pass(&rig, 200);
    assert_false(session->turn.dirty);
    place_alone(5);
    assert_int_equal(rig.published_len, calls);
    assert_int_equal(backlog_on_the_way(session), 10);
    rig_pass(&rig, 50);
    assert_true(session->turn.dirty);
    backlog_flush(session, true, false);
    assert_int_equal(rig.published_len, calls + 1);
    assert_int_equal(rig.published[calls].len, 10);
    assert_int_equal(rig.published[calls].how, BUS_ANNOUNCE);
    answer_from(calls);
    assert_int_equal(backlog_on_the_way(session), 0);
}

static void nothing_is_late_before_the_store_knows_it(void **state)
{
    (void)state;
    rig.service.history.every_ms = 250;
    place_alone(3);
    assert_int_equal(rig.published_len, 3);
    assert_int_equal(rig.published[1].how, BUS_ANNOUNCE);
    answer_from(0);
    place_alone(1);
    assert_int_equal(rig.published_len, 3);
    backlog_finish(session);
}

static void what_is_late_goes_out_for_who_comes(void **state)
{
    (void)state;
    size_t calls = begin_late();
    place_alone(3);
    backlog_hurry(session, true);
    assert_int_equal(rig.published_len, calls + 1);
    assert_int_equal(rig.published[calls].len, 3);
    assert_int_equal(rig.published[calls].how, BUS_ANNOUNCE | BUS_PROMPT);
    place_many(1, 10, true);
    assert_int_equal(rig.published[calls + 1].how, BUS_ANNOUNCE);
    answer_from(calls);
    place_alone(1); /* members have left: the store must know again */
    assert_int_equal(rig.published[calls + 2].how, BUS_ANNOUNCE | BUS_LATE);
}

static void who_comes_while_nothing_waits_is_told_of_all_the_same(void **state)
{
    (void)state;
    size_t calls = begin_late();
    backlog_hurry(session, true);
    assert_int_equal(rig.published_len, calls + 1);
    assert_int_equal(rig.published[calls].len, 0);
    assert_int_equal(rig.published[calls].how, BUS_PROMPT);
}

static void who_reads_the_history_finds_what_was_late(void **state)
{
    (void)state;
    size_t calls = begin_late();
    place_alone(3);
    backlog_hurry(session, false);
    assert_int_equal(rig.published_len, calls + 1);
    assert_int_equal(rig.published[calls].how, BUS_ANNOUNCE);
    place_alone(1); /* it is late as before */
    assert_int_equal(rig.published_len, calls + 1);
    backlog_finish(session);
}

static void what_is_late_waits_for_a_bus_that_is_away(void **state)
{
    (void)state;
    size_t calls = begin_late();
    place_alone(3);
    rig_pass(&rig, 250);
    backlog_flush(session, false, false);
    assert_int_equal(rig.published_len, calls);
    backlog_resume(session, 0, false);
    assert_int_equal(rig.published[rig.published_len - 1].len, 3);
    /* The owner does not know whether the store still knows */
    assert_int_equal(rig.published[rig.published_len - 1].how, BUS_ANNOUNCE | BUS_LATE);
}

static void what_an_owner_loses_is_counted(void **state)
{
    (void)state;
    uint64_t before = metric_drops(DROP_STALE_EPOCH);
    place_many(3, 10, true);
    place(10);
    struct publication *publication = rig_publication(5);
    backlog_set_aside(session, publication);
    publication_unref(publication);
    backlog_drop(session);
    assert_int_equal(metric_drops(DROP_STALE_EPOCH) - before, 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_a_turn_places_leaves_in_one_call, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_history_that_a_reload_begins_has_a_time_to_live, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(what_is_held_goes_out_in_order_once_the_record_is_proven,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_was_answered_is_only_appended_again, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(what_is_older_than_a_fail_over_may_lose_is_not_appended,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(much_is_written_in_portions_under_a_credit, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(what_comes_meanwhile_keeps_its_place, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_node_keeps_64_mib_and_drops_the_oldest_counted, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(messages_without_content_have_a_bound_too, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(an_answer_that_is_none_holds_what_follows, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(without_a_lease_nothing_leaves, set_up, tear_down),
        cmocka_unit_test_setup_teardown(more_than_the_history_holds_waits_until_members_hear_again,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_still_waits_goes_out_before_the_epoch_ends, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(how_far_a_lost_epoch_went_is_known, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_nobody_else_waits_for_is_written_late_in_one_call,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(nothing_is_late_before_the_store_knows_it, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(what_is_late_goes_out_for_who_comes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(who_comes_while_nothing_waits_is_told_of_all_the_same,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(who_reads_the_history_finds_what_was_late, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(what_is_late_waits_for_a_bus_that_is_away, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(what_an_owner_loses_is_counted, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
