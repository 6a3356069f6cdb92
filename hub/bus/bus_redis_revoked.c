/*
 * Revoked tokens: one hash, merged by a script, read in portions (HSCAN).
 */
#include <hiredis/hiredis.h>
#include <stdlib.h>
#include <string.h>

#include "bus/bus_redis_private.h"

#define KEY_REVOKED "revoked"

static void on_revoked(struct redis_op *op)
{
    struct bus_redis *b = op->owner;
    if (b->bus.events->on_revoked)
        b->bus.events->on_revoked(b->bus.events_ctx, op->tag, op->status);
}

void bus_redis_revoke(struct bus *bus, uint64_t tag, const struct bus_revocation *revocation)
{
    struct bus_redis *b = bus_redis_of(bus);
    struct redis_key key = redis_key_plain(b, KEY_REVOKED);
    struct redis_op *op = bus_redis_script(b, on_revoked, SCRIPT_REVOKE, &key, 1, 3);
    redis_request_text(&op->request, revocation->name);
    redis_request_number(&op->request, revocation->until_s);
    if (strncmp(revocation->name, "sub:", 4) == 0)
        redis_request_number(&op->request, revocation->issued_before_s);
    else
        redis_request_text(&op->request, "");
    bus_redis_ask(b, op, &key, NULL, tag);
}

/* --- what is revoked --- */

/* Who asked for a portion. */
struct revoked_portion {
    bus_rows_fn *fn;
    void *ctx;
};

static void portion_free(struct redis_op *op)
{
    free(op->ctx);
}

static void answer_portion(const struct revoked_portion *portion, const struct redisReply *items,
                           const char *next)
{
    size_t len = items->elements / 2;
    struct bus_row *rows = redis_claim_memory(len + 1, sizeof(*rows));
    struct bus_field *values = redis_claim_memory(len + 1, sizeof(*values));
    for (size_t i = 0; i < len; i++) {
        values[i] = (struct bus_field){"value", redis_reply_text(items->element[2 * i + 1])};
        rows[i] = (struct bus_row){redis_reply_text(items->element[2 * i]), &values[i], 1};
    }
    portion->fn(portion->ctx, STATUS_OK, rows, len, next);
    free(values);
    free(rows);
}

static void on_portion(struct redis_op *op)
{
    struct bus_redis *b = op->owner;
    const struct revoked_portion *portion = op->ctx;
    const struct redisReply *cursor = redis_reply_at(op->reply, 0),
                            *items = redis_reply_at(op->reply, 1);
    if (b->freeing)
        return;
    if (op->status != STATUS_OK || !items || items->type != REDIS_REPLY_ARRAY) {
        portion->fn(portion->ctx, STATUS_IO, NULL, 0, NULL);
        return;
    }
    const char *next = redis_reply_text(cursor);
    answer_portion(portion, items, *next && strcmp(next, "0") != 0 ? next : NULL);
}

void bus_redis_list_revoked(struct bus_redis *b, const char *cursor, size_t limit, bus_rows_fn *fn,
                            void *ctx)
{
    struct revoked_portion *portion = redis_claim_memory(1, sizeof(*portion));
    *portion = (struct revoked_portion){fn, ctx};
    struct redis_key key = redis_key_plain(b, KEY_REVOKED);
    struct redis_op *op = redis_op_new(REPLY_LIST, on_portion, b);
    op->ctx = portion;
    op->ctx_free = portion_free;
    redis_request_begin(&op->request, 5);
    redis_request_text(&op->request, "HSCAN");
    redis_request_text(&op->request, key.text);
    redis_request_text(&op->request, *cursor ? cursor : "0");
    redis_request_text(&op->request, "COUNT");
    redis_request_number(&op->request, limit);
    bus_redis_send(b, op, &key);
}
