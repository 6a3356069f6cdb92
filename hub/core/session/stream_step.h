/*
 * One step of a reader through the publications of a session: what is the next one, what is double,
 * and which part is missing. Knows positions only; a session's stream and a client that catches up
 * both step by it.
 */
#ifndef VINHUB_CORE_SESSION_STREAM_STEP_H
#define VINHUB_CORE_SESSION_STREAM_STEP_H

#include <stdbool.h>

#include "common/publication.h"

/* What a reader of the stream does with it: a session's recovery, a client that catches up. */
struct stream_sink {
    void (*publication)(void *ctx, struct publication *publication);
    void (*gap)(void *ctx, uint64_t epoch, uint64_t from, uint64_t to);
    void *ctx;
};
/* Goes on from *at to the publication: gaps in between are reported, doubles skipped. oldest: first
 * position that the history keeps. */
void stream_step(struct position *at, struct position oldest, struct publication *publication,
                 const struct stream_sink *sink);
/* Nothing more is to be had up to `to`: the rest is a gap. */
void stream_close(struct position *at, struct position oldest, struct position to,
                  const struct stream_sink *sink);
/* It is the next one after before, of the same epoch or the first of a later one. */
bool stream_follows(struct position before, struct position at);

#endif
