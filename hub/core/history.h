/*
 * The order of a session's stream: what is next, what is double, what is missing, and where missing
 * parts come from.
 *
 * Both sides use it: a member takes pushes in, an owner its own publications. What is accepted goes
 * to session->batch in order; what can't be had becomes a gap note there. Also the owner's ring of
 * last publications.
 */
#ifndef VINHUB_CORE_HISTORY_H
#define VINHUB_CORE_HISTORY_H

#include "core/state.h"

/* Takes a publication that has its place. */
void history_receive(struct session *session, struct publication *publication);
/* The channel announces an epoch: what came before it on the channel was all of the older ones. */
void history_epoch_begins(struct session *session, uint64_t epoch);
/* A publication of the epoch before the one that this node owns now. */
void history_late(struct session *session, struct publication *publication);
/* The owner says where its stream stands (JOINED), and how many of the last publications may not be
 * in the history yet: at the first join the stream begins before those. */
void history_joined(struct session *session, struct position at, uint64_t on_the_way);
/* This node begins an epoch as the owner: local clients go on from its offset 1, after what they
 * may have missed before. */
void history_owner_epoch(struct session *session);
/* What waits for the local clients must not reach them any more: their position goes back before
 * it, so that it is read or announced. */
void history_rewind(struct session *session);
void history_on_answer(struct session *session, enum status status, struct position oldest,
                       struct publication *const *publications, size_t len, bool more);

/* What a reader of the stream does with it: a session's recovery, a client that catches up. */
struct stream_sink {
    void (*publication)(void *ctx, struct publication *publication);
    void (*gap)(void *ctx, uint64_t epoch, uint64_t from, uint64_t to);
    void *ctx;
};
/* Goes on from *at to the publication: gaps in between are told, doubles skipped. oldest: first
 * position that the history keeps. */
void stream_step(struct position *at, struct position oldest, struct publication *publication,
                 const struct stream_sink *sink);
/* Nothing more is to be had up to `to`: the rest is a gap. */
void stream_close(struct position *at, struct position oldest, struct position to,
                  const struct stream_sink *sink);

void ring_add(struct session *session, struct publication *publication);
void ring_clear(struct session *session);
/* Publication i of the ring, oldest first. */
static inline struct publication *ring_at(const struct ring *ring, uint32_t i)
{
    return ring->items[(ring->head + i) % ring->cap];
}
/* True where the ring holds all after the position. */
bool ring_covers(const struct session *session, struct position after);

#endif
