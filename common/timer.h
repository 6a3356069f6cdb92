/*
 * Deadlines in a min-heap: the hub's own timers.
 *
 * Pure: time comes in from outside, so the simulation runs on virtual time. Arming and disarming
 * cost O(log n), asking for the next one O(1). A timer is embedded in its object and must be
 * stopped before that is freed. Callbacks run only from timers_run and may start and stop any
 * timer.
 */
#ifndef VINHUB_COMMON_TIMER_H
#define VINHUB_COMMON_TIMER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct timer;
typedef void timer_fn(struct timer *timer, uint64_t now_ms);

struct timer {
    timer_fn *on_due;
    uint64_t at_ms;
    uint64_t sequence; /* of arming: equal deadlines run in this order */
    size_t slot;       /* heap index + 1; 0: not armed */
};

struct timers {
    struct timer **heap;
    size_t len, cap;
    uint64_t next_sequence;
    uint64_t now_ms; /* of the run under way */
    bool running;
};

void timers_init(struct timers *timers);
void timers_fini(struct timers *timers); /* every timer must have been stopped */

/* Arms or re-arms. Timers of the same deadline run in the order they were armed. */
void timer_start(struct timers *timers, struct timer *timer, uint64_t at_ms, timer_fn *on_due);
void timer_stop(struct timers *timers, struct timer *timer); /* no effect where it is not armed */
static inline bool timer_armed(const struct timer *timer)
{
    return timer->slot != 0;
}

/* The earliest deadline, UINT64_MAX where none is armed. */
uint64_t timers_next(const struct timers *timers);
/* Runs what is due at now_ms; what is armed meanwhile for now_ms or earlier runs in the next call.
 * Not reentrant. */
void timers_run(struct timers *timers, uint64_t now_ms);
/* The same, but ends early where has_time says no; it is asked after each callback. What is left
 * over stays due: who arms a timer for timers_next comes back at once. */
typedef bool timers_has_time(void *ctx);
void timers_run_portion(struct timers *timers, uint64_t now_ms, timers_has_time *has_time,
                        void *ctx);

#endif
