/*
 * The bus: what nodes share, and how they talk. The interface and its guarantees.
 *
 * Implementations: bus_memory (one node, no Redis) and bus_redis (one server, Sentinel, Cluster).
 * The core sees only this header; the simulation has an implementation of its own.
 *
 * Guarantees
 *  - No event is delivered before the call that causes it has returned.
 *  - Each operation with a tag is answered by exactly one event of its kind with that tag.
 * STATUS_IO says the outcome is not known: it may have happened, may happen no more after the
 * event.
 *  - Operations of one bus on one session reach the store in the order of the calls, and are
 * answered in it. So do and are renewals among themselves, and what is told to one node. Between
 * these there is no order: where a server of the store stands still, answers on sessions that are
 * on others go on, and renewals do where the list of nodes is on another. When a bus is
 * disconnected, what was under way is answered before it says so.
 *  - Each script is atomic. What a script announces on the push channel is ordered with its change
 * of the record.
 *  - push messages of one session arrive in the order in which the store published them, while one
 * subscription lasts; some are lost when the subscription is interrupted, and on_subscribed comes
 * again when it is back. Inbox messages may be lost, never doubled by the bus, and keep their order
 * per sender while both connections last. Push and inbox are not ordered to each other.
 *  - A session id passed in need live only for the call. Strings, arrays and publications in an
 * event live only during it (take references to publications that are to be kept).
 *  - Everything asked for in a turn leaves at bus_flush; publications, while others are under way,
 * with an answer at the latest, or with what is asked after them.
 *  - What is asked for and not answered waits in memory, without end but for publish: see credit.
 */
#ifndef VINHUB_BUS_BUS_H
#define VINHUB_BUS_BUS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/envelope.h"
#include "common/publication.h"
#include "common/status.h"

struct bus;

/* Epochs are Unix times in ms, and exact as JSON numbers (RFC 8259 section 6). A higher number is
 * forged or corrupt; no event brings one. */
#define BUS_EPOCH_MAX (UINT64_C(1) << 52)

/* All the credit there is for publications that are not answered: at a round trip of 20 ms,
 * 400 MB/s. */
#define BUS_CREDIT_BYTES ((size_t)8 * 1024 * 1024)
/* What a publication costs on its way to the store besides its payload: its part of a call. */
#define BUS_PUBLICATION_BYTES 128

/* How publications are published; the values are added. */
enum bus_publish {
    BUS_QUIETLY = 0,  /* added to the history, not announced: the ring, after the store lost data */
    BUS_ANNOUNCE = 1, /* on the push channel */
    /* From here on the caller writes what it publishes late: the record says so in `late`. Whoever
     * claims the session as a dead owner's, or its own of before, puts a note at the end of that
     * epoch into the history: something may be missing there (publication_lost_end). */
    BUS_LATE = 2,
    BUS_PROMPT = 4, /* from here on it does not */
};

/* A node as the store knows it. */
struct bus_node {
    const char *id;
    uint64_t score;    /* its last renewal by its own word; only compared for change */
    uint32_t lease_ms; /* 0: not known (yet) */
};

/* Tokens that end before their time (contract section 11, `revoked`). */
struct bus_revocation {
    const char *name;         /* "jti:…" or "sub:…" */
    uint64_t until_s;         /* Unix time: it matters no more from then on */
    uint64_t issued_before_s; /* of a sub */
};

/* Who is named dead, and what the caller knows, in a claim. */
struct bus_claim {
    const char *dead_owner; /* NULL: nobody */
    uint64_t dead_epoch;
    uint64_t seen_epoch; /* highest the caller has seen for this session; 0: none */
    bool holds; /* the caller holds the session: a vanished record is granted to it even by a store
                   that has just started */
    const char *upstream; /* redacted URL for the record */
};

/* The record for people; written only while owner and epoch match. */
struct bus_session_record {
    const char *state, *reason, *upstream;
    uint64_t since_ms, clients, members, offset;
};

struct bus_node_record {
    const char *host, *version, *listen, *admin, *state;
    uint64_t pid, started_ms, lease_ms, clients, sessions, upstreams, msgs_in, msgs_out, rss_bytes,
        loop_lag_ms;
};

