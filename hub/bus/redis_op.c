#include "bus/redis_op.h"

#include <assert.h>
#include <hiredis/hiredis.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/hash.h"
#include "lua_scripts.h"

/* --- requests --- */

#define REQUEST_BYTES 1024
/* A turn mostly has one request or a few; where it has many, each chunk is as large as what waits
 * already. */
#define CHUNK_BYTES_MIN ((size_t)4 * 1024)
#define CHUNK_BYTES_MAX ((size_t)64 * 1024)
#define DIGITS_MAX      20

void *redis_claim_memory(size_t count, size_t size)
{
    void *memory = calloc(count > 0 ? count : 1, size);
    if (!memory)
        abort();
    return memory;
}

char *redis_copy_text(const char *text)
{
    char *copy = strdup(text ? text : "");
    if (!copy)
        abort();
    return copy;
}

static char *request_reserve(struct redis_request *request, size_t len)
{
    if (request->cap - request->len < len) {
        size_t cap = request->cap > 0 ? request->cap : REQUEST_BYTES;
        while (cap - request->len < len)
            cap *= 2;
        char *bytes = realloc(request->bytes, cap);
        if (!bytes)
            abort();
        request->bytes = bytes;
        request->cap = cap;
    }
    char *at = request->bytes + request->len;
    request->len += len;
    return at;
}

/* Writes the digits so that they end before `end`; returns where they begin. printf would take more
 * time than all the rest of a request, which has dozens of numbers. */
static char *write_number(char *end, uint64_t number)
{
    do {
        *--end = (char)('0' + number % 10);
        number /= 10;
    } while (number > 0);
    return end;
}

static void request_head(struct redis_request *request, char mark, size_t number)
{
    char head[1 + DIGITS_MAX + 2], *end = head + sizeof(head);
    memcpy(end - 2, "\r\n", 2);
    char *at = write_number(end - 2, number);
    *--at = mark;
    memcpy(request_reserve(request, (size_t)(end - at)), at, (size_t)(end - at));
}

void redis_request_begin(struct redis_request *request, size_t argc)
{
    request_head(request, '*', argc);
}

void redis_request_add(struct redis_request *request, struct slice argument)
{
    request_head(request, '$', argument.len);
    char *at = request_reserve(request, argument.len + 2);
    if (argument.len > 0)
        memcpy(at, argument.at, argument.len);
    /* A request has no terminator. NOLINTNEXTLINE(bugprone-not-null-terminated-result) */
    memcpy(at + argument.len, "\r\n", 2);
}

void redis_request_joined(struct redis_request *request, const struct slice *pieces, size_t len)
{
    size_t total = 0;
    for (size_t i = 0; i < len; i++)
        total += pieces[i].len;
    request_head(request, '$', total);
    char *at = request_reserve(request, total + 2);
    for (size_t i = 0; i < len; at += pieces[i++].len)
        if (pieces[i].len > 0)
            memcpy(at, pieces[i].at, pieces[i].len);
    memcpy(at, "\r\n", 2); /* NOLINT(bugprone-not-null-terminated-result): as above */
}

void redis_request_text(struct redis_request *request, const char *argument)
{
    redis_request_add(request, slice_of(argument));
}

void redis_request_number(struct redis_request *request, uint64_t argument)
{
    char text[DIGITS_MAX], *end = text + sizeof(text), *at = write_number(end, argument);
    redis_request_add(request, (struct slice){at, (size_t)(end - at)});
}

void redis_request_append(struct redis_request *request, const struct redis_request *arguments)
{
    if (arguments->len > 0)
        memcpy(request_reserve(request, arguments->len), arguments->bytes, arguments->len);
}

void redis_request_fini(struct redis_request *request)
{
    free(request->bytes);
    *request = (struct redis_request){0};
}

void redis_output_append(struct redis_output *output, const struct redis_request *request)
{
    struct redis_chunk *last = output->last;
    if (!last || last->cap - last->len < request->len) {
        size_t cap = output->bytes < CHUNK_BYTES_MAX ? output->bytes : CHUNK_BYTES_MAX;
        if (cap < CHUNK_BYTES_MIN)
            cap = CHUNK_BYTES_MIN;
        if (cap < request->len)
            cap = request->len;
        struct redis_chunk *chunk = malloc(sizeof(*chunk) + cap);
        if (!chunk)
            abort();
        *chunk = (struct redis_chunk){.cap = cap};
        if (!last)
            output->first = chunk;
        else
            last->next = chunk;
        output->last = last = chunk;
    }
    memcpy(last->bytes + last->len, request->bytes, request->len);
    last->len += request->len;
    output->bytes += request->len;
}

struct redis_chunk *redis_output_take(struct redis_output *output)
{
    struct redis_chunk *chunk = output->first;
    if (!chunk)
        return NULL;
    output->first = chunk->next;
    if (!output->first)
        output->last = NULL;
    output->bytes -= chunk->len;
    return chunk;
}

