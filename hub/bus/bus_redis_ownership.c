#include <hiredis/hiredis.h>
#include <stdlib.h>
#include <string.h>

#include "bus/bus_redis_private.h"
#include "common/clock.h"

#define LISTED_MS     (UINT64_C(60) * 60 * 1000)
#define TRIM_EVERY_MS (UINT64_C(60) * 1000)

/* The three arguments that a script needs to announce a change of owner. */
static void add_channel(const struct bus_redis *b, struct redis_op *op, const char *session)
{
    struct redis_key channel = redis_channel_push(b, session);
    redis_request_text(&op->request, bus_redis_publish_word(b));
    redis_request_text(&op->request, channel.text);
    redis_request_text(&op->request, session);
}

/* Notes for the end of the turn that the session's record was written. */
static void touch_session(struct bus_redis *b, const char *session)
{
    redis_request_number(&b->touched, clock_unix_ms());
    redis_request_text(&b->touched, session);
    b->touched_len++;
}

static void trim_index(struct bus_redis *b, const struct redis_key *index)
{
    uint64_t now_ms = clock_boot_ms();
    if (b->trimmed_ms != 0 && now_ms - b->trimmed_ms < TRIM_EVERY_MS)
        return;
    b->trimmed_ms = now_ms;
    struct redis_op *op = redis_op_new(REPLY_NUMBER, NULL, b);
    redis_request_begin(&op->request, 4);
    redis_request_text(&op->request, "ZREMRANGEBYSCORE");
    redis_request_text(&op->request, index->text);
    redis_request_text(&op->request, "-inf");
    redis_request_number(&op->request, clock_unix_ms() - LISTED_MS);
    bus_redis_send(b, op, index);
}

/* The index lies in another slot than the records, so it is written apart from the scripts, once a
 * turn. */
void bus_redis_flush_touched(struct bus_redis *b)
{
    if (b->touched_len == 0)
        return;
    struct redis_key index = redis_key_plain(b, "sessions");
    struct redis_op *op = redis_op_new(REPLY_NUMBER, NULL, b);
    redis_request_begin(&op->request, 2 + 2 * b->touched_len);
    redis_request_text(&op->request, "ZADD");
    redis_request_text(&op->request, index.text);
    redis_request_append(&op->request, &b->touched);
    b->touched.len = 0;
    b->touched_len = 0;
    bus_redis_send(b, op, &index);
    trim_index(b, &index);
}

/* Nobody takes a session by a reply that names no epoch, or somebody else. */
static enum status claimed_status(const struct redis_op *op, const char *owner, uint64_t epoch)
{
    const struct bus_redis *b = op->owner;
    const struct redisReply *code = redis_reply_at(op->reply, 0);
    if (op->status != STATUS_OK)
        return op->status;
    if (code == NULL || code->type != REDIS_REPLY_INTEGER)
        return STATUS_IO;
    if (code->integer <= 0)
        return code->integer == 0 ? STATUS_REFUSED : STATUS_AGAIN;
    return strcmp(owner, b->node) == 0 && epoch > 0 ? STATUS_OK : STATUS_IO;
}

static void on_claimed(struct redis_op *op)
{
    struct bus_redis *b = op->owner;
    const char *owner = redis_reply_text(redis_reply_at(op->reply, 1));
    uint64_t epoch = redis_reply_epoch(redis_reply_at(op->reply, 2));
    enum status status = claimed_status(op, owner, epoch);
    bus_redis_note_refusal(b, op);
    if (status == STATUS_OK)
        touch_session(b, op->session);
    b->bus.events->on_claimed(b->bus.events_ctx, op->session, op->tag, status, owner, epoch);
}

void bus_redis_claim(struct bus *bus, const char *session, uint64_t tag,
                     const struct bus_claim *claim)
{
    struct bus_redis *b = bus_redis_of(bus);
    struct redis_key key = redis_key_session(b, "session", session);
    struct redis_op *op = bus_redis_script(b, on_claimed, SCRIPT_CLAIM, &key, 1, 12);
    add_channel(b, op, session);
    redis_request_text(&op->request, b->node);
    redis_request_text(&op->request, claim->dead_owner != NULL ? claim->dead_owner : "");
    redis_request_number(&op->request, claim->dead_epoch);
    redis_request_number(&op->request, claim->seen_epoch);
    redis_request_text(&op->request, claim->holds ? "1" : "0");
    redis_request_number(&op->request, b->conf->node.lease_ms);
    redis_request_text(&op->request, claim->upstream != NULL ? claim->upstream : "");
    redis_request_number(&op->request, RECORD_TTL_MS);
    redis_request_number(&op->request, clock_boot_ms() - b->opened_ms);
    op->replicated = true;
    bus_redis_ask(b, op, &key, session, tag);
}

