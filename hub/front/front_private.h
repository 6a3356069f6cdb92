/*
 * Inside the front: the connection object and what its files do for each other.
 *
 *   accepted -> HANDSHAKE -> OPEN -> CLOSING -> GONE, freed
 *                   |          |                 ^
 *                   |          `-- socket gone --|
 *                   `-> REFUSED -----------------'
 *
 *   state      what happens                                     deadline (queue)
 *   HANDSHAKE  PROXY header, TLS, the HTTP request              10 s: HANDSHAKE
 *   REFUSED    the HTTP error is written, input is discarded    1 s: CLOSING
 *   OPEN       frames both ways                                 the ping: QUIET, PINGED, ANSWERED
 *   CLOSING    the close frame is written, input is discarded   1 s: CLOSING
 *
 * conn_set_state is the one setter. A connection stands in one queue. All members of a queue wait
 * equally long, so a queue is sorted by deadline without any work, and one timer serves the heads
 * of all queues. The object is freed when its socket is gone; if the core knows the client,
 * door_gone comes first.
 */
#ifndef VINHUB_FRONT_FRONT_PRIVATE_H
#define VINHUB_FRONT_FRONT_PRIVATE_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/conf.h"
#include "common/key_set.h"
#include "common/metrics.h"
#include "common/timer.h"
#include "core/client/door.h"
#include "front/front.h"
#include "loop/http_head.h"
#include "loop/loop.h"
#include "loop/socket.h"
#include "loop/tls.h"
#include "loop/ws_reader.h"

/* How long a handshake may take, from accept to its last byte. */
#define HANDSHAKE_MS 10000U
/* How long the peer has to take what was sent and to answer a close frame (contract section 9). */
#define CLOSING_MS 1000U
/* How much is still read and discarded after the last frame to a client: what was on its way then.
 * A client that goes on sending gets a reset. */
#define DISCARD_MAX (256u * 1024)

enum conn_state { CONN_HANDSHAKE, CONN_REFUSED, CONN_OPEN, CONN_CLOSING, CONN_GONE };

enum queue_name {
    QUEUE_NONE,
    QUEUE_HANDSHAKE, /* half open */
    QUEUE_QUIET,     /* open; its first PING is due */
    QUEUE_PINGED,    /* open; an answer is due, or where that may take long the next PING */
    QUEUE_ANSWERED,  /* open; the answer is here, the next PING is due */
    QUEUE_CLOSING,   /* refused or closing */
    QUEUES
};

struct ip_entry;
struct pass;
struct deflater;
struct front;

/* What only a handshake needs; freed with its end. */
struct handshake {
    struct in6_addr address; /* of the socket, then what the PROXY header and X-Forwarded-For say;
                                IPv4 mapped */
    char *bytes;             /* of a head that came in several pieces */
    size_t len, cap;
    size_t proxy_left; /* bytes of the PROXY header that are still to be skipped */
    bool proxy_header; /* is not here yet, or not complete */
    bool tls_due;      /* the TLS ClientHello is not here yet */
    bool heard;        /* something came */
    bool noted;        /* a refusal was counted, or the request was a health check */
    bool no_content;   /* HEAD: its answers have none */
    char *fields;      /* more header lines of its answer; NULL: none */
};

/* Input that was read, but not taken: front_held.c. */
struct held_input {
    struct conn *conn;
    uint8_t *bytes; /* NULL: none at the moment */
    uint32_t len;
    bool waits; /* for a share, in the front's list; this and the next are front_share.c's */
    struct held_input *prev, *next;
};

/* Each idle client has one, so what only some connections need is allocated when they need it. */
struct conn {
    struct client client; /* the core's; first, so that the one is the other */
    /* What each write looks at. */
    uint32_t written;      /* bytes of frames written so far; this and the next three belong to
                              front_slow.c */
    uint32_t checked;      /* the value of written at the last check */
    uint32_t behind_ms;    /* since when too much output waits in the kernel */
    uint32_t behind_taken; /* bytes that the peer had taken then */
    uint8_t state;         /* enum conn_state */
    uint8_t queue;         /* enum queue_name */
    bool behind;           /* behind_ms and behind_taken are valid */
    bool slow;             /* the kernel buffers little output for it */
    bool gone_due;         /* the core knows it: door_gone is owed */
    bool paused;           /* by the core */
    bool ignoring_input;   /* its input can't be parsed any more */
    bool deflate;          /* permessage-deflate was agreed */
    bool events;           /* it is an event stream: front_events.c; else a WebSocket */
    uint16_t close_code;   /* what was seen or sent; 0: nothing yet */
    int32_t share_bytes; /* its credit for inflating and decoding; below 0: a debt; front_share.c */
    struct socket socket;
    struct front *front;
    struct conn *prev, *next;
    struct handshake *handshake;
    struct ws_reader reader;
    struct ip_entry *ip;     /* the counter of its address; NULL: not admitted yet */
    struct pass *pass;       /* NULL: without a token */
    struct held_input *held; /* NULL: it has none */
    uint32_t due_ms;         /* of its queue; low 32 bits */
    uint32_t heard_ms;       /* of the last byte from the peer; low 32 bits */
    uint32_t discarded;      /* bytes read since the close frame was sent */
    uint32_t unanswered;     /* PINGs sent since the peer was last heard */
    char *why;               /* why we closed it; NULL: we did not, or there is no memory */
};

