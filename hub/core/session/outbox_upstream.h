/*
 * The owner's way to the socket of the upstream: whether it takes messages, and that clients are
 * not read from while more waits for it than it takes.
 *
 *   WRITABLE <-> CONGESTED
 */
#ifndef VINHUB_CORE_SESSION_OUTBOX_UPSTREAM_H
#define VINHUB_CORE_SESSION_OUTBOX_UPSTREAM_H

#include "core/session/outbox_queue.h"

enum outbox_upstream_state {
    OUTBOX_WRITABLE,
    OUTBOX_CONGESTED, /* until the socket is writable again, or the upstream is down */
    OUTBOX_UPSTREAM_STATES
};

struct outbox_upstream {
    struct session *session;
    const struct outbox_queue *queue;
    const struct outbox_events *events;
    enum outbox_upstream_state state;
    bool pausing; /* some clients are not read from; until half of what waited then is left */
};

void outbox_upstream_init(struct outbox_upstream *upstream, struct session *session,
                          const struct outbox_queue *queue, const struct outbox_events *events);

/* Sends a message. Returns false where it is not taken: the socket is CONGESTED then, or this node
 * may not write. */
bool outbox_upstream_send(struct outbox_upstream *upstream, enum opcode opcode, const void *payload,
                          size_t len);
/* The socket takes messages (again), or there is another one. */
void outbox_upstream_open(struct outbox_upstream *upstream);

/* Its client is not read from while too much waits. */
void outbox_upstream_maybe_pause(struct outbox_upstream *upstream, struct subscription *from);
/* All are read from again where little is left. */
void outbox_upstream_maybe_resume(struct outbox_upstream *upstream);

#endif
