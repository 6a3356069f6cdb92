/*
 * Which SEND of each protocol client was the last that went upstream: the owner's memory, by which
 * one that comes again is acknowledged and not sent twice (contract section 6). Bounded in time and
 * number; a hand-over takes it along (handover.c).
 */
#ifndef VINHUB_CORE_LAST_SENDS_H
#define VINHUB_CORE_LAST_SENDS_H

#include "core/state.h"

/* That SEND, or one after it, went upstream. client: its id. */
bool last_sends_covers(const struct session *session, const char *client, uint64_t id);
/* One has just gone upstream; or another owner says that one went. client has at most 32 bytes. */
void last_sends_note(struct session *session, const char *client, uint64_t id);
void last_sends_free(struct session *session);

#endif
