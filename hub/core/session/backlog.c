#include "core/session/backlog.h"

#include <assert.h>
#include <stdlib.h>

#include "common/log.h"
#include "common/metrics.h"
#include "core/session/backlog_end.h"
#include "core/session/backlog_items.h"
#include "core/session/backlog_publish.h"
#include "core/session/backlog_ring.h"
#include "core/session/backlog_row.h"

#define SETTLE_MS 1200 /* links to Redis are tried again each second at the latest */

static const char *const state_names[BACKLOG_STATES] = {"live", "late", "held", "settling",
                                                        "waiting"};

struct backlog {
    struct session *session;
    enum backlog_state state;
    struct timer timer; /* SETTLING, LATE */
    uint64_t placed;
    uint64_t local;     /* the last offset, where nobody elsewhere wanted it; else 0 */
    struct pubs to_bus; /* of this turn */
    struct pubs aside;  /* have no place yet */
    bool may_be_late;   /* nobody but the history waits for what is placed */
    struct backlog_end end;
    struct backlog_ring ring;
    struct backlog_items items;
    struct backlog_publish publish;
    struct backlog_place place; /* WAITING: in the row */
};

/* Of a node. */
struct backlogs {
    struct backlog_store store;
    struct backlog_row row;
};

static enum backlog_written write_portion(struct backlog_place *place, size_t *bytes);

void backlogs_new(struct hub *hub)
{
    struct backlogs *backlogs = calloc(1, sizeof(*backlogs));
    if (!backlogs)
        abort();
    backlog_store_init(&backlogs->store, hub);
    backlog_row_init(&backlogs->row, hub, write_portion);
    hub->sessions->backlogs = backlogs;
}

void backlogs_free(struct hub *hub)
{
    struct backlogs *backlogs = hub->sessions->backlogs;
    backlog_row_fini(&backlogs->row);
    backlog_store_fini(&backlogs->store);
    free(backlogs);
    hub->sessions->backlogs = NULL;
}

static struct backlogs *all_of(const struct backlog *backlog)
{
    return backlog->session->hub->sessions->backlogs;
}

void backlog_new(struct session *session)
{
    struct backlog *backlog = calloc(1, sizeof(*backlog));
    if (!backlog)
        abort();
    backlog->session = session;
    struct backlogs *all = all_of(backlog);
    backlog->ring.credit.in_flight = &all->row.in_flight;
    backlog_items_init(&backlog->items, &all->store, &all->row.in_flight);
    backlog_publish_init(&backlog->publish, session);
    session->backlog = backlog;
}

uint32_t ring_len(const struct session *session)
{
    return session->backlog->ring.len;
}

struct publication *ring_at(const struct session *session, uint32_t i)
{
    return backlog_ring_item_at(&session->backlog->ring, i)->publication;
}

bool ring_holds(const struct session *session, struct position after)
{
    if (after.epoch != session->epoch)
        return false;
    return after.offset >= session->backlog->placed ||
           (ring_len(session) && ring_at(session, 0)->at.offset <= after.offset + 1);
}

/* --- the state --- */

static void return_credit(struct backlog *backlog)
{
    backlog_credit_return_all(&backlog->ring.credit);
    backlog_credit_return_all(&backlog->items.credit);
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
        backlog_row_remove(&all->row, &backlog->place);
    if (state == BACKLOG_WAITING)
        backlog_row_add(&all->row, &backlog->place);
    backlog->state = state;
    timer_stop(&backlog->session->hub->timers, &backlog->timer);
    log_debug("backlog", LOG_STR("session", backlog->session->id),
              LOG_STR("state", state_names[state]));
}

/* What was sent and is not answered is to be sent again. */
static void hold(struct backlog *backlog)
{
    return_credit(backlog);
    backlog_publish_doubt(&backlog->publish);
    if (backlog->state != BACKLOG_HELD)
        backlog->items.cursor = NULL;
    set_state(backlog, BACKLOG_HELD);
}

