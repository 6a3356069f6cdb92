/*
 * What the files of the bus over Redis share: the bus's state, and how an op is made and sent.
 *
 *   bus_redis.c            made, flushed and freed; subscriptions; keys, ops, replies
 *   bus_redis_records.c    renew, record_node, sign_off, claim, release, transfer, assert_owner,
 *                          record_session
 *   bus_redis_messages.c   publish, history, send, broadcast
 *   bus_redis_batch.c      the publications of a turn, in one call
 *   bus_redis_list.c       list, revoke
 */
#ifndef VINHUB_BUS_BUS_REDIS_PRIVATE_H
#define VINHUB_BUS_BUS_REDIS_PRIVATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bus/bus.h"
#include "bus/call_pace.h"
#include "bus/redis_op.h"

#include "bus/redis_pipeline.h"
#include "bus/redis_topology.h"
#include "common/conf.h"
#include "common/redis_url.h"
#include "common/url.h"

#define RECORD_TTL_MS (UINT64_C(30) * 60 * 1000)
#define KEY_MAX       (REDIS_CHANNEL_PREFIX_BYTES + SESSION_ID_MAX + 16)

struct redis_key {
    char text[KEY_MAX];
};

struct known_node; /* bus_redis_records.c */
struct redisReply;

struct bus_redis {
    struct bus bus; /* first */
    struct loop *loop;
    struct conf *conf; /* referenced */
    struct redis_url url;
    struct redis_url sentinel; /* user and password of the Sentinels, nothing else */
    struct tls_context *tls;
    char *node;
    uint64_t life;
    char channel_prefix[REDIS_CHANNEL_PREFIX_BYTES];
    struct redis_key inbox;
    struct redis_shas shas;
    struct redis_setup setup;
    struct redis_trouble trouble;
    uint64_t opened_ms; /* monotonic: when commands could be sent (again) */
    struct redis_topology *topology;
    struct redis_order order;
    struct redis_batch *batches; /* of this turn, by slot */
    unsigned calls;              /* of them under way */
    struct call_pace pace;
    bool fences;    /* the last grant said that histories refuse entries older than the record */
    bool old_nodes; /* some node runs 0.1, whose scripts do not fence histories */
    unsigned script_calls;     /* those of `calls` that go by the script */
    bool gathered;             /* publications, in this turn */
    struct redis_apart *apart; /* sessions that go by themselves */
    struct known_node *known_nodes;
    struct redis_request touched; /* pairs of time and session for the index of sessions */
    size_t touched_len;
    uint64_t trimmed_ms;     /* when the index was trimmed last */
    struct loop_timer *wake; /* for answers that can't wait for a turn of its own accord */
    bool freeing;
};

static inline struct bus_redis *bus_redis_of(struct bus *bus)
{
    return (struct bus_redis *)bus;
}

/* PREFIX:kind */
struct redis_key redis_key_plain(const struct bus_redis *b, const char *kind);
/* PREFIX:kind:NAME */
struct redis_key redis_key_of(const struct bus_redis *b, const char *kind, const char *name);
/* PREFIX:kind:{SESSION} */
struct redis_key redis_key_session(const struct bus_redis *b, const char *kind,
                                   const char *session);

/* The channels of a node and of a session: PREFIX:inbox:NODE and PREFIX:push:{SESSION}, with @N
 * behind the prefix in another database than 0. */
struct redis_key redis_channel_inbox(const struct bus_redis *b, const char *node);
struct redis_key redis_channel_push(const struct bus_redis *b, const char *session);

/* An op that runs a script on keys; the arguments must follow. keys[0] says where it goes. */
struct redis_op *bus_redis_script(struct bus_redis *b, redis_answer_fn *answer,
                                  enum redis_script script, const struct redis_key *keys,
                                  size_t keys_len, size_t arguments);
/* Sends an op to the server of the key. */
void bus_redis_send(struct bus_redis *b, struct redis_op *op, const struct redis_key *key);
/* The same for one whose answer is an event: it keeps its place in the order of the calls on the
 * session, or on the key where session is NULL. */
void bus_redis_ask(struct bus_redis *b, struct redis_op *op, const struct redis_key *key,
                   const char *session, uint64_t tag);
/* Takes the part of a session into a call of this turn; its answer keeps its place like that of an
 * op of bus_redis_ask. What is sent after it goes behind it. */
void bus_redis_gather(struct bus_redis *b, struct redis_op *op, const char *session, uint64_t tag);
/* The same for one that was held meanwhile. */
void bus_redis_gather_held(struct bus_redis *b, struct redis_op *op);
/* Sends what is gathered, where not enough is under way. */
void bus_redis_end_turn(struct bus_redis *b);
/* Sends what is gathered. */
void bus_redis_flush_batches(struct bus_redis *b);
/* Nothing is known any more of how the session's calls went. */
void bus_redis_forget_apart(struct bus_redis *b, const char *session);
void bus_redis_forget_batches(struct bus_redis *b);
/* Tells of an op on a session that was refused for want of a right, before it is answered. */
void bus_redis_note_refusal(struct bus_redis *b, const struct redis_op *op);
/* "PUBLISH", or "SPUBLISH" in a cluster. */
const char *bus_redis_publish_word(const struct bus_redis *b);

/* Reading replies; 0, "" or NULL where they are of another form. */
uint64_t redis_reply_number(const struct redisReply *reply);
uint64_t redis_reply_epoch(const struct redisReply *reply); /* 0: none, or too high to be one */
const char *redis_reply_text(const struct redisReply *reply);
const struct redisReply *redis_reply_at(const struct redisReply *reply, size_t index);

/* A portion of what is revoked. */
void bus_redis_list_revoked(struct bus_redis *b, const char *cursor, size_t limit, bus_rows_fn *fn,
                            void *ctx);

/* The parts of the vtable. */
void bus_redis_renew(struct bus *bus, uint64_t tag);
void bus_redis_record_node(struct bus *bus, const struct bus_node_record *record);
void bus_redis_sign_off(struct bus *bus);
void bus_redis_forget_nodes(struct bus_redis *b);

void bus_redis_claim(struct bus *bus, const char *session, uint64_t tag,
                     const struct bus_claim *claim);
void bus_redis_release(struct bus *bus, const char *session, uint64_t tag, uint64_t epoch,
                       uint64_t keep_ms);
void bus_redis_transfer(struct bus *bus, const char *session, uint64_t tag, uint64_t epoch,
                        const char *to);
void bus_redis_assert_owner(struct bus *bus, const char *session, uint64_t tag, uint64_t epoch,
                            const char *upstream);
void bus_redis_record_session(struct bus *bus, const char *session, uint64_t epoch,
                              const struct bus_session_record *record);
/* Sends what the turn has gathered for the index of sessions. */
void bus_redis_flush_touched(struct bus_redis *b);

void bus_redis_publish(struct bus *bus, const char *session, uint64_t tag, uint64_t epoch,
                       struct publication *const *publications, size_t len, uint32_t history_size,
                       uint64_t ttl_ms, unsigned how);
void bus_redis_history(struct bus *bus, const char *session, uint64_t tag, struct position after,
                       size_t limit);
void bus_redis_send_message(struct bus *bus, const char *node, const struct envelope *envelope,
                            uint64_t tag);
void bus_redis_broadcast(struct bus *bus, const char *session, const struct envelope *envelope);

void bus_redis_revoke(struct bus *bus, uint64_t tag, const struct bus_revocation *revocation);
void bus_redis_list(struct bus *bus, enum bus_listing listing, const char *after, size_t limit,
                    bus_rows_fn *fn, void *ctx);

#endif
