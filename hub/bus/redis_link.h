/*
 * One connection to a Redis server: kept up, with names resolved, TLS, AUTH and SELECT done before
 * its owner hears of it.
 *
 *   STOPPED -> WAITING -> RESOLVING -> CONNECTING -> SECURING -> GREETING -> UP
 *                 ^           |             |            |           |        |
 *                 `-----------+-------------+------------+-----------+--------'
 *
 * The way back is a failure or redis_link_cut. Where the name has another address, that one is
 * tried before: CONNECTING again instead of WAITING, which is the back-off. SECURING is left out
 * without TLS. redis_link_stop leads to STOPPED from anywhere.
 *
 * hiredis reads and writes for it: its context and reader, without its asynchronous layer, whose
 * callbacks free the context at times of their own choosing, keep an entry for each subscribed
 * channel and have no deadline. What is lost with a connection is the owner's to count: the link
 * says up and down, each once and in turn.
 */
#ifndef VINHUB_BUS_REDIS_LINK_H
#define VINHUB_BUS_REDIS_LINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bus/redis_op.h"
#include "bus/redis_trouble.h"
#include "common/redis_url.h"
#include "loop/loop.h"

struct redisReply;
struct redis_link;
struct tls_context;

struct redis_link_options {
    struct loop *loop;
    const struct redis_url *url; /* user, password, db; outlives the link */
    struct tls_context *tls;     /* NULL: plain */
    uint32_t deadline_ms;        /* for connecting, per address */
    const char *name;            /* for logs; a static text */
    /* Whose password and user are tried where the server asks for some and url has none; or NULL.
     */
    const struct redis_url *fallback;
    struct redis_trouble *trouble; /* where it says why it is not up; NULL: nowhere */
};

struct redis_link_events {
    void (*on_up)(void *ctx);
    /* Not for a try to connect that failed. The link tries again by itself. */
    void (*on_down)(void *ctx);
    /* The reply is the owner's to free. */
    void (*on_reply)(void *ctx, struct redisReply *reply);
    /* A try failed or the link went down; before the next try is timed. May be NULL. */
    void (*on_failed)(void *ctx);
};

struct redis_link *redis_link_new(const struct redis_link_options *options,
                                  const struct redis_link_events *events, void *ctx);
/* Without on_down. Not from within an event of this link. */
void redis_link_free(struct redis_link *link);

/* Where to connect from the next try on. */
void redis_link_target(struct redis_link *link, const char *host, uint16_t port);
const char *redis_link_host(const struct redis_link *link);
uint16_t redis_link_port(const struct redis_link *link);

/* Begins to connect with the next turn, and again after each loss. */
void redis_link_start(struct redis_link *link);
/* Ends the connection, or the try; on_down comes before this returns. The next try comes after the
 * back-off. */
void redis_link_cut(struct redis_link *link, const char *why);
/* The server is not one to work with: its next address is tried at once, or after the last one all
 * of them after the back-off. on_down comes before this returns. Only while up. */
void redis_link_unfit(struct redis_link *link, const char *why);
/* The last error; "" if there was none. */
const char *redis_link_why(const struct redis_link *link);
/* The server can be used: clears its error. */
void redis_link_fit(struct redis_link *link);
/* From now on it goes to the address at which the other one is, whatever the name has besides. */
void redis_link_follow(struct redis_link *link, const struct redis_link *other);
/* Ends it and stays down until redis_link_start. */
void redis_link_stop(struct redis_link *link);

bool redis_link_up(const struct redis_link *link);
/* Requests to be appended while up; redis_link_flush writes them. */
struct redis_output *redis_link_output(struct redis_link *link);
void redis_link_flush(struct redis_link *link);
/* Bytes that wait for the socket. */
size_t redis_link_backlog(const struct redis_link *link);
/* The monotonic ms at which it came up last. */
uint64_t redis_link_up_ms(const struct redis_link *link);

#endif
