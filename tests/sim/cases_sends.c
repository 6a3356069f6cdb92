/*
 * Written histories: SENDs whose ttl is over before they can go, and what a client with a replay
 * gets first.
 */
#include <stdio.h>
#include <string.h>

#include "cases.h"

#define TTL_MS 300u

/* --- ttl --- */

/* n0 owns the session; client 6 is to send from n1, or from n0. */
static void n0_owns_6_sends_at(struct world *world, int node)
{
    all_up(world);
    client_start(world, 0, 0);
    until(world, n0_owns, "n0 owns the session");
    client_start(world, 6, node);
    until(world, watchers_welcome, "client 6 is welcome");
    backend_push(world, 0, "push"); /* it has a position to resume at */
    world_pass(world, 100 * MS);
    client_sends(&world->clients[6], 1, TTL_MS);
    world_pass(world, 100 * MS);
    expect(world, world->clients[6].acked == 1 && world->commands == 1, "its first SEND goes");
}

static bool six_is_told(const struct world *world)
{
    return world->clients[6].expired == 2;
}

/* SEND 2 does not go: the client is told once, and again after each repeat. */
static void it_never_goes(struct world *world)
{
    until(world, six_is_told, "client 6 is told that its SEND expired");
    world_pass(world, 3 * LEASE_US);
    expect(world, world->clients[6].expirations == 1, "it is told once");
    client_sends(&world->clients[6], 2, TTL_MS);
    world_pass(world, 3 * LEASE_US);
    expect(world, world->clients[6].expirations == 2, "and again where it comes again");
    expect(world, world->commands == 1, "it does not go");
    client_sends(&world->clients[6], 3, TTL_MS);
    world_pass(world, LEASE_US);
    expect(world, world->clients[6].acked == 3 && world->commands == 2, "the next one does");
}

static void it_is_on_its_way_for_too_long(struct world *world)
{
    n0_owns_6_sends_at(world, 1);
    link_stall(&world->nodes[1], 2 * TTL_MS * MS);
    client_sends(&world->clients[6], 2, TTL_MS);
    it_never_goes(world);
}

static void the_store_is_away_for_too_long(struct world *world)
{
    world->conf->redis.on_loss = ON_LOSS_SERVE;
    n0_owns_6_sends_at(world, 1);
    store_stop(world, false);
    world_pass(world, 2 * LEASE_US);
    client_sends(&world->clients[6], 2, TTL_MS);
    world_pass(world, 2 * TTL_MS * MS);
    store_start(world);
    it_never_goes(world);
}

static void the_owner_dies_with_it(struct world *world)
{
    n0_owns_6_sends_at(world, 1);
    backend_stop(world, 0);
    world_pass(world, 20 * MS);
    client_sends(&world->clients[6], 2, TTL_MS);
    world_pass(world, 20 * MS);
    node_crash(&world->nodes[0]);
    world_pass(world, 2 * LEASE_US);
    world->backend_up[0] = true;
    it_never_goes(world);
}

static void the_owner_is_killed_after_it_went(struct world *world)
{
    n0_owns_6_sends_at(world, 1);
    node_crash(&world->nodes[0]);
    client_sends(&world->clients[6], 1, TTL_MS);
    world_pass(world, 5 * LEASE_US);
    expect(world, world->clients[6].acked == 1 && !world->clients[6].expirations,
           "what went is acknowledged, and has not expired");
    expect(world, world->commands == 1, "nor does it go again");
}

/* n1 goes on, but the owner that knows what went is killed, and the next one is away for longer
 * than the ttl. */
