/*
 * A session on this node: its life, and what those above ask of it.
 */
#ifndef VINHUB_CORE_SESSION_SESSION_H
#define VINHUB_CORE_SESSION_SESSION_H

#include "core/session/state.h"

/* Finds by id; NULL where this node has no part in it. */
struct session *session_find(struct hub *hub, const char *id, size_t len);
/* The session of a target, opened on demand. NULL when out of memory. */
struct session *session_open(struct hub *hub, const struct target *target);
/* No part in it any more: unsubscribes; the memory goes at the end of the turn. */
void session_end(struct session *session);
void session_reap(struct hub *hub);
/* Frees all sessions at once (hub_free); no subscription is left. */
void session_free_all(struct hub *hub);

/* A client has come, with that request: returns its handle for session_left. */
uint16_t session_came(struct session *session, const struct target *target);
/* It has left the session's list. */
void session_left(struct session *session, uint16_t request);

/* Somebody on this node still wants the session: a client, or a message of one that has left. */
bool session_is_wanted(const struct session *session);

/* The owner gives it its place; or, while its epoch is not certain, sets it aside. Takes over the
 * caller's reference. */
void session_place(struct session *session, struct publication *publication);
void session_place_now(struct session *session, struct publication *publication);
/* A message that could not be kept takes its offset all the same: a GAP says that it is missing. */
void session_lose_one(struct session *session);
/* An owner can say at once where it stands: it is not set aside. */
bool session_may_place(const struct session *session);
/* Writes what the session has for its clients now, and hands the bus its part. */
void session_flush(struct session *session);
/* Counts n messages that its clients got. */
void session_count_out(struct session *session, uint64_t n);
/* Hands the bus what other nodes wait for, ahead of session_flush. False: there is nothing. */
bool session_flush_far(struct session *session);
/* Somebody reads the history, or (others) comes to watch on another node: where this node owns it,
 * the bus is handed before that what is written late. */
void session_write_history(struct session *session, bool others);
/* The ring holds all after the position, and nothing before it is being made up for. */
bool session_ring_covers(const struct session *session, struct position after);
/* Sends all nodes the last SENDs of its clients: it is about to be released. */
void session_broadcast_sends(struct session *session);
/* Asserts what must hold of all its parts. */
void session_check(const struct session *session);

#endif
