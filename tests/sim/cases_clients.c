/*
 * Written histories: SENDs that come again, clients that read nothing, URLs that are refused,
 * client ids that come twice, and false messages in the channels.
 */
#include <stdio.h>
#include <string.h>

#include "cases.h"
#include "common/metrics.h"
#include "core/client/queue.h"

/* SENDs that come again. */

static void send_and_wait(struct world *world, int client)
{
    uint64_t end_us = world->now_us + SOON_US;
    client_sends(&world->clients[client], 1, 0);
    while (!world->failure && world->now_us < end_us && world->clients[client].acked != 1)
        world_pass(world, STEP_US);
    expect(world, world->clients[client].acked == 1, "a SEND is acknowledged");
}

/* The successor's wall clock is behind: that makes what it learned no newer. */
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

/* Client 6 comes back at that node after the session had no clients for some time. */
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

/* A client that reads nothing, and pushes without content. */

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

/* An attacker writes to the store. */

static struct slice any_name(struct world *world)
{
    static const char *const names[] = {"n0", "n1", "n2", "nobody", "", "\0\0", "n0\0x"};
    static const size_t lens[] = {2, 2, 2, 6, 0, 2, 4};
    size_t i = between(world, 0, sizeof(lens) / sizeof(lens[0]) - 1);
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

/* The URL of the first client is refused; a client of another node has a good one. */
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

/* The back-off has grown to its maximum. */
static void a_client_that_comes_ends_the_wait(struct world *world)
{
    world->own_urls = world->refuses[0] = world->refuses[6] = true;
    all_up(world);
    client_start(world, 0, 0);
    client_start(world, 6, 1);
    world_pass(world, 100 * 1000 * MS);
    unsigned asked = world->asked;
    expect(world, asked > 3 && asked < 40, "it is tried again, more and more seldom");
    world->refuses[6] = false; /* the same URL as before, but the backend accepts it now */
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

/* A take-over uses the URL that worked (contract section 5). */
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
    client_sends(&world->clients[9], 2, 0);
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

/* Both come at nearly the same time: the later one stays, and not neither. */
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

/* One MESSAGE is due when n0 stops, within a turn; the next one when it goes on. */
static void n0_stops_while_a_message_is_due(struct world *world)
{
    all_up(world);
    client_start(world, 0, 0);
    until(world, n0_owns, "n0 owns the session");
    world->clients[6].rate = 4;
    client_start(world, 6, 0);
    until(world, watchers_welcome, "client 6 is welcome");
    world_pass(world, 300 * MS);
    backend_push(world, 0, "push");
    world_pass(world, 20 * MS);
    expect(world, world->clients[6].got == 1, "the first one comes at once");
    backend_push(world, 0, "push");
    world_pass(world, 200 * MS);
    expect(world, world->clients[6].got == 1, "the next one waits");
    world->turn_us = 60 * MS;
    world_pass(world, 60 * MS);
    node_pause(&world->nodes[0]);
    backend_push(world, 0, "marker-0");
    world_pass(world, 400 * MS);
    node_resume(&world->nodes[0]);
    world_pass(world, 100 * MS);
    world->turn_us = 0;
    expect(world, world->clients[6].got == 3, "both come when n0 goes on");
}

static const struct sim_case list[] = {
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
    {.name = "a client at a rate gets what was due when its node stopped, and what is due then",
     .script = n0_stops_while_a_message_is_due,
     .history = 10},
};
const struct sim_cases client_cases = {list, sizeof(list) / sizeof(list[0])};
