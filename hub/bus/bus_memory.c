#include "bus/bus_memory.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "bus/bus_memory_list.h"
#include "bus/bus_memory_queue.h"
#include "bus/bus_memory_store.h"
#include "common/node_messages.h"

#define FORGET_LEASES 10
/* How many rounds of answers and new calls run in one turn; the rest waits for the next turn. */
#define FLUSH_ROUNDS_MAX 1000

struct memory_bus {
    struct bus bus; /* first */
    struct bus_memory_store *store;
    bool owns_store;
    char *node;
    uint64_t (*now_ms)(void);
    uint64_t (*unix_ms)(void);
    struct memory_queue queue;
    uint64_t subscriptions;  /* made so far */
    size_t unanswered_bytes; /* of publications, as credit counts them */
    bool out_of_credit;      /* a caller found no credit: on_credit is due */
    bool delivering;
    struct memory_bus *next; /* in the store */
};

static struct memory_bus *memory_of(struct bus *bus)
{
    return (struct memory_bus *)bus;
}

static struct memory_event *answer(struct memory_bus *m, memory_deliver_fn *deliver,
                                   const char *session, uint64_t tag, enum status status)
{
    struct memory_event *event = memory_queue_add(&m->queue, deliver);
    event->session = memory_copy(session);
    event->tag = tag;
    event->status = status;
    return event;
}

/* --- messages --- */

/* The reader may have unsubscribed since the message was queued. */
static void deliver_message(struct memory_bus *m, const struct memory_event *event)
{
    if (event->session) {
        const struct memory_session *session = memory_session_find(m->store, event->session,
                                                                   m->now_ms());
        if (!session || memory_session_subscribed(session, m) == 0)
            return;
    }
    memory_message_deliver(&m->bus, event->message);
}

static void send_to(struct memory_bus *m, const char *session, struct memory_message *message)
{
    struct memory_event *event = memory_queue_add(&m->queue, deliver_message);
    event->session = memory_copy(session);
    event->message = message;
    message->refs++;
}

static void announce(const struct memory_session *session, struct memory_message *message)
{
    for (const struct memory_subscriber *s = session->subscribers; s; s = s->next)
        send_to(s->bus, session->id, message);
    memory_message_unref(message);
}

/* from: the epoch it was handed over from, 0 by a claim */
static void announce_owner(const struct memory_session *session, uint64_t from)
{
    const struct grant_message granted = {session->own.epoch, from};
    struct envelope grant = grant_encode(&granted);
    grant.session = slice_of(session->id);
    grant.node = slice_of(session->own.owner);
    struct memory_message *message = memory_message_encode(&grant, true);
    if (message)
        announce(session, message);
}

static void deliver_sent(struct memory_bus *m, const struct memory_event *event)
{
    m->bus.events->on_sent(m->bus.events_ctx, event->tag, event->status);
}

static void memory_send(struct bus *bus, const char *node, const struct envelope *envelope,
                        uint64_t tag)
{
    struct memory_bus *m = memory_of(bus);
    struct memory_message *message = memory_message_encode(envelope, false);
    enum status status = message ? STATUS_NOT_FOUND : STATUS_IO;
    for (struct memory_bus *other = m->store->buses; other && message; other = other->next) {
        if (strcmp(other->node, node) == 0) {
            send_to(other, NULL, message);
            status = STATUS_OK;
        }
    }
    if (message)
        memory_message_unref(message);
    if (tag != 0)
        answer(m, deliver_sent, NULL, tag, status);
}

static void memory_broadcast(struct bus *bus, const char *id, const struct envelope *envelope)
{
    struct memory_bus *m = memory_of(bus);
    const struct memory_session *session = memory_session_find(m->store, id, m->now_ms());
    struct memory_message *message = session ? memory_message_encode(envelope, true) : NULL;
    if (message)
        announce(session, message);
}

/* --- nodes --- */

static void deliver_renewed(struct memory_bus *m, const struct memory_event *event)
{
    m->bus.events->on_renewed(m->bus.events_ctx, event->tag, STATUS_OK, event->flag, event->nodes,
                              event->len);
}

static void forget_silent_nodes(struct bus_memory_store *store, uint64_t unix_ms)
{
    struct memory_node *node, *next;
    HASH_ITER (hh, store->nodes, node, next) {
        uint64_t lease_ms = node->record.lease_ms;
        if (lease_ms > 0 && node->score + FORGET_LEASES * lease_ms < unix_ms)
            memory_node_remove(store, node);
    }
}

