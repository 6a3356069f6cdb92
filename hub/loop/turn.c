#include "loop/turn.h"

#include <stddef.h>

#include "common/log.h"
#include "common/metrics.h"

void turn_run(struct turn *turn, const char *name, uint64_t now_us)
{
    uint64_t took_us = now_us - turn->since_us;
    if (turn->running && (!turn->longest || took_us > turn->longest_us)) {
        turn->longest = turn->running;
        turn->longest_us = took_us;
    }
    turn->running = name;
    turn->since_us = now_us;
    turn->callbacks += name != NULL;
}

/* longest_ms is wall-clock time and includes the time of other processes; processor_ms does not. */
void turn_end(struct turn *turn, uint64_t cpu_us)
{
    metric_observe(HISTOGRAM_TURN, cpu_us);
    if (cpu_us > TURN_SLOW_US)
        log_warn_cause("slow_turn", LOG_U64("processor_ms", cpu_us / 1000),
                       LOG_U64("callbacks", turn->callbacks), LOG_STR("longest", turn->longest),
                       LOG_U64("longest_ms", turn->longest_us / 1000));
    *turn = (struct turn){0};
}
