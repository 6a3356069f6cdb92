/*
 * Histories written down step by step: each a way in which the protocol has been broken, or would be without one of its safeguards,
 * and too rare to be met by chance. And seeds whose histories once broke a promise.
 */
#include <stdio.h>
#include <string.h>

#include "sim.h"

#define MS 1000u
#define STEP_US MS       /* how finely conditions are looked at */
#define SOON_US 5000000u /* all that must happen happens within this */
#define LEASE_US 1000000u /* of main.c */
#define FENCE_US 900000u  /* after the last renewal: over the margin, before anybody else's judgement */

typedef bool condition_fn(const struct world *world);

static void expect(struct world *world, bool holds, const char *what)
{
    if (!holds)
        world_fail(world, "not so: %s", what);
}

static void until(struct world *world, condition_fn *condition, const char *what)
{
    uint64_t end_us = world->now_us + SOON_US;
    while (!world->failure && !condition(world)) {
        if (world->now_us >= end_us)
            world_fail(world, "in vain for: %s", what);
        world_pass(world, STEP_US);
    }
}

/* Session 0 has the clients 0, 3 (raw), 6 and 9. */
static bool has_owner(const struct world *world, int node)
{
    return world->store.records[0].there && !strcmp(world->store.records[0].owner, world->nodes[node].id) && upstreams_held(world, 0) == 1;
}

static bool n0_owns(const struct world *world)
{
    return has_owner(world, 0);
}

static bool n1_owns(const struct world *world)
{
    return has_owner(world, 1);
}

static bool n2_owns(const struct world *world)
{
    return has_owner(world, 2);
}

static bool all_heard(const struct world *world)
{
    for (int i = 0; i < CLIENTS; i++)
        if (world->clients[i].heard != world->clients[i].said)
            return false;
    return true;
}

static bool watchers_welcome(const struct world *world)
{
    for (int i = 0; i < CLIENTS; i++)
        if (world->clients[i].protocol && world->clients[i].connection && !(world->clients[i].open && world->clients[i].welcomed))
            return false;
    return true;
}

static bool watchers_up_to_date(const struct world *world)
{
    for (int i = 0; i < CLIENTS; i++)
        if (world->clients[i].open && strcmp(world->clients[i].last_marker, "marker-1") != 0)
            return false;
    return true;
}

static bool nobody_is_left(const struct world *world)
{
    for (int i = 0; i < NODES; i++) {
        struct hub_counts counts = {0};
        if (world->nodes[i].alive)
            hub_count(world->nodes[i].hub, &counts);
        if (counts.sessions)
            return false;
    }
    return upstreams_held(world, 0) == 0;
}

static void everybody_gets_a_push(struct world *world)
{
    backend_push(world, 0, "marker-1");
    until(world, watchers_up_to_date, "a push reaches every client");
}

static void all_up(struct world *world)
{
    for (int i = 0; i < NODES; i++)
        while (!world->failure && hub_state(world->nodes[i].hub) != NODE_UP)
            world_pass(world, STEP_US);
}

/* n0 owns session 0 with a client of its own; the one of n1 is raw, so that it may speak. */
static void n0_owns_n1_speaks(struct world *world)
{
    all_up(world);
    client_start(world, 0, 0);
    until(world, n0_owns, "n0 owns the session");
    client_start(world, 3, 1);
    world_pass(world, 50 * MS);
    client_says(&world->clients[3]);
    world_pass(world, 10 * MS);
    until(world, all_heard, "the first message goes upstream");
}

static void say(struct world *world)
{
    client_says(&world->clients[3]);
    world_pass(world, 5 * MS);
}

static void nothing_was_lost(struct world *world)
{
    const struct sim_client *client = &world->clients[3];
    expect(world, client->arrived == client->said, "every message arrived");
}

static void unhear(struct sim_node *node)
{
    node->unheard = true;
    sub_cut(node, false);
}

/* The epoch in the claim. */

