#include "bus/redis_cluster_private.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"

#define HELD_BYTES_MAX ((size_t)64 * 1024 * 1024)
/* Of one op; with the pause between two maps, more than a migrating slot takes. */
#define BOUNCES_MAX 100

/* --- connected or not --- */

void cluster_update_open(struct redis_cluster *c)
{
    const struct cluster_server *home = c->map[c->home_slot];
    bool open = c->mapped && home && redis_primary_open(home->primary);
    if (open == c->open)
        return;
    c->open = open;
    if (open) {
        c->reopens = false;
        c->events->on_open(c->ctx);
    } else {
        c->events->on_closed(c->ctx);
    }
}

/* A server came back, or its slots came to another one while it was away: what is held there must
 * be asserted. */
void cluster_reopen(struct redis_cluster *c)
{
    if (!c->reopens || c->phase != PHASE_SETTLED)
        return;
    c->reopens = false;
    if (!c->open)
        return;
    c->open = false;
    c->events->on_closed(c->ctx);
    cluster_update_open(c);
}

/* --- servers --- */

static void on_open(void *ctx, struct redis_primary *primary)
{
    (void)primary;
    struct cluster_server *server = ctx;
    struct redis_cluster *c = server->cluster;
    c->reopens = c->reopens || (server->lost && c->mapped);
    server->tried = true;
    server->lost = false;
    cluster_update_open(c);
    cluster_reopen(c);
    cluster_advance(c);
}

static void on_closed(void *ctx, struct redis_primary *primary)
{
    (void)primary;
    struct cluster_server *server = ctx;
    server->lost = true;
    cluster_update_open(server->cluster);
}

static void on_failed(void *ctx, struct redis_primary *primary)
{
    (void)primary;
    struct cluster_server *server = ctx;
    server->tried = server->lost = true;
    redis_slot_map_ask(server->cluster->refresh);
    cluster_advance(server->cluster);
}

/* The channel follows when the new map is installed; where it was the old one, it is asked for
 * again then. */
static void on_misplaced(void *ctx);
static bool on_redirect(void *ctx, struct redis_op *op, const char *error);

static const struct redis_primary_events primary_events = {.on_open = on_open,
                                                           .on_closed = on_closed,
                                                           .on_redirect = on_redirect,
                                                           .on_failed = on_failed,
                                                           .on_misplaced = on_misplaced};

struct cluster_server *cluster_server(struct redis_cluster *c, const char *host, uint16_t port)
{
    for (struct cluster_server *server = c->servers; server; server = server->next) {
        if (!server->leaving && server->port == port && strcmp(server->host, host) == 0)
            return server;
    }
    struct cluster_server *server = redis_claim_memory(1, sizeof(*server));
    server->cluster = c;
    server->host = redis_copy_text(host);
    server->port = port;
    server->primary = redis_primary_new(c->setup, &primary_events, server);
    server->next = c->servers;
    c->servers = server;
    redis_primary_place(server->primary, host, port);
    redis_slot_map_learn(c->refresh, host, port);
    return server;
}

static void server_free(struct cluster_server *server)
{
    redis_primary_free(server->primary);
    free(server->host);
    free(server);
}

/* --- ops --- */

void cluster_route(struct redis_cluster *c, struct redis_op *op)
{
    struct cluster_server *server = c->map[op->slot];
    if (server)
        redis_primary_send(server->primary, op);
    else
        redis_op_finish(op, STATUS_IO, NULL);
}

void redis_cluster_send(struct redis_cluster *c, struct redis_op *op, const char *key)
{
    op->slot = redis_slot_of(key);
    if (!c->moving[op->slot]) {
        cluster_route(c, op);
    } else if (c->held_bytes + op->request.len > HELD_BYTES_MAX) {
        redis_op_finish(op, STATUS_IO, NULL);
    } else {
        c->held_bytes += op->request.len;
        redis_op_list_add(&c->held, op);
    }
}

size_t redis_cluster_credit(struct redis_cluster *c, const char *key)
{
    struct cluster_server *server = c->map[redis_slot_of(key)];
    if (!c->moving[redis_slot_of(key)] && server)
        return redis_primary_credit(server->primary);
    c->out_of_credit = true;
    return 0;
}

bool redis_cluster_has_credit_again(struct redis_cluster *c)
{
    bool again = c->out_of_credit && c->phase == PHASE_SETTLED;
    if (again)
        c->out_of_credit = false;
    for (struct cluster_server *server = c->servers; server; server = server->next) {
        if (redis_primary_has_credit_again(server->primary))
            again = true;
    }
    return again;
}

static void on_misplaced(void *ctx)
{
    struct cluster_server *server = ctx;
    cluster_begin(server->cluster);
}

static bool starts_with(const char *text, const char *start)
{
    return strncmp(text, start, strlen(start)) == 0;
}

/* A slot that migrates: its source redirects (ASK) commands on keys that it does not have any
 * more. */
static bool follow_ask(struct redis_cluster *c, struct cluster_server *source, struct redis_op *op,
                       const char *error)
{
    char host[256];
    uint16_t port;
    if (!redis_redirect_read(error, host, sizeof(host), &port))
        return false;
    struct cluster_server *target = cluster_server(c, host[0] != '\0' ? host : source->host, port);
    target->asked_ms = clock_boot_ms();
    /* While others of its session wait for the new map, it must not overtake them. */
    if (c->moving[op->slot] || !redis_primary_open(target->primary)) {
        cluster_bounce(c, op);
        return true;
    }
    op->asking = true;
    redis_primary_send(target->primary, op);
    return true;
}

