#include "bus/redis_op.h"

#include <assert.h>
#include <hiredis/hiredis.h>
#include <stdlib.h>
#include <string.h>

#include "common/hash.h"

void redis_op_list_add(struct redis_op_list *list, struct redis_op *op)
{
    op->next = NULL;
    if (list->first == NULL)
        list->first = op;
    else
        list->last->next = op;
    list->last = op;
}

struct redis_op *redis_op_list_take(struct redis_op_list *list)
{
    struct redis_op *op = list->first;
    if (op != NULL)
        list->first = op->next;
    return op;
}

static const struct {
    const char *name;
    int type, other_type; /* of hiredis */
} kinds[] = {
    [REPLY_STATUS] = {"a status", REDIS_REPLY_STATUS, REDIS_REPLY_STATUS},
    [REPLY_NUMBER] = {"a number", REDIS_REPLY_INTEGER, REDIS_REPLY_INTEGER},
    [REPLY_TEXT] = {"a text", REDIS_REPLY_STRING, REDIS_REPLY_STRING},
    [REPLY_TEXT_OR_NIL] = {"a text or nil", REDIS_REPLY_STRING, REDIS_REPLY_NIL},
    [REPLY_LIST] = {"a list", REDIS_REPLY_ARRAY, REDIS_REPLY_ARRAY},
};

const char *redis_reply_kind_name(enum redis_reply_kind kind)
{
    return kinds[kind].name;
}

bool redis_op_fits(const struct redis_op *op, const struct redisReply *reply)
{
    return reply->type == kinds[op->kind].type || reply->type == kinds[op->kind].other_type;
}

struct redis_op *redis_op_new(enum redis_reply_kind kind, redis_answer_fn *answer, void *owner)
{
    struct redis_op *op = redis_claim_memory(1, sizeof(*op));
    op->kind = kind;
    op->answer = answer;
    op->owner = owner;
    return op;
}

void redis_op_free(struct redis_op *op)
{
    if (op->ctx_free != NULL)
        op->ctx_free(op);
    redis_request_fini(&op->request);
    if (op->reply != NULL)
        freeReplyObject(op->reply);
    free(op->session);
    free(op->error);
    free(op);
}

/* --- in order --- */

struct redis_queue {
    struct redis_order *order;
    struct redis_op *first, *last;
    bool ready; /* in the list of those whose first op is done */
    struct redis_queue *next_ready;
    UT_hash_handle hh;
    char key[];
};

static struct redis_queue *queue_of(struct redis_order *order, const char *key)
{
    struct redis_queue *queue;
    size_t len = strlen(key);
    HASH_FIND(hh, order->queues, key, len, queue);
    if (!queue) {
        queue = redis_claim_memory(1, sizeof(*queue) + len + 1);
        queue->order = order;
        memcpy(queue->key, key, len);
        HASH_ADD_KEYPTR(hh, order->queues, queue->key, len, queue);
    }
    return queue;
}

static void queue_free(struct redis_queue *queue)
{
    HASH_DEL(queue->order->queues, queue);
    free(queue);
}

static void queue_note_ready(struct redis_queue *queue)
{
    struct redis_order *order = queue->order;
    if (queue->ready || !queue->first || !queue->first->done)
        return;
    queue->ready = true;
    queue->next_ready = NULL;
    if (!order->ready_first)
        order->ready_first = queue;
    else
        order->ready_last->next_ready = queue;
    order->ready_last = queue;
}

/* Answers what is done, up to the last that is there now. */
static void queue_answer(struct redis_queue *queue)
{
    const struct redis_op *until = queue->last;
    bool last = false;
    while (!last && queue->first && queue->first->done) {
        struct redis_op *op = queue->first;
        last = op == until;
        queue->first = op->next_ordered;
        op->answer(op);
        redis_op_free(op);
    }
}

void redis_order_add(struct redis_order *order, struct redis_op *op, const char *key)
{
    struct redis_queue *queue = queue_of(order, key);
    op->queue = queue;
    if (!queue->first)
        queue->first = op;
    else
        queue->last->next_ordered = op;
    queue->last = op;
}

void redis_op_finish(struct redis_op *op, enum status status, struct redisReply *reply)
{
    assert(!op->done && (status == STATUS_OK) == (reply != NULL));
    op->done = true;
    op->status = status;
    op->reply = reply;
    redis_request_fini(&op->request);
    if (op->queue) {
        queue_note_ready(op->queue);
        return;
    }
    if (op->answer)
        op->answer(op);
    redis_op_free(op);
}

void redis_order_answer(struct redis_order *order)
{
    if (order->answering)
        return;
    order->answering = true;
    const struct redis_queue *until = order->ready_last;
    bool last = false;
    while (!last && order->ready_first) {
        struct redis_queue *queue = order->ready_first;
        last = queue == until;
        order->ready_first = queue->next_ready;
        queue_answer(queue);
        queue->ready = false;
        queue_note_ready(queue);
        if (!queue->first)
            queue_free(queue);
    }
    order->answering = false;
}

bool redis_order_waits(const struct redis_order *order)
{
    return order->ready_first != NULL;
}

void redis_order_fini(struct redis_order *order)
{
    struct redis_queue *queue, *next;
    HASH_ITER (hh, order->queues, queue, next) {
        while (queue->first) {
            struct redis_op *op = queue->first;
            queue->first = op->next_ordered;
            redis_op_free(op);
        }
        queue_free(queue);
    }
    *order = (struct redis_order){0};
}
