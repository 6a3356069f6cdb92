#include "core/history.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "common/metrics.h"
#include "core/fanout.h"
#include "core/pubs.h"
#include "core/session.h"

/* JOINED and pushes may travel different connections (design section 4) */
#define JOINED_AHEAD_MS 200
#define SETTLE_MS       500 /* a new owner waits so long for its own announcement on the channel */
#define FETCH_AGAIN_MS  1000
#define FETCH_LIMIT     500 /* publications asked for at once */
/* Live publications held while a gap is fetched; over it the oldest are fetched again later */
#define HELD_BYTES (4u << 20)
#define RING_BYTES (1u << 20) /* of one session */

static bool follows(struct position before, struct position at)
{
    return at.epoch == before.epoch ? at.offset == before.offset + 1
                                    : at.epoch > before.epoch && at.offset == 1;
}

/* Is the end of at's epoch certainly in the history, where that begins at oldest? */
static bool keeps_end(struct position at, struct position oldest)
{
    return oldest.epoch && (position_compare(oldest, at) <= 0 ||
                            (oldest.epoch == at.epoch && oldest.offset == at.offset + 1));
}

void stream_step(struct position *at, struct position oldest, struct publication *publication,
                 const struct stream_sink *sink)
{
    struct position to = publication->at;
    if (position_compare(to, *at) <= 0)
        return;
    if (!follows(*at, to) || (to.epoch != at->epoch && !keeps_end(*at, oldest)))
        stream_close(at, oldest, (struct position){to.epoch, to.offset - 1}, sink);
    *at = to;
    sink->publication(sink->ctx, publication);
}

void stream_close(struct position *at, struct position oldest, struct position to,
                  const struct stream_sink *sink)
{
    if (position_compare(*at, to) >= 0)
        return;
    uint64_t from = at->offset + 1;
    if (at->epoch != to.epoch) {
        if (!keeps_end(*at, oldest))
            sink->gap(sink->ctx, at->epoch, from, 0);
        from = 1;
    }
    if (from <= to.offset)
        sink->gap(sink->ctx, to.epoch, from, to.offset);
    *at = to;
}

/* Nothing is missing before it; where the subscription was interrupted, the end of the epoch before
 * it may be. */
static bool goes_on(const struct session *session, struct position at)
{
    return follows(session->at, at) && (at.epoch == session->at.epoch || !session->doubt);
}

static void accept_publication(void *ctx, struct publication *publication)
{
    struct session *session = ctx;
    pubs_add(&session->batch, publication);
    session->messages_in++;
    hub_mark_dirty(session);
}

static void accept_gap(void *ctx, uint64_t epoch, uint64_t from, uint64_t to)
{
    struct session *session = ctx;
    metric_add(METRIC_GAPS, 1);
    metric_drop(DROP_GAP, to ? to - from + 1 : 1);
    struct publication *note = gap_note_new(epoch, from, to);
    pubs_add(&session->batch, note);
    publication_unref(note);
    hub_mark_dirty(session);
}

static struct stream_sink session_sink(struct session *session)
{
    return (struct stream_sink){accept_publication, accept_gap, session};
}

static void hold(struct session *session, struct publication *publication)
{
    pubs_add(&session->held, publication);
    session->held_bytes += publication->len;
    while (session->held_bytes > HELD_BYTES && session->held.len > 1) {
        session->held_bytes -= session->held.items[0]->len;
        pubs_shift(&session->held, 1);
    }
}

static void on_recover_timer(struct timer *timer, uint64_t now_ms);

static void fetch(struct session *session)
{
    struct hub *hub = session->hub;
    session->recover_tag = hub_tag(hub);
    hub->bus->ops->history(hub->bus, session->id, session->recover_tag, session->at, FETCH_LIMIT);
}

/* The history has given what it has: the rest up to recover_to is a gap; then what was held, which
 * may show the next one. */
static void recovered(struct session *session, struct position oldest)
{
    struct stream_sink sink = session_sink(session);
    struct pubs held = session->held;
    session->held = (struct pubs){0};
    session->held_bytes = 0;
    size_t n = 0; /* what came while the history was read may belong before recover_to */
    for (; n < held.len && position_compare(held.items[n]->at, session->recover_to) <= 0; n++)
        stream_step(&session->at, oldest, held.items[n], &sink);
    stream_close(&session->at, oldest, session->recover_to, &sink);
    session->recovering = false;
    session->recover_tag = 0;
    for (; n < held.len; n++)
        history_receive(session, held.items[n]);
    pubs_fini(&held);
    if (session->state == SESSION_OWNER && !session->recovering &&
        session->at.epoch < session->epoch)
        session->at = (struct position){session->epoch, 0};
}

