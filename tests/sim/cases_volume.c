/*
 * Written histories: many clients, commands or sessions wait, come or go at once, and each turn
 * does a portion of the work (sim.h, node_works).
 */
#include <stdio.h>
#include <string.h>

#include "cases.h"

#define MANY_PUSHES   4000u
#define MANY_COMMANDS 800u /* within a client's rate and its queue */
#define CROWD         2500u
#define MANY_SESSIONS 990

/* --- many commands wait --- */

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

/* --- a crowd --- */

static bool crowd_is_there(const struct world *world)
{
    return crowd_open(world) == world->crowd_len;
}

static bool crowd_is_gone(const struct world *world)
{
    return !crowd_open(world);
}

static bool crowd_has_gone_upstream(const struct world *world)
{
    for (size_t i = 0; i < world->crowd_len; i++)
        if (world->crowd[i].heard != world->crowd[i].said)
            return false;
    return true;
}

/* n0 owns the session, n1 is a member, and a crowd comes to one of them. */
static void a_crowd_comes_to(struct world *world, int node, size_t n)
{
    n0_owns_n1_watches(world);
    crowd_comes(world, n, node, 0, 1);
    until(world, crowd_is_there, "the crowd is there");
    world_pass(world, 3 * LEASE_US);
}

static void each_says(struct world *world, unsigned n)
{
    for (unsigned k = 0; k < n; k++) {
        for (size_t i = 0; i < world->crowd_len; i++)
            client_says(&world->crowd[i]);
        world_pass(world, 50 * MS);
    }
}

static void a_crowd_speaks(struct world *world)
{
    size_t *bytes = &world->conf->services[0]->to_upstream.queue_bytes, kept = *bytes;
    *bytes = 4u << 20;
    a_crowd_comes_to(world, 1, 300); /* a third of them is raw */
    backend_stop(world, 0);
    each_says(world, 30);
    world->backend_up[0] = true;
    until(world, crowd_has_gone_upstream, "all that a crowd said goes upstream");
    *bytes = kept;
    expect(world, world->commands == 3000, "once");
}

static void a_crowd_leaves_at_once(struct world *world)
{
    world_presence(world, true);
    a_crowd_comes_to(world, 0, CROWD);
    for (size_t i = 0; i < CROWD; i++)
        client_leave(&world->crowd[i], 1001);
    world->turn_us = 20 * MS; /* in one turn */
    world_pass(world, 40 * MS);
    world->turn_us = 0;
    expect(world, crowd_is_gone(world), "the crowd is gone");
    everybody_gets_a_push(world);
    rosters_check(world, 3 * LEASE_US, "when the crowd has left");
}

static void an_operator_closes_a_session(struct world *world)
{
    a_crowd_comes_to(world, 0, CROWD);
    hub_close_session(world->nodes[0].hub, session_name(0));
    until(world, crowd_is_gone, "the crowd is closed");
    expect(world, crowd_closed_with(world, 4006) == CROWD, "with 4006");
    world_pass(world, LEASE_US);
    expect(world, !world->clients[6].open, "so is the client of n1");
    client_start(world, 0, 0);
    client_start(world, 6, 1);
    until(world, watchers_welcome, "who comes later is welcome");
    world_pass(world, 2 * LEASE_US);
    expect(world, world->clients[0].open && world->clients[6].open, "and stays");
}

/* Their waits end at the same time, except for the jitter. */
static void a_crowd_has_waited_too_long(struct world *world)
{
    uint32_t *wait_ms = &world->conf->services[0]->to_upstream.wait_ms, kept = *wait_ms;
    *wait_ms = 1000;
    a_crowd_comes_to(world, 0, CROWD);
    backend_stop(world, 0);
    world_pass(world, 20 * MS);
    for (size_t i = 0; i < CROWD; i++)
        client_says(&world->crowd[i]);
    world->turn_us = 20 * MS;
    world_pass(world, 40 * MS);
    world->turn_us = 0;
    world_pass(world, 4 * LEASE_US);
    *wait_ms = kept;
    size_t raw = (CROWD + 2) / 3;
    expect(world, crowd_closed_with(world, 4004) == raw, "who has waited too long is closed");
    expect(world, crowd_open(world) == CROWD - raw, "and nobody else");
}

