/*
 * Backend sockets: connects to the backend of a session, speaks WebSocket as the client, keeps the
 * text heartbeat, and tells the core of messages and of the end.
 *
 * It decides nothing: when to connect, retry or close is the core's. lws carries the bytes (TCP,
 * TLS with verification, what could not be written yet); names are resolved by loop/resolve.h,
 * which never blocks.
 */
#ifndef VINHUB_UPSTREAM_UPSTREAM_H
#define VINHUB_UPSTREAM_UPSTREAM_H

#include <stddef.h>

#include "common/status.h"
#include "core/ports.h"

struct loop;
struct upstreams;

/* Of the hub's setup; its ctx is the struct upstreams. */
extern const struct upstream_ops upstream_socket_ops;

MUST_USE enum status upstreams_new(struct loop *loop, struct upstreams **out);
/* Resets what is still open, without events. After hub_free, which resets its upstreams. */
void upstreams_free(struct upstreams *upstreams);
/* Files of authorities are read again: connections made from now on trust what they hold then. */
void upstreams_reload(struct upstreams *upstreams);
/* Objects alive: open, connecting, and waiting for one of the 256 places to connect. */
size_t upstreams_count(const struct upstreams *upstreams);

#endif
