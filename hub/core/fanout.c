#include "core/fanout.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "common/metrics.h"
#include "common/v1.h"
#include "core/assertion.h"
#include "core/follower.h"
#include "core/history.h"
#include "core/lease.h"
#include "core/ownership.h"
#include "core/pubs.h"
#include "core/queue.h"
#include "core/session.h"
#include "core/tail.h"

#define PUBLISH_COUNT 500        /* publications in one call of the script */
#define PUBLISH_BYTES (8u << 20) /* payload in one call, but for a single larger one */
/* Kept for another try; beyond it the oldest are lost to other nodes, and counted */
#define UNCONFIRMED_COUNT 10000
#define UNCONFIRMED_BYTES (16u << 20)
#define WINDOW_BITS_MAX   15 /* what permessage-deflate has unless a client asks for less */

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

static size_t head_len(const uint8_t *frame)
{
    return frame[1] < 126 ? 2 : frame[1] == 126 ? 4 : 10;
}

/* An empty wire says that it does not pay, so that it is not tried for each client again. */
static struct wire *deflate_frame(struct hub *hub, const uint8_t *frame, size_t len)
{
    size_t head = head_len(frame);
    struct wire *wire = NULL;
    if (hub->setup.client_ops->deflate)
        wire = hub->setup.client_ops->deflate(hub->setup.client_ctx, frame[0] & 0x0f, frame + head,
                                              len - head);
    return wire ? wire : wire_new(0);
}

static struct wire *gap_frame(struct hub *hub, const struct publication *note, enum wire_form form)
{
    if (form == WIRE_RAW)
        return wire_new(0); /* raw clients have no word for it */
    return v1_gap(form, hub->setup.unix_ms(hub->setup.clock_ctx), note->at.epoch, note->at.offset,
                  gap_note_to(note));
}

static const uint8_t *plain_frame(struct hub *hub, struct publication *publication,
                                  enum wire_form form, size_t *len)
{
    bool note = is_gap_note(publication);
    if (form == WIRE_RAW && !note)
        return publication_frame(publication, len);
    struct wire **slot = &publication->forms[form][0];
    if (!*slot)
        *slot = note ? gap_frame(hub, publication, form) : v1_message(form, publication);
    if (!*slot)
        return NULL;
    *len = (*slot)->len;
    return (*slot)->bytes;
}

/* One deflated frame serves all windows: of a message that is no larger than the window nothing
 * lies outside it. */
static bool may_deflate(const struct publication *publication, unsigned window_bits,
                        const uint8_t *plain, size_t plain_len)
{
    if (!window_bits || is_gap_note(publication))
        return false;
    return window_bits == WINDOW_BITS_MAX || plain_len - head_len(plain) <= (size_t)1
                                                                                << window_bits;
}

const uint8_t *fanout_frame(struct hub *hub, struct publication *publication, enum wire_form form,
                            unsigned window_bits, size_t *len)
{
    const uint8_t *plain = plain_frame(hub, publication, form, len);
    if (!plain || !may_deflate(publication, window_bits, plain, *len))
        return plain;
    struct wire **slot = &publication->forms[form][1];
    if (!*slot)
        *slot = deflate_frame(hub, plain, *len);
    if (!*slot || !(*slot)->len)
        return plain;
    *len = (*slot)->len;
    return (*slot)->bytes;
}

/* All frames of a batch in one piece, for one form. */
struct piece {
    const uint8_t *bytes;
    size_t len;
    struct wire *joined; /* owns bytes where there is more than one frame */
    bool made;
};

static bool piece_make(struct session *session, const struct pubs *batch, enum wire_form form,
                       unsigned window_bits, struct piece *piece)
{
    struct hub *hub = session->hub;
    piece->made = true;
    if (batch->len == 1) {
        piece->bytes = fanout_frame(hub, batch->items[0], form, window_bits, &piece->len);
        return piece->bytes;
    }
    size_t total = 0, len;
    for (size_t i = 0; i < batch->len; i++) {
        if (!fanout_frame(hub, batch->items[i], form, window_bits, &len))
            return false;
        total += len;
    }
    piece->joined = wire_new(total);
    if (!piece->joined)
        return false;
    for (size_t i = 0; i < batch->len; i++) {
        const uint8_t *frame = fanout_frame(hub, batch->items[i], form, window_bits, &len);
        memcpy(piece->joined->bytes + piece->len, frame, len);
        piece->len += len;
    }
    piece->bytes = piece->joined->bytes;
    return true;
}

