/*
 * From a publication to the sockets of this node and to the bus.
 *
 * A publication is placed (owner) or received (member) at any time of a turn; at its end each
 * session with something new writes all of it to each client in one write: made once for each wire
 * form that a client needs.
 */
#ifndef VINHUB_CORE_FANOUT_H
#define VINHUB_CORE_FANOUT_H

#include "core/state.h"

/* A message that could not be kept takes its offset all the same: a GAP says that it is missing. */
void fanout_lost(struct session *session);
/* The owner gives it the next offset. Takes over the caller's reference. */
void fanout_place(struct session *session, struct publication *publication);
/* Writes what the session has for its clients now, and hands the bus its part. */
void fanout_flush(struct session *session);
/* Hands the bus what other nodes wait for, ahead of fanout_flush. False: there is nothing. */
bool fanout_flush_far(struct session *session);
/* What was not answered goes to the bus again, in order. */
void fanout_publish_again(struct session *session);
/* The store may have lost what it had taken: what the ring has of the last younger_ms is appended
 * there again. */
void fanout_append_ring(struct session *session, uint64_t younger_ms);
void fanout_on_published(struct session *session, uint64_t tag, enum status status);

#endif
