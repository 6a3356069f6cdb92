/* Browsers of the simulated cluster: how they connect, send and leave. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "box.h"
#include "core/client/door.h"
#include "sim.h"

struct client_event {
    struct sim_client *client;
    unsigned connection;
    unsigned code;
};

static bool follows(struct sim_client *client, int session)
{
    if (!client->open || !client->page)
        return client->open && client->session == session;
    const struct sim_client *part = page_part(client, session);
    return part->open && !part->leaving;
}

void note_deserted(struct world *world, int session)
{
    if (session >= SESSIONS || !world->granted_len[session])
        return;
    size_t last = world->granted_len[session] - 1;
    for (int i = 0; i < CLIENTS; i++)
        if (follows(&world->clients[i], session) &&
            !strcmp(world->clients[i].node->id, world->granted[session][last].owner))
            return;
    world->granted[session][last].deserted = true;
}

static void note_left(struct sim_client *client)
{
    client->open = false;
    for (int i = 0; i < SESSIONS; i++)
        if (client->page || i == client->session)
            note_deserted(client->world, i);
}

static bool current(const struct client_event *event)
{
    return event->client->open && event->client->connection == event->connection;
}

static void on_gone_turn(void *ctx)
{
    struct client_event *event = ctx;
    if (current(event)) {
        note_left(event->client);
        door_gone(&event->client->client, event->code, "");
    }
    free(event);
}

static void on_gone(void *ctx)
{
    struct client_event *event = ctx;
    node_event(event->client->node, event->client->life, on_gone_turn, event);
}

static void client_later(struct sim_client *client, event_fn *fn, uint64_t after_us, unsigned code)
{
    struct client_event *event = malloc(sizeof(*event));
    *event = (struct client_event){client, client->connection, code};
    at_us(client->world, client->world->now_us + after_us, fn, event);
}

static void on_writable_turn(void *ctx)
{
    struct client_event *event = ctx;
    if (current(event)) {
        event->client->busy = false;
        door_writable(&event->client->client);
    }
    free(event);
}

static void on_writable(void *ctx)
{
    struct client_event *event = ctx;
    node_event(event->client->node, event->client->life, on_writable_turn, event);
}

static enum status client_write(void *ctx, struct client *base, const uint8_t *frames, size_t len)
{
    struct sim_client *client = (struct sim_client *)(void *)base;
    (void)ctx;
    if (client->busy)
        return STATUS_AGAIN;
    node_works(client->node, 1);
    client_reads(client, frames, len);
    client->late = false;
    if (!client->world->quiet && !client->world->calm && chance(client->world, 10)) {
        client->busy = true;
        client->late = true;
        client_later(client, on_writable,
                     between(client->world, 100, chance(client->world, 10) ? 3000000 : 20000), 0);
    }
    return STATUS_OK;
}

static void client_closing(void *ctx, struct client *base, unsigned code, const char *reason)
{
    struct sim_client *client = (struct sim_client *)(void *)base;
    (void)ctx;
    (void)reason;
    client->closing = true;
    client->closed_with = code;
    node_works(client->node, CLOSE_TENTHS);
    client_later(client, on_gone, between(client->world, 100, 50000), code);
}

static void client_paused(void *ctx, struct client *base, bool paused)
{
    (void)ctx;
    (void)base;
    (void)paused;
}

const struct client_ops sim_client_ops = {
    .write = client_write, .close = client_closing, .pause = client_paused};

/* A page with SENDs brings its client id even without a position. */
static bool brings_token(const struct sim_client *client)
{
    bool has_id = client->world->has_sends && client->page && client->id[0];
    return client->protocol && !client->replay && (client->has_token || has_id);
}

static enum box_form form_of_client(const struct sim_client *client)
{
    if (client->one_way)
        return BOX_ONE_WAY;
    return client->protocol ? BOX_JSON : BOX_RAW;
}