/* STATUS_OK where a script answered 1. */
static enum status yes_or_refused(const struct redis_op *op)
{
    if (op->status != STATUS_OK)
        return op->status;
    return redis_reply_number(op->reply) == 1 ? STATUS_OK : STATUS_REFUSED;
}

static void on_released(struct redis_op *op)
{
    struct bus_redis *b = op->owner;
    b->bus.events->on_released(b->bus.events_ctx, op->session, op->tag, yes_or_refused(op));
}

void bus_redis_release(struct bus *bus, const char *session, uint64_t tag, uint64_t epoch,
                       uint64_t keep_ms)
{
    struct bus_redis *b = bus_redis_of(bus);
    struct redis_key key = redis_key_session(b, "session", session);
    struct redis_op *op = bus_redis_script(b, on_released, SCRIPT_RELEASE, &key, 1, 3);
    redis_request_text(&op->request, b->node);
    redis_request_number(&op->request, epoch);
    redis_request_number(&op->request, keep_ms);
    bus_redis_ask(b, op, &key, session, tag);
}

static void on_transferred(struct redis_op *op)
{
    struct bus_redis *b = op->owner;
    uint64_t epoch = redis_reply_epoch(op->reply);
    enum status status = op->status;
    if (status == STATUS_OK && epoch == 0)
        status = redis_reply_number(op->reply) == 0 ? STATUS_REFUSED : STATUS_IO;
    b->bus.events->on_transferred(b->bus.events_ctx, op->session, op->tag, status, epoch);
}

void bus_redis_transfer(struct bus *bus, const char *session, uint64_t tag, uint64_t epoch,
                        const char *to)
{
    struct bus_redis *b = bus_redis_of(bus);
    struct redis_key key = redis_key_session(b, "session", session);
    struct redis_op *op = bus_redis_script(b, on_transferred, SCRIPT_TRANSFER, &key, 1, 7);
    add_channel(b, op, session);
    redis_request_text(&op->request, b->node);
    redis_request_number(&op->request, epoch);
    redis_request_text(&op->request, to);
    redis_request_number(&op->request, RECORD_TTL_MS);
    bus_redis_ask(b, op, &key, session, tag);
}

static void on_asserted(struct redis_op *op)
{
    struct bus_redis *b = op->owner;
    enum status status = op->status;
    if (status == STATUS_OK && redis_reply_number(redis_reply_at(op->reply, 0)) != 1)
        status = STATUS_REFUSED;
    if (status == STATUS_OK)
        touch_session(b, op->session);
    b->bus.events->on_asserted(b->bus.events_ctx, op->session, op->tag, status,
                               redis_reply_text(redis_reply_at(op->reply, 1)),
                               redis_reply_epoch(redis_reply_at(op->reply, 2)));
}

void bus_redis_assert_owner(struct bus *bus, const char *session, uint64_t tag, uint64_t epoch,
                            const char *upstream)
{
    struct bus_redis *b = bus_redis_of(bus);
    struct redis_key key = redis_key_session(b, "session", session);
    struct redis_op *op = bus_redis_script(b, on_asserted, SCRIPT_ASSERT, &key, 1, 7);
    add_channel(b, op, session);
    redis_request_text(&op->request, b->node);
    redis_request_number(&op->request, epoch);
    redis_request_text(&op->request, upstream != NULL ? upstream : "");
    redis_request_number(&op->request, RECORD_TTL_MS);
    bus_redis_ask(b, op, &key, session, tag);
}

/* Only a record that was written puts the session into the index. */
static void on_recorded(struct redis_op *op)
{
    if (yes_or_refused(op) == STATUS_OK)
        touch_session(op->owner, op->session);
}

void bus_redis_record_session(struct bus *bus, const char *session, uint64_t epoch,
                              const struct bus_session_record *record)
{
    struct bus_redis *b = bus_redis_of(bus);
    struct redis_key key = redis_key_session(b, "session", session);
    struct redis_op *op = bus_redis_script(b, on_recorded, SCRIPT_RECORD_SESSION, &key, 1,
                                           3 + 2 * 7);
    redis_request_text(&op->request, b->node);
    redis_request_number(&op->request, epoch);
    redis_request_number(&op->request, RECORD_TTL_MS);
    const char *const texts[][2] = {
        {"state", record->state}, {"reason", record->reason}, {"upstream", record->upstream}};
    for (size_t i = 0; i < 3; i++) {
        redis_request_text(&op->request, texts[i][0]);
        redis_request_text(&op->request, texts[i][1] != NULL ? texts[i][1] : "");
    }
    const struct {
        const char *name;
        uint64_t value;
    } numbers[] = {{"since", record->since_ms},
                   {"clients", record->clients},
                   {"members", record->members},
                   {"offset", record->offset}};
    for (size_t i = 0; i < 4; i++) {
        redis_request_text(&op->request, numbers[i].name);
        redis_request_number(&op->request, numbers[i].value);
    }
    op->session = redis_copy_text(session);
    bus_redis_send(b, op, &key);
}