/* Returns the first publication that the store has not confirmed, or NULL. */
static const struct publication *first_unconfirmed(const struct backlog *backlog)
{
    if (backlog->items.first)
        return backlog->items.first->publication;
    return backlog->to_bus.len ? backlog->to_bus.items[0] : NULL;
}

/* Appends what of the last publications the store may have lost. What is not confirmed is published
 * again: it must not be in the history without having been announced. Returns how many bytes. */
static size_t append_ring(struct backlog *backlog)
{
    struct pubs pubs = {0};
    size_t bytes = backlog_ring_take(&backlog->ring, backlog->session->hub->now_ms,
                                     first_unconfirmed(backlog), &pubs);
    backlog_publish_append(&backlog->publish, pubs.items, pubs.len);
    pubs_fini(&pubs);
    return bytes;
}

/* The next portion of what is kept. Returns how many bytes. */
static size_t send_kept(struct backlog *backlog)
{
    struct publication *items[PUBLISH_COUNT];
    size_t bytes,
        n = backlog_items_take(&backlog->items, items, PUBLISH_COUNT, PUBLISH_BYTES, &bytes);
    backlog_publish_announce(&backlog->publish, items, n, backlog->may_be_late);
    return bytes;
}

static enum backlog_written write_portion(struct backlog_place *place, size_t *bytes)
{
    struct backlog *backlog = CONTAINER_OF(place, struct backlog, place);
    if (backlog->ring.append_younger_ms) {
        *bytes = append_ring(backlog);
        return BACKLOG_BEGAN;
    }
    if (backlog->items.cursor) {
        *bytes = send_kept(backlog);
        return BACKLOG_WROTE;
    }
    set_state(backlog, BACKLOG_LIVE);
    return BACKLOG_DONE;
}

/* What was to go out in an epoch that is over can't any more. */
static void drop_of_old_epochs(struct backlog *backlog)
{
    const struct backlog_item *first;
    uint64_t dropped = 0;
    for (; (first = backlog->items.first) && first->publication->at.epoch < backlog->session->epoch;
         dropped++) {
        backlog_end_lost(&backlog->end, first->publication->at);
        backlog_items_drop_first(&backlog->items);
    }
    if (dropped)
        metric_drop(DROP_STALE_EPOCH, dropped);
}

static void begin_to_write(struct backlog *backlog)
{
    if (backlog->state != BACKLOG_LATE) /* of that what was sent is under way */
        backlog->items.cursor = backlog->items.first;
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
    backlog_publish_doubt(&backlog->publish);
    if (backlog->state == BACKLOG_LATE)
        hold(backlog);
    if (younger_ms != UINT64_MAX)
        younger_ms += session->service->history.every_ms; /* written so long after it was placed */
    backlog_ring_append(&backlog->ring, younger_ms);
    if (others && backlog->items.len > session->service->history.size &&
        backlog->state == BACKLOG_HELD) {
        set_state(backlog, BACKLOG_SETTLING);
        timer_start(&session->hub->timers, &backlog->timer, session->hub->now_ms + SETTLE_MS,
                    on_due);
        return;
    }
    begin_to_write(backlog);
    backlog_row_run(&all_of(backlog)->row);
}

void backlog_finish(struct session *session)
{
    struct backlog *backlog = session->backlog;
    if (backlog->state == BACKLOG_SETTLING || backlog->state == BACKLOG_LATE)
        begin_to_write(backlog);
    if (backlog->state != BACKLOG_WAITING || !node_may_write(session->hub))
        return;
    append_ring(backlog);
    while (backlog->items.cursor)
        send_kept(backlog);
    set_state(backlog, BACKLOG_LIVE);
}

