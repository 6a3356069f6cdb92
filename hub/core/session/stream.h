/*
 * The position of this node in the publications of a session: which publication comes next, which
 * ones came twice, which ones are missing, and where missing ones are read from.
 *
 *   UNKNOWN    -> FOLLOWING   the first push or JOINED, or this node becomes the owner
 *   FOLLOWING  -> SETTLING    an epoch ends, and its last publications may still be on their way
 *              -> FETCHING    publications are missing: the history is read
 *   SETTLING   -> FOLLOWING   the announcement or JOINED shows that nothing is missing
 *              -> FETCHING    something is missing, or the wait is over
 *   FETCHING   -> FOLLOWING   the history has no more; what is still missing becomes a gap note
 *
 * Without a history FETCHING is left out: what is missing becomes a gap note at once. While the
 * state is SETTLING or FETCHING, live publications are held.
 *
 * The stream is made and freed with its session (session/parts.c). A member passes pushes in, an
 * owner its own publications. Accepted publications go to the batch of this turn in order, with a
 * gap note for those that can't be had any more.
 */
#ifndef VINHUB_CORE_SESSION_STREAM_H
#define VINHUB_CORE_SESSION_STREAM_H

#include "core/pubs.h"
#include "core/session/state.h"
#include "core/session/stream_step.h"

enum stream_state {
    STREAM_UNKNOWN,   /* no position yet; until JOINED, a push, or this node owns the session */
    STREAM_FOLLOWING, /* what comes next is taken */
    STREAM_SETTLING,  /* the end of an epoch may still be on its way: a new owner waits for its own
                         announcement on the channel, half a second; a member for JOINED, two */
    STREAM_FETCHING,  /* the history is read, again each second, until it has said all it has */
    STREAM_STATES
};

void stream_new(struct session *session);
void stream_free(struct session *session);

/* The push channel is heard from now on; again after an interruption, in which the end of an epoch
 * may have been missed. */
void stream_subscribed(struct session *session);
/* The push channel may not be heard any more. */
void stream_unsubscribed(struct session *session);
bool stream_is_subscribed(const struct session *session);
/* What was accepted this turn, for the local clients: who delivers it takes it out. */
struct pubs *stream_batch(const struct session *session);
/* {0,0}: not known. */
struct position stream_at(const struct session *session);
bool stream_is_known(const struct session *session);
/* Live publications are held until what is missing is there, or known to be lost. */
bool stream_is_recovering(const struct session *session);

/* Takes a publication that has its place. */
void stream_receive(struct session *session, struct publication *publication);
/* The owner's next publication could not be kept: it is missing here, too. */
void stream_lost(struct session *session, struct position lost);
/* The channel announces an epoch: what came before it on the channel was all of the older ones.
 * again: of the same owner, which may have been cut off before: it says how far it got (JOINED). */
void stream_epoch_begins(struct session *session, uint64_t epoch, bool again);
/* The owner of an epoch says how far it got, though the store did not take all of it: what is
 * missing up to there is a gap. */
void stream_ended(struct session *session, struct position last);
/* A publication of the epoch before the one that this node owns now. */
void stream_late(struct session *session, struct publication *publication);
/* The owner says where its stream stands (JOINED), and how many of the last publications may not be
 * in the history yet: at the first join the stream begins before those. */
void stream_joined(struct session *session, struct position at, uint64_t on_the_way);
/* Something that was never published has been taken for a publication: what is missing is announced
 * at the end of the epoch. */
void stream_disproved(struct session *session);
/* The owner may not know that this node watches, until JOINED. */
void stream_unconfirmed(struct session *session);
/* This node begins an epoch as the owner: local clients go on from its offset 1, after what they
 * may have missed before. */
void stream_owner_epoch(struct session *session);
/* What waits for the local clients must not reach them any more: their position goes back before
 * it, so that it is read or announced. */
void stream_rewind(struct session *session);
/* Returns false where the answer is not awaited here. */
bool stream_on_history(struct session *session, uint64_t tag, enum status status,
                       struct position oldest, struct publication *const *publications, size_t len,
                       bool more);

/* Before it goes on into that epoch: of one before whose end is known (stream_ended) what is
 * missing is announced, even if the history does not show it. */
void stream_leave_ended(const struct session *session, struct position *at, struct position oldest,
                        uint64_t epoch, const struct stream_sink *sink);
/* Asserts what must hold. */
void stream_check(const struct session *session);

#endif