static void hold_up_the_claim(struct world *world, struct request *request)
{
    if (request->kind != REQUEST_CLAIM || !request->other[0])
        return;
    world->spy = NULL;
    link_stall(request->node, 500 * MS);
}

static bool claim_is_held_up(const struct world *world)
{
    return !world->spy;
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
    until(world, claim_is_held_up, "n1 finds n0 dead and claims");
    node_resume(&world->nodes[0]);
    until(world, n0_owns, "n0 has claimed anew");
    sub_cut(&world->nodes[0], true); /* it would hear that it is none any more */
    world_pass(world, LEASE_US);
    expect(world, n0_owns(world), "n0 keeps what it has claimed anew");
    everybody_gets_a_push(world);
}

/* Commands in the order of their numbers. */

static bool n0_hears(const struct world *world)
{
    return world->nodes[0].bus->sub_up && world->store.inbox[0];
}

static void a_message_to_the_owner_is_lost(struct world *world)
{
    n0_owns_n1_speaks(world);
    unhear(&world->nodes[0]);
    say(world);
    world->nodes[0].unheard = false;
    until(world, n0_hears, "n0 hears its inbox again");
    say(world);
    until(world, all_heard, "what was lost is told again");
    world_pass(world, 2 * LEASE_US);
    nothing_was_lost(world);
}

/* What was told to an owner that somebody else followed, unnoticed. */

static void let_n1_hear_the_transfer(struct world *world, struct request *request)
{
    if (request->kind != REQUEST_TRANSFER)
        return;
    world->spy = NULL;
    world->nodes[1].unheard = false;
    link_stall(request->node, 400 * MS); /* n1 has time to connect */
}

static void a_member_misses_an_owner(struct world *world)
{
    n0_owns_n1_speaks(world);
    client_start(world, 6, 2);
    until(world, watchers_welcome, "n2 is a member");
    link_stall(&world->nodes[0], 10 * LEASE_US); /* its confirmation goes nowhere */
    say(world);
    until(world, all_heard, "the message goes upstream");
    world_pass(world, FENCE_US);
    unhear(&world->nodes[1]);
    link_blink(&world->nodes[0]);
    until(world, n0_owns, "n0 was fenced and has claimed anew");
    until(world, watchers_welcome, "n2 is its member");
    world_pass(world, 20 * MS);
    world->spy = let_n1_hear_the_transfer;
    node_drain(&world->nodes[0]);
    until(world, n2_owns, "n2 has taken over");
    world_pass(world, 3 * LEASE_US);
    say(world);
    until(world, all_heard, "n1's messages go upstream again");
}

/* What was handed back, and comes again from an old connection. */

static void a_command_arrives_late(struct world *world)
{
    n0_owns_n1_speaks(world);
    world->arrives_late = true;
    backend_stop(world, 0);
    world_pass(world, 5 * MS);
    link_stall(&world->nodes[1], 600 * MS);
    say(world);
    link_blink(&world->nodes[1]);
    world_pass(world, 300 * MS); /* told again over the new connection, and handed back */
    world->backend_up[0] = true;
    node_pause(&world->nodes[1]);
    world_pass(world, 3 * LEASE_US); /* the first copy arrives; n1 is found dead */
    node_resume(&world->nodes[1]);
    until(world, all_heard, "the message goes upstream");
    world_pass(world, 2 * LEASE_US);
    nothing_was_lost(world);
}

const struct sim_case cases[] = {
    {.name = "a claim that names a dead owner does not take what that owner has claimed anew",
     .script = a_claim_names_an_epoch_that_is_over, .history = 10},
    {.name = "a member's messages go upstream in the order of their numbers", .script = a_message_to_the_owner_is_lost, .history = 10},
    {.name = "what was told to an owner is not told again by who has missed the next one", .script = a_member_misses_an_owner, .history = 10},
    {.name = "what was handed back is not taken from an old connection", .script = a_command_arrives_late, .history = 10},
};
const size_t cases_len = sizeof cases / sizeof cases[0];
