#include "core/client/retry.h"

#include <stdio.h>

#include "core/node/node.h"
#include "core/ports.h"

#define EACH_MS        10   /* of a few clients: a hundred come a second */
#define USUAL_MS       1000 /* of up to ten thousand */
#define CLIENTS_PER_MS 10   /* of more: so many can the others take */
#define MOST_MS        60000
/* Of a node that lacks something: it gets time first. */
#define PAUSE_MS 1000
#define LATER_MS 4000

/* The closes of a drain are spread over node.drain already: what is needed beyond that. */
static uint64_t window_ms(const struct hub *hub)
{
    uint64_t clients = hub->counts.clients, drain_ms = hub->conf->node.drain_ms;
    uint64_t needed_ms = clients / CLIENTS_PER_MS;
    needed_ms = needed_ms > drain_ms ? needed_ms - drain_ms : 0;
    uint64_t least_ms = clients * EACH_MS < USUAL_MS ? clients * EACH_MS : USUAL_MS;
    needed_ms = needed_ms > least_ms ? needed_ms : least_ms;
    return needed_ms < MOST_MS ? needed_ms : MOST_MS;
}

const char *retry_reason(struct hub *hub, unsigned code, const char *reason,
                         char out[RETRY_REASON_BYTES])
{
    if (code != CLOSE_RESTART && code != CLOSE_TRY_LATER)
        return reason;
    uint64_t after_ms = code == CLOSE_TRY_LATER ? PAUSE_MS + rng_below(&hub->spread, LATER_MS)
                                                : rng_below(&hub->spread, window_ms(hub) + 1);
    snprintf(out, RETRY_REASON_BYTES, "%.100s%sretry=%llu", reason ? reason : "",
             reason && *reason ? " " : "", (unsigned long long)after_ms);
    return out;
}
