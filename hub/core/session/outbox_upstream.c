#include "core/session/outbox_upstream.h"

#include <assert.h>

#include "common/log.h"

static const char *const state_names[OUTBOX_UPSTREAM_STATES] = {"writable", "congested"};

void outbox_upstream_init(struct outbox_upstream *upstream, struct session *session,
                          const struct outbox_queue *queue, const struct outbox_events *events)
{
    *upstream = (struct outbox_upstream){.session = session, .queue = queue, .events = events};
}

static void set_state(struct outbox_upstream *upstream, enum outbox_upstream_state state)
{
    if (upstream->state == state)
        return;
    upstream->state = state; /* each may follow the other */
    log_debug("outbox_upstream", LOG_STR("session", upstream->session->id),
              LOG_STR("state", state_names[state]));
}

void outbox_upstream_open(struct outbox_upstream *upstream)
{
    set_state(upstream, OUTBOX_WRITABLE);
}

bool outbox_upstream_send(struct outbox_upstream *upstream, enum opcode opcode, const void *payload,
                          size_t len)
{
    struct session *session = upstream->session;
    assert(upstream->state == OUTBOX_WRITABLE);
    if (!node_may_write(session->hub))
        return false;
    if (upstream->events->send(session, opcode, payload, len) == STATUS_OK)
        return true;
    set_state(upstream, OUTBOX_CONGESTED);
    return false;
}

void outbox_upstream_maybe_pause(struct outbox_upstream *upstream, struct subscription *from)
{
    struct session *session = upstream->session;
    if (upstream->queue->bytes <= session->service->to_upstream.queue_bytes / 2)
        return;
    upstream->pausing = true;
    upstream->events->paused(session, from);
}

void outbox_upstream_maybe_resume(struct outbox_upstream *upstream)
{
    struct session *session = upstream->session;
    if (!upstream->pausing ||
        upstream->queue->bytes > session->service->to_upstream.queue_bytes / 4)
        return;
    upstream->pausing = false;
    upstream->events->resumed(session);
}
