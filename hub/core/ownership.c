#include "core/ownership.h"

#include <string.h>

#include "common/log.h"
#include "common/metrics.h"
#include "core/assertion.h"
#include "core/commands.h"
#include "core/fanout.h"
#include "core/handover.h"
#include "core/history.h"
#include "core/kept_sends.h"
#include "core/lease.h"
#include "core/link.h"
#include "core/membership.h"
#include "core/peers.h"
#include "core/pubs.h"
#include "core/session.h"

#define CLAIM_AGAIN_MS 250               /* the store is too young, or did not answer */
#define RECORD_KEPT_MS (10 * 60 * 1000u) /* of a released session, at least (design section 4) */

void ownership_start(struct session *session)
{
    session->state = SESSION_SUBSCRIBING;
    session->hub->bus->ops->subscribe(session->hub->bus, session->id);
}

void ownership_on_subscribed(struct session *session)
{
    session->doubt = session->positioned;
    session->subscribed = true;
    if (session->state == SESSION_SUBSCRIBING)
        ownership_claim(session);
    else if (session->state == SESSION_JOINING || session->state == SESSION_MEMBER)
        membership_join(session);
}

void ownership_claim(struct session *session)
{
    struct hub *hub = session->hub;
    if (!session_wanted(session)) {
        session_end(session);
        return;
    }
    session_set_state(session, SESSION_CLAIMING);
    if (session->tag)
        return;
    if (!hub->bus_connected || !lease_valid(hub) || !session->subscribed) {
        session_step_after(session, ASK_AGAIN_MS);
        return;
    }
    bool dead = session->owner_died;
    struct bus_claim claim = {
        .dead_owner = dead ? session->owner->id : NULL,
        .dead_epoch = dead ? session->owner_epoch : 0,
        .seen_epoch = session->epoch,
        .upstream = session->redacted,
    };
    session->accepted_epoch = 0;
    session->tag = hub_tag(hub);
    metric_add(METRIC_CLAIMS, 1);
    hub->bus->ops->claim(hub->bus, session->id, session->tag, &claim);
}

static uint64_t record_kept_ms(const struct session *session)
{
    uint64_t ttl_ms = session->service->history.ttl_ms;
    return ttl_ms > RECORD_KEPT_MS ? ttl_ms : RECORD_KEPT_MS;
}

void ownership_take(struct session *session, uint64_t epoch)
{
    struct hub *hub = session->hub;
    if (session->owner_died)
        metric_add(METRIC_TAKEOVERS, 1);
    session->tag = 0;
    session->accepted_epoch = 0;
    session->release_sent = false;
    session->epoch = epoch;
    session->placed = 0;
    peer_set_owner(session, NULL);
    session_set_state(session, SESSION_OWNER);
    ring_clear(session);
    history_owner_epoch(session);
    /* Members that are still on their way here hear of the new owner by its pushes. */
    session->publish_until_ms = hub->now_ms + 2 * (uint64_t)hub->conf->node.lease_ms;
    commands_owner_changed(session);
    kept_sends_adopt(session);
    link_start(session);
    ownership_unwanted(session);
    handover_consider(session);
    log_debug("session_owned", LOG_STR("session", session->id), LOG_U64("epoch", epoch));
}

/* A grant nobody waits for any more must not leave a record that names this node. */
static void refuse_grant(struct hub *hub, const char *id, uint64_t epoch)
{
    hub->bus->ops->release(hub->bus, id, 0, epoch, RECORD_KEPT_MS);
}

static void join_or_claim(struct session *session, const char *owner, uint64_t epoch)
{
    struct hub *hub = session->hub;
    if (epoch > session->epoch)
        session->epoch = epoch;
    size_t len = strlen(owner);
    if (!len || !strcmp(owner, hub->id)) {
        peer_set_owner(session, NULL);
        session_step_after(session, CLAIM_AGAIN_MS);
        return;
    }
    peer_set_owner(session, peer_get(hub, owner, len));
    session->owner_epoch = epoch;
    membership_join(session); /* should it be dead, the next reading of the nodes says so */
}