static void on_start_turn(void *ctx)
{
    struct client_event *event = ctx;
    struct sim_client *client = event->client;
    struct world *world = client->world;
    if (client->connection != event->connection || client->open || !hub_ready(client->node->hub)) {
        free(event);
        return;
    }
    free(event);
    char resume[128], request[320];
    snprintf(resume, sizeof(resume), "&resume=%" PRIu64 ".%" PRIu64 ".%s", client->token.epoch,
             client->token.offset, client->id);
    char user[ROSTER_NAME];
    roster_user(client, user);
    if (world->own_urls)
        snprintf(user, sizeof(user), "c%d", client_index(client));
    char more[64] = "";
    if (client->rate)
        snprintf(more, sizeof(more), "&rate=%u", client->rate);
    if (client->replay)
        snprintf(more, sizeof(more), "&replay=%u", client->replay);
    snprintf(request, sizeof(request), "/%s/v%d?svc%s%s", user, client->session, more,
             brings_token(client) ? resume : "");
    if (client->alone)
        snprintf(request, sizeof(request), "/%s?subscribe%s%s", user,
                 client->id[0] ? "&resume=0.0." : "", client->id);
    struct url_options options = {.protocol_client = client->protocol,
                                  .may_subscribe = client->protocol && !client->one_way};
    struct target target;
    const char *why;
    if (url_parse(world->conf, request, strlen(request), &options, &target, &why) != STATUS_OK)
        abort();
    client->open = true;
    client->closing = client->busy = client->welcomed = false;
    client->said = client->heard = client->arrived = 0;
    client->at = (struct position){0, 0};
    client->got_us = client->got = 0;
    client->last_marker[0] = '\0';
    client->late = false;
    roster_forget(client);
    if (client->page)
        page_started(client);
    if (door_open(client->node->hub, &client->client, &target, &in6addr_loopback,
                  form_of_client(client)) != STATUS_OK)
        abort();
    target_fini(&target);
    if (client->page)
        page_acts(client, PAGE_SUBSCRIBES);
}

static void on_start(void *ctx)
{
    struct client_event *event = ctx;
    node_event(event->client->node, event->client->life, on_start_turn, event);
}

static void client_comes(struct sim_client *client, int node)
{
    client->node = &client->world->nodes[node];
    client->life = client->node->life;
    client->connection++;
    if (client->protocol && client->at.epoch && client->at.offset < UINT64_MAX / 2) {
        client->has_token = true;
        client->token = client->at;
    }
    client_later(client, on_start, between(client->world, 100, 3000), 0);
}

void client_start(struct world *world, int index, int node)
{
    world->clients[index].world = world;
    client_comes(&world->clients[index], node);
}

void client_takes_id(struct sim_client *client, const struct sim_client *from)
{
    snprintf(client->id, sizeof(client->id), "%s", from ? from->id : "0123abcd");
    client->has_token = true;
}

void client_leave(struct sim_client *client, unsigned code)
{
    if (client->open && !client->closing)
        client_later(client, on_gone, 1, code);
}

static void on_say_turn(void *ctx)
{
    struct client_event *event = ctx;
    struct sim_client *client = event->client;
    char text[96];
    if (current(event) && !client->closing && !client->protocol) {
        int len = snprintf(text, sizeof(text), "say %d.%u.%u %" PRIu64, client_index(client),
                           client->connection, client->life, ++client->said);
        door_message(&client->client, OPCODE_TEXT, text, (size_t)len);
    }
    free(event);
}

static void on_say(void *ctx)
{
    struct client_event *event = ctx;
    node_event(event->client->node, event->client->life, on_say_turn, event);
}

void client_says(struct sim_client *client)
{
    if (client->open)
        client_later(client, on_say, 1, 0);
}

static void on_act_turn(void *ctx)
{
    struct client_event *event = ctx;
    static void (*const acts[])(struct sim_client * page) = {page_unsubscribe, page_subscribe,
                                                             page_sends, page_says_all_again};
    if (current(event) && !event->client->closing)
        acts[event->code](event->client);
    free(event);
}

