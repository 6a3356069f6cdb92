#include "core/fanout.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "common/metrics.h"
#include "core/assertion.h"
#include "core/client/client.h"
#include "core/client/queue.h"
#include "core/history.h"
#include "core/lease.h"
#include "core/ownership.h"
#include "core/pubs.h"
#include "core/session.h"
#include "core/tail.h"

#define PUBLISH_COUNT 500        /* publications in one call of the script */
#define PUBLISH_BYTES (8u << 20) /* payload in one call, but for a single larger one */
/* Kept for another try; beyond it the oldest are lost to other nodes, and counted */
#define UNCONFIRMED_COUNT 10000
#define UNCONFIRMED_BYTES (16u << 20)

static bool wants_bus(const struct session *session)
{
    return session->members_len || session->service->history.size ||
           (session->hub->bus->shared && session->hub->now_ms < session->publish_until_ms);
}

void fanout_place(struct session *session, struct publication *publication)
{
    struct hub *hub = session->hub;
    publication->at = (struct position){session->epoch, ++session->placed};
    publication->time_ms = hub->setup.unix_ms(hub->setup.clock_ctx);
    ring_add(session, publication);
    if (wants_bus(session))
        pubs_add(&session->to_bus, publication);
    history_receive(session, publication);
    hub_mark_dirty(session);
    publication_unref(publication);
}

void fanout_lost(struct session *session)
{
    struct position next = {session->epoch, session->at.offset + 1};
    session->placed++;
    if (session->recovering || session->at.epoch != session->epoch ||
        next.offset != session->placed)
        return; /* the next publication shows the hole, as it does on other nodes */
    struct publication *note = gap_note_new(next.epoch, next.offset, next.offset);
    pubs_add(&session->batch, note);
    publication_unref(note);
    session->at = next;
    hub_mark_dirty(session);
}

struct piece {
    unsigned form;
    const uint8_t *bytes; /* NULL: out of memory */
    size_t len;
    struct wire *joined; /* owns bytes where there is more than one publication */
};

/* Those that this batch has been asked for; mostly one or two. */
struct pieces {
    size_t len;
    struct piece items[FORM_KEYS_MAX];
};

static void piece_join(struct session *session, const struct pubs *batch, struct piece *piece)
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

static const struct piece *piece_of(struct pieces *pieces, struct session *session,
                                    const struct pubs *batch, unsigned form)
{
    for (size_t i = 0; i < pieces->len; i++)
        if (pieces->items[i].form == form)
            return &pieces->items[i];
    struct piece *piece = &pieces->items[pieces->len++];
    *piece = (struct piece){.form = form};
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

/* One write for all that is new: at once where that is all that the client is told in this turn,
 * else at its end. */
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
    const struct piece *piece = piece_of(pieces, session, batch, subscription_form(subscription));
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

/* In the place of publications that this client must not get any more. */
static void announce_loss(struct subscription *subscription, const struct pubs *batch)
{
    if (!client_takes(subscription->client) || !subscription->client->follows)
        return;
    for (size_t i = 0; i < batch->len; i++) {
        const struct publication *lost = batch->items[i];
        uint64_t to = is_gap_note(lost) ? gap_note_to(lost) : lost->at.offset;
        struct publication *note = gap_note_new(lost->at.epoch, lost->at.offset, to);
        if (subscription->state == SUBSCRIPTION_LIVE)
            client_enqueue(subscription, note);
        else
            subscription_hold(subscription, note);
        publication_unref(note);
    }
}

static void observe(const struct session *session, const struct pubs *batch)
{
    const struct hub *hub = session->hub;
    uint64_t now_us = hub->setup.now_us ? hub->setup.now_us(hub->setup.clock_ctx) : 0;
    for (size_t i = 0; i < batch->len; i++) {
        metric_observe(HISTOGRAM_FANOUT, session->clients_len);
        if (now_us && batch->items[i]->received_us)
            metric_observe(HISTOGRAM_PUSH_LATENCY, now_us - batch->items[i]->received_us);
    }
}

/* Two runners ahead of the loop over the clients: they ask memory for what a delivery to a client,
 * or to its queue, will look at. It answers while the kernel is busy with the clients before; for
 * slow clients, that cost nothing but memory, three waits of four fall away. */
struct runners {
    const struct subscription *far, *near;
};

static struct runners runners_start(const struct subscription *first)
{
    struct runners runners = {first, first};
    for (int i = 0; i < 4 && runners.far; i++)
        runners.far = runners.far->next;
    for (int i = 0; i < 2 && runners.near; i++)
        runners.near = runners.near->next;
    return runners;
}

static void runners_step(struct runners *runners)
{
    const struct subscription *far = runners->far, *near = runners->near;
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

static void flush_clients(struct session *session)
{
    struct hub *hub = session->hub;
    struct pubs batch = session->batch;
    if (!batch.len)
        return;
    session->batch = (struct pubs){0};
    struct pieces pieces;
    pieces.len = 0;
    bool owned = session_is_owned(session);
    uint64_t written = 0;
    struct subscription *subscription, *next;
    struct runners runners = runners_start(session->subscriptions);
    if (hub->tails)
        tail_batch(session, &batch);
    DL_FOREACH_SAFE (session->subscriptions, subscription, next) {
        runners_step(&runners);
        /* A node that was paused in the middle of this must not go on (contract section 9). */
        if (owned && !hub_may_write(hub)) {
            metric_drop(DROP_FENCED, batch.len);
            announce_loss(subscription, &batch);
            continue;
        }
        deliver(session, subscription, &batch, &pieces);
        written += batch.len;
    }
    session->messages_out += written;
    metric_add(METRIC_MESSAGES_OUT, written);
    metric_service_add(session->metrics, SERVICE_MESSAGES_OUT, (int64_t)written);
    observe(session, &batch);
    pieces_free(&pieces);
    pubs_clear(&batch);
    if (session->batch.cap)
        pubs_fini(&batch);
    else
        session->batch = batch; /* its small array serves the next turn */
}

static void forget_oldest_unconfirmed(struct session *session)
{
    size_t bytes = 0;
    for (size_t i = 0; i < session->unconfirmed.len; i++)
        bytes += session->unconfirmed.items[i]->len;
    size_t n = 0;
    while (session->unconfirmed.len - n > UNCONFIRMED_COUNT ||
           (bytes > UNCONFIRMED_BYTES && session->unconfirmed.len - n > 1))
        bytes -= session->unconfirmed.items[n++]->len;
    if (n) {
        metric_drop(DROP_GAP, n);
        pubs_shift(&session->unconfirmed, n);
    }
}

/* One script call for each run of publications within the bounds; the tag is the last offset of the
 * run. */
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
        hub->bus->ops->publish(hub->bus, session->id, announce ? items[from + n - 1]->at.offset : 0,
                               items[from]->at.epoch, items + from, n, service->history.size,
                               service->history.ttl_ms, announce);
        metric_add(METRIC_BUS_PUBLISHED, n);
        from += n;
    }
}

