#include "bus/redis_cluster.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uthash.h>

#include "bus/redis_cluster_asker.h"
#include "bus/redis_slots.h"
#include "common/clock.h"
#include "common/log.h"

#define HELD_BYTES_MAX (64 * 1024 * 1024)
#define BOUNCES_MAX    100 /* of one op; with the pause below, more than a migrating slot takes */
#define ASKED_KEEP_MS \
    60000 /* a server that has no slot yet is kept while slots are on their way to it */
#define REFRESH_PAUSE_MS 20 /* between two rounds, while a slot is on its way */

struct server {
    struct redis_primary *primary;
    struct redis_cluster *cluster;
    char *host;
    uint16_t port;
    bool tried;        /* open, or failed at least once: no reason to wait for it */
    bool lost;         /* was away, or never there, while it was needed */
    bool mapped;       /* in the latest map, also one that is not installed yet */
    bool leaving;      /* freed at the end of the turn */
    uint64_t asked_ms; /* when a slot on its way here was asked for last */
    struct server *next;
};

/* A channel that is wanted, and where it is subscribed. */
struct placed {
    char *channel;
    uint16_t slot;
    struct server *server; /* NULL: nowhere yet */
    UT_hash_handle hh;
};

enum phase {
    PHASE_SETTLED,  /* ops go by the map */
    PHASE_ASKING,   /* new ops are held; a new map is awaited */
    PHASE_OPENING,  /* its servers are tried */
    PHASE_DRAINING, /* what is in flight is awaited */
};

struct redis_cluster {
    const struct redis_setup *setup;
    const struct redis_topology_events *events;
    void *ctx;
    struct redis_cluster_asker *asker;
    char *inbox;
    uint16_t inbox_slot,
        home_slot; /* home: of the nodes, whose server makes the bus connected or not */
    struct server *servers;
    struct server **map;  /* by slot */
    struct server **next; /* the one that is coming */
    bool mapped;          /* map was installed */
    bool open;            /* on_open was said */
    enum phase phase;
    uint64_t phase_ms, settled_ms;
    size_t barriers;
    struct redis_op_list bounced, held;
    size_t held_bytes;
    struct placed *placed;
    struct loop_timer *timer;
    uint64_t heard_ms; /* of a server that had the inbox before */
    bool reopens;      /* when the map is settled: some data may have changed unseen */
    bool reaps, freeing;
};

static void cluster_advance(struct redis_cluster *c);

/* --- connected or not --- */

static void cluster_update_open(struct redis_cluster *c)
{
    const struct server *home = c->map[c->home_slot];
    bool open = c->mapped && home != NULL && redis_primary_open(home->primary);
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
static void cluster_reopen(struct redis_cluster *c)
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
    struct server *server = ctx;
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
    struct server *server = ctx;
    server->lost = true;
    cluster_update_open(server->cluster);
}

static void on_progress(void *ctx)
{
    struct server *server = ctx;
    server->cluster->events->on_progress(server->cluster->ctx);
}

static void on_failed(void *ctx, struct redis_primary *primary)
{
    (void)primary;
    struct server *server = ctx;
    server->tried = server->lost = true;
    redis_cluster_ask(server->cluster->asker);
    cluster_advance(server->cluster);
}

static void on_subscribed(void *ctx, const char *channel)
{
    struct server *server = ctx;
    server->cluster->events->on_subscribed(server->cluster->ctx, channel);
}

static void on_message(void *ctx, const char *channel, struct slice message)
{
    struct server *server = ctx;
    server->cluster->events->on_message(server->cluster->ctx, channel, message);
}

/* The channel follows when the new map is installed; where it was the old one, it is asked for
 * again then. */
static void on_misplaced(void *ctx);
static bool on_redirect(void *ctx, struct redis_op *op, const char *error);

static const struct redis_primary_events primary_events = {.on_open = on_open,
                                                           .on_closed = on_closed,
                                                           .on_progress = on_progress,
                                                           .on_redirect = on_redirect,
                                                           .on_failed = on_failed,
                                                           .on_subscribed = on_subscribed,
                                                           .on_message = on_message,
                                                           .on_misplaced = on_misplaced};

