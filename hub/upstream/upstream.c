#include "upstream/upstream.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/log.h"
#include "common/metrics.h"
#include "core/hub.h"
#include "upstream/upstream_private.h"

static const char *const state_names[] = {"waiting", "resolving", "connecting", "securing",
                                          "asking",  "open",      "closing",    "ended"};

#define BIT(state) (1U << (state))
/* The states that may follow each state; UP_ENDED may follow any of them. */
static const unsigned transitions[] = {
    [UP_WAITING] = BIT(UP_RESOLVING),
    [UP_RESOLVING] = BIT(UP_CONNECTING),
    [UP_CONNECTING] = BIT(UP_SECURING) | BIT(UP_ASKING),
    [UP_SECURING] = BIT(UP_ASKING),
    [UP_ASKING] = BIT(UP_OPEN),
    [UP_OPEN] = BIT(UP_CLOSING),
    [UP_CLOSING] = 0,
    [UP_ENDED] = 0,
};

static bool is_attempt(enum upstream_state state)
{
    return state >= UP_RESOLVING && state <= UP_ASKING;
}

void up_set_state(struct upstream *up, enum upstream_state state)
{
    assert(up->state != UP_ENDED &&
           (state == UP_ENDED || (transitions[up->state] & BIT(state)) != 0));
    log_debug("upstream_state", LOG_STR("from", state_names[up->state]),
              LOG_STR("to", state_names[state]), LOG_STR("host", up->parts.host));
    bool was_attempt = is_attempt(up->state);
    up->state = (uint8_t)state;
    if (!was_attempt && is_attempt(state))
        up->all->attempts++;
    if (was_attempt && !is_attempt(state)) {
        up->all->attempts--;
        if (up->all->waiting.len > 0)
            loop_timer_start(up->all->pump, 0);
    }
}

/* --- lists --- */

static void list_add(struct upstream_list *list, struct upstream *up)
{
    up->next = NULL;
    up->prev = list->last;
    *(list->last ? &list->last->next : &list->first) = up;
    list->last = up;
    list->len++;
}

static void list_remove(struct upstream_list *list, struct upstream *up)
{
    *(up->prev ? &up->prev->next : &list->first) = up->next;
    *(up->next ? &up->next->prev : &list->last) = up->prev;
    list->len--;
}

/* --- deadlines --- */

static void arm(struct upstreams *all)
{
    uint64_t at_ms = timers_next(&all->timers);
    if (at_ms >= all->timer_at_ms)
        return; /* the loop's timer fires early enough, and is armed again then */
    all->timer_at_ms = at_ms;
    loop_timer_start(all->timer, at_ms > all->now_ms ? at_ms - all->now_ms : 0);
}

static void on_timer(void *ctx)
{
    struct upstreams *all = ctx;
    all->timer_at_ms = UINT64_MAX;
    loop_run_timers(&all->timers);
    arm(all);
}

static void on_due(struct timer *timer, uint64_t now_ms)
{
    (void)now_ms;
    struct upstream *up = (struct upstream *)((char *)timer - offsetof(struct upstream, timer));
    if (is_attempt(up->state) && !up->asked)
        up_attempt_deadline(up);
    else
        talk_deadline(up);
}

void up_deadline(struct upstream *up, uint64_t at_ms)
{
    if (up->asked)
        at_ms = up->all->now_ms; /* close was called during the attempt: the upstream ends now */
    timer_start(&up->all->timers, &up->timer, at_ms, on_due);
    arm(up->all);
}

static void on_turn(void *ctx)
{
    struct upstreams *all = ctx;
    all->now_ms = clock_boot_ms();
}

/* --- the end --- */

/* Releases all but the memory of the object, which a caller may still use; reap frees it at the end
 * of the turn. */
static void retire(struct upstream *up, bool reset)
{
    struct upstreams *all = up->all;
    bool waits = up->state == UP_WAITING;
    up_set_state(up, UP_ENDED);
    timer_stop(&all->timers, &up->timer);
    up_free_attempt(up);
    socket_detach(&up->socket, reset);
    list_remove(waits ? &all->waiting : &all->live, up);
    list_add(&all->ended, up);
}

