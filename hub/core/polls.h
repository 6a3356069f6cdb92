/*
 * Questions to all nodes: asked at once, answered by each, waited for with a bound.
 *
 * Who asks gets each answer as it comes, and in the end the names of those nodes that did not
 * answer in time. Nothing waits for them. This node is not asked: it answers itself.
 */
#ifndef VINHUB_CORE_POLLS_H
#define VINHUB_CORE_POLLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/envelope.h"
#include "common/status.h"

struct hub;

/* At once; each keeps what came until it is over. */
#define POLLS_MAX 64

/* Of the nodes that the store lists, or that are known to be alive where it does not answer. */
struct poll_events {
    /* The answer of a node, once for each. May be NULL. */
    void (*on_answer)(void *ctx, struct slice node, const struct envelope *answer);
    /* It is over: all have answered, or the time is up. Once. Names live during the call. */
    void (*on_over)(void *ctx, const char *const *missing, size_t missing_len);
};

/* True where another question may be asked. */
bool polls_have_room(const struct hub *hub);
/*
 * Asks all other nodes; number of the envelope is filled in, which answers bring back.
 * on_over comes in a later turn, after timeout_ms at the latest, also where there is no other node.
 * polls_have_room holds.
 */
void poll_start(struct hub *hub, struct envelope *question, uint64_t timeout_ms,
                const struct poll_events *events, void *ctx);
void polls_on_answer(struct hub *hub, const struct envelope *answer);
/* A node does not listen. */
void polls_on_sent(struct hub *hub, uint64_t tag, enum status status);
/* All are over now. */
void polls_free_all(struct hub *hub);

#endif
