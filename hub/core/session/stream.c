#include "core/session/stream.h"

#include <assert.h>
#include <stdlib.h>

#include "common/log.h"
#include "common/metrics.h"
#include "core/session/epoch_ends.h"
#include "core/session/stream_accept.h"
#include "core/session/stream_held.h"
#include "core/session/stream_step.h"

/* JOINED and pushes may travel different connections */
#define JOINED_AHEAD_MS 200
#define SETTLE_MS       500  /* a new owner waits so long for its own announcement on the channel */
#define ENDED_MS        2000 /* a member for the owner's word on the end of the epoch before */
#define FETCH_AGAIN_MS  1000
#define FETCH_LIMIT     500 /* publications asked for at once */

static const char *const state_names[STREAM_STATES] = {"unknown", "following", "settling",
                                                       "fetching"};

struct stream {
    struct session *session;
    enum stream_state state;
    struct position at; /* last publication accepted for the local clients */
    struct pubs batch;  /* of this turn, for them */
    bool subscribed;
    bool end_unsure; /* the end of an epoch may have been missed */
    /* The owner may not know of this node, and write late: what it has not written when it dies is
     * missing here. JOINED ends it. */
    bool join_unconfirmed;
    uint64_t tag; /* FETCHING: of the reading */
    /* SETTLING, FETCHING: up to there something is missing; FOLLOWING with the timer armed: the
     * owner has announced so much */
    struct position missing_to;
    struct epoch_ends ended; /* how far epochs got, by their owners' word */
    struct stream_held held; /* SETTLING, FETCHING */
    struct timer timer;
};

void stream_new(struct session *session)
{
    session->stream = calloc(1, sizeof(*session->stream));
    if (!session->stream)
        abort();
    session->stream->session = session;
    session->stream->join_unconfirmed = true;
}

void stream_free(struct session *session)
{
    timer_stop(&session->hub->timers, &session->stream->timer);
    pubs_fini(&session->stream->held.pubs);
    pubs_fini(&session->stream->batch);
    free(session->stream);
    session->stream = NULL;
}

struct pubs *stream_batch(const struct session *session)
{
    return &session->stream->batch;
}

static void set_state(struct stream *stream, enum stream_state state)
{
    static const bool legal[STREAM_STATES][STREAM_STATES] = {
        /* to:              unknown following settling fetching */
        [STREAM_UNKNOWN] = {true, true, false, false},
        [STREAM_FOLLOWING] = {false, true, true, true},
        [STREAM_SETTLING] = {false, true, true, true},
        [STREAM_FETCHING] = {false, true, true, true},
    };
    assert(legal[stream->state][state]);
    if (stream->state == state)
        return;
    stream->state = state;
    if (state != STREAM_FETCHING)
        stream->tag = 0;
    log_debug("stream", LOG_STR("session", stream->session->id),
              LOG_STR("state", state_names[state]));
}

static bool is_recovering(const struct stream *stream)
{
    return stream->state == STREAM_SETTLING || stream->state == STREAM_FETCHING;
}

void stream_subscribed(struct session *session)
{
    struct stream *stream = session->stream;
    stream->end_unsure = stream->state != STREAM_UNKNOWN;
    stream->subscribed = true;
}

void stream_unsubscribed(struct session *session)
{
    session->stream->subscribed = false;
}

bool stream_is_subscribed(const struct session *session)
{
    return session->stream->subscribed;
}

struct position stream_at(const struct session *session)
{
    return session->stream->at;
}

bool stream_is_known(const struct session *session)
{
    return session->stream->state != STREAM_UNKNOWN;
}

bool stream_is_recovering(const struct session *session)
{
    return is_recovering(session->stream);
}

/* What comes next on the channel may not be all that the epoch had. */
static bool is_doubtful(const struct stream *stream)
{
    return stream->end_unsure ||
           (stream->join_unconfirmed && stream->session->service->history.every_ms);
}

/* The owner of an earlier epoch has announced more of it than could be read so far. */
static bool lacks_end(const struct stream *stream, uint64_t epoch)
{
    return epoch_ends_lack(&stream->ended, stream->at, epoch);
}

/* Nothing is missing before it; where the subscription was interrupted, or the owner has said so,
 * the end of the epoch before it may be. */
static bool goes_on(const struct stream *stream, struct position at)
{
    return stream_follows(stream->at, at) &&
           (at.epoch == stream->at.epoch || !(is_doubtful(stream) || lacks_end(stream, at.epoch)));
}

