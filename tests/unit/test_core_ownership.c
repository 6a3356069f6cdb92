/* The one operation under way on a session's record, and whether the record is proven; the steps
 * of a hand-over; which answers a membership accepts; the owner's roster. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/session/handover.h"
#include "core/session/membership.h"
#include "core/session/ownership.h"
#include "core/session/roster.h"
#include "core_rig.h"

static struct core_rig rig;
static struct session *session;
static size_t dead, proofs, free_again, came, gone, left;
static bool proves;

static void on_owner_dead(struct session *of)
{
    (void)of;
    dead++;
}

static bool on_prove(struct session *of)
{
    (void)of;
    proofs++;
    return proves;
}

static void on_free_again(struct session *of)
{
    (void)of;
    free_again++;
}

static void on_came(struct session *of, struct member *member)
{
    (void)of, (void)member;
    came++;
}

static void on_leaves(struct session *of, struct member *member)
{
    (void)of, (void)member;
    gone++;
}

static void on_left(struct session *of)
{
    (void)of;
    left++;
}

static void on_status(const struct session *of, struct status_message *status)
{
    (void)of;
    status->status = UPSTREAM_CONNECTED;
}

static const struct ownership_events ownership_events = {on_owner_dead, on_prove};
static const struct handover_events handover_events = {on_free_again};
static const struct roster_events roster_events = {on_came, on_leaves, on_left, on_status};

static int set_up(void **state)
{
    (void)state;
    rig_init(&rig, SESSION_CLAIMING);
    session = &rig.session;
    dead = proofs = free_again = came = gone = left = 0;
    proves = true;
    peers_new(&rig.hub);
    ownership_new(session, &ownership_events);
    handover_new(session, &handover_events);
    membership_new(session, &roster_events);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    ownership_check(session);
    handover_check(session);
    roster_check(session);
    roster_clear(session, false);
    membership_free(session);
    handover_free(session);
    ownership_free(session);
    handover_free_all(&rig.hub);
    peers_free(&rig.hub);
    rig_fini(&rig);
    return 0;
}

static void own(void)
{
    ownership_claim(session, "ws://backend/");
    assert_int_equal(ownership_answered(session, rig.tag), OWNERSHIP_CLAIMING);
    session->state = SESSION_OWNER;
    ownership_taken(session);
}

static void an_answer_belongs_to_the_operation_under_way_or_to_none(void **state)
{
    (void)state;
    ownership_claim(session, "ws://backend/");
    uint64_t tag = rig.tag;
    assert_false(ownership_is_settled(session));
    assert_int_equal(ownership_answered(session, tag + 1), OWNERSHIP_SETTLED);
    assert_int_equal(ownership_answered(session, tag), OWNERSHIP_CLAIMING);
    assert_int_equal(ownership_answered(session, tag), OWNERSHIP_SETTLED);
    ownership_claim(session, "ws://backend/");
    ownership_forget_answer(session);
    assert_int_equal(ownership_answered(session, rig.tag), OWNERSHIP_SETTLED);
}

static void after_a_reconnect_the_record_is_unproven_until_it_is_asserted(void **state)
{
    (void)state;
    own();
    assert_false(ownership_is_unsure(session));
    rig.hub.links++;
    assert_true(ownership_is_unsure(session));
    ownership_assert(session, "ws://backend/");
    assert_true(ownership_is_unsure(session));
    assert_int_equal(ownership_answered(session, rig.tag), OWNERSHIP_ASSERTING);
    ownership_asserted(session);
    assert_false(ownership_is_unsure(session));
}

static void a_doubt_is_proven_after_a_second_and_again(void **state)
{
    (void)state;
    own();
    proves = false;
    ownership_lost_answer(session);
    assert_true(ownership_is_unsure(session));
    rig_pass(&rig, 3000);
    assert_int_equal(proofs, 3);
    ownership_asserted(session);
    rig_pass(&rig, 3000);
    assert_int_equal(proofs, 3);
}

static void after_a_release_was_sent_nothing_is_asserted(void **state)
{
    (void)state;
    own();
    assert_true(ownership_must_assert(session));
    session->state = SESSION_RELEASING;
    ownership_release(session);
    assert_false(ownership_must_assert(session));
    assert_int_equal(ownership_answered(session, rig.tag), OWNERSHIP_RELEASING);
    assert_true(ownership_is_released(session));
}

static void a_dead_owner_is_told_and_named(void **state)
{
    (void)state;
    struct bus_node node = {.id = "other", .score = 1, .lease_ms = 3000};
    session->state = SESSION_MEMBER;
    ownership_set_owner(session, slice_of("other"), 7);
    assert_true(ownership_is_from_owner(session, slice_of("other")));
    peers_read(&rig.hub, rig.hub.now_ms, &node, 1);
    rig_pass(&rig, 3000);
    peers_read(&rig.hub, rig.hub.now_ms, &node, 1);
    assert_int_equal(dead, 1);
    ownership_owner_died(session);
    assert_true(ownership_is_takeover(session));
    ownership_set_nobody(session);
    assert_false(ownership_is_takeover(session));
}

static void an_offer_waits_a_second_and_only_its_node_accepts(void **state)
{
    (void)state;
    session->state = SESSION_OWNER;
    handover_offer(session, slice_of("one"), "ws://backend/");
    const struct answer_message accept = {true, session->epoch};
    assert_false(handover_accepted(session, slice_of("two"), &accept));
    rig_pass(&rig, 1000);
    assert_int_equal(free_again, 1);
    assert_int_equal(handover_step(session), HANDOVER_NONE);
    handover_offer(session, slice_of("two"), "ws://backend/");
    assert_true(handover_accepted(session, slice_of("two"), &accept));
    session->state = SESSION_MOVING;
    handover_set_transferring(session);
    assert_true(handover_expects(session, slice_of("two")));
    handover_forget(session);
    session->state = SESSION_CLAIMING;
}

static void take_is_sent_until_it_is_answered(void **state)
{
    (void)state;
    session->state = SESSION_OWNER;
    handover_offer(session, slice_of("one"), "ws://backend/");
    const struct send_entry send = {.client = slice_of("client"), .send_id = 3};
    const struct envelope_item item = send_item(&send);
    size_t before = rig.told_len;
    handover_send_take(session, 9, "ws://backend/", &item, 1);
    rig_pass(&rig, 1600);
    assert_int_equal(rig.told_len - before, 1 + 3 + 0);
    assert_true(handover_has_pending_take(&rig.hub));
    handover_on_taken(&rig.hub, slice_of(session->id), 9);
    assert_false(handover_has_pending_take(&rig.hub));
    handover_forget(session);
}

static void a_take_counts_within_the_run_of_the_lease_that_accepted(void **state)
{
    (void)state;
    assert_false(handover_awaited(session, 9));
    handover_accept(session, 8);
    assert_false(handover_awaited(session, 8));
    assert_true(handover_awaited(session, 9));
    rig.hub.lease_runs++;
    assert_false(handover_awaited(session, 9));
}

static void answers_to_what_was_asked_before_do_not_count(void **state)
{
    (void)state;
    struct membership_join join = {.owner = slice_of("other"), .stands = {7, 5}};
    membership_begin(session);
    membership_send_join(session, &join);
    uint64_t number = rig.told[rig.told_len - 1].number;
    assert_true(membership_is_answer(session, number));
    assert_true(membership_disproves(session, number, (struct position){7, 4}));
    assert_false(membership_disproves(session, number, (struct position){7, 5}));
    membership_begin(session);
    assert_false(membership_is_answer(session, number));
}

static void who_has_not_come_is_struck_off_at_the_roll_call(void **state)
{
    (void)state;
    session->state = SESSION_OWNER;
    struct member *here = roster_add(session, slice_of("here"), 1, 1);
    roster_add(session, slice_of("named"), 1, 0);
    here->watch.since_ms = rig.hub.now_ms;
    here->count = 3;
    assert_int_equal(roster_clients(session), 3);
    roster_expect(session);
    rig_pass(&rig, 2 * 3000);
    assert_int_equal(roster_len(session), 1);
    assert_int_equal(left, 1);
    assert_int_equal(rig.told[rig.told_len - 1].type, ENVELOPE_STATUS);
    assert_ptr_equal(roster_add(session, slice_of("here"), 1, 2), here);
    assert_int_equal(came, 2);
    roster_add(session, slice_of("here"), 2, 3); /* another life: nothing of the old one counts */
    assert_int_equal(came, 3);
    assert_int_equal(here->number, 0);
    roster_clear(session, true);
    assert_int_equal(rig.told[rig.told_len - 1].type, ENVELOPE_NOT_OWNER);
    assert_int_equal(gone, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(an_answer_belongs_to_the_operation_under_way_or_to_none,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(
            after_a_reconnect_the_record_is_unproven_until_it_is_asserted, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_doubt_is_proven_after_a_second_and_again, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(after_a_release_was_sent_nothing_is_asserted, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_dead_owner_is_told_and_named, set_up, tear_down),
        cmocka_unit_test_setup_teardown(an_offer_waits_a_second_and_only_its_node_accepts, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(take_is_sent_until_it_is_answered, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_take_counts_within_the_run_of_the_lease_that_accepted,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(answers_to_what_was_asked_before_do_not_count, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(who_has_not_come_is_struck_off_at_the_roll_call, set_up,
                                        tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
