#include "core/client/subscription.h"

#include <assert.h>
#include <stdlib.h>

#include "common/log.h"
#include "common/metrics.h"
#include "core/client/client.h"
#include "core/client/emit.h"
#include "core/client/further.h"
#include "core/client/rate.h"
#include "core/client/subscribing.h"
#include "core/presence.h"
#include "core/pubs.h"
#include "core/session/backlog.h"
#include "core/session/session.h"
#include "core/session/stream.h"

#define POSITION_WAIT_MS 1000 /* contract section 6: not known within 1 s */
/* how long a token that is ahead of this node's position waits until the node has caught up */
#define TOKEN_AHEAD_MS    2000
#define TOKEN_AHEAD_TIMES 10 /* and that often where the client was already welcomed there */
#define READ_AGAIN_MS     500
#define READ_TRIES        10
#define KEPT_SOON_MS      250 /* by then the store has kept what it has announced */
#define REPLAY_TRIES      2   /* a WELCOME waits for it */
#define READ_LIMIT        500
/* Histories that are read for one client at once: what is read waits for its socket without a
 * policy. The others look again after a moment, or when it has taken what it was given. */
#define READS_AT_ONCE 32
#define READ_SOON_MS  20
#define EPOCH_SKEW_MS (60 * 60 * 1000u) /* how far other machines' clocks may be ahead */
/* Epochs are at least Unix ms: a smaller one was never given out */
#define EPOCH_FLOOR 1000000000000u

static const char *const state_names[SUBSCRIPTION_STATES] = {"none",      "waiting", "welcomed",
                                                             "replaying", "reading", "live"};

#define BIT(state) (1u << (state))
/* Which states may follow which. */
static const unsigned next_states[SUBSCRIPTION_STATES] = {
    [SUBSCRIPTION_NONE] = BIT(SUBSCRIPTION_WAITING) | BIT(SUBSCRIPTION_LIVE),
    [SUBSCRIPTION_WAITING] = BIT(SUBSCRIPTION_WELCOMED) | BIT(SUBSCRIPTION_REPLAYING) |
                             BIT(SUBSCRIPTION_READING) | BIT(SUBSCRIPTION_LIVE) |
                             BIT(SUBSCRIPTION_NONE),
    [SUBSCRIPTION_WELCOMED] = BIT(SUBSCRIPTION_READING) | BIT(SUBSCRIPTION_LIVE) |
                              BIT(SUBSCRIPTION_NONE),
    [SUBSCRIPTION_REPLAYING] = BIT(SUBSCRIPTION_READING) | BIT(SUBSCRIPTION_NONE),
    [SUBSCRIPTION_READING] = BIT(SUBSCRIPTION_LIVE) | BIT(SUBSCRIPTION_NONE),
    [SUBSCRIPTION_LIVE] = BIT(SUBSCRIPTION_NONE),
};

/* What is known of a subscription that is not LIVE yet. */
struct catch_up {
    struct subscription *subscription;
    struct position
        at;          /* its position: that of its token, or of the last publication that was read */
    uint32_t replay; /* how many past publications it wants; 0: those after at */
    bool has_token;
    bool overdue;    /* the time to wait for a position has passed: looked at when the turn ends */
    bool held_cut;   /* the oldest of held were forgotten while the history was read */
    bool replayed;   /* REPLAYING: all that is kept has been read; oldest is the first of it */
    bool read_again; /* since the history ended before what this node has heard */
    struct position oldest;
    unsigned tries, waits;
    struct subscribe_answer *answer; /* that its WELCOME is; NULL: it was given, or is none */
    uint64_t tag;                    /* of the history read; 0: none */
    uint64_t read_epoch;             /* of the session when it was asked for */
    struct pubs missed;              /* what was read */
    struct pubs held;                /* what came live meanwhile */
    size_t waited; /* the first so many of held came before the history was asked for */
    size_t held_bytes;
    struct timer timer;
    struct catch_up *prev, *next; /* of the session's that wait for its position */
    UT_hash_handle hh;            /* of the hub's readings, by tag */
};