static bool can_read(const struct session *session)
{
    return session->hub->bus->shared && session->service->history.size;
}

static void begin_recovery(struct session *session)
{
    if (can_read(session))
        fetch(session);
    else
        recovered(session, (struct position){0, 0});
}

static void recover(struct session *session, struct position to)
{
    timer_stop(&session->hub->timers, &session->recover);
    session->recovering = true;
    /* The reading shows the end of the epoch, or a gap closes it */
    if (can_read(session) || to.epoch != session->at.epoch)
        session->doubt = false;
    session->recover_to = to;
    begin_recovery(session);
}

static void on_recover_timer(struct timer *timer, uint64_t now_ms)
{
    struct session *session = CONTAINER_OF(timer, struct session, recover);
    (void)now_ms;
    if (session->recovering)
        begin_recovery(session);
    else if (position_compare(session->at, session->recover_to) < 0)
        recover(session, session->recover_to);
}

void history_on_answer(struct session *session, enum status status, struct position oldest,
                       struct publication *const *publications, size_t len, bool more)
{
    if (!session->recovering)
        return;
    if (status != STATUS_OK) {
        timer_start(&session->hub->timers, &session->recover, session->hub->now_ms + FETCH_AGAIN_MS,
                    on_recover_timer);
        return;
    }
    struct stream_sink sink = session_sink(session);
    struct position before = session->at;
    for (size_t i = 0; i < len; i++)
        if (session->state != SESSION_OWNER || publications[i]->at.epoch < session->epoch)
            stream_step(&session->at, oldest, publications[i], &sink);
    metric_add(METRIC_GAP_FILLS, len);
    if ((more && position_compare(before, session->at) < 0) || session->doubt) {
        /* The subscription was interrupted, or the epoch ended, after this was asked for */
        session->doubt = false;
        fetch(session);
    } else {
        recovered(session, oldest);
    }
}

void history_receive(struct session *session, struct publication *publication)
{
    struct position at = publication->at;
    if (!session->positioned) {
        session->positioned = true;
        session->at = (struct position){at.epoch, at.offset - 1};
    }
    if (session->recovering) {
        hold(session, publication);
    } else if (position_compare(at, session->at) <= 0) {
        metric_drop(DROP_DUPLICATE, 1);
    } else if (goes_on(session, at)) {
        session->at = at;
        accept_publication(session, publication);
    } else {
        hold(session, publication);
        recover(session, (struct position){at.epoch, at.offset - 1});
    }
}

/* The owner of that epoch has told of more than has been heard of it (history_joined). */
static bool told_of_more(const struct session *session)
{
    return !session->recovering && timer_armed(&session->recover) &&
           position_compare(session->at, session->recover_to) < 0;
}

void history_epoch_begins(struct session *session, uint64_t epoch)
{
    struct position start = {epoch, 0};
    if (!session->positioned || position_compare(session->at, start) >= 0)
        return;
    if (session->recovering && !session->recover_tag && session_is_owned(session) &&
        epoch == session->epoch && !session->doubt) {
        timer_stop(&session->hub->timers, &session->recover);
        session->at = start; /* nothing was missed: the end of the old epoch has come by */
        recovered(session, start);
    } else if (told_of_more(session)) {
        session->doubt = true; /* what was to come has not */
    } else if (!session->recovering && !session->doubt && !session_is_owned(session)) {
        session->at = start;
        hub_mark_dirty(session);
    }
}

void history_late(struct session *session, struct publication *publication)
{
    if (!session->recovering || session->recover_tag ||
        position_compare(publication->at, session->at) <= 0) {
        metric_drop(DROP_DUPLICATE, 1);
    } else if (goes_on(session, publication->at)) {
        session->at = publication->at;
        accept_publication(session, publication);
    } else {
        session->doubt = true;
    }
}

