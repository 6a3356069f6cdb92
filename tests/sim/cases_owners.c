/*
 * Written histories: which node owns a session, and what a node does when it no longer does.
 */
#include <stdio.h>
#include <string.h>

#include "cases.h"

/* The epoch within a claim. */

static void hold_up_the_claim(struct world *world, struct sim_request *request)
{
    if (request->kind != REQUEST_CLAIM || !request->other[0])
        return;
    world->spy = NULL;
    link_stall(request->node, 500 * MS);
}

static void a_claim_names_an_epoch_that_is_over(struct world *world)
{
    all_up(world);
    client_start(world, 0, 0);
    until(world, n0_owns, "n0 owns the session");
    client_start(world, 6, 1);
    until(world, watchers_welcome, "n1 is a member");
    world->spy = hold_up_the_claim;
    node_pause(&world->nodes[0]);
    until(world, spy_is_gone, "n1 finds n0 dead and claims");
    node_resume(&world->nodes[0]);
    until(world, n0_owns, "n0 has claimed anew");
    sub_cut(&world->nodes[0], true); /* otherwise it would learn that it is no owner any more */
    world_pass(world, LEASE_US);
    expect(world, n0_owns(world), "n0 keeps what it has claimed anew");
    everybody_gets_a_push(world);
}

/* A message reaches a former owner that does not know its successor. */

static void let_n1_hear_the_transfer(struct world *world, struct sim_request *request)
{
    if (request->kind != REQUEST_TRANSFER)
        return;
    world->spy = NULL;
    world->nodes[1].unheard = false;
    link_stall(request->node, 400 * MS); /* n1 has time to connect */
}

static void until_n0_renews(struct world *world, struct sim_request *request)
{
    if (request->kind == REQUEST_RENEW && request->node->index == 0)
        world->spy = NULL;
}

static void a_member_misses_an_owner(struct world *world)
{
    n0_owns_n1_speaks(world);
    client_start(world, 6, 2);
    until(world, watchers_welcome, "n2 is a member");
    world->spy = until_n0_renews;
    until(world, spy_is_gone, "n0 renews its lease");
    uint64_t renewed_us = world->now_us;
    world_pass(world, 10 * MS);
    link_stall(&world->nodes[0], 10 * LEASE_US); /* its confirmation does not arrive */
    n1_says(world);
    until(world, all_heard, "the message goes upstream");
    world_pass(world, renewed_us + FENCE_US - world->now_us);
    unhear(&world->nodes[1]);
    link_blink(&world->nodes[0]);
    until(world, n0_owns, "n0 was fenced and has claimed anew");
    until(world, watchers_welcome, "n2 is its member");
    world_pass(world, 20 * MS);
    world->spy = let_n1_hear_the_transfer;
    node_drain(&world->nodes[0]);
    until(world, n2_owns, "n2 has taken over");
    world_pass(world, 3 * LEASE_US);
    n1_says(world);
    until(world, all_heard, "n1's messages go upstream again");
}

/* A release while the upstream closes. */

static void hold_up_the_answer(struct world *world, struct sim_request *request)
{
    if (request->kind != REQUEST_RELEASE)
        return;
    world->spy = NULL;
    request->node->bus->from_store_us = world->now_us + 300 * MS;
}

static void a_backend_closes_slowly(struct world *world)
{
    all_up(world);
    client_start(world, 0, 0);
    until(world, n0_owns, "n0 owns the session");
    world->closes_slowly = true;
    world->spy = hold_up_the_answer;
    client_leave(&world->clients[0], 1001);
    world_pass(world, 600 * MS);     /* linger is over */
    sub_cut(&world->nodes[0], true); /* otherwise it would learn of the next owner */
    client_start(world, 6, 1);
    world_pass(world, 3 * LEASE_US);
    everybody_gets_a_push(world);
}

/* A member leaves during a hand-over. */

static void leave_with_the_transfer(struct world *world, struct sim_request *request)
{
    if (request->kind != REQUEST_TRANSFER)
        return;
    world->spy = NULL;
    link_stall(&world->nodes[2], 100 * MS); /* its LEAVE comes when the TAKE has named it */
    client_leave(&world->clients[6], 1001);
}

static void a_member_leaves_in_between(struct world *world)
{
    n0_owns_n1_speaks(world);
    client_start(world, 6, 2);
    until(world, watchers_welcome, "n2 is a member");
    world->spy = leave_with_the_transfer;
    node_drain(&world->nodes[0]);
    until(world, n1_owns, "n1 has taken over");
    client_leave(&world->clients[3], 1001);
    world_pass(world, 5 * LEASE_US);
    expect(world, !world_keeps(world), "nothing is kept for who is gone");
}

/* A reading of the leases begins before the owner renews, and is answered after its deadline. */

static uint64_t answer_us; /* when n1's next reading is answered */

static void hold_up_the_reading(struct world *world, struct sim_request *request)
{
    if (request->kind != REQUEST_RENEW || request->node->index != 1)
        return;
    world->spy = NULL;
    request->node->bus->from_store_us = answer_us;
}