static void set_state(struct subscription *subscription, enum subscription_state state)
{
    assert(next_states[subscription->state] & BIT(state));
    subscription->state = (uint8_t)state;
}

const char *subscription_state_name(enum subscription_state state)
{
    return state_names[state];
}

static uint64_t unix_ms(const struct hub *hub)
{
    return hub->setup.unix_ms(hub->setup.clock_ctx);
}

static bool waits_for_position(const struct subscription *subscription)
{
    return subscription->state == SUBSCRIPTION_WAITING ||
           subscription->state == SUBSCRIPTION_WELCOMED ||
           subscription->state == SUBSCRIPTION_REPLAYING;
}

/* --- what is held --- */

/* What counts for several subscriptions of one client together; NULL: it is the only one. */
static struct further *shared_by(const struct subscription *subscription)
{
    const struct client *client = subscription->client;
    return subscription == &client->own ? NULL : client->further;
}

static void count_held(struct catch_up *catch_up, size_t change)
{
    struct further *further = shared_by(catch_up->subscription);
    catch_up->held_bytes += change;
    if (further)
        further->held_bytes += change;
}

static void forget_held(struct catch_up *catch_up, size_t n)
{
    for (size_t i = 0; i < n; i++)
        count_held(catch_up, (size_t)0 - queue_cost(catch_up->held.items[i]->len));
    pubs_shift(&catch_up->held, n);
    catch_up->waited -= n < catch_up->waited ? n : catch_up->waited;
}

/* Over the bound the oldest are forgotten: they are read from the history, or are a gap. */
void subscription_hold(struct subscription *subscription, struct publication *publication)
{
    struct catch_up *catch_up = subscription->catch_up;
    const struct further *further = shared_by(subscription);
    size_t at_most = subscription->session->service->slow_client.queue_bytes;
    pubs_add(&catch_up->held, publication);
    count_held(catch_up, queue_cost(publication->len));
    size_t n = 0, bytes = further ? further->held_bytes : catch_up->held_bytes,
           keep = further ? 0 : 1;
    for (; bytes > at_most && n + keep < catch_up->held.len; n++)
        bytes -= queue_cost(catch_up->held.items[n]->len);
    if (!n)
        return;
    if (!subscription->session->service->history.size)
        metric_drop(DROP_SLOW_CLIENT, n);
    forget_held(catch_up, n);
    catch_up->held_cut = true;
}

/* The position after which live publications come: those that are held, then those of this turn. */
static struct position live_after(const struct subscription *subscription)
{
    const struct session *session = subscription->session;
    const struct pubs *next = subscription->catch_up->held.len ? &subscription->catch_up->held
                                                               : stream_batch(session);
    if (!next->len)
        return stream_at(session);
    struct position first = next->items[0]->at;
    return (struct position){first.epoch, first.offset - 1};
}

/* The part of a gap that begins up to there and ends after it; NULL where it ends before. */
static struct publication *note_after(const struct publication *note, struct position upto)
{
    uint64_t to = gap_note_to(note);
    if (note->at.epoch != upto.epoch || (to && to <= upto.offset))
        return NULL;
    return gap_note_new(upto.epoch, upto.offset + 1, to);
}

/* The client has what is held up to that position. */
static void skip_held(struct catch_up *catch_up, struct position upto)
{
    struct pubs *held = &catch_up->held;
    size_t n = 0;
    while (n < held->len && position_compare(held->items[n]->at, upto) <= 0)
        n++;
    struct publication *last = n ? held->items[n - 1] : NULL;
    struct publication *rest = last && is_gap_note(last) ? note_after(last, upto) : NULL;
    if (rest) {
        held->items[--n] = rest;
        publication_unref(last);
    }
    forget_held(catch_up, n);
}

/* --- from where it is to live --- */

