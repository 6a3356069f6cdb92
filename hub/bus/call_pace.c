#include "bus/call_pace.h"

/* Up to 2,000 turns a second with publications, each call leaves at once. */
#define SPAN_US     16000
#define OFTEN_TURNS 32
#define GATHER_US   1000

#define CALLS_AT_ONCE 2

void call_pace_turn(struct call_pace *pace, uint64_t now_us, bool gathered)
{
    uint64_t passed_us = now_us - pace->began_us;
    if (passed_us >= SPAN_US) {
        pace->often = passed_us < 2 * SPAN_US && pace->turns > OFTEN_TURNS;
        pace->turns = 0;
        pace->began_us = now_us;
    }
    pace->turns += gathered;
}

bool call_pace_may_call(struct call_pace *pace, uint64_t now_us, unsigned under_way)
{
    if (under_way >= (pace->often ? 1 : CALLS_AT_ONCE))
        return false;
    if (pace->often && now_us - pace->called_us < GATHER_US)
        return false;
    pace->called_us = now_us;
    return true;
}
