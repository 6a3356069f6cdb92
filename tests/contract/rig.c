#include "rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/clock.h"

static char *copy_bytes(const char *bytes, size_t len)
{
    char *copy = malloc(len + 1);
    assert_non_null(copy);
    if (len > 0)
        memcpy(copy, bytes, len);
    copy[len] = '\0';
    return copy;
}

static char *copy_text(const char *text)
{
    return text ? copy_bytes(text, strlen(text)) : NULL;
}

static struct seen *log_event(void *ctx, enum seen_kind kind, const char *session, uint64_t tag,
                              int status)
{
    struct rig_peer *peer = ctx;
    struct seen *seen = calloc(1, sizeof(*seen));
    assert_non_null(seen);
    seen->kind = kind;
    seen->session = copy_text(session);
    seen->tag = tag;
    seen->status = status;
    *peer->last = seen;
    peer->last = &seen->next;
    return seen;
}

static struct seen_item *log_items(struct seen *seen, size_t len)
{
    seen->items = calloc(len + 1, sizeof(*seen->items));
    assert_non_null(seen->items);
    seen->len = len;
    return seen->items;
}

static void on_connected(void *ctx)
{
    log_event(ctx, SEEN_CONNECTED, NULL, 0, 0);
}

static void on_disconnected(void *ctx)
{
    log_event(ctx, SEEN_DISCONNECTED, NULL, 0, 0);
}

static void on_renewed(void *ctx, uint64_t tag, enum status status, bool present,
                       const struct bus_node *nodes, size_t len)
{
    struct seen *seen = log_event(ctx, SEEN_RENEWED, NULL, tag, status);
    seen->flag = present;
    struct seen_item *items = log_items(seen, len);
    for (size_t i = 0; i < len; i++)
        items[i] = (struct seen_item){
            .id = copy_text(nodes[i].id), .number = nodes[i].score, .lease_ms = nodes[i].lease_ms};
}

static void on_subscribed(void *ctx, const char *session)
{
    log_event(ctx, SEEN_SUBSCRIBED, session, 0, 0);
}

static void on_refused(void *ctx, const char *session, const char *why, bool deaf)
{
    struct seen *seen = log_event(ctx, SEEN_REFUSED, session, 0, 0);
    seen->text = copy_text(why);
    seen->flag = deaf;
}

static void on_claimed(void *ctx, const char *session, uint64_t tag, enum status status,
                       const char *owner, uint64_t epoch)
{
    struct seen *seen = log_event(ctx, SEEN_CLAIMED, session, tag, status);
    seen->text = copy_text(owner);
    seen->epoch = epoch;
}

static void on_released(void *ctx, const char *session, uint64_t tag, enum status status)
{
    log_event(ctx, SEEN_RELEASED, session, tag, status);
}

static void on_transferred(void *ctx, const char *session, uint64_t tag, enum status status,
                           uint64_t epoch)
{
    log_event(ctx, SEEN_TRANSFERRED, session, tag, status)->epoch = epoch;
}

static void on_asserted(void *ctx, const char *session, uint64_t tag, enum status status,
                        const char *owner, uint64_t epoch)
{
    struct seen *seen = log_event(ctx, SEEN_ASSERTED, session, tag, status);
    seen->text = copy_text(owner);
    seen->epoch = epoch;
}

static void on_published(void *ctx, const char *session, uint64_t tag, enum status status)
{
    log_event(ctx, SEEN_PUBLISHED, session, tag, status);
}

static void on_credit(void *ctx)
{
    log_event(ctx, SEEN_CREDIT, NULL, 0, 0);
}

static void on_history(void *ctx, const char *session, uint64_t tag, enum status status,
                       struct position oldest, struct publication *const *publications, size_t len,
                       bool more)
{
    struct seen *seen = log_event(ctx, SEEN_HISTORY, session, tag, status);
    seen->oldest = oldest;
    seen->flag = more;
    struct seen_item *items = log_items(seen, len);
    for (size_t i = 0; i < len; i++) {
        const struct publication *p = publications[i];
        items[i] = (struct seen_item){.id = copy_bytes((const char *)p->payload, p->len),
                                      .id_len = p->len,
                                      .number = p->at.offset,
                                      .epoch = p->at.epoch,
                                      .time_ms = p->time_ms,
                                      .opcode = p->opcode};
    }
}

static void on_sent(void *ctx, uint64_t tag, enum status status)
{
    log_event(ctx, SEEN_TOLD, NULL, tag, status);
}

static void on_revoked(void *ctx, uint64_t tag, enum status status)
{
    log_event(ctx, SEEN_REVOKED, NULL, tag, status);
}

