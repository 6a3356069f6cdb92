/* Backends and browsers of the simulated cluster, and what must hold for what they see. */
#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "box.h"
#include "core/client/door.h"
#include "sim.h"

/* Upstreams. */

enum upstream_event_kind { EVENT_OPENED, EVENT_FAILED, EVENT_REFUSED, EVENT_MESSAGE, EVENT_CLOSED };

struct upstream_event {
    struct upstream *upstream;
    enum upstream_event_kind kind;
    char text[96];
};

static struct publication *push_of(const char *text)
{
    return publication_copy(OPCODE_TEXT, text, strlen(text));
}

static void on_upstream_turn(void *ctx)
{
    struct upstream_event *event = ctx;
    struct upstream *upstream = event->upstream;
    if (upstream->state == SIM_OVER) { /* reset meanwhile */
        free(event);
        return;
    }
    struct upstream_end end = {.kind = UPSTREAM_END_CLOSED, .reason = "closed"};
    if (event->kind == EVENT_FAILED)
        end.kind = UPSTREAM_END_NO_TCP;
    if (event->kind == EVENT_REFUSED)
        end = (struct upstream_end){
            .kind = UPSTREAM_END_REFUSED, .http_status = 401, .reason = "refused"};
    switch (event->kind) {
    case EVENT_OPENED:
        if (upstream->state == SIM_OPENING) {
            upstream->state = SIM_OPEN;
            hub_upstream_opened(upstream->session, upstream);
        }
        break;
    case EVENT_MESSAGE:
        if (upstream->state == SIM_OPEN || upstream->state == SIM_CLOSING)
            hub_upstream_message(upstream->session, upstream, push_of(event->text));
        break;
    case EVENT_FAILED:
    case EVENT_REFUSED:
    case EVENT_CLOSED:
        upstream->state = SIM_OVER;
        hub_upstream_closed(upstream->session, upstream, &end);
        break;
    }
    free(event);
}

static void on_upstream_event(void *ctx)
{
    struct upstream_event *event = ctx;
    node_event(event->upstream->node, event->upstream->life, on_upstream_turn, event);
}

static void upstream_later(struct upstream *upstream, enum upstream_event_kind kind,
                           uint64_t after_us, const char *text)
{
    struct upstream_event *event = calloc(1, sizeof *event);
    event->upstream = upstream;
    event->kind = kind;
    snprintf(event->text, sizeof event->text, "%s", text);
    uint64_t at = upstream->world->now_us + after_us;
    if (at <= upstream->order_us)
        at = upstream->order_us + 1;
    upstream->order_us = at;
    at_us(upstream->world, at, on_upstream_event, event);
}

/* Whether the backend refuses the URL of the client that is asked for. */
static bool refuses(struct world *world, const char *url)
{
    int client;
    const char *path = strstr(url, "/c");
    if (!path || sscanf(path, "/c%d/", &client) != 1 || client >= CLIENTS)
        return false;
    world->asked_last = client;
    world->asked++;
    return world->refuses[client];
}

static struct upstream *upstream_open(void *ctx, struct session *session, struct service *service,
                                      const char *url)
{
    struct sim_node *node = ctx;
    struct world *world = node->world;
    struct upstream *upstream = calloc(1, sizeof *upstream);
    (void)service;
    const char *vin = strrchr(url, '/');
    *upstream = (struct upstream){.world = world,
                                  .node = node,
                                  .life = node->life,
                                  .session = session,
                                  .backend = vin ? atoi(vin + 2) : 0,
                                  .next = world->upstreams};
    world->upstreams = upstream;
    if (world->own_urls && refuses(world, url))
        upstream_later(upstream, EVENT_REFUSED, between(world, 200, 20000), "");
    else if (world->backend_up[upstream->backend] && (world->calm || !chance(world, 5)))
        upstream_later(upstream, EVENT_OPENED, between(world, 200, 20000), "");
    else
        upstream_later(upstream, EVENT_FAILED, between(world, 200, 20000), "");
    return upstream;
}