static struct server *cluster_server(struct redis_cluster *c, const char *host, uint16_t port)
{
    for (struct server *server = c->servers; server != NULL; server = server->next) {
        if (!server->leaving && server->port == port && strcmp(server->host, host) == 0)
            return server;
    }
    struct server *server = redis_claim_memory(1, sizeof(*server));
    server->cluster = c;
    server->host = redis_copy_text(host);
    server->port = port;
    server->primary = redis_primary_new(c->setup, &primary_events, server);
    server->next = c->servers;
    c->servers = server;
    redis_primary_place(server->primary, host, port);
    redis_cluster_asker_learn(c->asker, host, port);
    return server;
}

static void server_free(struct server *server)
{
    redis_primary_free(server->primary);
    free(server->host);
    free(server);
}

/* --- ops --- */

static void cluster_route(struct redis_cluster *c, struct redis_op *op)
{
    struct server *server = c->map[op->slot];
    if (server != NULL)
        redis_primary_send(server->primary, op);
    else
        redis_op_finish(op, STATUS_IO, NULL);
}

void redis_cluster_send(struct redis_cluster *c, struct redis_op *op, const char *key)
{
    op->slot = redis_slot_of(key);
    if (c->phase == PHASE_SETTLED) {
        cluster_route(c, op);
    } else if (!c->mapped || c->held_bytes + op->request.len > HELD_BYTES_MAX) {
        redis_op_finish(op, STATUS_IO, NULL);
    } else {
        c->held_bytes += op->request.len;
        redis_op_list_add(&c->held, op);
    }
}

static void finish_all(struct redis_op_list *list)
{
    struct redis_op *op;
    while ((op = redis_op_list_take(list)) != NULL)
        redis_op_finish(op, STATUS_IO, NULL);
}

static void cluster_release(struct redis_cluster *c)
{
    struct redis_op_list lists[] = {c->bounced, c->held};
    c->bounced = c->held = (struct redis_op_list){0};
    c->held_bytes = 0;
    c->phase = PHASE_SETTLED;
    c->settled_ms = clock_boot_ms();
    struct redis_op *op;
    for (size_t i = 0; i < 2; i++) {
        while ((op = redis_op_list_take(&lists[i])) != NULL)
            cluster_route(c, op);
    }
    c->events->on_progress(c->ctx);
}

/* --- a new map --- */

static void cluster_begin(struct redis_cluster *c)
{
    if (c->phase != PHASE_SETTLED)
        return;
    c->phase = PHASE_ASKING;
    c->phase_ms = clock_boot_ms();
    bool at_once = c->phase_ms - c->settled_ms >= REFRESH_PAUSE_MS;
    loop_timer_start(c->timer, at_once ? 0 : REFRESH_PAUSE_MS);
}

static void on_misplaced(void *ctx)
{
    struct server *server = ctx;
    cluster_begin(server->cluster);
}

static bool starts_with(const char *text, const char *start)
{
    return strncmp(text, start, strlen(start)) == 0;
}

/* A slot that is on its way: its source sends on what it does not have any more. */
static bool follow_ask(struct redis_cluster *c, struct server *source, struct redis_op *op,
                       const char *error)
{
    char host[256];
    uint16_t port;
    if (!redis_redirect_read(error, host, sizeof(host), &port))
        return false;
    struct server *target = cluster_server(c, host[0] != '\0' ? host : source->host, port);
    target->asked_ms = clock_boot_ms();
    /* While others of its session wait for the new map, it must not overtake them. */
    if (c->phase != PHASE_SETTLED || !redis_primary_open(target->primary)) {
        redis_op_list_add(&c->bounced, op);
        cluster_begin(c);
        return true;
    }
    op->asking = true;
    redis_primary_send(target->primary, op);
    return true;
}

static bool on_redirect(void *ctx, struct redis_op *op, const char *error)
{
    struct server *server = ctx;
    struct redis_cluster *c = server->cluster;
    bool moved = starts_with(error, "MOVED "), torn = starts_with(error, "TRYAGAIN"),
         ask = starts_with(error, "ASK ");
    if (starts_with(error, "CLUSTERDOWN"))
        redis_cluster_ask(c->asker);
    if ((!moved && !torn && !ask) || c->freeing || op->tries >= BOUNCES_MAX)
        return false;
    if (ask)
        return follow_ask(c, server, op, error);
    redis_op_list_add(&c->bounced, op);
    cluster_begin(c);
    return true;
}

