/*
 * From a session's batch to the sockets of this node.
 *
 * At the end of a turn each session with something new writes all of it to each client in one
 * write: made once for each form that a client needs.
 */
#ifndef VINHUB_CORE_FANOUT_H
#define VINHUB_CORE_FANOUT_H

#include "core/session/state.h"

/* Writes the session's batch to its clients. */
void fanout_deliver(struct session *session);

#endif
