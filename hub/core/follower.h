/*
 * What a protocol client has beyond a raw one: WELCOME, resume, STATUS, acknowledgements; and the
 * catching up of clients that want the past: resume of protocol clients, replay of raw ones.
 */
#ifndef VINHUB_CORE_FOLLOWER_H
#define VINHUB_CORE_FOLLOWER_H

#include "core/state.h"

/* A new client: sends WELCOME when the session's position is known, or after a second; reads the
 * past it wants. */
void follower_open(struct client *client, const struct target *target);
void follower_gone(struct client *client);
void follower_message(struct client *client, enum opcode opcode, const void *payload, size_t len);
void follower_ack(struct client *client, uint64_t send_id);

/* The session has a position, or has moved on: those that wait for that look again. */
void follower_session_moved(struct session *session);
/* The session's status has changed. */
void follower_status(struct session *session);
/* Returns false where the tag is not of a reader. */
bool follower_on_history(struct hub *hub, uint64_t tag, enum status status, struct position oldest,
                         struct publication *const *publications, size_t len, bool more);

#endif