/* Each server has a channel whose slot it serves for its probe; the inbox is that of the one that
 * has it. */
static void place_probe(struct redis_cluster *c, struct server *server)
{
    if (c->map[c->inbox_slot] == server) {
        redis_primary_probe(server->primary, c->inbox);
        return;
    }
    char channel[128];
    for (unsigned salt = 0; salt < 4 * REDIS_SLOTS; salt++) {
        snprintf(channel, sizeof(channel), "%s:probe:{%s:%u}", c->setup->prefix, c->setup->node,
                 salt);
        if (c->map[redis_slot_of(channel)] == server) {
            redis_primary_probe(server->primary, channel);
            return;
        }
    }
    redis_primary_probe(server->primary, NULL);
}

static void place_channel(struct redis_cluster *c, struct placed *placed)
{
    struct server *server = c->map[placed->slot];
    if (server == placed->server)
        return;
    if (placed->server != NULL)
        redis_primary_unsubscribe(placed->server->primary, placed->channel);
    placed->server = server;
    if (server != NULL)
        redis_primary_subscribe(server->primary, placed->channel);
}

/* True where a slot goes from a server that could not be asked to another one: a replica was
 * promoted. */
static bool has_failover(const struct redis_cluster *c)
{
    for (size_t slot = 0; slot < REDIS_SLOTS; slot++) {
        const struct server *before = c->map[slot];
        if (before != NULL && before != c->next[slot] && !redis_primary_open(before->primary))
            return true;
    }
    return false;
}

static void cluster_install(struct redis_cluster *c)
{
    bool failover = has_failover(c);
    if (c->map[c->inbox_slot] != NULL)
        c->heard_ms = redis_cluster_heard_ms(c);
    struct server **before = c->map;
    c->map = c->next;
    c->next = NULL;
    c->mapped = true;
    free(before);
    for (struct server *server = c->servers; server != NULL; server = server->next) {
        if (server->mapped)
            place_probe(c, server);
    }
    struct placed *placed, *next;
    HASH_ITER (hh, c->placed, placed, next) {
        place_channel(c, placed);
    }
    for (struct server *server = c->servers; server != NULL; server = server->next) {
        redis_primary_retry(server->primary);
        server->leaving = !server->mapped && clock_boot_ms() - server->asked_ms > ASKED_KEEP_MS;
        c->reaps = c->reaps || server->leaving;
    }
    c->reopens = c->reopens || failover;
    cluster_release(c);
    cluster_update_open(c);
    cluster_reopen(c);
}

static void on_barrier(struct redis_op *op)
{
    struct redis_cluster *c = op->owner;
    c->barriers--;
    cluster_advance(c);
}

static void cluster_drain(struct redis_cluster *c)
{
    c->phase = PHASE_DRAINING;
    c->barriers = 1; /* this function's own: a refused one is answered before send returns */
    for (struct server *server = c->servers; server != NULL; server = server->next) {
        if (!redis_primary_open(server->primary))
            continue;
        struct redis_op *op = redis_op_new(on_barrier, c);
        redis_request_begin(&op->request, 1);
        redis_request_text(&op->request, "PING");
        c->barriers++;
        redis_primary_send(server->primary, op);
    }
    c->barriers--;
}

static bool all_tried(const struct redis_cluster *c)
{
    for (const struct server *server = c->servers; server != NULL; server = server->next) {
        if (!server->tried && !server->leaving)
            return false;
    }
    return true;
}

/* Goes on where what is awaited has come. */
static void cluster_advance(struct redis_cluster *c)
{
    if (c->freeing)
        return;
    if (c->phase == PHASE_OPENING && all_tried(c))
        cluster_drain(c);
    if (c->phase == PHASE_DRAINING && c->barriers == 0)
        cluster_install(c);
}

static void add_range(void *ctx, uint16_t first, uint16_t last, const char *host, uint16_t port)
{
    struct redis_cluster *c = ctx;
    struct server *server = cluster_server(c, host, port);
    server->mapped = true;
    for (size_t slot = first; slot <= last; slot++)
        c->next[slot] = server;
}