static void enqueue_all(struct client *client, const struct pubs *batch)
{
    for (size_t i = 0; i < batch->len && client->state != CLIENT_CLOSING; i++)
        queue_publication(client, batch->items[i]);
}

/* For a window that is smaller than the usual, which is rare: no piece is made that others could
 * share. */
static void deliver_singly(struct client *client, const struct pubs *batch)
{
    for (size_t i = 0; i < batch->len && client->state != CLIENT_CLOSING; i++) {
        queue_publication(client, batch->items[i]);
        if (!client->blocked)
            queue_drain(client);
    }
}

/* One write for all that is new; what the socket does not take waits in the client's queue. */
static void deliver(struct session *session, struct client *client, const struct pubs *batch,
                    struct piece pieces[WIRE_FORMS][2])
{
    struct hub *hub = session->hub;
    if (client->state == CLIENT_CLOSING)
        return;
    client->sent += batch->len;
    if (client->blocked || client->state == CLIENT_CATCHING) {
        enqueue_all(client, batch);
        return;
    }
    if (client->window_bits && client->window_bits < WINDOW_BITS_MAX) {
        deliver_singly(client, batch);
        return;
    }
    enum wire_form form = client_form(client);
    struct piece *piece = &pieces[form][client->window_bits != 0];
    if (!piece->made && !piece_make(session, batch, form, client->window_bits, piece))
        piece->bytes = NULL;
    if (!piece->bytes) {
        metric_drop(DROP_NO_MEMORY, batch->len);
        client_close(client, CLOSE_TRY_LATER, "out of memory");
        return;
    }
    if (!piece->len)
        return;
    metric_add(METRIC_BYTES_OUT, piece->len);
    if (hub->setup.client_ops->write(hub->setup.client_ctx, client, piece->bytes, piece->len) !=
        STATUS_OK) {
        client->blocked = true;
        enqueue_all(client, batch);
    }
}

/* In the place of publications that this client must not get any more. */
static void announce_loss(struct client *client, const struct pubs *batch)
{
    if (client->protocol == CLIENT_RAW)
        return;
    for (size_t i = 0; i < batch->len && client->state != CLIENT_CLOSING; i++) {
        const struct publication *lost = batch->items[i];
        uint64_t to = is_gap_note(lost) ? gap_note_to(lost) : lost->at.offset;
        struct publication *note = gap_note_new(lost->at.epoch, lost->at.offset, to);
        queue_publication(client, note);
        publication_unref(note);
    }
    if (!client->blocked)
        queue_drain(client);
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
    const struct client *far, *near;
};

static struct runners runners_start(const struct client *first)
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
    const struct client *far = runners->far, *near = runners->near;
    if (far) {
        __builtin_prefetch(far->next);
        __builtin_prefetch(far->queue);
        __builtin_prefetch((const char *)far + 64);
        __builtin_prefetch((const char *)far + 128); /* the front's part stands behind the core's */
        runners->far = far->next;
    }
    if (near) {
        queue_fetch_ahead(near);
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
    struct piece pieces[WIRE_FORMS][2] = {{{0}}};
    bool owned = session_is_owned(session);
    uint64_t written = 0;
    struct client *client, *next;
    struct runners runners = runners_start(session->clients);
    if (hub->tails)
        tail_batch(session, &batch);
    DL_FOREACH_SAFE (session->clients, client, next) {
        runners_step(&runners);
        /* A node that was paused in the middle of this must not go on (contract section 9). */
        if (owned && !hub_may_write(hub)) {
            metric_drop(DROP_FENCED, batch.len);
            announce_loss(client, &batch);
            continue;
        }
        deliver(session, client, &batch, pieces);
        written += batch.len;
    }
    session->messages_out += written;
    metric_add(METRIC_MESSAGES_OUT, written);
    metric_service_add(session->metrics, SERVICE_MESSAGES_OUT, (int64_t)written);
    observe(session, &batch);
    for (size_t form = 0; form < WIRE_FORMS; form++)
        for (size_t deflated = 0; deflated < 2; deflated++)
            if (pieces[form][deflated].joined)
                wire_unref(pieces[form][deflated].joined);
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
        follower_session_moved(session);
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
            assertion_on_refusal(session); /* it waits: the assertion says whether it goes out again */
        return;
    }
    if (status == STATUS_NO_MEMORY)
        metric_add(METRIC_HISTORY_REFUSED, 1);
    size_t n = 0;
    while (n < unconfirmed->len && unconfirmed->items[n]->at.offset <= tag)
        n++;
    pubs_shift(unconfirmed, n);
}