/* The protocol that the subprotocol selects. */
enum protocol { PROTOCOL_RAW, PROTOCOL_JSON, PROTOCOL_MSGPACK, PROTOCOLS };

/* One of the door's forms: a protocol, plain or deflated for clients with that window. */
struct ws_form {
    struct front *front;
    enum protocol protocol;
    unsigned window_bits; /* 8 to 15; 0: plain */
    unsigned id;          /* by which the core knows it */
};
#define WS_FORMS 9 /* of a protocol: plain, and one for each window */

struct conn_queue {
    struct conn *first, *last;
    uint32_t wait_ms;
};

struct admit;

/* Frames for the connection that is being read. */
struct gather {
    struct conn *conn; /* NULL: none is */
    size_t len;
    uint8_t bytes[16384];
};

struct front {
    struct loop *loop;
    struct hub *hub;
    struct conf *conf;
    struct admit *admit;
    struct tls_context *tls; /* NULL: plain */
    struct deflater *deflater;
    struct ws_form forms[PROTOCOLS][WS_FORMS];
    unsigned events_form; /* id of the form of event streams */
    struct gather gather;
    size_t share_spent;         /* in this turn */
    struct held_input *sharing; /* of those who wait for a share; utlist */
    size_t sharing_len;
    struct loop_timer *share_timer;
    struct timers expiries;
    struct key_set *keys;        /* what tokens are verified with; NULL where auth.mode is none */
    struct file_stamp keys_seen; /* of auth.keys_file, when it was last read; this and the next two
                                    are front_keys.c's */
    char keys_trouble[KEY_SET_WHY_BYTES]; /* what was last told of it */
    struct loop_timer *keys_timer;
    struct ip_entry *ips; /* uthash */
    struct conn_queue queues[QUEUES];
    struct loop_timer *sweep_timer;
    bool sweep_armed;
    uint32_t now_ms;    /* of the turn; low 32 bits */
    size_t connections; /* conn objects */
    size_t open;        /* clients */
    int listen_fd;
    struct loop_watch *listen_watch;
    struct loop_timer *listen_timer; /* accepts again after the descriptors ran out */
    int descriptors_max;
    char address[64];
};

/* --- front_conn.c: the life of a connection --- */

/* Takes over an accepted socket. */
void conn_new(struct front *front, int fd, const struct in6_addr *peer);
void conn_set_state(struct conn *conn, enum conn_state state);
void conn_enqueue(struct conn *conn, enum queue_name queue);
/* Sends a close frame and waits for its end. reason: NULL where it is the peer's close frame that
 * is answered. */
void conn_start_closing(struct conn *conn, unsigned code, const char *reason);
/* Keeps the reason for the log line of its end. */
void conn_keep_why(struct conn *conn, const char *why);
/* Tells the core of the end, once. */
void conn_report_gone(struct conn *conn, unsigned code, const char *reason);
/* Frees it; its socket is closed or detached. */
void conn_free(struct conn *conn);
/* Reads frames; false: the connection is to be dropped. */
bool conn_frames(struct conn *conn, uint8_t *bytes, size_t len);

/* --- front_held.c: input that can't be taken yet --- */

static inline bool held_any(const struct conn *conn)
{
    return conn->held && conn->held->bytes;
}
/* Copies len bytes, behind those that are held already. False: no memory. */
MUST_USE bool held_add(struct conn *conn, const uint8_t *bytes, size_t len);
/* Gives what is held, which is freed by the caller, who calls held_settle when it is used up. */
uint8_t *held_take(struct conn *conn, size_t *len);
/* Frees the object where no input is held and the connection waits for no share. */
void held_settle(struct conn *conn);
/* Discards what is held; the connection waits for no share any more. */
void held_drop(struct conn *conn);