static void end_reading(struct catch_up *catch_up)
{
    struct further *further = shared_by(catch_up->subscription);
    HASH_DEL(catch_up->subscription->client->hub->readings, catch_up);
    catch_up->tag = 0;
    if (further)
        further->reading--;
}

static void drop_catch_up(struct subscription *subscription)
{
    struct catch_up *catch_up = subscription->catch_up;
    struct hub *hub = subscription->client->hub;
    if (!catch_up)
        return;
    if (catch_up->answer)
        subscribing_forget(catch_up->answer);
    if (waits_for_position(subscription))
        DL_DELETE(subscription->session->newcomers.waiting, catch_up);
    if (catch_up->tag)
        end_reading(catch_up);
    forget_held(catch_up, catch_up->held.len);
    timer_stop(&hub->timers, &catch_up->timer);
    pubs_fini(&catch_up->missed);
    pubs_fini(&catch_up->held);
    free(catch_up);
    subscription->catch_up = NULL;
}

static void go_live(struct subscription *subscription)
{
    struct catch_up *catch_up = subscription->catch_up;
    if (subscription->rate) {
        rate_go_live(subscription, live_after(subscription), &catch_up->missed, &catch_up->held);
    } else {
        subscription->client->sent += catch_up->missed.len + catch_up->held.len;
        client_enqueue_missed(subscription, &catch_up->missed);
        client_enqueue_missed(subscription, &catch_up->held);
    }
    drop_catch_up(subscription);
    set_state(subscription, SUBSCRIPTION_LIVE);
}

static void missed_publication(void *ctx, struct publication *publication)
{
    pubs_add(&((struct catch_up *)ctx)->missed, publication);
}

static void missed_gap(void *ctx, uint64_t epoch, uint64_t from, uint64_t to)
{
    struct publication *note = gap_note_new(epoch, from, to);
    pubs_add(&((struct catch_up *)ctx)->missed, note);
    publication_unref(note);
}

/* Of what is kept the last so many publications, and the notes of what is missing after the first
 * of them. */
static void keep_last(struct pubs *missed, uint32_t replay)
{
    size_t first = missed->len;
    for (size_t i = missed->len; i && replay; i--) {
        if (is_gap_note(missed->items[i - 1]))
            continue;
        first = i - 1;
        replay--;
    }
    pubs_shift(missed, first);
}

/* Publications that came while the client waited for the session's position count as kept ones: a
 * member that has just joined receives what the owner writes to the history at that moment. */
static void take_waited(struct subscription *subscription)
{
    struct catch_up *catch_up = subscription->catch_up;
    for (size_t i = 0; i < catch_up->waited; i++)
        if (subscription->client->follows || !is_gap_note(catch_up->held.items[i]))
            pubs_add(&catch_up->missed, catch_up->held.items[i]);
    forget_held(catch_up, catch_up->waited);
}

/* All that can be had is there: the rest up to where live begins is a gap. */
static void caught_up(struct subscription *subscription, struct position oldest)
{
    struct catch_up *catch_up = subscription->catch_up;
    struct stream_sink sink = {missed_publication, missed_gap, catch_up};
    if (subscription->client->follows) {
        struct position to = live_after(subscription);
        stream_leave_ended(subscription->session, &catch_up->at, oldest, to.epoch, &sink);
        stream_close(&catch_up->at, oldest, to, &sink);
    }
    if (catch_up->replay) {
        take_waited(subscription);
        keep_last(&catch_up->missed, catch_up->replay);
    }
    metric_add(METRIC_REPLAYED, catch_up->missed.len);
    go_live(subscription);
}

static void on_catch_up_timer(struct timer *timer, uint64_t now_ms);

static void look_after(struct catch_up *catch_up, uint64_t after_ms)
{
    struct hub *hub = catch_up->subscription->client->hub;
    timer_start(&hub->timers, &catch_up->timer, hub->now_ms + after_ms, on_catch_up_timer);
}

