#include "core/fanout.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "common/metrics.h"
#include "core/client/client.h"
#include "core/client/queue.h"
#include "core/client/rate.h"
#include "core/pubs.h"
#include "core/session/session.h"
#include "core/session/stream.h"
#include "core/tail.h"

/* A whole batch, encoded in one form, in one piece of memory. */
struct fanout_piece {
    unsigned form;
    const uint8_t *bytes; /* NULL: out of memory */
    size_t len;
    struct wire *joined; /* owns bytes where there is more than one publication */
};

/* The forms that this batch was needed in so far; mostly one or two. */
struct pieces {
    size_t len;
    struct fanout_piece items[FORM_KEYS_MAX];
};

static void piece_join(struct session *session, const struct pubs *batch,
                       struct fanout_piece *piece)
{
    struct hub *hub = session->hub;
    size_t total = 0;
    for (size_t i = 0; i < batch->len; i++) {
        const struct encoding *one = form_of(hub, piece->form, batch->items[i], session->id);
        if (!one)
            return;
        total += one->len;
    }
    piece->joined = wire_new(total);
    if (!piece->joined)
        return;
    for (size_t i = 0; i < batch->len; i++) {
        const struct encoding *one = form_of(hub, piece->form, batch->items[i], session->id);
        memcpy(piece->joined->bytes + piece->len, one->bytes, one->len);
        piece->len += one->len;
    }
    piece->bytes = piece->joined->bytes;
}

static const struct fanout_piece *piece_of(struct pieces *pieces, struct session *session,
                                           const struct pubs *batch, unsigned form)
{
    for (size_t i = 0; i < pieces->len; i++)
        if (pieces->items[i].form == form)
            return &pieces->items[i];
    struct fanout_piece *piece = &pieces->items[pieces->len++];
    *piece = (struct fanout_piece){.form = form};
    if (batch->len > 1) {
        piece_join(session, batch, piece);
        return piece;
    }
    const struct encoding *only = form_of(session->hub, form, batch->items[0], session->id);
    if (only) {
        piece->bytes = only->bytes;
        piece->len = only->len;
    }
    return piece;
}

static void pieces_free(struct pieces *pieces)
{
    for (size_t i = 0; i < pieces->len; i++)
        if (pieces->items[i].joined)
            wire_unref(pieces->items[i].joined);
}

static void enqueue_all(struct subscription *subscription, const struct pubs *batch)
{
    for (size_t i = 0; i < batch->len && client_takes(subscription->client); i++)
        client_enqueue(subscription, batch->items[i]);
}

static void hold_all(struct subscription *subscription, const struct pubs *batch)
{
    for (size_t i = 0; i < batch->len; i++)
        subscription_hold(subscription, batch->items[i]);
}

/* All that is new goes into one write: at once if the client gets nothing else in this turn,
 * otherwise at the end of the turn. */
static void deliver(struct session *session, struct subscription *subscription,
                    const struct pubs *batch, struct pieces *pieces)
{
    struct hub *hub = session->hub;
    struct client *client = subscription->client;
    if (!client_takes(client))
        return;
    if (subscription->state != SUBSCRIPTION_LIVE) {
        hold_all(subscription, batch);
        return;
    }
    client->sent += batch->len;
    if (client->queue || client->blocked || client->further) {
        enqueue_all(subscription, batch);
        return;
    }
    const struct fanout_piece *piece = piece_of(pieces, session, batch,
                                                subscription_form(subscription));
    if (!piece->bytes) {
        metric_drop(DROP_NO_MEMORY, batch->len);
        client_close(client, CLOSE_TRY_LATER, "out of memory");
        return;
    }
    if (!piece->len)
        return;
    if (hub->setup.client_ops->write(hub->setup.client_ctx, client, piece->bytes, piece->len) !=
        STATUS_OK) {
        client->blocked = true;
        enqueue_all(subscription, batch);
        return;
    }
    metric_add(METRIC_BYTES_OUT, piece->len);
}

/* The gap notes that replace publications which must not be sent any more. The caller frees them.
 */
static struct pubs notes_of(const struct pubs *batch)
{
    struct pubs notes = {0};
    for (size_t i = 0; i < batch->len; i++) {
        const struct publication *lost = batch->items[i];
        uint64_t to = is_gap_note(lost) ? gap_note_to(lost) : lost->at.offset;
        struct publication *note = gap_note_new(lost->at.epoch, lost->at.offset, to);
        pubs_add(&notes, note);
        publication_unref(note);
    }
    return notes;
}

static void announce_loss(struct subscription *subscription, const struct pubs *batch)
{
    if (!client_takes(subscription->client) || !subscription->client->follows)
        return;
    struct pubs notes = notes_of(batch);
    if (subscription->state == SUBSCRIPTION_LIVE)
        enqueue_all(subscription, &notes);
    else
        hold_all(subscription, &notes);
    pubs_fini(&notes);
}