static void reap(void *ctx)
{
    struct upstreams *all = ctx;
    struct upstream *up = all->ended.first;
    all->ended = (struct upstream_list){0};
    while (up) {
        struct upstream *next = up->next;
        ws_reader_fini(&up->reader);
        service_unref(up->service);
        free(up->url);
        free(up);
        up = next;
    }
}

void up_free_attempt(struct upstream *up)
{
    up_attempt_free(up->attempt);
    up->attempt = NULL;
}

void up_end(struct upstream *up, const struct upstream_end *end)
{
    if (up->state == UP_ENDED)
        return;
    struct session *session = up->session;
    /* This address accepts connections but does not answer the handshake: the next attempt begins
     * with another address. */
    if ((up->state == UP_SECURING || up->state == UP_ASKING) && end->kind != UPSTREAM_END_ASKED)
        up->all->first_address++;
    /* If the backend was silent, output in the kernel would hardly arrive: a reset drops it. */
    retire(up, end->kind == UPSTREAM_END_SILENT);
    hub_upstream_closed(session, up, end);
}

void up_end_plain(struct upstream *up, enum upstream_end_kind kind, const char *reason)
{
    up_end(up, &(struct upstream_end){.kind = kind, .reason = reason});
}

/* --- the ops --- */

static void pump(void *ctx)
{
    struct upstreams *all = ctx;
    while (all->waiting.first && all->attempts < UPSTREAM_ATTEMPTS_MAX) {
        struct upstream *up = all->waiting.first;
        list_remove(&all->waiting, up);
        list_add(&all->live, up);
        up_attempt_begin(up);
    }
}

static struct upstream *op_open(void *ctx, struct session *session, struct service *service,
                                const char *url)
{
    struct upstreams *all = ctx;
    struct upstream *up = calloc(1, sizeof(*up));
    if (!up)
        abort(); /* some hundred bytes */
    *up = (struct upstream){
        .all = all, .session = session, .service = service_ref(service), .url = strdup(url)};
    if (!up->url)
        abort();
    list_add(&all->waiting, up);
    loop_timer_start(all->pump, 0); /* the attempt begins later: no event before open returns */
    return up;
}

static enum status op_send(void *ctx, struct upstream *up, enum opcode opcode, const void *payload,
                           size_t len)
{
    (void)ctx;
    return talk_send(up, opcode, payload, len);
}

static void op_close(void *ctx, struct upstream *up, unsigned code, const char *reason)
{
    (void)ctx;
    talk_close(up, code, reason);
}

static void op_reset(void *ctx, struct upstream *up)
{
    (void)ctx;
    if (up->state != UP_ENDED)
        retire(up, true);
}

const struct upstream_ops upstream_socket_ops = {
    .open = op_open,
    .send = op_send,
    .close = op_close,
    .reset = op_reset,
};

/* --- the whole --- */

enum status upstreams_new(struct loop *loop, struct upstreams **out)
{
    struct upstreams *all = calloc(1, sizeof(*all));
    if (!all)
        return STATUS_NO_MEMORY;
    all->loop = loop;
    all->now_ms = clock_boot_ms();
    all->timer_at_ms = UINT64_MAX;
    timers_init(&all->timers);
    all->timer = loop_timer_new(loop, "upstream_times", on_timer, all);
    all->pump = loop_timer_new(loop, "upstream_pump", pump, all);
    if (!all->timer || !all->pump) {
        upstreams_free(all);
        return STATUS_NO_MEMORY;
    }
    loop_at_turn_start(loop, "upstream_start", on_turn, all);
    loop_at_turn_end(loop, "upstream_reap", reap, all);
    *out = all;
    return STATUS_OK;
}

void upstreams_reload(struct upstreams *all)
{
    while (all->trusts) {
        struct trust *trust = all->trusts;
        all->trusts = trust->next;
        tls_context_free(trust->context);
        free(trust);
    }
}

void upstreams_free(struct upstreams *all)
{
    if (!all)
        return;
    while (all->waiting.first)
        retire(all->waiting.first, true);
    while (all->live.first)
        retire(all->live.first, true);
    reap(all);
    loop_timer_free(all->timer);
    loop_timer_free(all->pump);
    timers_fini(&all->timers);
    upstreams_reload(all);
    free(all->scratch);
    free(all);
}

size_t upstreams_count(const struct upstreams *all)
{
    return all->waiting.len + all->live.len;
}
