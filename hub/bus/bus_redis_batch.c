/*
 * The publications of a turn, of many sessions, in one call; in a cluster one for each slot. Where
 * much is published (call_pace.h), or calls are under way, what comes waits for an answer, for a
 * moment, or for anything else that is asked: the more there is to do, the more goes into one call.
 *
 * Each session's part is an op of its own, with its own place among the answers on its session. It
 * is never sent itself: a call carries it and answers it. Where a right to the keys of one is
 * missing, the server refuses the call as a whole: its sessions go apart from then on, each in a
 * call of its own, until that has been answered. So it costs the others that one call.
 */
#include <hiredis/hiredis.h>
#include <stdlib.h>
#include <string.h>

#include "bus/bus_redis_private.h"
#include "bus/redis_slot_map.h"
#include "common/clock.h"
#include "common/hash.h"
#include "common/log.h"

/* Of one call: it holds the server up for a millisecond or two. */
#define CALL_SESSIONS 256
#define CALL_KEPT     512
#define CALL_BYTES    ((size_t)512 * 1024)

struct redis_batch {
    int slot; /* of a cluster; else 0 */
    struct redis_op *parts[CALL_SESSIONS];
    size_t len, kept, bytes;
    UT_hash_handle hh;
};

struct redis_apart {
    UT_hash_handle hh;
    char session[];
};

/* --- sessions that go apart --- */

static struct redis_apart *find_apart(const struct bus_redis *b, const char *session)
{
    struct redis_apart *apart;
    HASH_FIND_STR(b->apart, session, apart);
    return apart;
}

static void go_apart(struct bus_redis *b, const char *session)
{
    if (find_apart(b, session))
        return;
    size_t len = strlen(session);
    struct redis_apart *apart = redis_claim_memory(1, sizeof(*apart) + len + 1);
    memcpy(apart->session, session, len);
    HASH_ADD_STR(b->apart, session, apart);
}

void bus_redis_forget_apart(struct bus_redis *b, const char *session)
{
    struct redis_apart *apart = find_apart(b, session);
    if (!apart)
        return;
    HASH_DEL(b->apart, apart);
    free(apart);
}

/* --- answers --- */

struct call {
    size_t len;
    struct redis_op *parts[];
};

static void free_call(struct redis_op *op)
{
    free(op->ctx);
}

/* An error that concerns this session alone. */
static void refuse_part(struct bus_redis *b, struct redis_op *part, const char *error)
{
    char words[REDIS_WHY_BYTES];
    redis_quote(&b->url, error, words);
    if (redis_is_no_right(error))
        log_warn_cause("redis_error", LOG_STR("error", words), LOG_STR("session", part->session));
    else
        log_warn_cause("redis_error", LOG_STR("error", words),
                       LOG_DETAIL("session", part->session));
    part->error = redis_copy_text(words);
    redis_op_finish(part, STATUS_IO, NULL);
}

static void answer_part(struct bus_redis *b, struct redis_op *part, struct redisReply **reply)
{
    if (*reply && (*reply)->type == REDIS_REPLY_ERROR) {
        refuse_part(b, part, (*reply)->str);
    } else if (*reply && (*reply)->type == REDIS_REPLY_INTEGER) {
        redis_op_finish(part, STATUS_OK, *reply);
        *reply = NULL;
    } else {
        redis_op_finish(part, STATUS_IO, NULL);
    }
}

static void on_called(struct redis_op *op)
{
    struct bus_redis *b = op->owner;
    struct call *call = op->ctx;
    bool answered = op->status == STATUS_OK && op->reply->elements == call->len;
    b->calls--;
    for (size_t i = 0; i < call->len; i++) {
        struct redis_op *part = call->parts[i];
        if (answered && call->len == 1)
            bus_redis_forget_apart(b, part->session);
        if (op->error && redis_is_no_right(op->error) && call->len > 1)
            go_apart(b, part->session);
        if (answered) {
            answer_part(b, part, &op->reply->element[i]);
            continue;
        }
        part->error = op->error ? redis_copy_text(op->error) : NULL;
        redis_op_finish(part, STATUS_IO, NULL);
    }
}

/* --- calls --- */