static void flush_bus(struct session *session)
{
    struct hub *hub = session->hub;
    if (!session->to_bus.len)
        return;
    if (!hub_may_write(hub)) {
        metric_drop(DROP_FENCED, session->to_bus.len);
        pubs_clear(&session->to_bus);
        return;
    }
    for (size_t i = 0; i < session->to_bus.len; i++)
        pubs_add(&session->unconfirmed, session->to_bus.items[i]);
    /* After a reconnect what is not confirmed goes first, in one go with this:
     * fanout_publish_again, once the record is asserted. */
    if (hub->bus_connected && !assertion_pending(session))
        publish(session, session->to_bus.items, session->to_bus.len, true);
    else
        forget_oldest_unconfirmed(session);
    pubs_clear(&session->to_bus);
}

bool fanout_flush_far(struct session *session)
{
    if (!session->members_len || !session->to_bus.len)
        return false;
    flush_bus(session);
    return true;
}

void fanout_flush(struct session *session)
{
    if (session->batch.len)
        flush_clients(session);
    flush_bus(session);
    if (session->waiting)
        subscription_session_moved(session);
}

/* What was to go out in an epoch that is over can't any more. */
static void drop_of_old_epochs(struct session *session)
{
    struct pubs *unconfirmed = &session->unconfirmed;
    size_t n = 0;
    while (n < unconfirmed->len && unconfirmed->items[n]->at.epoch < session->epoch)
        n++;
    if (n) {
        metric_drop(DROP_STALE_EPOCH, n);
        pubs_shift(unconfirmed, n);
    }
}

void fanout_publish_again(struct session *session)
{
    drop_of_old_epochs(session);
    if (session->unconfirmed.len)
        publish(session, session->unconfirmed.items, session->unconfirmed.len, true);
}

void fanout_append_ring(struct session *session, uint64_t younger_ms)
{
    uint64_t unix_ms = session->hub->setup.unix_ms(session->hub->setup.clock_ctx);
    for (uint32_t i = 0; i < session->ring.len; i++) {
        struct publication *publication = ring_at(&session->ring, i);
        /* What is not confirmed is published again: it must not be in the history without having
         * been announced. */
        if (session->unconfirmed.len &&
            position_compare(publication->at, session->unconfirmed.items[0]->at) >= 0)
            break;
        if (session->to_bus.len &&
            position_compare(publication->at, session->to_bus.items[0]->at) >= 0)
            break;
        if (unix_ms - publication->time_ms <= younger_ms)
            publish(session, &publication, 1, false);
    }
}

void fanout_on_published(struct session *session, uint64_t tag, enum status status)
{
    struct pubs *unconfirmed = &session->unconfirmed;
    if (!tag)
        return;
    if (status == STATUS_IO) {
        /* Sent again once the record is asserted: after the reconnect, or a while */
        assertion_doubt(session);
        return;
    }
    if (status == STATUS_REFUSED) {
        if (unconfirmed->len)
            assertion_on_refusal(
                session); /* it waits: the assertion says whether it goes out again */
        return;
    }
    if (status == STATUS_NO_MEMORY)
        metric_add(METRIC_HISTORY_REFUSED, 1);
    size_t n = 0;
    while (n < unconfirmed->len && unconfirmed->items[n]->at.offset <= tag)
        n++;
    pubs_shift(unconfirmed, n);
}
