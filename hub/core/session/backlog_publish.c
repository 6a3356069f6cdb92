#include "core/session/backlog_publish.h"

#include <assert.h>

#include "common/log.h"
#include "common/metrics.h"

#define TTL_STEPS   50   /* of history.ttl, in which it is set anew, */
#define TTL_STEP_MS 1000 /* and not later than this */
#define LATE_STEPS  8    /* in which history.every passes: sessions due are written together */

static const char *const mark_names[MARKS] = {"none", "unsure", "asked", "set"};

void backlog_publish_init(struct backlog_publish *publish, struct session *session)
{
    *publish = (struct backlog_publish){.session = session};
}

static void set_mark(struct backlog_publish *publish, enum backlog_mark mark)
{
    static const bool legal[MARKS][MARKS] = {
        /* to:           none unsure asked set */
        [MARK_NONE] = {true, true, true, false},
        [MARK_UNSURE] = {true, true, true, false},
        [MARK_ASKED] = {true, true, false, true},
        [MARK_SET] = {true, true, false, true},
    };
    assert(legal[publish->mark][mark]);
    if (publish->mark != mark)
        log_debug("backlog_mark", LOG_STR("session", publish->session->id),
                  LOG_STR("mark", mark_names[mark]));
    publish->mark = mark;
}

void backlog_publish_begin_epoch(struct backlog_publish *publish)
{
    set_mark(publish, MARK_NONE);
    publish->lives_from_ms = 0;
}

void backlog_publish_end(struct backlog_publish *publish)
{
    set_mark(publish, MARK_NONE);
}

void backlog_publish_doubt(struct backlog_publish *publish)
{
    publish->lives_from_ms = 0;
    set_mark(publish, publish->session->service->history.every_ms ? MARK_UNSURE : MARK_NONE);
}

/* --- to whom, and when --- */

bool backlog_publish_is_wanted(const struct backlog_publish *publish, bool others)
{
    const struct session *session = publish->session;
    return others || session->service->history.size ||
           (session->hub->bus->shared && session->hub->now_ms < publish->until_ms);
}

bool backlog_publish_may_be_late(const struct backlog_publish *publish, bool others)
{
    const struct session *session = publish->session;
    return !others && session->hub->bus->shared && session->service->history.size &&
           session->service->history.every_ms && session->hub->now_ms >= publish->until_ms;
}

uint64_t backlog_publish_late_due_ms(const struct backlog_publish *publish)
{
    uint64_t every_ms = publish->session->service->history.every_ms;
    uint64_t step_ms = every_ms > LATE_STEPS ? every_ms / LATE_STEPS : 1;
    uint64_t due_ms = publish->session->hub->now_ms + every_ms;
    return due_ms - due_ms % step_ms;
}

/* --- the calls --- */

/* Tags: that of what is announced is twice its last offset; that of what is only appended is odd.
 */
static uint64_t tag_of(struct position last, bool announce)
{
    return last.offset * 2 + !announce;
}

uint64_t backlog_publish_announced(uint64_t tag)
{
    return tag % 2 ? 0 : tag / 2;
}

/* An announcement marks for the store where writing late begins and ends. */
static unsigned how_to_announce(struct backlog_publish *publish, uint64_t tag, bool late)
{
    if (late && publish->mark < MARK_ASKED) {
        set_mark(publish, MARK_ASKED);
        publish->mark_tag = tag;
        return BUS_ANNOUNCE | BUS_LATE;
    }
    if (late || publish->mark == MARK_NONE)
        return BUS_ANNOUNCE;
    set_mark(publish, MARK_NONE);
    return BUS_ANNOUNCE | BUS_PROMPT;
}

/* It is set anew each second; most publications leave it as it is, and the last one may live so
 * much shorter. 0: as it is. */
static uint64_t time_to_live_ms(struct backlog_publish *publish)
{
    const struct session *session = publish->session;
    uint64_t now_ms = session->hub->now_ms;
    uint64_t ttl_ms = session->service->history.ttl_ms, step_ms = ttl_ms / TTL_STEPS;
    if (step_ms > TTL_STEP_MS)
        step_ms = TTL_STEP_MS;
    if (!session->service->history.size)
        return 0;
    if (publish->lives_from_ms && now_ms - publish->lives_from_ms < step_ms)
        return 0;
    publish->lives_from_ms = now_ms;
    return ttl_ms;
}

/* How many of them make one call: of one epoch, within the bounds. */
static size_t run_of(struct publication *const *items, size_t len)
{
    size_t n = 0, bytes = 0;
    while (n < len && n < PUBLISH_COUNT && (!n || bytes + items[n]->len <= PUBLISH_BYTES) &&
           items[n]->at.epoch == items[0]->at.epoch)
        bytes += items[n++]->len;
    return n;
}

static void publish_run(struct backlog_publish *publish, struct publication *const *items, size_t n,
                        uint64_t tag, unsigned how)
{
    const struct session *session = publish->session;
    struct bus *bus = session->hub->bus;
    bus->ops->publish(bus, session->id, tag, items[0]->at.epoch, items, n,
                      session->service->history.size, time_to_live_ms(publish), how);
    metric_add(METRIC_BUS_PUBLISHED, n);
}

void backlog_publish_announce(struct backlog_publish *publish, struct publication *const *items,
                              size_t len, bool late)
{
    for (size_t from = 0, n; from < len; from += n) {
        n = run_of(items + from, len - from);
        struct position last = items[from + n - 1]->at;
        uint64_t tag = tag_of(last, true);
        unsigned how = how_to_announce(publish, tag, late);
        if (position_compare(items[from]->at, publish->handed) <= 0)
            how |= BUS_AGAIN;
        if (position_compare(last, publish->handed) > 0)
            publish->handed = last;
        publish_run(publish, items + from, n, tag, how);
    }
}

void backlog_publish_append(struct backlog_publish *publish, struct publication *const *items,
                            size_t len)
{
    for (size_t from = 0, n; from < len; from += n) {
        n = run_of(items + from, len - from);
        publish_run(publish, items + from, n, tag_of(items[from + n - 1]->at, false), BUS_QUIETLY);
    }
}

void backlog_publish_prompt(struct backlog_publish *publish)
{
    const struct session *session = publish->session;
    struct bus *bus = session->hub->bus;
    if (publish->mark == MARK_NONE)
        return;
    set_mark(publish, MARK_NONE);
    bus->ops->publish(bus, session->id, 0, session->epoch, NULL, 0, 0, 0, BUS_PROMPT);
}

void backlog_publish_answered(struct backlog_publish *publish, uint64_t tag)
{
    if (publish->mark == MARK_ASKED && tag == publish->mark_tag)
        set_mark(publish, MARK_SET);
}
