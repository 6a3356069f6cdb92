/*
 * What the files of written histories share, and seeds whose histories once broke a promise. A
 * written history is one in which the protocol failed, or would fail without one of its safeguards,
 * and which is too rare to come up by chance.
 */
#include <stdio.h>
#include <string.h>

#include "cases.h"

void expect(struct world *world, bool holds, const char *what)
{
    if (!holds)
        world_fail(world, "not so: %s", what);
}

void until(struct world *world, condition_fn *condition, const char *what)
{
    uint64_t end_us = world->now_us + SOON_US;
    while (!world->failure && !condition(world)) {
        if (world->now_us >= end_us)
            world_fail(world, "in vain for: %s", what);
        world_pass(world, STEP_US);
    }
}

/* Session 0 has the clients 0, 3 (raw), 6 and 9. */
bool has_owner(const struct world *world, int node)
{
    return world->store.records[0].own.there &&
           !strcmp(world->store.records[0].own.owner, world->nodes[node].id) &&
           upstreams_held(world, 0) == 1;
}

bool n0_owns(const struct world *world)
{
    return has_owner(world, 0);
}

bool n2_owns(const struct world *world)
{
    return has_owner(world, 2);
}

bool one_upstream_ever(const struct world *world)
{
    return world->upstreams && !world->upstreams->next;
}

bool all_heard(const struct world *world)
{
    for (int i = 0; i < CLIENTS; i++)
        if (world->clients[i].heard != world->clients[i].said)
            return false;
    return true;
}

bool watchers_welcome(const struct world *world)
{
    for (int i = 0; i < CLIENTS; i++)
        if (world->clients[i].protocol && world->clients[i].connection &&
            !(world->clients[i].open && world->clients[i].welcomed))
            return false;
    return true;
}

bool watchers_up_to_date(const struct world *world)
{
    for (int i = 0; i < CLIENTS; i++)
        if (world->clients[i].open && strcmp(world->clients[i].last_marker, "marker-1") != 0)
            return false;
    return true;
}

void everybody_gets_a_push(struct world *world)
{
    backend_push(world, 0, "marker-1");
    until(world, watchers_up_to_date, "a push reaches every client");
}

void all_up(struct world *world)
{
    for (int i = 0; i < NODES; i++)
        while (!world->failure && hub_state(world->nodes[i].hub) != NODE_UP)
            world_pass(world, STEP_US);
}

/* n0 owns session 0 and has a client; the client of n1 is raw, so that it may send. */
void n0_owns_n1_speaks(struct world *world)
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

void n1_says(struct world *world)
{
    client_says(&world->clients[3]);
    world_pass(world, 5 * MS);
}

void nothing_was_lost(struct world *world)
{
    const struct sim_client *client = &world->clients[3];
    expect(world, client->arrived == client->said, "every message arrived");
}

bool spy_is_gone(const struct world *world)
{
    return !world->spy;
}

void unhear(struct sim_node *node)
{
    node->unheard = true;
    sub_cut(node, false);
}

void n0_owns_n1_watches(struct world *world)
{
    all_up(world);
    client_start(world, 0, 0);
    until(world, n0_owns, "n0 owns the session");
    client_start(world, 6, 1);
    until(world, watchers_welcome, "n1 is a member");
    world_pass(world, 3 * LEASE_US); /* nothing is left of what a new owner always publishes */
}

bool n1_owns(const struct world *world)
{
    return has_owner(world, 1);
}

static const struct sim_case list[] = {
    {.name = "seed 371: a membership of the life before kept an upstream open", .seed = 371},
    {.name = "seed 862: a membership of the life before kept an upstream open", .seed = 862},
    {.name =
         "seed 1860: a client that resumed ahead of its node was told of a gap before its position",
     .seed = 1860},
    {.name = "seed 4784: what the last owner had sent upstream was sent again after a TAKE that "
             "never came",
     .seed = 4784},
    {.name = "seed 5914: a member that missed an owner told its messages twice", .seed = 5914},
    {.name = "seed 11945: what the last owner had sent upstream was sent again after a TAKE that "
             "never came",
     .seed = 11945},
    {.name = "seed 13612: a late TAKE brought back the life before of a member", .seed = 13612},
    {.name = "seed 13937: the end of an epoch was taken for a double", .seed = 13937},
    {.name = "seed 15184: what was handed back was taken from an old connection", .seed = 15184},
    {.name = "seed 15240: a client that resumed was told of a gap before its position",
     .seed = 15240},
    {.name = "seed 24587: a push that an earlier subscription still heard hid the one after it",
     .seed = 24587},
    {.name = "seed 25412: a late TAKE brought back the life before of a member", .seed = 25412},
    {.name = "seed 37232: what a member told before it was taken for dead went upstream again",
     .seed = 37232},
    {.name = "seed 57000: a client that resumed was told of a gap of an older epoch",
     .seed = 57000},
    {.name = "seed 58618: the end of an epoch was lost where two claims were granted in a row",
     .seed = 58618},
    {.name = "seed 61374: without a history, a second interruption was forgotten over the first",
     .seed = 61374},
    {.name = "seed 100080: a client that resumed was told of a gap of an older epoch",
     .seed = 100080},
    {.name = "seed 11827: the history ran ahead of a member, whose owner died before its next push",
     .seed = 11827},
    {.name = "seed 12034: a gap that was in bytes already was to speak for more", .seed = 12034},
    {.name = "seed 211648: a store that lost its data granted a session whose upstream was closing",
     .seed = 211648},
};
const struct sim_cases seed_cases = {list, sizeof(list) / sizeof(list[0])};
