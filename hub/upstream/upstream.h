/*
 * Backend sockets: connects to the backend of a session, speaks WebSocket as a client, keeps the
 * text heartbeat, and reports messages and the end of the connection to the core.
 *
 * It decides nothing: the core says when to connect, retry or close. Names are resolved by
 * loop/resolve.h, which never blocks; loop/socket.h carries the bytes once TCP is connected, with
 * TLS of loop/tls.h.
 */
#ifndef VINHUB_UPSTREAM_UPSTREAM_H
#define VINHUB_UPSTREAM_UPSTREAM_H

#include <stddef.h>

#include "common/status.h"
#include "core/ports.h"

struct loop;
struct upstreams;

/* For the hub's setup; the ctx of each op is the struct upstreams. */
extern const struct upstream_ops upstream_socket_ops;

MUST_USE enum status upstreams_new(struct loop *loop, struct upstreams **out);
/* Resets connections that are still open, without events. To be called after hub_free, which resets
 * the upstreams of its sessions. */
void upstreams_free(struct upstreams *upstreams);
/* CA files are read again for connections made from now on; open ones keep their TLS context. */
void upstreams_reload(struct upstreams *upstreams);
/* How many upstreams there are: open, connecting, or waiting for one of the 256 attempts. */
size_t upstreams_count(const struct upstreams *upstreams);

#endif
