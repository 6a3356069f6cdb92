#include "core/link.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "common/metrics.h"
#include "core/client/protocol.h"
#include "core/commands.h"
#include "core/fanout.h"
#include "core/handover.h"
#include "core/lease.h"
#include "core/membership.h"
#include "core/ownership.h"
#include "core/record.h"
#include "core/session.h"

#define REFUSED_MAX_MS    60000u /* back-off after an HTTP refusal (contract section 5) */
#define NO_LEASE_AGAIN_MS 200u   /* looks again whether an upstream may be opened */
/* A client that comes shortens the wait after a refusal to 1 s (contract section 5), of which the
 * word of another node takes a part; from half of this on */
#define CLIENT_CAME_MS 800u
/* An upstream that is closed within it, and before a message came, was refused */
#define REFUSED_AT_ONCE_MS 1000u

const char *upstream_status_name(enum upstream_status status)
{
    static const char *const names[] = {"down", "connecting", "connected"};
    return status <= UPSTREAM_CONNECTED ? names[status] : "down";
}

void link_tell(struct session *session, enum upstream_status status, const char *reason)
{
    record_session_soon(session);
    if (session->status == status && !strcmp(session->reason, reason))
        return;
    session->status = status;
    snprintf(session->reason, sizeof session->reason, "%s", reason);
    protocol_status(session);
    if (session->state == SESSION_OWNER)
        membership_tell_status(session);
}

static void set_link(struct session *session, enum link_state state)
{
    struct hub *hub = session->hub;
    int change = (state == LINK_OPEN) - (session->link == LINK_OPEN);
    hub->upstreams += (uint64_t)change;
    metric_set(METRIC_UPSTREAMS, hub->upstreams);
    metric_service_add(session->metrics, SERVICE_UPSTREAMS, change);
    session->link = state;
    timer_stop(&hub->timers, &session->link_timer);
}

static void on_link_timer(struct timer *timer, uint64_t now_ms)
{
    (void)now_ms;
    struct session *session = CONTAINER_OF(timer, struct session, link_timer);
    set_link(session, LINK_NONE);
    link_start(session);
}

static void wait_and_try(struct session *session, uint64_t after_ms)
{
    set_link(session, LINK_WAITING);
    timer_start(&session->hub->timers, &session->link_timer, session->hub->now_ms + after_ms,
                on_link_timer);
}

/* As it is configured now; of one that was removed, as it was. */
static struct service *service_in_force(const struct session *session)
{
    const char *name = session->service->name;
    struct service *service = conf_service(session->hub->conf, name, strlen(name));
    return service ? service : session->service;
}

/* Makes the URL anew out of the request that is chosen. Without memory, or where that request can't
 * be read by the service as it is now, the last one serves again. */
static void choose_url(struct session *session, struct service *service)
{
    struct target target;
    const char *request;
    membership_requests(session);
    request = attempt_choose(&session->attempt);
    if (!request || url_reread(service, request, strlen(request), &target) != STATUS_OK)
        return;
    memcpy(target.session_id, session->id, strlen(session->id) + 1); /* for {key} */
    char *url = url_upstream(&target), *redacted = url ? url_redact(url) : NULL;
    target_fini(&target);
    if (!redacted) {
        free(url);
        return;
    }
    free(session->url);
    free(session->redacted);
    session->url = url;
    session->redacted = redacted;
}

void link_start(struct session *session)
{
    struct hub *hub = session->hub;
    if (session->link != LINK_NONE || session->state != SESSION_OWNER)
        return;
    if (!lease_valid(hub)) {
        wait_and_try(session, NO_LEASE_AGAIN_MS);
        return;
    }
    struct service *service = service_in_force(session);
    choose_url(session, service);
    set_link(session, LINK_CONNECTING);
    if (!session->backoff_ms)
        link_tell(session, UPSTREAM_CONNECTING, "");
    session->upstream = hub->setup.upstream_ops->open(hub->setup.upstream_ctx, session, service,
                                                      session->url);
    assert(session->upstream);
}

void link_client_came(struct session *session)
{
    struct hub *hub = session->hub;
    if (session->link != LINK_WAITING || !session->attempt.last_refused ||
        session->link_timer.at_ms <= hub->now_ms + CLIENT_CAME_MS)
        return;
    wait_and_try(session, CLIENT_CAME_MS / 2 + rng_below(&hub->rng, CLIENT_CAME_MS / 2));
}

bool link_close(struct session *session)
{
    struct hub *hub = session->hub;
    if (session->link == LINK_CLOSING)
        return true;
    commands_link_down(session);
    if (session->link != LINK_OPEN) {
        link_reset(session);
        return false;
    }
    set_link(session, LINK_CLOSING);
    hub->setup.upstream_ops->close(hub->setup.upstream_ctx, session->upstream, CLOSE_NORMAL, "");
    return true;
}

void link_reset(struct session *session)
{
    struct hub *hub = session->hub;
    if (session->upstream)
        hub->setup.upstream_ops->reset(hub->setup.upstream_ctx, session->upstream);
    session->upstream = NULL;
    session->backoff_ms = 0;
    session->no_tcp_since_ms = 0;
    set_link(session, LINK_NONE);
}

void hub_upstream_opened(struct session *session, struct upstream *upstream)
{
    assert(session->upstream == upstream && session->link == LINK_CONNECTING);
    set_link(session, LINK_OPEN);
    metric_add(METRIC_UPSTREAM_CONNECTS, 1);
    session->opened_ms = session->hub->now_ms;
    session->no_tcp_since_ms = 0;
    log_info("upstream_open", LOG_STR("session", session->id), LOG_U64("epoch", session->epoch));
    link_tell(session, UPSTREAM_CONNECTED, "");
    commands_pump(session);
}