static void an_owner_renews_at_the_last_moment(struct world *world)
{
    n0_owns_n1_watches(world);
    node_pause(&world->nodes[1]); /* so that it reads right after n0 has renewed */
    world_pass(world, 300 * MS);
    world->spy = until_n0_renews;
    until(world, spy_is_gone, "n0 renews its lease");
    world_pass(world, 10 * MS);
    link_stall(&world->nodes[0], 840 * MS);
    node_resume(&world->nodes[1]);
    uint64_t read_us = world->now_us;
    world_pass(world, read_us + 480 * MS - world->now_us);
    answer_us = read_us + 620 * MS; /* less than half of a lease before the next one */
    world->spy = hold_up_the_reading;
    until(world, spy_is_gone, "n1 reads");
    world_pass(world, 150 * MS);
    answer_us = read_us + 1060 * MS;
    world->spy = hold_up_the_reading;
    until(world, spy_is_gone, "n1 reads before n0 has renewed");
    world_pass(world, 2 * LEASE_US);
    expect(world, n0_owns(world), "n0 keeps what it has");
    expect(world, one_upstream_ever(world), "n0 keeps its upstream");
    everybody_gets_a_push(world);
}

/* A process that is stopped in the middle of a turn. */

static void a_node_stops_while_a_client_comes(struct world *world)
{
    all_up(world);
    client_start(world, 0, 0);
    until(world, n0_owns, "n0 owns the session");
    client_leave(&world->clients[0], 1001);
    world_pass(world, 50 * MS);
    world->turn_us = 50 * MS;
    backend_push(world, 0, "marker-0");
    world_pass(world, 5 * MS);
    world->nodes[0].stops_us = 3 * LEASE_US;
    client_start(world, 0, 0);
    world_pass(world, 100 * MS);
    world->turn_us = 0;
    until(world, n0_owns, "n0 owns the session again");
    everybody_gets_a_push(world);
}

static void a_node_stops_while_the_last_client_leaves(struct world *world)
{
    all_up(world);
    client_start(world, 0, 0);
    until(world, n0_owns, "n0 owns the session");
    node_drain(&world->nodes[0]);
    world_pass(world, 50 * MS);
    world->turn_us = 50 * MS;
    backend_push(world, 0, "marker-0");
    world_pass(world, 5 * MS);
    world->nodes[0].stops_us = 3 * LEASE_US;
    client_leave(&world->clients[0], 1001);
    world_pass(world, 100 * MS);
    world->turn_us = 0;
    world_pass(world, 5 * LEASE_US);
    expect(world, !world_keeps(world), "nothing is kept for who is gone");
}

/* Two nodes that wait for their next claim at a store that is too young. */

static void a_node_waits_for_its_next_claim(struct world *world)
{
    all_up(world);
    world->store.started_us = world->now_us;
    client_start(world, 0, 0);
    world_pass(world, 120 * MS);
    client_start(world, 6, 1); /* claims as often, each time a little later */
    until(world, n0_owns, "n0 owns the session");
    world_pass(world, 60 * MS);
    expect(world, watchers_welcome(world), "n1 is a member before its next claim");
    everybody_gets_a_push(world);
}

/* The data in Redis are deleted by hand. */

static void the_data_are_deleted(struct world *world)
{
    n0_owns_n1_watches(world);
    for (int i = 0; i < 20; i++) {
        if (i % 5 == 2)
            store_clear(&world->store);
        backend_push(world, 0, "push");
        world_pass(world, 20 * MS);
    }
    everybody_gets_a_push(world);
    expect(world, !world->gaps, "nobody missed a push");
    expect(world, one_upstream_ever(world), "the owner kept its upstream");
}

static const struct sim_case list[] = {
    {.name = "a claim that names a dead owner does not take what that owner has claimed anew",
     .script = a_claim_names_an_epoch_that_is_over,
     .history = 10},
    {.name = "what was told to an owner is not told again by who has missed the next one",
     .script = a_member_misses_an_owner,
     .history = 10},
    {.name = "a session is not released before its upstream is closed",
     .script = a_backend_closes_slowly,
     .history = 10},
    {.name = "who leaves while the session is handed over keeps nothing open",
     .script = a_member_leaves_in_between,
     .history = 10},
    {.name = "an owner that renewed while it was being found dead stays the owner",
     .script = an_owner_renews_at_the_last_moment,
     .history = 10},
    {.name = "a node that is stopped while a client comes serves it",
     .script = a_node_stops_while_a_client_comes,
     .history = 10},
    {.name = "a node that is stopped while the last client leaves keeps nothing",
     .script = a_node_stops_while_the_last_client_leaves,
     .history = 10},
    {.name = "who waits for its next claim joins whoever is granted it",
     .script = a_node_waits_for_its_next_claim,
     .history = 10},
    {.name = "data deleted by hand cost no owner its session, and no member a push",
     .script = the_data_are_deleted,
     .history = 10},
};
const struct sim_cases owner_cases = {list, sizeof(list) / sizeof(list[0])};