/* All with the same ttl, in one turn. */
static void a_crowd_of_sends_expires_at(struct world *world, int node)
{
    size_t told = 0, sent = 0;
    size_t *bytes = &world->conf->services[0]->to_upstream.queue_bytes, kept = *bytes;
    *bytes = 4u << 20;
    a_crowd_comes_to(world, node, CROWD);
    backend_stop(world, 0);
    world_pass(world, 20 * MS);
    for (size_t i = 0; i < CROWD; i++)
        if (world->crowd[i].protocol)
            client_sends(&world->crowd[i], 1, 500), sent++;
    world->turn_us = 20 * MS;
    world_pass(world, 40 * MS);
    world->turn_us = 0;
    world_pass(world, 4 * LEASE_US);
    *bytes = kept;
    for (size_t i = 0; i < CROWD; i++)
        told += world->crowd[i].expirations == 1;
    expect(world, told == sent, "each is told once that its SEND expired");
    expect(world, !world->commands, "none goes upstream");
}

static void sends_expire_at_the_owner(struct world *world)
{
    a_crowd_of_sends_expires_at(world, 0);
}

static void sends_expire_at_a_member(struct world *world)
{
    a_crowd_of_sends_expires_at(world, 1);
}

/* --- many sessions --- */

static bool n0_owns_all(const struct world *world)
{
    for (int i = SESSIONS; i < SESSIONS + MANY_SESSIONS; i++)
        if (upstreams_held(world, i) != 1 || strcmp(world->store.records[i].own.owner, "n0") != 0)
            return false;
    return true;
}

static void n0_owns_many(struct world *world)
{
    all_up(world);
    crowd_comes(world, MANY_SESSIONS, 0, SESSIONS, MANY_SESSIONS);
    until(world, n0_owns_all, "n0 owns them all");
    world_pass(world, 3 * LEASE_US);
}

static void the_store_loses_many(struct world *world)
{
    n0_owns_many(world);
    store_clear(&world->store);
    store_stop(world, true);
    world_pass(world, 50 * MS);
    store_start(world);
    until(world, n0_owns_all, "the store knows again that n0 owns them all");
    expect(world, crowd_is_there(world), "nobody was closed");
}

static void n0_is_fenced_with_many(struct world *world)
{
    n0_owns_many(world);
    link_stall(&world->nodes[0], 10 * LEASE_US);
    world_pass(world, 2 * LEASE_US);
    for (int i = SESSIONS; i < SESSIONS + MANY_SESSIONS; i++)
        if (upstreams_held(world, i))
            world_fail(world, "%s: its upstream is open, though n0 is fenced", session_name(i));
    size_t told = 0, follow = 0;
    for (size_t i = 0; i < world->crowd_len; i++) {
        told += world->crowd[i].protocol && world->crowd[i].down;
        follow += world->crowd[i].protocol;
    }
    expect(world, told == follow, "each client is told that the upstream is down");
    link_blink(&world->nodes[0]);
    until(world, n0_owns_all, "n0 owns them all again");
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
    {.name = "volume: what a crowd says goes upstream in portions",
     .script = a_crowd_speaks,
     .history = 10},
    {.name = "volume: a crowd that leaves at once",
     .script = a_crowd_leaves_at_once,
     .history = 10},
    {.name = "volume: a session of many clients that an operator closes",
     .script = an_operator_closes_a_session,
     .history = 10},
    {.name = "volume: a crowd whose messages have waited too long",
     .script = a_crowd_has_waited_too_long,
     .history = 10},
    {.name = "volume: a crowd whose SENDs expire at once, at the owner",
     .script = sends_expire_at_the_owner,
     .history = 10},
    {.name = "volume: a crowd whose SENDs expire at once, at a member",
     .script = sends_expire_at_a_member,
     .history = 10},
    {.name = "volume: a store that loses its data, and many sessions",
     .script = the_store_loses_many,
     .history = 10},
    {.name = "volume: a fence with many sessions", .script = n0_is_fenced_with_many, .history = 10},
};
const struct sim_cases volume_cases = {list, sizeof(list) / sizeof(list[0])};
