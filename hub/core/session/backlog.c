#include "core/session/backlog.h"

#include <assert.h>
#include <stdlib.h>

#include "common/log.h"
#include "common/metrics.h"

#define PUBLISH_COUNT    500         /* publications in one call of the script */
#define PUBLISH_BYTES    (1u << 20)  /* payload in one call, but for a single larger one */
#define KEPT_BYTES       (64u << 20) /* contract section 9: what all sessions of a node keep */
#define CREDIT_BYTES     (4u << 20)  /* of what is made up for, that may be unanswered */
#define WRITTEN_A_TURN   (2u << 20)  /* bytes of it in one turn */
#define SESSIONS_A_TURN  500         /* that are begun with in one turn */
#define SETTLE_MS        1200        /* links to Redis are tried again each second at the latest */
#define RING_BYTES       (1u << 20)  /* of one session */
#define DISCARDED_A_TURN 2000        /* publications that are freed in one turn */
#define TOLD_END_MS      60000       /* whose subscription is broken is back by then */
#define TTL_STEPS        50          /* of history.ttl, in which it is set anew, */
#define TTL_STEP_MS      1000        /* and not later than this */
#define LATE_STEPS       8 /* in which history.every passes: sessions due are written together */

static const char *const state_names[BACKLOG_STATES] = {"live", "late", "held", "settling",
                                                        "waiting"};

/* What the record says of this epoch: does its owner write late? */
enum mark {
    MARK_NONE,
    MARK_UNSURE, /* what the store was told may not have reached it, or be lost */
    MARK_ASKED,  /* it is told so, with the publication of mark_tag */
    MARK_SET,
};

/* A publication that the store has not confirmed. */
struct kept {
    struct publication *publication;
    struct backlog *backlog;
    struct kept *next_here;   /* of the same session, younger */
    struct kept *prev, *next; /* of all sessions, by age */
};

struct ring_item {
    struct publication *publication;
    uint64_t placed_ms; /* own clock */
};

struct ring {
    struct ring_item *items;
    uint32_t head, len, cap;
    size_t bytes;
};

struct backlog {
    struct session *session;
    enum backlog_state state;
    uint64_t placed;
    uint64_t local;            /* the last offset, where nobody elsewhere wanted it; else 0 */
    struct pubs to_bus;        /* of this turn */
    struct pubs aside;         /* have no place yet */
    struct kept *first, *last; /* unconfirmed, oldest first */
    size_t len;                /* of these */
    struct timer timer;        /* SETTLING, LATE */
    struct kept *unsent;       /* LATE, HELD, WAITING: the first that is to be sent (again) */
    bool alone;                /* its history may be written late */
    enum mark mark;
    uint64_t mark_tag;
    uint64_t lives_from_ms;     /* when the history's time to live was set; 0: not in this epoch */
    uint64_t append_younger_ms; /* of the ring, by the next resume; 0: nothing of it */
    size_t ring_credit;         /* credit it has for what it appends, */
    size_t kept_credit;         /* and for what it sends again */
    uint64_t publish_until_ms;
    struct position lost_end; /* not told to the channel yet */
    struct position told_end;
    uint64_t told_end_ms;
    struct ring ring;
    struct backlog *prev, *next; /* WAITING: in the row */
};

/* Of a node. */
struct backlogs {
    struct hub *hub;
    struct kept *kept; /* of all sessions, oldest first */
    size_t bytes;      /* what they cost */
    struct backlog *row;
    size_t in_flight; /* credit that is taken */
    struct timer more;
    struct kept *discarded; /* of backlogs that were dropped, to be freed */
    struct timer discard;
};

static void free_discarded(struct backlogs *all, size_t n)
{
    for (; all->discarded && n; n--) {
        struct kept *kept = all->discarded;
        all->discarded = kept->next_here;
        publication_unref(kept->publication);
        free(kept);
    }
}

static void on_discard(struct timer *timer, uint64_t now_ms)
{
    struct backlogs *all = CONTAINER_OF(timer, struct backlogs, discard);
    free_discarded(all, DISCARDED_A_TURN);
    if (all->discarded)
        timer_start(&all->hub->timers, timer, now_ms, on_discard);
}

