#include "core/session/roster.h"

#include <assert.h>
#include <stdlib.h>

#include "core/session/membership_sides.h"

static struct roster *roster_of(const struct session *session)
{
    return &session->membership->roster;
}

void roster_init(struct session *session, const struct roster_events *events)
{
    roster_of(session)->session = session;
    roster_of(session)->events = events;
}

void roster_fini(struct session *session)
{
    assert(!roster_of(session)->members);
    timer_stop(&session->hub->timers, &roster_of(session)->call);
}

uint64_t roll_call_ms(const struct hub *hub)
{
    return ROLL_CALL_LEASES * (uint64_t)hub->conf->node.lease_ms;
}

struct member *roster_find(struct session *session, struct slice node)
{
    struct member *member;
    DL_FOREACH (roster_of(session)->members, member)
        if (slice_equals(member_node(member), node))
            return member;
    return NULL;
}

static void send_status(const struct session *session, const struct member *member)
{
    struct status_message message = {.epoch = session->epoch};
    roster_of(session)->events->fill_status(session, &message);
    struct envelope status = status_encode(&message);
    status.session = slice_of(session->id);
    node_send(session->hub, member_node(member), &status);
}

void roster_send_status(const struct session *session)
{
    const struct member *member;
    DL_FOREACH (roster_of(session)->members, member)
        send_status(session, member);
}

static void call_after(struct roster *roster, uint64_t after_ms);

/* Who is no member answers with LEAVE; who was named by the last owner and has not come since is
 * none. */
static void on_call(struct timer *timer, uint64_t now_ms)
{
    struct roster *roster = CONTAINER_OF(timer, struct roster, call);
    struct session *session = roster->session;
    struct member *member, *next;
    (void)now_ms;
    DL_FOREACH_SAFE (roster->members, member, next) {
        if (member->watch.since_ms)
            send_status(session, member);
        else
            roster_remove(member);
    }
    if (roster->members)
        call_after(roster, roll_call_ms(session->hub));
}

static void call_after(struct roster *roster, uint64_t after_ms)
{
    struct hub *hub = roster->session->hub;
    timer_start(&hub->timers, &roster->call, hub->now_ms + after_ms, on_call);
}

void roster_expect(struct session *session)
{
    if (roster_of(session)->members)
        call_after(roster_of(session), 2 * (uint64_t)session->hub->conf->node.lease_ms);
}

static void on_gone(struct watch *watch)
{
    roster_remove(CONTAINER_OF(watch, struct member, watch));
}

static struct member *member_new(struct session *session, struct slice node, uint64_t life)
{
    static const struct watch_events events = {.dead = on_gone, .reborn = on_gone};
    struct roster *roster = roster_of(session);
    struct member *member = calloc(1, sizeof(*member));
    if (!member)
        abort();
    member->session = session;
    peer_watch(session->hub, &member->watch, peer_get(session->hub, node.at, node.len), &events);
    member->watch.life = life;
    member->watch.since_ms = 0;
    DL_APPEND(roster->members, member);
    roster->len++;
    if (!timer_armed(&roster->call))
        call_after(roster, roll_call_ms(session->hub));
    return member;
}

struct member *roster_add(struct session *session, struct slice node, uint64_t life, uint64_t since)
{
    struct member *member = roster_find(session, node);
    if (member && member->watch.life == life)
        return member;
    if (member) { /* another life under the same name: nothing of the old one counts */
        member->number = 0;
        member->requests = 0;
        member->watch.life = life;
    } else {
        member = member_new(session, node, life);
    }
    member->since = since;
    roster_of(session)->events->came(session, member);
    return member;
}

static void member_free(struct member *member)
{
    struct session *session = member->session;
    struct roster *roster = roster_of(session);
    roster->events->leaves(session, member);
    DL_DELETE(roster->members, member);
    peer_unwatch(&member->watch);
    roster->len--;
    if (!roster->len)
        timer_stop(&session->hub->timers, &roster->call);
    free(member);
}

void roster_remove(struct member *member)
{
    struct session *session = member->session;
    member_free(member);
    roster_of(session)->events->left(session);
}

void roster_clear(struct session *session, bool announce)
{
    while (roster_of(session)->members) {
        struct member *member = roster_of(session)->members;
        const struct not_owner_message message = {session->epoch};
        struct envelope no = not_owner_encode(&message);
        no.session = slice_of(session->id);
        if (announce)
            node_send(session->hub, member_node(member), &no);
        member_free(member);
    }
}

uint32_t roster_len(const struct session *session)
{
    return roster_of(session)->len;
}

struct member *roster_first(const struct session *session)
{
    return roster_of(session)->members;
}

uint64_t roster_clients(const struct session *session)
{
    uint64_t clients = 0;
    const struct member *member;
    DL_FOREACH (roster_of(session)->members, member)
        clients += member->count;
    return clients;
}

uint16_t roster_requests(const struct session *session)
{
    uint16_t mask = 0;
    const struct member *member;
    DL_FOREACH (roster_of(session)->members, member)
        mask |= member->requests;
    return mask;
}

void roster_check(const struct session *session)
{
    const struct roster *roster = roster_of(session);
    const struct member *member;
    uint32_t len = 0;
    DL_FOREACH (roster->members, member) {
        assert(member->session == session && member->watch.peer);
        len++;
    }
    assert(len == roster->len);
    assert(!len || session_is_owned(session));
    assert(!len || timer_armed(&roster->call));
}
