/*
 * Inside the upstream layer: the connection object, and what its files do for each other.
 *
 *   upstream_ops.open
 *     -> WAITING -> RESOLVING -> CONNECTING -> SECURING -> ASKING -> OPEN -> CLOSING
 *        queue of     DNS          TCP          TLS         HTTP              close frame
 *        attempts     \___________ within reconnect.timeout ___/               1 s
 *     -> ENDED from each of them: hub_upstream_closed is called, then freed at the end of the turn
 *
 * SECURING is left out for ws://. up_set_state is the only setter of the state. Each object has one
 * timer: the deadline of the attempt, of the heartbeat, or of the close. After upstream_ops.reset
 * the core gets no more events of the object.
 */
#ifndef VINHUB_UPSTREAM_UPSTREAM_PRIVATE_H
#define VINHUB_UPSTREAM_UPSTREAM_PRIVATE_H

#include <stdbool.h>
#include <stdint.h>

#include "common/conf.h"
#include "common/timer.h"
#include "common/url.h"
#include "common/url_parts.h"
#include "loop/loop.h"
#include "loop/resolve.h"
#include "loop/socket.h"
#include "loop/tls.h"
#include "loop/ws_reader.h"
#include "upstream/answer.h"
#include "upstream/upstream.h"

/* How many attempts of a node may be under way at once (contract section 5): a backend that comes
 * back is not flooded. */
#define UPSTREAM_ATTEMPTS_MAX 256
/* How long we wait for the answer to our close frame. */
#define CLOSING_MS 1000U

enum upstream_state {
    UP_WAITING,    /* until fewer than UPSTREAM_ATTEMPTS_MAX are under way */
    UP_RESOLVING,  /* the name */
    UP_CONNECTING, /* TCP */
    UP_SECURING,   /* TLS */
    UP_ASKING,     /* the HTTP request is out */
    UP_OPEN,
    UP_CLOSING, /* our close frame is out */
    UP_ENDED,   /* freed at the end of the turn */
};

/* What only an attempt needs; freed when the upstream is open. */
struct upstream_attempt {
    struct resolve *query;
    struct resolved addresses;
    size_t first; /* the index of the address that is tried first */
    size_t next;  /* how many addresses have been tried, with the one that is connecting now */
    int fd;       /* the socket while TCP connects; else -1 */
    struct loop_watch *watch;
    uint64_t address_at_ms; /* when the next address is tried */
    uint64_t give_up_at_ms;
    char why[256]; /* of the address that failed last */
    struct answer_reader answer;
};

struct upstream {
    struct upstreams *all;
    struct session *session;
    struct service *service;
    char *url;
    struct url_parts parts;       /* path points into url */
    struct upstream *prev, *next; /* in one of the lists waiting, live or ended */
    struct socket socket;
    struct upstream_attempt *attempt;
    struct ws_reader reader;
    struct timer timer;
    uint64_t heard_at_ms;
    uint64_t heartbeat_at_ms;
    /* The rule that the backend broke; static. NULL: none. Input after it is ignored. */
    const char *fault;
    uint8_t state;      /* enum upstream_state */
    bool open_reported; /* hub_upstream_opened was called */
    bool want_writable; /* send returned STATUS_AGAIN: hub_upstream_writable is due */
    bool asked;         /* the core called close before the upstream was open */
};

struct upstream_list {
    struct upstream *first, *last;
    size_t len;
};

/* A CA file and the TLS context made of it; kept until upstreams_reload. */
struct trust {
    struct trust *next;
    struct tls_context *context;
    char ca[];
};

struct upstreams {
    struct loop *loop;
    struct timers timers;
    struct loop_timer *timer;
    struct loop_timer *pump;
    struct upstream_list waiting, live, ended;
    size_t attempts;
    size_t first_address; /* the index of the address of a name that is tried first; moves on with
                             each failed handshake */
    uint64_t now_ms;
    uint64_t timer_at_ms; /* of the loop's timer; UINT64_MAX: not running */
    struct trust *trusts;
    uint8_t *scratch; /* a masked frame on its way out */
    size_t scratch_cap;
    uint8_t masks[512]; /* random bytes, used up from the front */
    size_t masks_left;
};

/* --- upstream.c --- */

void up_set_state(struct upstream *up, enum upstream_state state);
/* Ends the upstream and reports the end to the core. Only to be called in a callback of the loop,
 * never within a call of the core. */
void up_end(struct upstream *up, const struct upstream_end *end);
void up_end_plain(struct upstream *up, enum upstream_end_kind kind, const char *reason);
/* Arms the timer of the upstream. */
void up_deadline(struct upstream *up, uint64_t at_ms);
void up_free_attempt(struct upstream *up);

/* --- upstream_attempt.c: from the name to the answer --- */

void up_attempt_begin(struct upstream *up);
void up_attempt_deadline(struct upstream *up);
/* Takes bytes of the HTTP answer. */
void up_attempt_answer(struct upstream *up, uint8_t *bytes, size_t len);
/* The TLS handshake is done (why is NULL), or TLS has failed. */
void up_attempt_secured(struct upstream *up, const char *why);
void up_attempt_free(struct upstream_attempt *attempt);
/* The connection was lost during the attempt. */
void up_attempt_lost(struct upstream *up);

/* --- upstream_talk.c: frames, heartbeat, close --- */

void talk_begin(struct upstream *up);
void talk_deadline(struct upstream *up);
void talk_bytes(struct upstream *up, uint8_t *bytes, size_t len);
enum status talk_send(struct upstream *up, unsigned opcode, const void *payload, size_t len);
void talk_close(struct upstream *up, unsigned code, const char *reason);
void talk_lost(struct upstream *up);

#endif
