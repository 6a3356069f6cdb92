/*
 * What the core asks of the sockets, and what they report.
 *
 * The layers above implement the two ops tables; no function of a table calls back into the core
 * before it has returned. Sockets report by the functions of hub.h. The simulation
 * implements both with virtual sockets.
 */
#ifndef VINHUB_CORE_PORTS_H
#define VINHUB_CORE_PORTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/conf.h"
#include "common/publication.h"
#include "common/status.h"

struct client;
struct session;
struct target;
struct upstream; /* the socket side's object */

/* Close codes of contract section 7. */
enum close_code {
    CLOSE_NORMAL = 1000,
    CLOSE_GOING_AWAY = 1001,
    CLOSE_PROTOCOL_ERROR = 1002,
    CLOSE_INVALID_DATA = 1007,
    CLOSE_TOO_BIG = 1009,
    CLOSE_RESTART = 1012,
    CLOSE_TRY_LATER = 1013,
    CLOSE_UNAUTHORIZED = 4001,
    CLOSE_RATE = 4002,
    CLOSE_MESSAGE_TOO_LARGE = 4003,
    CLOSE_QUEUE_FULL = 4004,
    CLOSE_SLOW = 4005,
    CLOSE_BY_OPERATOR = 4006,
    CLOSE_TAKEN_OVER = 4007,
};

/* Values travel in STATUS envelopes. */
enum upstream_status { UPSTREAM_DOWN, UPSTREAM_CONNECTING, UPSTREAM_CONNECTED };

/* How an upstream connection, or an attempt to open one, ended. */
enum upstream_end_kind {
    UPSTREAM_END_NO_TCP,  /* name not resolved, refused, no route, or the time for TCP ran out */
    UPSTREAM_END_TLS,     /* certificate or TLS handshake */
    UPSTREAM_END_REFUSED, /* HTTP answered something else than 101: http_status */
    UPSTREAM_END_AWAY,    /* HTTP 5xx: a gateway without its backend; http_status */
    UPSTREAM_END_TIMEOUT, /* connected, but no handshake answer in time */
    UPSTREAM_END_SILENT,  /* heartbeat timeout */
    UPSTREAM_END_CLOSED,  /* closed by the backend: close_code, or 0 without a close frame */
    UPSTREAM_END_ASKED,   /* closed after upstream_ops.close */
    UPSTREAM_END_INVALID, /* it sent what the protocol forbids, or a message too large */
};

struct upstream_end {
    enum upstream_end_kind kind;
    unsigned http_status;
    unsigned close_code;
    const char *reason; /* one line for logs and STATUS, valid during the call; never NULL */
};

struct upstream_ops {
    /* Starts one try to connect (name resolution, TCP, TLS, handshake within
     * service->reconnect.timeout_ms). url and service are referenced or copied. Never NULL. The
     * object lives until hub_upstream_closed was called, or until reset. */
    struct upstream *(*open)(void *ctx, struct session *session, struct service *service,
                             const char *url);
    /* Sends one message whole. STATUS_OK: the kernel, or the one partial write under way, took it.
     * STATUS_AGAIN: not taken, hub_upstream_writable will be called. payload is only read. */
    enum status (*send)(void *ctx, struct upstream *upstream, enum opcode opcode,
                        const void *payload, size_t len);
    /* Sends a close frame; hub_upstream_message may still be called; hub_upstream_closed is called
     * within 1 s. */
    void (*close)(void *ctx, struct upstream *upstream, unsigned code, const char *reason);
    /* Cuts the connection at once (RST): no function is called any more, the object is gone for the
     * core. */
    void (*reset)(void *ctx, struct upstream *upstream);
};

/* The result of a REFRESH: a new token for an open client. */
enum refresh_verdict {
    REFRESH_TAKEN,
    REFRESH_REFUSED,     /* the old one goes on */
    REFRESH_NOT_COVERED, /* it is good, but not for the session of the connection */
};

struct client_ops {
    /* Writes ready frames. STATUS_OK: taken. STATUS_AGAIN: not a byte taken since something is
     * still buffered; door_writable will be called. Any failure of the socket is reported later
     * by door_gone. */
    enum status (*write)(void *ctx, struct client *client, const uint8_t *frames, size_t len);
    /* Starts to close: what was written before goes out first, then the close frame; door_gone is
     * called within about 1 s. No other function may be called for the client after it. */
    void (*close)(void *ctx, struct client *client, unsigned code, const char *reason);
    /* Stops or resumes reading from the client. */
    void (*pause)(void *ctx, struct client *client, bool paused);
    /* Checks a token (text, terminated) as that of a handshake. *why: NULL where it is taken, else
     * a static text, a sentence for the client. It costs the check of a signature: the caller
     * counts it against the client's rate. NULL: this door has no tokens. */
    enum refresh_verdict (*refresh)(void *ctx, struct client *client, const char *token,
                                    const char **why);
    /* Whether the client's token covers a target, of which service, vin and user are looked at; a
     * user that is NULL is not compared. NULL: it does, else a static text. NULL: this door has no
     * tokens. */
    const char *(*covers)(void *ctx, struct client *client, const struct target *target);
    /* Whether this node has room for one more session's upstream. NULL: always. */
    bool (*has_room)(void *ctx);
};

#endif
