/*
 * A session on this node: its life, its state machine, its list of clients.
 */
#ifndef VINHUB_CORE_SESSION_H
#define VINHUB_CORE_SESSION_H

#include "core/state.h"

/* Finds by id; NULL where this node has no part in it. */
struct session *session_find(struct hub *hub, const char *id, size_t len);
/* The session of a target, opened on demand. NULL when out of memory. */
struct session *session_open(struct hub *hub, const struct target *target);

void session_add(struct session *session, struct subscription *subscription);
void session_remove(struct session *session, struct subscription *subscription);

/* The one setter; asserts that the transition is legal. Stops the step timer. */
void session_set_state(struct session *session, enum session_state state);
/* Runs what the state asks for after_ms from now. */
void session_step_after(struct session *session, uint64_t after_ms);
/* The same, later each time until the state changes. */
void session_ask_again(struct session *session);
/* True where an upstream may be open: the session counts as owned. */
bool session_is_owned(const struct session *session);
/* The word of contract section 1 for the records. */
const char *session_state_word(const struct session *session);

/* No part in it any more: unsubscribes; the memory goes at the end of the turn. */
void session_end(struct session *session);
void session_reap(struct hub *hub);
/* Frees all sessions at once (hub_free), which clients have left (door_forget_all). */
void session_free_all(struct hub *hub);

#endif