void backlogs_new(struct hub *hub)
{
    struct backlogs *backlogs = calloc(1, sizeof(*backlogs));
    if (!backlogs)
        abort();
    backlogs->hub = hub;
    hub->sessions->backlogs = backlogs;
}

void backlogs_free(struct hub *hub)
{
    struct backlogs *backlogs = hub->sessions->backlogs;
    assert(!backlogs->kept && !backlogs->row && !backlogs->bytes);
    timer_stop(&hub->timers, &backlogs->more);
    timer_stop(&hub->timers, &backlogs->discard);
    free_discarded(backlogs, SIZE_MAX);
    free(backlogs);
    hub->sessions->backlogs = NULL;
}

static struct backlogs *all_of(const struct backlog *backlog)
{
    return backlog->session->hub->sessions->backlogs;
}

void backlog_new(struct session *session)
{
    session->backlog = calloc(1, sizeof(*session->backlog));
    if (!session->backlog)
        abort();
    session->backlog->session = session;
}

/* --- the ring --- */

static struct ring_item *item_at(const struct ring *ring, uint32_t i)
{
    return &ring->items[(ring->head + i) % ring->cap];
}

static void ring_grow(struct ring *ring, uint32_t size)
{
    uint32_t cap = ring->cap ? ring->cap * 2 : 4;
    cap = cap < size ? cap : size;
    struct ring_item *items = malloc(cap * sizeof(*items));
    if (!items)
        abort();
    for (uint32_t i = 0; i < ring->len; i++)
        items[i] = *item_at(ring, i);
    free(ring->items);
    *ring = (struct ring){items, 0, ring->len, cap, ring->bytes};
}

static void ring_add(struct session *session, struct publication *publication)
{
    struct ring *ring = &session->backlog->ring;
    uint32_t size = session->service->history.size;
    if (!size)
        return;
    if (ring->len == ring->cap && ring->cap < size)
        ring_grow(ring, size);
    while (ring->len &&
           (ring->len == ring->cap || ring->bytes + pubs_cost(publication) > RING_BYTES)) {
        struct publication *oldest = item_at(ring, 0)->publication;
        ring->bytes -= pubs_cost(oldest);
        ring->head = (ring->head + 1) % ring->cap;
        ring->len--;
        publication_unref(oldest);
    }
    ring->len++;
    *item_at(ring, ring->len - 1) = (struct ring_item){publication_ref(publication),
                                                       session->hub->now_ms};
    ring->bytes += pubs_cost(publication);
}

static void ring_clear(struct ring *ring)
{
    for (uint32_t i = 0; i < ring->len; i++)
        publication_unref(item_at(ring, i)->publication);
    free(ring->items);
    *ring = (struct ring){0};
}

uint32_t ring_len(const struct session *session)
{
    return session->backlog->ring.len;
}

struct publication *ring_at(const struct session *session, uint32_t i)
{
    return item_at(&session->backlog->ring, i)->publication;
}

bool ring_holds(const struct session *session, struct position after)
{
    if (after.epoch != session->epoch)
        return false;
    return after.offset >= session->backlog->placed ||
           (ring_len(session) && ring_at(session, 0)->at.offset <= after.offset + 1);
}

/* --- what is kept --- */

static size_t cost(const struct publication *publication)
{
    return pubs_cost(publication) + sizeof(struct kept);
}

static void give_credit(struct backlogs *all, size_t *credit, size_t bytes)
{
    bytes = bytes < *credit ? bytes : *credit;
    *credit -= bytes;
    all->in_flight -= bytes;
}

static void forget_first(struct backlog *backlog)
{
    struct backlogs *all = all_of(backlog);
    struct kept *kept = backlog->first;
    size_t bytes = cost(kept->publication);
    if (backlog->unsent == kept)
        backlog->unsent = kept->next_here;
    backlog->first = kept->next_here;
    if (!backlog->first)
        backlog->last = NULL;
    DL_DELETE(all->kept, kept);
    backlog->len--;
    all->bytes -= bytes;
    give_credit(all, &backlog->kept_credit, bytes);
    publication_unref(kept->publication);
    free(kept);
}

/* Beyond the bound of the node the oldest goes, whosever it is; one alone may be larger. */
static void keep_bound(struct backlogs *all)
{
    uint64_t dropped = 0;
    for (; all->bytes > KEPT_BYTES && all->kept->next; dropped++)
        forget_first(all->kept->backlog);
    if (dropped)
        metric_drop(DROP_GAP, dropped);
}

