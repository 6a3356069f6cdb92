/* What a node owns beside its sessions, each part alone: its lease, its drain, and how many records
 * it may write. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/node/drain.h"
#include "core/node/lease.h"
#include "core/node/peers.h"
#include "core/node/record.h"
#include "core_rig.h"

#define LEASE_MS 3000

static struct core_rig rig;
static struct hub *hub;
static size_t lapsed, fenced, hurried, back, emptied;

static void on_lapsed(struct hub *of)
{
    (void)of;
    lapsed++;
}

static void on_fenced(struct hub *of)
{
    (void)of;
    fenced++;
}

static void on_hurry(struct hub *of)
{
    hurried++;
    lease_fence_is_over(of);
}

static void on_back(struct hub *of)
{
    (void)of;
    back++;
}

static void on_emptied(struct hub *of)
{
    (void)of;
    emptied++;
}

static const struct lease_events lease_events = {on_lapsed, on_fenced, on_hurry, on_back,
                                                 on_emptied};

static size_t begun, released;
static uint64_t clients;
static bool handing_over, settled;

static void on_begun(struct hub *of)
{
    (void)of;
    begun++;
}

static bool is_handing_over(const struct hub *of)
{
    (void)of;
    return handing_over;
}

static uint64_t on_close_clients(struct hub *of, uint64_t n)
{
    n = n < clients ? n : clients;
    clients -= n;
    of->counts.clients = clients;
    return n;
}

static void on_release_rest(struct hub *of)
{
    (void)of;
    released++;
    settled = true;
}

static bool is_settled(const struct hub *of)
{
    (void)of;
    return settled;
}

static const struct drain_events drain_events = {on_begun, is_handing_over, on_close_clients,
                                                 on_release_rest, is_settled};

static int set_up(void **state)
{
    (void)state;
    rig_init(&rig, SESSION_OWNER);
    hub = &rig.hub;
    lapsed = fenced = hurried = back = emptied = begun = released = 0;
    clients = 0;
    handing_over = false;
    settled = true;
    hub->state = NODE_STARTING;
    hub->act_until_ms = 0;
    peers_new(hub);
    record_new(hub);
    lease_new(hub, &lease_events);
    drain_new(hub, &drain_events);
    return 0;
}

static void check(void)
{
    node_check(hub);
    lease_check(hub);
    drain_check(hub);
    record_check(hub);
    peers_check(hub);
}

static int tear_down(void **state)
{
    (void)state;
    check();
    drain_free(hub);
    lease_free(hub);
    record_free(hub);
    peers_free(hub);
    rig_fini(&rig);
    return 0;
}

/* The store answers the renewal that is under way. */
static void renewed(bool present)
{
    const struct bus_node self = {.id = "self", .score = 1, .lease_ms = LEASE_MS};
    rig.heard_ms = hub->now_ms;
    lease_on_renewed(hub, rig.tag, STATUS_OK, present, &self, 1);
    check();
}

/* The own id is free, and the first renewal is answered. */
static void start(void)
{
    lease_start(hub);
    lease_on_connected(hub);
    assert_int_equal(rig.lists, 1);
    rig.list_done(rig.list_ctx, STATUS_OK, NULL, 0, NULL);
    assert_int_equal(rig.renewals, 1);
    renewed(false);
    assert_int_equal(hub->state, NODE_UP);
    assert_int_equal(back, 1);
}

static void a_node_acts_from_its_first_answer_until_a_margin_before_the_end(void **state)
{
    (void)state;
    assert_false(node_has_lease(hub));
    start();
    assert_true(node_has_lease(hub));
    assert_int_equal(hub->act_until_ms, hub->now_ms + LEASE_MS - LEASE_MS / 8);
    assert_int_equal(emptied, 0);
    rig_pass(&rig, 1);
    lease_enforce(hub, hub->now_ms);
    assert_int_equal(lapsed, 0);
}

static void it_is_renewed_every_half_second_one_at_a_time(void **state)
{
    (void)state;
    start();
    rig_pass(&rig, 500);
    assert_int_equal(rig.renewals, 2);
    rig_pass(&rig, 1000);
    assert_int_equal(rig.renewals, 2); /* no answer yet */
    renewed(true);
    rig_pass(&rig, 1);
    assert_int_equal(rig.renewals, 3);
}

static void what_ran_out_fences_once_and_comes_back(void **state)
{
    (void)state;
    start();
    uint64_t runs = hub->lease_runs;
    rig_pass(&rig, LEASE_MS);
    lease_enforce(hub, hub->now_ms);
    lease_enforce(hub, hub->now_ms);
    assert_int_equal(lapsed, 1);
    assert_int_equal(fenced, 1);
    assert_int_equal(hurried, 1);
    assert_int_equal(hub->state, NODE_FENCED);
    assert_int_equal(hub->lease_runs, runs + 1);
    check();
    rig_pass(&rig, 500);
    lease_on_renewed(hub, rig.tag, STATUS_IO, false, NULL, 0);
    rig_pass(&rig, 500);
    renewed(true);
    assert_int_equal(back, 2);
    assert_int_equal(hub->state, NODE_UP);
}

/* From the margin on, before the lease is over. */
static void begin_to_fence(void)
{
    start();
    hub->counts.owned = hub->counts.sessions = 1000;
    rig_pass(&rig, LEASE_MS - LEASE_MS / 8);
    lease_enforce(hub, hub->now_ms);
    assert_int_equal(fenced, 1);
    assert_int_equal(hurried, 0);
    assert_true(lease_is_fencing(hub));
    assert_false(node_has_lease(hub));
    check();
}

