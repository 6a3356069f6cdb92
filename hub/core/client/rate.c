#include "core/client/rate.h"

#include <assert.h>
#include <stdlib.h>
#include <utlist.h>

#include "common/metrics.h"
#include "common/url.h"
#include "core/client/client.h"
#include "core/client/queue.h"
#include "core/fanout.h"
#include "core/node/node.h"
#include "core/pubs.h"
#include "core/session/state.h"

/* The ring of times: it holds the longest wait (10 s at RATE_MIN_MILLI) and what that is rounded
 * up by. */
#define SLOT_MS 5
#define SLOTS   4096
/* Given on in one turn; what else is due follows in the next ones. */
#define GIVEN_A_TURN 4096
/* Gap notes with nothing between them: of more than that those of an epoch become one. */
#define NOTES_MAX 32

enum rate_state {
    RATE_IDLE,    /* nothing waits */
    RATE_DUE,     /* in the ring; until its time, 10 s at most */
    RATE_OVERDUE, /* in its client's list; until that reads on, or is given up as silent */
    RATE_STATES
};

/* Which states may follow which, as bits. */
static const unsigned next_states[RATE_STATES] = {
    [RATE_IDLE] = 1u << RATE_DUE | 1u << RATE_OVERDUE,
    [RATE_DUE] = 1u << RATE_IDLE | 1u << RATE_OVERDUE,
    [RATE_OVERDUE] = 1u << RATE_IDLE,
};

struct rate {
    struct subscription *subscription;
    struct pubs waiting;      /* in order: notes, the newest publication, notes */
    uint64_t free_at_ms;      /* from then on the next may go */
    uint64_t due_at_ms;       /* of one that is DUE */
    uint32_t every_ms;        /* at least between two */
    uint8_t state;            /* enum rate_state: set_state */
    bool has_publication;     /* waiting has one */
    bool counted;             /* it was given on before, and came back */
    struct rate *prev, *next; /* of its slot, or of its client's overdue */
};

struct rates {
    struct hub *hub;
    struct timer timer;
    uint64_t from;               /* the slot that is looked at first, counted from time 0 */
    uint64_t filled[SLOTS / 64]; /* which are not empty, as bits */
    struct rate *slots[SLOTS];
};

static void set_state(struct rate *rate, enum rate_state state)
{
    assert(next_states[rate->state] & 1u << state);
    rate->state = (uint8_t)state;
}

/* --- the ring --- */

static void on_due(struct timer *timer, uint64_t now_ms);

static struct rates *rates_of(struct hub *hub)
{
    if (hub->rates)
        return hub->rates;
    hub->rates = calloc(1, sizeof *hub->rates);
    if (!hub->rates)
        abort();
    hub->rates->hub = hub;
    return hub->rates;
}

/* The first slot from `from` on that is not empty; UINT64_MAX: all are. */
static uint64_t first_filled(const struct rates *rates)
{
    uint64_t at = rates->from % SLOTS;
    for (unsigned i = 0; i <= SLOTS / 64; i++) {
        uint64_t word = (at / 64 + i) % (SLOTS / 64);
        uint64_t bits = rates->filled[word];
        if (i == 0)
            bits &= UINT64_MAX << at % 64;
        if (bits)
            return rates->from + (word * 64 + (unsigned)__builtin_ctzll(bits) + SLOTS - at) % SLOTS;
    }
    return UINT64_MAX;
}

static void look_after(struct rates *rates)
{
    uint64_t slot = first_filled(rates);
    if (slot == UINT64_MAX)
        timer_stop(&rates->hub->timers, &rates->timer);
    else if (!timer_armed(&rates->timer) || rates->timer.at_ms != slot * SLOT_MS)
        timer_start(&rates->hub->timers, &rates->timer, slot * SLOT_MS, on_due);
}

static void put(struct rates *rates, struct rate *rate)
{
    uint64_t at = rate->due_at_ms / SLOT_MS % SLOTS;
    DL_APPEND(rates->slots[at], rate);
    rates->filled[at / 64] |= UINT64_C(1) << at % 64;
}

