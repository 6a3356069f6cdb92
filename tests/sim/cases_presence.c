/*
 * Written histories: which clients learn who watches, also when the owner changes.
 */
#include <stdio.h>
#include <string.h>

#include "cases.h"

#define TRUE_US 3000000u /* a lease and 2 s */

/* n0 owns the session; n1 and n2 are members with a client each; every client has the roster. */
static void three_watch(struct world *world)
{
    world_presence(world, true);
    all_up(world);
    client_start(world, 0, 0);
    until(world, n0_owns, "n0 owns the session");
    client_start(world, 3, 1); /* raw */
    client_start(world, 1, 1); /* of another session */
    world->clients[6].one_way = world->clients[9].one_way = false;
    client_start(world, 6, 1);
    client_start(world, 9, 2);
    until(world, watchers_welcome, "all are welcome");
    rosters_check(world, TRUE_US, "when all have come");
    world_pass(world, 3 * LEASE_US);
}

static void hold_up_the_roster(struct world *world, struct sim_request *request)
{
    if (request->kind != REQUEST_TELL || request->node->index != 0)
        return;
    world->spy = NULL;
    link_stall(request->node, 4 * LEASE_US);
}

static bool another_owns(const struct world *world)
{
    return has_owner(world, 1) || has_owner(world, 2);
}

/* A roster is on its way when the owner is fenced, and arrives when there is another owner. */
static void a_roster_arrives_late(struct world *world)
{
    three_watch(world);
    world->spy = hold_up_the_roster;
    client_leave(&world->clients[0], 1001);
    until(world, spy_is_gone, "n0 tells who has left");
    client_start(world, 0, 0);
    until(world, another_owns, "another node owns the session");
    client_leave(&world->clients[3], 1001);
    world_pass(world, 2 * LEASE_US);
    world_pass(world, 3 * LEASE_US);
    rosters_check(world, TRUE_US, "after it has arrived");
}

static void an_owner_dies(struct world *world)
{
    three_watch(world);
    node_crash(&world->nodes[0]);
    until(world, another_owns, "another node owns the session");
    uint64_t steps = world->steps;
    world_pass(world, 200 * MS);
    expect(world, world->steps - steps < 300, "nobody waits for others in circles");
    rosters_check(world, TRUE_US - LEASE_US, "when the owner has died");
}

static void a_member_dies(struct world *world)
{
    three_watch(world);
    node_crash(&world->nodes[1]);
    rosters_check(world, TRUE_US, "when a member has died");
}

static const struct sim_case list[] = {
    {.name = "presence: a roster of a former owner that arrives late is none",
     .script = a_roster_arrives_late,
     .history = 10},
    {.name = "presence: the next owner knows who is there", .script = an_owner_dies, .history = 10},
    {.name = "presence: the clients of a dead member are not there any more",
     .script = a_member_dies,
     .history = 10},
};
const struct sim_cases presence_cases = {list, sizeof(list) / sizeof(list[0])};
