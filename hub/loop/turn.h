/*
 * What a turn did: which callbacks and hooks ran, and which of them took longest.
 *
 * Reads no clock of its own. The loop says when a callback begins; it ends where the next one does,
 * or the turn. A turn that needed too much processor time becomes a line in the log, which names
 * what took longest.
 */
#ifndef VINHUB_LOOP_TURN_H
#define VINHUB_LOOP_TURN_H

#include <stdint.h>

#define TURN_SLOW_US 50000 /* contract section 9: no turn is longer */

/* Zeroed, nothing has run yet. */
struct turn {
    const char *running; /* NULL: nothing */
    uint64_t since_us;   /* when that began */
    const char *longest; /* NULL: nothing has run in this turn */
    uint64_t longest_us;
    uint64_t callbacks; /* begun in this turn */
};

/* The callback before has ended, and the named one begins. name (NULL: none runs now) outlives
 * the turn. */
void turn_run(struct turn *turn, const char *name, uint64_t now_us);
/* The turn is over and took cpu_us of processor time; the next one begins. */
void turn_end(struct turn *turn, uint64_t cpu_us);

#endif