/* --- front_handshake.c: what a request gets --- */

/* Bytes of a request's head: a token in a URL or a cookie fits. */
#define HANDSHAKE_HEAD_MAX 16384U
/* Answers the request, whose head is len bytes. The connection is open or refused afterwards. */
void handshake_serve(struct conn *conn, const char *bytes, size_t len);

/* What event streams are asked as well. The path and query of a request's target, which may be a
 * whole URI. */
struct http_text handshake_path(struct http_text target);
bool handshake_announces_body(const struct http_head *head);
/* Whether its Origin is allowed. A request without an Origin is. */
bool handshake_origin_allowed(const struct conn *conn, const struct http_head *head);
/* Admits it, and counts it under its address. False: it has been refused. */
bool handshake_take_place(struct conn *conn);
void handshake_opened(struct conn *conn, const struct target *target);

/* --- front_events.c: event streams --- */

/* Registers their form. */
void events_register(struct front *front);
/* Answers a request for an event stream, or the OPTIONS before one. False: it is another request.
 */
bool events_serve(struct conn *conn, const struct http_head *head);
/* Discards input from the peer. A flood ends the connection. */
void events_input(struct conn *conn, size_t len);
/* A comment, so that proxies and the kernel see whether the peer is there. */
void events_ping(struct conn *conn);
/* Writes the end of a stream: the reason, and the time to reconnect if that is soon. */
void events_end(struct conn *conn, unsigned code, const char *reason);

/* --- front_request.c: what comes before --- */

/* Takes bytes of the handshake: PROXY header where it is configured, then TLS, then the request.
 * False: the connection is to be dropped. */
bool handshake_read(struct conn *conn, uint8_t *bytes, size_t len);
/* TLS is up, or has failed: why is not NULL then. */
void handshake_secured(struct conn *conn, const char *why);
void handshake_free(struct handshake *handshake);

/* --- front_admit.c: who may come in --- */

/* Compiles origins and trusted proxies. NULL, and why: an address that can't be read, or no memory.
 */
struct admit *admit_new(const struct conf *conf, char *why, size_t why_len);
void admit_free(struct admit *admit);
/* origin NULL: there was no header. */
bool admit_origin(const struct admit *admit, const struct http_text *origin);
bool admit_trusted(const struct admit *admit, const struct in6_addr *peer);
bool admit_has_proxies(const struct admit *admit);
/* The client's own address: the peer's, or of X-Forwarded-For the rightmost that is not trusted;
 * the leftmost where all are. */
struct in6_addr admit_client(const struct admit *admit, const struct in6_addr *peer,
                             const struct http_head *head);
/* Counts a client of this address; false: it has as many as allowed. */
bool admit_take_ip(struct front *front, struct conn *conn, const struct in6_addr *address);
void admit_release_ip(struct conn *conn);

/* --- front_auth.c --- */

/* What a token gives. */
struct grant {
    uint64_t ends_ms;       /* of the boot clock; UINT64_MAX: never */
    struct json_t *subject; /* its claim sub, referenced; NULL: it has none */
    struct json_t *id;      /* its claim jti, the same way, as the next two */
    struct json_t *vins, *services;
    bool has_iat;
    double issued_s; /* its claim iat, Unix time */
};

enum grant_verdict {
    GRANT_GIVEN,
    GRANT_REFUSED,     /* the token is missing or no good, whatever it is for */
    GRANT_OTHER_USER,  /* it is good, but for another user than the URL's */
    GRANT_NOT_COVERED, /* it is good, but not for that vin or service */
};

/*
 * Checks a token for a target, of which user, vin and service are looked at. *out is filled where
 * it is given or does not cover; grant_fini frees what is in it. *why: NULL, or a static text that
 * says why not.
 */
enum grant_verdict auth_token(const struct conf *conf, const struct key_set *keys,
                              const char *token, const struct target *target, struct grant *out,
                              const char **why);
void grant_fini(struct grant *grant);
/* NULL: the grant covers the target, as auth_token has it; else why not. */
const char *grant_covers(const struct grant *grant, const struct target *target);
/* Looks for a token in a request and checks it. GRANT_GIVEN: the client may come in, *out says for
 * how long. Else *why is a short text that says why not, and nothing is in *out. */
enum grant_verdict auth_check(const struct conf *conf, const struct key_set *keys,
                              const struct http_head *head, const struct target *target,
                              struct grant *out, const char **why);

/* --- front_pass.c: the token of an open connection --- */

