/*
 * When the history of a session is trimmed to its size. To trim it exactly costs the store more
 * than to append to it, however much goes. So it may get longer by an eighth; who appends seldom
 * has it trimmed each time, and who has stopped a moment later. A small history is always exact.
 */
#ifndef VINHUB_CORE_SESSION_TRIMS_H
#define VINHUB_CORE_SESSION_TRIMS_H

#include <stddef.h>
#include <stdint.h>

#include "common/timer.h"

/* Nothing was appended for so long: the store is told to trim. More than a second, so that one
 * publication a second is not trimmed each time. */
#define TRIM_QUIET_MS 2000
/* An untrimmed history is longer by this part of its size at most. */
#define TRIM_PART 8

/* Of a session. Starts zeroed: the next publication trims. */
struct trim {
    uint64_t untrimmed; /* publications that were appended since */
    uint64_t appended_ms;
    struct trim *prev, *next; /* of those that wait, the one that is due first in front */
};

/* Of a node. */
struct trims {
    struct timers *timers;
    struct trim *waiting;
    struct timer timer;
    void (*due)(struct trim *trim); /* the store is to trim; it waits no more */
};

void trims_init(struct trims *trims, struct timers *timers, void (*due)(struct trim *trim));
void trims_fini(struct trims *trims);

/* n publications are appended now. Returns how: 0 or BUS_UNTRIMMED. */
unsigned trim_append(struct trims *trims, struct trim *trim, uint64_t now_ms, size_t n,
                     uint32_t size);
/* Nobody knows how long the history is: the next publication trims. */
void trim_doubt(struct trim *trim);
/* The same; and it waits no more. */
void trim_stop(struct trims *trims, struct trim *trim);

#endif
