/*
 * Inside the upstream layer: the connection object, and what its files do for each other.
 *
 * waiting > resolving > connecting > (securing >) asking > open > closing, ended from any of them;
 * one setter for all. The timer of a connection is its deadline: of the try, of the heartbeat, of
 * the close.
 */
#ifndef VINHUB_UPSTREAM_UPSTREAM_PRIVATE_H
#define VINHUB_UPSTREAM_UPSTREAM_PRIVATE_H

#include <stdbool.h>
#include <stdint.h>

#include "common/conf.h"
#include "common/timer.h"
#include "common/url.h"
#include "loop/loop.h"
#include "loop/resolve.h"
#include "loop/stream.h"
#include "loop/tls.h"
#include "loop/ws_reader.h"
#include "upstream/answer.h"
#include "upstream/upstream.h"

/* Tries at once (contract section 5): what a backend that comes back has to bear of a node. */
#define TRIES_MAX 256
/* How long a close frame waits for its answer. */
#define CLOSING_MS 1000U

enum upstream_state {
    UP_WAITING,    /* for one of the places to try */
    UP_RESOLVING,  /* the name */
    UP_CONNECTING, /* TCP */
    UP_SECURING,   /* TLS */
    UP_ASKING,     /* the HTTP request is out */
    UP_OPEN,
    UP_CLOSING, /* our close frame is out */
    UP_ENDED,   /* freed at the end of the turn */
};

/* What only a try needs; freed when it is open. */
struct
try {
    struct resolve *query;
    struct resolved addresses;
    size_t first, next; /* address: whose turn it is, and how many have had theirs */
    int fd;             /* while TCP connects; -1 else */
    struct loop_watch *watch;
    uint64_t address_at_ms; /* when the next address has its turn */
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
    struct upstream *prev, *next; /* in the list of its kind: waiting, trying or open, ended */
    struct stream stream;
    struct try *try;
    struct ws_reader reader;
    struct timer timer;
    uint64_t heard_at_ms;
    uint64_t heartbeat_at_ms;
    const char *fault;  /* what it sent against the rules; static. No more of it counts */
    uint8_t state;      /* enum upstream_state */
    bool told_open;     /* hub_upstream_opened was called */
    bool want_writable; /* send said STATUS_AGAIN */
    bool asked;         /* close came before it was open */
};

struct upstream_list {
    struct upstream *first, *last;
    size_t len;
};

/* A CA file and the context made of it; kept for the process's life. */
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
    size_t tries;
    size_t turn; /* which address of a name is tried first; moves on with each failed handshake */
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
/* Ends it and tells the core, with the reason; only from within a callback of the loop. */
void up_end(struct upstream *up, const struct upstream_end *end);
void up_end_plain(struct upstream *up, enum upstream_end_kind kind, const char *reason);
/* Arms the deadline. */
void up_deadline(struct upstream *up, uint64_t at_ms);
void up_free_try(struct upstream *up);

/* --- upstream_try.c: from the name to the answer --- */

void try_begin(struct upstream *up);
void try_deadline(struct upstream *up);
/* Takes bytes of the HTTP answer. */
void try_answer(struct upstream *up, uint8_t *bytes, size_t len);
void try_secured(struct upstream *up, const char *why);
void try_free(struct try *try);
/* How the end of the connection counts while it is tried. */
void try_lost(struct upstream *up);

/* --- upstream_talk.c: frames, heartbeat, close --- */

void talk_begin(struct upstream *up);
void talk_deadline(struct upstream *up);
void talk_bytes(struct upstream *up, uint8_t *bytes, size_t len);
enum status talk_send(struct upstream *up, unsigned opcode, const void *payload, size_t len);
void talk_close(struct upstream *up, unsigned code, const char *reason);
void talk_lost(struct upstream *up);

#endif