void redis_output_clear(struct redis_output *output)
{
    struct redis_chunk *chunk;
    while ((chunk = redis_output_take(output)) != NULL)
        free(chunk);
}

/* --- ops --- */

void redis_op_list_add(struct redis_op_list *list, struct redis_op *op)
{
    op->next = NULL;
    if (!list->first)
        list->first = op;
    else
        list->last->next = op;
    list->last = op;
}

void redis_op_list_finish(struct redis_op_list *list)
{
    struct redis_op *op;
    while ((op = redis_op_list_take(list)))
        redis_op_finish(op, STATUS_IO, NULL);
}

void redis_op_list_prepend(struct redis_op_list *list, struct redis_op *op)
{
    op->next = list->first;
    list->first = op;
    if (!list->last)
        list->last = op;
}

struct redis_op *redis_op_list_take(struct redis_op_list *list)
{
    struct redis_op *op = list->first;
    if (op)
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

struct redisReply *redis_op_gather(struct redis_op *op, struct redisReply *reply)
{
    struct redisReply *list = op->gathered;
    if (!list) {
        list = redis_claim_memory(1, sizeof(*list));
        list->type = REDIS_REPLY_ARRAY;
        list->element = redis_claim_memory(op->commands, sizeof(list->element[0]));
        op->gathered = list;
    }
    list->element[list->elements++] = reply;
    if (list->elements < op->commands)
        return NULL;
    op->gathered = NULL;
    return list;
}

void redis_op_free(struct redis_op *op)
{
    if (op->gathered)
        freeReplyObject(op->gathered);
    if (op->ctx_free)
        op->ctx_free(op);
    redis_request_fini(&op->request);
    if (op->reply)
        freeReplyObject(op->reply);
    free(op->session);
    free(op->error);
    free(op->key);
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

/* Sends those that were held and go over the same connection as the first one of them. */
static void queue_send_held(struct redis_queue *queue)
{
    const struct redis_op *until = queue->last;
    bool replicated = queue->first && queue->first->replicated, last = false;
    struct redis_op *op = queue->first;
    while (op && !last && op->held && op->replicated == replicated) {
        struct redis_op *next = op->next_ordered;
        last = op == until;
        op->held = false;
        queue->order->send(queue->order->ctx, op);
        op = next;
    }
}

bool redis_order_add(struct redis_order *order, struct redis_op *op, const char *key)
{
    struct redis_queue *queue = queue_of(order, key);
    op->queue = queue;
    op->held = queue->first && (queue->last->held || queue->last->replicated != op->replicated);
    if (!queue->first)
        queue->first = op;
    else
        queue->last->next_ordered = op;
    queue->last = op;
    return !op->held;
}

bool redis_order_hold(struct redis_op *op)
{
    for (const struct redis_op *before = op->queue->first; before != op && !op->held;
         before = before->next_ordered)
        op->held = !before->done && (before->part.plainly || before->held);
    return op->held;
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
        queue_send_held(queue);
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
}

/* --- scripts --- */

static const char *const script_texts[REDIS_SCRIPTS] = {
    [SCRIPT_RENEW] = lua_renew,       [SCRIPT_RECORD_NODE] = lua_record_node,
    [SCRIPT_CLAIM] = lua_claim,       [SCRIPT_RELEASE] = lua_release,
    [SCRIPT_TRANSFER] = lua_transfer, [SCRIPT_ASSERT] = lua_assert,
    [SCRIPT_PUBLISH] = lua_publish,   [SCRIPT_RECORD_SESSION] = lua_record_session,
    [SCRIPT_HISTORY] = lua_history,   [SCRIPT_REVOKE] = lua_revoke,
};

void redis_scripts_hash(struct redis_shas *shas)
{
    for (size_t i = 0; i < REDIS_SCRIPTS; i++) {
        unsigned char digest[EVP_MAX_MD_SIZE];
        unsigned len = 0;
        if (EVP_Digest(script_texts[i], strlen(script_texts[i]), digest, &len, EVP_sha1(), NULL) !=
                1 ||
            len * 2 + 1 != REDIS_SHA_BYTES)
            abort();
        for (unsigned at = 0; at < len; at++)
            snprintf(shas->text[i] + 2 * (size_t)at, 3, "%02x", digest[at]);
    }
}

void redis_script_load(struct redis_request *request, enum redis_script script)
{
    redis_request_begin(request, 3);
    redis_request_text(request, "SCRIPT");
    redis_request_text(request, "LOAD");
    redis_request_text(request, script_texts[script]);
}

void redis_script_begin(struct redis_request *request, const struct redis_shas *shas,
                        enum redis_script script, size_t keys, size_t arguments)
{
    redis_request_begin(request, 3 + keys + arguments);
    redis_request_text(request, "EVALSHA");
    redis_request_text(request, shas->text[script]);
    redis_request_number(request, keys);
}
