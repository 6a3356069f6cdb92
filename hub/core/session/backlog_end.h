/*
 * The end of an epoch that the store did not take: it was delivered here, and reaches no other
 * node. It is sent to the push channel (ENDED) before the next epoch begins.
 *
 *   none -> lost, not announced -> announced -> none, after a minute
 */
#ifndef VINHUB_CORE_SESSION_BACKLOG_END_H
#define VINHUB_CORE_SESSION_BACKLOG_END_H

#include "common/publication.h"

#define ANNOUNCED_END_MS 60000 /* whose subscription is broken is back by then */

/* Zeroed, there is none. */
struct backlog_end {
    struct position unannounced; /* {0,0}: none */
    struct position announced;
    uint64_t announced_ms;
};

/* What was published up to there is not certain to be in the store. */
static inline void backlog_end_lost(struct backlog_end *end, struct position last)
{
    if (position_compare(end->unannounced, last) < 0)
        end->unannounced = last;
}

static inline void backlog_end_is_announced(struct backlog_end *end, uint64_t now_ms)
{
    end->announced = end->unannounced;
    end->announced_ms = now_ms;
    end->unannounced = (struct position){0};
}

/* What was announced last, for members that did not hear it; {0,0}: nothing, or long ago. */
static inline struct position backlog_end_last(const struct backlog_end *end, uint64_t now_ms)
{
    return now_ms - end->announced_ms < ANNOUNCED_END_MS ? end->announced : (struct position){0};
}

#endif
