#include <hiredis/hiredis.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bus/bus_redis_private.h"
#include "common/metrics.h"
#include "common/node_messages.h"
#include "common/text.h"

/* By default Redis disconnects a subscriber for which 32 MiB wait, so every message is far
 * smaller. */
#define PUBLICATION_BYTES_MAX ((size_t)16 * 1024 * 1024)
/* Payloads of one push, but for a single one that is larger. */
#define MESSAGE_BYTES  ((size_t)8 * 1024 * 1024)
#define MESSAGE_ITEMS  4096
#define TELL_BYTES_MAX ((size_t)24 * 1024 * 1024)
#define HISTORY_BYTES  ((size_t)8 * 1024 * 1024) /* of one answer, then `more` */

/* --- publish --- */

/* The calls that one publish was cut into: the last one's answer speaks for all. */
struct publish_parts {
    size_t left; /* to be answered */
    size_t ops;  /* that refer to this */
    enum status worst;
};

static unsigned severity(enum status status)
{
    static const enum status order[] = {STATUS_OK, STATUS_NO_MEMORY, STATUS_IO, STATUS_REFUSED};
    unsigned rank = 0;
    while (rank < 3 && order[rank] != status)
        rank++;
    return rank;
}

static void note_status(struct publish_parts *parts, enum status status)
{
    if (severity(status) > severity(parts->worst))
        parts->worst = status;
}

static enum status published_status(const struct redis_op *op)
{
    if (op->status != STATUS_OK)
        return op->status;
    if (op->reply->type != REDIS_REPLY_INTEGER)
        return STATUS_IO;
    if (op->reply->integer < 0)
        return STATUS_NO_MEMORY;
    return op->reply->integer == 1 ? STATUS_OK : STATUS_REFUSED;
}

static void on_published(struct redis_op *op)
{
    struct bus_redis *b = op->owner;
    struct publish_parts *parts = op->ctx;
    note_status(parts, published_status(op));
    bus_redis_note_refusal(b, op);
    if (--parts->left == 0)
        b->bus.events->on_published(b->bus.events_ctx, op->session, op->tag, parts->worst);
}

static void free_parts(struct redis_op *op)
{
    struct publish_parts *parts = op->ctx;
    if (--parts->ops == 0)
        free(parts);
}

struct push {
    const char *session;
    uint64_t tag, epoch;
    uint32_t history_size;
    uint64_t ttl_ms;
    unsigned how; /* of enum bus_publish */
};

static void add_entry(struct redis_request *request, const struct publication *p)
{
    char id[48];
    int len = snprintf(id, sizeof(id), "%" PRIu64 "-%" PRIu64, p->at.epoch, p->at.offset);
    redis_request_add(request, (struct slice){id, (size_t)len});
    redis_request_number(request, p->time_ms);
}

/* Adds the message, cut before and behind each payload that is kept: payloads travel once. */
static void add_message(struct bus_redis *b, struct redis_request *request, const struct push *push,
                        struct publication *const *publications, size_t len, size_t kept_len)
{
    struct envelope_item *items = redis_claim_memory(len, sizeof(*items));
    size_t *ends = redis_claim_memory(len, sizeof(*ends)), at = 0;
    for (size_t i = 0; i < len; i++)
        items[i] = publication_as_item(publications[i]);
    const struct push_message message = {push->epoch, {items, len}};
    struct envelope envelope = push_encode(&message);
    envelope.session = slice_of(push->session);
    envelope.node = slice_of(b->node);
    envelope.life = b->life;
    uint8_t *bytes;
    size_t bytes_len;
    if (envelope_encode_placed(&envelope, &bytes, &bytes_len, ends) != STATUS_OK)
        abort(); /* at most a few MiB */
    for (size_t i = 0; i < kept_len; i++) {
        size_t begin = ends[i] - publications[i]->len;
        redis_request_add(request, (struct slice){(const char *)bytes + at, begin - at});
        redis_request_add(request, (struct slice){(const char *)bytes + begin, ends[i] - begin});
        at = ends[i];
    }
    redis_request_add(request, (struct slice){(const char *)bytes + at, bytes_len - at});
    free(bytes);
    free(ends);
    free(items);
}

/* The same where it is announced to nobody: the payloads alone. */
static void add_payloads(struct redis_request *request, struct publication *const *publications,
                         size_t kept_len)
{
    for (size_t i = 0; i < kept_len; i++) {
        redis_request_text(request, "");
        redis_request_add(
            request, (struct slice){(const char *)publications[i]->payload, publications[i]->len});
    }
    redis_request_text(request, "");
}

/* The opcode of each, by one digit; nothing where all are texts. */
static void write_opcodes(char *out, struct publication *const *publications, size_t len)
{
    bool binary = false;
    for (size_t i = 0; i < len; i++) {
        out[i] = (char)('0' + publications[i]->opcode);
        binary = binary || publications[i]->opcode != OPCODE_TEXT;
    }
    out[binary ? len : 0] = '\0';
}

