/*
 * What the stream hands to the clients here: publications and notes of gaps, in order, in the batch
 * of the turn.
 */
#ifndef VINHUB_CORE_SESSION_STREAM_ACCEPT_H
#define VINHUB_CORE_SESSION_STREAM_ACCEPT_H

#include "core/session/state.h"
#include "core/session/stream_step.h"

/* Keeps a reference of its own. */
void stream_accept(struct session *session, struct publication *publication);
/* Those are missing; to 0: up to the end of the epoch. */
void stream_accept_gap(struct session *session, uint64_t epoch, uint64_t from, uint64_t to);
/* For steps: accepts what they find, and counts gaps. */
struct stream_sink stream_accept_sink(struct session *session);

#endif