/* As auth_check by the front's keys, and the token must not be revoked. */
enum grant_verdict conn_check_token(struct front *front, const struct http_head *head,
                                    const struct target *target, struct grant *out,
                                    const char **why);

/* Closes conn with 4001 when its token ends. What of the grant is kept is taken out of it. */
void conn_take_pass(struct conn *conn, const struct target *target, struct grant *grant);
void conn_forget_pass(struct conn *conn);
/* Of front_client_ops. */
enum refresh_verdict conn_refresh(void *ctx, struct client *client, const char *token,
                                  const char **why);
const char *conn_covers(void *ctx, struct client *client, const struct target *target);

/* --- front_keys.c: auth.keys_file --- */

/* Takes the keys of a configuration, and follows their file. */
void keys_take(struct front *front, const struct conf *conf);
/* Of the timer: looks whether the file has changed. */
void keys_look(void *front);
void keys_forget(struct front *front);

/* --- front_proxy.c --- */

struct proxy_source {
    bool known; /* else the socket's own address stands */
    struct in6_addr address;
    uint16_t port;
    const char *why; /* of STATUS_INVALID: what is wrong, a static text */
};
/* Reads the header at the start of bytes. STATUS_AGAIN: more is needed; STATUS_INVALID: there is
 * none that can be read. *used: its bytes, which may be more than len: those that are missing are
 * of no use here and to be skipped (TLVs, up to 64 KiB). */
enum status proxy_parse(const uint8_t *bytes, size_t len, struct proxy_source *out, size_t *used);

/* --- front_deflate.c --- */

struct deflater *deflater_new(void);
void deflater_free(struct deflater *deflater);

#define DEFLATE_BITS_MAX 15

/* What was agreed with a client. */
struct deflate_terms {
    unsigned window_bits; /* of the window it inflates with, 8 to 15; 0: nothing is deflated */
    char answer[112];     /* what Sec-WebSocket-Extensions answers */
};
/* Takes the first offer that is acceptable, if there is one. STATUS_INVALID: the header is no list
 * of extensions, for which RFC 6455 (section 9.1) wants the handshake to fail. */
MUST_USE enum status deflate_negotiate(const struct http_head *head, struct deflate_terms *out);
/* A frame for every client that negotiated it; NULL where it does not pay. */
struct wire *deflate_message(struct deflater *deflater, unsigned opcode, const uint8_t *payload,
                             size_t len);
/* STATUS_LIMIT: larger than max. *out is valid until the next call or inflate_done. */
enum status inflate_message(struct deflater *deflater, const uint8_t *payload, size_t len,
                            size_t max, const uint8_t **out, size_t *out_len);
void inflate_done(struct deflater *deflater);

/* --- front_forms.c --- */

/* Tells the hub the forms of this door. */
void forms_register(struct front *front);
/* The id of a form; window_bits 0: plain. */
unsigned front_form(const struct front *front, enum protocol protocol, unsigned window_bits);

/* --- front_share.c --- */

/* The credit of a connection, and what it gets each round. */
#define SHARE_BYTES 65536

/* Whether its next message may be opened; true of those whose messages need no opening. */
bool share_is_left(const struct conn *conn);
/* A message of so many bytes was opened. */
void share_spend(struct conn *conn, size_t len);
/* Adds it, which holds input, to the list of connections that wait for credit. Its socket is woken
 * when it may go on. */
void share_wait(struct conn *conn);
void share_forget(struct conn *conn);
/* Of the timer: a round. */
void share_grant(void *front);

/* --- front_listen.c --- */

void listen_stop(struct front *front);
/* Without PINGs the kernel looks for peers that vanished: for connections accepted from now on. */
void listen_set_keepalive(struct front *front);
void listen_resume(void *front);

/* --- front_slow.c --- */

/* After so many bytes more it is looked at how many wait. */
#define SLOW_CHECK_BYTES 65536U
void slow_check(struct conn *conn);
/* Counts what was written. */
static inline void slow_count(struct conn *conn, size_t len)
{
    conn->written += (uint32_t)len;
    if (conn->written - conn->checked >= SLOW_CHECK_BYTES)
        slow_check(conn);
}
/* All that was written is out, or nearly. */
void slow_caught_up(struct conn *conn);

/* --- front_sweep.c --- */

/* Arms the timer for the heads of the queues. */
void sweep_arm(struct front *front);
void sweep_run(void *front);
/* After a change of the times of PINGs: each open connection gets the next one after the new
 * `every`. */
void sweep_restart_pings(struct front *front);

#endif
