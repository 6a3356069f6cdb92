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
/* One has just gone upstream. */
void last_sends_note(struct session *session, const char *client, uint64_t id, uint64_t unix_ms);
/* Another owner says that one went upstream. client has at most 32 bytes. */
void last_sends_learn(struct session *session, const char *client, uint64_t id,
                      uint64_t at_unix_ms);
void last_sends_free(struct session *session);

#endif