static void deliver_rated(struct session *session, const struct pubs *batch, bool may_write)
{
    if (!session->rates.first)
        return;
    if (may_write) {
        rate_deliver(session, batch);
        return;
    }
    struct pubs notes = notes_of(batch);
    rate_announce_loss(session, &notes);
    pubs_fini(&notes);
}

static void observe(const struct session *session, const struct pubs *batch)
{
    const struct hub *hub = session->hub;
    uint64_t now_us = hub->setup.now_us ? hub->setup.now_us(hub->setup.clock_ctx) : 0;
    for (size_t i = 0; i < batch->len; i++) {
        metric_observe(HISTOGRAM_FANOUT, session->facts.clients);
        if (now_us && batch->items[i]->received_us)
            metric_observe(HISTOGRAM_PUSH_LATENCY, now_us - batch->items[i]->received_us);
    }
}

/*
 * What goes ahead of the loop over the subscriptions, and asks memory for what a delivery will look
 * at, which answers while the kernel is busy with the clients before.
 *
 * Two runners do it for the client and its queue. The subscriptions themselves they can't: where
 * one stands is known from the one before it, so that a list whose parts have left the cache costs
 * one wait after the other. Each subscription keeps where the one AHEAD places further was when the
 * list was walked last.
 */
#define AHEAD      12
#define AHEAD_UNIT 8 /* an address is a multiple of it */

struct runners {
    const struct subscription *far, *near;
    struct subscription *passed[AHEAD]; /* the last ones, in a ring */
    size_t steps;
};

static void runners_start(struct runners *runners, const struct subscription *first)
{
    *runners = (struct runners){.far = first, .near = first};
    for (int i = 0; i < 4 && runners->far; i++)
        runners->far = runners->far->next;
    for (int i = 0; i < 2 && runners->near; i++)
        runners->near = runners->near->next;
}

/* 0 where they are too far from each other. */
static int32_t distance(const struct subscription *from, const struct subscription *to)
{
    intptr_t units = ((intptr_t)to - (intptr_t)from) / AHEAD_UNIT;
    return units >= INT32_MIN && units <= INT32_MAX ? (int32_t)units : 0;
}

static void look_ahead(struct runners *runners, struct subscription *now)
{
    struct subscription **at = &runners->passed[runners->steps++ % AHEAD];
    /* Only an address: what stood there may be gone. NOLINTNEXTLINE(performance-no-int-to-ptr) */
    __builtin_prefetch((const void *)((intptr_t)now + (intptr_t)now->ahead * AHEAD_UNIT));
    if (*at) {
        int32_t ahead = distance(*at, now);
        if ((*at)->ahead != ahead)
            (*at)->ahead = ahead;
    }
    *at = now;
}

static void runners_step(struct runners *runners, struct subscription *now)
{
    const struct subscription *far = runners->far, *near = runners->near;
    look_ahead(runners, now);
    if (far) {
        __builtin_prefetch(far->next);
        __builtin_prefetch(far->client->queue);
        __builtin_prefetch((const char *)far->client + 64);
        __builtin_prefetch((const char *)far->client +
                           128); /* the front's part stands behind the core's */
        runners->far = far->next;
    }
    if (near) {
        if (near->client->queue)
            queue_fetch_ahead(near->client->queue);
        runners->near = near->next;
    }
}

void fanout_deliver(struct session *session)
{
    struct hub *hub = session->hub;
    struct pubs *next_turn = stream_batch(session), batch = *next_turn;
    if (!batch.len)
        return;
    *next_turn = (struct pubs){0};
    struct pieces pieces;
    pieces.len = 0;
    bool owned = session_is_owned(session);
    uint64_t written = 0;
    struct subscription *subscription, *next;
    struct runners runners;
    if (hub->tails)
        tail_batch(session, &batch);
    runners_start(&runners, session->subscriptions);
    DL_FOREACH_SAFE (session->subscriptions, subscription, next) {
        if (subscription == session->rates.first)
            break;
        runners_step(&runners, subscription);
        /* A node that was paused in the middle of this must not go on (contract section 9). */
        if (owned && !node_may_write(hub)) {
            metric_drop(DROP_FENCED, batch.len);
            announce_loss(subscription, &batch);
            continue;
        }
        deliver(session, subscription, &batch, &pieces);
        written += batch.len;
    }
    deliver_rated(session, &batch, !owned || node_may_write(hub));
    session_count_out(session, written);
    observe(session, &batch);
    pieces_free(&pieces);
    pubs_clear(&batch);
    if (next_turn->cap)
        pubs_fini(&batch);
    else
        *next_turn = batch; /* its small array serves the next turn */
}