static void memory_renew(struct bus *bus, uint64_t tag)
{
    struct memory_bus *m = memory_of(bus);
    struct memory_node *own = memory_node_get(m->store, m->node);
    struct memory_event *event = answer(m, deliver_renewed, NULL, tag, STATUS_OK);
    uint64_t now_ms = m->now_ms(), unix_ms = m->unix_ms();
    event->flag = own->present;
    own->present = true;
    own->score = unix_ms > own->score ? unix_ms : own->score + 1;
    forget_silent_nodes(m->store, unix_ms);

    event->nodes = calloc(HASH_COUNT(m->store->nodes) + 1, sizeof(*event->nodes));
    if (!event->nodes)
        abort();
    struct memory_node *node, *next;
    HASH_ITER (hh, m->store->nodes, node, next) {
        if (!node->present)
            continue;
        uint32_t lease_ms = node->record_until_ms > now_ms ? (uint32_t)node->record.lease_ms : 0;
        event->nodes[event->len++] = (struct bus_node){memory_copy(node->id), node->score,
                                                       lease_ms};
    }
}

static uint64_t memory_heard_ms(const struct bus *bus)
{
    return ((const struct memory_bus *)bus)->now_ms();
}

static void memory_record_node(struct bus *bus, const struct bus_node_record *record)
{
    struct memory_bus *m = memory_of(bus);
    memory_node_record(memory_node_get(m->store, m->node), record, m->now_ms());
}

static void memory_sign_off(struct bus *bus)
{
    struct memory_bus *m = memory_of(bus);
    memory_node_remove(m->store, memory_node_get(m->store, m->node));
}

/* --- subscriptions --- */

static void deliver_subscribed(struct memory_bus *m, const struct memory_event *event)
{
    const struct memory_session *session = memory_session_find(m->store, event->session,
                                                               m->now_ms());
    if (session && memory_session_subscribed(session, m) == event->tag)
        m->bus.events->on_subscribed(m->bus.events_ctx, event->session);
}

static void memory_subscribe(struct bus *bus, const char *session)
{
    struct memory_bus *m = memory_of(bus);
    memory_session_subscribe(memory_session_get(m->store, session, m->now_ms()), m,
                             ++m->subscriptions);
    answer(m, deliver_subscribed, session, m->subscriptions, STATUS_OK);
}

static void memory_unsubscribe(struct bus *bus, const char *id)
{
    struct memory_bus *m = memory_of(bus);
    struct memory_session *session = memory_session_find(m->store, id, m->now_ms());
    if (!session)
        return;
    memory_session_unsubscribe(session, m);
    memory_session_settle(session);
}

/* --- ownership --- */

static bool owned_by(const struct memory_session *session, const char *node, uint64_t epoch)
{
    return session && memory_record_owned(&session->own, node, epoch);
}

static void deliver_claimed(struct memory_bus *m, const struct memory_event *event)
{
    m->bus.events->on_claimed(m->bus.events_ctx, event->session, event->tag, event->status,
                              event->owner, event->epoch);
}

static void memory_claim(struct bus *bus, const char *id, uint64_t tag,
                         const struct bus_claim *claim)
{
    struct memory_bus *m = memory_of(bus);
    uint64_t now_ms = m->now_ms();
    struct memory_session *session = memory_session_get(m->store, id, now_ms);
    enum status status = memory_record_claim(&session->own, &session->history, m->node, claim,
                                             m->unix_ms(), false);
    if (status == STATUS_OK) {
        memory_session_begin(session, "connecting", claim->upstream, now_ms, m->unix_ms());
        announce_owner(session, 0);
    }
    struct memory_event *event = answer(m, deliver_claimed, id, tag, status);
    event->owner = memory_copy(session->own.owner);
    event->epoch = session->own.epoch;
}

static void deliver_released(struct memory_bus *m, const struct memory_event *event)
{
    m->bus.events->on_released(m->bus.events_ctx, event->session, event->tag, event->status);
}

static void memory_release(struct bus *bus, const char *id, uint64_t tag, uint64_t epoch,
                           uint64_t keep_ms)
{
    struct memory_bus *m = memory_of(bus);
    uint64_t now_ms = m->now_ms();
    struct memory_session *session = memory_session_find(m->store, id, now_ms);
    enum status status = session ? memory_record_release(&session->own, m->node, epoch)
                                 : STATUS_REFUSED;
    if (status == STATUS_OK) {
        memory_session_record(session,
                              &(struct bus_session_record){.state = "released",
                                                           .upstream = session->record.upstream,
                                                           .since_ms = m->unix_ms(),
                                                           .offset = session->record.offset});
        session->record_until_ms = now_ms + keep_ms;
        memory_session_settle(session);
    }
    answer(m, deliver_released, id, tag, status);
}

static void deliver_transferred(struct memory_bus *m, const struct memory_event *event)
{
    m->bus.events->on_transferred(m->bus.events_ctx, event->session, event->tag, event->status,
                                  event->epoch);
}

