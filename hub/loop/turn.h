/*
 * Statistics of a turn: how many callbacks and hooks ran, and which of them took longest.
 *
 * It reads no clock: the loop reports when a callback begins. A callback ends when the next one
 * begins, or with the turn. If a turn takes too much processor time, it is logged with the name of
 * the callback that took longest.
 */
#ifndef VINHUB_LOOP_TURN_H
#define VINHUB_LOOP_TURN_H

#include <stdint.h>

#define TURN_SLOW_US 50000 /* contract section 9: no turn is longer */

/* Starts zeroed. */
struct turn {
    const char *running; /* the callback that runs; NULL: none */
    uint64_t since_us;   /* when it began */
    const char *longest; /* NULL: no callback has ended in this turn */
    uint64_t longest_us;
    uint64_t callbacks; /* how many have begun in this turn */
};

/* The callback before has ended, and the named one begins (NULL: none runs now). name must live
 * longer than the turn. */
void turn_run(struct turn *turn, const char *name, uint64_t now_us);
/* The turn is over and took cpu_us of processor time; the next one begins. */
void turn_end(struct turn *turn, uint64_t cpu_us);

#endif
