/*
 * Histories written down step by step: each a way in which the protocol has been broken, or would
 * be without one of its safeguards, and too rare to be met by chance. And seeds whose histories
 * once broke a promise.
 */
#include <stdio.h>
#include <string.h>

#include "cases.h"
#include "common/metrics.h"
#include "core/client/queue.h"

#define ROLL_CALL_US 25000000u /* 20 leases, and what follows from it */
#define FENCE_US \
    890000u /* after a renewal was sent: over the margin, before anybody else's judgement */

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
static bool has_owner(const struct world *world, int node)
{
    return world->store.records[0].own.there &&
           !strcmp(world->store.records[0].own.owner, world->nodes[node].id) &&
           upstreams_held(world, 0) == 1;
}

bool n0_owns(const struct world *world)
{
    return has_owner(world, 0);
}

static bool n2_owns(const struct world *world)
{
    return has_owner(world, 2);
}

static bool one_upstream_ever(const struct world *world)
{
    return world->upstreams && !world->upstreams->next;
}

static bool all_heard(const struct world *world)
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

static bool watchers_up_to_date(const struct world *world)
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

static bool spy_is_gone(const struct world *world)
{
    return !world->spy;
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

static void until_n0_renews(struct world *world, struct request *request)
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
    link_stall(&world->nodes[0], 10 * LEASE_US); /* its confirmation goes nowhere */
    say(world);
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
    unhear(&world->nodes[1]); /* no confirmation reaches it */
    node_pause(&world->nodes[1]);
    world_pass(world, 3 * LEASE_US); /* the first copy arrives; n1 is found dead */
    world->nodes[1].unheard = false;
    node_resume(&world->nodes[1]);
    until(world, all_heard, "the message goes upstream");
    world_pass(world, 2 * LEASE_US);
    nothing_was_lost(world);
}

/* A LEAVE that comes after the next JOIN. */

