#include "bus/bus_memory_store.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "bus/bus_memory.h"

static void *claim_memory(size_t size)
{
    void *memory = calloc(1, size);
    if (!memory)
        abort();
    return memory;
}

char *memory_copy(const char *text)
{
    if (!text)
        return NULL;
    char *copy = strdup(text);
    if (!copy)
        abort();
    return copy;
}

static void replace_text(const char **place, const char *text)
{
    char *copy = memory_copy(text ? text : "");
    free((char *)*place);
    *place = copy;
}

/* --- nodes --- */

struct memory_node *memory_node_get(struct bus_memory_store *store, const char *id)
{
    struct memory_node *node;
    HASH_FIND_STR(store->nodes, id, node);
    if (!node) {
        node = claim_memory(sizeof(*node));
        node->id = memory_copy(id);
        HASH_ADD_KEYPTR(hh, store->nodes, node->id, strlen(node->id), node);
    }
    return node;
}

void memory_node_remove(struct bus_memory_store *store, struct memory_node *node)
{
    /* The analyzer does not follow uthash. NOLINTNEXTLINE(clang-analyzer-unix.Malloc) */
    HASH_DEL(store->nodes, node);
    free((char *)node->record.host);
    free((char *)node->record.version);
    free((char *)node->record.listen);
    free((char *)node->record.admin);
    free((char *)node->record.state);
    free(node->id);
    free(node);
}

void memory_node_record(struct memory_node *node, const struct bus_node_record *record,
                        uint64_t now_ms)
{
    struct bus_node_record kept = node->record;
    replace_text(&kept.host, record->host);
    replace_text(&kept.version, record->version);
    replace_text(&kept.listen, record->listen);
    replace_text(&kept.admin, record->admin);
    replace_text(&kept.state, record->state);
    node->record = *record;
    node->record.host = kept.host;
    node->record.version = kept.version;
    node->record.listen = kept.listen;
    node->record.admin = kept.admin;
    node->record.state = kept.state;
    node->record_until_ms = now_ms + record->lease_ms;
}

/* --- revocations --- */

static void revocation_free(struct bus_memory_store *store, struct memory_revocation *item)
{
    /* The analyzer does not follow uthash. NOLINTNEXTLINE(clang-analyzer-unix.Malloc) */
    HASH_DEL(store->revoked, item);
    free(item->name);
    free(item);
}

void memory_revoke(struct bus_memory_store *store, const struct bus_revocation *revocation,
                   uint64_t now_s)
{
    struct memory_revocation *item;
    HASH_FIND_STR(store->revoked, revocation->name, item);
    if (!item) {
        item = claim_memory(sizeof(*item));
        item->name = memory_copy(revocation->name);
        HASH_ADD_KEYPTR(hh, store->revoked, item->name, strlen(item->name), item);
    }
    if (item->until_s < revocation->until_s)
        item->until_s = revocation->until_s;
    if (item->issued_before_s < revocation->issued_before_s)
        item->issued_before_s = revocation->issued_before_s;
    if (item->until_s <= now_s)
        revocation_free(store, item);
}

/* --- sessions --- */

static void session_forget_record(struct memory_session *session)
{
    session->own = (struct memory_record){0};
    session->listed_ms = 0;
    free((char *)session->record.state);
    free((char *)session->record.reason);
    free((char *)session->record.upstream);
    session->record = (struct bus_session_record){0};
}

static void session_free(struct memory_session *session)
{
    timer_stop(&session->store->timers, &session->expiry);
    HASH_DEL(session->store->sessions, session);
    session_forget_record(session);
    memory_history_clear(&session->history);
    while (session->subscribers) {
        struct memory_subscriber *next = session->subscribers->next;
        free(session->subscribers);
        session->subscribers = next;
    }
    free(session->id);
    free(session);
}

static void session_expire(struct memory_session *session, uint64_t now_ms)
{
    if (session->own.there && session->record_until_ms <= now_ms)
        session_forget_record(session);
    if (session->history.len > 0 && session->history.until_ms <= now_ms)
        memory_history_clear(&session->history);
}

static void session_on_expiry(struct timer *timer, uint64_t now_ms)
{
    struct memory_session *session = (struct memory_session *)timer;
    session_expire(session, now_ms);
    memory_session_settle(session);
}

