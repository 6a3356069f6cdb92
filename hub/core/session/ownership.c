#include "core/session/ownership.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "common/metrics.h"

static const char *const step_names[OWNERSHIP_STEPS] = {
    "settled", "claiming", "outbidding", "asserting", "releasing", "transferring",
};

/* What is known of the record in the store. */
enum ownership_record {
    RECORD_NOT_OURS, /* this node does not own the session */
    RECORD_OURS,     /* over the connection of the bus at which it was asserted, or claimed */
    RECORD_UNSURE,   /* an answer was lost, though the bus is connected; until it is asserted */
    RECORD_RELEASED, /* the release was sent: whatever its answer, the epoch is over */
    RECORD_STATES
};

static const char *const record_names[RECORD_STATES] = {"not_ours", "ours", "unsure", "released"};

struct ownership {
    struct session *session;
    const struct ownership_events *events;
    enum ownership_step step;
    uint64_t tag; /* of the step's operation */
    struct watch owner;
    uint64_t named_at;
    bool owner_died; /* at named_at: the claim names it */
    enum ownership_record record;
    uint64_t asserted_link; /* the connection of the bus over which it was asserted, or claimed */
    struct timer prove;     /* UNSURE: when it is asserted again */
};

void ownership_new(struct session *session, const struct ownership_events *events)
{
    struct ownership *own = calloc(1, sizeof(*own));
    if (!own)
        abort();
    own->session = session;
    own->events = events;
    session->ownership = own;
}

void ownership_free(struct session *session)
{
    timer_stop(&session->hub->timers, &session->ownership->prove);
    peer_unwatch(&session->ownership->owner);
    free(session->ownership);
    session->ownership = NULL;
}

/* --- the owner --- */

static void on_owner_dead(struct watch *watch)
{
    struct ownership *own = CONTAINER_OF(watch, struct ownership, owner);
    own->events->owner_dead(own->session);
}

static void watch_owner(struct session *session, struct peer *peer)
{
    static const struct watch_events events = {.dead = on_owner_dead};
    struct ownership *own = session->ownership;
    own->owner_died = false;
    if (peer)
        peer_watch(session->hub, &own->owner, peer, &events);
    else
        peer_unwatch(&own->owner);
}

const char *ownership_owner(const struct session *session)
{
    const struct peer *peer = session->ownership->owner.peer;
    return peer ? peer->id : NULL;
}

bool ownership_is_from_owner(const struct session *session, struct slice node)
{
    const char *owner = ownership_owner(session);
    return owner && slice_equals(slice_of(owner), node);
}

uint64_t ownership_named_at(const struct session *session)
{
    return session->ownership->named_at;
}

void ownership_set_owner(struct session *session, struct slice owner, uint64_t named_at)
{
    watch_owner(session, peer_get(session->hub, owner.at, owner.len));
    session->ownership->named_at = named_at;
}

void ownership_set_nobody(struct session *session)
{
    watch_owner(session, NULL);
}

void ownership_renew_owner(struct session *session)
{
    watch_owner(session, session->ownership->owner.peer);
}

void ownership_set_named_at(struct session *session, uint64_t epoch)
{
    session->ownership->named_at = epoch;
}

void ownership_owner_died(struct session *session)
{
    session->ownership->owner_died = true;
}

bool ownership_is_takeover(const struct session *session)
{
    return session->ownership->owner_died;
}

/* --- the pending operation --- */

static void set_step(struct ownership *own, enum ownership_step step)
{
    static const bool legal[OWNERSHIP_STEPS][OWNERSHIP_STEPS] = {
        /* to:                     settled claiming outbidding asserting releasing transferring */
        [OWNERSHIP_SETTLED] = {true, true, true, true, true, true},
        [OWNERSHIP_CLAIMING] = {true, false, false, false, false, false},
        [OWNERSHIP_OUTBIDDING] = {true, false, false, true, false, false},
        [OWNERSHIP_ASSERTING] = {true, false, false, true, false, true},
        [OWNERSHIP_RELEASING] = {true, false, false, false, false, false},
        [OWNERSHIP_TRANSFERRING] = {true, false, false, false, false, false},
    };
    assert(legal[own->step][step]);
    own->step = step;
    own->tag = step == OWNERSHIP_SETTLED ? 0 : hub_tag(own->session->hub);
    log_debug("ownership", LOG_STR("session", own->session->id), LOG_STR("step", step_names[step]));
}

static void set_record(struct ownership *own, enum ownership_record record)
{
    static const bool legal[RECORD_STATES][RECORD_STATES] = {
        /* to:                not_ours ours unsure released */
        [RECORD_NOT_OURS] = {true, true, false, false},
        [RECORD_OURS] = {true, true, true, true},
        [RECORD_UNSURE] = {true, true, true, true},
        [RECORD_RELEASED] = {true, false, false, true},
    };
    assert(legal[own->record][record]);
    if (own->record == record)
        return;
    own->record = record;
    timer_stop(&own->session->hub->timers, &own->prove);
    log_debug("ownership", LOG_STR("session", own->session->id),
              LOG_STR("record", record_names[record]));
}

bool ownership_is_settled(const struct session *session)
{
    return session->ownership->step == OWNERSHIP_SETTLED;
}

enum ownership_step ownership_answered(struct session *session, uint64_t tag)
{
    struct ownership *own = session->ownership;
    enum ownership_step step = own->step;
    if (!tag || own->tag != tag)
        return OWNERSHIP_SETTLED;
    set_step(own, OWNERSHIP_SETTLED);
    return step;
}

