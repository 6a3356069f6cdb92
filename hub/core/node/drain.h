/*
 * Letting go: on SIGTERM sessions are handed over first, then clients are closed with 1012, spread
 * over node.drain.
 *
 *   NOT -> HANDING_OVER -> CLOSING -> DONE
 *
 * Owns the times and the counts; what is done with sessions and clients is asked
 * of drain_events.
 */
#ifndef VINHUB_CORE_NODE_DRAIN_H
#define VINHUB_CORE_NODE_DRAIN_H

#include "core/node/node.h"

struct drain_events {
    /* The node takes no clients any more: sessions are offered, and those of nobody released. */
    void (*begun)(struct hub *hub);
    /* Hand-overs are under way or possible. */
    bool (*handing_over)(const struct hub *hub);
    /* Closes at most n further clients; returns how many. */
    uint64_t (*close_clients)(struct hub *hub, uint64_t n);
    /* What messages of clients that have left wait for is not waited for any more. */
    void (*release_rest)(struct hub *hub);
    /* Nothing is left that another node waits for. */
    bool (*settled)(const struct hub *hub);
};

void drain_new(struct hub *hub, const struct drain_events *events);
void drain_free(struct hub *hub);
void drain_start(struct hub *hub);
/* The time of a drain is over. */
bool drain_is_late(const struct hub *hub);
/* Asserts what must hold. */
void drain_check(const struct hub *hub);

#endif