static enum status upstream_send(void *ctx, struct upstream *upstream, enum opcode opcode,
                                 const void *payload, size_t len)
{
    struct sim_node *node = ctx;
    struct world *world = node->world;
    unsigned client, connection, life;
    uint64_t number;
    char text[96] = {0};
    (void)opcode;
    assert(upstream->state == SIM_OPEN && len < sizeof text);
    node_works(node, 10);
    memcpy(text, payload, len);
    if (sscanf(text, "say %u.%u.%u %" SCNu64, &client, &connection, &life, &number) != 4) {
        world_fail(world, "backend got \"%s\"", text);
        return STATUS_OK;
    }
    world->commands++;
    world_say(world, "backend gets %s from %s", text, node->id);
    struct sim_client *from = &world->clients[client % CLIENTS];
    if (from->connection == connection) {
        if (number <= from->heard)
            world_fail(world, "client %u: message %" PRIu64 " reached the backend after %" PRIu64,
                       client, number, from->heard);
        from->heard = number;
        from->arrived++;
    }
    return STATUS_OK;
}

static void upstream_close(void *ctx, struct upstream *upstream, unsigned code, const char *reason)
{
    struct world *world = upstream->world;
    (void)ctx;
    (void)code;
    (void)reason;
    upstream->state = SIM_CLOSING;
    for (uint64_t i = between(world, 0, 2); i > 0; i--) {
        /* What was on its way before the backend saw the close */
        char text[96];
        snprintf(text, sizeof text, "late %" PRIu64, ++upstream->number);
        upstream_later(upstream, EVENT_MESSAGE, between(world, 50, 3000), text);
    }
    bool slow = world->calm ? world->closes_slowly : chance(world, 5);
    upstream_later(upstream, EVENT_CLOSED, slow ? 1000000 : between(world, 300, 20000), "");
}

static void upstream_reset(void *ctx, struct upstream *upstream)
{
    (void)ctx;
    upstream->state = SIM_OVER;
}

const struct upstream_ops sim_upstream_ops = {
    .open = upstream_open, .send = upstream_send, .close = upstream_close, .reset = upstream_reset};

void backend_push(struct world *world, int session, const char *marker)
{
    for (struct upstream *upstream = world->upstreams; upstream; upstream = upstream->next) {
        if (upstream->backend != session || upstream->state != SIM_OPEN || !upstream->node->alive)
            continue;
        char text[96] = "";
        if (marker)
            snprintf(text, sizeof text, "%s %" PRIu64, marker, ++upstream->number);
        upstream_later(upstream, EVENT_MESSAGE, between(world, 50, 2000), text);
    }
}

void backend_stop(struct world *world, int session)
{
    world_say(world, "backend %d is gone", session);
    world->backend_up[session] = false;
    for (struct upstream *upstream = world->upstreams; upstream; upstream = upstream->next)
        if (upstream->backend == session && upstream->state != SIM_OVER && upstream->node->alive)
            upstream_later(upstream, EVENT_CLOSED, between(world, 50, 2000), "");
}

void upstreams_of_node_die(struct sim_node *node)
{
    for (struct upstream *upstream = node->world->upstreams; upstream; upstream = upstream->next)
        if (upstream->node == node && upstream->life == node->life)
            upstream->state = SIM_OVER;
}

void upstreams_free(struct world *world)
{
    while (world->upstreams) {
        struct upstream *upstream = world->upstreams;
        world->upstreams = upstream->next;
        free(upstream);
    }
}

/* Held open by live, unpaused nodes. */
int upstreams_held(const struct world *world, int session)
{
    int held = 0;
    for (const struct upstream *upstream = world->upstreams; upstream; upstream = upstream->next)
        held += upstream->backend == session &&
                (upstream->state == SIM_OPEN || upstream->state == SIM_CLOSING) &&
                upstream->node->alive && upstream->life == upstream->node->life &&
                !upstream->node->paused;
    return held;
}

/* Browsers. */

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
    if (!world->granted_len[session])
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
    struct client_event *event = malloc(sizeof *event);
    *event = (struct client_event){client, client->connection, code};
    at_us(client->world, client->world->now_us + after_us, fn, event);
}

static uint64_t field(const char *text, const char *name)
{
    const char *at = strstr(text, name);
    return at ? strtoull(at + strlen(name), NULL, 10) : 0;
}