static void it_comes_again_to_an_owner_that_is_away(struct world *world)
{
    n0_owns_6_sends_at(world, 1);
    client_start(world, 9, 2);
    until(world, watchers_welcome, "n2 is a member");
    client_sends(&world->clients[6], 2, TTL_MS);
    world_pass(world, 100 * MS);
    node_crash(&world->nodes[0]);
    node_pause(&world->nodes[1]);
    until(world, n2_owns, "n2 has taken over");
    node_resume(&world->nodes[1]);
    world_pass(world, 2 * LEASE_US);
    node_pause(&world->nodes[2]);
    client_sends(&world->clients[6], 1, TTL_MS);
    world_pass(world, 2 * TTL_MS * MS);
    node_resume(&world->nodes[2]);
    world_pass(world, LEASE_US);
    expect(world, world->clients[6].acked == 1 && !world->clients[6].expirations,
           "what went is acknowledged, and has not expired");
    expect(world, world->commands == 2, "nor does it go again");
}

/* Client 6 leaves n1, which knew what went as the owner did, and comes back. */
static void its_session_ends_at_the_member(struct world *world)
{
    n0_owns_6_sends_at(world, 1);
    client_leave(&world->clients[6], 1001);
    world_pass(world, LEASE_US);
    node_crash(&world->nodes[0]);
    client_start(world, 6, 1);
    world_pass(world, 1010 * MS); /* before n1 has taken over */
    expect(world, world->clients[6].welcomed, "client 6 is welcome again");
    client_sends(&world->clients[6], 1, TTL_MS);
    world_pass(world, 5 * LEASE_US);
    expect(world, world->clients[6].acked == 1 && !world->clients[6].expirations,
           "what went is acknowledged, and has not expired");
    expect(world, world->commands == 1, "nor does it go again");
}

/* Client 6 connects to n1, to which n0 has handed the session over. */
static void it_expires_before_a_hand_over(struct world *world)
{
    n0_owns_6_sends_at(world, 0);
    client_start(world, 9, 1);
    until(world, watchers_welcome, "n1 is a member");
    backend_stop(world, 0);
    world_pass(world, 20 * MS);
    client_sends(&world->clients[6], 2, TTL_MS);
    until(world, six_is_told, "client 6 is told that its SEND expired");
    node_drain(&world->nodes[0]);
    world->backend_up[0] = true;
    until(world, n1_owns, "n1 has taken over");
    client_leave(&world->clients[6], 1012);
    world_pass(world, 5 * MS);
    client_start(world, 6, 1);
    until(world, watchers_welcome, "client 6 is welcome at n1");
    client_sends(&world->clients[6], 2, TTL_MS);
    world_pass(world, 3 * LEASE_US);
    expect(world, world->clients[6].expirations == 2, "it is told there, too");
    expect(world, world->commands == 1, "it does not go");
}

/* --- replay --- */

static void push(struct world *world, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        backend_push(world, 0, "push");
        world_pass(world, 5 * MS);
    }
}

/* n0 owns the session and writes each push at once, so that the history has all. */
static void n0_keeps(struct world *world, unsigned n)
{
    world->conf->services[0]->history.every_ms = 0;
    n0_owns_n1_watches(world);
    client_leave(&world->clients[6], 1001);
    push(world, n);
    world_pass(world, 10 * MS);
}

/* Client 6 connects to that node and asks for the last n. */
static void six_asks_for(struct world *world, unsigned n, int node)
{
    world->clients[6].replay = n;
    client_start(world, 6, node);
    until(world, watchers_welcome, "client 6 is welcome");
    world_pass(world, 50 * MS);
}

static void the_last_ones_come_first(struct world *world)
{
    const struct sim_client *client = &world->clients[6];
    n0_keeps(world, 8);
    uint64_t last = world->clients[0].at.offset;
    for (int node = 0; node < NODES && !world->failure; node++) {
        six_asks_for(world, 3, node);
        expect(world, client->got == 3 && client->at.offset == last, "the last three come");
        expect(world, client->begun.offset == last - 3, "WELCOME names the position before them");
        expect(world, !client->resumed && !world->gaps,
               "it resumes nothing, and nothing is missing");
        client_leave(&world->clients[6], 1001);
        world_pass(world, 5 * MS);
    }
}

static void the_backend_is_away(struct world *world)
{
    n0_keeps(world, 5);
    backend_stop(world, 0);
    world_pass(world, 100 * MS);
    six_asks_for(world, 3, 2);
    expect(world, world->clients[6].got == 3, "the last three come, though the backend is away");
}