static void read_history(struct subscription *subscription)
{
    struct catch_up *catch_up = subscription->catch_up;
    struct hub *hub = subscription->client->hub;
    struct session *session = subscription->session;
    struct further *further = shared_by(subscription);
    if (further && (further->reading >= READS_AT_ONCE || !client_has_room(subscription->client))) {
        look_after(catch_up, further->reading >= READS_AT_ONCE ? READ_SOON_MS : READ_AGAIN_MS);
        return;
    }
    if (further)
        further->reading++;
    catch_up->tag = hub_tag(hub);
    catch_up->read_epoch = stream_at(session).epoch;
    catch_up->held_cut = false;
    HASH_ADD(hh, hub->readings, tag, sizeof(catch_up->tag), catch_up);
    session_write_history(session, false);
    hub->bus->ops->history(hub->bus, session->id, catch_up->tag, catch_up->at, READ_LIMIT);
}

/* Takes one publication of the past where it is before what comes live. */
static void take_past(struct subscription *subscription, struct position oldest,
                      struct publication *publication)
{
    struct catch_up *catch_up = subscription->catch_up;
    struct stream_sink sink = {missed_publication, missed_gap, catch_up};
    if (position_compare(publication->at, live_after(subscription)) > 0)
        return;
    if (subscription->client->follows && subscription->state != SUBSCRIPTION_REPLAYING) {
        stream_leave_ended(subscription->session, &catch_up->at, oldest, publication->at.epoch,
                           &sink);
        stream_step(&catch_up->at, oldest, publication, &sink);
    } else if (position_compare(publication->at, catch_up->at) > 0) {
        catch_up->at = publication->at;
        if (subscription->client->follows || !is_gap_note(publication))
            pubs_add(&catch_up->missed, publication);
    }
}

/* All that is kept is here: it goes on, or waits for the turn of its WELCOME. */
static void read_out(struct subscription *subscription, struct position oldest)
{
    struct catch_up *catch_up = subscription->catch_up;
    if (subscription->state != SUBSCRIPTION_REPLAYING) {
        caught_up(subscription, oldest);
        return;
    }
    catch_up->replayed = true;
    catch_up->oldest = oldest;
    take_waited(subscription);
    keep_last(&catch_up->missed, catch_up->replay);
    session_mark_dirty(subscription->session);
}

/* What it has missed is here, or in the history, or nowhere. */
static void catch_up_from(struct subscription *subscription)
{
    struct session *session = subscription->session;
    struct catch_up *catch_up = subscription->catch_up;
    catch_up->waited = catch_up->replay ? catch_up->held.len : 0;
    if (catch_up->replay ? ring_len(session) >= catch_up->replay
                         : session_ring_covers(session, catch_up->at)) {
        struct position oldest = ring_len(session) ? ring_at(session, 0)->at
                                                   : (struct position){0, 0};
        for (uint32_t i = 0; i < ring_len(session); i++)
            take_past(subscription, oldest, ring_at(session, i));
        read_out(subscription, oldest);
    } else if (!session->service->history.size) {
        read_out(subscription, (struct position){0, 0});
    } else {
        read_history(subscription);
    }
}

/* Publications without the script are announced first and kept next (bus_redis_batch.c): a member
 * may have heard what is not in the history yet. The owner reads it over the connection that it
 * publishes over, so behind what it has published. */
static bool ends_early(const struct subscription *subscription)
{
    const struct catch_up *catch_up = subscription->catch_up;
    struct position live = live_after(subscription);
    return !session_is_owned(subscription->session) && !catch_up->read_again && live.offset &&
           position_compare(catch_up->at, live) < 0;
}

