/*
 * Written histories: members of a session, messages that they send and miss, and nodes that start
 * again.
 */
#include <stdio.h>
#include <string.h>

#include "cases.h"

/* Commands in the order of their numbers. */

static bool n0_hears(const struct world *world)
{
    return world->nodes[0].bus->sub_up && world->store.inbox[0];
}

static void a_message_to_the_owner_is_lost(struct world *world)
{
    n0_owns_n1_speaks(world);
    unhear(&world->nodes[0]);
    n1_says(world);
    world->nodes[0].unheard = false;
    until(world, n0_hears, "n0 hears its inbox again");
    n1_says(world);
    until(world, all_heard, "what was lost is told again");
    world_pass(world, 2 * LEASE_US);
    nothing_was_lost(world);
}

/* A command is handed back, and arrives once more from an old connection. */

static void a_command_arrives_late(struct world *world)
{
    n0_owns_n1_speaks(world);
    world->arrives_late = true;
    backend_stop(world, 0);
    world_pass(world, 5 * MS);
    link_stall(&world->nodes[1], 600 * MS);
    n1_says(world);
    link_blink(&world->nodes[1]);
    world_pass(world, 300 * MS); /* sent again over the new connection, and handed back */
    world->backend_up[0] = true;
    unhear(&world->nodes[1]); /* no confirmation reaches it */
    node_pause(&world->nodes[1]);
    world_pass(world, 3 * LEASE_US); /* the first copy arrives; n1 is found dead */
    world->nodes[1].unheard = false;
    node_resume(&world->nodes[1]);
    until(world, all_heard, "the message goes upstream");
    world_pass(world, 2 * LEASE_US);
    nothing_was_lost(world);
}

static void a_leave_arrives_late(struct world *world)
{
    n0_owns_n1_watches(world);
    world->arrives_late = true;
    link_stall(&world->nodes[1], 300 * MS);
    client_leave(&world->clients[6], 1001);
    world_pass(world, 5 * MS);
    link_blink(&world->nodes[1]);
    client_start(world, 6, 1);
    world_pass(world, LEASE_US);
    everybody_gets_a_push(world);
}

/* JOIN after a new subscription. */

static void the_last_push_is_missed(struct world *world)
{
    n0_owns_n1_watches(world);
    unhear(&world->nodes[1]);
    backend_push(world, 0, "marker-1");
    world_pass(world, 50 * MS);
    world->nodes[1].unheard = false;
    until(world, watchers_up_to_date, "the push that was missed reaches every client");
}

/* A node that starts again under its id before anybody finds it dead. */

static void n1_starts_again(struct world *world)
{
    node_crash(&world->nodes[1]);
    node_start(world, 1);
    all_up(world);
}

static void nobody_keeps_a_thing(struct world *world)
{
    client_leave(&world->clients[0], 1001);
    world_pass(world, 5 * LEASE_US);
    expect(world, !world_keeps(world), "nothing is kept for who is gone");
}

static void a_clock_is_set_back(struct world *world)
{
    n0_owns_n1_watches(world);
    world->set_back_us = 2 * LEASE_US;
    n1_starts_again(world);
    client_start(world, 6, 1);
    until(world, watchers_welcome, "n1 is a member again");
    everybody_gets_a_push(world);
    world->set_back_us = 4 * LEASE_US;
    n1_starts_again(world);
    nobody_keeps_a_thing(world);
}

static void the_first_hello_is_lost(struct world *world)
{
    n0_owns_n1_watches(world);
    unhear(&world->nodes[0]);
    n1_starts_again(world);
    world_pass(world, 20 * MS);
    world->nodes[0].unheard = false;
    nobody_keeps_a_thing(world);
}

/* Drops n1's messages to n0. All else reaches n0, so it keeps its lease and sessions. */
static void lose_what_n1_tells_n0(struct world *world, struct sim_request *request)
{
    (void)world;
    if (request->kind == REQUEST_TELL && request->node->index == 1 && !strcmp(request->other, "n0"))
        strcpy(request->other, "n9");
}