static void on_act(void *ctx)
{
    struct client_event *event = ctx;
    node_event(event->client->node, event->client->life, on_act_turn, event);
}

void page_acts(struct sim_client *client, enum page_act act)
{
    if (client->open)
        client_later(client, on_act, between(client->world, 1, 5000), act);
}

struct send_event {
    struct client_event event; /* first: freed as such where its node is gone */
    uint64_t id;
    unsigned ttl_ms;
};

static void on_send_turn(void *ctx)
{
    struct send_event *send = ctx;
    struct sim_client *client = send->event.client;
    char text[160], ttl[32] = "";
    if (send->ttl_ms)
        snprintf(ttl, sizeof(ttl), ",\"ttl\":%u", send->ttl_ms);
    if (current(&send->event) && !client->closing) {
        int len = snprintf(
            text, sizeof(text),
            "{\"type\":\"SEND\",\"id\":%" PRIu64 "%s,\"payload\":\"say %d.%u.%u %" PRIu64 "\"}",
            send->id, ttl, client_index(client), client->connection, client->life, send->id);
        door_message(&client->client, OPCODE_TEXT, text, (size_t)len);
    }
    free(send);
}

static void on_send(void *ctx)
{
    struct send_event *send = ctx;
    node_event(send->event.client->node, send->event.client->life, on_send_turn, send);
}

void client_sends(struct sim_client *client, uint64_t id, unsigned ttl_ms)
{
    struct send_event *send = malloc(sizeof(*send));
    *send = (struct send_event){{client, client->connection, 0}, id, ttl_ms};
    client->acked = 0;
    at_us(client->world, client->world->now_us + 1, on_send, send);
}

void clients_of_node_die(struct sim_node *node)
{
    for (int i = 0; i < CLIENTS; i++)
        if (node->world->clients[i].node == node)
            node->world->clients[i].open = false;
    for (size_t i = 0; i < node->world->crowd_len; i++)
        if (node->world->crowd[i].node == node)
            node->world->crowd[i].open = false;
}

/* Crowds. */

#define CROWD_INDEX 100000

int client_index(const struct sim_client *client)
{
    const struct world *world = client->world;
    bool in_crowd = world->crowd && client >= world->crowd &&
                    client < world->crowd + world->crowd_len;
    return in_crowd ? CROWD_INDEX + (int)(client - world->crowd) : (int)(client - world->clients);
}

struct sim_client *client_at(struct world *world, unsigned index)
{
    return index < CROWD_INDEX ? &world->clients[index % CLIENTS]
                               : &world->crowd[(index - CROWD_INDEX) % world->crowd_len];
}

void crowd_comes(struct world *world, size_t n, int node, int session, int sessions)
{
    world->crowd = calloc(n, sizeof(*world->crowd));
    if (!world->crowd)
        abort();
    world->crowd_len = n;
    if (world->sessions < session + sessions)
        world->sessions = session + sessions;
    for (size_t i = 0; i < n; i++) {
        struct sim_client *client = &world->crowd[i];
        *client = (struct sim_client){.world = world,
                                      .session = session + (int)(i % (size_t)sessions),
                                      .protocol = i % 3 != 0};
        client_comes(client, node);
    }
}

size_t crowd_open(const struct world *world)
{
    size_t n = 0;
    for (size_t i = 0; i < world->crowd_len; i++)
        n += world->crowd[i].open;
    return n;
}

size_t crowd_closed_with(const struct world *world, unsigned code)
{
    size_t n = 0;
    for (size_t i = 0; i < world->crowd_len; i++)
        n += world->crowd[i].closed_with == code;
    return n;
}

void crowd_free(struct world *world)
{
    free(world->crowd);
    world->crowd = NULL;
    world->crowd_len = 0;
}