static void they_are_of_two_epochs(struct world *world)
{
    const struct sim_client *client = &world->clients[6];
    n0_owns_n1_watches(world);
    push(world, 4);
    uint64_t epoch = world->clients[6].at.epoch;
    node_crash(&world->nodes[0]);
    until(world, n1_owns, "n1 has taken over");
    push(world, 2);
    client_start(world, 9, 1);
    client_leave(&world->clients[6], 1001);
    world_pass(world, 100 * MS);
    client_start(world, 0, 1);
    six_asks_for(world, 4, 2);
    expect(world, client->begun.epoch == epoch, "WELCOME's position is in the epoch before");
    expect(world, client->got == 4, "two of each epoch come");
}

/* Pushes keep coming: the client gets the kept ones first, then the others, each once. */
static void they_come_before_live_ones(struct world *world)
{
    const struct sim_client *client = &world->clients[6];
    n0_keeps(world, 8);
    world->clients[6].replay = 5;
    client_start(world, 6, 2);
    uint64_t before = world->clients[0].at.offset;
    push(world, 20);
    world_pass(world, 100 * MS);
    expect(world, client->begun.offset + 5 >= before, "it begins with the last five");
    expect(world, client->at.offset == world->clients[0].at.offset, "it has what all have");
    expect(world, client->got == client->at.offset - client->begun.offset, "each once");
}

/* The owner, alone, writes its history late: what is on its way when a member joins are the last
 * ones that are kept, no live ones. */
static void they_are_written_late(struct world *world)
{
    const struct sim_client *client = &world->clients[6];
    world->conf->services[0]->history.every_ms = 60 * 1000;
    n0_owns_n1_watches(world);
    push(world, 4);
    client_leave(&world->clients[6], 1001);
    world_pass(world, 1000 * MS);
    for (int node = 1; node < NODES && !world->failure; node++) {
        push(world, 8);
        uint64_t last = world->clients[0].at.offset;
        six_asks_for(world, 3, node);
        expect(world, client->at.offset == last, "the last one comes");
        expect(world, client->got == 3 && client->begun.offset == last - 3,
               "three come, and no more");
        client_leave(&world->clients[6], 1001);
        world_pass(world, 1000 * MS);
    }
}

static const struct sim_case list[] = {
    {.name = "ttl: a SEND that was on its way to the owner for too long does not go",
     .script = it_is_on_its_way_for_too_long,
     .history = 10},
    {.name = "ttl: a SEND that Redis' absence held up for too long does not go",
     .script = the_store_is_away_for_too_long,
     .history = 10},
    {.name = "ttl: a SEND whose owner died does not go from the next one when its time is over",
     .script = the_owner_dies_with_it,
     .history = 10},
    {.name = "ttl: a SEND that went has not expired, whoever was killed since",
     .script = the_owner_is_killed_after_it_went,
     .history = 10},
    {.name = "ttl: a SEND that went has not expired, whatever the next owner knows",
     .script = it_comes_again_to_an_owner_that_is_away,
     .history = 10},
    {.name = "ttl: a SEND that went has not expired, though its session ended here meanwhile",
     .script = its_session_ends_at_the_member,
     .history = 10},
    {.name = "ttl: who takes a session over knows which SENDs have expired",
     .script = it_expires_before_a_hand_over,
     .history = 10},
    {.name = "replay: the last ones that are kept come first, on each node",
     .script = the_last_ones_come_first,
     .history = 10},
    {.name = "replay: while the backend is away, too",
     .script = the_backend_is_away,
     .history = 10},
    {.name = "replay: those of a former epoch, too",
     .script = they_are_of_two_epochs,
     .history = 10},
    {.name = "replay: then those that come meanwhile, each once",
     .script = they_come_before_live_ones,
     .history = 20},
    {.name = "replay: as many, though the owner writes them late",
     .script = they_are_written_late,
     .history = 30},
};
const struct sim_cases send_cases = {list, sizeof(list) / sizeof(list[0])};
