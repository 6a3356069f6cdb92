#include "core/client/rate.h"

#include <assert.h>
#include <stdlib.h>
#include <utlist.h>

#include "common/metrics.h"
#include "common/url.h"
#include "core/client/client.h"
#include "core/client/due_ring.h"
#include "core/client/queue.h"
#include "core/node/node.h"
#include "core/pubs.h"
#include "core/session/session.h"

/* How many are delivered in one turn; the others that are due follow in the next turns. */
#define GIVEN_A_TURN 4096
/* Gap notes with nothing between them: of more than that those of an epoch become one. */
#define NOTES_MAX 32

enum rate_state {
    RATE_OFF,     /* the subscription is not live yet */
    RATE_IDLE,    /* nothing waits; it is in its session's list until the next push */
    RATE_DUE,     /* in the ring until its time comes, 10 s at most */
    RATE_OVERDUE, /* in its client's list until the client reads again or is closed */
    RATE_STATES
};

/* Which states may follow which, as bits. */
static const unsigned next_states[RATE_STATES] = {
    [RATE_OFF] = 1u << RATE_IDLE,
    [RATE_IDLE] = 1u << RATE_DUE | 1u << RATE_OVERDUE | 1u << RATE_OFF,
    [RATE_DUE] = 1u << RATE_IDLE | 1u << RATE_OVERDUE | 1u << RATE_OFF,
    [RATE_OVERDUE] = 1u << RATE_IDLE | 1u << RATE_OFF,
};

struct rate {
    struct subscription *subscription;
    struct rate *prev, *next; /* of the list of its state, but for DUE */
    struct due due;
    struct position seen; /* the session's newest is for it where that is later */
    uint64_t free_at_ms;  /* from then on the next may go */
    uint32_t every_ms;    /* at least between two */
    uint8_t state;        /* enum rate_state: set_state */
    bool counted;         /* what waits was queued before, and came back from the client's queue */
    struct pubs waiting;  /* notes, in order, and one publication that came back or was missed */
};

struct rates {
    struct hub *hub;
    struct timer timer;
    struct due_ring ring;
};

/* --- what is due when --- */

static void on_due(struct timer *timer, uint64_t now_ms);

static struct rates *rates_of(struct hub *hub)
{
    if (hub->rates)
        return hub->rates;
    hub->rates = calloc(1, sizeof(*hub->rates));
    if (!hub->rates)
        abort();
    hub->rates->hub = hub;
    return hub->rates;
}

static void look_after(struct rates *rates)
{
    uint64_t at_ms = due_next_ms(&rates->ring);
    if (at_ms == UINT64_MAX)
        timer_stop(&rates->hub->timers, &rates->timer);
    else if (!timer_armed(&rates->timer) || rates->timer.at_ms != at_ms)
        timer_start(&rates->hub->timers, &rates->timer, at_ms, on_due);
}

/* Times are rounded up to these, so that many fall together; a tenth of the time between two at
 * most, and well within the 50 ms of the contract. */
static uint64_t grain_ms(const struct rate *rate)
{
    return rate->every_ms >= 250 ? 25 : rate->every_ms >= 100 ? 10 : DUE_SLOT_MS;
}

static void put_due(struct rate *rate)
{
    struct hub *hub = rate->subscription->client->hub;
    struct rates *rates = rates_of(hub);
    uint64_t grain = grain_ms(rate);
    uint64_t at_ms = (rate->free_at_ms + grain - 1) / grain * grain;
    due_add(&rates->ring, &rate->due, at_ms, hub->now_ms);
    look_after(rates);
}

/* --- where it stands --- */

static bool is_pending(enum rate_state state)
{
    return state == RATE_DUE || state == RATE_OVERDUE;
}

static void leave_list(struct rate *rate)
{
    struct subscription *subscription = rate->subscription;
    switch ((enum rate_state)rate->state) {
    case RATE_IDLE: DL_DELETE(subscription->session->rates.idle, rate); break;
    case RATE_DUE: due_remove(&subscription->client->hub->rates->ring, &rate->due); break;
    case RATE_OVERDUE: DL_DELETE(subscription->client->overdue, rate); break;
    case RATE_OFF:
    case RATE_STATES: break;
    }
}

