/*
 * What the bus asks of Redis, and what becomes of it: requests and the chunks in which they leave,
 * the scripts of lua/, ops with their answers, and the order of those.
 *
 * An op is answered once: with a reply, or with STATUS_IO where its outcome is not known. Ordered
 * ops are answered in the order in which they were made, among those of the same session or channel
 * and whatever connections they went through; others at once. Only ordered ones may lead to events
 * of the bus.
 *
 * The life of an op in a pipeline (redis_pipeline.c):
 *
 *   redis_op_new
 *     -> held     behind an earlier op of its queue that went over the other connection; while
 *                 many are under way, or scripts are being loaded
 *     -> flight   written, its reply is awaited
 *     -> lost     answered NOSCRIPT: sent again once the scripts are loaded
 *     -> unacknowledged   replied to, but WAIT has not confirmed the replicas (if replicated)
 *     -> done     the outcome is known, or the connection was lost: STATUS_IO
 *     -> answered and freed: at once, or by redis_order_answer if it is ordered
 *
 * The chunks keep a long backlog cheap: a partly written one is never moved together with all that
 * stands behind it. A script that a server has lost is loaded again by the pipeline that got its
 * NOSCRIPT.
 */
#ifndef VINHUB_BUS_REDIS_OP_H
#define VINHUB_BUS_REDIS_OP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bus/bus.h"
#include "common/envelope.h"

/* One or more requests in one piece. Starts zeroed. */
struct redis_request {
    char *bytes;
    size_t len, cap;
};

/* Begins a request of argc arguments, each of which must follow. */
void redis_request_begin(struct redis_request *request, size_t argc);
void redis_request_add(struct redis_request *request, struct slice argument);
void redis_request_text(struct redis_request *request, const char *argument);
void redis_request_number(struct redis_request *request, uint64_t argument);
/* Arguments that were built in another request. */
void redis_request_append(struct redis_request *request, const struct redis_request *arguments);
/* One argument that is made of several pieces. */
void redis_request_joined(struct redis_request *request, const struct slice *pieces, size_t len);
void redis_request_fini(struct redis_request *request);

struct redis_chunk {
    struct redis_chunk *next;
    size_t len, cap;
    char bytes[];
};

struct redis_output {
    struct redis_chunk *first, *last;
    size_t bytes; /* in all chunks */
};

void redis_output_append(struct redis_output *output, const struct redis_request *request);
/* Takes the first chunk out; the caller frees it. NULL where there is none. */
struct redis_chunk *redis_output_take(struct redis_output *output);
void redis_output_clear(struct redis_output *output);

/* Zeroed memory that is never NULL: small objects of a fixed size, whose lack ends the process. */
void *redis_claim_memory(size_t count, size_t size);
char *redis_copy_text(const char *text); /* NULL reads as "" */

struct redisReply;
struct redis_op;

/* Of what kind a command's reply is, where it is no error. */
enum redis_reply_kind {
    REPLY_STATUS,
    REPLY_NUMBER,
    REPLY_TEXT,
    REPLY_TEXT_OR_NIL,
    REPLY_LIST,
};

const char *redis_reply_kind_name(enum redis_reply_kind kind);

/* op->reply is not an error where op->status is STATUS_OK but of the op's kind, and NULL elsewhere;
 * it may be taken by setting it to NULL. */
typedef void redis_answer_fn(struct redis_op *op);

/* Of an op that is sent in one call with others: its request has its arguments alone. */
struct redis_part {
    size_t arguments; /* 0: it is sent by itself */
    size_t kept;      /* publications that the call appends for it */
    bool plain;       /* plain commands do as well as the script */
    bool plainly;     /* it was sent as such: until it is answered the script may have to follow */
    uint32_t history_size;
    uint64_t ttl_ms; /* 0: as it is */
};