/* The highest offset of that epoch that the store had taken, or, where its owner ended while it
 * wrote late, that anybody got; 0 where none. */
static uint64_t known_end(struct world *world, int session, uint64_t epoch)
{
    const struct truth *truth = truth_of(world, session, epoch);
    if (!truth)
        return 0;
    return truth->torn && truth->seen > truth->offset ? truth->seen : truth->offset;
}

static void note_seen(struct world *world, int session, struct position at)
{
    struct truth *truth = truth_of(world, session, at.epoch);
    if (truth && truth->seen < at.offset)
        truth->seen = at.offset;
}

/* The node's clock is up to 5 ms in a second too fast, a turn's time is in whole milliseconds, and
 * one that leaves up to 5 ms late counts as on time (rate.c): so much shorter it may be. */
static void check_rate(struct sim_client *client)
{
    struct world *world = client->world;
    uint64_t least_us = 1000000 / client->rate - 12000, before_us = client->got_us;
    client->got_us = world->now_us;
    if (before_us && world->now_us - before_us < least_us)
        world_fail(world, "client %d on %s: %u a second, but %" PRIu64 " us after the last",
                   (int)(client - world->clients), client->node->id, client->rate,
                   world->now_us - before_us);
}

/* With a rate offsets jump; a gap is still ahead of what it has. */
static bool gap_follows(const struct sim_client *client, uint64_t epoch, uint64_t from)
{
    struct position at = client->at;
    if (client->rate)
        return position_compare((struct position){epoch, from}, at) > 0;
    return epoch == at.epoch ? from == at.offset + 1 : from == 1;
}

static size_t grant_of(const struct world *world, int session, uint64_t epoch)
{
    size_t i = 0;
    while (i < world->granted_len[session] && world->granted[session][i].epoch != epoch)
        i++;
    return i;
}

/* A client of the owner itself has got it. */
static void note_delivered(struct world *world, const struct sim_client *client, struct position at)
{
    size_t i = grant_of(world, client->session, at.epoch);
    if (i == world->granted_len[client->session])
        return;
    if (!strcmp(world->granted[client->session][i].owner, client->node->id) &&
        world->granted[client->session][i].delivered < at.offset)
        world->granted[client->session][i].delivered = at.offset;
}

/* How far the owner of that epoch got, where it lives and has begun the next epoch, too: it knows
 * that, whatever the store has taken. 0: not so, or the client came later or by a token, and read
 * the history, or a third epoch has begun meanwhile. */
static uint64_t told_end(const struct sim_client *client, uint64_t epoch, uint64_t next)
{
    const struct world *world = client->world;
    int session = client->session;
    size_t i = grant_of(world, session, epoch);
    if (i + 2 != world->granted_len[session] || world->granted[session][i + 1].epoch != next ||
        world->granted[session][i].life != world->granted[session][i + 1].life ||
        strcmp(world->granted[session][i].owner, world->granted[session][i + 1].owner) != 0)
        return 0;
    return !client->resumed && !client->rate && !world->granted[session][i].deserted &&
                   client->welcomed_us < world->granted[session][i + 1].at_us
               ? world->granted[session][i].delivered
               : 0;
}

static void check_order(struct sim_client *client, struct position at)
{
    struct world *world = client->world;
    struct position last = client->at;
    int index = (int)(client - world->clients);
    if (position_compare(at, last) <= 0) {
        world_fail(world, "client %d on %s got %" PRIu64 ".%" PRIu64 " after %" PRIu64 ".%" PRIu64,
                   index, client->node->id, at.epoch, at.offset, last.epoch, last.offset);
    } else if (client->rate) {
        check_rate(client);
    } else if (at.epoch == last.epoch ? at.offset != last.offset + 1 : at.offset != 1) {
        world_fail(world,
                   "client %d on %s: silent gap between %" PRIu64 ".%" PRIu64 " and %" PRIu64
                   ".%" PRIu64,
                   index, client->node->id, last.epoch, last.offset, at.epoch, at.offset);
    } else if (at.epoch != last.epoch && !world->rolls_back && !world->loses_data &&
               known_end(world, client->session, last.epoch) > last.offset) {
        world_fail(world,
                   "client %d on %s: end of epoch %" PRIu64 " lost silently: %" PRIu64
                   " of %" PRIu64,
                   index, client->node->id, last.epoch, last.offset,
                   known_end(world, client->session, last.epoch));
    }
    if (at.epoch != last.epoch && !world->rolls_back && !world->loses_data &&
        told_end(client, last.epoch, at.epoch) > last.offset)
        world_fail(world,
                   "client %d on %s: %" PRIu64 " of epoch %" PRIu64
                   " is the last, though its owner "
                   "gave its own clients %" PRIu64 " and began %" PRIu64 " itself",
                   index, client->node->id, last.offset, last.epoch,
                   told_end(client, last.epoch, at.epoch), at.epoch);
    client->at = at;
}

