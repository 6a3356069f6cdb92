/*
 * The admin port: health, metrics, the HTTP API, server-sent events and the console.
 *
 * Speaks HTTP through libevent's evhttp on the hub's loop. It calls the hub and the bus and has no
 * state of sessions itself. Its work in one turn is bounded, so that it never delays pushes: there
 * are limits for connections, streams, their output, rows of a listing, and bodies.
 *
 * The API has these parameters in addition to contract section 10:
 *   /api/sessions ?q= (a part of the id) &service= &owner= &state=; or &prefix= (of the key, in any
 *     service: the first rows only). limit is at most 1000. A filtered answer may hold fewer rows
 *     than the limit and still have a next.
 *   /api/events ?session=ID &history=N: see admin_events.c
 *   POST /api/drain {"node": ID}: another node
 */
#ifndef VINHUB_ADMIN_ADMIN_H
#define VINHUB_ADMIN_ADMIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bus/bus.h"
#include "common/conf.h"
#include "common/status.h"
#include "core/hub.h"
#include "loop/loop.h"

struct admin;

struct admin_setup {
    struct loop *loop;
    struct hub *hub;
    struct bus *bus;             /* only its list operation is used */
    struct conf *conf;           /* referenced */
    uint64_t started_ms;         /* Unix time */
    void (*on_drain)(void *ctx); /* POST /api/drain for this node; runs before the answer is sent */
    void *ctx;
};

/* Whether the configuration allows the admin port to listen: on loopback, or with a token, or with
 * allow_open. */
bool admin_may_listen(const struct conf *conf);

/*
 * Binds and listens. STATUS_IO: the address can't be used, errno says why. STATUS_INVALID: it is
 * not an address. STATUS_REFUSED: admin_may_listen is false.
 */
MUST_USE enum status admin_new(const struct admin_setup *setup, struct admin **out);
/* Closes the port and all connections. Before the hub and the bus are freed. */
void admin_free(struct admin *admin);

/* The bound address, for example "127.0.0.1:9600"; valid as long as admin. */
const char *admin_address(const struct admin *admin);
/* Takes the token of a new configuration; the address stays. If the token has changed, event
 * streams are ended, since they were accepted with the old one. admin_may_listen(conf) must be
 * true. */
void admin_reload(struct admin *admin, struct conf *conf);

#endif