static void on_message(void *ctx, const struct envelope *envelope, bool push)
{
    struct seen *seen = log_event(ctx, push ? SEEN_PUSH : SEEN_INBOX, NULL, envelope->type,
                                  (int)envelope->status);
    seen->session = copy_bytes(envelope->session.at, envelope->session.len);
    seen->text = copy_bytes(envelope->node.at, envelope->node.len);
    seen->epoch = envelope->epoch;
    seen->number = envelope->number;
    struct seen_item *items = log_items(seen, envelope->items_len);
    for (size_t i = 0; i < envelope->items_len; i++) {
        const struct envelope_item *item = &envelope->items[i];
        items[i] = (struct seen_item){.id = copy_bytes(item->bytes.at, item->bytes.len),
                                      .id_len = item->bytes.len,
                                      .number = item->number,
                                      .time_ms = item->time_ms,
                                      .opcode = item->opcode};
    }
}

void peer_on_rows(void *ctx, enum status status, const struct bus_row *rows, size_t len,
                  const char *next)
{
    struct seen *seen = log_event(ctx, SEEN_ROWS, NULL, 0, status);
    seen->text = copy_text(next);
    struct seen_item *items = log_items(seen, len);
    for (size_t i = 0; i < len; i++) {
        items[i].id = copy_text(rows[i].id);
        items[i].fields_len = rows[i].fields_len;
        assert_true(rows[i].fields_len <= 20);
        for (size_t f = 0; f < rows[i].fields_len; f++) {
            items[i].fields[f][0] = copy_text(rows[i].fields[f].name);
            items[i].fields[f][1] = copy_text(rows[i].fields[f].value);
        }
    }
}

static const struct bus_events events = {
    .on_connected = on_connected,
    .on_disconnected = on_disconnected,
    .on_renewed = on_renewed,
    .on_subscribed = on_subscribed,
    .on_refused = on_refused,
    .on_claimed = on_claimed,
    .on_released = on_released,
    .on_transferred = on_transferred,
    .on_asserted = on_asserted,
    .on_published = on_published,
    .on_credit = on_credit,
    .on_history = on_history,
    .on_sent = on_sent,
    .on_revoked = on_revoked,
    .on_message = on_message,
};

static void seen_free(struct seen *seen)
{
    for (size_t i = 0; i < seen->len; i++) {
        free(seen->items[i].id);
        for (size_t f = 0; f < seen->items[i].fields_len; f++) {
            free(seen->items[i].fields[f][0]);
            free(seen->items[i].fields[f][1]);
        }
    }
    free(seen->items);
    free(seen->session);
    free(seen->text);
    free(seen);
}

void rig_forget_events(struct rig_peer *peer)
{
    while (peer->first) {
        struct seen *next = peer->first->next;
        seen_free(peer->first);
        peer->first = next;
    }
    peer->last = &peer->first;
}

uint64_t rig_held_up_ms(void)
{
    unsigned long long ran_ns = 0, waited_ns = 0;
    FILE *file = fopen("/proc/self/schedstat", "r");
    if (!file || fscanf(file, "%llu %llu", &ran_ns, &waited_ns) != 2)
        waited_ns = 0;
    if (file)
        fclose(file);
    return waited_ns / 1000000;
}

struct rig_peer *rig_peer_unconnected(struct contract_rig *rig, const char *id)
{
    struct rig_peer *peer = calloc(1, sizeof(*peer));
    assert_non_null(peer);
    peer->rig = rig;
    peer->id = copy_text(id);
    peer->last = &peer->first;
    peer->bus = rig->kind->open(rig, id, ++rig->lives);
    bus_listen(peer->bus, &events, peer);
    for (size_t i = 0; i < RIG_PEERS; i++) {
        if (!rig->peers[i]) {
            rig->peers[i] = peer;
            return peer;
        }
    }
    fail_msg("more peers than the rig has room for");
    return NULL;
}

static bool is_heard(void *ctx)
{
    struct rig_peer *peer = ctx;
    return peer->bus->ops->heard_ms(peer->bus) > 0;
}

void rig_hear(struct rig_peer *peer)
{
    rig_until(peer->rig, is_heard, peer);
}

struct rig_peer *rig_peer(struct contract_rig *rig, const char *id)
{
    struct rig_peer *peer = rig_peer_unconnected(rig, id);
    rig_wait(peer, SEEN_CONNECTED, 0);
    rig_hear(peer);
    return peer;
}

void rig_remove(struct contract_rig *rig, struct rig_peer *peer)
{
    for (size_t i = 0; i < RIG_PEERS; i++) {
        if (rig->peers[i] == peer)
            rig->peers[i] = NULL;
    }
    peer->bus->ops->free(peer->bus);
    rig_forget_events(peer);
    free(peer->id);
    free(peer);
}