static void read_message(struct sim_client *client, const char *text)
{
    struct world *world = client->world;
    world_say(world, "client %d on %s: %s", (int)(client - world->clients), client->node->id, text);
    if (strstr(text, "\"type\":\"WELCOME\"")) {
        client->welcomed = true;
        client->welcomed_us = world->now_us;
        const char *id = strstr(text, "\"client\":\"");
        if (id)
            snprintf(client->id, sizeof client->id, "%.32s", id + strlen("\"client\":\""));
        client->at = (struct position){field(text, "\"epoch\":"), field(text, "\"offset\":")};
        client->resumed = strstr(text, "\"resumed\":true") != NULL;
        if (client->resumed && position_compare(client->at, client->token) != 0)
            world_fail(world, "resumed at another position than asked for");
    } else if (strstr(text, "\"type\":\"MESSAGE\"")) {
        struct position at = {field(text, "\"epoch\":"), field(text, "\"offset\":")};
        if (!client->welcomed)
            world_fail(world, "MESSAGE before WELCOME");
        if (client->at.epoch)
            check_order(client, at);
        client->at = at;
        note_delivered(world, client, at);
        note_seen(world, client->session, at);
        world->deliveries++;
        const char *marker = strstr(text, "marker-");
        if (marker)
            snprintf(client->last_marker, sizeof client->last_marker, "%.*s",
                     (int)strcspn(marker, " \""), marker);
    } else if (strstr(text, "\"type\":\"ACK\"")) {
        client->acked = field(text, "\"id\":");
    } else if (strstr(text, "\"type\":\"GAP\"")) {
        uint64_t epoch = field(text, "\"epoch\":"), from = field(text, "\"from\":"),
                 to = field(text, "\"to\":");
        world->gaps++;
        if (client->at.epoch && !gap_follows(client, epoch, from))
            world_fail(world,
                       "client %d: GAP %" PRIu64 " %" PRIu64 "..%" PRIu64 " after %" PRIu64
                       ".%" PRIu64,
                       (int)(client - world->clients), epoch, from, to, client->at.epoch,
                       client->at.offset);
        /* to 0: the end of that epoch, wherever it was */
        client->at = (struct position){epoch, to ? to : UINT64_MAX / 2};
    }
}

