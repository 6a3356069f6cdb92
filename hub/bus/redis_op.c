#include "bus/redis_op.h"

#include <assert.h>
#include <hiredis/hiredis.h>
#include <stdlib.h>

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

void redis_order_add(struct redis_order *order, struct redis_op *op)
{
    op->ordered = true;
    if (order->first == NULL)
        order->first = op;
    else
        order->last->next_ordered = op;
    order->last = op;
}

void redis_op_finish(struct redis_op *op, enum status status, struct redisReply *reply)
{
    assert(!op->done && (status == STATUS_OK) == (reply != NULL));
    op->done = true;
    op->status = status;
    op->reply = reply;
    redis_request_fini(&op->request);
    if (op->ordered)
        return;
    if (op->answer != NULL)
        op->answer(op);
    redis_op_free(op);
}

void redis_order_answer(struct redis_order *order)
{
    if (order->answering)
        return;
    order->answering = true;
    const struct redis_op *until = order->last;
    bool last = false;
    while (!last && redis_order_waits(order)) {
        struct redis_op *op = order->first;
        last = op == until;
        order->first = op->next_ordered;
        op->answer(op);
        redis_op_free(op);
    }
    order->answering = false;
}

bool redis_order_waits(const struct redis_order *order)
{
    return order->first != NULL && order->first->done;
}