static struct kept *keep(struct backlog *backlog, struct publication *publication)
{
    struct backlogs *all = all_of(backlog);
    struct kept *kept = malloc(sizeof(*kept));
    if (!kept)
        abort();
    *kept = (struct kept){.publication = publication_ref(publication), .backlog = backlog};
    if (backlog->last)
        backlog->last->next_here = kept;
    else
        backlog->first = kept;
    backlog->last = kept;
    DL_APPEND(all->kept, kept);
    backlog->len++;
    all->bytes += cost(publication);
    return kept;
}

/* --- the state --- */

static void return_credit(struct backlog *backlog)
{
    struct backlogs *all = all_of(backlog);
    give_credit(all, &backlog->ring_credit, backlog->ring_credit);
    give_credit(all, &backlog->kept_credit, backlog->kept_credit);
}

static void set_state(struct backlog *backlog, enum backlog_state state)
{
    static const bool legal[BACKLOG_STATES][BACKLOG_STATES] = {
        /* to:               live late held settling waiting */
        [BACKLOG_LIVE] = {true, true, true, true, true},
        [BACKLOG_LATE] = {true, true, true, false, true},
        [BACKLOG_HELD] = {true, false, true, true, true},
        [BACKLOG_SETTLING] = {true, false, true, true, true},
        [BACKLOG_WAITING] = {true, false, true, false, true},
    };
    struct backlogs *all = all_of(backlog);
    assert(legal[backlog->state][state]);
    if (backlog->state == state)
        return;
    if (backlog->state == BACKLOG_WAITING)
        DL_DELETE(all->row, backlog);
    if (state == BACKLOG_WAITING)
        DL_APPEND(all->row, backlog);
    backlog->state = state;
    timer_stop(&all->hub->timers, &backlog->timer);
    log_debug("backlog", LOG_STR("session", backlog->session->id),
              LOG_STR("state", state_names[state]));
}

static void doubt_mark(struct backlog *backlog)
{
    backlog->lives_from_ms = 0;
    backlog->mark = backlog->session->service->history.every_ms ? MARK_UNSURE : MARK_NONE;
}

/* What was sent and is not answered is to be sent again. */
static void hold(struct backlog *backlog)
{
    return_credit(backlog);
    doubt_mark(backlog);
    if (backlog->state != BACKLOG_HELD)
        backlog->unsent = NULL;
    set_state(backlog, BACKLOG_HELD);
}

/* --- publishing --- */

/* Tags: that of what is announced is twice its last offset; that of what is only appended is odd.
 */
static uint64_t tag_of(struct position last, bool announce)
{
    return last.offset * 2 + !announce;
}

/* What is announced tells the store where writing late begins, and where it ends. */
static unsigned how_to_announce(struct backlog *backlog, uint64_t tag)
{
    if (backlog->alone && backlog->mark < MARK_ASKED) {
        backlog->mark = MARK_ASKED;
        backlog->mark_tag = tag;
        return BUS_ANNOUNCE | BUS_LATE;
    }
    if (backlog->alone || backlog->mark == MARK_NONE)
        return BUS_ANNOUNCE;
    backlog->mark = MARK_NONE;
    return BUS_ANNOUNCE | BUS_PROMPT;
}

/* It is set anew each second; most publications leave it as it is, and the last one may live so
 * much shorter. 0: as it is. */
static uint64_t time_to_live_ms(struct backlog *backlog)
{
    uint64_t now_ms = backlog->session->hub->now_ms;
    uint64_t ttl_ms = backlog->session->service->history.ttl_ms, step_ms = ttl_ms / TTL_STEPS;
    if (step_ms > TTL_STEP_MS)
        step_ms = TTL_STEP_MS;
    if (backlog->lives_from_ms && now_ms - backlog->lives_from_ms < step_ms)
        return 0;
    backlog->lives_from_ms = now_ms;
    return ttl_ms;
}