void history_joined(struct session *session, struct position at, uint64_t on_the_way)
{
    if (!session->positioned) {
        session->positioned = true;
        session->at = (struct position){at.epoch,
                                        on_the_way < at.offset ? at.offset - on_the_way : 0};
        /* They may have been announced before this node was listening */
        session->doubt = on_the_way != 0;
        hub_mark_dirty(session);
    }
    /* What is on its way was announced before this node listened, and is in the history by now, or
     * will be heard: it is no gap yet. */
    bool look = on_the_way && position_compare(at, session->at) > 0;
    at.offset -= on_the_way < at.offset ? on_the_way : at.offset;
    if (session->recovering) {
        if (position_compare(session->recover_to, at) < 0) {
            session->doubt = session->doubt || session->recover_to.epoch != at.epoch;
            session->recover_to = at;
        }
        session->doubt = session->doubt || look;
        return;
    }
    if (look) {
        recover(session, position_compare(at, session->at) > 0 ? at : session->at);
    } else if (position_compare(at, session->at) <= 0) {
        session->doubt = false;
    } else if (at.epoch > session->at.epoch && session->doubt) {
        recover(session, at);
    } else if (!timer_armed(&session->recover) || position_compare(session->recover_to, at) < 0) {
        session->recover_to = at;
        timer_start(&session->hub->timers, &session->recover,
                    session->hub->now_ms + JOINED_AHEAD_MS, on_recover_timer);
    }
}

void history_owner_epoch(struct session *session)
{
    struct position start = {session->epoch, 0};
    if (session->positioned && session->recovering && session->recover_tag) {
        session->recover_to = start; /* the reading under way goes on to here */
        session->doubt = true;
        return;
    }
    if (session->positioned && session->hub->bus->shared && session->clients_len &&
        position_compare(session->at, start) < 0) {
        /* Pushes of the old epoch may still be on their way; the own announcement comes behind
         * them. */
        session->doubt = session->doubt || told_of_more(session);
        session->recovering = true;
        session->recover_tag = 0;
        session->recover_to = start;
        timer_start(&session->hub->timers, &session->recover, session->hub->now_ms + SETTLE_MS,
                    on_recover_timer);
        return;
    }
    session->recovering = false;
    session->doubt = false;
    session->positioned = true;
    session->at = start;
    hub_mark_dirty(session);
}

void history_rewind(struct session *session)
{
    if (!session->batch.len)
        return;
    struct position first = session->batch.items[0]->at;
    metric_drop(DROP_FENCED, session->batch.len);
    session->at = (struct position){first.epoch, first.offset - 1};
    session->doubt = true;
    session->recovering = false;
    session->recover_tag = 0;
    timer_stop(&session->hub->timers, &session->recover);
    pubs_clear(&session->batch);
    pubs_clear(&session->held);
    session->held_bytes = 0;
}

void ring_add(struct session *session, struct publication *publication)
{
    struct ring *ring = &session->ring;
    uint32_t size = session->service->history.size;
    if (!size)
        return;
    if (ring->len == ring->cap && ring->cap < size) {
        uint32_t cap = ring->cap ? ring->cap * 2 : 4;
        cap = cap < size ? cap : size;
        struct publication **items = malloc(cap * sizeof *items);
        if (!items)
            abort();
        for (uint32_t i = 0; i < ring->len; i++)
            items[i] = ring_at(ring, i);
        free(ring->items);
        *ring = (struct ring){items, 0, ring->len, cap, ring->bytes};
    }
    while (ring->len && (ring->len == ring->cap || ring->bytes + publication->len > RING_BYTES)) {
        struct publication *oldest = ring_at(ring, 0);
        ring->bytes -= oldest->len;
        ring->head = (ring->head + 1) % ring->cap;
        ring->len--;
        publication_unref(oldest);
    }
    ring->items[(ring->head + ring->len) % ring->cap] = publication_ref(publication);
    ring->len++;
    ring->bytes += publication->len;
}

void ring_clear(struct session *session)
{
    struct ring *ring = &session->ring;
    for (uint32_t i = 0; i < ring->len; i++)
        publication_unref(ring_at(ring, i));
    free(ring->items);
    *ring = (struct ring){0};
}

bool ring_covers(const struct session *session, struct position after)
{
    if (!session_is_owned(session) || after.epoch != session->epoch || session->recovering)
        return false;
    if (after.offset >= session->placed)
        return true;
    return session->ring.len && ring_at(&session->ring, 0)->at.offset <= after.offset + 1;
}