static struct redis_op *call_of(struct bus_redis *b, const struct redis_batch *batch)
{
    size_t arguments = 2;
    for (size_t i = 0; i < batch->len; i++)
        arguments += batch->parts[i]->part.arguments;
    struct redis_op *op = redis_op_new(REPLY_LIST, on_called, b);
    op->scripted = true;
    redis_script_begin(&op->request, &b->shas, SCRIPT_PUBLISH, 2 * batch->len, arguments);
    for (size_t i = 0; i < batch->len; i++) {
        const struct redis_op *part = batch->parts[i];
        redis_request_text(&op->request, redis_key_session(b, "session", part->session).text);
        const char *kept = part->part.kept > 0 ? "history" : "session";
        redis_request_text(&op->request, redis_key_session(b, kept, part->session).text);
    }
    redis_request_text(&op->request, b->node);
    redis_request_text(&op->request, bus_redis_publish_word(b));
    for (size_t i = 0; i < batch->len; i++) {
        redis_request_append(&op->request, &batch->parts[i]->request);
        op->announces = op->announces || batch->parts[i]->announces;
    }
    return op;
}

static void send_call(struct bus_redis *b, struct redis_batch *batch)
{
    if (batch->len == 0)
        return;
    struct redis_op *op = call_of(b, batch);
    struct call *call = redis_claim_memory(1, sizeof(*call) + batch->len * sizeof(call->parts[0]));
    call->len = batch->len;
    memcpy(call->parts, batch->parts, batch->len * sizeof(call->parts[0]));
    op->ctx = call;
    op->ctx_free = free_call;
    if (batch->len == 1) /* an error names this session */
        op->session = redis_copy_text(batch->parts[0]->session);
    const struct redis_key key = redis_key_session(b, "session", batch->parts[0]->session);
    batch->len = batch->kept = batch->bytes = 0;
    b->calls++;
    redis_topology_send(b->topology, op, key.text);
}

static struct redis_batch *batch_of(struct bus_redis *b, const char *session)
{
    int slot = 0;
    if (b->url.shape == REDIS_CLUSTER)
        slot = redis_slot_of(redis_key_session(b, "session", session).text);
    struct redis_batch *batch;
    HASH_FIND_INT(b->batches, &slot, batch);
    if (!batch) {
        batch = redis_claim_memory(1, sizeof(*batch));
        batch->slot = slot;
        HASH_ADD_INT(b->batches, slot, batch);
    }
    return batch;
}

static bool has_room(const struct redis_batch *batch, const struct redis_op *op)
{
    return batch->len == 0 ||
           (batch->len < CALL_SESSIONS && batch->kept + op->part.kept <= CALL_KEPT &&
            batch->bytes + op->request.len <= CALL_BYTES);
}

void bus_redis_gather_held(struct bus_redis *b, struct redis_op *op)
{
    struct redis_batch *batch = batch_of(b, op->session);
    bool apart = find_apart(b, op->session) != NULL;
    b->gathered = true;
    if (apart || !has_room(batch, op))
        send_call(b, batch);
    batch->parts[batch->len++] = op;
    batch->kept += op->part.kept;
    batch->bytes += op->request.len;
    if (apart)
        send_call(b, batch);
}

void bus_redis_gather(struct bus_redis *b, struct redis_op *op, const char *session, uint64_t tag)
{
    op->session = redis_copy_text(session);
    op->tag = tag;
    if (redis_order_add(&b->order, op, session))
        bus_redis_gather_held(b, op);
}

void bus_redis_end_turn(struct bus_redis *b)
{
    if (!b->batches)
        return;
    if (b->url.shape == REDIS_CLUSTER) { /* most sessions have a slot, so a call, of their own */
        bus_redis_flush_batches(b);
        return;
    }
    uint64_t now_us = clock_boot_us();
    call_pace_turn(&b->pace, now_us, b->gathered);
    b->gathered = false;
    if (call_pace_may_call(&b->pace, now_us, b->calls))
        bus_redis_flush_batches(b);
    else if (b->calls == 0) /* else the turn of an answer looks again */
        loop_timer_start(b->wake, 1);
}

void bus_redis_flush_batches(struct bus_redis *b)
{
    struct redis_batch *batch, *next;
    HASH_ITER (hh, b->batches, batch, next) {
        send_call(b, batch);
        HASH_DEL(b->batches, batch);
        free(batch);
    }
}

void bus_redis_forget_batches(struct bus_redis *b)
{
    struct redis_batch *batch, *next;
    HASH_ITER (hh, b->batches, batch, next) {
        HASH_DEL(b->batches, batch);
        free(batch);
    }
    struct redis_apart *apart, *next_apart;
    HASH_ITER (hh, b->apart, apart, next_apart) {
        HASH_DEL(b->apart, apart);
        free(apart);
    }
}
