/*
 * The bus: what nodes share, and how they talk. The interface and its guarantees.
 *
 * Implementations: bus_memory (one node, no Redis) and bus_redis (one server, Sentinel, Cluster).
 * The core sees only this header; the simulation has an implementation of its own.
 *
 * Guarantees
 *   - No event is delivered before the call that causes it has returned.
 *   - Each operation with a tag is answered by exactly one event of its kind with that tag.
 *     STATUS_IO: the outcome is not known. The operation may have been carried out, or may still
 *     be: a server may read it after the connection is lost.
 *   - The operations of one bus on one session reach the store in the order of the calls, and are
 *     answered in that order. The same holds for the renewals, and for the messages sent to one
 *     node. Operations of different groups have no order between them: when one server of the
 *     store stands still, operations on the sessions of other servers are still answered, and so
 *     are renewals if another server holds the list of nodes.
 *   - Before on_disconnected, all operations that are under way are answered.
 *   - Each script is atomic. What a script announces on the push channel is ordered with its
 *     change of the record.
 *   - The push messages of one session arrive in the order in which the store published them, as
 *     long as the subscription lasts. Some are lost when the subscription is interrupted;
 *     on_subscribed comes again when it is back.
 *   - Inbox messages may be lost. The bus never doubles them, and they keep their order per sender
 *     while both connections last. Push and inbox messages are not ordered to each other.
 *   - A session id that is passed in need live only for the call. Strings, arrays and publications
 *     in an event live only during the event (take references to publications that are kept).
 *   - All operations of a turn leave at flush. Publications may wait while other publications are
 *     under way: they leave with the next answer, or with the next other operation.
 *   - Operations that are not answered are kept in memory without a bound; publish has one, see
 *     credit.
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

/* The whole credit for publications that are not answered. At a round trip of 20 ms this allows
 * 400 MB/s. */
#define BUS_CREDIT_BYTES ((size_t)8 * 1024 * 1024)
/* What a publication costs on its way to the store, in addition to its payload. */
#define BUS_PUBLICATION_BYTES 128

/* How publications are published; the values are added. */
enum bus_publish {
    /* Added to the history, not announced. Used for the ring, after the store has lost data. */
    BUS_QUIETLY = 0,
    BUS_ANNOUNCE = 1, /* on the push channel */
    /* From now on the caller writes its publications late: the record says so in `late`. A later
     * claim, of the session of a dead owner or of the caller's own earlier one, puts a note into
     * the history: the end of that epoch may be missing (publication_lost_end). */
    BUS_LATE = 2,
    BUS_PROMPT = 4, /* from now on the caller writes its publications at once */
    BUS_AGAIN = 8,  /* some may have been published before, over a connection that was lost */
};

/* A node as the store knows it. */
struct bus_node {
    const char *id;
    uint64_t score;    /* the time of its last renewal by its own clock; only compared for change */
    uint32_t lease_ms; /* 0: not known (yet) */
};

/* Tokens that end before their time (contract section 11, `revoked`). */
struct bus_revocation {
    const char *name;         /* "jti:…" or "sub:…" */
    uint64_t until_s;         /* Unix time; from then on the revocation is not needed any more */
    uint64_t issued_before_s; /* of a sub: only tokens that were issued before this Unix time */
};

/* What a claim says: which owner is dead, and what the caller knows. */
struct bus_claim {
    const char *dead_owner; /* NULL: nobody */
    uint64_t dead_epoch;
    uint64_t seen_epoch; /* the highest epoch of the session that the caller has seen; 0: none */
    /* The caller holds the session. If the record is gone, the claim is granted even by a store
     * that has just started. */
    bool holds;
    const char *upstream; /* redacted URL for the record */
};

/* What operators see of a session; written only while owner and epoch match. */
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
    BUS_LIST_SESSION,  /* the session whose id is `after`: one row or none */
    BUS_LIST_REVOKED,  /* the fields of `revoked`, each with its content as the field "value", in no
                          order; after and next are a cursor. A field that is there during the whole
                          listing is named at least once; a portion may hold more rows than the
                          limit, or none */
};
/* next: the id to pass as `after` for more, NULL at the end. */
typedef void bus_rows_fn(void *ctx, enum status status, const struct bus_row *rows, size_t len,
                         const char *next);