/* A row of a listing: an id and its fields as text. */
struct bus_field {
    const char *name;
    const char *value;
};
struct bus_row {
    const char *id;
    const struct bus_field *fields;
    size_t fields_len;
};
enum bus_listing {
    BUS_LIST_NODES,    /* ids of `nodes` with the fields of `node:ID`, and "renewed" */
    BUS_LIST_SESSIONS, /* ids of `sessions` in lexical order after `after`, with the fields of
                          `session:{ID}` */
    BUS_LIST_SESSION,  /* the one session `after`: one row or none */
    BUS_LIST_REVOKED,  /* the fields of `revoked`, each with its content as the field "value", in no
                          order; after and next are a cursor. What is there throughout is named at
                          least once; a portion may hold more than the limit, or none */
};
/* next: the id to pass as `after` for more, NULL at the end. */
typedef void bus_rows_fn(void *ctx, enum status status, const struct bus_row *rows, size_t len,
                         const char *next);

struct bus_events {
    /* The command connection is there (again). Comes once at the start for every implementation. */
    void (*on_connected)(void *ctx);
    /* The command connection is lost. Calls under way are answered with STATUS_IO right before. */
    void (*on_disconnected)(void *ctx);
    /* present: the own entry was there before this renewal. nodes: all entries after it, this
     * node's too. */
    void (*on_renewed)(void *ctx, uint64_t tag, enum status status, bool present,
                       const struct bus_node *nodes, size_t len);
    /* Messages of the session's push channel arrive from now on; comes after each
     * (re)subscription. */
    void (*on_subscribed)(void *ctx, const char *session);
    /* The store gives no right to the push channel of the session: the channel can't be subscribed
     * to (not_subscribed), or what was asked for could not be announced there. Comes again while
     * that stays. The bus goes on subscribing by itself; once that succeeds, on_subscribed comes.
     */
    void (*on_refused)(void *ctx, const char *session, const char *why, bool not_subscribed);
    /* STATUS_OK: granted, owner is this node. STATUS_REFUSED: owner holds it at epoch.
     * STATUS_AGAIN: the store is too young to say. STATUS_IO. */
    void (*on_claimed)(void *ctx, const char *session, uint64_t tag, enum status status,
                       const char *owner, uint64_t epoch);
    /* STATUS_OK, or STATUS_REFUSED where owner or epoch did not match, or STATUS_IO. */
    void (*on_released)(void *ctx, const char *session, uint64_t tag, enum status status);
    /* STATUS_OK: to is the owner at epoch. STATUS_REFUSED, STATUS_IO. */
    void (*on_transferred)(void *ctx, const char *session, uint64_t tag, enum status status,
                           uint64_t epoch);
    /* STATUS_OK: written back or already so. STATUS_REFUSED: owner holds it at a higher epoch.
     * STATUS_IO. */
    void (*on_asserted)(void *ctx, const char *session, uint64_t tag, enum status status,
                        const char *owner, uint64_t epoch);
    /* STATUS_OK; STATUS_NO_MEMORY: published but not kept; STATUS_REFUSED: the session is
     * another's; STATUS_IO. */
    void (*on_published)(void *ctx, const char *session, uint64_t tag, enum status status);
    /* There is credit again where credit had answered that there is none: all who had to wait may
     * ask again. Where the store was away meanwhile on_connected may come in its place. May be
     * NULL.
     */
    void (*on_credit)(void *ctx);
    /* Publications after the position asked for, oldest first, among them notes of ends that are
     * lost (publication_lost_end); oldest: the first position kept ({0,0}: nothing is kept); more:
     * the limit cut the answer. */
    void (*on_history)(void *ctx, const char *session, uint64_t tag, enum status status,
                       struct position oldest, struct publication *const *publications, size_t len,
                       bool more);
    /* STATUS_OK: the node received it. STATUS_NOT_FOUND: no node was subscribed. Only for tag !=
     * 0. */
    void (*on_sent)(void *ctx, uint64_t tag, enum status status);
    /* STATUS_OK, or STATUS_IO. May be NULL where nothing is revoked. */
    void (*on_revoked)(void *ctx, uint64_t tag, enum status status);
    /* A message of the inbox (push false) or of a push channel (push true). */
    void (*on_message)(void *ctx, const struct envelope *envelope, bool push);
};

