/*
 * The front door: browsers' sockets. Listens, reads the HTTP handshake, decides who may come in,
 * speaks WebSocket, and tells the core of clients and their messages.
 *
 * lws carries the bytes (TCP, TLS, what could not be written yet). The handshake and the framing
 * are ours (loop/http_head, loop/ws_reader), since lws's server role decodes and tidies up the URL
 * that the upstream must get byte for byte, takes unmasked frames, cuts subprotocol lists at 128
 * bytes (a token is longer), and holds 1.2 KiB more a connection.
 */
#ifndef VINHUB_FRONT_FRONT_H
#define VINHUB_FRONT_FRONT_H

#include <stddef.h>
#include <stdint.h>

#include "common/conf.h"
#include "common/status.h"
#include "core/ports.h"

struct front;
struct hub;
struct loop;

/* Of the hub's setup; its ctx is the struct front. */
extern const struct client_ops front_client_ops;

/*
 * Reads certificates and keys that conf names; conf is referenced. why gets one line without a
 * newline where that fails (STATUS_INVALID: the configuration's fault; STATUS_IO: lws refused).
 */
MUST_USE enum status front_new(struct loop *loop, struct conf *conf, struct front **out, char *why,
                               size_t why_len);
/* Sets the hub, which is made after the front because it needs the front's ops. Call it before
 * front_listen. */
void front_attach(struct front *front, struct hub *hub);

/*
 * Listens at "host:port" ("[::1]:8080" for IPv6, "*" or an empty host for every address, port 0 for
 * any). STATUS_IO: not to be had, why says which address and why not.
 */
MUST_USE enum status front_listen(struct front *front, const char *address, char *why,
                                  size_t why_len);
/* The bound address as the kernel reports it: "0.0.0.0:8080". "" before front_listen. */
const char *front_address(const struct front *front);

/* Applies origins, limits, trusted proxies, auth, keys and certificates of a new configuration. On
 * failure nothing has changed. Open clients stay. */
MUST_USE enum status front_reload(struct front *front, struct conf *conf, char *why,
                                  size_t why_len);

/* Closes the listening socket. While the hub drains it stays open and answers 503: this is for the
 * end of the drain. */
void front_stop_accepting(struct front *front);
/* Connections of any kind, half-open handshakes included. */
size_t front_connections(const struct front *front);
/* Closes what is still open, telling door_gone of each. Before hub_free. */
void front_free(struct front *front);

#endif
