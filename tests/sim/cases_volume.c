/*
 * Histories written down step by step: much waits, and goes on in portions (sim.h, node_works).
 */
#include <stdio.h>
#include <string.h>

#include "cases.h"

#define MANY_PUSHES   4000u
#define MANY_COMMANDS 800u /* within a client's rate and its queue */

static bool n0_is_connected(const struct world *world)
{
    return world->nodes[0].bus->connected && world->nodes[1].bus->sub_up;
}

static void many_pushes_wait_for_the_store(struct world *world)
{
    world->conf->redis.on_loss = ON_LOSS_SERVE;
    n0_owns_n1_watches(world);
    store_stop(world, false);
    for (unsigned i = 0; i < MANY_PUSHES; i += 10) {
        for (unsigned k = 0; k < 10; k++)
            backend_push(world, 0, "push");
        world_pass(world, MS);
    }
    store_start(world);
    until(world, n0_is_connected, "both nodes are connected again");
    everybody_gets_a_push(world);
    expect(world, one_upstream_ever(world), "the owner kept its upstream");
}

static void many_messages_wait_for_the_backend(struct world *world)
{
    n0_owns_n1_speaks(world);
    backend_stop(world, 0);
    for (unsigned i = 0; i < MANY_COMMANDS; i++) {
        client_says(&world->clients[3]);
        if (i % 10 == 9)
            world_pass(world, MS);
    }
    world_pass(world, 20 * MS);
    world->backend_up[0] = true;
    until(world, all_heard, "all that waited goes upstream");
    nothing_was_lost(world);
}

static const struct sim_case list[] = {
    {.name = "much that waits for the store goes out in portions",
     .script = many_pushes_wait_for_the_store,
     .history = 100},
    {.name = "much that waits for the store goes out in portions, without a history",
     .script = many_pushes_wait_for_the_store,
     .history = 0},
    {.name = "much that waits for the backend goes upstream in portions",
     .script = many_messages_wait_for_the_backend,
     .history = 10},
};
const struct sim_cases volume_cases = {list, sizeof(list) / sizeof(list[0])};
