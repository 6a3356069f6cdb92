/*
 * Whose the session is, and the one operation on its record whose answer is awaited: a claim, an
 * assertion, a release, a transfer (hub/README.md, Claim).
 *
 * Owns the pending operation and its tag, the watch on the owner, and whether the record is known
 * to be this node's. What follows from an answer is the session's: ownership_answered says which
 * operation it belongs to.
 */
#ifndef VINHUB_CORE_SESSION_OWNERSHIP_H
#define VINHUB_CORE_SESSION_OWNERSHIP_H

#include "core/node/peers.h"
#include "core/session/state.h"

/* Of a released session, the record is kept so long at least. */
#define RECORD_KEPT_MS (10 * 60 * 1000u)

enum ownership_step {
    OWNERSHIP_SETTLED, /* no answer is awaited */
    OWNERSHIP_CLAIMING,
    OWNERSHIP_OUTBIDDING, /* an owner takes a higher epoch */
    OWNERSHIP_ASSERTING,  /* the record is written back, or learned to be another's */
    OWNERSHIP_RELEASING,
    OWNERSHIP_TRANSFERRING,
    OWNERSHIP_STEPS
};

struct ownership_events {
    /* The named owner is dead. */
    void (*owner_dead)(struct session *session);
    /* A while after an answer that said nothing: the record is to be asserted. Returns whether it
     * is; else it is asked again. */
    bool (*prove)(struct session *session);
};

void ownership_new(struct session *session, const struct ownership_events *events);
void ownership_free(struct session *session);

/* --- the owner, as this node knows it --- */

/* NULL: this node, or nobody known. */
const char *ownership_owner(const struct session *session);
bool ownership_is_from_owner(const struct session *session, struct slice node);
/* At which epoch it was named; lower than the session's where the store lost writes. */
uint64_t ownership_named_at(const struct session *session);
void ownership_set_owner(struct session *session, struct slice owner, uint64_t named_at);
void ownership_set_nobody(struct session *session);
/* What was thought of the owner was of an older epoch: it is watched anew. */
void ownership_renew_owner(struct session *session);
void ownership_set_named_at(struct session *session, uint64_t epoch);
/* The owner is dead: the next claim names it. */
void ownership_owner_died(struct session *session);
bool ownership_is_takeover(const struct session *session);

/* --- the pending operation --- */

bool ownership_is_settled(const struct session *session);
/* Which operation that answer belongs to, which is over now; SETTLED: none that is awaited. */
enum ownership_step ownership_answered(struct session *session, uint64_t tag);
/* An answer does not count any more. */
void ownership_forget_answer(struct session *session);
void ownership_claim(struct session *session, const char *upstream);
void ownership_outbid(struct session *session, uint64_t seen_epoch, const char *upstream);
bool ownership_is_outbidding(const struct session *session);
void ownership_assert(struct session *session, const char *upstream);
/* At this epoch: whatever its answer, the epoch is over. */
void ownership_release(struct session *session);
void ownership_transfer(struct session *session, const char *to);
/* A grant nobody waits for any more must not leave a record that names this node. */
void ownership_refuse_grant(struct hub *hub, const char *id, uint64_t epoch);

/* --- is the record this node's? --- */

/* This node owns it from now on, by a claim or a TAKE. */
void ownership_taken(struct session *session);
/* It does not any more. */
void ownership_dropped(struct session *session);
/* The record is, or has to be, this node's: nobody else may be granted the session yet. */
bool ownership_must_assert(const struct session *session);
/* An owner's record is not certain: nothing is published before it is asserted. */
bool ownership_is_unsure(const struct session *session);
/* The assertion was granted. */
void ownership_asserted(struct session *session);
/* An operation of an owner has STATUS_IO for an answer: the record is asserted after a while, if
 * not after a reconnect before that. */
void ownership_lost_answer(struct session *session);
bool ownership_is_released(const struct session *session);
/* Asserts what must hold. */
void ownership_check(const struct session *session);

#endif
