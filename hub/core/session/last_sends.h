/*
 * Which SEND of each protocol client was the last that went upstream: the owner's memory, by which
 * one that comes again is acknowledged and not sent twice (contract section 6). Bounded in time and
 * number; a hand-over takes it along.
 */
#ifndef VINHUB_CORE_SESSION_LAST_SENDS_H
#define VINHUB_CORE_SESSION_LAST_SENDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/hash.h"

/* How long a last SEND id is remembered (contract section 6) */
#define SEND_MEMORY_MS (5 * 60 * 1000u)

struct last_send {
    char client[33];
    uint64_t id;
    uint64_t at_ms; /* when this node learned of it: clocks of others do not count */
    UT_hash_handle hh;
};

/* Zeroed, it is empty. */
struct last_sends {
    struct last_send *by_client; /* in the order of last use */
};

/* That SEND, or one after it, went upstream. client: its id. */
bool last_sends_covers(const struct last_sends *sends, const char *client, uint64_t id);
/* One has just gone upstream; or another owner says that one went. client has at most 32 bytes. */
void last_sends_note(struct last_sends *sends, uint64_t now_ms, const char *client, uint64_t id);
size_t last_sends_len(const struct last_sends *sends);
void last_sends_fini(struct last_sends *sends);

#endif