void rig_clear(struct contract_rig *rig)
{
    for (size_t i = 0; i < RIG_PEERS; i++) {
        if (rig->peers[i])
            rig_remove(rig, rig->peers[i]);
    }
}

const struct seen *rig_find(struct rig_peer *peer, enum seen_kind kind, uint64_t tag)
{
    for (struct seen *seen = peer->first; seen; seen = seen->next) {
        if (!seen->taken && seen->kind == kind && (tag == 0 || seen->tag == tag)) {
            seen->taken = true;
            return seen;
        }
    }
    return NULL;
}

static bool comes(struct contract_rig *rig, bool (*done)(void *ctx), void *ctx)
{
    uint64_t deadline_ms = clock_boot_ms() + RIG_WAIT_MS;
    while (!done(ctx)) {
        uint64_t now_ms = clock_boot_ms();
        if (now_ms >= deadline_ms)
            return false;
        rig->kind->turn(rig, deadline_ms - now_ms);
    }
    return true;
}

void rig_until(struct contract_rig *rig, bool (*done)(void *ctx), void *ctx)
{
    if (!comes(rig, done, ctx))
        fail_msg("what was waited for did not come within %d ms", RIG_WAIT_MS);
}

struct wanted_event {
    struct rig_peer *peer;
    enum seen_kind kind;
    uint64_t tag;
    const struct seen *found;
};

static bool wanted_is_there(void *ctx)
{
    struct wanted_event *wanted = ctx;
    wanted->found = rig_find(wanted->peer, wanted->kind, wanted->tag);
    return wanted->found != NULL;
}

const struct seen *rig_wait(struct rig_peer *peer, enum seen_kind kind, uint64_t tag)
{
    struct wanted_event wanted = {.peer = peer, .kind = kind, .tag = tag};
    if (!comes(peer->rig, wanted_is_there, &wanted))
        fail_msg("%s: no event of kind %d with tag %llu within %d ms", peer->id, kind,
                 (unsigned long long)tag, RIG_WAIT_MS);
    return wanted.found;
}

void rig_settle(struct rig_peer *peer)
{
    static uint64_t mark = 1000000;
    mark++;
    struct envelope envelope = {.type = ENVELOPE_LEFT, .node = slice_of(peer->id), .number = mark};
    peer->bus->ops->send(peer->bus, peer->id, &envelope, mark);
    rig_wait(peer, SEEN_TOLD, mark);
    const struct seen *seen;
    do
        seen = rig_wait(peer, SEEN_INBOX, ENVELOPE_LEFT);
    while (seen->number != mark);
}

const char *seen_field(const struct seen_item *item, const char *name)
{
    for (size_t i = 0; i < item->fields_len; i++) {
        if (strcmp(item->fields[i][0], name) == 0)
            return item->fields[i][1];
    }
    return "";
}

const struct seen_item *seen_item(const struct seen *seen, const char *id)
{
    for (size_t i = 0; i < seen->len; i++) {
        if (strcmp(seen->items[i].id, id) == 0)
            return &seen->items[i];
    }
    return NULL;
}

void peer_subscribe(struct rig_peer *peer, const char *session)
{
    peer->bus->ops->subscribe(peer->bus, session);
    const struct seen *seen = rig_wait(peer, SEEN_SUBSCRIBED, 0);
    assert_string_equal(seen->session, session);
}

uint64_t peer_claim(struct rig_peer *peer, const char *session)
{
    static uint64_t tag = 2000000;
    struct bus_claim claim = {.upstream = "ws://backend/"};
    peer->bus->ops->claim(peer->bus, session, ++tag, &claim);
    const struct seen *seen = rig_wait(peer, SEEN_CLAIMED, tag);
    assert_int_equal(seen->status, STATUS_OK);
    assert_string_equal(seen->session, session);
    assert_string_equal(seen->text, peer->id);
    return seen->epoch;
}

enum status peer_publish(struct rig_peer *peer, const char *session, uint64_t epoch,
                         uint64_t offset, const char *payload, uint32_t history_size, unsigned how)
{
    static uint64_t tag = 3000000;
    struct publication *publication = publication_copy(OPCODE_TEXT, payload, strlen(payload));
    assert_non_null(publication);
    publication->at = (struct position){epoch, offset};
    publication->time_ms = 1000 + offset;
    peer->bus->ops->publish(peer->bus, session, ++tag, epoch, &publication, 1, history_size, 60000,
                            how);
    publication_unref(publication);
    const struct seen *seen = rig_wait(peer, SEEN_PUBLISHED, tag);
    assert_string_equal(seen->session, session);
    return (enum status)seen->status;
}
