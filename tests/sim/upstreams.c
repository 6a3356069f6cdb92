/* Backends of the simulated cluster, and the checks on what they see. */
#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sim.h"

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
    struct upstream_event *event = calloc(1, sizeof(*event));
    event->upstream = upstream;
    event->kind = kind;
    snprintf(event->text, sizeof(event->text), "%s", text);
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
    node_works(node, 10);
    struct upstream *upstream = calloc(1, sizeof(*upstream));
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
    assert(upstream->state == SIM_OPEN && len < sizeof(text));
    node_works(node, 10);
    memcpy(text, payload, len);
    if (sscanf(text, "send %u %" SCNu64, &client, &number) == 2) {
        world_say(world, "backend gets %s from %s", text, node->id);
        send_arrives(world, upstream, (int)client, number);
        return STATUS_OK;
    }
    if (sscanf(text, "say %u.%u.%u %" SCNu64, &client, &connection, &life, &number) != 4) {
        world_fail(world, "backend got \"%s\"", text);
        return STATUS_OK;
    }
    world->commands++;
    world_say(world, "backend gets %s from %s", text, node->id);
    struct sim_client *from = client_at(world, client);
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
    (void)code;
    (void)reason;
    node_works(ctx, 10);
    upstream->state = SIM_CLOSING;
    for (uint64_t i = between(world, 0, 2); i > 0; i--) {
        /* A push that was on its way before the backend saw the close */
        char text[96];
        snprintf(text, sizeof(text), "late %" PRIu64, ++upstream->number);
        upstream_later(upstream, EVENT_MESSAGE, between(world, 50, 3000), text);
    }
    bool slow = world->calm ? world->closes_slowly : chance(world, 5);
    upstream_later(upstream, EVENT_CLOSED, slow ? 1000000 : between(world, 300, 20000), "");
}

static void upstream_reset(void *ctx, struct upstream *upstream)
{
    struct sim_node *node = ctx;
    if (node->alive) /* else it is freed, for it was killed */
        node_works(node, 10);
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
            snprintf(text, sizeof(text), "%s %" PRIu64, marker, ++upstream->number);
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

static bool is_held(const struct upstream *upstream)
{
    return (upstream->state == SIM_OPEN || upstream->state == SIM_CLOSING) &&
           upstream->node->alive && upstream->life == upstream->node->life &&
           !upstream->node->paused;
}

int upstreams_held(const struct world *world, int session)
{
    int held = 0;
    for (const struct upstream *upstream = world->upstreams; upstream; upstream = upstream->next)
        held += upstream->backend == session && is_held(upstream);
    return held;
}

void upstreams_count(const struct world *world, int held[SESSIONS])
{
    memset(held, 0, SESSIONS * sizeof(*held));
    for (const struct upstream *upstream = world->upstreams; upstream; upstream = upstream->next)
        if (upstream->state != SIM_OVER && upstream->backend < SESSIONS && is_held(upstream))
            held[upstream->backend]++;
}