void stream_leave_ended(const struct session *session, struct position *at, struct position oldest,
                        uint64_t epoch, const struct stream_sink *sink)
{
    epoch_ends_leave(&session->stream->ended, at, oldest, epoch, sink);
}

static void leave_ended(struct stream *stream, struct position oldest, uint64_t epoch)
{
    struct stream_sink sink = stream_accept_sink(stream->session);
    stream_leave_ended(stream->session, &stream->at, oldest, epoch, &sink);
}

static void take_in(struct stream *stream, struct position oldest, struct publication *publication)
{
    struct stream_sink sink = stream_accept_sink(stream->session);
    leave_ended(stream, oldest, publication->at.epoch);
    stream_step(&stream->at, oldest, publication, &sink);
}

static void on_timer(struct timer *timer, uint64_t now_ms);

static void look_after(struct stream *stream, uint64_t after_ms)
{
    struct hub *hub = stream->session->hub;
    timer_start(&hub->timers, &stream->timer, hub->now_ms + after_ms, on_timer);
}

static void fetch(struct stream *stream)
{
    struct session *session = stream->session;
    struct hub *hub = session->hub;
    set_state(stream, STREAM_FETCHING);
    stream->tag = hub_tag(hub);
    hub->bus->ops->history(hub->bus, session->id, stream->tag, stream->at, FETCH_LIMIT);
}

/* The history has given what it has: the rest up to missing_to is a gap; then what was held, which
 * may show the next one. */
static void recovered(struct stream *stream, struct position oldest)
{
    struct session *session = stream->session;
    struct stream_sink sink = stream_accept_sink(session);
    struct pubs held = stream_held_take(&stream->held);
    size_t n = 0; /* what came while the history was read may belong before missing_to */
    for (; n < held.len && position_compare(held.items[n]->at, stream->missing_to) <= 0; n++)
        take_in(stream, oldest, held.items[n]);
    leave_ended(stream, oldest, stream->missing_to.epoch);
    stream_close(&stream->at, oldest, stream->missing_to, &sink);
    set_state(stream, STREAM_FOLLOWING);
    for (; n < held.len; n++)
        stream_receive(session, held.items[n]);
    pubs_fini(&held);
    if (session->state == SESSION_OWNER && !is_recovering(stream) &&
        stream->at.epoch < session->epoch)
        stream->at = (struct position){session->epoch, 0};
}

static bool can_read(const struct session *session)
{
    return session->hub->bus->shared && session->service->history.size;
}

static void begin_recovery(struct stream *stream)
{
    if (can_read(stream->session))
        fetch(stream);
    else
        recovered(stream, (struct position){0, 0});
}

static void recover(struct stream *stream, struct position to)
{
    timer_stop(&stream->session->hub->timers, &stream->timer);
    /* The reading shows the end of the epoch, or a gap closes it */
    if (can_read(stream->session) || to.epoch != stream->at.epoch)
        stream->end_unsure = false;
    stream->missing_to = to;
    begin_recovery(stream);
}

/* Whether it has said how far it got in the epoch that is to be left, nobody knows before JOINED.
 */
static bool must_hear_ended(const struct stream *stream, uint64_t epoch)
{
    return session_is_member(stream->session) && stream->at.epoch < epoch &&
           epoch_ends_last(&stream->ended) < stream->at.epoch;
}

static void on_timer(struct timer *timer, uint64_t now_ms)
{
    struct stream *stream = CONTAINER_OF(timer, struct stream, timer);
    (void)now_ms;
    if (stream->state == STREAM_SETTLING && must_hear_ended(stream, stream->missing_to.epoch))
        /* The owner is cut off again, or gone: nobody says any more how far it got */
        epoch_ends_add(&stream->ended, (struct position){stream->at.epoch, OFFSET_END});
    if (is_recovering(stream))
        begin_recovery(stream);
    else if (position_compare(stream->at, stream->missing_to) < 0)
        recover(stream, stream->missing_to);
}

/* Beyond what is missing, and not the next one: what is between is not lost, though the history has
 * no room for it any more. It comes on the channel, or what comes there shows that it is missing.
 */
static bool is_ahead(const struct stream *stream, const struct publication *publication)
{
    struct position at = publication->at;
    return !is_gap_note(publication) && position_compare(at, stream->missing_to) > 0 &&
           at.epoch == stream->at.epoch && at.offset > stream->at.offset + 1;
}