/* What is not the usual way for the script: announced, all of it text, nothing else changed. */
static void add_options(struct redis_request *request, const struct push *push, bool announce,
                        struct publication *const *publications, size_t kept_len)
{
    char opcodes[MESSAGE_ITEMS + 1], size[24] = "", ttl[24] = "", options[MESSAGE_ITEMS + 64];
    const char *late = push->how & BUS_LATE ? "1" : push->how & BUS_PROMPT ? "0" : "";
    write_opcodes(opcodes, publications, kept_len);
    if (push->history_size > 0)
        snprintf(size, sizeof(size), "%" PRIu32, push->history_size);
    if (push->history_size > 0 && push->ttl_ms > 0)
        snprintf(ttl, sizeof(ttl), "%" PRIu64, push->ttl_ms);
    snprintf(options, sizeof(options), "%d,%s,%s,%s,%s", announce, late, size, ttl, opcodes);
    redis_request_text(request, strcmp(options, "1,,,,") == 0 ? "" : options);
}

/* Its part of a call: the arguments of one session. */
static void publish_part(struct bus_redis *b, const struct push *push, struct publish_parts *parts,
                         struct publication *const *publications, size_t len)
{
    const struct redis_key channel = redis_channel_push(b, push->session);
    size_t kept_len = push->history_size > 0 ? len : 0;
    bool announce = (push->how & BUS_ANNOUNCE) && len > 0;
    struct redis_op *op = redis_op_new(REPLY_NUMBER, on_published, b);
    redis_request_number(&op->request, push->epoch);
    redis_request_text(&op->request, channel.text);
    add_options(&op->request, push, announce, publications, kept_len);
    redis_request_number(&op->request, kept_len);
    if (announce)
        add_message(b, &op->request, push, publications, len, kept_len);
    else
        add_payloads(&op->request, publications, kept_len);
    for (size_t i = 0; i < kept_len; i++)
        add_entry(&op->request, publications[i]);
    op->part = (struct redis_part){.arguments = 5 + 4 * kept_len,
                                   .kept = kept_len,
                                   .plain = kept_len > 0 && announce && push->how == BUS_ANNOUNCE,
                                   .history_size = push->history_size,
                                   .ttl_ms = push->ttl_ms};
    op->announces = announce;
    op->ctx = parts;
    op->ctx_free = free_parts;
    parts->left++;
    parts->ops++;
    bus_redis_gather(b, op, push->session, push->tag);
}

/* How many of the publications from the first on make one message. */
static size_t part_len(struct publication *const *publications, size_t len)
{
    size_t bytes = 0, count = 0;
    while (count < len && count < MESSAGE_ITEMS &&
           publications[count]->len <= PUBLICATION_BYTES_MAX) {
        bytes += publications[count]->len;
        if (count > 0 && bytes > MESSAGE_BYTES)
            break;
        count++;
    }
    return count;
}

void bus_redis_publish(struct bus *bus, const char *session, uint64_t tag, uint64_t epoch,
                       struct publication *const *publications, size_t len, uint32_t history_size,
                       uint64_t ttl_ms, unsigned how)
{
    struct bus_redis *b = bus_redis_of(bus);
    const struct push push = {session, tag, epoch, history_size, ttl_ms, how};
    struct publish_parts *parts = redis_claim_memory(1, sizeof(*parts));
    size_t at = 0;
    while (at < len) {
        size_t count = part_len(publications + at, len - at);
        if (count > 0) {
            publish_part(b, &push, parts, publications + at, count);
            at += count;
        } else {
            /* It is too large to be sent to members: they find the gap with the next publication,
             * and that the history does not have it. */
            metric_drop(DROP_TOO_LARGE, 1);
            note_status(parts, STATUS_NO_MEMORY);
            at++;
        }
    }
    if (parts->ops == 0)
        publish_part(b, &push, parts, NULL, 0);
}

/* --- history --- */

static struct position read_position(const char *id)
{
    char *end;
    struct position at = {.epoch = strtoull(id, &end, 10)};
    if (*end == '-')
        at.offset = strtoull(end + 1, NULL, 10);
    return at;
}

/* NULL where the entry is not one of ours. */
static struct publication *read_entry(const struct redisReply *entry)
{
    struct position at = read_position(redis_reply_text(redis_reply_at(entry, 0)));
    if (at.epoch > BUS_EPOCH_MAX)
        return NULL;
    if (at.offset == OFFSET_END)
        return publication_lost_end(at.epoch);
    const struct redisReply *fields = redis_reply_at(entry, 1),
                            *payload = redis_reply_at(fields, 5);
    uint64_t opcode = redis_reply_number(redis_reply_at(fields, 1));
    if (!payload || payload->type != REDIS_REPLY_STRING ||
        (opcode != OPCODE_BINARY &&
         (opcode != OPCODE_TEXT || !text_is_utf8(payload->str, payload->len))))
        return NULL;
    struct publication *p = publication_copy((enum opcode)opcode, payload->str, payload->len);
    if (!p)
        return NULL;
    p->at = at;
    p->time_ms = redis_reply_number(redis_reply_at(fields, 3));
    return p;
}

