/*
 * When calls with publications leave. Each call costs the server, apart from what is in it, as much
 * as three or four publications. So while many turns have some, a call leaves a millisecond after
 * the last one, and takes along what has come by then. While few turns have some, it leaves with
 * the turn: nothing is waited for.
 */
#ifndef VINHUB_BUS_CALL_PACE_H
#define VINHUB_BUS_CALL_PACE_H

#include <stdbool.h>
#include <stdint.h>

/* Starts zeroed. */
struct call_pace {
    uint64_t began_us; /* the span that is counted */
    unsigned turns;    /* with publications, in it */
    bool often;        /* so it was in the span before */
    uint64_t called_us;
};

/* A turn ends; gathered: it had publications. now_us is monotonic. */
void call_pace_turn(struct call_pace *pace, uint64_t now_us, bool gathered);
/* May a call leave? If so it is taken to leave now. under_way: calls that are not answered. */
bool call_pace_may_call(struct call_pace *pace, uint64_t now_us, unsigned under_way);

#endif