/* One script call for each run of publications within the bounds. */
static void publish(struct session *session, struct publication *const *items, size_t len,
                    bool announce)
{
    struct hub *hub = session->hub;
    const struct service *service = session->service;
    for (size_t from = 0; from < len;) {
        size_t n = 0, bytes = 0;
        while (from + n < len && n < PUBLISH_COUNT &&
               (!n || bytes + items[from + n]->len <= PUBLISH_BYTES) &&
               items[from + n]->at.epoch == items[from]->at.epoch)
            bytes += items[from + n++]->len;
        uint64_t tag = tag_of(items[from + n - 1]->at, announce);
        unsigned how = announce ? how_to_announce(session->backlog, tag) : BUS_QUIETLY;
        hub->bus->ops->publish(hub->bus, session->id, tag, items[from]->at.epoch, items + from, n,
                               service->history.size, time_to_live_ms(session->backlog), how);
        metric_add(METRIC_BUS_PUBLISHED, n);
        from += n;
    }
}

/* What is not confirmed is published again: it must not be in the history without having been
 * announced. */
static bool is_only_appended(const struct backlog *backlog, const struct ring_item *item)
{
    const struct publication *publication = item->publication;
    if (backlog->first && position_compare(publication->at, backlog->first->publication->at) >= 0)
        return false;
    if (backlog->to_bus.len && position_compare(publication->at, backlog->to_bus.items[0]->at) >= 0)
        return false;
    return backlog->session->hub->now_ms - item->placed_ms <= backlog->append_younger_ms;
}

/* Returns how many bytes. */
static size_t append_ring(struct backlog *backlog)
{
    const struct ring *ring = &backlog->ring;
    struct pubs pubs = {0};
    size_t bytes = 0;
    for (uint32_t i = 0; backlog->append_younger_ms && i < ring->len; i++) {
        const struct ring_item *item = item_at(ring, i);
        if (!is_only_appended(backlog, item))
            continue;
        pubs_add(&pubs, item->publication);
        bytes += cost(item->publication);
    }
    publish(backlog->session, pubs.items, pubs.len, false);
    pubs_fini(&pubs);
    backlog->append_younger_ms = 0;
    backlog->ring_credit += bytes;
    all_of(backlog)->in_flight += bytes;
    return bytes;
}

/* The next portion of what is kept. Returns how many bytes. */
static size_t send_kept(struct backlog *backlog)
{
    struct publication *items[PUBLISH_COUNT];
    size_t n = 0, bytes = 0;
    struct kept *kept = backlog->unsent;
    for (; kept && n < PUBLISH_COUNT && (!n || bytes < PUBLISH_BYTES); kept = kept->next_here) {
        items[n++] = kept->publication;
        bytes += cost(kept->publication);
    }
    publish(backlog->session, items, n, true);
    backlog->unsent = kept;
    backlog->kept_credit += bytes;
    all_of(backlog)->in_flight += bytes;
    return bytes;
}

static void on_more(struct timer *timer, uint64_t now_ms);

/* Writes what the credit and the budget of the turn allow, one session after the other. */
static void make_up(struct backlogs *all)
{
    size_t written = 0, begun = 0;
    if (!all->row || !node_may_write(all->hub))
        return; /* without a lease what waits is dropped where the turn ends */
    while (all->row && all->in_flight < CREDIT_BYTES && written < WRITTEN_A_TURN &&
           begun < SESSIONS_A_TURN) {
        struct backlog *backlog = all->row;
        if (backlog->append_younger_ms) {
            written += append_ring(backlog);
            begun++;
        } else if (backlog->unsent) {
            written += send_kept(backlog);
        } else {
            set_state(backlog, BACKLOG_LIVE);
        }
    }
    if (all->row && all->in_flight < CREDIT_BYTES)
        timer_start(&all->hub->timers, &all->more, all->hub->now_ms, on_more);
}

static void on_more(struct timer *timer, uint64_t now_ms)
{
    (void)now_ms;
    make_up(CONTAINER_OF(timer, struct backlogs, more));
}

/* It was delivered here and reaches no other node. */
static void lose_end(struct backlog *backlog, struct position last)
{
    if (position_compare(backlog->lost_end, last) < 0)
        backlog->lost_end = last;
}

/* What was to go out in an epoch that is over can't any more. */
static void drop_of_old_epochs(struct backlog *backlog)
{
    uint64_t dropped = 0;
    for (; backlog->first && backlog->first->publication->at.epoch < backlog->session->epoch;
         dropped++) {
        lose_end(backlog, backlog->first->publication->at);
        forget_first(backlog);
    }
    if (dropped)
        metric_drop(DROP_STALE_EPOCH, dropped);
}