static void join_list(struct rate *rate)
{
    struct subscription *subscription = rate->subscription;
    switch ((enum rate_state)rate->state) {
    case RATE_IDLE: DL_APPEND(subscription->session->rates.idle, rate); break;
    case RATE_DUE: put_due(rate); break;
    case RATE_OVERDUE: DL_APPEND(subscription->client->overdue, rate); break;
    case RATE_OFF:
    case RATE_STATES: break;
    }
}

/* The one setter: a state is the list that it stands in. */
static void set_state(struct rate *rate, enum rate_state state)
{
    struct session_rates *rates = &rate->subscription->session->rates;
    if (rate->state == state)
        return;
    assert(next_states[rate->state] & 1u << state);
    rates->pending += (size_t)is_pending(state) - (size_t)is_pending(rate->state);
    leave_list(rate);
    rate->state = (uint8_t)state;
    join_list(rate);
}

/* No subscription waits for the newest publication any more. */
static void forget_newest(struct session *session)
{
    if (session->rates.pending || !session->rates.newest)
        return;
    publication_unref(session->rates.newest);
    session->rates.newest = NULL;
}

/* --- what waits --- */

static void remove_at(struct pubs *pubs, size_t k)
{
    publication_unref(pubs->items[k]);
    pubs->len--;
    for (size_t i = k; i < pubs->len; i++)
        pubs->items[i] = pubs->items[i + 1];
}

/* Of several publications only the last is kept. */
static void replace_older(struct pubs *waiting)
{
    bool later = false;
    for (size_t i = waiting->len; i-- > 0;) {
        if (is_gap_note(waiting->items[i]))
            continue;
        if (later) {
            remove_at(waiting, i);
            metric_add(METRIC_CONFLATED, 1);
        }
        later = true;
    }
}

/* Two notes of an epoch become one that says all between them. */
static void join_notes(struct pubs *waiting)
{
    for (size_t i = 1; waiting->len > NOTES_MAX && i < waiting->len; i++) {
        struct publication *a = waiting->items[i - 1], *b = waiting->items[i];
        if (!is_gap_note(a) || !is_gap_note(b) || a->at.epoch != b->at.epoch)
            continue;
        waiting->items[i - 1] = gap_note_new(a->at.epoch, a->at.offset, gap_note_to(b));
        publication_unref(a);
        remove_at(waiting, i--);
    }
}

/* In its place by position. */
static void insert(struct rate *rate, struct publication *publication)
{
    struct pubs *waiting = &rate->waiting;
    pubs_add(waiting, publication);
    size_t i = waiting->len - 1;
    for (; i && position_compare(waiting->items[i - 1]->at, publication->at) > 0; i--)
        waiting->items[i] = waiting->items[i - 1];
    waiting->items[i] = publication;
    if (position_compare(rate->seen, publication->at) < 0)
        rate->seen = publication->at;
    if (is_gap_note(publication))
        join_notes(waiting);
    else
        replace_older(waiting);
}

static bool newest_is_for(const struct rate *rate)
{
    const struct publication *newest = rate->subscription->session->rates.newest;
    return newest && position_compare(rate->seen, newest->at) < 0;
}

/* Counts the publications between what the client has seen and the newest one: it never gets
 * those. */
static void count_skipped(const struct rate *rate, struct position newest)
{
    if (newest.epoch == rate->seen.epoch)
        metric_add(METRIC_CONFLATED, newest.offset - rate->seen.offset - 1);
    else if (newest.offset && rate->seen.epoch)
        metric_add(METRIC_CONFLATED, newest.offset - 1);
}

/* The session's newest publication joins what waits. */
static void take_newest(struct rate *rate)
{
    if (!newest_is_for(rate))
        return;
    struct publication *newest = rate->subscription->session->rates.newest;
    count_skipped(rate, newest->at);
    insert(rate, newest);
}

/* A gap note goes out at once if nothing waits before it. */
static void add(struct rate *rate, struct publication *publication)
{
    if (is_gap_note(publication) && !rate->waiting.len) {
        rate->seen = publication->at;
        client_enqueue(rate->subscription, publication);
    } else {
        insert(rate, publication);
    }
}

/* --- giving it on --- */