static void take_out(struct rates *rates, struct rate *rate)
{
    uint64_t at = rate->due_at_ms / SLOT_MS % SLOTS;
    DL_DELETE(rates->slots[at], rate);
    if (!rates->slots[at])
        rates->filled[at / 64] &= ~(UINT64_C(1) << at % 64);
}

/* Times are rounded up to these, so that many fall together; a tenth of the time between two at
 * most, and well within the 50 ms of the contract. */
static uint64_t grain_ms(const struct rate *rate)
{
    return rate->every_ms >= 250 ? 25 : rate->every_ms >= 100 ? 10 : SLOT_MS;
}

static void set_due(struct rate *rate)
{
    struct hub *hub = rate->subscription->client->hub;
    struct rates *rates = rates_of(hub);
    uint64_t grain = grain_ms(rate);
    if (first_filled(rates) == UINT64_MAX)
        rates->from = hub->now_ms / SLOT_MS;
    rate->due_at_ms = (rate->free_at_ms + grain - 1) / grain * grain;
    set_state(rate, RATE_DUE);
    put(rates, rate);
    look_after(rates);
}

/* --- what waits --- */

/* Takes it out of where it stands. */
static void unlist(struct rate *rate)
{
    struct client *client = rate->subscription->client;
    if (rate->state == RATE_DUE)
        take_out(client->hub->rates, rate);
    else if (rate->state == RATE_OVERDUE)
        DL_DELETE(client->overdue, rate);
    if (rate->state != RATE_IDLE)
        set_state(rate, RATE_IDLE);
}

static void set_overdue(struct rate *rate)
{
    unlist(rate);
    set_state(rate, RATE_OVERDUE);
    DL_APPEND(rate->subscription->client->overdue, rate);
}

static void remove_at(struct pubs *pubs, size_t k)
{
    publication_unref(pubs->items[k]);
    pubs->len--;
    for (size_t i = k; i < pubs->len; i++)
        pubs->items[i] = pubs->items[i + 1];
}

/* Of several publications the last counts. */
static void replace_older(struct rate *rate)
{
    size_t last = rate->waiting.len;
    for (size_t i = rate->waiting.len; i-- > 0;) {
        if (is_gap_note(rate->waiting.items[i]))
            continue;
        if (last < rate->waiting.len) {
            remove_at(&rate->waiting, i);
            last--;
            metric_add(METRIC_CONFLATED, 1);
        } else {
            last = i;
        }
    }
    rate->has_publication = last < rate->waiting.len;
}

/* Two notes of an epoch become one that says all between them. */
static void join_notes(struct rate *rate)
{
    struct pubs *waiting = &rate->waiting;
    for (size_t i = 1; waiting->len > NOTES_MAX && i < waiting->len; i++) {
        struct publication *a = waiting->items[i - 1], *b = waiting->items[i];
        if (!is_gap_note(a) || !is_gap_note(b) || a->at.epoch != b->at.epoch)
            continue;
        waiting->items[i - 1] = gap_note_new(a->at.epoch, a->at.offset, gap_note_to(b));
        publication_unref(a);
        remove_at(waiting, i--);
    }
}

void rate_add(struct subscription *subscription, struct publication *publication)
{
    struct rate *rate = subscription->rate;
    if (is_gap_note(publication) && !rate->waiting.len) {
        client_enqueue(subscription, publication);
        return;
    }
    pubs_add(&rate->waiting, publication);
    if (is_gap_note(publication))
        join_notes(rate);
    else
        replace_older(rate);
}

/* --- giving it on --- */

/* A client whose queue is full is written to, to see whether it takes more. */
static bool has_room(struct client *client, const struct rate *rate)
{
    size_t most = rate->subscription->session->service->slow_client.queue_bytes, cost = 0;
    for (size_t i = 0; i < rate->waiting.len; i++)
        cost += queue_cost(rate->waiting.items[i]->len);
    if (!client->blocked && client->queue && client->queue->bytes + cost > most)
        client_drain(client);
    return !client->blocked;
}

/* The time of the next counts from when this one was due, or it would be later each time; but not
 * where this one is late. */
