#include "core/session/link.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "common/metrics.h"

#define REFUSED_MAX_MS    60000u /* back-off after an HTTP refusal (contract section 5) */
#define NO_LEASE_AGAIN_MS 200u   /* looks again whether an upstream may be opened */
/* A client that comes shortens the wait after a refusal to 1 s (contract section 5), of which the
 * word of another node takes a part; from half of this on */
#define CLIENT_CAME_MS 800u
/* An upstream that is closed within it, and before a message came, was refused */
#define REFUSED_AT_ONCE_MS 1000u

static const char *const state_names[LINK_STATES] = {"none", "waiting", "connecting", "open",
                                                     "closing"};

struct link {
    struct session *session;
    const struct link_events *events;
    enum link_state state;
    struct attempt attempt; /* which client's URL is taken */
    char *url;              /* of the last attempt; at first of the client that opened it */
    char *redacted;
    struct upstream *upstream;   /* while CONNECTING, OPEN or CLOSING */
    enum upstream_status status; /* as sent to protocol clients and members */
    char reason[96];
    uint32_t backoff_ms; /* of the last wait; 0: none since the last start */
    uint64_t opened_ms;
    uint64_t no_tcp_since_ms;
    struct timer timer; /* WAITING */
};

const char *upstream_status_name(enum upstream_status status)
{
    static const char *const names[] = {"down", "connecting", "connected"};
    return status <= UPSTREAM_CONNECTED ? names[status] : "down";
}

void link_set_status(struct session *session, enum upstream_status status, const char *reason)
{
    struct link *link = session->link;
    bool changed = link->status != status || strcmp(link->reason, reason) != 0;
    link->status = status;
    if (changed)
        snprintf(link->reason, sizeof(link->reason), "%s", reason);
    link->events->status(session, changed);
}

static void set_state(struct link *link, enum link_state state)
{
    static const bool legal[LINK_STATES][LINK_STATES] = {
        /* to:              none  waiting connecting open  closing */
        [LINK_NONE] = {true, true, true, false, false},
        [LINK_WAITING] = {true, true, false, false, false},
        [LINK_CONNECTING] = {true, true, false, true, false},
        [LINK_OPEN] = {true, true, false, false, true},
        [LINK_CLOSING] = {true, false, false, false, false},
    };
    struct session *session = link->session;
    struct hub *hub = session->hub;
    assert(legal[link->state][state]);
    int change = (state == LINK_OPEN) - (link->state == LINK_OPEN);
    hub->counts.upstreams += (uint64_t)change;
    metric_set(METRIC_UPSTREAMS, hub->counts.upstreams);
    metric_service_add(session->facts.metrics, SERVICE_UPSTREAMS, change);
    link->state = state;
    timer_stop(&hub->timers, &link->timer);
    log_debug("link", LOG_STR("session", session->id), LOG_STR("state", state_names[state]));
}

static void on_link_timer(struct timer *timer, uint64_t now_ms)
{
    (void)now_ms;
    struct link *link = CONTAINER_OF(timer, struct link, timer);
    set_state(link, LINK_NONE);
    link_start(link->session);
}

