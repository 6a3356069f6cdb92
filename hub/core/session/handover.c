#include "core/session/handover.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"

#define OFFER_ANSWER_MS 1000
#define ESCAPE_EVERY_MS 60000
#define TAKE_AGAIN_MS   500
#define TAKE_TRIES      20

static const char *const step_names[HANDOVER_STEPS] = {"none", "offered", "closing",
                                                       "transferring"};

struct handover {
    struct session *session;
    const struct handover_events *events;
    enum handover_step step;
    char to[CONF_NAME_MAX + 1];
    unsigned tries;
    uint64_t at_ms;          /* of the last offer; 0: none yet */
    struct timer timer;      /* OFFERED; and of a declined offer */
    uint64_t accepted_epoch; /* successor: of the offer this node has accepted; 0: none */
    uint64_t accepted_run;   /* lease_runs then: a TAKE counts only within the same run */
};

/* A TAKE on its way: outlives the session, which may have no clients here any more. */
struct pending_take {
    struct hub *hub;
    char *session, *url;
    char to[CONF_NAME_MAX + 1];
    uint64_t epoch;
    unsigned tries;
    struct envelope_item *items; /* names are owned */
    size_t items_len;
    struct timer timer;
    struct pending_take *prev, *next;
};

void handover_new(struct session *session, const struct handover_events *events)
{
    struct handover *handover = calloc(1, sizeof(*handover));
    if (!handover)
        abort();
    handover->session = session;
    handover->events = events;
    session->handover = handover;
}

void handover_free(struct session *session)
{
    timer_stop(&session->hub->timers, &session->handover->timer);
    free(session->handover);
    session->handover = NULL;
}

static void set_step(struct handover *handover, enum handover_step step)
{
    static const bool legal[HANDOVER_STEPS][HANDOVER_STEPS] = {
        /* to:                     none offered closing transferring */
        [HANDOVER_NONE] = {true, true, false, false},
        [HANDOVER_OFFERED] = {true, false, true, false},
        [HANDOVER_CLOSING] = {true, false, false, true},
        [HANDOVER_TRANSFERRING] = {true, false, false, false},
    };
    assert(legal[handover->step][step]);
    handover->step = step;
    log_debug("handover", LOG_STR("session", handover->session->id),
              LOG_STR("step", step_names[step]));
}

/* --- the owner --- */

enum handover_step handover_step(const struct session *session)
{
    return session->handover->step;
}

unsigned handover_tries(const struct session *session)
{
    return session->handover->tries;
}

bool handover_may_escape(const struct session *session)
{
    const struct handover *handover = session->handover;
    return handover->step == HANDOVER_NONE &&
           (!handover->at_ms || session->hub->now_ms - handover->at_ms >= ESCAPE_EVERY_MS);
}

static void on_offer_timer(struct timer *timer, uint64_t now_ms)
{
    struct handover *handover = CONTAINER_OF(timer, struct handover, timer);
    (void)now_ms;
    if (handover->step == HANDOVER_OFFERED)
        set_step(handover, HANDOVER_NONE); /* no answer: the next one is asked */
    handover->events->free_again(handover->session);
}

void handover_offer(struct session *session, struct slice to, const char *url)
{
    struct handover *handover = session->handover;
    struct hub *hub = session->hub;
    set_step(handover, HANDOVER_OFFERED);
    handover->tries++;
    handover->at_ms = hub->now_ms;
    snprintf(handover->to, sizeof(handover->to), "%.*s", (int)to.len, to.at);
    timer_start(&hub->timers, &handover->timer, hub->now_ms + OFFER_ANSWER_MS, on_offer_timer);
    const struct offer_message message = {session->epoch, slice_of(url)};
    struct envelope envelope = offer_encode(&message);
    envelope.session = slice_of(session->id);
    node_send(hub, to, &envelope);
}

bool handover_accepted(struct session *session, struct slice node,
                       const struct answer_message *answer)
{
    struct handover *handover = session->handover;
    if (handover->step != HANDOVER_OFFERED || session->state != SESSION_OWNER ||
        answer->epoch != session->epoch || !slice_equals(slice_of(handover->to), node))
        return false;
    if (!answer->accepts) {
        /* The timer asks the next one, so that decliners are not asked in a circle */
        set_step(handover, HANDOVER_NONE);
        return false;
    }
    timer_stop(&session->hub->timers, &handover->timer);
    set_step(handover, HANDOVER_CLOSING);
    return true;
}

