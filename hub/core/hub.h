/*
 * The core of a node: sessions, clients, ownership and membership, as pure logic.
 *
 * It is driven by events with the time in, and acts through three ops tables (bus, upstream
 * sockets, client sockets). It reads no clock, opens no socket, and runs the same in the daemon and
 * in the simulation.
 *
 * Each turn: hub_enter(now) first, then events in any number, then hub_flush.
 */
#ifndef VINHUB_CORE_HUB_H
#define VINHUB_CORE_HUB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bus/bus.h"
#include "common/conf.h"
#include "common/publication.h"
#include "core/client/client.h"
#include "core/ports.h"

struct hub;

enum node_state { NODE_STARTING, NODE_UP, NODE_DRAINING, NODE_FENCED, NODE_STOPPED };
enum upstream_status {
    UPSTREAM_DOWN,
    UPSTREAM_CONNECTING,
    UPSTREAM_CONNECTED
}; /* values travel in STATUS envelopes */

/* What the wiring wants to know. All may be NULL. None may call back into the hub. */
struct hub_events {
    void (*on_state)(void *ctx, enum node_state state);
    /* A start under an id that another node holds: the node must exit 1. */
    void (*on_id_in_use)(void *ctx);
    /* All clients are gone and all sessions released after hub_drain. */
    void (*on_drained)(void *ctx);
    /* DRAIN was asked for over the bus. */
    void (*on_drain_asked)(void *ctx);
};

struct hub_setup {
    struct conf *conf; /* referenced */
    const char *node_id;
    uint64_t life; /* grows with each start of a node of this id: Unix time of start, ms */
    uint64_t seed; /* of jitter */
    const char *host, *version; /* for the node's record */
    uint64_t pid;
    struct bus *bus; /* borrowed; the hub listens to it */
    const struct upstream_ops *upstream_ops;
    void *upstream_ctx;
    const struct client_ops *client_ops;
    void *client_ctx;
    const struct hub_events *events;
    void *events_ctx;
    /* The clock that the write paths ask (contract: no write after the lease): CLOCK_BOOTTIME ms,
     * Unix ms. */
    uint64_t (*now_ms)(void *ctx);
    uint64_t (*unix_ms)(void *ctx);
    /* For the latency histogram, of the clock of received_us; NULL: none is kept */
    uint64_t (*now_us)(void *ctx);
    void *clock_ctx;
};

struct hub *hub_new(const struct hub_setup *setup);
/* After the bus, the front and the upstreams have been stopped; frees everything. Upstreams still
 * open are reset. */
void hub_free(struct hub *hub);

/* Starts to register. */
void hub_start(struct hub *hub);
/* Sets the time of this turn; fences where the lease has run out; runs due timers. Before anything
 * else in a turn. */
void hub_enter(struct hub *hub, uint64_t now_ms);
/* Writes what this turn produced: to clients, to the bus. At the end of each turn. */
void hub_flush(struct hub *hub);
/* When hub_enter is wanted next at the latest, ms of the same clock; UINT64_MAX: never. */
uint64_t hub_next_deadline(const struct hub *hub);
/* True where the lease is valid at this very moment; where not, the hub has been fenced by this
 * call. Asked before each write to a socket. */
bool hub_may_write(struct hub *hub);

/* A new configuration: services, limits. Sessions keep the service they were opened with; clients
 * of a removed one are closed with 1001. */
void hub_reload(struct hub *hub, struct conf *conf);
/* Stops taking clients, hands sessions over, closes clients over node.drain, releases; then
 * on_drained. */
void hub_drain(struct hub *hub);
enum node_state hub_state(const struct hub *hub);
const char *node_state_name(enum node_state state);
/* May take clients: the lease is valid (or on_loss is serve), not draining. */
bool hub_ready(const struct hub *hub);
/* Why not, in one line, with Redis' own words where it is the cause; "" where it is ready. */
#define HUB_WHY_BYTES 480
void hub_why_not_ready(const struct hub *hub, char *out);
const char *hub_node_id(const struct hub *hub);
struct conf *hub_conf(const struct hub *hub);

/* What upstream sockets tell. upstream is the one that open returned; told of one that the core has
 * reset: a programmer's error. */
void hub_upstream_opened(struct session *session, struct upstream *upstream);
/* One whole message, checked, its heartbeat replies taken out. The core takes over the caller's
 * reference. */
void hub_upstream_message(struct session *session, struct upstream *upstream,
                          struct publication *publication);
/* The same of one that could not be kept, for want of memory; it has been counted. */
void hub_upstream_dropped(struct session *session, struct upstream *upstream);
void hub_upstream_writable(struct session *session, struct upstream *upstream);
void hub_upstream_closed(struct session *session, struct upstream *upstream,
                         const struct upstream_end *end);

/* Operators. */
/* Publishes through the owner's order. done is called once, at the latest after 5 s: status 200
 * with the position, 404, 503, or 504. */
typedef void hub_published_fn(void *ctx, unsigned http_status, struct position at);
void hub_publish(struct hub *hub, const char *session_id, enum opcode opcode, const void *payload,
                 size_t len, hub_published_fn *done, void *ctx);
/* Closes all clients of the session on every node with 4006. */
void hub_close_session(struct hub *hub, const char *session_id);
/* Tells another node to drain. */
void hub_ask_drain(struct hub *hub, const char *node_id);

/*
 * Follows the publications of a session without being its client (core/tail.h says what of them):
 * fn runs for each, in order, from within a later turn's events or its end, and may not call back
 * into the hub. With an epoch in after, those that are kept of what follows that position come
 * first. Closed before hub_free.
 */
struct hub_tail;
typedef void hub_tail_fn(void *ctx, const struct publication *publication);
struct hub_tail *hub_tail_open(struct hub *hub, const char *session_id, struct position after,
                               hub_tail_fn *fn, void *ctx);
void hub_tail_close(struct hub_tail *tail);

struct hub_counts {
    uint64_t clients, sessions, owned, upstreams, messages_in, messages_out;
};
void hub_count(const struct hub *hub, struct hub_counts *out);

#endif