static void begin_to_write(struct backlog *backlog)
{
    if (backlog->state != BACKLOG_LATE) /* of that what was sent is under way */
        backlog->unsent = backlog->first;
    set_state(backlog, BACKLOG_WAITING);
}

static void on_due(struct timer *timer, uint64_t now_ms)
{
    (void)now_ms;
    session_mark_dirty(CONTAINER_OF(timer, struct backlog, timer)->session);
}

/* Their time has passed: it ends where the turn does. */
static bool is_due(const struct backlog *backlog)
{
    return (backlog->state == BACKLOG_SETTLING || backlog->state == BACKLOG_LATE) &&
           !timer_armed(&backlog->timer);
}

void backlog_resume(struct session *session, uint64_t younger_ms, bool others)
{
    struct backlog *backlog = session->backlog;
    drop_of_old_epochs(backlog);
    return_credit(backlog);
    doubt_mark(backlog);
    if (backlog->state == BACKLOG_LATE)
        hold(backlog);
    if (younger_ms != UINT64_MAX)
        younger_ms += session->service->history.every_ms; /* written so long after it was placed */
    if (younger_ms > backlog->append_younger_ms)
        backlog->append_younger_ms = younger_ms;
    if (others && backlog->len > session->service->history.size && backlog->state == BACKLOG_HELD) {
        set_state(backlog, BACKLOG_SETTLING);
        timer_start(&session->hub->timers, &backlog->timer, session->hub->now_ms + SETTLE_MS,
                    on_due);
        return;
    }
    begin_to_write(backlog);
    make_up(all_of(backlog));
}

void backlog_finish(struct session *session)
{
    struct backlog *backlog = session->backlog;
    if (backlog->state == BACKLOG_SETTLING || backlog->state == BACKLOG_LATE)
        begin_to_write(backlog);
    if (backlog->state != BACKLOG_WAITING || !node_may_write(session->hub))
        return;
    append_ring(backlog);
    while (backlog->unsent)
        send_kept(backlog);
    set_state(backlog, BACKLOG_LIVE);
}

void backlog_hurry(struct session *session, bool others)
{
    struct backlog *backlog = session->backlog;
    struct hub *hub = session->hub;
    backlog->alone = backlog->alone && !others;
    if (backlog->state == BACKLOG_LATE)
        backlog_finish(session);
    if (backlog->state != BACKLOG_LIVE || backlog->alone || backlog->mark == MARK_NONE)
        return;
    /* Nothing waited: the store is told all the same that nothing is late from here on */
    backlog->mark = MARK_NONE;
    hub->bus->ops->publish(hub->bus, session->id, 0, session->epoch, NULL, 0, 0, 0, BUS_PROMPT);
}

void backlog_append_all(struct session *session)
{
    session->backlog->append_younger_ms = UINT64_MAX;
}

void backlogs_on_disconnected(struct hub *hub)
{
    struct backlogs *all = hub->sessions->backlogs;
    while (all->row)
        hold(all->row);
}

bool backlog_is_live(const struct session *session)
{
    return session->backlog->state == BACKLOG_LIVE;
}

bool backlog_has_news(const struct session *session)
{
    return session->backlog->to_bus.len != 0;
}

/* Nobody else waits for it, or is on its way: members that a new owner does not know of yet have
 * some time. */
static bool may_be_late(const struct session *session, bool others)
{
    return !others && session->hub->bus->shared && session->service->history.size &&
           session->service->history.every_ms &&
           session->hub->now_ms >= session->backlog->publish_until_ms;
}

/* In steps, so that many sessions are due in one turn; not later than history.every. */
static void begin_late(struct backlog *backlog, struct kept *first)
{
    struct hub *hub = backlog->session->hub;
    uint64_t every_ms = backlog->session->service->history.every_ms;
    uint64_t step_ms = every_ms > LATE_STEPS ? every_ms / LATE_STEPS : 1;
    uint64_t due_ms = hub->now_ms + every_ms;
    backlog->unsent = first;
    set_state(backlog, BACKLOG_LATE);
    timer_start(&hub->timers, &backlog->timer, due_ms - due_ms % step_ms, on_due);
}

