/*
 * What a store decides about one session: whose it is, at which epoch, and what its history keeps.
 * The counterpart in C of the scripts claim, release, transfer, assert, publish and history
 * (bus/lua).
 *
 * One implementation for the bus in memory, which the cases of tests/contract hold against Redis,
 * and for the simulation, which runs the protocol on it. Knows no time, no times to live and nobody
 * who listens; what is to be announced is the caller's.
 */
#ifndef VINHUB_BUS_BUS_MEMORY_RECORD_H
#define VINHUB_BUS_BUS_MEMORY_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bus/bus.h"
#include "common/conf.h"
#include "common/publication.h"

/* Zeroed, there is none. */
struct memory_record {
    bool there;
    char owner[CONF_NAME_MAX + 1]; /* "" where released */
    uint64_t epoch;
    bool late; /* the owner writes the history of this epoch late */
};

/* Zeroed, it is empty. */
struct memory_history {
    struct publication **ring; /* referenced, oldest at start */
    size_t start, len, cap;
    uint64_t until_ms; /* the caller's */
    uint64_t fence;    /* takes nothing of an earlier epoch; gone with the last entry */
};

bool memory_record_owned(const struct memory_record *record, const char *node, uint64_t epoch);
/* STATUS_OK: node owns it, at an epoch above all that were known. STATUS_REFUSED: somebody else
 * does. STATUS_AGAIN: the store is too young to say (young) and the caller does not hold it. Where
 * the last owner wrote late and has not released it, the history notes that the end of its epoch
 * may be missing. */
enum status memory_record_claim(struct memory_record *record, struct memory_history *history,
                                const char *node, const struct bus_claim *claim, uint64_t unix_ms,
                                bool young);
/* Would that claim, if it is granted, find that the end of the epoch before may be missing? */
bool memory_record_is_torn(const struct memory_record *record, const struct bus_claim *claim);
/* These need node to own it at that epoch, else STATUS_REFUSED. */
enum status memory_record_release(struct memory_record *record, const char *node, uint64_t epoch);
enum status memory_record_transfer(struct memory_record *record, const char *node, uint64_t epoch,
                                   const char *to, uint64_t unix_ms);
/* Writes it back where it is gone, or of a lower epoch. Returns STATUS_REFUSED where it is
 * another's by now. *displaced: another owner of a lower epoch has lost it. */
enum status memory_record_assert(struct memory_record *record, const char *node, uint64_t epoch,
                                 bool *displaced);

/* From now on a history that has entries takes none of an earlier epoch, whoever appends it. */
void memory_history_fence(struct memory_history *history, uint64_t epoch);
/* Appends one whoever owns the session, as a plain command to the store does: false where it is
 * there already, or newer ones are, or its epoch is fenced. */
bool memory_history_append(struct memory_history *history, struct publication *publication,
                           uint32_t size);
/* Keeps publications of the owner, in order; size 0: none. What is there already, or older than the
 * newest, is not kept again. how: of enum bus_publish. *news: some of it has not been there, so it
 * is to be announced; where nothing is kept it always is. */
enum status memory_record_publish(struct memory_record *record, struct memory_history *history,
                                  const char *node, uint64_t epoch,
                                  struct publication *const *publications, size_t len,
                                  uint32_t size, unsigned how, bool *news);
struct publication *memory_history_at(const struct memory_history *history, size_t index);
/* What comes after the position, at most limit. Returns it, each referenced, in an array that is
 * the caller's to free; *len of them, *more: there are more. *oldest: the first that is kept, or
 * {0,0}. */
struct publication **memory_history_read(const struct memory_history *history,
                                         struct position after, size_t limit, size_t *len,
                                         bool *more, struct position *oldest);
void memory_history_clear(struct memory_history *history);
/* to becomes the same as from. */
void memory_history_copy(struct memory_history *to, const struct memory_history *from);

#endif