struct memory_session *memory_session_find(struct bus_memory_store *store, const char *id,
                                           uint64_t now_ms)
{
    struct memory_session *session;
    HASH_FIND_STR(store->sessions, id, session);
    if (session)
        session_expire(session, now_ms);
    return session;
}

struct memory_session *memory_session_get(struct bus_memory_store *store, const char *id,
                                          uint64_t now_ms)
{
    struct memory_session *session = memory_session_find(store, id, now_ms);
    if (!session) {
        session = claim_memory(sizeof(*session));
        session->store = store;
        session->id = memory_copy(id);
        HASH_ADD_KEYPTR(hh, store->sessions, session->id, strlen(session->id), session);
    }
    return session;
}

void memory_session_settle(struct memory_session *session)
{
    if (!session->own.there && session->history.len == 0 && !session->subscribers) {
        session_free(session);
        return;
    }
    uint64_t due = UINT64_MAX;
    if (session->own.there)
        due = session->record_until_ms;
    if (session->history.len > 0 && session->history.until_ms < due)
        due = session->history.until_ms;

    /* A deadline that only moved back is left alone: the timer comes early once and is armed again,
     * which spares a heap operation per publish. */
    if (due == UINT64_MAX)
        timer_stop(&session->store->timers, &session->expiry);
    else if (!timer_armed(&session->expiry) || due < session->expiry.at_ms)
        timer_start(&session->store->timers, &session->expiry, due, session_on_expiry);
}

void memory_session_begin(struct memory_session *session, const char *state, const char *upstream,
                          uint64_t now_ms, uint64_t unix_ms)
{
    memory_session_record(session, &(struct bus_session_record){
                                       .state = state, .upstream = upstream, .since_ms = unix_ms});
    session->record_until_ms = now_ms + MEMORY_RECORD_TTL_MS;
    session->listed_ms = unix_ms;
    memory_session_settle(session);
}

void memory_session_record(struct memory_session *session, const struct bus_session_record *record)
{
    replace_text(&session->record.state, record->state);
    replace_text(&session->record.reason, record->reason);
    replace_text(&session->record.upstream, record->upstream);
    session->record.since_ms = record->since_ms;
    session->record.clients = record->clients;
    session->record.members = record->members;
    session->record.offset = record->offset;
}

static struct memory_subscriber *find_subscriber(const struct memory_session *session,
                                                 const struct memory_bus *bus)
{
    struct memory_subscriber *subscriber = session->subscribers;
    while (subscriber && subscriber->bus != bus)
        subscriber = subscriber->next;
    return subscriber;
}

void memory_session_subscribe(struct memory_session *session, struct memory_bus *bus,
                              uint64_t serial)
{
    struct memory_subscriber *subscriber = find_subscriber(session, bus);
    if (!subscriber) {
        subscriber = claim_memory(sizeof(*subscriber));
        *subscriber = (struct memory_subscriber){.bus = bus, .next = session->subscribers};
        session->subscribers = subscriber;
    }
    subscriber->serial = serial;
}

void memory_session_unsubscribe(struct memory_session *session, const struct memory_bus *bus)
{
    for (struct memory_subscriber **at = &session->subscribers; *at; at = &(*at)->next) {
        struct memory_subscriber *subscriber = *at;
        if (subscriber->bus == bus) {
            *at = subscriber->next;
            free(subscriber);
            return;
        }
    }
}

uint64_t memory_session_subscribed(const struct memory_session *session,
                                   const struct memory_bus *bus)
{
    const struct memory_subscriber *subscriber = find_subscriber(session, bus);
    return subscriber ? subscriber->serial : 0;
}

/* --- the store --- */

struct bus_memory_store *bus_memory_store_new(void)
{
    struct bus_memory_store *store = claim_memory(sizeof(*store));
    timers_init(&store->timers);
    return store;
}

void bus_memory_store_free(struct bus_memory_store *store)
{
    assert(!store->buses);
    struct memory_session *session, *next_session;
    HASH_ITER (hh, store->sessions, session, next_session) {
        session_free(session);
    }
    struct memory_node *node, *next_node;
    HASH_ITER (hh, store->nodes, node, next_node) {
        memory_node_remove(store, node);
    }
    struct memory_revocation *item, *next_item;
    HASH_ITER (hh, store->revoked, item, next_item) {
        revocation_free(store, item);
    }
    timers_fini(&store->timers);
    free(store);
}