struct bus_events {
    /* The command connection is open (again). Comes once at the start for every implementation. */
    void (*on_connected)(void *ctx);
    /* The command connection is lost. Operations under way were answered with STATUS_IO just
     * before. */
    void (*on_disconnected)(void *ctx);
    /* present: the entry of this node was there before this renewal. nodes: all entries after the
     * renewal, with that of this node. */
    void (*on_renewed)(void *ctx, uint64_t tag, enum status status, bool present,
                       const struct bus_node *nodes, size_t len);
    /* Messages of the session's push channel arrive from now on; comes after each
     * (re)subscription. */
    void (*on_subscribed)(void *ctx, const char *session);
    /* The store refuses this node the push channel of the session. not_subscribed: the channel
     * can't be subscribed to; otherwise an announcement on it was refused. Comes again as long as
     * this lasts. The bus tries to subscribe again by itself; on_subscribed comes when that
     * succeeds. */
    void (*on_refused)(void *ctx, const char *session, const char *why, bool not_subscribed);
    /* STATUS_OK: granted, owner is this node. STATUS_REFUSED: owner holds the session at epoch.
     * STATUS_AGAIN: the store has started within the last lease and has no record of the session,
     * so another node may hold it. STATUS_IO. */
    void (*on_claimed)(void *ctx, const char *session, uint64_t tag, enum status status,
                       const char *owner, uint64_t epoch);
    /* STATUS_OK, or STATUS_REFUSED where owner or epoch did not match, or STATUS_IO. */
    void (*on_released)(void *ctx, const char *session, uint64_t tag, enum status status);
    /* STATUS_OK: to is the owner at epoch. STATUS_REFUSED, STATUS_IO. */
    void (*on_transferred)(void *ctx, const char *session, uint64_t tag, enum status status,
                           uint64_t epoch);
    /* STATUS_OK: the record names this node, now or already before. STATUS_REFUSED: owner holds the
     * session at a higher epoch. STATUS_IO. */
    void (*on_asserted)(void *ctx, const char *session, uint64_t tag, enum status status,
                        const char *owner, uint64_t epoch);
    /* STATUS_OK; STATUS_NO_MEMORY: announced, but not kept in the history; STATUS_REFUSED: another
     * node owns the session, or the epoch is another one; STATUS_IO. */
    void (*on_published)(void *ctx, const char *session, uint64_t tag, enum status status);
    /* Comes after credit has returned 0, when there is credit again: all sessions that had to wait
     * may ask again. If the store was away meanwhile, on_connected may come instead. May be NULL.
     */
    void (*on_credit)(void *ctx);
    /* The publications after the position in the request, oldest first, with notes of lost ends of
     * epochs among them (publication_lost_end). oldest: the first position that is kept ({0,0}:
     * nothing is kept). more: the limit cut the answer. */
    void (*on_history)(void *ctx, const char *session, uint64_t tag, enum status status,
                       struct position oldest, struct publication *const *publications, size_t len,
                       bool more);
    /* STATUS_OK: a node was subscribed to the inbox. STATUS_NOT_FOUND: none was. STATUS_IO. Comes
     * only if the tag is not 0. */
    void (*on_sent)(void *ctx, uint64_t tag, enum status status);
    /* STATUS_OK, or STATUS_IO. May be NULL if revoke is not called. */
    void (*on_revoked)(void *ctx, uint64_t tag, enum status status);
    /* A message of the inbox (push false) or of a push channel (push true). */
    void (*on_message)(void *ctx, const struct envelope *envelope, bool push);
};