static void write_news(struct backlog *backlog)
{
    struct pubs *news = &backlog->to_bus;
    struct kept *first = NULL;
    for (size_t i = 0; i < news->len; i++) {
        struct kept *kept = keep(backlog, news->items[i]);
        first = first ? first : kept;
    }
    if (backlog->state != BACKLOG_LIVE)
        backlog->unsent = backlog->unsent ? backlog->unsent : first;
    else if (backlog->alone && backlog->mark == MARK_SET)
        begin_late(backlog, first);
    else
        publish(backlog->session, news->items, news->len, true);
    pubs_clear(news);
}

/* What waits longer than it has to: where others have come, or much waits. */
static bool is_urgent(const struct backlog *backlog)
{
    return backlog->state == BACKLOG_LATE &&
           (!backlog->alone || all_of(backlog)->bytes > CREDIT_BYTES);
}

void backlog_flush(struct session *session, bool may_publish, bool others)
{
    struct backlog *backlog = session->backlog;
    struct pubs *news = &backlog->to_bus;
    backlog->alone = may_be_late(session, others);
    if (backlog->state == BACKLOG_LATE && !may_publish)
        hold(backlog);
    if (news->len && !node_may_write(session->hub)) {
        metric_drop(DROP_FENCED, news->len);
        pubs_clear(news);
        return;
    }
    if (news->len && !may_publish)
        hold(backlog);
    if (news->len)
        write_news(backlog);
    if (is_due(backlog) || is_urgent(backlog)) {
        if (may_publish)
            begin_to_write(backlog);
        else
            hold(backlog);
        make_up(all_of(backlog));
    }
    keep_bound(all_of(backlog));
}

enum status backlog_on_published(struct session *session, uint64_t tag, enum status status)
{
    struct backlog *backlog = session->backlog;
    struct backlogs *all = all_of(backlog);
    bool announced = tag % 2 == 0;
    if (status == STATUS_IO || status == STATUS_REFUSED) {
        bool matters = session_is_owned(session) &&
                       (status == STATUS_IO ? announced || backlog->state == BACKLOG_WAITING
                                            : backlog->first != NULL);
        if (matters)
            hold(backlog);
        else
            return_credit(backlog);
        return matters ? status : STATUS_OK;
    }
    if (status == STATUS_NO_MEMORY && announced)
        metric_add(METRIC_HISTORY_REFUSED, 1);
    if (backlog->mark == MARK_ASKED && tag == backlog->mark_tag)
        backlog->mark = MARK_SET;
    if (!announced)
        give_credit(all, &backlog->ring_credit, backlog->ring_credit);
    while (announced && backlog->first && backlog->first != backlog->unsent &&
           backlog->first->publication->at.offset <= tag / 2)
        forget_first(backlog);
    make_up(all);
    return STATUS_OK;
}

/* --- places --- */

void backlog_publish_until(struct session *session, uint64_t until_ms)
{
    session->backlog->publish_until_ms = until_ms;
}

void backlog_begin_epoch(struct session *session)
{
    session->backlog->placed = session->backlog->local = 0;
    session->backlog->mark = MARK_NONE;
    session->backlog->lives_from_ms = 0;
    ring_clear(&session->backlog->ring);
    set_state(session->backlog, BACKLOG_LIVE);
}

static bool wants_bus(const struct session *session, bool others)
{
    return others || session->service->history.size ||
           (session->hub->bus->shared && session->hub->now_ms < session->backlog->publish_until_ms);
}

void backlog_place(struct session *session, struct publication *publication, bool others)
{
    struct backlog *backlog = session->backlog;
    publication->at = (struct position){session->epoch, ++backlog->placed};
    publication->time_ms = node_unix_ms(session->hub);
    ring_add(session, publication);
    if (wants_bus(session, others)) {
        backlog->local = 0;
        pubs_add(&backlog->to_bus, publication);
    } else {
        backlog->local = backlog->placed;
    }
}

struct position backlog_skip(struct session *session)
{
    return (struct position){session->epoch, ++session->backlog->placed};
}

void backlog_set_aside(struct session *session, struct publication *publication)
{
    pubs_add(&session->backlog->aside, publication);
}

struct pubs backlog_take_aside(struct session *session)
{
    struct pubs aside = session->backlog->aside;
    session->backlog->aside = (struct pubs){0};
    return aside;
}

uint64_t backlog_placed(const struct session *session)
{
    return session->backlog->placed;
}