static void on_slots(void *ctx, const struct redisReply *reply, const char *host)
{
    struct redis_cluster *c = ctx;
    if (c->phase != PHASE_SETTLED && c->phase != PHASE_ASKING)
        return;
    for (struct server *server = c->servers; server != NULL; server = server->next)
        server->mapped = false;
    c->next = redis_claim_memory(REDIS_SLOTS, sizeof(*c->next));
    bool good = redis_slots_read(reply, host, add_range, c);
    bool same = c->mapped && memcmp(c->map, c->next, REDIS_SLOTS * sizeof(*c->map)) == 0;
    if (!good || (same && c->phase == PHASE_SETTLED)) {
        free(c->next);
        c->next = NULL;
        return;
    }
    if (c->phase == PHASE_SETTLED)
        c->phase_ms = clock_boot_ms();
    c->phase = PHASE_OPENING;
    loop_timer_start(c->timer, c->setup->deadline_ms);
    cluster_advance(c);
}

/* The pause before asking, or the limit of how long ops are held. */
static void on_timer(void *ctx)
{
    struct redis_cluster *c = ctx;
    uint64_t held_ms = clock_boot_ms() - c->phase_ms;
    if (c->phase == PHASE_SETTLED)
        return;
    if (held_ms < c->setup->deadline_ms) {
        if (c->phase == PHASE_ASKING)
            redis_cluster_ask(c->asker);
        loop_timer_start(c->timer, c->setup->deadline_ms - held_ms);
        return;
    }
    if (c->phase == PHASE_OPENING) {
        cluster_drain(c);
        cluster_advance(c);
    } else if (c->phase == PHASE_ASKING) {
        finish_all(&c->bounced); /* no new map came: nobody knows where they belong */
        cluster_release(c);
        cluster_reopen(c);
    }
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
    c->map = redis_claim_memory(REDIS_SLOTS, sizeof(*c->map));
    c->timer = loop_timer_new(setup->loop, on_timer, c);
    const struct redis_link_options link = {.loop = setup->loop,
                                            .url = setup->url,
                                            .tls = setup->tls,
                                            .deadline_ms = setup->deadline_ms};
    c->asker = redis_cluster_asker_new(&link, on_slots, c);
    return c;
}

void redis_cluster_free(struct redis_cluster *c)
{
    c->freeing = true;
    redis_cluster_asker_free(c->asker);
    finish_all(&c->bounced);
    finish_all(&c->held);
    while (c->servers != NULL) {
        struct server *next = c->servers->next;
        server_free(c->servers);
        c->servers = next;
    }
    struct placed *placed, *next;
    HASH_ITER (hh, c->placed, placed, next) {
        HASH_DEL(c->placed, placed);
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
    struct placed *placed;
    HASH_FIND_STR(c->placed, channel, placed);
    if (placed == NULL) {
        placed = redis_claim_memory(1, sizeof(*placed));
        placed->channel = redis_copy_text(channel);
        placed->slot = redis_slot_of(channel);
        HASH_ADD_KEYPTR(hh, c->placed, placed->channel, strlen(placed->channel), placed);
        place_channel(c, placed);
    } else if (placed->server != NULL) {
        redis_primary_subscribe(placed->server->primary, channel);
    }
}

void redis_cluster_unsubscribe(struct redis_cluster *c, const char *channel)
{
    struct placed *placed;
    HASH_FIND_STR(c->placed, channel, placed);
    if (placed == NULL)
        return;
    if (placed->server != NULL)
        redis_primary_unsubscribe(placed->server->primary, channel);
    HASH_DEL(c->placed, placed);
    free(placed->channel);
    free(placed);
}

uint64_t redis_cluster_heard_ms(const struct redis_cluster *c)
{
    const struct server *server = c->map[c->inbox_slot];
    uint64_t heard_ms = server != NULL ? redis_primary_heard_ms(server->primary) : 0;
    return heard_ms > c->heard_ms ? heard_ms : c->heard_ms;
}

/* A server can't be freed while one of its connections may be calling. */
static void cluster_reap(struct redis_cluster *c)
{
    c->reaps = false;
    for (struct server **at = &c->servers; *at != NULL;) {
        struct server *server = *at;
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
    for (struct server *server = c->servers; server != NULL; server = server->next)
        redis_primary_flush(server->primary);
}
