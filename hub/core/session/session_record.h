/*
 * A session's record for people in the store, contract section 11. Written seldom, and never by a
 * push alone.
 */
#ifndef VINHUB_CORE_SESSION_SESSION_RECORD_H
#define VINHUB_CORE_SESSION_SESSION_RECORD_H

#include "core/session/state.h"

/* The session's record is written within a third of a lease, where this node owns it. */
void record_session_soon(struct session *session);

#endif
