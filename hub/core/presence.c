#include "core/presence.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <utlist.h>

#include "common/hash.h"
#include "common/node_messages.h"
#include "core/client/emit.h"
#include "core/presence_list.h"
#include "core/session/membership.h"
#include "core/session/ownership.h"
#include "core/session/roster.h"
#include "core/session/state.h"

/* Owner, members and clients get a message at most that often, and again after that time. */
#define EVERY_MS 1000u
/* members join a new owner at once, and send it their rosters */
#define JOINED_MS 250u

/* A user, and how many clients of that user are on this node. */
struct watcher {
    uint32_t clients;
    UT_hash_handle hh;
    char user[];
};

/* The roster that a member has sent to this node, the owner. */
struct member_report {
    char node[CONF_NAME_MAX + 1];
    uint64_t life, number;
    uint64_t seen;   /* the sum that it has */
    bool wants_word; /* the member does not know yet that its roster has arrived */
    struct presence_list *list;
    struct member_report *prev, *next;
};

struct presence {
    struct session *session;
    struct watcher *watchers; /* uthash */
    bool changed;             /* the watchers have changed since the last ROSTER or sum */
    /* As a member */
    /* Of the last ROSTER: its number, and the owner that it went to */
    uint64_t number, number_epoch, number_joined;
    uint64_t heard_number; /* that the owner has */
    bool owes_word;        /* the owner does not know yet that its sum has arrived */
    /* As the owner */
    struct member_report *reports;
    uint64_t members;     /* a hash of the members at the last sum */
    uint64_t owner_since; /* when this epoch was first seen here as the owner's */
    uint64_t owner_epoch;
    /* The sum that clients get */
    struct presence_list *sum;
    uint64_t sum_number, sum_epoch;
    bool due; /* a PRESENCE to clients is due: the sum has changed, or a client was welcomed */
    uint64_t owner_sent_ms, members_sent_ms, clients_sent_ms; /* 0: never */
    struct timer timer;
};

static void on_timer(struct timer *timer, uint64_t now_ms);

/* --- the users of this node --- */

static struct presence *presence_of(struct session *session)
{
    if (session->presence || !session->service->presence)
        return session->presence;
    session->presence = calloc(1, sizeof(*session->presence));
    if (!session->presence)
        abort();
    session->presence->session = session;
    return session->presence;
}

/* In order, up to `most` of them: the least names. */
static struct presence_list *own_list(const struct presence *presence, size_t most)
{
    struct v1_watcher *users = calloc(most + 1, sizeof(*users));
    size_t len = 0, all = HASH_COUNT(presence->watchers);
    if (!users)
        abort();
    for (const struct watcher *w = presence->watchers; w; w = w->hh.next) {
        if (strlen(w->user) > PRESENCE_NAME_MAX)
            continue; /* one of those that are only counted */
        if (len == most && strcmp(users[len - 1].user, w->user) < 0)
            continue;
        size_t low = 0, high = len;
        while (low < high) {
            size_t middle = low + (high - low) / 2;
            if (strcmp(users[middle].user, w->user) < 0)
                low = middle + 1;
            else
                high = middle;
        }
        len -= len == most;
        memmove(&users[low + 1], &users[low], (len - low) * sizeof(*users));
        users[low] = (struct v1_watcher){w->user, w->clients};
        len++;
    }
    struct presence_list *list = presence_list_new(users, len, all - len);
    free(users);
    return list;
}

/* --- when --- */

static bool is_owner(const struct presence *presence)
{
    return presence->session->state == SESSION_OWNER;
}

static bool is_member(const struct presence *presence)
{
    const struct session *session = presence->session;
    return session->state == SESSION_MEMBER && ownership_owner(session) &&
           session->hub->bus_connected;
}

/* The current owner does not have the current roster of this node. */
static bool owes_roster(const struct presence *presence)
{
    const struct session *session = presence->session;
    return presence->changed || presence->number_epoch != session->epoch ||
           presence->number_joined != membership_joined_number(session);
}