/* Writes to a client whose queue is full, to see whether its socket takes more. */
static bool has_room(struct client *client, const struct rate *rate)
{
    size_t most = rate->subscription->session->service->slow_client.queue_bytes, cost = 0;
    for (size_t i = 0; i < rate->waiting.len; i++)
        cost += queue_cost(rate->waiting.items[i]->len);
    if (newest_is_for(rate))
        cost += queue_cost(rate->subscription->session->rates.newest->len);
    if (!client->blocked && client->queue && client->queue->bytes + cost > most)
        client_drain(client);
    return !client->blocked;
}

/* The next due time counts from when this one was due, so that the times do not drift; if this
 * one is late, it counts from now. */
static uint64_t time_of(const struct rate *rate, uint64_t now_ms)
{
    bool on_time = rate->state == RATE_DUE && now_ms - rate->due.at_ms <= DUE_SLOT_MS;
    return on_time ? rate->due.at_ms : now_ms;
}

static void enqueue(struct rate *rate, struct publication *publication)
{
    struct subscription *subscription = rate->subscription;
    struct client *client = subscription->client;
    client_enqueue(subscription, publication);
    if (is_gap_note(publication))
        return;
    rate->free_at_ms = time_of(rate, client->hub->now_ms) + rate->every_ms;
    if (client->queue)
        client->queue->conflated = true;
    if (!rate->counted) {
        client->sent++;
        session_count_out(subscription->session, 1);
    }
    rate->counted = false;
}

/* Mostly that is the session's newest alone. */
static void deliver_newest(struct rate *rate)
{
    struct client *client = rate->subscription->client;
    struct session *session = rate->subscription->session;
    if (!client_takes(client) || !has_room(client, rate)) {
        set_state(rate, RATE_OVERDUE);
        return;
    }
    if (rate->waiting.len)
        take_newest(rate);
    for (size_t i = 0; client_takes(client) && i < rate->waiting.len; i++)
        enqueue(rate, rate->waiting.items[i]);
    pubs_clear(&rate->waiting);
    if (newest_is_for(rate) && client_takes(client)) {
        count_skipped(rate, session->rates.newest->at);
        rate->seen = session->rates.newest->at;
        enqueue(rate, session->rates.newest);
    }
    set_state(rate, RATE_IDLE);
}

/* On it goes, now or when it may. */
static void settle(struct rate *rate)
{
    if (rate->state != RATE_IDLE || (!rate->waiting.len && !newest_is_for(rate)))
        return;
    if (rate->free_at_ms <= rate->subscription->client->hub->now_ms)
        deliver_newest(rate);
    else
        set_state(rate, RATE_DUE);
}

static void on_due(struct timer *timer, uint64_t now_ms)
{
    struct rates *rates = CONTAINER_OF(timer, struct rates, timer);
    struct due *due;
    for (unsigned n = 0; n < GIVEN_A_TURN && (due = due_first(&rates->ring, now_ms)); n++) {
        struct rate *rate = CONTAINER_OF(due, struct rate, due);
        struct session *session = rate->subscription->session;
        deliver_newest(rate);
        forget_newest(session);
    }
    look_after(rates);
}

/* --- what comes --- */

/* To each what waits for it and what comes, one by one: losses are rare. */
static void add_to_all(struct session *session, const struct pubs *batch)
{
    struct subscription *subscription;
    for (subscription = session->rates.first; subscription; subscription = subscription->next) {
        struct rate *rate = subscription->rate;
        if (!client_takes(subscription->client))
            continue;
        if (is_pending((enum rate_state)rate->state))
            take_newest(rate);
        for (size_t i = 0; i < batch->len; i++)
            add(rate, batch->items[i]);
        settle(rate);
    }
}

void rate_deliver(struct session *session, const struct pubs *batch)
{
    struct publication *last = NULL;
    bool has_notes = false;
    for (size_t i = 0; i < batch->len; i++) {
        if (is_gap_note(batch->items[i]))
            has_notes = true;
        else
            last = batch->items[i];
    }
    if (has_notes) {
        add_to_all(session, batch);
    } else {
        struct rate *rate, *next;
        if (session->rates.newest)
            publication_unref(session->rates.newest);
        session->rates.newest = publication_ref(last);
        /* One that is given it at once is idle again, and comes by a second time, for nothing */
        DL_FOREACH_SAFE (session->rates.idle, rate, next)
            settle(rate);
    }
    forget_newest(session);
}