static uint64_t time_of(const struct rate *rate, uint64_t now_ms)
{
    bool on_time = rate->state == RATE_DUE && now_ms - rate->due_at_ms <= SLOT_MS;
    return on_time ? rate->due_at_ms : now_ms;
}

static void give(struct rate *rate)
{
    struct subscription *subscription = rate->subscription;
    struct client *client = subscription->client;
    if (!client_takes(client) || !has_room(client, rate)) {
        if (rate->state != RATE_OVERDUE)
            set_overdue(rate);
        return;
    }
    if (rate->has_publication)
        rate->free_at_ms = time_of(rate, client->hub->now_ms) + rate->every_ms;
    unlist(rate);
    for (size_t i = 0; client_takes(client) && i < rate->waiting.len; i++)
        client_enqueue(subscription, rate->waiting.items[i]);
    if (client->queue)
        client->queue->conflated = true;
    if (rate->has_publication && !rate->counted) {
        client->sent++;
        fanout_count(subscription->session, 1);
    }
    rate->has_publication = rate->counted = false;
    pubs_clear(&rate->waiting);
}

void rate_settle(struct subscription *subscription)
{
    struct rate *rate = subscription->rate;
    if (!rate->waiting.len || rate->state != RATE_IDLE)
        return;
    if (rate->free_at_ms <= subscription->client->hub->now_ms)
        give(rate);
    else
        set_due(rate);
}

/* The ring may have gone round while the node was paused: what is for later stays. Looked for from
 * the start each time, since giving one on may move others of its client. */
static struct rate *first_due(struct rate *of_slot, uint64_t now_ms)
{
    struct rate *rate;
    DL_FOREACH (of_slot, rate)
        if (rate->due_at_ms <= now_ms)
            break;
    return rate;
}

static void on_due(struct timer *timer, uint64_t now_ms)
{
    struct rates *rates = CONTAINER_OF(timer, struct rates, timer);
    unsigned left = GIVEN_A_TURN;
    uint64_t slot;
    while (left && (slot = first_filled(rates)) <= now_ms / SLOT_MS) {
        struct rate *rate;
        rates->from = slot;
        for (; left && (rate = first_due(rates->slots[slot % SLOTS], now_ms)); left--)
            give(rate);
        if (left)
            rates->from = slot + 1;
    }
    look_after(rates);
}

/* --- clients that do not read --- */

/* What waits already came later. */
static bool take_back(struct subscription *subscription, struct publication *publication)
{
    struct rate *rate = subscription->rate;
    if (!rate)
        return false;
    struct pubs *waiting = &rate->waiting;
    pubs_add(waiting, publication);
    size_t i = waiting->len - 1;
    for (; i && position_compare(waiting->items[i - 1]->at, publication->at) > 0; i--)
        waiting->items[i] = waiting->items[i - 1];
    waiting->items[i] = publication;
    rate->counted = rate->counted || !is_gap_note(publication);
    replace_older(rate);
    if (rate->state != RATE_OVERDUE)
        set_overdue(rate);
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
    while (client->overdue && !client->blocked && client_takes(client))
        give(client->overdue);
}

/* --- coming and going --- */

void rate_open(struct subscription *subscription, uint32_t milli)
{
    assert(!subscription->rate && milli >= RATE_MIN_MILLI && milli <= RATE_MAX_MILLI);
    struct rate *rate = calloc(1, sizeof *rate);
    if (!rate)
        abort();
    rate->subscription = subscription;
    rate->every_ms = (1000000 + milli - 1) / milli;
    subscription->rate = rate;
}

void rate_close(struct subscription *subscription)
{
    struct rate *rate = subscription->rate;
    if (!rate)
        return;
    unlist(rate);
    metric_drop(DROP_CLIENT_GONE, rate->has_publication);
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
    assert(rate->subscription == subscription && rate->state < RATE_STATES);
    assert(publications == rate->has_publication);
    assert((rate->state == RATE_IDLE) == !rate->waiting.len);
    assert(rate->state != RATE_DUE || timer_armed(&subscription->client->hub->rates->timer));
    assert(rate->state != RATE_OVERDUE || subscription->client->blocked ||
           !client_takes(subscription->client));
}
