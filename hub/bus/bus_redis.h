/*
 * The bus over Redis: one server, Sentinel or Cluster, by hiredis on the hub's loop.
 *
 * Separate connections for commands and for subscriptions, each with a deadline for its answers and
 * jittered back-off; each subscription connection has its own probe. Scripts (lua/, one a file) are
 * loaded again where the server has lost them. A server that is more than 64 MiB behind is cut off.
 *
 * In a cluster the bus is connected while the primary with the nodes is. What was under way to
 * another primary that goes is answered with STATUS_IO at once, and a disconnection is told
 * together with the reconnection when that primary, or its successor, is there: then it has to be
 * asserted what was held. An answer that is late holds back those of later calls, whatever server
 * they went to.
 */
#ifndef VINHUB_BUS_BUS_REDIS_H
#define VINHUB_BUS_BUS_REDIS_H

#include <stddef.h>

#include "bus/bus.h"
#include "common/conf.h"
#include "common/status.h"
#include "loop/loop.h"

/*
 * conf is referenced: redis.*, node.lease. life: of this node, see envelope. Connecting starts with
 * the first turn and never ends. STATUS_INVALID: the URL or a file of TLS can't be used, why says
 * so in one line.
 */
MUST_USE enum status bus_redis_new(struct loop *loop, const struct conf *conf, const char *node_id,
                                   uint64_t life, struct bus **out, char *why, size_t why_len);

#endif