static void on_history(struct redis_op *op)
{
    struct bus_redis *b = op->owner;
    if (op->status != STATUS_OK || op->reply->elements < 2) {
        b->bus.events->on_history(b->bus.events_ctx, op->session, op->tag, STATUS_IO,
                                  (struct position){0, 0}, NULL, 0, false);
        return;
    }
    struct position oldest = read_position(redis_reply_text(redis_reply_at(op->reply, 0)));
    bool more = redis_reply_number(redis_reply_at(op->reply, 1)) == 1;
    size_t entries = op->reply->elements - 2, len = 0;
    struct publication **publications = redis_claim_memory(entries, sizeof(struct publication *));
    for (size_t i = 0; i < entries; i++) {
        publications[len] = read_entry(redis_reply_at(op->reply, i + 2));
        if (publications[len])
            len++;
        else
            metric_drop(DROP_BUS_UNREADABLE, 1);
    }
    b->bus.events->on_history(b->bus.events_ctx, op->session, op->tag, STATUS_OK, oldest,
                              publications, len, more);
    for (size_t i = 0; i < len; i++)
        publication_unref(publications[i]);
    free(publications);
}

void bus_redis_history(struct bus *bus, const char *session, uint64_t tag, struct position after,
                       size_t limit)
{
    struct bus_redis *b = bus_redis_of(bus);
    struct redis_key key = redis_key_session(b, "history", session);
    struct redis_op *op = bus_redis_script(b, on_history, SCRIPT_HISTORY, &key, 1, 3);
    char id[48];
    int len = snprintf(id, sizeof(id), "%" PRIu64 "-%" PRIu64, after.epoch, after.offset);
    redis_request_add(&op->request, (struct slice){id, (size_t)len});
    redis_request_number(&op->request, limit);
    redis_request_number(&op->request, HISTORY_BYTES);
    bus_redis_ask(b, op, &key, session, tag);
}

/* --- send and broadcast --- */

static void on_sent(struct redis_op *op)
{
    struct bus_redis *b = op->owner;
    enum status status = op->status;
    if (status == STATUS_OK && redis_reply_number(op->reply) == 0)
        status = STATUS_NOT_FOUND;
    b->bus.events->on_sent(b->bus.events_ctx, op->tag, status);
}

/* An op that publishes the envelope; NULL where it is too large. */
static struct redis_op *publish_envelope(struct bus_redis *b, redis_answer_fn *answer,
                                         const struct redis_key *channel,
                                         const struct envelope *envelope)
{
    uint8_t *bytes;
    size_t len;
    if (envelope_encode(envelope, &bytes, &len) != STATUS_OK)
        return NULL;
    struct redis_op *op = NULL;
    if (len <= TELL_BYTES_MAX) {
        op = redis_op_new(REPLY_NUMBER, answer, b);
        redis_request_begin(&op->request, 3);
        redis_request_text(&op->request, bus_redis_publish_word(b));
        redis_request_text(&op->request, channel->text);
        redis_request_add(&op->request, (struct slice){(const char *)bytes, len});
    } else {
        metric_drop(DROP_TOO_LARGE, 1);
    }
    free(bytes);
    return op;
}

void bus_redis_send_message(struct bus *bus, const char *node, const struct envelope *envelope,
                            uint64_t tag)
{
    struct bus_redis *b = bus_redis_of(bus);
    struct redis_key channel = redis_channel_inbox(b, node);
    struct redis_op *op = publish_envelope(b, tag != 0 ? on_sent : NULL, &channel, envelope);
    if (op && tag == 0) {
        bus_redis_send(b, op, &channel);
    } else if (op) {
        bus_redis_ask(b, op, &channel, NULL, tag);
    } else if (tag != 0) {
        op = redis_op_new(REPLY_NUMBER, on_sent, b);
        op->tag = tag;
        redis_order_add(&b->order, op, channel.text);
        redis_op_finish(op, STATUS_IO, NULL);
    }
}

void bus_redis_broadcast(struct bus *bus, const char *session, const struct envelope *envelope)
{
    struct bus_redis *b = bus_redis_of(bus);
    struct redis_key channel = redis_channel_push(b, session);
    struct redis_op *op = publish_envelope(b, NULL, &channel, envelope);
    if (op)
        bus_redis_send(b, op, &channel);
}