bool subscription_on_history(struct hub *hub, uint64_t tag, enum status status,
                             struct position oldest, struct publication *const *publications,
                             size_t len, bool more)
{
    struct catch_up *catch_up = NULL;
    HASH_FIND(hh, hub->readings, &tag, sizeof(tag), catch_up);
    if (!catch_up)
        return false;
    end_reading(catch_up);
    struct subscription *subscription = catch_up->subscription;
    if (!client_takes(subscription->client))
        return true;
    unsigned at_most = subscription->state == SUBSCRIPTION_REPLAYING ? REPLAY_TRIES : READ_TRIES;
    if (status != STATUS_OK && ++catch_up->tries < at_most) {
        look_after(catch_up, READ_AGAIN_MS);
        return true;
    }
    struct position before = catch_up->at;
    for (size_t i = 0; status == STATUS_OK && i < len; i++)
        take_past(subscription, oldest, publications[i]);
    if (catch_up->replay)
        keep_last(&catch_up->missed, catch_up->replay);
    bool on = more && position_compare(before, catch_up->at) < 0,
         ended = stream_at(subscription->session).epoch != catch_up->read_epoch;
    /* Of an epoch that has ended since it may not have the end */
    bool cut = catch_up->held_cut && ++catch_up->tries < READ_TRIES;
    if (status == STATUS_OK && (on || ended || cut)) {
        read_history(subscription);
    } else if (status == STATUS_OK && ends_early(subscription)) {
        catch_up->read_again = true;
        look_after(catch_up, KEPT_SOON_MS);
    } else {
        read_out(subscription, status == STATUS_OK ? oldest : (struct position){0, 0});
    }
    return true;
}

/* --- until it is welcomed --- */

/* May the token be of this session's stream? One from before what is kept may; one that was never
 * given out may not. */
static bool token_known(const struct session *session, struct position token)
{
    return stream_is_known(session) && token.epoch >= EPOCH_FLOOR &&
           position_compare(token, stream_at(session)) <= 0;
}

/* It may now be the turn of the answers behind it. */
static void welcome(struct subscription *subscription, struct position at, bool resumed)
{
    struct subscribe_answer *answer = subscription->catch_up->answer;
    subscription->catch_up->answer = NULL;
    emit_welcome(subscription, answer, at, resumed);
    presence_welcomed(subscription->session);
    if (answer)
        subscribing_answered(answer);
}

/* The last that are kept are read before the client is welcomed: WELCOME says where they begin. */
static bool wants_replay(const struct subscription *subscription)
{
    const struct catch_up *catch_up = subscription->catch_up;
    return subscription->state == SUBSCRIPTION_WAITING && catch_up->replay &&
           subscription->client->follows;
}

static void start_replay(struct subscription *subscription)
{
    struct catch_up *catch_up = subscription->catch_up;
    timer_stop(&subscription->client->hub->timers, &catch_up->timer);
    catch_up->overdue = false;
    set_state(subscription, SUBSCRIPTION_REPLAYING);
    catch_up_from(subscription);
}

/* What is kept has been read: WELCOME before the first of it, then as one that resumes there. */
static void begin_replayed(struct subscription *subscription)
{
    struct catch_up *catch_up = subscription->catch_up;
    struct stream_sink sink = {missed_publication, missed_gap, catch_up};
    struct pubs kept = catch_up->missed;
    struct position first = kept.len ? kept.items[0]->at : (struct position){0, 0};
    catch_up->missed = (struct pubs){0};
    catch_up->at = kept.len ? (struct position){first.epoch, first.offset - 1}
                            : live_after(subscription);
    catch_up->replay = 0;
    catch_up->tries = 0;
    welcome(subscription, catch_up->at, false);
    if (client_takes(subscription->client)) {
        DL_DELETE(subscription->session->newcomers.waiting, catch_up);
        set_state(subscription, SUBSCRIPTION_READING);
        for (size_t i = 0; i < kept.len; i++) {
            stream_leave_ended(subscription->session, &catch_up->at, first, kept.items[i]->at.epoch,
                               &sink);
            stream_step(&catch_up->at, first, kept.items[i], &sink);
        }
        if (catch_up->held_cut)
            read_history(subscription);
        else
            caught_up(subscription, catch_up->oldest);
    }
    pubs_fini(&kept);
}