static uint64_t members_of(const struct session *session)
{
    uint64_t sum = roster_len(session);
    for (const struct member *member = roster_first(session); member; member = member->next)
        sum = sum * 31 + (uintptr_t)member + member->watch.life;
    return sum;
}

static bool owes_sum(const struct presence *presence)
{
    return presence->changed || presence->sum_epoch != presence->session->epoch ||
           presence->members != members_of(presence->session);
}

static struct member_report *find_report(const struct presence *presence, struct slice node)
{
    struct member_report *report;
    DL_FOREACH (presence->reports, report)
        if (slice_equals(slice_of(report->node), node))
            return report;
    return NULL;
}

static bool all_have_reported(const struct presence *presence)
{
    const struct member *member = roster_first(presence->session);
    while (member) {
        const struct member_report *report = find_report(presence, member_node(member));
        if (!report || report->life != member->watch.life)
            return false;
        member = member->next;
    }
    return true;
}

/* A new owner has no rosters yet: for a moment what clients know is truer than its own sum.
 * Until when that is so; 0: it is not. */
static uint64_t new_owner_until(const struct presence *presence)
{
    const struct session *session = presence->session;
    if (!presence->sum || presence->sum_epoch == session->epoch)
        return 0;
    return presence->owner_since + (all_have_reported(presence) ? JOINED_MS : EVERY_MS);
}

static uint64_t earlier(uint64_t at_ms, uint64_t now_ms, uint64_t last_ms)
{
    uint64_t may_ms = last_ms ? last_ms + EVERY_MS : now_ms;
    may_ms = may_ms > now_ms ? may_ms : now_ms;
    return may_ms < at_ms ? may_ms : at_ms;
}

static void note_epoch(struct presence *presence)
{
    if (!is_owner(presence) || presence->owner_epoch == presence->session->epoch)
        return;
    presence->owner_epoch = presence->session->epoch;
    presence->owner_since = presence->session->hub->now_ms;
}

static void schedule(struct presence *presence)
{
    struct hub *hub = presence->session->hub;
    uint64_t now_ms = hub->now_ms, at_ms = now_ms + EVERY_MS;
    note_epoch(presence);
    if (is_owner(presence) && owes_sum(presence)) {
        uint64_t until_ms = new_owner_until(presence);
        at_ms = earlier(at_ms, now_ms, presence->members_sent_ms);
        at_ms = at_ms > until_ms ? at_ms : until_ms;
    }
    if (is_member(presence) && (owes_roster(presence) || presence->owes_word))
        at_ms = earlier(at_ms, now_ms, presence->owner_sent_ms);
    if (presence->due && presence->sum)
        at_ms = earlier(at_ms, now_ms, presence->clients_sent_ms);
    /* What comes every second must not put off what is due in less */
    if (!timer_armed(&presence->timer) || presence->timer.at_ms > at_ms)
        timer_start(&hub->timers, &presence->timer, at_ms, on_timer);
}

static bool may(uint64_t now_ms, uint64_t last_ms)
{
    return !last_ms || now_ms - last_ms >= EVERY_MS;
}

/* --- as a member --- */

static void send_to_owner(struct presence *presence)
{
    struct session *session = presence->session;
    if (owes_roster(presence))
        presence->number = ++session->hub->presence_numbers;
    presence->changed = presence->owes_word = false;
    presence->number_epoch = session->epoch;
    presence->number_joined = membership_joined_number(session);
    presence->owner_sent_ms = session->hub->now_ms;
    struct presence_list *list = own_list(presence, PRESENCE_NAMED);
    struct envelope_item *items = calloc(list->len + 1, sizeof(*items));
    if (!items)
        abort();
    presence_list_items(list, items);
    const struct roster_message message = {
        .epoch = session->epoch,
        .number = presence->number,
        .seen = presence->sum_epoch == session->epoch ? presence->sum_number : 0,
        .wants_word = presence->heard_number != presence->number,
        .more = list->more,
        .watchers = {items, list->len},
    };
    struct envelope roster = roster_encode(&message);
    roster.session = slice_of(session->id);
    node_send(session->hub, slice_of(ownership_owner(session)), &roster);
    free(items);
    free(list);
}

