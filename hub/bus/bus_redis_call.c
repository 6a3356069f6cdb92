/* How a call of the bus becomes an op: keys, scripts, order; and what replies say. */
#include <hiredis/hiredis.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bus/bus_redis_private.h"

static struct redis_key make_key(const char *prefix, const char *format, const char *kind,
                                 const char *name)
{
    struct redis_key key;
    /* Ids of this program fit. One that was made by hand and does not is cut, to a length that no
     * key of ours has. */
    snprintf(key.text, sizeof(key.text), format, prefix, kind, name);
    return key;
}

struct redis_key redis_key_plain(const struct bus_redis *b, const char *kind)
{
    return make_key(b->conf->redis.prefix, "%s:%s%s", kind, "");
}

struct redis_key redis_key_of(const struct bus_redis *b, const char *kind, const char *name)
{
    return make_key(b->conf->redis.prefix, "%s:%s:%s", kind, name);
}

struct redis_key redis_key_session(const struct bus_redis *b, const char *kind, const char *session)
{
    return make_key(b->conf->redis.prefix, "%s:%s:{%s}", kind, session);
}

struct redis_key redis_channel_inbox(const struct bus_redis *b, const char *node)
{
    return make_key(b->channel_prefix, "%s:%s:%s", "inbox", node);
}

struct redis_key redis_channel_push(const struct bus_redis *b, const char *session)
{
    return make_key(b->channel_prefix, "%s:%s:{%s}", "push", session);
}

const char *bus_redis_publish_word(const struct bus_redis *b)
{
    return b->url.shape == REDIS_CLUSTER ? "SPUBLISH" : "PUBLISH";
}

struct redis_op *bus_redis_script(struct bus_redis *b, redis_answer_fn *answer,
                                  enum redis_script script, const struct redis_key *keys,
                                  size_t keys_len, size_t arguments)
{
    static const enum redis_reply_kind kinds[REDIS_SCRIPTS] = {
        [SCRIPT_RENEW] = REPLY_LIST,    [SCRIPT_RECORD_NODE] = REPLY_NUMBER,
        [SCRIPT_CLAIM] = REPLY_LIST,    [SCRIPT_RELEASE] = REPLY_NUMBER,
        [SCRIPT_TRANSFER] = REPLY_TEXT, [SCRIPT_ASSERT] = REPLY_LIST,
        [SCRIPT_PUBLISH] = REPLY_LIST,  [SCRIPT_RECORD_SESSION] = REPLY_NUMBER,
        [SCRIPT_HISTORY] = REPLY_LIST,  [SCRIPT_REVOKE] = REPLY_NUMBER,
    };
    struct redis_op *op = redis_op_new(kinds[script], answer, b);
    op->scripted = true;
    redis_script_begin(&op->request, &b->shas, script, keys_len, arguments);
    for (size_t i = 0; i < keys_len; i++)
        redis_request_text(&op->request, keys[i].text);
    return op;
}

void bus_redis_send(struct bus_redis *b, struct redis_op *op, const struct redis_key *key)
{
    bus_redis_flush_batches(b);
    redis_topology_send(b->topology, op, key->text);
}

void bus_redis_ask(struct bus_redis *b, struct redis_op *op, const struct redis_key *key,
                   const char *session, uint64_t tag)
{
    if (session)
        op->session = redis_copy_text(session);
    op->tag = tag;
    op->replicated = op->replicated && b->conf->redis.replicas > 0;
    if (redis_order_add(&b->order, op, session ? session : key->text))
        bus_redis_send(b, op, key);
    else
        op->key = redis_copy_text(key->text);
}

uint64_t redis_reply_number(const struct redisReply *reply)
{
    if (reply && reply->type == REDIS_REPLY_INTEGER && reply->integer > 0)
        return (uint64_t)reply->integer;
    if (reply && reply->type == REDIS_REPLY_STRING)
        return strtoull(reply->str, NULL, 10);
    return 0;
}

uint64_t redis_reply_epoch(const struct redisReply *reply)
{
    uint64_t epoch = redis_reply_number(reply);
    return epoch <= BUS_EPOCH_MAX ? epoch : 0;
}

const char *redis_reply_text(const struct redisReply *reply)
{
    return reply && reply->type == REDIS_REPLY_STRING ? reply->str : "";
}

const struct redisReply *redis_reply_at(const struct redisReply *reply, size_t index)
{
    return reply && reply->type == REDIS_REPLY_ARRAY && index < reply->elements
               ? reply->element[index]
               : NULL;
}
