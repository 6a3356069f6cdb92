/*
 * What the bus in memory keeps: the nodes, and for each session its record, its history and who
 * listens to its channel.
 *
 * It is the counterpart of the keys in Redis: record and history of a session have their own times
 * to live. A session is here as long as it has any of the three. Knows nothing of events; time
 * comes in from outside.
 */
#ifndef VINHUB_BUS_BUS_MEMORY_STORE_H
#define VINHUB_BUS_BUS_MEMORY_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bus/bus.h"
#include "bus/bus_memory_record.h"
#include "common/hash.h"
#include "common/publication.h"
#include "common/timer.h"

#define MEMORY_RECORD_TTL_MS (UINT64_C(30) * 60 * 1000)
#define MEMORY_LISTED_MS     (UINT64_C(60) * 60 * 1000)

struct memory_bus;

struct memory_node {
    char *id;
    bool present;                  /* has an entry: it renews */
    uint64_t score;                /* Unix ms, strictly growing */
    struct bus_node_record record; /* strings are owned; valid until record_until_ms */
    uint64_t record_until_ms;      /* 0: none */
    UT_hash_handle hh;
};

struct memory_subscriber {
    struct memory_bus *bus;
    uint64_t serial; /* of the latest subscription: the ones before it are not confirmed any more */
    struct memory_subscriber *next;
};

struct memory_session {
    struct timer expiry; /* first, so that a timer leads back here */
    struct bus_memory_store *store;
    char *id;
    struct memory_record own;
    struct bus_session_record record; /* strings are owned */
    uint64_t record_until_ms;
    uint64_t listed_ms; /* Unix ms of the last write; 0: not listed */
    struct memory_history history;
    struct memory_subscriber *subscribers;
    UT_hash_handle hh;
};

struct memory_revocation {
    char *name;
    uint64_t until_s, issued_before_s;
    UT_hash_handle hh;
};

struct bus_memory_store {
    struct memory_revocation *revoked;
    struct memory_node *nodes;
    struct memory_session *sessions;
    struct memory_bus *buses;
    struct timers timers;
};

/* A copy that is never NULL; running out of memory for so little ends the process. NULL in, NULL
 * out. */
char *memory_copy(const char *text);

struct memory_node *memory_node_get(struct bus_memory_store *store, const char *id);
/* As bus_ops' revoke. */
void memory_revoke(struct bus_memory_store *store, const struct bus_revocation *revocation,
                   uint64_t now_s);
void memory_node_remove(struct bus_memory_store *store, struct memory_node *node);
void memory_node_record(struct memory_node *node, const struct bus_node_record *record,
                        uint64_t now_ms);

/* What is due at now_ms is gone from it. find returns NULL where there is none, get makes one. */
struct memory_session *memory_session_find(struct bus_memory_store *store, const char *id,
                                           uint64_t now_ms);
struct memory_session *memory_session_get(struct bus_memory_store *store, const char *id,
                                          uint64_t now_ms);
/* To be called after a change: arms the expiry, or frees a session that holds nothing any more. */
void memory_session_settle(struct memory_session *session);

/* It has another owner, or epoch: what people see starts over. */
void memory_session_begin(struct memory_session *session, const char *state, const char *upstream,
                          uint64_t now_ms, uint64_t unix_ms);
void memory_session_record(struct memory_session *session, const struct bus_session_record *record);

void memory_session_subscribe(struct memory_session *session, struct memory_bus *bus,
                              uint64_t serial);
void memory_session_unsubscribe(struct memory_session *session, const struct memory_bus *bus);
/* The serial of its subscription, 0: none. */
uint64_t memory_session_subscribed(const struct memory_session *session,
                                   const struct memory_bus *bus);

#endif