static void act_as_member(struct presence *presence, uint64_t now_ms)
{
    bool owes = owes_roster(presence) || presence->owes_word ||
                presence->heard_number != presence->number;
    if (owes && may(now_ms, presence->owner_sent_ms))
        send_to_owner(presence);
}

/* Takes over the list. */
static void take_sum(struct presence *presence, struct presence_list *list, uint64_t number)
{
    if (!presence_list_same(presence->sum, list))
        presence->due = true;
    free(presence->sum);
    presence->sum = list;
    presence->sum_number = number;
    presence->sum_epoch = presence->session->epoch;
}

void presence_on_presence(struct session *session, const struct envelope *envelope)
{
    struct presence *presence = session ? session->presence : NULL;
    const struct presence_message said = presence_decode(envelope);
    if (!presence || !ownership_is_from_owner(session, envelope->node) ||
        said.epoch != session->epoch || session->state != SESSION_MEMBER ||
        said.watchers.len > PRESENCE_SHOWN)
        return;
    presence->owes_word = true;
    if (said.heard > presence->heard_number)
        presence->heard_number = said.heard;
    if (presence->sum_epoch != said.epoch || said.number > presence->sum_number)
        take_sum(presence, presence_list_read(&said.watchers, said.more), said.number);
    schedule(presence);
}

/* --- as the owner --- */

static void forget_report(struct presence *presence, struct member_report *report)
{
    DL_DELETE(presence->reports, report);
    free(report->list);
    free(report);
}

void presence_on_roster(struct session *session, const struct envelope *envelope)
{
    struct presence *presence = session && session->state == SESSION_OWNER ? presence_of(session)
                                                                           : NULL;
    const struct roster_message said = roster_decode(envelope);
    const struct member *member = presence ? roster_find(session, envelope->node) : NULL;
    if (!member || member->watch.life != envelope->life || said.epoch != session->epoch ||
        said.watchers.len > PRESENCE_NAMED)
        return; /* it will send it again */
    struct member_report *report = find_report(presence, envelope->node);
    if (!report) {
        report = calloc(1, sizeof(*report));
        if (!report)
            abort();
        memcpy(report->node, envelope->node.at, envelope->node.len);
        DL_APPEND(presence->reports, report);
    }
    report->seen = said.seen;
    report->wants_word = said.wants_word;
    if (!report->list || report->life != envelope->life || said.number > report->number) {
        struct presence_list *list = presence_list_read(&said.watchers, said.more);
        presence->changed = presence->changed || !presence_list_same(report->list, list);
        free(report->list);
        report->list = list;
        report->life = envelope->life;
        report->number = said.number;
    }
    schedule(presence);
}

static void forget_gone(struct presence *presence)
{
    struct member_report *report, *next;
    DL_FOREACH_SAFE (presence->reports, report, next) {
        const struct member *member = roster_find(presence->session, slice_of(report->node));
        if (!member || member->watch.life != report->life)
            forget_report(presence, report);
    }
}

static void add_up(struct presence *presence)
{
    struct hub *hub = presence->session->hub;
    struct member_report *report;
    size_t len = 1;
    forget_gone(presence);
    presence->members = members_of(presence->session);
    presence->changed = false;
    DL_FOREACH (presence->reports, report)
        len++;
    const struct presence_list **lists = calloc(len, sizeof(struct presence_list *));
    struct presence_list *own = own_list(presence, PRESENCE_NAMED);
    if (!lists)
        abort();
    lists[0] = own;
    len = 1;
    DL_FOREACH (presence->reports, report)
        lists[len++] = report->list;
    struct presence_list *sum = presence_list_sum(lists, len, PRESENCE_SHOWN);
    bool same = presence_list_same(presence->sum, sum) &&
                presence->sum_epoch == presence->session->epoch;
    take_sum(presence, sum, same ? presence->sum_number : ++hub->presence_numbers);
    free(own);
    free(lists);
}

