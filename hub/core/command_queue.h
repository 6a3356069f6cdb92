/*
 * The client messages of a session that wait on this node for the upstream, or for the owner: their
 * memory, their bound and their order. When they go, and where to, is decided in commands.c.
 */
#ifndef VINHUB_CORE_COMMAND_QUEUE_H
#define VINHUB_CORE_COMMAND_QUEUE_H

#include "core/state.h"

/* Copies the payload. NULL: no memory. */
struct command *command_new(const void *payload, size_t len);
/* One message fits always, else `to_upstream.queue` is the bound. */
bool command_queue_has_room(const struct session *session, size_t len);
/* At the end; takes the command. */
void command_queue_add(struct session *session, struct command *command);
/* Takes it out and frees it. */
void command_queue_drop(struct session *session, struct command *command);
/* Those that a member gave; returns the number of the first, 0: there was none. */
uint64_t command_queue_drop_of(struct session *session, const struct member *member);

#endif