/* The position is known (or final: will not be): WELCOME, then what was missed, then live. */
static void begin(struct subscription *subscription)
{
    struct session *session = subscription->session;
    struct catch_up *catch_up = subscription->catch_up;
    bool welcomed = subscription->state == SUBSCRIPTION_WELCOMED;
    bool resumed = catch_up->has_token && (welcomed || token_known(session, catch_up->at));
    if (subscription->client->follows)
        catch_up->replay = 0; /* what is kept could not be read in time */
    bool past = resumed || (catch_up->replay && stream_is_known(session));
    timer_stop(&session->hub->timers, &catch_up->timer);
    if (resumed)
        skip_held(catch_up, catch_up->at);
    struct position at = resumed                    ? catch_up->at
                         : stream_is_known(session) ? live_after(subscription)
                                                    : (struct position){0, 0};
    if (!welcomed && subscription->client->follows)
        welcome(subscription, at, resumed);
    if (welcomed)
        presence_welcomed(session); /* the last PRESENCE may have left before its WELCOME */
    if (!client_takes(subscription->client))
        return;
    DL_DELETE(session->newcomers.waiting, catch_up);
    set_state(subscription, SUBSCRIPTION_READING);
    metric_add(METRIC_RESUMES, resumed);
    if (past)
        catch_up_from(subscription);
    else
        go_live(subscription);
}

/*
 * The owner has died, and nobody knows yet where the stream stands. What the client has is known:
 * it is welcomed there, and what comes after that waits for the take-over. Returns false where the
 * token was never given out.
 */
static bool welcome_at_token(struct subscription *subscription)
{
    const struct catch_up *catch_up = subscription->catch_up;
    if (subscription->state == SUBSCRIPTION_WELCOMED || !catch_up->has_token ||
        stream_is_known(subscription->session) || catch_up->at.epoch < EPOCH_FLOOR ||
        catch_up->at.epoch > unix_ms(subscription->client->hub) + EPOCH_SKEW_MS)
        return false;
    set_state(subscription, SUBSCRIPTION_WELCOMED);
    welcome(subscription, catch_up->at, true);
    return true;
}

static bool is_ready(const struct session *session, const struct catch_up *catch_up)
{
    return stream_is_known(session) && !stream_is_recovering(session) &&
           (!catch_up->has_token || position_compare(catch_up->at, stream_at(session)) <= 0);
}

/* The session stands before where the client was welcomed: after a fail-over that lost writes,
 * until the next owner begins. */
static bool still_behind(const struct session *session, struct catch_up *catch_up)
{
    return !stream_is_known(session) || (position_compare(stream_at(session), catch_up->at) < 0 &&
                                         ++catch_up->waits < TOKEN_AHEAD_TIMES);
}

/* The time to wait for a position is over. */
static void look_overdue(struct subscription *subscription)
{
    struct catch_up *catch_up = subscription->catch_up;
    catch_up->overdue = false;
    bool waits = welcome_at_token(subscription) || (subscription->state == SUBSCRIPTION_WELCOMED &&
                                                    still_behind(subscription->session, catch_up));
    if (waits)
        look_after(catch_up, TOKEN_AHEAD_MS);
    else
        begin(subscription);
}

void subscription_session_moved(struct session *session)
{
    struct catch_up *catch_up, *next;
    if (stream_batch(session)->len)
        return;
    DL_FOREACH_SAFE (session->newcomers.waiting, catch_up, next) {
        struct subscription *subscription = catch_up->subscription;
        if (!client_takes(subscription->client))
            continue;
        if (wants_replay(subscription) && is_ready(session, catch_up))
            start_replay(subscription);
        if (catch_up->answer && !subscribing_is_next(catch_up->answer))
            continue;
        if (catch_up->replayed)
            begin_replayed(subscription);
        else if (subscription->state == SUBSCRIPTION_REPLAYING)
            continue;
        else if (is_ready(session, catch_up))
            begin(subscription);
        else if (catch_up->overdue)
            look_overdue(subscription);
    }
}