static void send_to_member(const struct presence *presence, struct member_report *report)
{
    struct session *session = presence->session;
    struct envelope_item items[PRESENCE_SHOWN];
    presence_list_items(presence->sum, items);
    const struct presence_message message = {
        .epoch = session->epoch,
        .number = presence->sum_number,
        .heard = report->number,
        .more = presence->sum->more,
        .watchers = {items, presence->sum->len},
    };
    struct envelope envelope = presence_encode(&message);
    envelope.session = slice_of(session->id);
    report->wants_word = false;
    node_send(session->hub, slice_of(report->node), &envelope);
}

static void act_as_owner(struct presence *presence, uint64_t now_ms)
{
    note_epoch(presence);
    struct member_report *report;
    bool any = false;
    if (now_ms < new_owner_until(presence) || !may(now_ms, presence->members_sent_ms))
        return;
    if (owes_sum(presence))
        add_up(presence);
    DL_FOREACH (presence->reports, report) {
        if (report->seen == presence->sum_number && !report->wants_word)
            continue;
        send_to_member(presence, report);
        any = true;
    }
    if (any)
        presence->members_sent_ms = now_ms;
}

/* --- what is due --- */

static void on_timer(struct timer *timer, uint64_t now_ms)
{
    struct presence *presence = CONTAINER_OF(timer, struct presence, timer);
    struct session *session = presence->session;
    if (is_owner(presence))
        act_as_owner(presence, now_ms);
    else if (is_member(presence))
        act_as_member(presence, now_ms);
    if (presence->due && presence->sum && may(now_ms, presence->clients_sent_ms)) {
        presence->due = false;
        presence->clients_sent_ms = now_ms;
        emit_presence(session, presence->sum->users, presence->sum->len, presence->sum->more);
    }
    schedule(presence);
}

struct watcher *presence_find(const struct session *session, const char *user)
{
    struct watcher *watcher = NULL;
    const char *name = user ? user : "";
    if (session->presence)
        HASH_FIND(hh, session->presence->watchers, name, strlen(name), watcher);
    return watcher;
}

struct watcher *presence_came(struct session *session, const char *user)
{
    struct presence *presence = presence_of(session);
    const char *name = user ? user : "";
    size_t len = strlen(name);
    if (!presence)
        return NULL;
    struct watcher *watcher = presence_find(session, user);
    if (!watcher) {
        watcher = calloc(1, sizeof(*watcher) + len + 1);
        if (!watcher)
            abort(); /* of a URL's user */
        memcpy(watcher->user, name, len);
        HASH_ADD_KEYPTR(hh, presence->watchers, watcher->user, len, watcher);
    }
    watcher->clients++;
    presence->changed = true;
    schedule(presence);
    return watcher;
}

void presence_left(struct session *session, struct watcher *watcher)
{
    struct presence *presence = session->presence;
    if (!presence || !watcher)
        return;
    if (!--watcher->clients) {
        HASH_DEL(presence->watchers, watcher);
        free(watcher);
    }
    presence->changed = true;
    schedule(presence);
}

void presence_welcomed(struct session *session)
{
    if (!session->presence)
        return;
    session->presence->due = true;
    schedule(session->presence);
}

void presence_moved(struct session *session)
{
    if (session->presence)
        schedule(session->presence);
}

uint64_t presence_shown(const struct session *session, const char *user)
{
    const struct presence_list *sum = session->presence ? session->presence->sum : NULL;
    for (size_t i = 0; sum && i < sum->len; i++)
        if (!strcmp(sum->users[i].user, user))
            return sum->users[i].clients;
    return 0;
}

void presence_fini(struct session *session)
{
    struct presence *presence = session->presence;
    struct watcher *watcher, *next;
    if (!presence)
        return;
    session->presence = NULL;
    timer_stop(&session->hub->timers, &presence->timer);
    HASH_ITER (hh, presence->watchers, watcher, next) {
        /* The analyzer does not follow uthash. NOLINTNEXTLINE(clang-analyzer-unix.Malloc) */
        HASH_DEL(presence->watchers, watcher);
        free(watcher);
    }
    while (presence->reports)
        forget_report(presence, presence->reports);
    free(presence->sum);
    free(presence);
}

void presence_free_all(struct hub *hub)
{
    struct session *session, *next;
    HASH_ITER (hh, hub->sessions->by_id, session, next)
        presence_fini(session);
}
