/*
 * The owner's publications on their way to other nodes: the offsets given out, what the store has
 * not confirmed, and the last ones kept for those who come.
 *
 *   LIVE -> HELD -> SETTLING -> WAITING -> LIVE
 *             ^---------'----------'
 *   LIVE -> LATE ---------------> WAITING -> LIVE
 *
 *   LIVE                what is placed goes to the bus at the end of the turn
 *   LATE                it waits for its time
 *   HELD, SETTLING      it is kept
 *   WAITING             it waits for its share of the credit
 *
 * While no other node watches a session nobody but the history waits for what is placed: it is
 * written history.every late, many sessions together, and before that by who needs it
 * (backlog_hurry). Before the first one waits the store has confirmed that the end of this epoch
 * may be missing in the history (BUS_LATE): so whoever takes the session over from a dead owner
 * knows.
 *
 * After the bus was away much may wait. What is kept is written in portions, session after session,
 * each in order, under a credit of the node: so much may be unanswered. New pushes of sessions that
 * have nothing to make up for go on meanwhile. What all sessions of the node keep has a bound in
 * true memory; beyond it the oldest is dropped, whosever it is, and counted: the hole in the
 * offsets tells members of a gap.
 *
 * The parts: backlog_ring (the last publications), backlog_items (what is not confirmed),
 * backlog_row (which session sends next), backlog_publish (calls of the store), backlog_end (what
 * an epoch lost). None knows another.
 */
#ifndef VINHUB_CORE_SESSION_BACKLOG_H
#define VINHUB_CORE_SESSION_BACKLOG_H

#include "core/session/epoch_ends.h"
#include "core/session/state.h"

enum backlog_state {
    BACKLOG_LIVE,     /* what is placed leaves at the end of the turn */
    BACKLOG_LATE,     /* what is placed waits, for history.every at most: it is for the history */
    BACKLOG_HELD,     /* the record has to be proven first; until backlog_resume */
    BACKLOG_SETTLING, /* it is proven; until members, whose links come back later, hear it again */
    BACKLOG_WAITING,  /* its turn in the row of sessions that make up; until all is sent */
    BACKLOG_STATES
};

/* A reading of the last ten seconds covers what a fail-over may have lost: replicas lag less. */
#define LOST_WRITES_MS 10000

void backlogs_new(struct hub *hub);
void backlogs_free(struct hub *hub);
/* What is unanswered will not be answered. */
void backlogs_on_disconnected(struct hub *hub);

void backlog_new(struct session *session);
void backlog_free(struct session *session);

/* This node owns a new epoch: offsets begin at 1, what was kept of older ones is history. */
void backlog_begin_epoch(struct session *session);
/* To the bus in any case for so long: members that are still on their way hear of the new owner. */
void backlog_publish_until(struct session *session, uint64_t until_ms);
/* It owns it no more: what was to be published and is not certain to be, is dropped and counted. */
void backlog_drop(struct session *session);

/* The last offsets of epochs of which the store did not take the end, until their owner has
 * announced them on the push channel. */
const struct epoch_ends *backlog_unannounced_ends(const struct session *session);
void backlog_ends_announced(struct session *session);
/* What was announced in the last minute, for members that did not hear it. */
const struct epoch_ends *backlog_announced_ends(const struct session *session);

/* Gives the publication the next offset; others: it has members elsewhere. */
void backlog_place(struct session *session, struct publication *publication, bool others);
/* The next offset is given to one that could not be kept. Returns its position. */
struct position backlog_skip(struct session *session);
/* Keeps one that can't be placed before the epoch is known; a reference of its own. */
void backlog_set_aside(struct session *session, struct publication *publication);
/* Takes what was set aside; the caller's. */
struct pubs backlog_take_aside(struct session *session);
uint64_t backlog_placed(const struct session *session); /* last offset given out in this epoch */
/* Offsets given out that the store may not have, counted from the last one back. They come by on
 * the push channel. */
uint64_t backlog_on_the_way(const struct session *session);

bool backlog_is_live(const struct session *session);
bool backlog_has_news(const struct session *session);
/* Hands the bus what the turn has placed, or keeps it for later; may_publish: the record is proven,
 * and the bus is there; others: it has members elsewhere. */
void backlog_flush(struct session *session, bool may_publish, bool others);
/* The record is proven: what is kept goes out again, in order, after what of the last younger_ms
 * the store may have lost. others: it has members elsewhere. Of more than the history holds they
 * would miss what is announced before they hear the channel again: then that is waited for a
 * moment. */
void backlog_resume(struct session *session, uint64_t younger_ms, bool others);
/* The epoch ends: what is proven and still waits goes out now, whatever the credit. */
void backlog_finish(struct session *session);
/* Somebody reads the history, or (others) comes to watch elsewhere: what is written late goes out
 * now, and with others nothing is late any more. The record is proven, and the bus is there. */
void backlog_hurry(struct session *session, bool others);
/* The store has lost what it had taken: all that is here is appended again by the next resume. */
void backlog_append_all(struct session *session);
/* An answer of the store. Returns STATUS_REFUSED or STATUS_IO where the record has to be proven
 * first, else STATUS_OK. */
enum status backlog_on_published(struct session *session, uint64_t tag, enum status status);

/* The last publications, history.size of them at most; oldest first. */
uint32_t ring_len(const struct session *session);
struct publication *ring_at(const struct session *session, uint32_t i);
/* True where the ring holds all of this epoch after the position. */
bool ring_holds(const struct session *session, struct position after);
/* Asserts what must hold. */
void backlog_check(const struct session *session);

#endif