static void on_catch_up_timer(struct timer *timer, uint64_t now_ms)
{
    struct catch_up *catch_up = CONTAINER_OF(timer, struct catch_up, timer);
    struct subscription *subscription = catch_up->subscription;
    (void)now_ms;
    if (!client_takes(subscription->client))
        return;
    if (subscription->state == SUBSCRIPTION_READING ||
        subscription->state == SUBSCRIPTION_REPLAYING) {
        read_history(subscription);
        return;
    }
    catch_up->overdue = true;
    session_mark_dirty(subscription->session); /* once what came in this turn is delivered */
}

/* --- coming and going --- */

void subscription_open(struct subscription *subscription, const struct target *target,
                       bool has_token, struct position at)
{
    struct session *session = subscription->session;
    bool follows = subscription->client->follows;
    if (follows && target->rate_milli)
        rate_open(subscription, target->rate_milli);
    uint32_t replay = target->has_replay ? target->replay : follows ? 0 : session->service->replay;
    if (follows && (target->resume || !session->service->history.size))
        replay = 0;
    if (!follows && (!replay || !session->service->history.size)) {
        set_state(subscription, SUBSCRIPTION_LIVE);
        return;
    }
    struct catch_up *catch_up = calloc(1, sizeof(*catch_up));
    if (!catch_up)
        abort();
    catch_up->subscription = subscription;
    catch_up->replay = replay;
    catch_up->has_token = has_token;
    catch_up->at = at;
    subscription->catch_up = catch_up;
    set_state(subscription, SUBSCRIPTION_WAITING);
    DL_APPEND(session->newcomers.waiting, catch_up);
    look_after(catch_up, POSITION_WAIT_MS);
    session_mark_dirty(session); /* looks at the end of the turn */
}

void subscription_expect(struct subscription *subscription, struct subscribe_answer *answer)
{
    /* An answer is set before the first step; NULL may take it back later, too. */
    assert(!answer || subscription->state == SUBSCRIPTION_WAITING);
    subscription->catch_up->answer = answer;
}

void subscription_close(struct subscription *subscription)
{
    struct client *client = subscription->client;
    drop_catch_up(subscription);
    rate_close(subscription);
    if (subscription->state != SUBSCRIPTION_NONE)
        set_state(subscription, SUBSCRIPTION_NONE);
    if (client->queue)
        metric_drop(DROP_CLIENT_GONE, queue_forget(client->queue, subscription));
}

struct subscribe_answer *subscription_take_answer(struct subscription *subscription)
{
    struct catch_up *catch_up = subscription->catch_up;
    struct subscribe_answer *answer = catch_up ? catch_up->answer : NULL;
    if (answer)
        catch_up->answer = NULL;
    return answer;
}

bool subscription_is_reading(const struct subscription *subscription)
{
    return subscription->catch_up && subscription->catch_up->tag;
}

size_t subscription_held_bytes(const struct subscription *subscription)
{
    return subscription->catch_up ? subscription->catch_up->held_bytes : 0;
}

void subscription_check(const struct subscription *subscription)
{
    const struct catch_up *catch_up = subscription->catch_up;
    bool joined = subscription->state != SUBSCRIPTION_NONE;
    assert(subscription->state < SUBSCRIPTION_STATES);
    assert(joined == (subscription->session != NULL));
    rate_check(subscription);
    assert((catch_up != NULL) == (joined && subscription->state != SUBSCRIPTION_LIVE));
    if (!catch_up)
        return;
    assert(catch_up->subscription == subscription);
    assert(catch_up->held.len || !catch_up->held_bytes);
    assert(catch_up->waited <= catch_up->held.len);
    /* It has to be waiting for something: the timer, an answer, or the end of the turn */
    assert(catch_up->tag || catch_up->overdue || catch_up->replayed ||
           timer_armed(&catch_up->timer) || !client_takes(subscription->client));
}