struct bus_ops {
    /* Renews the lease: writes the wall-clock time in ms as the node's score, removes entries that
     * have not changed for 10 leases, and answers with all entries. */
    void (*renew)(struct bus *bus, uint64_t tag);
    /* When the latest inbox probe that came back was sent, in monotonic ms (CLOCK_BOOTTIME); 0:
     * none came back yet. */
    uint64_t (*heard_ms)(const struct bus *bus);
    void (*record_node)(struct bus *bus, const struct bus_node_record *record);
    /* Clean stop: removes the node's entry and hash. No answer. */
    void (*sign_off)(struct bus *bus);

    void (*subscribe)(struct bus *bus, const char *session);
    void (*unsubscribe)(struct bus *bus, const char *session);

    void (*claim)(struct bus *bus, const char *session, uint64_t tag,
                  const struct bus_claim *claim);
    /* Empties the owner if it is this node and the epoch matches; the epoch stays. keep_ms: how
     * long the record is kept. */
    void (*release)(struct bus *bus, const char *session, uint64_t tag, uint64_t epoch,
                    uint64_t keep_ms);
    void (*transfer)(struct bus *bus, const char *session, uint64_t tag, uint64_t epoch,
                     const char *to);
    void (*assert_owner)(struct bus *bus, const char *session, uint64_t tag, uint64_t epoch,
                         const char *upstream);
    void (*record_session)(struct bus *bus, const char *session, uint64_t epoch,
                           const struct bus_session_record *record);

    /* All publications are of one epoch, their offsets consecutive. history_size 0: none is kept.
     * ttl_ms: how long the history lives from now on; 0: the time to live is not changed. how: sum
     * of enum bus_publish. A publication that the history has already counts as done. The bus holds
     * references to the publications as long as it needs them. */
    void (*publish)(struct bus *bus, const char *session, uint64_t tag, uint64_t epoch,
                    struct publication *const *publications, size_t len, uint32_t history_size,
                    uint64_t ttl_ms, unsigned how);
    /* How many bytes of publications the caller should still publish: payloads, and
     * BUS_PUBLICATION_BYTES for each. All sessions on one server of the store share this credit. 0:
     * none for now, on_credit follows. Publications under way are subtracted until they are
     * answered; with none under way the credit is whole. A backlog is published up to the credit,
     * and the rest waits. One publication may be larger than the whole credit: it may be published
     * as soon as there is any.
     *
     * publish also takes more than the credit, so that new pushes go out while a backlog waits, but
     * not without a bound (64 MiB in bus_redis). Beyond the bound publish is answered STATUS_IO,
     * and so is every later operation but renewals, until all that was taken is answered;
     * on_disconnected and on_connected come then. NULL: there is no bound. */
    size_t (*credit)(struct bus *bus, const char *session);
    void (*history)(struct bus *bus, const char *session, uint64_t tag, struct position after,
                    size_t limit);

    /* To a node's inbox. tag 0: no answer wanted. */
    void (*send)(struct bus *bus, const char *node, const struct envelope *envelope, uint64_t tag);
    /* To a session's push channel, without history or check (operators' CLOSE). */
    void (*broadcast)(struct bus *bus, const char *session, const struct envelope *envelope);

    /* Keeps a revocation. If the name is there already, the later of both times of each kind
     * counts. A revocation whose until_s has passed, by the clock of the store, is removed. NULL:
     * the bus keeps none. */
    void (*revoke)(struct bus *bus, uint64_t tag, const struct bus_revocation *revocation);

    void (*list)(struct bus *bus, enum bus_listing listing, const char *after, size_t limit,
                 bus_rows_fn *fn, void *ctx);

    /* Why the store can't be used: one line, with the store's own error text. Returns NULL if the
     * store can be used or the cause is not known. Valid until the next event. The function pointer
     * may be NULL. */
    const char *(*trouble)(const struct bus *bus);

    void (*flush)(struct bus *bus);
    void (*free)(struct bus *bus);
};

/* Embedded first in each implementation. */
struct bus {
    const struct bus_ops *ops;
    const struct bus_events *events;
    void *events_ctx;
    bool shared; /* other nodes may use the same store; false for bus_memory */
};

/* Must be called once before any other function; events may come from the next turn on. */
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