static void every_hello_is_lost(struct world *world)
{
    n0_owns_n1_watches(world);
    world->spy = lose_what_n1_tells_n0;
    n1_starts_again(world);
    world_pass(world, 3 * LEASE_US);
    world->spy = NULL;
    world_pass(world, ROLL_CALL_US);
    nobody_keeps_a_thing(world);
}

/* TCP delivers a message of the former life when the new one is already running. */
static void a_message_of_the_life_before_arrives(struct world *world)
{
    n0_owns_n1_watches(world);
    world->arrives_late = true;
    link_stall(&world->nodes[1], 8 * LEASE_US);
    client_leave(&world->clients[6], 1001);
    world_pass(world, 5 * MS);
    n1_starts_again(world);
    client_start(world, 6, 1);
    client_start(world, 3, 1);
    until(world, watchers_welcome, "n1 is a member again");
    world_pass(world, 10 * LEASE_US);
    n1_says(world);
    until(world, all_heard, "n1 is still a member");
    everybody_gets_a_push(world);
}

/* ENDED arrives while a member reads the history. */

static uint64_t read_us; /* when the reading is answered */

static void hold_up_the_history(struct world *world, struct sim_request *request)
{
    if (request->kind != REQUEST_HISTORY || request->node->index != 1)
        return;
    world->spy = NULL;
    read_us = world->now_us + 1350 * MS;
    request->node->bus->answered_us[0] = read_us;
}

static void until_n0_renews_again(struct world *world, struct sim_request *request)
{
    if (request->kind == REQUEST_RENEW && request->node->index == 0)
        world->spy = NULL;
}

/* When n0 claims again, delays n1's link: n1 has read the history before it can ask n0. */
static void hold_up_n1(struct world *world, struct sim_request *request)
{
    if (request->kind != REQUEST_CLAIM || request->node->index != 0)
        return;
    world->spy = NULL;
    link_stall(&world->nodes[1], read_us + 50 * MS - world->now_us);
}

static void n1_reads_the_history(struct world *world)
{
    world->conf->services[0]->history.every_ms = 0; /* a late history is doubted without JOINED */
    n0_owns_n1_watches(world);
    unhear(&world->nodes[1]);
    backend_push(world, 0, "push");
    world_pass(world, 20 * MS);
    world->spy = hold_up_the_history;
    world->nodes[1].unheard = false;
    until(world, spy_is_gone, "n1 reads what it has missed");
}

/* The next publication of n0 reaches only its own client; then n0 is fenced, and claims again. */
static void n0_claims_anew(struct world *world)
{
    world->spy = until_n0_renews_again;
    until(world, spy_is_gone, "n0 renews its lease");
    uint64_t renewed_us = world->now_us;
    world_pass(world, 10 * MS);
    link_stall(&world->nodes[0], 10 * LEASE_US);
    backend_push(world, 0, "push");
    backend_push(world, 0, "push");
    world_pass(world, renewed_us + FENCE_US - world->now_us);
    world->spy = hold_up_n1;
    link_blink(&world->nodes[0]);
    until(world, spy_is_gone, "n0 claims anew");
    until(world, n0_owns, "n0 owns the session again");
}

static void an_end_is_told_while_a_member_reads(struct world *world)
{
    n1_reads_the_history(world);
    n0_claims_anew(world);
    backend_push(world, 0, "marker-1");
    world_pass(world, 5 * MS);
    expect(world, world->now_us < read_us, "n1 reads still");
    until(world, watchers_up_to_date, "a push of the next epoch reaches every client");
    expect(world, world->gaps == 1, "n1's client is told what it misses");
}

/* Two of them in a row, while n1 hears nothing: the history has pushes of three epochs, and lacks
 * the end of two. */

static void until_n0_claims(struct world *world, struct sim_request *request)
{
    if (request->kind == REQUEST_CLAIM && request->node->index == 0)
        world->spy = NULL;
}