bool stream_on_history(struct session *session, uint64_t tag, enum status status,
                       struct position oldest, struct publication *const *publications, size_t len,
                       bool more)
{
    struct stream *stream = session->stream;
    if (stream->state != STREAM_FETCHING || stream->tag != tag)
        return false;
    if (status != STATUS_OK) {
        look_after(stream, FETCH_AGAIN_MS);
        return true;
    }
    struct position before = stream->at;
    size_t i = 0;
    for (; i < len && !is_ahead(stream, publications[i]); i++)
        if (session->state != SESSION_OWNER || publications[i]->at.epoch < session->epoch)
            take_in(stream, oldest, publications[i]);
    metric_add(METRIC_GAP_FILLS, len);
    if ((more && position_compare(before, stream->at) < 0) || stream->end_unsure) {
        /* The subscription was interrupted, or the epoch ended, after this was asked for */
        stream->end_unsure = false;
        fetch(stream);
    } else {
        /* What lies ahead may never come: before another epoch begins, also with what is held, the
         * end of this one is looked up. */
        stream->end_unsure = i < len;
        recovered(stream, oldest);
    }
    return true;
}

static void wait_for_ended(struct stream *stream, struct position to)
{
    set_state(stream, STREAM_SETTLING);
    stream->missing_to = to;
    look_after(stream, ENDED_MS);
}

void stream_receive(struct session *session, struct publication *publication)
{
    struct stream *stream = session->stream;
    struct position at = publication->at;
    if (stream->state == STREAM_UNKNOWN) {
        set_state(stream, STREAM_FOLLOWING);
        stream->at = (struct position){at.epoch, at.offset - 1};
    }
    if (is_recovering(stream)) {
        stream_held_add(&stream->held, publication);
    } else if (position_compare(at, stream->at) <= 0) {
        metric_drop(DROP_DUPLICATE, 1);
    } else if (goes_on(stream, at)) {
        stream->at = at;
        stream_accept(session, publication);
    } else {
        struct position before = {at.epoch, at.offset - 1};
        stream_held_add(&stream->held, publication);
        if (must_hear_ended(stream, at.epoch))
            wait_for_ended(stream, before);
        else
            recover(stream, before);
    }
}

void stream_lost(struct session *session, struct position lost)
{
    struct stream *stream = session->stream;
    if (stream->state != STREAM_FOLLOWING || !stream_follows(stream->at, lost))
        return; /* the next publication shows the hole, as it does on other nodes */
    stream_accept_gap(session, lost.epoch, lost.offset, lost.offset);
    stream->at = lost;
}

/* The owner of that epoch has announced more of it than has come (stream_joined). */
static bool lacks_announced(const struct stream *stream)
{
    return !is_recovering(stream) && timer_armed(&stream->timer) &&
           position_compare(stream->at, stream->missing_to) < 0;
}

/* All of the epochs before has come by, but what the store did not take. */
static void begin_epoch(struct stream *stream, struct position start)
{
    leave_ended(stream, (struct position){0}, start.epoch);
    stream->at = start;
    session_mark_dirty(stream->session);
}

void stream_epoch_begins(struct session *session, uint64_t epoch, bool again)
{
    struct stream *stream = session->stream;
    struct position start = {epoch, 0};
    if (stream->state == STREAM_UNKNOWN || position_compare(stream->at, start) >= 0)
        return;
    if (stream->state == STREAM_SETTLING && session_is_owned(session) && epoch == session->epoch &&
        !is_doubtful(stream)) {
        timer_stop(&session->hub->timers, &stream->timer);
        begin_epoch(stream, start);
        recovered(stream, start);
    } else if (lacks_announced(stream)) {
        stream->end_unsure = true; /* what was to come has not */
    } else if (!is_recovering(stream) && !is_doubtful(stream) && !session_is_owned(session)) {
        if (again && must_hear_ended(stream, epoch))
            wait_for_ended(stream, start);
        else
            begin_epoch(stream, start);
    }
}

void stream_ended(struct session *session, struct position last)
{
    epoch_ends_add(&session->stream->ended, last);
}

void stream_late(struct session *session, struct publication *publication)
{
    struct stream *stream = session->stream;
    if (stream->state != STREAM_SETTLING || position_compare(publication->at, stream->at) <= 0) {
        metric_drop(DROP_DUPLICATE, 1);
    } else if (goes_on(stream, publication->at)) {
        stream->at = publication->at;
        stream_accept(session, publication);
    } else {
        stream->end_unsure = true;
    }
}

static void begin_at(struct stream *stream, struct position at, uint64_t on_the_way)
{
    set_state(stream, STREAM_FOLLOWING);
    stream->at = (struct position){at.epoch, on_the_way < at.offset ? at.offset - on_the_way : 0};
    /* They may have been announced before this node was listening */
    stream->end_unsure = on_the_way != 0;
    session_mark_dirty(stream->session);
}