void rate_announce_loss(struct session *session, const struct pubs *notes)
{
    const struct subscription *subscription;
    for (subscription = session->rates.first; subscription; subscription = subscription->next)
        metric_drop(DROP_FENCED, client_takes(subscription->client));
    add_to_all(session, notes);
    forget_newest(session);
}

/* --- clients that do not read --- */

static bool take_back(struct subscription *subscription, struct publication *publication)
{
    struct rate *rate = subscription->rate;
    if (!rate)
        return false;
    rate->counted = rate->counted || !is_gap_note(publication);
    insert(rate, publication);
    set_state(rate, RATE_OVERDUE);
    return true;
}

void rate_take_back(struct client *client)
{
    if (!client->queue->conflated)
        return;
    client->queue->conflated = false;
    queue_take_back(client->queue, take_back);
}

void rate_read_on(struct client *client)
{
    while (client->overdue && !client->blocked && client_takes(client)) {
        struct session *session = client->overdue->subscription->session;
        deliver_newest(client->overdue);
        forget_newest(session);
    }
}

/* --- coming and going --- */

void rate_open(struct subscription *subscription, uint32_t milli)
{
    assert(!subscription->rate && milli >= RATE_MIN_MILLI && milli <= RATE_MAX_MILLI);
    struct rate *rate = calloc(1, sizeof(*rate));
    if (!rate)
        abort();
    rate->subscription = subscription;
    rate->every_ms = (1000000 + milli - 1) / milli;
    subscription->rate = rate;
}

void rate_go_live(struct subscription *subscription, struct position after,
                  const struct pubs *missed, const struct pubs *held)
{
    struct rate *rate = subscription->rate;
    struct session *session = subscription->session;
    DL_DELETE(session->subscriptions, subscription);
    DL_APPEND(session->subscriptions, subscription);
    if (!session->rates.first)
        session->rates.first = subscription;
    set_state(rate, RATE_IDLE);
    for (size_t i = 0; i < missed->len; i++)
        add(rate, missed->items[i]);
    for (size_t i = 0; i < held->len; i++)
        add(rate, held->items[i]);
    if (position_compare(rate->seen, after) < 0)
        rate->seen = after;
    settle(rate);
}

void rate_close(struct subscription *subscription)
{
    struct rate *rate = subscription->rate;
    struct session *session = subscription->session;
    if (!rate)
        return;
    if (rate->state != RATE_OFF) { /* it may stay in the list for a while */
        if (session->rates.first == subscription)
            session->rates.first = subscription->next;
        DL_DELETE(session->subscriptions, subscription);
        DL_PREPEND(session->subscriptions, subscription);
    }
    metric_drop(DROP_CLIENT_GONE, is_pending((enum rate_state)rate->state));
    set_state(rate, RATE_OFF);
    forget_newest(session);
    pubs_fini(&rate->waiting);
    free(rate);
    subscription->rate = NULL;
}

void rates_free(struct hub *hub)
{
    if (!hub->rates)
        return;
    timer_stop(&hub->timers, &hub->rates->timer);
    free(hub->rates);
    hub->rates = NULL;
}

void rate_check(const struct subscription *subscription)
{
    const struct rate *rate = subscription->rate;
    if (!rate)
        return;
    size_t publications = 0;
    for (size_t i = 0; i < rate->waiting.len; i++)
        publications += !is_gap_note(rate->waiting.items[i]);
    assert(rate->subscription == subscription && rate->state < RATE_STATES && publications <= 1);
    assert((rate->state == RATE_OFF) == (subscription->state != SUBSCRIPTION_LIVE));
    if (!client_takes(subscription->client))
        return;
    bool waits = rate->waiting.len || newest_is_for(rate);
    assert(rate->state == RATE_OFF || waits == is_pending((enum rate_state)rate->state));
    assert(rate->state != RATE_DUE || timer_armed(&subscription->client->hub->rates->timer));
    assert(rate->state != RATE_OVERDUE || subscription->client->blocked);
}
