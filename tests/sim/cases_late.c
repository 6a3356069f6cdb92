/*
 * Written histories: an owner that alone watches a session writes its history late, and others need
 * what is not written yet.
 */
#include <stdio.h>
#include <string.h>

#include "cases.h"
#include "common/publication.h"

#define LATE_US (250 * MS) /* history.every */

/* n0 alone has session 0, and the store knows that it writes late. Client 6 has all pushes so far
 * and has left. */
static void n0_writes_late(struct world *world)
{
    all_up(world);
    client_start(world, 0, 0);
    until(world, n0_owns, "n0 owns the session");
    client_start(world, 6, 0);
    world_pass(world, 2 * LEASE_US + 100 * MS);
    backend_push(world, 0, "push");
    world_pass(world, 100 * MS);
    expect(world, world->store.records[0].own.late, "the record says that n0 writes late");
    expect(world, world->clients[6].at.offset == 1, "client 6 has the first push");
    client_leave(&world->clients[6], 1001);
    world_pass(world, 5 * MS);
}

static uint64_t kept_end(const struct world *world)
{
    const struct record *record = &world->store.records[0];
    for (size_t i = record->history.len; i-- > 0;)
        if (memory_history_at(&record->history, i)->at.offset != OFFSET_END)
            return memory_history_at(&record->history, i)->at.offset;
    return 0;
}

static void push(struct world *world, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        backend_push(world, 0, "push");
        world_pass(world, 3 * MS);
    }
}

static void push_unwritten(struct world *world, unsigned n)
{
    uint64_t before = kept_end(world);
    push(world, n);
    expect(world, kept_end(world) == before, "what was pushed is not written yet");
}

static bool has_six(const struct world *world)
{
    return world->clients[6].open && world->clients[6].at.offset >= 6;
}

static void client_6_misses_nothing(struct world *world)
{
    client_start(world, 6, 1);
    until(world, has_six, "client 6 gets all that it has missed");
    expect(world, !world->gaps, "without a GAP");
}

static void the_history_is_written_late(struct world *world)
{
    n0_writes_late(world);
    push_unwritten(world, 5);
    world_pass(world, LATE_US);
    expect(world, kept_end(world) == 6, "it is written when its time has come");
}

static void a_member_joins_in_between(struct world *world)
{
    n0_writes_late(world);
    push_unwritten(world, 5);
    client_start(world, 6, 1);
    world_pass(world, 100 * MS);
    expect(world, has_six(world), "client 6 has it before the time of the history has come");
    expect(world, !world->gaps, "without a GAP");
    expect(world, !world->store.records[0].own.late, "n0 does not write late any more");
    everybody_gets_a_push(world);
}

static bool six_is_welcome(const struct world *world)
{
    return world->clients[6].open && world->clients[6].welcomed;
}

static void the_owner_dies_in_between(struct world *world)
{
    n0_writes_late(world);
    push(world, 2);
    world_pass(world, LATE_US);
    push_unwritten(world, 3);
    node_crash(&world->nodes[0]);
    client_start(world, 6, 1);
    until(world, six_is_welcome, "client 6 is welcome at n1");
    world_pass(world, 2 * LEASE_US);
    everybody_gets_a_push(world);
    expect(world, world->gaps == 1, "client 6 is told that something may be missing");
}

static void the_session_is_handed_over_in_between(struct world *world)
{
    n0_writes_late(world);
    node_drain(&world->nodes[0]);
    push_unwritten(world, 5);
    client_6_misses_nothing(world);
}

static bool is_released(const struct world *world)
{
    return !world->store.records[0].own.owner[0];
}

static void the_session_is_released_in_between(struct world *world)
{
    n0_writes_late(world);
    client_leave(&world->clients[0], 1001);
    world_pass(world, 450 * MS); /* less than the linger of 500 */
    push_unwritten(world, 5);
    until(world, is_released, "n0 releases the session");
    client_6_misses_nothing(world);
}

/* A fail-over to a replica that lacks the last writes; n0 connects to it at once. */
static void lose_all_but_the_first(struct world *world)
{
    struct memory_history *history = &world->store.records[0].history;
    while (history->len > 1) {
        publication_unref(memory_history_at(history, history->len - 1));
        history->len--;
    }
    link_blink(&world->nodes[0]);
}

static void the_store_loses_what_was_written(struct world *world)
{
    n0_writes_late(world);
    push(world, 5);
    world_pass(world, LATE_US);
    expect(world, kept_end(world) == 6, "it is written");
    lose_all_but_the_first(world);
    world_pass(world, LEASE_US);
    client_6_misses_nothing(world);
}

static void the_owner_is_out_of_reach_for_a_while(struct world *world)
{
    n0_writes_late(world);
    push_unwritten(world, 2);
    link_blink(&world->nodes[0]);
    push(world, 3);
    world_pass(world, LEASE_US / 2);
    client_6_misses_nothing(world);
}

static bool all_owned(const struct world *world)
{
    bool all = true;
    for (int i = 0; i < SESSIONS; i++)
        all = all && upstreams_held(world, i) == 1;
    return all;
}

static bool session_1_is_claimed_anew(const struct world *world)
{
    return upstreams_held(world, 1) == 1 && !strcmp(world->store.records[1].own.owner, "n0");
}

/* n0 writes for three sessions in one call. */
static void one_session_of_a_call_is_refused(struct world *world)
{
    all_up(world);
    for (int i = 0; i < SESSIONS; i++)
        client_start(world, i, 0);
    until(world, all_owned, "n0 owns the sessions");
    client_start(world, 6, 1);
    client_start(world, 4, 1);
    client_start(world, 8, 1);
    until(world, watchers_welcome, "n1 is a member of them");
    snprintf(world->store.records[1].own.owner, sizeof(world->store.records[1].own.owner), "n2");
    world->turn_us = 20 * MS; /* the pushes come in one turn, the refused one in the middle */
    for (int i = 0; i < SESSIONS; i++) {
        backend_push(world, i, "marker-1");
        world_pass(world, 3 * MS);
    }
    world_pass(world, 80 * MS);
    world->turn_us = 0;
    expect(world, !strcmp(world->clients[6].last_marker, "marker-1"), "the first arrives");
    expect(world, !strcmp(world->clients[8].last_marker, "marker-1"), "the third arrives");
    until(world, session_1_is_claimed_anew, "n0 finds that it owns the second no more");
}

static const struct sim_case list[] = {
    {.name = "late: what nobody else watches is written late",
     .script = the_history_is_written_late,
     .history = 10},
    {.name = "late: who joins between a push and its writing misses nothing",
     .script = a_member_joins_in_between,
     .history = 10},
    {.name = "late: of what an owner had not written when it died a GAP tells",
     .script = the_owner_dies_in_between,
     .history = 10},
    {.name = "late: what is not written is when the session is handed over",
     .script = the_session_is_handed_over_in_between,
     .history = 10},
    {.name = "late: what is not written is when the session is released",
     .script = the_session_is_released_in_between,
     .history = 10},
    {.name = "late: what a store lost of it is written again",
     .script = the_store_loses_what_was_written,
     .history = 10},
    {.name = "late: a session that is refused disturbs no other of its call",
     .script = one_session_of_a_call_is_refused,
     .history = 10},
    {.name = "late: what could not be written is when the link is back",
     .script = the_owner_is_out_of_reach_for_a_while,
     .history = 10},
};
const struct sim_cases late_cases = {list, sizeof(list) / sizeof(list[0])};