void handover_set_transferring(struct session *session)
{
    set_step(session->handover, HANDOVER_TRANSFERRING);
}

const char *handover_to(const struct session *session)
{
    return session->handover->to;
}

bool handover_expects(const struct session *session, struct slice owner)
{
    return session->handover->step == HANDOVER_TRANSFERRING &&
           slice_equals(slice_of(session->handover->to), owner);
}

void handover_forget(struct session *session)
{
    timer_stop(&session->hub->timers, &session->handover->timer);
    set_step(session->handover, HANDOVER_NONE);
}

/* --- TAKE, repeated --- */

static void pending_take_free(struct pending_take *take)
{
    struct hub *hub = take->hub;
    DL_DELETE(hub->sessions->pending_takes, take);
    timer_stop(&hub->timers, &take->timer);
    for (size_t i = 0; i < take->items_len; i++)
        free((void *)(uintptr_t)take->items[i].name.at);
    free(take->items);
    free(take->session);
    free(take->url);
    free(take);
}

void handover_free_all(struct hub *hub)
{
    while (hub->sessions && hub->sessions->pending_takes)
        pending_take_free(hub->sessions->pending_takes);
}

static void on_take_timer(struct timer *timer, uint64_t now_ms);

static void send_take(struct pending_take *take)
{
    struct hub *hub = take->hub;
    const struct take_message message = {
        take->epoch, slice_of(take->url), {take->items, take->items_len}};
    struct envelope envelope = take_encode(&message);
    envelope.session = slice_of(take->session);
    node_send(hub, slice_of(take->to), &envelope);
    timer_start(&hub->timers, &take->timer, hub->now_ms + TAKE_AGAIN_MS, on_take_timer);
}

static void on_take_timer(struct timer *timer, uint64_t now_ms)
{
    struct pending_take *take = CONTAINER_OF(timer, struct pending_take, timer);
    (void)now_ms;
    if (++take->tries >= TAKE_TRIES)
        pending_take_free(take);
    else
        send_take(take);
}

static char *copy(struct slice text)
{
    char *at = strndup(text.at ? text.at : "", text.len);
    if (!at)
        abort();
    return at;
}

void handover_send_take(struct session *session, uint64_t epoch, const char *url,
                        const struct envelope_item *items, size_t len)
{
    struct hub *hub = session->hub;
    struct pending_take *take = calloc(1, sizeof(*take));
    struct envelope_item *own = calloc(len ? len : 1, sizeof(*own));
    if (!take || !own)
        abort();
    for (size_t i = 0; i < len; i++) {
        own[i] = items[i];
        own[i].name.at = copy(items[i].name);
    }
    *take = (struct pending_take){.hub = hub,
                                  .session = copy(slice_of(session->id)),
                                  .url = copy(slice_of(url)),
                                  .epoch = epoch,
                                  .items = own,
                                  .items_len = len};
    memcpy(take->to, session->handover->to, sizeof(take->to));
    DL_APPEND(hub->sessions->pending_takes, take);
    send_take(take);
}

void handover_on_taken(struct hub *hub, struct slice session, uint64_t epoch)
{
    struct pending_take *take, *next;
    DL_FOREACH_SAFE (hub->sessions->pending_takes, take, next)
        if (take->epoch <= epoch && slice_equals(slice_of(take->session), session))
            pending_take_free(take);
}

bool handover_has_pending_take(const struct hub *hub)
{
    return hub->sessions->pending_takes != NULL;
}

/* --- the successor --- */

void handover_accept(struct session *session, uint64_t epoch)
{
    session->handover->accepted_epoch = epoch;
    session->handover->accepted_run = session->hub->lease_runs;
}

void handover_disown_offer(struct session *session)
{
    session->handover->accepted_epoch = 0;
}

bool handover_awaited(const struct session *session, uint64_t epoch)
{
    const struct handover *handover = session->handover;
    return handover->accepted_epoch && epoch > handover->accepted_epoch &&
           handover->accepted_run == session->hub->lease_runs;
}

void handover_check(const struct session *session)
{
    const struct handover *handover = session->handover;
    bool moving = handover->step == HANDOVER_CLOSING || handover->step == HANDOVER_TRANSFERRING;
    assert(moving == (session->state == SESSION_MOVING));
    assert(handover->step == HANDOVER_NONE || handover->to[0]);
    assert(handover->step != HANDOVER_OFFERED || timer_armed(&handover->timer));
}
