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
#include "core/node/setup.h"
#include "core/operators.h"
#include "core/ports.h"
#include "core/tail.h"

struct hub;

struct hub *hub_new(const struct hub_setup *setup);
/* After the bus, the front and the upstreams have been stopped; frees everything. Upstreams still
 * open are reset. */
void hub_free(struct hub *hub);

/* Starts to register. */
void hub_start(struct hub *hub);
/* Sets the time of this turn; fences where the lease has run out; runs due timers. Before anything
 * else in a turn. Fencing happens here and where hub_flush begins, and nowhere else: no list
 * changes under the feet of who walks it. */
void hub_enter(struct hub *hub, uint64_t now_ms);
/* Writes what this turn produced: to clients, to the bus. At the end of each turn. */
void hub_flush(struct hub *hub);
/* The latest time at which hub_enter has to be called next, in ms of the same clock; UINT64_MAX:
 * no need. */
uint64_t hub_next_deadline(const struct hub *hub);
/* A new configuration: services, limits. Sessions keep the service they were opened with; clients
 * of a removed one are closed with 1001. */
void hub_reload(struct hub *hub, struct conf *conf);
/* Stops taking clients, hands sessions over, closes clients over node.drain, releases; then
 * on_drained. */
void hub_drain(struct hub *hub);
enum node_state hub_state(const struct hub *hub);
/* As the store and the admin port name it. */
const char *node_state_name(enum node_state state);
/* May take clients: the lease is valid (or on_loss is serve), not draining. */
bool hub_ready(const struct hub *hub);
/* Why not, in one line, with Redis' own words where it is the cause; "" where it is ready. */
#define HUB_WHY_BYTES 480
void hub_why_not_ready(const struct hub *hub, char *out);
const char *hub_node_id(const struct hub *hub);
struct conf *hub_conf(const struct hub *hub);

/* Events of upstream sockets. upstream is the one that open returned. An event of one that the core
 * has reset is a programmer's error. */
void hub_upstream_opened(struct session *session, struct upstream *upstream);
/* One whole message, checked, its heartbeat replies taken out. The core takes over the caller's
 * reference. */
void hub_upstream_message(struct session *session, struct upstream *upstream,
                          struct publication *publication);
/* A message was lost because memory ran out; the caller has counted it. */
void hub_upstream_dropped(struct session *session, struct upstream *upstream);
void hub_upstream_writable(struct session *session, struct upstream *upstream);
void hub_upstream_closed(struct session *session, struct upstream *upstream,
                         const struct upstream_end *end);

struct hub_counts {
    uint64_t clients, sessions, owned, upstreams, messages_in, messages_out;
};
void hub_count(const struct hub *hub, struct hub_counts *out);
/* Asserts what must hold of every part between two turns; for tests. */
void hub_check(const struct hub *hub);

#endif