void backlog_hurry(struct session *session, bool others)
{
    struct backlog *backlog = session->backlog;
    backlog->may_be_late = backlog->may_be_late && !others;
    if (backlog->state == BACKLOG_LATE)
        backlog_finish(session);
    /* If nothing waited, the store has to learn all the same that nothing is late from here on */
    if (backlog->state == BACKLOG_LIVE && !backlog->may_be_late)
        backlog_publish_prompt(&backlog->publish);
}

void backlog_append_all(struct session *session)
{
    backlog_ring_append(&session->backlog->ring, UINT64_MAX);
}

void backlogs_on_disconnected(struct hub *hub)
{
    struct backlog_row *row = &hub->sessions->backlogs->row;
    while (row->first)
        hold(CONTAINER_OF(row->first, struct backlog, place));
}

bool backlog_is_live(const struct session *session)
{
    return session->backlog->state == BACKLOG_LIVE;
}

bool backlog_has_news(const struct session *session)
{
    return session->backlog->to_bus.len != 0;
}

static void begin_late(struct backlog *backlog, struct backlog_item *first)
{
    backlog->items.cursor = first;
    set_state(backlog, BACKLOG_LATE);
    timer_start(&backlog->session->hub->timers, &backlog->timer,
                backlog_publish_late_due_ms(&backlog->publish), on_due);
}

static void write_news(struct backlog *backlog)
{
    struct pubs *news = &backlog->to_bus;
    struct backlog_item *first = NULL;
    for (size_t i = 0; i < news->len; i++) {
        struct backlog_item *item = backlog_items_add(&backlog->items, news->items[i]);
        first = first ? first : item;
    }
    if (backlog->state != BACKLOG_LIVE)
        backlog->items.cursor = backlog->items.cursor ? backlog->items.cursor : first;
    else if (backlog->may_be_late && backlog->publish.mark == MARK_SET)
        begin_late(backlog, first);
    else
        backlog_publish_announce(&backlog->publish, news->items, news->len, backlog->may_be_late);
    pubs_clear(news);
}

/* What waits longer than it has to: where others have come, or much waits. */
static bool is_urgent(const struct backlog *backlog)
{
    return backlog->state == BACKLOG_LATE &&
           (!backlog->may_be_late || all_of(backlog)->store.bytes > BACKLOG_CREDIT_BYTES);
}

void backlog_flush(struct session *session, bool may_publish, bool others)
{
    struct backlog *backlog = session->backlog;
    struct pubs *news = &backlog->to_bus;
    backlog->may_be_late = backlog_publish_may_be_late(&backlog->publish, others);
    if (backlog->state == BACKLOG_LATE && !may_publish)
        hold(backlog);
    if (news->len && !node_may_write(session->hub)) {
        metric_drop(DROP_FENCED, news->len);
        backlog_end_lost(&backlog->end, news->items[news->len - 1]->at);
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
        backlog_row_run(&all_of(backlog)->row);
    }
    backlog_store_bound(&all_of(backlog)->store);
}

enum status backlog_on_published(struct session *session, uint64_t tag, enum status status)
{
    struct backlog *backlog = session->backlog;
    uint64_t announced = backlog_publish_announced(tag);
    if (status == STATUS_IO || status == STATUS_REFUSED) {
        bool matters = session_is_owned(session) &&
                       (status == STATUS_IO ? announced || backlog->state == BACKLOG_WAITING
                                            : backlog->items.first != NULL);
        if (matters)
            hold(backlog);
        else
            return_credit(backlog);
        return matters ? status : STATUS_OK;
    }
    if (status == STATUS_NO_MEMORY && announced)
        metric_add(METRIC_HISTORY_REFUSED, 1);
    backlog_publish_answered(&backlog->publish, tag);
    if (!announced)
        backlog_credit_return_all(&backlog->ring.credit);
    const struct backlog_item *first;
    while ((first = backlog->items.first) && first != backlog->items.cursor &&
           first->publication->at.offset <= announced)
        backlog_items_drop_first(&backlog->items);
    backlog_row_run(&all_of(backlog)->row);
    return STATUS_OK;
}