static bool on_redirect(void *ctx, struct redis_op *op, const char *error)
{
    struct cluster_server *server = ctx;
    struct redis_cluster *c = server->cluster;
    bool moved = starts_with(error, "MOVED "), torn = starts_with(error, "TRYAGAIN"),
         ask = starts_with(error, "ASK ");
    /* The server may be cut off from the others, and so may the server that gave the map. */
    if (starts_with(error, "CLUSTERDOWN"))
        redis_slot_map_ask_another(c->refresh);
    if ((!moved && !torn && !ask) || c->freeing || op->tries >= BOUNCES_MAX)
        return false;
    if (ask)
        return follow_ask(c, server, op, error);
    cluster_bounce(c, op);
    return true;
}

void cluster_place(struct redis_cluster *c, struct cluster_channel *placed)
{
    struct cluster_server *server = c->map[placed->slot];
    if (server == placed->server)
        return;
    if (placed->server)
        redis_primary_unsubscribe(placed->server->primary, placed->channel);
    placed->server = server;
    if (server)
        redis_primary_subscribe(server->primary, placed->channel);
}

/* --- for the topology --- */

struct redis_cluster *redis_cluster_new(const struct redis_setup *setup, const char *inbox,
                                        const struct redis_topology_events *events, void *ctx)
{
    struct redis_cluster *c = redis_claim_memory(1, sizeof(*c));
    c->setup = setup;
    c->events = events;
    c->ctx = ctx;
    c->inbox = redis_copy_text(inbox);
    c->inbox_slot = redis_slot_of(inbox);
    char nodes[128];
    snprintf(nodes, sizeof(nodes), "%s:nodes", setup->prefix);
    c->home_slot = redis_slot_of(nodes);
    c->map = redis_claim_memory(REDIS_SLOTS, sizeof(struct cluster_server *));
    c->timer = loop_timer_new(setup->loop, "redis_cluster", cluster_on_timer, c);
    const struct redis_link_options link = {.loop = setup->loop,
                                            .url = setup->url,
                                            .tls = setup->tls,
                                            .deadline_ms = setup->deadline_ms,
                                            .trouble = setup->trouble};
    c->refresh = redis_slot_map_refresh_new(&link, cluster_on_slots, c);
    return c;
}

void redis_cluster_free(struct redis_cluster *c)
{
    c->freeing = true;
    redis_slot_map_refresh_free(c->refresh);
    redis_op_list_finish(&c->bounced);
    redis_op_list_finish(&c->held);
    while (c->servers) {
        struct cluster_server *next = c->servers->next;
        server_free(c->servers);
        c->servers = next;
    }
    struct cluster_channel *placed, *next;
    HASH_ITER (hh, c->channels, placed, next) {
        /* The analyzer does not follow uthash. NOLINTNEXTLINE(clang-analyzer-unix.Malloc) */
        HASH_DEL(c->channels, placed);
        free(placed->channel);
        free(placed);
    }
    loop_timer_free(c->timer);
    free(c->map);
    free(c->next);
    free(c->inbox);
    free(c);
}

void redis_cluster_subscribe(struct redis_cluster *c, const char *channel)
{
    struct cluster_channel *placed;
    HASH_FIND_STR(c->channels, channel, placed);
    if (!placed) {
        placed = redis_claim_memory(1, sizeof(*placed));
        placed->channel = redis_copy_text(channel);
        placed->slot = redis_slot_of(channel);
        HASH_ADD_KEYPTR(hh, c->channels, placed->channel, strlen(placed->channel), placed);
        cluster_place(c, placed);
    } else if (placed->server) {
        redis_primary_subscribe(placed->server->primary, channel);
    }
}

void redis_cluster_unsubscribe(struct redis_cluster *c, const char *channel)
{
    struct cluster_channel *placed;
    HASH_FIND_STR(c->channels, channel, placed);
    if (!placed)
        return;
    if (placed->server)
        redis_primary_unsubscribe(placed->server->primary, channel);
    HASH_DEL(c->channels, placed);
    free(placed->channel);
    free(placed);
}

uint64_t redis_cluster_heard_ms(const struct redis_cluster *c)
{
    const struct cluster_server *server = c->map[c->inbox_slot];
    uint64_t heard_ms = server ? redis_primary_heard_ms(server->primary) : 0;
    return heard_ms > c->heard_ms ? heard_ms : c->heard_ms;
}

/* A server can't be freed while one of its connections may be calling. */
static void cluster_reap(struct redis_cluster *c)
{
    c->reaps = false;
    for (struct cluster_server **at = &c->servers; *at;) {
        struct cluster_server *server = *at;
        if (!server->leaving) {
            at = &server->next;
            continue;
        }
        *at = server->next;
        server_free(server);
    }
}

void redis_cluster_flush(struct redis_cluster *c)
{
    if (c->reaps)
        cluster_reap(c);
    for (struct cluster_server *server = c->servers; server; server = server->next)
        redis_primary_flush(server->primary);
}
