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
struct parting {
    struct hub *hub;
    char *session, *url;
    char to[CONF_NAME_MAX + 1];
    uint64_t epoch;
    unsigned tries;
    struct envelope_item *items; /* names are owned */
    size_t items_len;
    struct timer timer;
    struct parting *prev, *next;
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
    node_tell(hub, to, &envelope);
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

/* --- the parting: TAKE, repeated --- */

static void parting_free(struct parting *parting)
{
    struct hub *hub = parting->hub;
    DL_DELETE(hub->sessions->partings, parting);
    timer_stop(&hub->timers, &parting->timer);
    for (size_t i = 0; i < parting->items_len; i++)
        free((void *)(uintptr_t)parting->items[i].name.at);
    free(parting->items);
    free(parting->session);
    free(parting->url);
    free(parting);
}

void handover_free_all(struct hub *hub)
{
    while (hub->sessions && hub->sessions->partings)
        parting_free(hub->sessions->partings);
}

static void on_parting_timer(struct timer *timer, uint64_t now_ms);

static void send_take(struct parting *parting)
{
    struct hub *hub = parting->hub;
    const struct take_message message = {
        parting->epoch, slice_of(parting->url), {parting->items, parting->items_len}};
    struct envelope take = take_encode(&message);
    take.session = slice_of(parting->session);
    node_tell(hub, slice_of(parting->to), &take);
    timer_start(&hub->timers, &parting->timer, hub->now_ms + TAKE_AGAIN_MS, on_parting_timer);
}

static void on_parting_timer(struct timer *timer, uint64_t now_ms)
{
    struct parting *parting = CONTAINER_OF(timer, struct parting, timer);
    (void)now_ms;
    if (++parting->tries >= TAKE_TRIES)
        parting_free(parting);
    else
        send_take(parting);
}

static char *copy(struct slice text)
{
    char *at = strndup(text.at ? text.at : "", text.len);
    if (!at)
        abort();
    return at;
}

void handover_part(struct session *session, uint64_t epoch, const char *url,
                   const struct envelope_item *items, size_t len)
{
    struct hub *hub = session->hub;
    struct parting *parting = calloc(1, sizeof(*parting));
    struct envelope_item *own = calloc(len ? len : 1, sizeof(*own));
    if (!parting || !own)
        abort();
    for (size_t i = 0; i < len; i++) {
        own[i] = items[i];
        own[i].name.at = copy(items[i].name);
    }
    *parting = (struct parting){.hub = hub,
                                .session = copy(slice_of(session->id)),
                                .url = copy(slice_of(url)),
                                .epoch = epoch,
                                .items = own,
                                .items_len = len};
    memcpy(parting->to, session->handover->to, sizeof(parting->to));
    DL_APPEND(hub->sessions->partings, parting);
    send_take(parting);
}

void handover_on_taken(struct hub *hub, struct slice session, uint64_t epoch)
{
    struct parting *parting, *next;
    DL_FOREACH_SAFE (hub->sessions->partings, parting, next)
        if (parting->epoch <= epoch && slice_equals(slice_of(parting->session), session))
            parting_free(parting);
}

bool handover_is_parting(const struct hub *hub)
{
    return hub->sessions->partings != NULL;
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