static void memory_transfer(struct bus *bus, const char *id, uint64_t tag, uint64_t epoch,
                            const char *to)
{
    struct memory_bus *m = memory_of(bus);
    uint64_t now_ms = m->now_ms();
    struct memory_session *session = memory_session_find(m->store, id, now_ms);
    enum status status = session ? memory_record_transfer(&session->own, m->node, epoch, to,
                                                          m->unix_ms())
                                 : STATUS_REFUSED;
    struct memory_event *event = answer(m, deliver_transferred, id, tag, status);
    if (status != STATUS_OK)
        return;
    event->epoch = session->own.epoch;
    session->record_until_ms = now_ms + MEMORY_RECORD_TTL_MS;
    memory_session_settle(session);
    announce_owner(session, epoch);
}

static void deliver_asserted(struct memory_bus *m, const struct memory_event *event)
{
    m->bus.events->on_asserted(m->bus.events_ctx, event->session, event->tag, event->status,
                               event->owner, event->epoch);
}

static void memory_assert_owner(struct bus *bus, const char *id, uint64_t tag, uint64_t epoch,
                                const char *upstream)
{
    struct memory_bus *m = memory_of(bus);
    uint64_t now_ms = m->now_ms();
    struct memory_session *session = memory_session_get(m->store, id, now_ms);
    bool missing = !session->own.there || session->own.epoch < epoch, displaced;
    enum status status = memory_record_assert(&session->own, m->node, epoch, &displaced);
    if (missing)
        memory_session_begin(session, "connecting", upstream, now_ms, m->unix_ms());
    if (displaced)
        announce_owner(session, 0);
    struct memory_event *event = answer(m, deliver_asserted, id, tag, status);
    event->owner = memory_copy(session->own.owner);
    event->epoch = session->own.epoch;
}

static void memory_record_session(struct bus *bus, const char *id, uint64_t epoch,
                                  const struct bus_session_record *record)
{
    struct memory_bus *m = memory_of(bus);
    uint64_t now_ms = m->now_ms();
    struct memory_session *session = memory_session_find(m->store, id, now_ms);
    if (!owned_by(session, m->node, epoch))
        return;
    memory_session_record(session, record);
    session->record_until_ms = now_ms + MEMORY_RECORD_TTL_MS;
    session->listed_ms = m->unix_ms();
}

/* --- publications --- */

static size_t memory_credit(struct bus *bus, const char *session)
{
    (void)session;
    struct memory_bus *m = memory_of(bus);
    if (m->unanswered_bytes < BUS_CREDIT_BYTES)
        return BUS_CREDIT_BYTES - m->unanswered_bytes;
    m->out_of_credit = true;
    return 0;
}

static void deliver_published(struct memory_bus *m, const struct memory_event *event)
{
    const struct bus_events *events = m->bus.events;
    m->unanswered_bytes -= event->bytes;
    events->on_published(m->bus.events_ctx, event->session, event->tag, event->status);
    if (!m->out_of_credit || m->unanswered_bytes > BUS_CREDIT_BYTES / 2)
        return;
    m->out_of_credit = false;
    if (events->on_credit)
        events->on_credit(m->bus.events_ctx);
}

static void answer_published(struct memory_bus *m, const char *id, uint64_t tag, enum status status,
                             struct publication *const *publications, size_t len)
{
    struct memory_event *event = answer(m, deliver_published, id, tag, status);
    for (size_t i = 0; i < len; i++)
        event->bytes += BUS_PUBLICATION_BYTES + publications[i]->len;
    m->unanswered_bytes += event->bytes;
}

static void memory_publish(struct bus *bus, const char *id, uint64_t tag, uint64_t epoch,
                           struct publication *const *publications, size_t len,
                           uint32_t history_size, uint64_t ttl_ms, unsigned how)
{
    struct memory_bus *m = memory_of(bus);
    uint64_t now_ms = m->now_ms();
    struct memory_session *session = memory_session_find(m->store, id, now_ms);
    bool news = false;
    enum status status = session ? memory_record_publish(&session->own, &session->history, m->node,
                                                         epoch, publications, len, history_size,
                                                         how, &news)
                                 : STATUS_REFUSED;
    if (status == STATUS_OK && history_size > 0 && len > 0) {
        if (ttl_ms > 0)
            session->history.until_ms = now_ms + ttl_ms;
        memory_session_settle(session);
    }
    if ((how & BUS_ANNOUNCE) && news && len > 0 && session->subscribers)
        announce(session, memory_message_push(id, m->node, epoch, publications, len));
    answer_published(m, id, tag, status, publications, len);
}

static void deliver_history(struct memory_bus *m, const struct memory_event *event)
{
    m->bus.events->on_history(m->bus.events_ctx, event->session, event->tag, STATUS_OK,
                              event->oldest, event->publications, event->len, event->flag);
}