struct bus_ops {
    /* Renews the lease: writes wall-clock ms as the node's score, removes entries untouched for 10
     * leases, answers with all. */
    void (*renew)(struct bus *bus, uint64_t tag);
    /* Monotonic ms (CLOCK_BOOTTIME) at which the latest inbox probe that came back had been sent;
     * 0: never. */
    uint64_t (*heard_ms)(const struct bus *bus);
    void (*record_node)(struct bus *bus, const struct bus_node_record *record);
    /* Clean stop: removes the node's entry and hash. No answer. */
    void (*sign_off)(struct bus *bus);

    void (*subscribe)(struct bus *bus, const char *session);
    void (*unsubscribe)(struct bus *bus, const char *session);

    void (*claim)(struct bus *bus, const char *session, uint64_t tag,
                  const struct bus_claim *claim);
    /* Empties the owner where owner is this node and the epoch matches; the epoch stays; keep_ms:
     * how long the record is kept. */
    void (*release)(struct bus *bus, const char *session, uint64_t tag, uint64_t epoch,
                    uint64_t keep_ms);
    void (*transfer)(struct bus *bus, const char *session, uint64_t tag, uint64_t epoch,
                     const char *to);
    void (*assert_owner)(struct bus *bus, const char *session, uint64_t tag, uint64_t epoch,
                         const char *upstream);
    void (*record_session)(struct bus *bus, const char *session, uint64_t epoch,
                           const struct bus_session_record *record);

    /* All of one epoch, offsets consecutive. history_size 0: not kept. ttl_ms: how long the history
     * lives from now on; 0: as before. how: of enum bus_publish. An entry that is already kept
     * counts as done. The publications are referenced by the bus as long as it needs them. */
    void (*publish)(struct bus *bus, const char *session, uint64_t tag, uint64_t epoch,
                    struct publication *const *publications, size_t len, uint32_t history_size,
                    uint64_t ttl_ms, unsigned how);
    /* How many bytes of publications, of any session that shares a way to the store with this one,
     * publish should still be given: payloads, and BUS_PUBLICATION_BYTES for each. 0: none for now,
     * on_credit says when. What is not answered yet is taken off; what is answered comes back, all
     * of it once nothing is under way. Who has more to publish publishes up to it and waits: a
     * publication may be larger than all the credit there is, and is for who has any.
     *
     * publish takes more than that, so that new pushes go out while others wait; but not without
     * bound. Over it (64 MiB in bus_redis) it is answered STATUS_IO, as is all that follows but
     * renewals, until all that was taken before is answered; on_disconnected and on_connected come
     * then. NULL: there is no bound. */
    size_t (*credit)(struct bus *bus, const char *session);
    void (*history)(struct bus *bus, const char *session, uint64_t tag, struct position after,
                    size_t limit);

    /* To a node's inbox. tag 0: no answer wanted. */
    void (*send)(struct bus *bus, const char *node, const struct envelope *envelope, uint64_t tag);
    /* To a session's push channel, without history or check (operators' CLOSE). */
    void (*broadcast)(struct bus *bus, const char *session, const struct envelope *envelope);

    /* Keeps a revocation. Where the name is there already the later time of each kind counts; one
     * whose until_s has come, by the clock of the store, is removed. NULL: the bus keeps none. */
    void (*revoke)(struct bus *bus, uint64_t tag, const struct bus_revocation *revocation);

    void (*list)(struct bus *bus, enum bus_listing listing, const char *after, size_t limit,
                 bus_rows_fn *fn, void *ctx);

    /* Why the store can't be used, in one line with its own words; NULL: it can be, or nothing is
     * known. Valid until the next event. May itself be NULL. */
    const char *(*trouble)(const struct bus *bus);

    void (*flush)(struct bus *bus);
    void (*free)(struct bus *bus);
};

/* Embedded first in each implementation. */
struct bus {
    const struct bus_ops *ops;
    const struct bus_events *events;
    void *events_ctx;
    bool shared; /* other nodes may be there; false for bus_memory */
};

/* Must be called once before anything else; events may come from the next turn on. */
static inline void bus_listen(struct bus *bus, const struct bus_events *events, void *ctx)
{
    bus->events = events;
    bus->events_ctx = ctx;
}

/* See credit. */
static inline size_t bus_credit(struct bus *bus, const char *session)
{
    return bus->ops->credit ? bus->ops->credit(bus, session) : SIZE_MAX;
}

#endif
