/*
 * A sweep over the clients of this node: those that fit are listed, or closed, a portion a turn.
 */
#ifndef VINHUB_CORE_CLIENT_SWEEP_H
#define VINHUB_CORE_CLIENT_SWEEP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/client/filter.h"

struct client_row;
struct hub;
struct sweep;

#define SWEEPS_MAX 256 /* under way at once: what others ask for is bounded as well */

struct sweep_task {
    const struct client_filter *filter; /* copied */
    uint32_t from;                      /* slot of the directory */
    size_t limit;                       /* rows; 0: none, those that fit are closed */
    const char *reason;                 /* of the close; copied */
};

struct sweep_result {
    const struct client_row *rows; /* live during the call, as their texts do */
    size_t len;
    uint64_t closed;
    uint32_t next; /* slot to go on from, where more is true */
    bool more;
};
typedef void sweep_done_fn(void *ctx, const struct sweep_result *result);

/* done is called once, in a later turn; where the hub goes before that with what is there. NULL:
 * too many are under way. */
struct sweep *sweep_start(struct hub *hub, const struct sweep_task *task, sweep_done_fn *done,
                          void *ctx);
void sweeps_free_all(struct hub *hub);

#endif