static void n0_is_fenced(struct world *world)
{
    backend_push(world, 0, "push");
    world->spy = until_n0_renews_again;
    until(world, spy_is_gone, "n0 renews its lease");
    uint64_t renewed_us = world->now_us;
    world_pass(world, 10 * MS);
    link_stall(&world->nodes[0], 10 * LEASE_US);
    backend_push(world, 0, "push");
    backend_push(world, 0, "push");
    world_pass(world, renewed_us + FENCE_US - world->now_us);
    world->spy = until_n0_claims;
    link_blink(&world->nodes[0]);
    until(world, spy_is_gone, "n0 claims anew");
    until(world, n0_owns, "n0 owns the session again");
}

static void two_ends_are_told_to_who_was_away(struct world *world)
{
    world->conf->services[0]->history.every_ms = 0;
    n0_owns_n1_watches(world);
    backend_push(world, 0, "push");
    world_pass(world, 20 * MS);
    unhear(&world->nodes[1]);
    n0_is_fenced(world);
    n0_is_fenced(world);
    world->nodes[1].unheard = false;
    backend_push(world, 0, "marker-1");
    until(world, watchers_up_to_date, "a push of the next epoch reaches every client");
    expect(world, world->gaps == 2, "n1's client is told what it misses of both epochs");
}

/* Published without the script: a member hears what the history does not have yet. */

static bool client_9_has_eight(const struct world *world)
{
    return world->clients[9].at.offset == 8;
}

static bool client_6_has_eight(const struct world *world)
{
    return world->clients[6].open && world->clients[6].at.offset == 8;
}

static void a_client_resumes_before_the_newest_is_kept(struct world *world)
{
    n0_owns_n1_watches(world);
    client_start(world, 9, 1);
    until(world, watchers_welcome, "client 9 is there");
    world->publishes_plainly = true;
    for (int i = 0; i < 5; i++) {
        backend_push(world, 0, "push");
        world_pass(world, 20 * MS);
    }
    client_leave(&world->clients[6], 1001);
    world_pass(world, 20 * MS);
    for (int i = 0; i < 2; i++) {
        backend_push(world, 0, "push");
        world_pass(world, 20 * MS);
    }
    world->keeps_after_us = 150 * MS;
    backend_push(world, 0, "push");
    until(world, client_9_has_eight, "client 9 has the newest");
    expect(world, world->store.records[0].history.len == 7, "it is not kept yet");
    client_start(world, 6, 1);
    until(world, client_6_has_eight, "client 6 gets all that it has missed");
    expect(world, !world->gaps, "without a GAP");
}

static const struct sim_case list[] = {
    {.name = "a client resumes at a member that has heard what is not kept yet",
     .script = a_client_resumes_before_the_newest_is_kept,
     .history = 20},
    {.name = "the end of an epoch that is told while a member reads is not forgotten",
     .script = an_end_is_told_while_a_member_reads,
     .history = 10},
    {.name = "the ends of two epochs are told to who was away",
     .script = two_ends_are_told_to_who_was_away,
     .history = 20},
    {.name = "a member's messages go upstream in the order of their numbers",
     .script = a_message_to_the_owner_is_lost,
     .history = 10},
    {.name = "a LEAVE that comes after the next JOIN does not count",
     .script = a_leave_arrives_late,
     .history = 0},
    {.name = "who was not listening asks where the stream stands",
     .script = the_last_push_is_missed,
     .history = 10},
    {.name = "what was handed back is not taken from an old connection",
     .script = a_command_arrives_late,
     .history = 10},
    {.name =
         "a node whose clock was set back between two lives is heard, and leaves nothing behind",
     .script = a_clock_is_set_back,
     .history = 10},
    {.name = "what a life that is over still had on its way ends no membership",
     .script = a_message_of_the_life_before_arrives,
     .history = 0},
    {.name = "a node that started again unseen is heard by its second HELLO",
     .script = the_first_hello_is_lost,
     .history = 10},
    {.name = "a membership that only the owner believes in ends with the next roll call",
     .script = every_hello_is_lost,
     .history = 10},
};
const struct sim_cases member_cases = {list, sizeof(list) / sizeof(list[0])};