void ownership_forget_answer(struct session *session)
{
    set_step(session->ownership, OWNERSHIP_SETTLED);
}

void ownership_claim(struct session *session, const char *upstream)
{
    struct ownership *own = session->ownership;
    struct bus *bus = session->hub->bus;
    struct bus_claim claim = {
        .dead_owner = own->owner_died ? own->owner.peer->id : NULL,
        .dead_epoch = own->owner_died ? own->named_at : 0,
        .seen_epoch = session->epoch,
        .upstream = upstream,
    };
    set_step(own, OWNERSHIP_CLAIMING);
    metric_add(METRIC_CLAIMS, 1);
    bus->ops->claim(bus, session->id, own->tag, &claim);
}

void ownership_outbid(struct session *session, uint64_t seen_epoch, const char *upstream)
{
    struct ownership *own = session->ownership;
    struct bus *bus = session->hub->bus;
    struct bus_claim claim = {.seen_epoch = seen_epoch, .holds = true, .upstream = upstream};
    set_step(own, OWNERSHIP_OUTBIDDING);
    bus->ops->claim(bus, session->id, own->tag, &claim);
}

bool ownership_is_outbidding(const struct session *session)
{
    return session->ownership->step == OWNERSHIP_OUTBIDDING;
}

void ownership_assert(struct session *session, const char *upstream)
{
    struct ownership *own = session->ownership;
    struct bus *bus = session->hub->bus;
    own->asserted_link = session->hub->links;
    set_step(own, OWNERSHIP_ASSERTING);
    bus->ops->assert_owner(bus, session->id, own->tag, session->epoch, upstream);
}

static uint64_t record_kept_ms(const struct session *session)
{
    uint64_t ttl_ms = session->service->history.ttl_ms;
    return ttl_ms > RECORD_KEPT_MS ? ttl_ms : RECORD_KEPT_MS;
}

void ownership_release(struct session *session)
{
    struct ownership *own = session->ownership;
    struct bus *bus = session->hub->bus;
    set_record(own, RECORD_RELEASED);
    set_step(own, OWNERSHIP_RELEASING);
    bus->ops->release(bus, session->id, own->tag, session->epoch, record_kept_ms(session));
}

void ownership_transfer(struct session *session, const char *to)
{
    struct ownership *own = session->ownership;
    struct bus *bus = session->hub->bus;
    set_step(own, OWNERSHIP_TRANSFERRING);
    bus->ops->transfer(bus, session->id, own->tag, session->epoch, to);
}

void ownership_refuse_grant(struct hub *hub, const char *id, uint64_t epoch)
{
    hub->bus->ops->release(hub->bus, id, 0, epoch, RECORD_KEPT_MS);
}

/* --- the proof --- */

void ownership_taken(struct session *session)
{
    struct ownership *own = session->ownership;
    set_step(own, OWNERSHIP_SETTLED);
    set_record(own, RECORD_OURS);
    own->asserted_link = session->hub->links;
    ownership_set_nobody(session);
}

void ownership_dropped(struct session *session)
{
    set_step(session->ownership, OWNERSHIP_SETTLED);
    set_record(session->ownership, RECORD_NOT_OURS);
}

/* Nobody else may be granted it yet: its upstream may be open, if only to be closed. */
bool ownership_must_assert(const struct session *session)
{
    return session_is_owned(session) && session->ownership->record != RECORD_RELEASED &&
           session->ownership->step != OWNERSHIP_TRANSFERRING;
}

bool ownership_is_unsure(const struct session *session)
{
    const struct ownership *own = session->ownership;
    return session->state == SESSION_OWNER &&
           (own->record == RECORD_UNSURE || own->asserted_link != session->hub->links ||
            own->step == OWNERSHIP_ASSERTING);
}

void ownership_asserted(struct session *session)
{
    set_record(session->ownership, RECORD_OURS);
}

static void on_prove(struct timer *timer, uint64_t now_ms)
{
    struct ownership *own = CONTAINER_OF(timer, struct ownership, prove);
    if (session_is_owned(own->session) && !own->events->prove(own->session))
        timer_start(&own->session->hub->timers, timer, now_ms + ASK_AGAIN_MS, on_prove);
}

/* A part of the store may be away while the bus is connected, and come back without a word: a
 * Cluster whose primary died. */
void ownership_lost_answer(struct session *session)
{
    struct ownership *own = session->ownership;
    if (session->state != SESSION_OWNER)
        return;
    set_record(own, RECORD_UNSURE);
    timer_start(&session->hub->timers, &own->prove, session->hub->now_ms + ASK_AGAIN_MS, on_prove);
}

bool ownership_is_released(const struct session *session)
{
    return session->ownership->record == RECORD_RELEASED;
}

void ownership_check(const struct session *session)
{
    const struct ownership *own = session->ownership;
    bool pending = own->step != OWNERSHIP_SETTLED, owned = session_is_owned(session);
    assert(pending == (own->tag != 0));
    assert(!own->owner_died || own->owner.peer);
    assert(!owned || !own->owner.peer);
    assert(own->step != OWNERSHIP_OUTBIDDING || owned);
    assert(own->step != OWNERSHIP_RELEASING || session->state == SESSION_RELEASING);
    assert(own->step != OWNERSHIP_TRANSFERRING || session->state == SESSION_MOVING);
    assert(own->record == RECORD_NOT_OURS || owned);
    assert((own->record == RECORD_UNSURE) >= timer_armed(&own->prove));
}