static void a_fence_in_time_goes_in_portions_and_hurries_before_the_lease_is_over(void **state)
{
    (void)state;
    begin_to_fence();
    rig_pass(&rig, LEASE_MS / 8 - 65);
    lease_enforce(hub, hub->now_ms);
    assert_int_equal(hurried, 0);
    rig_pass(&rig, 10); /* 50 ms for a turn, 10 for the sessions */
    lease_enforce(hub, hub->now_ms);
    assert_int_equal(hurried, 1);
    assert_false(lease_is_fencing(hub));
    lease_enforce(hub, hub->now_ms);
    assert_int_equal(hurried, 1);
    assert_int_equal(fenced, 1);
    check();
    hub->counts.owned = hub->counts.sessions = 0;
}

static void a_renewal_counts_when_the_fence_is_over(void **state)
{
    (void)state;
    begin_to_fence();
    renewed(true);
    assert_false(node_has_lease(hub));
    assert_int_equal(back, 1);
    rig_pass(&rig, LEASE_MS / 8); /* the lease is longer by now: no haste */
    lease_enforce(hub, hub->now_ms);
    assert_int_equal(hurried, 0);
    lease_fence_is_over(hub);
    assert_true(node_has_lease(hub));
    assert_int_equal(back, 2);
    assert_int_equal(hub->state, NODE_UP);
    check();
    hub->counts.owned = hub->counts.sessions = 0;
}

static void where_it_serves_on_it_lapses_and_is_not_fenced(void **state)
{
    (void)state;
    hub->conf->redis.on_loss = ON_LOSS_SERVE;
    start();
    rig_pass(&rig, LEASE_MS);
    lease_enforce(hub, hub->now_ms);
    assert_int_equal(lapsed, 1);
    assert_int_equal(fenced, 0);
    assert_int_equal(hub->state, NODE_UP);
}

static void an_inbox_that_is_not_heard_makes_no_lease_longer(void **state)
{
    (void)state;
    start();
    uint64_t until_ms = hub->act_until_ms;
    rig_pass(&rig, 500);
    rig.heard_ms = hub->now_ms - LEASE_MS;
    lease_on_renewed(hub, rig.tag, STATUS_OK, true, NULL, 0);
    assert_int_equal(hub->act_until_ms, until_ms);
}

static void an_entry_that_is_gone_says_that_the_store_lost_data(void **state)
{
    (void)state;
    start();
    rig_pass(&rig, 500);
    renewed(false);
    assert_int_equal(emptied, 1);
}

static void a_drain_waits_for_hand_overs_two_seconds_at_most(void **state)
{
    (void)state;
    hub->conf->node.lease_ms = 60000;
    start();
    hub->conf->node.drain_ms = 1000;
    handing_over = true;
    clients = hub->counts.clients = 100;
    drain_start(hub);
    drain_start(hub);
    assert_int_equal(begun, 1);
    rig_pass(&rig, 1950);
    assert_int_equal(clients, 100);
    check();
    rig_pass(&rig, 550);
    assert_true(clients > 20 && clients < 80); /* spread over node.drain */
    rig_pass(&rig, 600);
    assert_int_equal(clients, 0);
    assert_int_equal(hub->state, NODE_STOPPED);
}

static void what_is_not_settled_is_released_and_not_waited_for_for_ever(void **state)
{
    (void)state;
    hub->conf->node.lease_ms = 60000;
    start();
    hub->conf->node.drain_ms = 1000;
    settled = false;
    drain_start(hub);
    rig_pass(&rig, 900);
    assert_int_equal(released, 0);
    assert_false(drain_is_late(hub));
    rig_pass(&rig, 200);
    assert_int_equal(released, 1);
    assert_int_equal(hub->state, NODE_STOPPED);
    rig_pass(&rig, 10000);
    assert_int_equal(released, 1);
}

static void a_node_without_a_lease_waits_for_nothing(void **state)
{
    (void)state;
    start();
    hub->conf->node.drain_ms = 60000;
    hub->act_until_ms = 0;
    handing_over = true;
    settled = false;
    drain_start(hub);
    rig_pass(&rig, 0);
    assert_int_equal(hub->state, NODE_STOPPED);
}

static void records_of_sessions_have_a_budget_a_lease(void **state)
{
    (void)state;
    for (size_t i = 0; i < 1000; i++)
        assert_true(record_spend(hub));
    assert_false(record_spend(hub));
    rig_pass(&rig, LEASE_MS - 1);
    assert_false(record_spend(hub));
    rig_pass(&rig, 1);
    assert_true(record_spend(hub));
    check();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(
            a_node_acts_from_its_first_answer_until_a_margin_before_the_end, set_up, tear_down),
        cmocka_unit_test_setup_teardown(it_is_renewed_every_half_second_one_at_a_time, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(what_ran_out_fences_once_and_comes_back, set_up, tear_down),
        cmocka_unit_test_setup_teardown(
            a_fence_in_time_goes_in_portions_and_hurries_before_the_lease_is_over, set_up,
            tear_down),
        cmocka_unit_test_setup_teardown(a_renewal_counts_when_the_fence_is_over, set_up, tear_down),
        cmocka_unit_test_setup_teardown(where_it_serves_on_it_lapses_and_is_not_fenced, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(an_inbox_that_is_not_heard_makes_no_lease_longer, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(an_entry_that_is_gone_says_that_the_store_lost_data, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_drain_waits_for_hand_overs_two_seconds_at_most, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(what_is_not_settled_is_released_and_not_waited_for_for_ever,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_node_without_a_lease_waits_for_nothing, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(records_of_sessions_have_a_budget_a_lease, set_up,
                                        tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