struct redis_op {
    struct redis_op *next;         /* in the list of a pipeline */
    struct redis_op *next_ordered; /* in its queue */
    struct redis_queue *queue;     /* of ordered ones; NULL: it is answered at once */
    redis_answer_fn *answer;       /* may be NULL */
    void *owner;                   /* of the answer function */
    enum redis_reply_kind kind;
    bool scripted;   /* runs a script, which the server may have lost, or must not overtake one */
    bool replicated; /* counts only after WAIT: goes over a connection of its own */
    bool held;       /* until those before it in its queue are answered, which go over the other
                        connection or were sent without the script */
    bool vital;      /* taken however much waits, and sent before it */
    bool announces;  /* publishes: subscribers should have it before the answer is written */
    bool asking;     /* is sent behind ASKING, to a server that is about to get the slot */
    bool done;
    uint16_t slot;     /* of a cluster */
    unsigned commands; /* in its request; 0: one. Of several the reply is a list of theirs, in
                          which an error is an element like others */
    struct redisReply *gathered; /* those that have come so far */
    struct redis_part part;
    unsigned tries;
    struct redis_request request;
    enum status status;
    struct redisReply *reply;
    char *error; /* the server's error text; NULL: no error */
    char *key;   /* of a held op: the key that says where it is sent */
    /* What the answer needs. */
    char *session;
    uint64_t tag;
    void *ctx;
    void (*ctx_free)(struct redis_op *op); /* NULL: nothing to free with the op */
};

struct redis_op_list {
    struct redis_op *first, *last;
};

void redis_op_list_add(struct redis_op_list *list, struct redis_op *op);
void redis_op_list_prepend(struct redis_op_list *list, struct redis_op *op);
struct redis_op *redis_op_list_take(struct redis_op_list *list); /* NULL where it is empty */

/* Answers all of them with STATUS_IO. */
void redis_op_list_finish(struct redis_op_list *list);

struct redis_op *redis_op_new(enum redis_reply_kind kind, redis_answer_fn *answer, void *owner);
/* Whether a reply that is no error can be the op's. */
bool redis_op_fits(const struct redis_op *op, const struct redisReply *reply);
/* Takes one reply of several; returns the list of them when it was the last one, else NULL. */
struct redisReply *redis_op_gather(struct redis_op *op, struct redisReply *reply);
void redis_op_free(struct redis_op *op);

/* Marks the op as done; takes the reply. An op that is not ordered is answered and freed here, an
 * ordered one by redis_order_answer. */
void redis_op_finish(struct redis_op *op, enum status status, struct redisReply *reply);

/*
 * The answers that are to come in order: a queue for each session or channel that has some to come.
 * Starts zeroed but for send and ctx.
 *
 *   added --> waits --> done, and all before it in its queue are --> answered and freed
 */
struct redis_order {
    struct redis_queue *queues;                   /* a hash by key */
    struct redis_queue *ready_first, *ready_last; /* those whose first op is done */
    bool answering;
    void (*send)(void *ctx, struct redis_op *op); /* one that was held, by its key */
    void *ctx;
};

/* Makes the op an ordered one: behind the others with that key. False: it is held, and sent when it
 * may be; what is replicated and what is not travel different connections. */
bool redis_order_add(struct redis_order *order, struct redis_op *op, const char *key);
/* Holds an op that is about to be sent, and returns true, where one before it in its queue was sent
 * without the script and is not answered, or is held. */
bool redis_order_hold(struct redis_op *op);
/* Answers and frees what is done. Those that are made meanwhile are left for the next call. */
void redis_order_answer(struct redis_order *order);
bool redis_order_waits(const struct redis_order *order); /* something is left for it */
/* Frees what is left, without an answer. */
void redis_order_fini(struct redis_order *order);

enum redis_script {
    SCRIPT_RENEW,
    SCRIPT_RECORD_NODE,
    SCRIPT_CLAIM,
    SCRIPT_RELEASE,
    SCRIPT_TRANSFER,
    SCRIPT_ASSERT,
    SCRIPT_RECORD_SESSION,
    SCRIPT_PUBLISH,
    SCRIPT_HISTORY,
    SCRIPT_REVOKE,
    REDIS_SCRIPTS
};

#define REDIS_SHA_BYTES 41 /* 40 hexadecimal digits and a terminator */

/* SHA-1 of each text, as SCRIPT LOAD answers it. */
struct redis_shas {
    char text[REDIS_SCRIPTS][REDIS_SHA_BYTES];
};

void redis_scripts_hash(struct redis_shas *shas);
/* SCRIPT LOAD. */
void redis_script_load(struct redis_request *request, enum redis_script script);
/* EVALSHA of a script with that many keys and further arguments, all of which must follow. */
void redis_script_begin(struct redis_request *request, const struct redis_shas *shas,
                        enum redis_script script, size_t keys, size_t arguments);

#endif
