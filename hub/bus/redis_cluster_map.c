#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bus/redis_cluster_private.h"
#include "common/clock.h"

/* A server without a slot is kept while slots may be on their way to it. */
#define ASKED_KEEP_MS    60000
#define REFRESH_PAUSE_MS 20 /* between two rounds, while a slot is on its way */

static void cluster_release(struct redis_cluster *c)
{
    struct redis_op_list lists[] = {c->bounced, c->held};
    c->bounced = c->held = (struct redis_op_list){0};
    c->held_bytes = 0;
    c->phase = PHASE_SETTLED;
    c->settled_ms = clock_boot_ms();
    memset(c->moving, 0, sizeof(c->moving));
    struct redis_op *op;
    for (size_t i = 0; i < 2; i++) {
        while ((op = redis_op_list_take(&lists[i])) != NULL)
            cluster_route(c, op);
    }
    c->setup->receiver->on_progress(c->setup->receiver_ctx);
}

void cluster_begin(struct redis_cluster *c)
{
    if (c->phase != PHASE_SETTLED)
        return;
    c->phase = PHASE_ASKING;
    c->phase_ms = clock_boot_ms();
    bool at_once = c->phase_ms - c->settled_ms >= REFRESH_PAUSE_MS;
    loop_timer_start(c->timer, at_once ? 0 : REFRESH_PAUSE_MS);
}

void cluster_bounce(struct redis_cluster *c, struct redis_op *op)
{
    redis_op_list_add(&c->bounced, op);
    c->drains_again = c->drains_again || (c->phase == PHASE_DRAINING && !c->moving[op->slot]);
    c->moving[op->slot] = true;
    cluster_begin(c);
}

/* Each server has a channel whose slot it serves for its probe; the inbox is that of the one that
 * has it. */
static void place_probe(struct redis_cluster *c, struct cluster_server *server)
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

/* True where a slot goes from a server that could not be asked to another one: a replica was
 * promoted. */
static bool has_failover(const struct redis_cluster *c)
{
    for (size_t slot = 0; slot < REDIS_SLOTS; slot++) {
        const struct cluster_server *before = c->map[slot];
        if (before && before != c->next[slot] && !redis_primary_open(before->primary))
            return true;
    }
    return false;
}

static void cluster_install(struct redis_cluster *c)
{
    bool failover = has_failover(c);
    if (c->map[c->inbox_slot])
        c->heard_ms = redis_cluster_heard_ms(c);
    struct cluster_server **before = c->map;
    c->map = c->next;
    c->next = NULL;
    c->mapped = true;
    free(before);
    for (struct cluster_server *server = c->servers; server; server = server->next) {
        if (server->mapped)
            place_probe(c, server);
    }
    struct cluster_channel *placed, *next;
    HASH_ITER (hh, c->channels, placed, next) {
        cluster_place(c, placed);
    }
    for (struct cluster_server *server = c->servers; server; server = server->next) {
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

/* Whether ops on slots that move may be in flight there. */
static bool is_concerned(const struct redis_cluster *c, const struct cluster_server *server)
{
    if (server->asked_ms != 0)
        return true;
    for (size_t slot = 0; slot < REDIS_SLOTS; slot++) {
        if (c->moving[slot] && (c->map[slot] == server || c->next[slot] == server))
            return true;
    }
    return false;
}

static void push_barrier(struct redis_cluster *c, struct cluster_server *server, bool replicated)
{
    struct redis_op *op = redis_op_new(REPLY_STATUS, on_barrier, c);
    redis_request_begin(&op->request, 1);
    redis_request_text(&op->request, "PING");
    op->vital = true;
    op->replicated = replicated;
    c->barriers++;
    redis_primary_send(server->primary, op);
}

static void cluster_drain(struct redis_cluster *c)
{
    c->phase = PHASE_DRAINING;
    c->drains_again = false;
    c->barriers = 1; /* this function's own: a refused one is answered before send returns */
    for (struct cluster_server *server = c->servers; server; server = server->next) {
        if (!redis_primary_open(server->primary) || !is_concerned(c, server))
            continue;
        push_barrier(c, server, false);
        if (c->setup->replicas > 0)
            push_barrier(c, server, true);
    }
    c->barriers--;
}

static bool all_tried(const struct redis_cluster *c)
{
    for (const struct cluster_server *server = c->servers; server; server = server->next) {
        if (!server->tried && !server->leaving)
            return false;
    }
    return true;
}

void cluster_advance(struct redis_cluster *c)
{
    if (c->freeing)
        return;
    if (c->phase == PHASE_OPENING && all_tried(c))
        cluster_drain(c);
    while (c->phase == PHASE_DRAINING && c->barriers == 0) {
        if (c->drains_again)
            cluster_drain(c);
        else
            cluster_install(c);
    }
}

static void add_range(void *ctx, uint16_t first, uint16_t last, const char *host, uint16_t port)
{
    struct redis_cluster *c = ctx;
    struct cluster_server *server = cluster_server(c, host, port);
    server->mapped = true;
    for (size_t slot = first; slot <= last; slot++)
        c->next[slot] = server;
}

void cluster_on_slots(void *ctx, const struct redisReply *reply, const char *host)
{
    struct redis_cluster *c = ctx;
    if (c->phase != PHASE_SETTLED && c->phase != PHASE_ASKING)
        return;
    for (struct cluster_server *server = c->servers; server; server = server->next)
        server->mapped = false;
    c->next = redis_claim_memory(REDIS_SLOTS, sizeof(struct cluster_server *));
    bool good = redis_slots_read(reply, host, add_range, c);
    bool same = c->mapped &&
                memcmp(c->map, c->next, REDIS_SLOTS * sizeof(struct cluster_server *)) == 0;
    if (!good || (same && c->phase == PHASE_SETTLED)) {
        free(c->next);
        c->next = NULL;
        return;
    }
    if (c->phase == PHASE_SETTLED)
        c->phase_ms = clock_boot_ms();
    c->phase = PHASE_OPENING;
    for (size_t slot = 0; slot < REDIS_SLOTS; slot++)
        c->moving[slot] = c->moving[slot] || (c->mapped && c->map[slot] != c->next[slot]);
    loop_timer_start(c->timer, c->setup->deadline_ms);
    cluster_advance(c);
}

void cluster_on_timer(void *ctx)
{
    struct redis_cluster *c = ctx;
    uint64_t held_ms = clock_boot_ms() - c->phase_ms;
    if (c->phase == PHASE_SETTLED)
        return;
    if (held_ms < c->setup->deadline_ms) {
        if (c->phase == PHASE_ASKING)
            redis_slot_map_ask(c->refresh);
        loop_timer_start(c->timer, c->setup->deadline_ms - held_ms);
        return;
    }
    if (c->phase == PHASE_OPENING) {
        cluster_drain(c);
        cluster_advance(c);
    } else if (c->phase == PHASE_ASKING) {
        redis_op_list_finish(&c->bounced); /* no new map came: nobody knows where they belong */
        cluster_release(c);
        cluster_reopen(c);
    }
}