static void wait_and_try(struct session *session, uint64_t after_ms)
{
    set_state(session->link, LINK_WAITING);
    timer_start(&session->hub->timers, &session->link->timer, session->hub->now_ms + after_ms,
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
    attempt_set_far(&session->link->attempt, session->link->events->far_requests(session));
    request = attempt_choose(&session->link->attempt);
    if (!request || url_reread(service, request, strlen(request), &target) != STATUS_OK)
        return;
    memcpy(target.session_id, session->id, strlen(session->id) + 1); /* for {key} */
    char *url = url_upstream(&target), *redacted = url ? url_redact(url) : NULL;
    target_fini(&target);
    if (!redacted) {
        free(url);
        return;
    }
    free(session->link->url);
    free(session->link->redacted);
    session->link->url = url;
    session->link->redacted = redacted;
}

void link_start(struct session *session)
{
    struct hub *hub = session->hub;
    if (session->link->state != LINK_NONE || session->state != SESSION_OWNER)
        return;
    if (!node_has_lease(hub) || !node_may_write(hub)) {
        wait_and_try(session, NO_LEASE_AGAIN_MS);
        return;
    }
    struct service *service = service_in_force(session);
    choose_url(session, service);
    set_state(session->link, LINK_CONNECTING);
    if (!session->link->backoff_ms)
        link_set_status(session, UPSTREAM_CONNECTING, "");
    session->link->upstream = hub->setup.upstream_ops->open(hub->setup.upstream_ctx, session,
                                                            service, session->link->url);
    assert(session->link->upstream);
}

void link_client_came(struct session *session)
{
    struct hub *hub = session->hub;
    if (session->link->state != LINK_WAITING || !session->link->attempt.last_refused ||
        session->link->timer.at_ms <= hub->now_ms + CLIENT_CAME_MS)
        return;
    wait_and_try(session, CLIENT_CAME_MS / 2 + rng_below(&hub->rng, CLIENT_CAME_MS / 2));
}

bool link_close(struct session *session)
{
    struct hub *hub = session->hub;
    if (session->link->state == LINK_CLOSING)
        return true;
    session->link->events->down(session);
    /* Without a lease nothing more is said to the backend */
    if (session->link->state != LINK_OPEN || !node_may_write(hub)) {
        link_reset(session);
        return false;
    }
    set_state(session->link, LINK_CLOSING);
    hub->setup.upstream_ops->close(hub->setup.upstream_ctx, session->link->upstream, CLOSE_NORMAL,
                                   "");
    return true;
}

void link_reset(struct session *session)
{
    struct hub *hub = session->hub;
    if (session->link->upstream)
        hub->setup.upstream_ops->reset(hub->setup.upstream_ctx, session->link->upstream);
    session->link->upstream = NULL;
    session->link->backoff_ms = 0;
    session->link->no_tcp_since_ms = 0;
    set_state(session->link, LINK_NONE);
}

void link_on_opened(struct session *session, struct upstream *upstream)
{
    assert(session->link->upstream == upstream && session->link->state == LINK_CONNECTING);
    set_state(session->link, LINK_OPEN);
    metric_add(METRIC_UPSTREAM_CONNECTS, 1);
    session->link->opened_ms = session->hub->now_ms;
    session->link->no_tcp_since_ms = 0;
    log_info("upstream_open", LOG_STR("session", session->id), LOG_U64("epoch", session->epoch));
    link_set_status(session, UPSTREAM_CONNECTED, "");
    session->link->events->opened(session);
}

void link_on_message(struct session *session, struct upstream *upstream)
{
    assert(session->link->upstream == upstream);
    session->link->attempt.heard = true;
}

void link_on_writable(const struct session *session, const struct upstream *upstream)
{
    assert(session->link->upstream == upstream);
}

enum status link_send(struct session *session, enum opcode opcode, const void *payload, size_t len)
{
    struct hub *hub = session->hub;
    assert(session->link->state == LINK_OPEN);
    enum status status = hub->setup.upstream_ops->send(
        hub->setup.upstream_ctx, session->link->upstream, opcode, payload, len);
    if (status == STATUS_OK)
        metric_add(METRIC_UPSTREAM_MESSAGES_OUT, 1);
    return status;
}

/* What the end says of the URL that was tried. A backend closes what it does not want, too. */
static enum attempt_verdict verdict_of(const struct session *session,
                                       const struct upstream_end *end)
{
    if (end->kind == UPSTREAM_END_REFUSED)
        return ATTEMPT_REFUSED;
    if (session->link->state != LINK_OPEN)
        return end->kind == UPSTREAM_END_CLOSED ? ATTEMPT_REFUSED : ATTEMPT_UNTRIED;
    bool at_once = end->kind == UPSTREAM_END_CLOSED && !session->link->attempt.heard &&
                   session->hub->now_ms - session->link->opened_ms < REFUSED_AT_ONCE_MS;
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
    bool lasted = session->link->state == LINK_OPEN &&
                  session->hub->now_ms - session->link->opened_ms >= service->reconnect.max_ms;
    bool another = session->link->attempt.last_refused &&
                   attempt_has_fresh(&session->link->attempt);
    uint64_t base_ms = session->link->backoff_ms && !lasted && !another
                           ? (uint64_t)session->link->backoff_ms * 2
                           : service->reconnect.min_ms;
    if (base_ms > max_ms)
        base_ms = max_ms;
    session->link->backoff_ms = base_ms ? (uint32_t)base_ms : 1;
    uint64_t wait_ms = base_ms + rng_below(&session->hub->rng, base_ms / 2 + 1);
    return wait_ms <= max_ms ? wait_ms : max_ms - rng_below(&session->hub->rng, max_ms / 4 + 1);
}

static void note_no_tcp(struct session *session, const struct upstream_end *end)
{
    if (end->kind != UPSTREAM_END_NO_TCP)
        session->link->no_tcp_since_ms = 0;
    else if (!session->link->no_tcp_since_ms)
        session->link->no_tcp_since_ms = session->hub->now_ms;
}

static void retry(struct session *session, const struct upstream_end *end)
{
    attempt_end(&session->link->attempt, verdict_of(session, end));
    uint64_t wait_ms = next_backoff_ms(session, end);
    note_no_tcp(session, end);
    session->link->events->down(session);
    wait_and_try(session, wait_ms);
    link_set_status(session, UPSTREAM_DOWN, end->reason);
    if (session->link->no_tcp_since_ms && session->hub->now_ms - session->link->no_tcp_since_ms >=
                                              3ull * session->service->reconnect.max_ms)
        session->link->events->unreachable(session);
}

static void log_end(const struct link *link, const struct upstream_end *end)
{
    bool asked = link->state == LINK_CLOSING;
    uint64_t open_ms = link->state == LINK_OPEN || asked
                           ? link->session->hub->now_ms - link->opened_ms
                           : 0;
    log_info_cause(asked ? "upstream_closed" : "upstream_lost",
                   LOG_STR("session", link->session->id), LOG_STR("reason", end->reason),
                   LOG_U64("http", end->http_status), LOG_U64("code", end->close_code),
                   LOG_U64("open_ms", open_ms));
}

void link_on_closed(struct session *session, struct upstream *upstream,
                    const struct upstream_end *end)
{
    struct link *link = session->link;
    assert(link->upstream == upstream);
    link->upstream = NULL;
    log_end(link, end);
    if (link->state == LINK_CLOSING) {
        set_state(link, LINK_NONE);
        link->events->closed(session);
        return;
    }
    metric_add(METRIC_UPSTREAM_FAILURES, 1);
    metric_service_add(session->facts.metrics, SERVICE_UPSTREAM_FAILURES, 1);
    retry(session, end);
}

enum link_state link_state(const struct session *session)
{
    return session->link->state;
}

bool link_is_retrying(const struct session *session)
{
    return session->link->backoff_ms != 0;
}

enum upstream_status link_status(const struct session *session)
{
    return session->link->status;
}

const char *link_reason(const struct session *session)
{
    return session->link->reason;
}

const char *link_url(const struct session *session)
{
    return session->link->url;
}

const char *link_redacted(const struct session *session)
{
    return session->link->redacted;
}

struct attempt *link_attempt(const struct session *session)
{
    return &session->link->attempt;
}

bool link_new(struct session *session, const struct target *target,
              const struct link_events *events)
{
    struct link *link = calloc(1, sizeof(*link));
    char *url = url_upstream(target), *redacted = url ? url_redact(url) : NULL;
    if (!link || !redacted) {
        free(link);
        free(url);
        return false;
    }
    *link = (struct link){.session = session, .events = events, .url = url, .redacted = redacted};
    session->link = link;
    return true;
}

void link_free(struct session *session)
{
    struct link *link = session->link;
    assert(!link->upstream);
    timer_stop(&session->hub->timers, &link->timer);
    attempt_fini(&link->attempt);
    free(link->url);
    free(link->redacted);
    free(link);
    session->link = NULL;
}

void link_check(const struct session *session)
{
    const struct link *link = session->link;
    bool socket = link->state == LINK_CONNECTING || link->state == LINK_OPEN ||
                  link->state == LINK_CLOSING;
    assert(socket == (link->upstream != NULL));
    assert((link->state == LINK_WAITING) == timer_armed(&link->timer));
    assert(!socket || session_is_owned(session));
}
