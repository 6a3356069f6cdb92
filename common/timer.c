/*
 * A binary heap ordered by (at_ms, sequence): the sequence makes equal deadlines run in the order
 * they were armed, so that a simulation replays exactly. While timers_run is at work a deadline
 * that lies in the past counts as now; with a later sequence it then sorts behind all that was due
 * before, and the run ends when it meets the first timer that was armed within it.
 */
#include "common/timer.h"

#include <assert.h>
#include <stdlib.h>

#define FIRST_CAPACITY 64

void timers_init(struct timers *timers)
{
    *timers = (struct timers){0};
}

void timers_fini(struct timers *timers)
{
    assert(timers->len == 0);
    assert(!timers->running);
    free(timers->heap);
    *timers = (struct timers){0};
}

static bool before(const struct timer *a, const struct timer *b)
{
    return a->at_ms != b->at_ms ? a->at_ms < b->at_ms : a->sequence < b->sequence;
}

static void place(struct timers *timers, size_t index, struct timer *timer)
{
    timers->heap[index] = timer;
    timer->slot = index + 1;
}

static void sift_up(struct timers *timers, size_t index, struct timer *timer)
{
    while (index > 0) {
        size_t parent = (index - 1) / 2;
        if (!before(timer, timers->heap[parent]))
            break;
        place(timers, index, timers->heap[parent]);
        index = parent;
    }
    place(timers, index, timer);
}

static void sift_down(struct timers *timers, size_t index, struct timer *timer)
{
    for (;;) {
        size_t child = 2 * index + 1;
        if (child >= timers->len)
            break;
        if (child + 1 < timers->len && before(timers->heap[child + 1], timers->heap[child]))
            child++;
        if (!before(timers->heap[child], timer))
            break;
        place(timers, index, timers->heap[child]);
        index = child;
    }
    place(timers, index, timer);
}

/* Puts timer where index is free and its neighbours may be on either side of it. */
static void settle(struct timers *timers, size_t index, struct timer *timer)
{
    if (index > 0 && before(timer, timers->heap[(index - 1) / 2]))
        sift_up(timers, index, timer);
    else
        sift_down(timers, index, timer);
}

static void grow(struct timers *timers)
{
    size_t cap = timers->cap == 0 ? FIRST_CAPACITY : timers->cap * 2;
    struct timer **heap = realloc(timers->heap, cap * sizeof(struct timer *));
    if (!heap)
        abort(); /* eight bytes a timer, not sized by a peer; the hub can't run without a timer */
    timers->heap = heap;
    timers->cap = cap;
}

void timer_start(struct timers *timers, struct timer *timer, uint64_t at_ms, timer_fn *on_due)
{
    assert(on_due);
    timer->on_due = on_due;
    timer->at_ms = timers->running && at_ms < timers->now_ms ? timers->now_ms : at_ms;
    timer->sequence = timers->next_sequence++;

    if (timer->slot != 0) {
        assert(timers->heap[timer->slot - 1] == timer);
        settle(timers, timer->slot - 1, timer);
        return;
    }
    if (timers->len == timers->cap)
        grow(timers);
    sift_up(timers, timers->len++, timer);
}

void timer_stop(struct timers *timers, struct timer *timer)
{
    if (timer->slot == 0)
        return;
    size_t index = timer->slot - 1;
    assert(index < timers->len && timers->heap[index] == timer);
    timer->slot = 0;
    struct timer *last = timers->heap[--timers->len];
    if (last != timer)
        settle(timers, index, last);
}

uint64_t timers_next(const struct timers *timers)
{
    return timers->len == 0 ? UINT64_MAX : timers->heap[0]->at_ms;
}

void timers_run_portion(struct timers *timers, uint64_t now_ms, timers_has_time *has_time,
                        void *ctx)
{
    assert(!timers->running);
    timers->running = true;
    timers->now_ms = now_ms;
    uint64_t end = timers->next_sequence;

    while (timers->len > 0) {
        struct timer *timer = timers->heap[0];
        if (timer->at_ms > now_ms || timer->sequence >= end)
            break;
        timer_stop(timers, timer);
        timer->on_due(timer, now_ms); /* may free the timer */
        if (has_time && !has_time(ctx))
            break;
    }
    timers->running = false;
}

void timers_run(struct timers *timers, uint64_t now_ms)
{
    timers_run_portion(timers, now_ms, NULL, NULL);
}