static void on_outbid(struct session *session, enum status status, const char *owner,
                      uint64_t epoch)
{
    session->reclaiming = false;
    if (status == STATUS_OK) {
        fanout_flush(session);
        if (session->state != SESSION_OWNER)
            return; /* fenced by the flush */
        session->epoch = epoch;
        session->placed = 0;
        ring_clear(session);
        history_owner_epoch(session);
    } else if (status == STATUS_REFUSED && owner && *owner) {
        ownership_lost(session, peer_get(session->hub, owner, strlen(owner)), epoch);
    }
}

void ownership_on_claimed(struct hub *hub, struct session *session, const char *id, uint64_t tag,
                          enum status status, const char *owner, uint64_t epoch)
{
    bool expected = session && session->tag == tag;
    if (expected)
        session->tag = 0;
    if (expected && session->reclaiming && session->state == SESSION_OWNER) {
        on_outbid(session, status, owner, epoch);
        return;
    }
    bool wanted = expected && session->state == SESSION_CLAIMING;
    bool taken = wanted && session_wanted(session) && session->subscribed && lease_valid(hub);
    if (status == STATUS_OK && !taken &&
        (!session || !session_is_owned(session) || session->epoch != epoch))
        refuse_grant(hub, id, epoch);
    if (expected && session->state == SESSION_RELEASING)
        ownership_send_release(session); /* an outbidding was under way when the last one left */
    if (!wanted)
        return;
    if (status == STATUS_OK && !taken) {
        ownership_claim(session); /* ends it, or waits for the lease */
        return;
    }
    if (status == STATUS_OK) {
        /* A claim comes without a TAKE: what the last owner was told may have gone upstream */
        commands_owner_lost(session);
        ownership_take(session, epoch);
    } else if (status == STATUS_REFUSED) {
        metric_add(METRIC_CLAIMS_REFUSED, 1);
        join_or_claim(session, owner, epoch);
    } else {
        session_step_after(session, CLAIM_AGAIN_MS);
    }
}

void ownership_outbid(struct session *session, uint64_t seen_epoch)
{
    if (session->tag || seen_epoch <= session->epoch)
        return;
    struct bus_claim claim = {
        .seen_epoch = seen_epoch, .holds = true, .upstream = session->redacted};
    session->reclaiming = true;
    session->tag = hub_tag(session->hub);
    session->hub->bus->ops->claim(session->hub->bus, session->id, session->tag, &claim);
}

/* Everything that only an owner has goes; what was to be published and is not certain to be, is
 * counted. */
static void drop_owner_part(struct session *session)
{
    link_reset(session);
    handover_forget(session);
    commands_owner_lost(session);
    membership_remove_all(session);
    metric_drop(DROP_STALE_EPOCH, session->unconfirmed.len + session->to_bus.len);
    pubs_clear(&session->unconfirmed);
    pubs_clear(&session->to_bus);
    ring_clear(session);
    session->reclaiming = false;
    session->unproven = false;
    timer_stop(&session->hub->timers, &session->prove);
    session->tag = 0;
}

void ownership_lost(struct session *session, struct peer *owner, uint64_t epoch)
{
    log_info("session_lost", LOG_STR("session", session->id),
             LOG_STR("owner", owner ? owner->id : ""), LOG_U64("epoch", epoch));
    drop_owner_part(session);
    if (epoch > session->epoch)
        session->epoch = epoch;
    peer_set_owner(session, owner);
    session->owner_epoch = epoch;
    if (!session_wanted(session))
        session_end(session);
    else if (owner)
        membership_join(session);
    else
        ownership_claim(session);
}