static void read_boxes(struct sim_client *client, const uint8_t *bytes, size_t len)
{
    char text[4096];
    struct box box;
    while (box_next(&bytes, &len, &box)) {
        assert(box.len < sizeof text);
        memcpy(text, box.bytes, box.len);
        text[box.len] = '\0';
        struct sim_client *reader = client->page ? page_reads(client, text) : client;
        if (!reader)
            continue;
        if (client->protocol)
            read_message(reader, text);
        else if (strstr(text, "marker-"))
            snprintf(client->last_marker, sizeof client->last_marker, "%.*s",
                     (int)strcspn(strstr(text, "marker-"), " \""), strstr(text, "marker-"));
    }
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
    node_works(client->node, 10);
    read_boxes(client, frames, len);
    if (!client->world->quiet && !client->world->calm && chance(client->world, 10)) {
        client->busy = true;
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
    char resume[128], request[192];
    snprintf(resume, sizeof resume, "&resume=%" PRIu64 ".%" PRIu64 ".%s", client->token.epoch,
             client->token.offset, client->id);
    char user[16] = "u";
    if (world->own_urls)
        snprintf(user, sizeof user, "c%d", (int)(client - world->clients));
    char rate[32] = "";
    if (client->rate)
        snprintf(rate, sizeof rate, "&rate=%u", client->rate);
    snprintf(request, sizeof request, "/%s/v%d?svc%s%s", user, client->session, rate,
             client->protocol && client->has_token ? resume : "");
    if (client->alone)
        snprintf(request, sizeof request, "/u?subscribe%s%s", client->id[0] ? "&resume=0.0." : "",
                 client->id);
    struct url_options options = {.protocol_client = client->protocol,
                                  .may_subscribe = client->protocol};
    struct target target;
    const char *why;
    if (url_parse(world->conf, request, strlen(request), &options, &target, &why) != STATUS_OK)
        abort();
    client->open = true;
    client->closing = client->busy = client->welcomed = false;
    client->said = client->heard = client->arrived = 0;
    client->at = (struct position){0, 0};
    client->got_us = 0;
    client->last_marker[0] = '\0';
    if (client->page)
        page_started(client);
    if (door_open(client->node->hub, &client->client, &target, &in6addr_loopback,
                  client->protocol ? BOX_JSON : BOX_RAW) != STATUS_OK)
        abort();
    target_fini(&target);
    if (client->page)
        page_acts(client, true);
}

static void on_start(void *ctx)
{
    struct client_event *event = ctx;
    node_event(event->client->node, event->client->life, on_start_turn, event);
}

void client_start(struct world *world, int index, int node)
{
    struct sim_client *client = &world->clients[index];
    client->world = world;
    client->node = &world->nodes[node];
    client->life = client->node->life;
    client->connection++;
    if (client->protocol && client->at.epoch && client->at.offset < UINT64_MAX / 2) {
        client->has_token = true;
        client->token = client->at;
    }
    client_later(client, on_start, between(world, 100, 3000), 0);
}

void client_takes_id(struct sim_client *client, const struct sim_client *from)
{
    snprintf(client->id, sizeof client->id, "%s", from ? from->id : "0123abcd");
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
        int len = snprintf(text, sizeof text, "say %d.%u.%u %" PRIu64,
                           (int)(client - client->world->clients), client->connection, client->life,
                           ++client->said);
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

static void on_subscribe_turn(void *ctx)
{
    struct client_event *event = ctx;
    if (current(event) && !event->client->closing)
        (event->code ? page_subscribe : page_unsubscribe)(event->client);
    free(event);
}

static void on_subscribe(void *ctx)
{
    struct client_event *event = ctx;
    node_event(event->client->node, event->client->life, on_subscribe_turn, event);
}

void page_acts(struct sim_client *client, bool subscribes)
{
    if (client->open)
        client_later(client, on_subscribe, between(client->world, 1, 5000), subscribes);
}

struct send_event {
    struct client_event event; /* first: freed as such where its node is gone */
    uint64_t id;
};

static void on_send_turn(void *ctx)
{
    struct send_event *send = ctx;
    struct sim_client *client = send->event.client;
    char text[160];
    if (current(&send->event) && !client->closing) {
        int len = snprintf(text, sizeof text,
                           "{\"type\":\"SEND\",\"id\":%" PRIu64
                           ",\"payload\":\"say %d.%u.%u %" PRIu64 "\"}",
                           send->id, (int)(client - client->world->clients), client->connection,
                           client->life, send->id);
        door_message(&client->client, OPCODE_TEXT, text, (size_t)len);
    }
    free(send);
}

static void on_send(void *ctx)
{
    struct send_event *send = ctx;
    node_event(send->event.client->node, send->event.client->life, on_send_turn, send);
}

void client_sends(struct sim_client *client, uint64_t id)
{
    struct send_event *send = malloc(sizeof *send);
    *send = (struct send_event){{client, client->connection, 0}, id};
    client->acked = 0;
    at_us(client->world, client->world->now_us + 1, on_send, send);
}

void clients_of_node_die(struct sim_node *node)
{
    for (int i = 0; i < CLIENTS; i++)
        if (node->world->clients[i].node == node)
            node->world->clients[i].open = false;
}