static void memory_history(struct bus *bus, const char *id, uint64_t tag, struct position after,
                           size_t limit)
{
    struct memory_bus *m = memory_of(bus);
    const struct memory_session *session = memory_session_find(m->store, id, m->now_ms());
    struct memory_event *event = answer(m, deliver_history, id, tag, STATUS_OK);
    if (!session || session->history.len == 0)
        return;

    event->publications = memory_history_read(&session->history, after, limit, &event->len,
                                              &event->flag, &event->oldest);
}

/* --- revocations --- */

static void deliver_revoked(struct memory_bus *m, const struct memory_event *event)
{
    if (m->bus.events->on_revoked)
        m->bus.events->on_revoked(m->bus.events_ctx, event->tag, event->status);
}

static void memory_bus_revoke(struct bus *bus, uint64_t tag,
                              const struct bus_revocation *revocation)
{
    struct memory_bus *m = memory_of(bus);
    memory_revoke(m->store, revocation, m->unix_ms() / 1000);
    answer(m, deliver_revoked, NULL, tag, STATUS_OK);
}

/* --- listings --- */

static void deliver_list(struct memory_bus *m, const struct memory_event *event)
{
    memory_list(m->store, event->list.what, event->list.after, event->list.limit, m->now_ms(),
                m->unix_ms(), event->list.fn, event->list.ctx);
}

static void memory_bus_list(struct bus *bus, enum bus_listing listing, const char *after,
                            size_t limit, bus_rows_fn *fn, void *ctx)
{
    struct memory_event *event = memory_queue_add(&memory_of(bus)->queue, deliver_list);
    event->list.what = listing;
    event->list.after = memory_copy(after ? after : "");
    event->list.limit = limit;
    event->list.fn = fn;
    event->list.ctx = ctx;
}

/* --- the bus --- */

static void deliver_connected(struct memory_bus *m, const struct memory_event *event)
{
    (void)event;
    m->bus.events->on_connected(m->bus.events_ctx);
}

static void memory_flush(struct bus *bus)
{
    struct memory_bus *m = memory_of(bus);
    assert(!m->delivering && bus->events);
    m->delivering = true;
    for (unsigned round = 0; round < FLUSH_ROUNDS_MAX && m->queue.first; round++) {
        struct memory_event **end = m->queue.last;
        struct memory_event *event;
        bool last = false;
        while (!last && (event = memory_queue_take(&m->queue)) != NULL) {
            last = end == &event->next;
            event->deliver(m, event);
            memory_event_free(event);
        }
    }
    m->delivering = false;
    timers_run(&m->store->timers, m->now_ms());
}

static void leave_store(struct memory_bus *m)
{
    struct memory_session *session, *next;
    HASH_ITER (hh, m->store->sessions, session, next) {
        memory_session_unsubscribe(session, m);
        memory_session_settle(session);
    }
    struct memory_bus **at = &m->store->buses;
    while (*at != m)
        at = &(*at)->next;
    *at = m->next;
}

static void memory_free(struct bus *bus)
{
    struct memory_bus *m = memory_of(bus);
    assert(!m->delivering);
    struct memory_event *event;
    while ((event = memory_queue_take(&m->queue)) != NULL)
        memory_event_free(event);
    leave_store(m);
    if (m->owns_store)
        bus_memory_store_free(m->store);
    free(m->node);
    free(m);
}

static const struct bus_ops memory_ops = {
    .renew = memory_renew,
    .heard_ms = memory_heard_ms,
    .record_node = memory_record_node,
    .sign_off = memory_sign_off,
    .subscribe = memory_subscribe,
    .unsubscribe = memory_unsubscribe,
    .claim = memory_claim,
    .release = memory_release,
    .transfer = memory_transfer,
    .assert_owner = memory_assert_owner,
    .record_session = memory_record_session,
    .publish = memory_publish,
    .credit = memory_credit,
    .history = memory_history,
    .send = memory_send,
    .broadcast = memory_broadcast,
    .revoke = memory_bus_revoke,
    .list = memory_bus_list,
    .flush = memory_flush,
    .free = memory_free,
};

struct bus *bus_memory_new(struct bus_memory_store *store, const char *node_id,
                           uint64_t (*now_ms)(void), uint64_t (*unix_ms)(void))
{
    struct memory_bus *m = calloc(1, sizeof(*m));
    if (!m)
        abort();
    m->bus.ops = &memory_ops;
    m->owns_store = !store;
    m->store = store ? store : bus_memory_store_new();
    m->node = memory_copy(node_id);
    m->now_ms = now_ms;
    m->unix_ms = unix_ms;
    m->next = m->store->buses;
    m->store->buses = m;
    memory_queue_init(&m->queue);
    memory_queue_add(&m->queue, deliver_connected);
    return &m->bus;
}
