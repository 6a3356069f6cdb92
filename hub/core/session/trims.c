#include "core/session/trims.h"

#include <assert.h>
#include <utlist.h>

#include "bus/bus.h"
#include "core/node/node.h"

#define TRIMMED_A_TURN 500

void trims_init(struct trims *trims, struct timers *timers, void (*due)(struct trim *trim))
{
    *trims = (struct trims){.timers = timers, .due = due};
}

void trims_fini(struct trims *trims)
{
    assert(!trims->waiting);
    timer_stop(trims->timers, &trims->timer);
}

static void stop_waiting(struct trims *trims, struct trim *trim)
{
    if (trim->prev)
        DL_DELETE(trims->waiting, trim);
    trim->prev = trim->next = NULL;
}

static void on_timer(struct timer *timer, uint64_t now_ms)
{
    struct trims *trims = CONTAINER_OF(timer, struct trims, timer);
    for (unsigned n = 0; trims->waiting && n < TRIMMED_A_TURN; n++) {
        struct trim *trim = trims->waiting;
        if (trim->appended_ms + TRIM_QUIET_MS > now_ms)
            break;
        trim_stop(trims, trim); /* where it can't be done now, the next publication does it */
        trims->due(trim);
    }
    if (trims->waiting)
        timer_start(trims->timers, timer, trims->waiting->appended_ms + TRIM_QUIET_MS, on_timer);
}

static void wait_until_quiet(struct trims *trims, struct trim *trim)
{
    DL_APPEND(trims->waiting, trim);
    if (!timer_armed(&trims->timer))
        timer_start(trims->timers, &trims->timer, trim->appended_ms + TRIM_QUIET_MS, on_timer);
}

unsigned trim_append(struct trims *trims, struct trim *trim, uint64_t now_ms, size_t n,
                     uint32_t size)
{
    bool seldom = !trim->appended_ms || now_ms - trim->appended_ms >= TRIM_QUIET_MS;
    stop_waiting(trims, trim);
    trim->appended_ms = now_ms;
    trim->untrimmed += n;
    if (seldom || trim->untrimmed > size / TRIM_PART) {
        trim->untrimmed = 0;
        return 0;
    }
    wait_until_quiet(trims, trim);
    return BUS_UNTRIMMED;
}

void trim_doubt(struct trim *trim)
{
    trim->untrimmed = UINT32_MAX;
}

void trim_stop(struct trims *trims, struct trim *trim)
{
    stop_waiting(trims, trim);
    trim_doubt(trim);
}
