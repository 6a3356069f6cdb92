/*
 * How far epochs got whose end the store may lack, by their owners' word. A client that was away
 * goes on through several of them: of each it is told what is missing.
 *
 * Bounded: of more than are listed it is only known that something is missing, and a GAP to the end
 * of the epoch says so.
 */
#ifndef VINHUB_CORE_SESSION_EPOCH_ENDS_H
#define VINHUB_CORE_SESSION_EPOCH_ENDS_H

#include <stdbool.h>

#include "core/session/stream_step.h"

#define EPOCH_ENDS 4u

/* Zeroed, it is empty. */
struct epoch_ends {
    struct position at[EPOCH_ENDS]; /* in their order, one an epoch */
    unsigned len;
    uint64_t unlisted; /* of epochs up to that one the end is not known; 0: none */
};

/* The epoch got as far as that; offset OFFSET_END: nobody knows how far. {0,0} is passed over. */
void epoch_ends_add(struct epoch_ends *ends, struct position last);
/* The highest epoch of which there is a word; 0: none. */
uint64_t epoch_ends_last(const struct epoch_ends *ends);
/* By it something may be missing between the position and that later epoch. */
bool epoch_ends_lack(const struct epoch_ends *ends, struct position at, uint64_t epoch);
/* Moves the position on to the last end before the epoch; what is missing on the way goes to the
 * sink. oldest: see stream_close. */
void epoch_ends_leave(const struct epoch_ends *ends, struct position *at, struct position oldest,
                      uint64_t epoch, const struct stream_sink *sink);

/* Calls back for each, in their order: what epoch_ends_add takes. */
void epoch_ends_each(const struct epoch_ends *ends, void (*each)(void *ctx, struct position last),
                     void *ctx);

#endif
