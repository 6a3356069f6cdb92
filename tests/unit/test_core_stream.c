/* The order of a session's stream: publications that are next, double, missing or held. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/session/stream.h"
#include "core_rig.h"

static struct core_rig rig;
static struct session *session;

static int set_up(void **state)
{
    (void)state;
    rig_init(&rig, SESSION_MEMBER);
    session = &rig.session;
    session->facts.clients = 1;
    stream_new(session);
    stream_subscribed(session);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    stream_check(session);
    stream_free(session);
    rig_fini(&rig);
    return 0;
}

static void push(uint64_t epoch, uint64_t offset, size_t len)
{
    struct publication *publication = rig_publication(len);
    publication->at = (struct position){epoch, offset};
    stream_receive(session, publication);
    publication_unref(publication);
    stream_check(session);
}

static size_t gaps(void)
{
    size_t n = 0;
    for (size_t i = 0; i < stream_batch(session)->len; i++)
        n += is_gap_note(stream_batch(session)->items[i]);
    return n;
}

static void what_comes_next_is_taken_and_doubles_are_not(void **state)
{
    (void)state;
    push(7, 4, 1);
    push(7, 5, 1);
    push(7, 5, 1);
    push(7, 4, 1);
    assert_int_equal(stream_batch(session)->len, 2);
    assert_int_equal(stream_at(session).offset, 5);
}

static void a_hole_is_read_and_what_comes_meanwhile_is_held(void **state)
{
    (void)state;
    push(7, 1, 1);
    push(7, 4, 1);
    push(7, 5, 1);
    assert_int_equal(rig.histories, 1);
    assert_true(stream_is_recovering(session));
    assert_int_equal(stream_batch(session)->len, 1);
    struct publication *missing[2] = {rig_publication(1), rig_publication(1)};
    for (uint64_t i = 0; i < 2; i++)
        missing[i]->at = (struct position){7, 2 + i};
    assert_true(
        stream_on_history(session, rig.tag, STATUS_OK, (struct position){7, 1}, missing, 2, false));
    publication_unref(missing[0]);
    publication_unref(missing[1]);
    assert_int_equal(stream_batch(session)->len, 5);
    assert_int_equal(gaps(), 0);
    assert_int_equal(stream_at(session).offset, 5);
}

static void what_the_history_has_not_is_a_gap(void **state)
{
    (void)state;
    push(7, 1, 1);
    push(7, 4, 1);
    assert_true(
        stream_on_history(session, rig.tag, STATUS_OK, (struct position){0, 0}, NULL, 0, false));
    assert_int_equal(stream_batch(session)->len, 3);
    assert_int_equal(gaps(), 1);
}

/* The history is short. It shows newer publications than the missing ones; those also come on the
 * channel, after the ones between. */
static void what_the_history_shows_ahead_makes_no_gap(void **state)
{
    (void)state;
    push(7, 1, 1);
    stream_joined(session, (struct position){7, 900}, 899);
    assert_true(stream_is_recovering(session));
    struct publication *late = rig_publication(1);
    late->at = (struct position){7, 500};
    assert_true(stream_on_history(session, rig.tag, STATUS_OK, late->at, &late, 1, false));
    publication_unref(late);
    assert_int_equal(gaps(), 0);
    for (uint64_t i = 2; i <= 900; i++)
        push(7, i, 1);
    assert_int_equal(gaps(), 0);
    assert_int_equal(stream_batch(session)->len, 900);
}

static void an_unexpected_answer_is_ignored(void **state)
{
    (void)state;
    push(7, 1, 1);
    assert_false(
        stream_on_history(session, 99, STATUS_OK, (struct position){0, 0}, NULL, 0, false));
}

static void a_failed_reading_is_asked_for_again(void **state)
{
    (void)state;
    push(7, 1, 1);
    push(7, 4, 1);
    assert_true(
        stream_on_history(session, rig.tag, STATUS_IO, (struct position){0, 0}, NULL, 0, false));
    rig_pass(&rig, 1000);
    assert_int_equal(rig.histories, 2);
}