void hub_upstream_message(struct session *session, struct upstream *upstream,
                          struct publication *publication)
{
    assert(session->upstream == upstream);
    metric_add(METRIC_MESSAGES_IN, 1);
    metric_service_add(session->metrics, SERVICE_MESSAGES_IN, 1);
    metric_add(METRIC_BYTES_IN, publication->len);
    session->attempt.heard = true;
    fanout_place(session, publication);
}

void hub_upstream_dropped(struct session *session, struct upstream *upstream)
{
    assert(session->upstream == upstream);
    metric_add(METRIC_MESSAGES_IN, 1);
    metric_service_add(session->metrics, SERVICE_MESSAGES_IN, 1);
    session->attempt.heard = true;
    fanout_lost(session);
}

void hub_upstream_writable(struct session *session, struct upstream *upstream)
{
    assert(session->upstream == upstream);
    session->out.congested = false;
    commands_pump(session);
}

/* What the end says of the URL that was tried. A backend closes what it does not want, too. */
static enum attempt_verdict verdict_of(const struct session *session,
                                       const struct upstream_end *end)
{
    if (end->kind == UPSTREAM_END_REFUSED)
        return ATTEMPT_REFUSED;
    if (session->link != LINK_OPEN)
        return end->kind == UPSTREAM_END_CLOSED ? ATTEMPT_REFUSED : ATTEMPT_UNTRIED;
    bool at_once = end->kind == UPSTREAM_END_CLOSED && !session->attempt.heard &&
                   session->hub->now_ms - session->opened_ms < REFUSED_AT_ONCE_MS;
    return at_once ? ATTEMPT_REFUSED : ATTEMPT_TAKEN;
}

/*
 * The wait before the next try: from min to max with jitter, longer after a refusal, anew after a
 * connection that lasted. It does not grow while there are URLs that were not refused.
 */
static uint64_t next_backoff_ms(struct session *session, const struct upstream_end *end)
{
    const struct service *service = session->service;
    uint64_t max_ms = end->kind == UPSTREAM_END_REFUSED &&
                              REFUSED_MAX_MS > service->reconnect.max_ms
                          ? REFUSED_MAX_MS
                          : service->reconnect.max_ms;
    bool lasted = session->link == LINK_OPEN &&
                  session->hub->now_ms - session->opened_ms >= service->reconnect.max_ms;
    bool another = session->attempt.last_refused && attempt_has_fresh(&session->attempt);
    uint64_t base_ms = session->backoff_ms && !lasted && !another
                           ? (uint64_t)session->backoff_ms * 2
                           : service->reconnect.min_ms;
    if (base_ms > max_ms)
        base_ms = max_ms;
    session->backoff_ms = base_ms ? (uint32_t)base_ms : 1;
    uint64_t wait_ms = base_ms + rng_below(&session->hub->rng, base_ms / 2 + 1);
    return wait_ms <= max_ms ? wait_ms : max_ms - rng_below(&session->hub->rng, max_ms / 4 + 1);
}

static void note_no_tcp(struct session *session, const struct upstream_end *end)
{
    if (end->kind != UPSTREAM_END_NO_TCP)
        session->no_tcp_since_ms = 0;
    else if (!session->no_tcp_since_ms)
        session->no_tcp_since_ms = session->hub->now_ms;
}

static void retry(struct session *session, const struct upstream_end *end)
{
    attempt_end(&session->attempt, verdict_of(session, end));
    uint64_t wait_ms = next_backoff_ms(session, end);
    note_no_tcp(session, end);
    commands_link_down(session);
    wait_and_try(session, wait_ms);
    link_tell(session, UPSTREAM_DOWN, end->reason);
    if (session->no_tcp_since_ms && session->hub->now_ms - session->no_tcp_since_ms >=
                                        3ull * session->service->reconnect.max_ms)
        handover_unreachable(session);
}

void hub_upstream_closed(struct session *session, struct upstream *upstream,
                         const struct upstream_end *end)
{
    assert(session->upstream == upstream);
    bool asked = session->link == LINK_CLOSING;
    session->upstream = NULL;
    if (!asked) {
        metric_add(METRIC_UPSTREAM_FAILURES, 1);
        metric_service_add(session->metrics, SERVICE_UPSTREAM_FAILURES, 1);
    }
    bool was_open = session->link == LINK_OPEN || asked;
    log_info_cause(asked ? "upstream_closed" : "upstream_lost", LOG_STR("session", session->id),
                   LOG_STR("reason", end->reason), LOG_U64("http", end->http_status),
                   LOG_U64("code", end->close_code),
                   LOG_U64("open_ms", was_open ? session->hub->now_ms - session->opened_ms : 0));
    switch (session->state) {
    case SESSION_OWNER:
        if (asked) { /* a client came back while it was closing */
            set_link(session, LINK_NONE);
            link_start(session);
        } else {
            retry(session, end);
        }
        return;
    case SESSION_MOVING:
        commands_link_down(session);
        set_link(session, LINK_NONE);
        handover_upstream_gone(session);
        return;
    case SESSION_RELEASING:
        set_link(session, LINK_NONE);
        ownership_upstream_gone(session);
        return;
    case SESSION_SUBSCRIBING:
    case SESSION_CLAIMING:
    case SESSION_JOINING:
    case SESSION_MEMBER:
    case SESSION_LEAVING:
    case SESSION_FENCED:
    case SESSION_ENDED:
    case SESSION_STATES: assert(!"an upstream without an owner");
    }
}
