#include "crowd.h"

void crowd_check_welcome(struct crowd_position *at, struct crowd_group *group, uint64_t epoch,
                         uint64_t offset, bool resumed, bool asked)
{
    if (asked && resumed) {
        group->resumed++;
        group->wrong += epoch != at->epoch || offset != at->offset;
        return;
    }
    if (asked)
        group->unresumed++;
    at->epoch = epoch;
    at->offset = offset;
    at->gaps_len = 0;
    at->number = 0; /* numbering starts again at the new position */
}

void crowd_check_gap(struct crowd_position *at, struct crowd_group *group,
                     const struct crowd_gap *gap)
{
    group->gaps++;
    if (at->gaps_len < CROWD_PENDING_GAPS)
        at->gaps[at->gaps_len++] = *gap;
    else
        group->wrong++; /* one GAP for each epoch concerned: eight are never needed */
}

/* How many of the offsets from..to are named by the gaps that are pending; those never overlap. */
static uint64_t announced(const struct crowd_position *at, uint64_t epoch, uint64_t from,
                          uint64_t to)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < at->gaps_len; i++) {
        const struct crowd_gap *gap = &at->gaps[i];
        uint64_t low = gap->from > from ? gap->from : from;
        uint64_t high = gap->to != 0 && gap->to < to ? gap->to : to;
        if (gap->epoch == epoch && low <= high)
            sum += high - low + 1;
    }
    return sum;
}

static bool announced_tail(const struct crowd_position *at)
{
    for (unsigned i = 0; i < at->gaps_len; i++)
        if (at->gaps[i].epoch == at->epoch)
            return true;
    return false;
}

void crowd_check_number(struct crowd_position *at, struct crowd_group *group, uint64_t number)
{
    if (at->number != 0 && number <= at->number)
        group->doubles++;
    else if (at->number != 0)
        group->missing += number - at->number - 1;
    at->number = number;
}

void crowd_check_message(struct crowd_position *at, struct crowd_group *group, uint64_t epoch,
                         uint64_t offset, uint64_t number)
{
    bool same = epoch == at->epoch;
    if (epoch < at->epoch || (same && offset <= at->offset)) {
        group->doubles++;
        return;
    }
    uint64_t from = same ? at->offset + 1 : 1;
    if (at->epoch != 0 && from < offset)
        group->unannounced += offset - from - announced(at, epoch, from, offset - 1);
    /* The end of a former epoch: messages that a killed owner did not pass on have no known
     * position. */
    if (!same && at->number != 0 && number > at->number + 1 && !announced_tail(at))
        group->torn++;
    crowd_check_number(at, group, number);
    at->epoch = epoch;
    at->offset = offset;
    at->gaps_len = 0;
}
