/*
 * The records for people in the store: nodes and sessions, contract section 11. Written seldom, and
 * never by a push alone.
 */
#ifndef VINHUB_CORE_RECORD_H
#define VINHUB_CORE_RECORD_H

#include "core/state.h"

void record_node(struct hub *hub);
/* The session's record is written within a third of a lease, where this node owns it. */
void record_session_soon(struct session *session);

#endif