void stream_joined(struct session *session, struct position at, uint64_t on_the_way)
{
    struct stream *stream = session->stream;
    if (stream->state != STREAM_UNKNOWN && at.epoch > stream->at.epoch)
        stream->end_unsure = is_doubtful(stream); /* it is the next owner's word */
    /* Whether the store has that nothing is late any more is not known before what is on its way */
    stream->join_unconfirmed = on_the_way != 0;
    if (stream->state == STREAM_UNKNOWN) /* without a history what has passed can't be had */
        begin_at(stream, at, can_read(session) ? on_the_way : 0);
    /* What is on its way was announced before this node listened, and is in the history by now, or
     * will be heard: it is no gap yet. */
    bool look = on_the_way && position_compare(at, stream->at) > 0;
    at.offset -= on_the_way < at.offset ? on_the_way : at.offset;
    if (stream->state == STREAM_SETTLING && session_is_member(session) && !look &&
        !stream->end_unsure && stream->missing_to.epoch == at.epoch) {
        timer_stop(&session->hub->timers, &stream->timer);
        begin_epoch(stream, (struct position){at.epoch, 0});
        stream->missing_to = stream->at;
        recovered(stream, stream->at);
    } else if (stream->state == STREAM_SETTLING && session_is_member(session)) {
        recover(stream, position_compare(stream->missing_to, at) < 0 ? at : stream->missing_to);
    }
    if (is_recovering(stream)) {
        if (position_compare(stream->missing_to, at) < 0) {
            stream->end_unsure = stream->end_unsure || stream->missing_to.epoch != at.epoch;
            stream->missing_to = at;
        }
        stream->end_unsure = stream->end_unsure || look;
        return;
    }
    if (look) {
        recover(stream, position_compare(at, stream->at) > 0 ? at : stream->at);
        if (!can_read(session))
            stream->end_unsure =
                true; /* those on their way may have passed, and nothing will show it */
    } else if (position_compare(at, stream->at) <= 0) {
        stream->end_unsure = false;
    } else if (at.epoch > stream->at.epoch && stream->end_unsure) {
        recover(stream, at);
    } else if (!timer_armed(&stream->timer) || position_compare(stream->missing_to, at) < 0) {
        stream->missing_to = at;
        look_after(stream, JOINED_AHEAD_MS);
    }
}

void stream_disproved(struct session *session)
{
    session->stream->end_unsure = true;
}

void stream_unconfirmed(struct session *session)
{
    session->stream->join_unconfirmed = true;
}

void stream_owner_epoch(struct session *session)
{
    struct stream *stream = session->stream;
    struct position start = {session->epoch, 0};
    if (stream->state == STREAM_FETCHING) {
        stream->missing_to = start; /* the reading under way goes on to here */
        stream->end_unsure = true;
        stream->join_unconfirmed = false;
        return;
    }
    if (stream->state != STREAM_UNKNOWN && session->hub->bus->shared && session->facts.clients &&
        position_compare(stream->at, start) < 0) {
        /* Pushes of the old epoch may still be on their way; the own announcement comes behind
         * them. */
        stream->end_unsure = is_doubtful(stream) || lacks_announced(stream);
        stream->join_unconfirmed = false;
        set_state(stream, STREAM_SETTLING);
        stream->missing_to = start;
        look_after(stream, SETTLE_MS);
        return;
    }
    stream_held_clear(&stream->held); /* nobody is here to get it */
    stream->end_unsure = false;
    stream->join_unconfirmed = false;
    stream->at = start;
    set_state(stream, STREAM_FOLLOWING);
    session_mark_dirty(session);
}

void stream_rewind(struct session *session)
{
    struct stream *stream = session->stream;
    if (!stream->batch.len)
        return;
    struct position first = stream->batch.items[0]->at;
    metric_drop(DROP_FENCED, stream->batch.len);
    set_state(stream, STREAM_FOLLOWING);
    stream->at = (struct position){first.epoch, first.offset - 1};
    stream->end_unsure = true;
    timer_stop(&session->hub->timers, &stream->timer);
    pubs_clear(&stream->batch);
    stream_held_clear(&stream->held);
}

void stream_check(const struct session *session)
{
    const struct stream *stream = session->stream;
    stream_held_check(&stream->held);
    assert((stream->state == STREAM_FETCHING) == (stream->tag != 0));
    assert(!stream->held.pubs.len || is_recovering(stream));
    assert(stream->state != STREAM_SETTLING || timer_armed(&stream->timer));
    assert(stream->state != STREAM_UNKNOWN || !stream->batch.len);
}
