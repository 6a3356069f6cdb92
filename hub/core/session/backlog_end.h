/*
 * Ends of epochs that the store did not take: they were delivered here, and reach no other node.
 * The push channel is told of each before the next epoch begins.
 *
 *   none -> lost, not announced -> announced -> none, after a minute
 */
#ifndef VINHUB_CORE_SESSION_BACKLOG_END_H
#define VINHUB_CORE_SESSION_BACKLOG_END_H

#include "core/session/epoch_ends.h"

#define ANNOUNCED_END_MS 60000 /* whose subscription is broken is back by then */

/* Zeroed, there is none. */
struct backlog_end {
    struct epoch_ends unannounced;
    struct epoch_ends announced;
    uint64_t announced_ms; /* the last of them */
};

/* What was published up to there is not certain to be in the store. */
static inline void backlog_end_lost(struct backlog_end *end, struct position last)
{
    epoch_ends_add(&end->unannounced, last);
}

static inline void backlog_end_add(void *ends, struct position last)
{
    epoch_ends_add(ends, last);
}

/* What was announced within a minute, for members that did not hear it. */
static inline const struct epoch_ends *backlog_end_last(struct backlog_end *end, uint64_t now_ms)
{
    if (now_ms - end->announced_ms >= ANNOUNCED_END_MS)
        end->announced = (struct epoch_ends){0};
    return &end->announced;
}

static inline void backlog_end_is_announced(struct backlog_end *end, uint64_t now_ms)
{
    backlog_end_last(end, now_ms);
    epoch_ends_each(&end->unannounced, backlog_end_add, &end->announced);
    end->announced_ms = now_ms;
    end->unannounced = (struct epoch_ends){0};
}

#endif