uint64_t backlog_on_the_way(const struct session *session)
{
    const struct backlog *backlog = session->backlog;
    const struct publication *first = backlog->first        ? backlog->first->publication
                                      : backlog->to_bus.len ? backlog->to_bus.items[0]
                                                            : NULL;
    if (!first || first->at.epoch != session->epoch)
        return 0;
    return backlog->placed - first->at.offset + 1;
}

/* --- the end --- */

/* Takes all that is kept from the node's list, and leaves it to be freed: what a node keeps for all
 * its sessions, 64 MiB, goes with one fence. Returns how many. */
static size_t discard(struct backlog *backlog)
{
    struct backlogs *all = all_of(backlog);
    size_t len = backlog->len;
    for (struct kept *kept = backlog->first; kept; kept = kept->next_here) {
        DL_DELETE(all->kept, kept);
        all->bytes -= cost(kept->publication);
    }
    if (backlog->last) {
        backlog->last->next_here = all->discarded;
        all->discarded = backlog->first;
        timer_start(&all->hub->timers, &all->discard, all->hub->now_ms, on_discard);
    }
    backlog->first = backlog->last = backlog->unsent = NULL;
    backlog->len = 0;
    return len;
}

void backlog_drop(struct session *session)
{
    struct backlog *backlog = session->backlog;
    uint64_t dropped = backlog->to_bus.len + backlog->aside.len;
    /* Also where the last ones were for the clients here alone: a member that this node had taken
     * for dead may be there all the same. */
    if (backlog->placed && (backlog->first || backlog->to_bus.len || backlog->local))
        lose_end(backlog, (struct position){session->epoch, backlog->placed});
    else if (backlog->last)
        lose_end(backlog, backlog->last->publication->at);
    dropped += discard(backlog);
    return_credit(backlog);
    backlog->mark = MARK_NONE;
    set_state(backlog, BACKLOG_LIVE);
    if (dropped)
        metric_drop(DROP_STALE_EPOCH, dropped);
    pubs_clear(&backlog->to_bus);
    pubs_clear(&backlog->aside);
    ring_clear(&backlog->ring);
    backlog->append_younger_ms = 0;
}

struct position backlog_lost_end(const struct session *session)
{
    return session->backlog->lost_end;
}

void backlog_lost_end_told(struct session *session)
{
    struct backlog *backlog = session->backlog;
    backlog->told_end = backlog->lost_end;
    backlog->told_end_ms = session->hub->now_ms;
    backlog->lost_end = (struct position){0};
}

struct position backlog_told_end(const struct session *session)
{
    const struct backlog *backlog = session->backlog;
    bool counts = session->hub->now_ms - backlog->told_end_ms < TOLD_END_MS;
    return counts ? backlog->told_end : (struct position){0};
}

void backlog_free(struct session *session)
{
    struct backlog *backlog = session->backlog;
    while (backlog->first)
        forget_first(backlog);
    return_credit(backlog);
    set_state(backlog, BACKLOG_LIVE);
    pubs_fini(&backlog->to_bus);
    pubs_fini(&backlog->aside);
    ring_clear(&backlog->ring);
    free(backlog);
    session->backlog = NULL;
}

void backlog_check(const struct session *session)
{
    const struct backlog *backlog = session->backlog;
    const struct backlogs *all = all_of(backlog);
    bool unsent = false;
    for (const struct kept *kept = backlog->first; kept; kept = kept->next_here) {
        assert(kept->backlog == backlog);
        unsent = unsent || kept == backlog->unsent;
        assert(kept->next_here || kept == backlog->last);
    }
    assert(unsent == (backlog->unsent != NULL));
    assert(backlog->state != BACKLOG_LIVE || !backlog->unsent);
    assert(backlog->state == BACKLOG_SETTLING || backlog->state == BACKLOG_LATE ||
           !timer_armed(&backlog->timer));
    /* Nobody else waits for what is written late, and who takes over knows that it may be missing
     */
    assert(backlog->state != BACKLOG_LATE || (backlog->alone && backlog->mark == MARK_SET));
    assert(backlog->ring_credit + backlog->kept_credit <= all->in_flight);
    assert(all->bytes <= KEPT_BYTES || !all->kept->next);
    assert(session_is_owned(session) || !backlog->first);
}