static void n0_owns_n1_watches(struct world *world)
{
    all_up(world);
    client_start(world, 0, 0);
    until(world, n0_owns, "n0 owns the session");
    client_start(world, 6, 1);
    until(world, watchers_welcome, "n1 is a member");
    world_pass(world, 3 * LEASE_US); /* what a new owner publishes in any case is over */
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

/* A release while the upstream closes. */

static void hold_up_the_answer(struct world *world, struct request *request)
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
    sub_cut(&world->nodes[0], true); /* it would hear of the next owner */
    client_start(world, 6, 1);
    world_pass(world, 3 * LEASE_US);
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

/* A member that leaves while it is handed over. */

static void leave_with_the_transfer(struct world *world, struct request *request)
{
    if (request->kind != REQUEST_TRANSFER)
        return;
    world->spy = NULL;
    link_stall(&world->nodes[2], 100 * MS); /* its LEAVE comes when the TAKE has named it */
    client_leave(&world->clients[6], 1001);
}

static bool n1_owns(const struct world *world)
{
    return has_owner(world, 1);
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

static void lose_what_n1_tells_n0(struct world *world, struct request *request)
{
    if (request->kind == REQUEST_TELL && request->node->index == 1 && !strcmp(request->other, "n0"))
        sub_cut(&world->nodes[0], true);
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

/* What the life before still had on its way: TCP delivers it when the new one is at home. */
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
    say(world);
    until(world, all_heard, "n1 is still a member");
    everybody_gets_a_push(world);
}

/* A reading that was asked for before the owner renewed and is answered after its deadline. */

static void until_n1_renews(struct world *world, struct request *request)
{
    if (request->kind == REQUEST_RENEW && request->node->index == 1)
        world->spy = NULL;
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
    world->spy = until_n1_renews;
    until(world, spy_is_gone, "n1 reads");
    world->nodes[1].bus->from_store_us = world->now_us + 120 * MS;
    world_pass(world, 150 * MS);
    world->spy = until_n1_renews;
    until(world, spy_is_gone, "n1 reads before n0 has renewed");
    world->nodes[1].bus->from_store_us = read_us + 1060 * MS;
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

/* SENDs that come again. */

static void send_and_wait(struct world *world, int client)
{
    uint64_t end_us = world->now_us + SOON_US;
    client_sends(&world->clients[client], 1);
    while (!world->failure && world->now_us < end_us && world->clients[client].acked != 1)
        world_pass(world, STEP_US);
    expect(world, world->clients[client].acked == 1, "a SEND is acknowledged");
}

/* The successor's clock on the wall is behind: what it learned is none the newer. */
static void a_send_comes_again_after_a_hand_over(struct world *world)
{
    all_up(world);
    client_start(world, 6, 0);
    until(world, n0_owns, "n0 owns the session");
    client_start(world, 9, 1);
    until(world, watchers_welcome, "n1 is a member");
    send_and_wait(world, 6);
    backend_push(world, 0, "marker-1"); /* so that the client has a position to resume at */
    until(world, watchers_up_to_date, "a push reaches every client");
    node_drain(&world->nodes[0]);
    until(world, n1_owns, "n1 has taken over");
    send_and_wait(world, 9);
    expect(world, world->commands == 2, "each went upstream");
    client_leave(&world->clients[6], 1012);
    world_pass(world, 5 * MS);
    client_start(world, 6, 1);
    until(world, watchers_welcome, "the client is welcome at n1");
    send_and_wait(world, 6);
    expect(world, world->commands == 2, "what went upstream is not sent again");
}

static bool n0_holds_nothing(const struct world *world)
{
    return !upstreams_held(world, 0) && world->store.records[0].own.owner[0] == '\0';
}

/* client 6 comes back at that node, when nobody had the session for some time. */
static void a_send_comes_again_at(struct world *world, int node)
{
    all_up(world);
    client_start(world, 6, 0);
    until(world, n0_owns, "n0 owns the session");
    backend_push(world, 0, "marker-1");
    until(world, watchers_up_to_date, "a push reaches the client");
    send_and_wait(world, 6);
    client_leave(&world->clients[6], 1001);
    until(world, n0_holds_nothing, "n0 has released the session");
    world_pass(world, 100 * LEASE_US);
    client_start(world, 6, node);
    until(world, watchers_welcome, "the client is back");
    send_and_wait(world, 6);
    expect(world, world->commands == 1, "what went upstream is not sent again");
    client_leave(&world->clients[6], 1001);
    world_pass(world, 400 * LEASE_US);
    client_start(world, 6, node);
    until(world, watchers_welcome, "the client is back, late");
    send_and_wait(world, 6);
    expect(world, world->commands == 2, "five minutes are over");
}

static void a_send_comes_again_after_a_release(struct world *world)
{
    a_send_comes_again_at(world, 0);
}

static void a_send_comes_again_elsewhere_after_a_release(struct world *world)
{
    a_send_comes_again_at(world, 1);
}

/* A client that takes nothing, and pushes that weigh nothing. */

static uint64_t pushes_dropped(void)
{
    return metric_drops(DROP_SLOW_CLIENT) + metric_drops(DROP_CLIENT_GONE);
}

static void pushes_without_content_fill_a_queue(struct world *world)
{
    size_t *bound = &world->conf->services[0]->slow_client.queue_bytes, kept = *bound;
    uint64_t before = pushes_dropped();
    n0_owns_n1_speaks(world);
    *bound = 10 * queue_cost(0);
    world->clients[0].busy = true;
    for (int i = 0; i < 11; i++)
        backend_push(world, 0, NULL);
    world_pass(world, 200 * MS);
    *bound = kept;
    expect(world, !world->clients[0].open, "the slow client is closed");
    expect(world, pushes_dropped() - before == 11, "each of its pushes is counted, and once");
}

/* Somebody else writes to the store. */

static struct slice any_name(struct world *world)
{
    static const char *const names[] = {"n0", "n1", "n2", "nobody", "", "\0\0", "n0\0x"};
    static const size_t lens[] = {2, 2, 2, 6, 0, 2, 4};
    size_t i = between(world, 0, sizeof lens / sizeof lens[0] - 1);
    return (struct slice){names[i], lens[i]};
}

static uint64_t any_number(struct world *world)
{
    switch (between(world, 0, 5)) {
    case 0: return 0;
    case 1: return UINT64_MAX - between(world, 0, 1);
    case 2: return world->store.records[0].own.epoch;
    case 3: return world->store.records[0].own.epoch + between(world, 0, 2) - 1;
    case 4: return between(world, 1, 20);
    default: return world->now_us + between(world, 0, 1000);
    }
}

static void lie(struct world *world)
{
    struct envelope_item items[3];
    for (int i = 0; i < 3; i++)
        items[i] = (struct envelope_item){.kind = (enum item_kind)between(world, 0, 6),
                                          .number = any_number(world),
                                          .id = any_number(world),
                                          .time_ms = any_number(world),
                                          .opcode = (unsigned)between(world, 0, 3),
                                          .name = any_name(world),
                                          .bytes = any_name(world)};
    struct envelope envelope = {.type = (unsigned)between(world, 0, 35),
                                .session = slice_of(session_name(0)),
                                .node = any_name(world),
                                .life = any_number(world),
                                .number = any_number(world),
                                .epoch = any_number(world),
                                .offset = any_number(world),
                                .count = any_number(world),
                                .status = any_number(world),
                                .text = any_name(world),
                                .url = any_name(world),
                                .items = items,
                                .items_len = between(world, 0, 3)};
    store_lie(world, (int)between(world, 0, NODES - 1), &envelope);
}

static void a_liar_writes_to_the_store(struct world *world)
{
    all_up(world);
    world->lied_to = true;
    for (int i = 0; i < 4000; i++) {
        int index = (int)between(world, 0, CLIENTS - 1) / SESSIONS * SESSIONS;
        struct sim_client *client = &world->clients[index];
        if (!client->open && chance(world, 20))
            client_start(world, index, (int)between(world, 0, NODES - 1));
        else if (client->open && chance(world, 2))
            client_leave(client, 1001);
        else if (client->open && chance(world, 20))
            client_says(client);
        lie(world);
        backend_push(world, 0, "push");
        world_pass(world, between(world, 1, 10 * MS));
    }
}

/* Two nodes that wait for their next claim at a store that is too young. */

static void a_node_waits_for_its_next_claim(struct world *world)
{
    all_up(world);
    world->store.started_us = world->now_us;
    client_start(world, 0, 0);
    world_pass(world, 120 * MS);
    client_start(world, 6, 1); /* claims as often, each time so much later */
    until(world, n0_owns, "n0 owns the session");
    world_pass(world, 60 * MS);
    expect(world, watchers_welcome(world), "n1 is a member before its next claim");
    everybody_gets_a_push(world);
}

/* Which client's URL an upstream is opened with. */

static bool asked_for_0(const struct world *world)
{
    return world->asked && world->asked_last == 0;
}

static bool asked_for_6(const struct world *world)
{
    return world->asked_last == 6 && upstreams_held(world, 0) == 1;
}

static bool asked_for_9(const struct world *world)
{
    return world->asked_last == 9 && upstreams_held(world, 0) == 1;
}

/* The one that opened the session is refused; another node's client has a good URL. */
static void a_refused_url_gives_way(struct world *world)
{
    world->own_urls = world->refuses[0] = true;
    all_up(world);
    client_start(world, 0, 0);
    until(world, asked_for_0, "the first client's URL is tried");
    client_start(world, 6, 1);
    until(world, asked_for_6, "the URL of another node's client is tried, and opens");
    everybody_gets_a_push(world);
}

/* Long after the refusals began, when the back-off is at its longest. */
static void a_client_that_comes_ends_the_wait(struct world *world)
{
    world->own_urls = world->refuses[0] = world->refuses[6] = true;
    all_up(world);
    client_start(world, 0, 0);
    client_start(world, 6, 1);
    world_pass(world, 100 * 1000 * MS);
    unsigned asked = world->asked;
    expect(world, asked > 3 && asked < 40, "it is tried again, more and more seldom");
    world->refuses[6] = false; /* the same URL as before, and the backend is mended */
    client_start(world, 9, 2);
    uint64_t since_us = world->now_us;
    until(world, asked_for_9, "the new client's URL is tried, and opens");
    expect(world, world->now_us - since_us < 2000 * MS, "within two seconds, from another node");
    expect(world, world->asked == asked + 1, "and nothing else was asked for");
}

/* The upstream is lost after its client has left. */
static void who_has_left_is_not_asked_for(struct world *world)
{
    world->own_urls = true;
    all_up(world);
    client_start(world, 0, 0);
    until(world, n0_owns, "n0 owns the session");
    client_start(world, 6, 1);
    world_pass(world, 2000 * MS);
    client_leave(&world->clients[0], 1001);
    world_pass(world, 2000 * MS);
    expect(world, world->asked == 1, "an open upstream is left alone");
    backend_stop(world, 0);
    world->backend_up[0] = true;
    until(world, asked_for_6, "the next try takes the URL of who is there");
    expect(world, world->asked == 2, "at once");
}

/* As in contract section 5: used again by take-overs. */
static void a_take_over_uses_the_url_again(struct world *world)
{
    world->own_urls = true;
    all_up(world);
    client_start(world, 6, 1);
    until(world, asked_for_6, "n1 owns the session");
    client_start(world, 0, 0);
    client_start(world, 9, 2);
    world_pass(world, 2000 * MS);
    node_crash(&world->nodes[1]);
    world_pass(world, 4000 * MS);
    expect(world, world->asked == 2 && world->asked_last == 6, "the same URL is asked for again");
    world->refuses[6] = true;
    backend_stop(world, 0);
    world->backend_up[0] = true;
    world_pass(world, 4000 * MS);
    expect(world, world->asked_last == 0 || world->asked_last == 9, "then those who are there");
    everybody_gets_a_push(world);
}

/* Two connections with one client id. */

static bool one_of_two_is_open(const struct world *world)
{
    return world->clients[6].open + world->clients[9].open == 1 &&
           (world->clients[6].closed_with == 4007 || world->clients[9].closed_with == 4007);
}

/* client 6 watches at one node; client 9 comes with its id at another. n0 is the owner. */
static void a_client_id_comes_again_at(struct world *world, int first, int second)
{
    all_up(world);
    client_start(world, 0, 0);
    until(world, n0_owns, "n0 owns the session");
    client_start(world, 6, first);
    until(world, watchers_welcome, "the first connection is welcome");
    world_pass(world, 2000 * MS);
    send_and_wait(world, 6);
    client_takes_id(&world->clients[9], &world->clients[6]);
    client_start(world, 9, second);
    until(world, one_of_two_is_open, "one of the two is closed with 4007");
    expect(world, world->clients[9].open, "the one that came first");
    client_sends(&world->clients[9], 2);
    world_pass(world, 500 * MS);
    expect(world, world->clients[9].acked == 2 && world->commands == 2,
           "the later one goes on from the last id, and is acknowledged for what went");
    everybody_gets_a_push(world);
}

static void a_client_id_comes_again(struct world *world)
{
    a_client_id_comes_again_at(world, 1, 1);
}

static void a_client_id_comes_again_elsewhere(struct world *world)
{
    a_client_id_comes_again_at(world, 1, 2);
}

static void a_client_id_comes_again_at_the_owner(struct world *world)
{
    a_client_id_comes_again_at(world, 1, 0);
}

static void a_client_id_of_the_owner_comes_again(struct world *world)
{
    a_client_id_comes_again_at(world, 0, 2);
}

/* Both come within a moment: whichever is the later one stays, and not none. */
static void a_client_id_comes_twice_at_once(struct world *world)
{
    all_up(world);
    client_start(world, 0, 0);
    until(world, n0_owns, "n0 owns the session");
    for (int round = 0; round < 30 && !world->failure; round++) {
        client_takes_id(&world->clients[6], NULL);
        client_takes_id(&world->clients[9], NULL);
        world->clients[6].closed_with = world->clients[9].closed_with = 0;
        client_start(world, 6, 1);
        client_start(world, 9, 2);
        until(world, one_of_two_is_open, "one of the two is closed with 4007");
        world_pass(world, 200 * MS);
        expect(world, one_of_two_is_open(world), "the other one stays open");
        client_leave(&world->clients[6], 1001);
        client_leave(&world->clients[9], 1001);
        world_pass(world, 2000 * MS);
    }
}

/* Data deleted by hand. */

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

/* --- volume: much waits, and goes on in portions (sim.h, node_works) --- */

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

const struct sim_case cases[] = {
    {.name = "much that waits for the store goes out in portions",
     .script = many_pushes_wait_for_the_store,
     .history = 100},
    {.name = "much that waits for the store goes out in portions, without a history",
     .script = many_pushes_wait_for_the_store,
     .history = 0},
    {.name = "much that waits for the backend goes upstream in portions",
     .script = many_messages_wait_for_the_backend,
     .history = 10},
    {.name = "a claim that names a dead owner does not take what that owner has claimed anew",
     .script = a_claim_names_an_epoch_that_is_over,
     .history = 10},
    {.name = "a member's messages go upstream in the order of their numbers",
     .script = a_message_to_the_owner_is_lost,
     .history = 10},
    {.name = "what was told to an owner is not told again by who has missed the next one",
     .script = a_member_misses_an_owner,
     .history = 10},
    {.name = "a LEAVE that comes after the next JOIN does not count",
     .script = a_leave_arrives_late,
     .history = 0},
    {.name = "a session is not released before its upstream is closed",
     .script = a_backend_closes_slowly,
     .history = 10},
    {.name = "who was not listening asks where the stream stands",
     .script = the_last_push_is_missed,
     .history = 10},
    {.name = "what was handed back is not taken from an old connection",
     .script = a_command_arrives_late,
     .history = 10},
    {.name = "who leaves while the session is handed over keeps nothing open",
     .script = a_member_leaves_in_between,
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
    {.name = "an owner that renewed while it was being found dead stays the owner",
     .script = an_owner_renews_at_the_last_moment,
     .history = 10},
    {.name = "a node that is stopped while a client comes serves it",
     .script = a_node_stops_while_a_client_comes,
     .history = 10},
    {.name = "a node that is stopped while the last client leaves keeps nothing",
     .script = a_node_stops_while_the_last_client_leaves,
     .history = 10},
    {.name =
         "a SEND that went upstream does not go again after a hand-over, whatever the clocks say",
     .script = a_send_comes_again_after_a_hand_over,
     .history = 10},
    {.name = "a SEND that went upstream does not go again when its session was released meanwhile",
     .script = a_send_comes_again_after_a_release,
     .history = 10},
    {.name = "a SEND that went upstream does not go again at a node that had no part in it",
     .script = a_send_comes_again_elsewhere_after_a_release,
     .history = 10},
    {.name = "pushes without content fill the queue of a slow client, and are counted once",
     .script = pushes_without_content_fill_a_queue,
     .history = 10},
    {.name = "who waits for its next claim joins whoever is granted it",
     .script = a_node_waits_for_its_next_claim,
     .history = 10},
    {.name = "where a client's URL is refused, another node's client's is taken",
     .script = a_refused_url_gives_way,
     .history = 10},
    {.name = "a client that comes shortens the wait after a refusal, on another node, too",
     .script = a_client_that_comes_ends_the_wait,
     .history = 10},
    {.name = "an upstream is opened again with the URL of a client that is there",
     .script = who_has_left_is_not_asked_for,
     .history = 10},
    {.name = "a take-over uses the owner's URL again, and then those of clients that are there",
     .script = a_take_over_uses_the_url_again,
     .history = 10},
    {.name = "a client id that comes again closes the older connection, on the same node",
     .script = a_client_id_comes_again,
     .history = 10},
    {.name = "a client id that comes again closes the older connection, on another node",
     .script = a_client_id_comes_again_elsewhere,
     .history = 10},
    {.name = "a client id that comes again at the owner closes the older connection",
     .script = a_client_id_comes_again_at_the_owner,
     .history = 10},
    {.name = "a client id that comes again elsewhere closes the owner's older connection",
     .script = a_client_id_of_the_owner_comes_again,
     .history = 10},
    {.name = "of two connections that come with one client id at once, one stays",
     .script = a_client_id_comes_twice_at_once,
     .history = 10},
    {.name = "lies on the bus crash nobody", .script = a_liar_writes_to_the_store, .history = 10},
    {.name = "data deleted by hand cost no owner its session, and no member a push",
     .script = the_data_are_deleted,
     .history = 10},
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
    {.name = "seed 30113: the end of an epoch was told while a member read it, and was forgotten",
     .seed = 30113,
     .pages = true},
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
const size_t cases_len = sizeof cases / sizeof cases[0];
