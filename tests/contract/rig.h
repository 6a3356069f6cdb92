/*
 * A rig for the promises of bus.h: up to four nodes on one kind of bus, each with a log of the
 * events it got.
 *
 * The same cases run on every kind. Waiting is for an event, with a deadline; events already looked
 * at are not found again.
 */
#ifndef VINHUB_TESTS_CONTRACT_RIG_H
#define VINHUB_TESTS_CONTRACT_RIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bus/bus.h"

#define RIG_PEERS   4
#define RIG_WAIT_MS 120000 /* only against a hang: a busy machine may be slow */

enum seen_kind {
    SEEN_CONNECTED,
    SEEN_DISCONNECTED,
    SEEN_RENEWED,
    SEEN_SUBSCRIBED,
    SEEN_REFUSED,
    SEEN_CLAIMED,
    SEEN_RELEASED,
    SEEN_TRANSFERRED,
    SEEN_ASSERTED,
    SEEN_PUBLISHED,
    SEEN_CREDIT,
    SEEN_HISTORY,
    SEEN_TOLD,
    SEEN_INBOX,
    SEEN_PUSH,
    SEEN_ROWS,
    SEEN_REVOKED,
};

struct seen_item {
    char *id; /* of a node or row; payload of a publication */
    size_t id_len;
    uint64_t number; /* score, offset */
    uint64_t epoch;
    uint64_t time_ms;
    unsigned opcode;
    uint32_t lease_ms;
    size_t fields_len;
    char *fields[20][2];
};

/* One event as it came; for messages tag is the type and status the envelope's. */
struct seen {
    struct seen *next;
    enum seen_kind kind;
    bool taken;
    char *session;
    char *text; /* owner, node, next, why */
    uint64_t tag;
    int status;
    uint64_t epoch;
    uint64_t number;
    struct position oldest;
    bool flag;
    struct seen_item *items;
    size_t len;
};

struct contract_rig;

struct rig_peer {
    struct contract_rig *rig;
    struct bus *bus;
    char *id;
    struct seen *first;
    struct seen **last;
};

struct rig_kind {
    const char *name;
    struct bus *(*open)(struct contract_rig *rig, const char *id,
                        unsigned life); /* opens a bus; its events come within rig_wait */
    void (*turn)(struct contract_rig *rig,
                 uint64_t at_most_ms); /* one turn, or until something came */
    bool shared;
};

struct contract_rig {
    const struct rig_kind *kind;
    void *store; /* belongs to the kind of bus */
    struct rig_peer *peers[RIG_PEERS];
    unsigned lives;
};

/* Returns when the peer is connected and its inbox works. */
struct rig_peer *rig_peer(struct contract_rig *rig, const char *id);
/* The same without waiting. */
struct rig_peer *rig_peer_unconnected(struct contract_rig *rig, const char *id);
/* Waits until the peer's inbox works. */
void rig_hear(struct rig_peer *peer);
void rig_remove(struct contract_rig *rig, struct rig_peer *peer);
void rig_clear(struct contract_rig *rig);

/* The next event of that kind; tag 0: with any tag. Fails the test after RIG_WAIT_MS. */
const struct seen *rig_wait(struct rig_peer *peer, enum seen_kind kind, uint64_t tag);
/* An event that has come already, or NULL. */
const struct seen *rig_find(struct rig_peer *peer, enum seen_kind kind, uint64_t tag);
/* Runs turns until done returns true; fails the test after RIG_WAIT_MS. */
void rig_until(struct contract_rig *rig, bool (*done)(void *ctx), void *ctx);
/* Waits until all calls of the peer's bus are answered, and all messages to its inbox have arrived.
 */
void rig_settle(struct rig_peer *peer);
void rig_forget_events(struct rig_peer *peer);
/* How long this process waited for a processor; bounds on times leave this out. */
uint64_t rig_held_up_ms(void);

const char *seen_field(const struct seen_item *item,
                       const char *name); /* "" where it is not there */
/* A row or node of that id, or NULL. */
const struct seen_item *seen_item(const struct seen *seen, const char *id);

/* Short forms of what cases do most. */
void peer_subscribe(struct rig_peer *peer, const char *session);
uint64_t peer_claim(struct rig_peer *peer, const char *session); /* must be granted; the epoch */
enum status peer_publish(struct rig_peer *peer, const char *session, uint64_t epoch,
                         uint64_t offset, const char *payload, uint32_t history_size, unsigned how);
/* The bus's rows callback that logs into the peer given as ctx. */
void peer_on_rows(void *ctx, enum status status, const struct bus_row *rows, size_t len,
                  const char *next);

#endif