/* Messages without content cost memory, too: the check compares with what is held. */
static void what_is_held_has_a_bound_in_true_memory(void **state)
{
    (void)state;
    push(7, 1, 1);
    push(7, 3, 1);
    for (uint64_t i = 4; i < 60000; i++) {
        struct publication *publication = rig_publication(0);
        publication->at = (struct position){7, i};
        stream_receive(session, publication);
        publication_unref(publication);
    }
    stream_check(session);
    assert_true(
        stream_on_history(session, rig.tag, STATUS_OK, (struct position){0, 0}, NULL, 0, false));
    /* The first held publications were let go: they are missing, and read next */
    assert_true(stream_is_recovering(session));
    assert_int_equal(rig.histories, 2);
}

static void the_next_epoch_waits_for_its_announcement(void **state)
{
    (void)state;
    push(7, 1, 1);
    session->state = SESSION_OWNER;
    session->epoch = 8;
    stream_owner_epoch(session);
    assert_true(stream_is_recovering(session));
    stream_epoch_begins(session, 8, false);
    assert_false(stream_is_recovering(session));
    assert_int_equal(gaps(), 0);
    assert_int_equal(stream_at(session).epoch, 8);
}

/* The batch announced exactly this gap. */
static void assert_gap(uint64_t epoch, uint64_t from, uint64_t to)
{
    assert_int_equal(gaps(), 1);
    for (size_t i = 0; i < stream_batch(session)->len; i++) {
        const struct publication *note = stream_batch(session)->items[i];
        if (!is_gap_note(note))
            continue;
        assert_int_equal(note->at.epoch, epoch);
        assert_int_equal(note->at.offset, from);
        assert_int_equal(gap_note_to(note), to);
    }
}

static void an_end_from_the_owner_is_a_gap_before_the_next_epoch(void **state)
{
    (void)state;
    push(7, 1, 1);
    stream_ended(session, (struct position){7, 4});
    assert_int_equal(gaps(), 0); /* it may still come */
    push(7, 2, 1);
    stream_epoch_begins(session, 8, true);
    assert_gap(7, 3, 4);
    push(8, 1, 1);
    assert_int_equal(stream_at(session).epoch, 8);
    assert_gap(7, 3, 4);
}

static void an_end_that_was_heard_is_no_gap(void **state)
{
    (void)state;
    push(7, 1, 1);
    stream_ended(session, (struct position){7, 1});
    stream_epoch_begins(session, 8, true);
    push(8, 1, 1);
    assert_int_equal(gaps(), 0);
}

/* The announcement arrives, ENDED does not: it comes again before JOINED. */
static void the_same_owner_again_is_waited_for(void **state)
{
    (void)state;
    push(7, 1, 1);
    stream_epoch_begins(session, 8, true);
    push(8, 1, 1);
    assert_int_equal(stream_batch(session)->len, 1);
    stream_ended(session, (struct position){7, 3});
    stream_joined(session, (struct position){8, 1}, 0);
    assert_gap(7, 2, 3);
    assert_int_equal(stream_batch(session)->len, 3);
    assert_int_equal(stream_at(session).epoch, 8);
    assert_int_equal(stream_at(session).offset, 1);
    assert_false(stream_is_recovering(session));
}

static void another_owner_is_not_waited_for(void **state)
{
    (void)state;
    push(7, 1, 1);
    stream_epoch_begins(session, 8, false);
    push(8, 1, 1);
    assert_int_equal(stream_batch(session)->len, 2);
}

/* If the owner does not answer, the wait ends: the history is read, and nobody knows whether that
 * has the end of the epoch. */
static void the_wait_for_the_owner_ends(void **state)
{
    (void)state;
    push(7, 1, 1);
    stream_epoch_begins(session, 8, true);
    push(8, 1, 1);
    rig_pass(&rig, 2000);
    assert_int_equal(rig.histories, 1);
    assert_true(
        stream_on_history(session, rig.tag, STATUS_OK, (struct position){7, 1}, NULL, 0, false));
    assert_gap(7, 2, 0);
    assert_int_equal(stream_batch(session)->len, 3);
    assert_int_equal(stream_at(session).epoch, 8);
    assert_int_equal(stream_at(session).offset, 1);
}