/* --- places --- */

void backlog_publish_until(struct session *session, uint64_t until_ms)
{
    session->backlog->publish.until_ms = until_ms;
}

void backlog_begin_epoch(struct session *session)
{
    session->backlog->placed = session->backlog->local = 0;
    backlog_publish_begin_epoch(&session->backlog->publish);
    backlog_ring_clear(&session->backlog->ring);
    set_state(session->backlog, BACKLOG_LIVE);
}

void backlog_place(struct session *session, struct publication *publication, bool others)
{
    struct backlog *backlog = session->backlog;
    publication->at = (struct position){session->epoch, ++backlog->placed};
    publication->time_ms = node_unix_ms(session->hub);
    backlog_ring_add(&backlog->ring, publication, session->service->history.size,
                     session->hub->now_ms);
    if (backlog_publish_is_wanted(&backlog->publish, others)) {
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
    const struct publication *first = first_unconfirmed(backlog);
    if (!first || first->at.epoch != session->epoch)
        return 0;
    return backlog->placed - first->at.offset + 1;
}

void backlog_drop(struct session *session)
{
    struct backlog *backlog = session->backlog;
    uint64_t dropped = backlog->to_bus.len + backlog->aside.len;
    /* Also where the last ones were for the clients here alone: a member that this node had taken
     * for dead may be there all the same. */
    if (backlog->placed && (backlog->items.first || backlog->to_bus.len || backlog->local))
        backlog_end_lost(&backlog->end, (struct position){session->epoch, backlog->placed});
    else if (backlog->items.last)
        backlog_end_lost(&backlog->end, backlog->items.last->publication->at);
    dropped += backlog_items_discard(&backlog->items);
    return_credit(backlog);
    backlog_publish_end(&backlog->publish);
    set_state(backlog, BACKLOG_LIVE);
    if (dropped)
        metric_drop(DROP_STALE_EPOCH, dropped);
    pubs_clear(&backlog->to_bus);
    pubs_clear(&backlog->aside);
    backlog_ring_clear(&backlog->ring);
    backlog->ring.append_younger_ms = 0;
}

const struct epoch_ends *backlog_unannounced_ends(const struct session *session)
{
    return &session->backlog->end.unannounced;
}

void backlog_ends_announced(struct session *session)
{
    backlog_end_is_announced(&session->backlog->end, session->hub->now_ms);
}

const struct epoch_ends *backlog_announced_ends(const struct session *session)
{
    return backlog_end_last(&session->backlog->end, session->hub->now_ms);
}

void backlog_free(struct session *session)
{
    struct backlog *backlog = session->backlog;
    backlog_items_fini(&backlog->items);
    return_credit(backlog);
    set_state(backlog, BACKLOG_LIVE);
    pubs_fini(&backlog->to_bus);
    pubs_fini(&backlog->aside);
    backlog_ring_clear(&backlog->ring);
    free(backlog);
    session->backlog = NULL;
}

void backlog_check(const struct session *session)
{
    const struct backlog *backlog = session->backlog;
    backlog_items_check(&backlog->items);
    backlog_ring_check(&backlog->ring);
    backlog_row_check(&all_of(backlog)->row);
    assert(backlog->state != BACKLOG_LIVE || !backlog->items.cursor);
    assert(backlog->state == BACKLOG_SETTLING || backlog->state == BACKLOG_LATE ||
           !timer_armed(&backlog->timer));
    /* Nobody else waits for what is written late, and who takes over knows that it may be missing
     */
    assert(backlog->state != BACKLOG_LATE ||
           (backlog->may_be_late && backlog->publish.mark == MARK_SET));
    assert(backlog->ring.credit.bytes + backlog->items.credit.bytes <=
           all_of(backlog)->row.in_flight);
    assert(session_is_owned(session) || !backlog->items.first);
}