void ownership_wanted(struct session *session)
{
    if (session->state == SESSION_OWNER) {
        timer_stop(&session->hub->timers, &session->step);
    } else if (session->state == SESSION_RELEASING && !session->release_sent) {
        session_set_state(session, SESSION_OWNER);
        link_start(session); /* or, once it is closed to the end, by that */
    }
}

void ownership_unwanted(struct session *session)
{
    switch (session->state) {
    case SESSION_OWNER:
        if (session_wanted(session) || session->members_len)
            return;
        if (session->hub->state == NODE_DRAINING)
            ownership_release(session);
        else
            session_step_after(session, session->service->linger_ms);
        return;
    case SESSION_JOINING:
    case SESSION_MEMBER:
        if (!session_wanted(session))
            membership_leave(session);
        return;
    case SESSION_SUBSCRIBING:
    case SESSION_FENCED:
        if (!session_wanted(session))
            session_end(session);
        return;
    case SESSION_CLAIMING: /* the answer decides; a grant is given back */
        if (!session_wanted(session) && !session->tag)
            session_end(session);
        return;
    case SESSION_MOVING:
    case SESSION_RELEASING:
    case SESSION_LEAVING:
    case SESSION_ENDED:
    case SESSION_STATES: return;
    }
}

void ownership_release(struct session *session)
{
    fanout_flush(session);
    if (session->state != SESSION_OWNER)
        return; /* fenced by the flush */
    session_set_state(session, SESSION_RELEASING);
    if (link_close(session))
        return; /* ownership_upstream_gone follows */
    ownership_send_release(session);
}

void ownership_upstream_gone(struct session *session)
{
    fanout_flush(session);
    if (session->state == SESSION_RELEASING)
        ownership_send_release(session);
}

void ownership_send_release(struct session *session)
{
    struct hub *hub = session->hub;
    if (session->tag || session->link != LINK_NONE)
        return;
    if (!hub->bus_connected) {
        session_step_after(session, ASK_AGAIN_MS);
        return;
    }
    session->tag = hub_tag(hub);
    session->release_sent = true;
    kept_sends_tell(session); /* before anybody can be granted it */
    hub->bus->ops->release(hub->bus, session->id, session->tag, session->epoch,
                           record_kept_ms(session));
}

void ownership_on_released(struct session *session, uint64_t tag, enum status status)
{
    if (session->tag != tag || session->state != SESSION_RELEASING)
        return;
    session->tag = 0;
    if (status == STATUS_IO) {
        session_step_after(session, CLAIM_AGAIN_MS);
        return;
    }
    membership_dismiss_all(session);
    drop_owner_part(session);
    ownership_claim(session); /* ends it where no client has come meanwhile */
}

void ownership_owner_died(struct session *session)
{
    switch (session->state) {
    case SESSION_JOINING:
    case SESSION_MEMBER:
        commands_owner_lost(session);
        session->owner_died = true;
        ownership_claim(session);
        return;
    case SESSION_LEAVING: session_end(session); return;
    case SESSION_SUBSCRIBING:
    case SESSION_CLAIMING:
    case SESSION_OWNER:
    case SESSION_MOVING:
    case SESSION_RELEASING:
    case SESSION_FENCED:
    case SESSION_ENDED:
    case SESSION_STATES: return;
    }
}

/* handed_over: by the owner that this node knew, which told its successor what it had sent
 * upstream. */
static void announced_to_member(struct session *session, struct peer *owner, bool handed_over)
{
    if (owner)
        session->accepted_epoch = 0;
    if (!handed_over)
        commands_owner_lost(session);
    peer_set_owner(session, owner);
    session->owner_epoch = session->epoch;
    if (!owner)
        handover_named(session);
    else if (session_wanted(session))
        membership_join(session);
    else
        session_end(session);
}