/* Neither the announcement nor the pushes before it arrived. */
static void an_end_is_known_after_an_interruption(void **state)
{
    (void)state;
    push(7, 1, 1);
    stream_subscribed(session);
    push(8, 2, 1);
    assert_int_equal(rig.histories, 0); /* the owner is asked first */
    stream_ended(session, (struct position){7, 3});
    stream_joined(session, (struct position){8, 2}, 0);
    assert_int_equal(rig.histories, 1);
    struct publication *first = rig_publication(1);
    first->at = (struct position){8, 1};
    assert_true(
        stream_on_history(session, rig.tag, STATUS_OK, (struct position){7, 1}, &first, 1, false));
    publication_unref(first);
    assert_gap(7, 2, 3);
    assert_int_equal(stream_at(session).epoch, 8);
    assert_int_equal(stream_at(session).offset, 2);
}

/* The member is behind: ENDED and the announcement of the next epoch come while it reads the epoch
 * before; the first push of the next epoch comes before JOINED. */
static void an_end_that_comes_during_a_reading_is_kept(void **state)
{
    (void)state;
    push(6, 1, 1);
    stream_subscribed(session);
    stream_joined(session, (struct position){7, 0}, 0);
    assert_int_equal(rig.histories, 1);
    stream_ended(session, (struct position){7, 3});
    stream_epoch_begins(session, 8, true);
    struct publication *first = rig_publication(1);
    first->at = (struct position){7, 1};
    assert_true(
        stream_on_history(session, rig.tag, STATUS_OK, (struct position){6, 1}, &first, 1, false));
    assert_false(stream_is_recovering(session));
    stream_joined(session, (struct position){8, 0}, 0);
    push(8, 1, 1);
    assert_int_equal(rig.histories, 2); /* the store may have taken more of it since */
    assert_true(
        stream_on_history(session, rig.tag, STATUS_OK, (struct position){6, 1}, &first, 1, false));
    publication_unref(first);
    assert_gap(7, 2, 3);
    assert_int_equal(stream_batch(session)->len, 4);
    assert_int_equal(stream_at(session).epoch, 8);
    assert_int_equal(stream_at(session).offset, 1);
}

/* The fenced owner has sent ENDED, and this node claimed the session first. */
static void a_new_owner_knows_an_end_that_was_announced(void **state)
{
    (void)state;
    push(7, 1, 1);
    stream_ended(session, (struct position){7, 3});
    session->state = SESSION_OWNER;
    session->epoch = 8;
    stream_owner_epoch(session);
    stream_epoch_begins(session, 8, false);
    assert_false(stream_is_recovering(session));
    assert_gap(7, 2, 3);
    assert_int_equal(stream_at(session).epoch, 8);
    assert_int_equal(stream_at(session).offset, 0);
}

static void a_lost_one_is_a_gap_at_once(void **state)
{
    (void)state;
    push(7, 1, 1);
    stream_lost(session, (struct position){7, 2});
    assert_int_equal(gaps(), 1);
    push(7, 3, 1);
    assert_int_equal(stream_at(session).offset, 3);
}

static void what_must_not_reach_clients_is_taken_back(void **state)
{
    (void)state;
    push(7, 1, 1);
    push(7, 2, 1);
    stream_rewind(session);
    assert_int_equal(stream_batch(session)->len, 0);
    assert_int_equal(stream_at(session).offset, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_comes_next_is_taken_and_doubles_are_not, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_hole_is_read_and_what_comes_meanwhile_is_held, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(what_the_history_has_not_is_a_gap, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_the_history_shows_ahead_makes_no_gap, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(an_unexpected_answer_is_ignored, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_failed_reading_is_asked_for_again, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_is_held_has_a_bound_in_true_memory, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_next_epoch_waits_for_its_announcement, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(an_end_from_the_owner_is_a_gap_before_the_next_epoch,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(an_end_that_was_heard_is_no_gap, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_same_owner_again_is_waited_for, set_up, tear_down),
        cmocka_unit_test_setup_teardown(another_owner_is_not_waited_for, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_wait_for_the_owner_ends, set_up, tear_down),
        cmocka_unit_test_setup_teardown(an_end_is_known_after_an_interruption, set_up, tear_down),
        cmocka_unit_test_setup_teardown(an_end_that_comes_during_a_reading_is_kept, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_new_owner_knows_an_end_that_was_announced, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_lost_one_is_a_gap_at_once, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_must_not_reach_clients_is_taken_back, set_up,
                                        tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