void ownership_announced(struct session *session, struct slice owner, uint64_t epoch, uint64_t from)
{
    struct hub *hub = session->hub;
    if (epoch <= session->epoch || !peer_is_name(owner))
        return;
    bool mine = owner.len == strlen(hub->id) && !memcmp(owner.at, hub->id, owner.len),
         handed_over = from && from == session->epoch;
    switch (session->state) {
    case SESSION_OWNER:
    case SESSION_MOVING:
    case SESSION_RELEASING:
        if (!mine && !handover_expects(
                         session, owner)) /* what this node asked for comes as an answer, too */
            ownership_lost(session, peer_get(hub, owner.at, owner.len), epoch);
        return;
    case SESSION_SUBSCRIBING:
    case SESSION_ENDED:
    case SESSION_STATES: return;
    case SESSION_CLAIMING:
        if (mine)
            return; /* the answer under way says so, too */
        /* Its publications count from here on; the answer, if one is under way, brings the JOIN */
        session->epoch = epoch;
        peer_set_owner(session, peer_get(hub, owner.at, owner.len));
        session->owner_epoch = epoch;
        if (!session->tag && session_wanted(session))
            membership_join(session);
        return;
    case SESSION_FENCED:
        if (mine)
            return;
        session->epoch = epoch;
        announced_to_member(session, peer_get(hub, owner.at, owner.len), false);
        return;
    case SESSION_JOINING:
    case SESSION_MEMBER:
    case SESSION_LEAVING:
        session->epoch = epoch;
        announced_to_member(session, mine ? NULL : peer_get(hub, owner.at, owner.len), handed_over);
        return;
    }
}

void ownership_fence_all(struct hub *hub)
{
    struct session *session, *next;
    HASH_ITER (hh, hub->sessions, session, next) {
        if (!session_is_owned(session))
            continue;
        history_rewind(session);
        drop_owner_part(session);
        session_set_state(session, SESSION_FENCED);
        link_tell(session, UPSTREAM_DOWN, "node is cut off from Redis");
        ownership_unwanted(session);
    }
}

/* Nobody who can't hear the channel of a session may hold it. The record is given back, for another
 * node may have the right. */
void ownership_on_refused(struct session *session, const char *why, bool deaf)
{
    struct hub *hub = session->hub;
    if (session->state == SESSION_ENDED)
        return;
    if (deaf)
        session->subscribed = false;
    if (deaf && session_is_owned(session)) {
        uint64_t epoch = session->epoch;
        history_rewind(session);
        drop_owner_part(session);
        session_set_state(session, SESSION_FENCED);
        hub->bus->ops->release(hub->bus, session->id, 0, epoch, record_kept_ms(session));
        link_tell(session, UPSTREAM_DOWN, why);
        if (session_wanted(session))
            ownership_claim(session); /* waits for the channel */
        else
            session_end(session);
    } else if (deaf || session->state == SESSION_CLAIMING) {
        link_tell(session, UPSTREAM_DOWN, why);
    }
}

void ownership_lease_lapsed(struct hub *hub)
{
    struct session *session, *next;
    HASH_ITER (hh, hub->sessions, session, next)
        if (!session_is_owned(session)) {
            commands_owner_lost(session);
            /* A grant of before the lapse is none: another may have taken it from this node since
             */
            session->tag = 0;
        }
}

void ownership_lease_back(struct hub *hub)
{
    struct session *session, *next;
    HASH_ITER (hh, hub->sessions, session, next) {
        if (session->state == SESSION_FENCED || session->state == SESSION_CLAIMING) {
            ownership_claim(session);
        } else if (session->state == SESSION_JOINING || session->state == SESSION_MEMBER) {
            membership_join(session);
        }
    }
}

void ownership_on_connected(struct hub *hub)
{
    struct session *session, *next;
    HASH_ITER (hh, hub->sessions, session, next) {
        if (assertion_applies(session))
            assertion_send(session);
        else if (session->state == SESSION_JOINING || session->state == SESSION_MEMBER)
            membership_join(session);
        else if (session->state == SESSION_CLAIMING)
            ownership_claim(session);
        else if (session->state == SESSION_LEAVING)
            membership_send_leave(session);
    }
}
