/*
 * Clients over Redis alone: each node is asked through its inbox, and sends its answer to an inbox
 * of ours.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/node_messages.h"
#include "common/rng.h"
#include "source_redis.h"

enum {
    ANSWER_MS = 2000, /* as long as nodes wait for each other */
    PAGE = 1000,
    FILTERS_MAX = 8,
};
#define REVOKED_FOR_S (UINT64_C(30) * 24 * 3600) /* contract section 11 */

/* A question that is under way. */
struct clients_question {
    struct source_redis *redis;
    char name[32]; /* the name of our inbox */
    uint64_t number;
    json_t *waiting; /* object: node that has not answered -> true if it has no subscribed inbox */
};

/* Called with the answer of a node. */
typedef void answer_fn(void *ctx, const char *node, const struct envelope *answer);

static enum status begin(struct clients_question *question, struct ctl_source *source)
{
    *question = (struct clients_question){.redis = (struct source_redis *)source};
    rng_secure(&question->number, sizeof(question->number));
    question->number >>= 8; /* fits the signed integers of other msgpack libraries */
    (void)snprintf(question->name, sizeof(question->name), "ctl-%016llx",
                   (unsigned long long)question->number);
    char *own = source_redis_channel(question->redis, ":inbox:", question->name, "");
    enum status status = ctl_redis_subscribe(question->redis->connection, own);
    free(own);
    return status == STATUS_OK ? status : source_redis_fail(question->redis);
}

/* Sends the envelope to a node. A node whose inbox is not subscribed stays in waiting, marked as
 * one that will not answer. */
static enum status ask(struct clients_question *question, const char *node,
                       struct envelope *envelope)
{
    char *inbox = source_redis_channel(question->redis, ":inbox:", node, "");
    envelope->node = slice_of(question->name);
    envelope->number = question->number;
    enum status status = source_redis_send(question->redis, inbox, envelope);
    free(inbox);
    (void)json_object_set_new(question->waiting, node, json_boolean(status == STATUS_NOT_FOUND));
    return status == STATUS_NOT_FOUND ? STATUS_OK : status;
}

/* Whether a node that may still answer has not done so. */
static bool is_waiting(const struct clients_question *question)
{
    const char *name = NULL;
    json_t *not_subscribed = NULL;
    json_object_foreach(question->waiting, name, not_subscribed)
    {
        if (json_is_false(not_subscribed))
            return true;
    }
    return false;
}

static void take_answer(struct clients_question *question, const void *data, size_t len,
                        answer_fn *fn, void *ctx)
{
    struct envelope answer;
    struct envelope_item *items = NULL;
    char node[65];
    if (envelope_decode(data, len, &answer, &items) != STATUS_OK)
        return;
    if (answer.number == question->number && answer.node.len && answer.node.len < sizeof(node)) {
        memcpy(node, answer.node.at, answer.node.len);
        node[answer.node.len] = '\0';
        if (json_object_get(question->waiting, node)) {
            fn(ctx, node, &answer);
            (void)json_object_del(question->waiting, node);
        }
    }
    free(items);
}

static enum status gather(struct clients_question *question, answer_fn *fn, void *ctx)
{
    uint64_t until_ms = clock_boot_ms() + ANSWER_MS;
    while (is_waiting(question)) {
        uint64_t now_ms = clock_boot_ms();
        const void *data = NULL;
        size_t len = 0;
        enum status status = now_ms < until_ms
                                 ? ctl_redis_receive(question->redis->connection,
                                                     (int)(until_ms - now_ms), &data, &len)
                                 : STATUS_TIMEOUT;
        if (status == STATUS_TIMEOUT)
            return STATUS_OK;
        if (status != STATUS_OK)
            return source_redis_fail(question->redis);
        take_answer(question, data, len, fn, ctx);
    }
    return STATUS_OK;
}

/* The ids of the nodes that are alive: their record has not expired. */
static enum status live_nodes(struct ctl_source *source, json_t **out)
{
    json_t *nodes = NULL, *node = NULL;
    size_t i = 0;
    enum status status = source_redis_nodes(source, &nodes);
    if (status != STATUS_OK)
        return status;
    *out = json_array();
    json_array_foreach(nodes, i, node)
    {
        if (json_object_get(node, "state"))
            (void)json_array_append(*out, json_object_get(node, "id"));
    }
    json_decref(nodes);
    return status;
}

/* Asks all nodes, waits for their answers, and names in out the nodes that sent none. */
static enum status ask_all(struct ctl_source *source, struct envelope *envelope, answer_fn *fn,
                           void *ctx, json_t *out)
{
    struct clients_question question;
    json_t *nodes = NULL, *node = NULL, *missing = json_array();
    size_t i = 0;
    enum status status = live_nodes(source, &nodes);
    if (status == STATUS_OK)
        status = begin(&question, source);
    if (status == STATUS_OK) {
        question.waiting = json_object();
        json_array_foreach(nodes, i, node)
        {
            if (status == STATUS_OK)
                status = ask(&question, json_string_value(node), envelope);
        }
        if (status == STATUS_OK)
            status = gather(&question, fn, ctx);
        const char *name = NULL;
        json_object_foreach(question.waiting, name, node)(void)
            json_array_append_new(missing, json_string(name));
        json_decref(question.waiting);
    }
    if (json_array_size(missing))
        (void)json_object_set(out, "missing", missing);
    json_decref(missing);
    json_decref(nodes);
    return status;
}

/* --- filters --- */

static size_t filters_of(const json_t *filter, struct envelope_item *items)
{
    const char *name = NULL;
    json_t *value = NULL;
    size_t len = 0;
    json_object_foreach((json_t *)filter, name, value)
    {
        if (strcmp(name, "reason") != 0 && len < FILTERS_MAX)
            items[len++] = filter_item(
                &(struct filter_entry){slice_of(name), slice_of(json_string_value(value))});
    }
    return len;
}

/* --- clients --- */

struct clients_listing {
    json_t *clients;
    char next_node[65]; /* the node if it has more clients, else "" */
    uint64_t next_slot;
};

static json_t *text_json(struct slice text)
{
    json_t *json = json_stringn(text.len ? text.at : "", text.len);
    return json ? json : json_string("?");
}

static json_t *client_json(const char *node, const struct client_entry *entry)
{
    const char *space = entry->place.len ? memchr(entry->place.at, ' ', entry->place.len) : NULL;
    size_t len = space ? (size_t)(space - entry->place.at) : entry->place.len;
    struct slice protocol = {space ? space + 1 : "", space ? entry->place.len - len - 1 : 0};
    return json_pack("{s:o, s:o, s:o, s:s, s:o, s:o, s:I, s:I, s:I, s:I, s:I}", "id",
                     text_json(entry->id), "user", text_json(entry->user), "session",
                     text_json(entry->session), "node", node, "address",
                     text_json((struct slice){entry->place.at, len}), "protocol",
                     text_json(protocol), "since", (json_int_t)entry->since_ms, "subscriptions",
                     (json_int_t)entry->subscriptions, "received", (json_int_t)entry->received,
                     "sent", (json_int_t)entry->sent, "queued", (json_int_t)entry->queued_bytes);
}

/* Takes a page. Only one node is asked at a time, so no page has to be thrown away. */
static void on_rows(void *ctx, const char *node, const struct envelope *answer)
{
    struct clients_listing *listing = ctx;
    const struct client_rows_message rows = client_rows_decode(answer);
    struct client_entry entry;
    for (size_t i = 0; i + 1 < rows.rows.len; i += 2)
        if (client_entry_of(&rows.rows.at[i], &entry))
            (void)json_array_append_new(listing->clients, client_json(node, &entry));
    (void)snprintf(listing->next_node, sizeof(listing->next_node), "%s", rows.more ? node : "");
    listing->next_slot = rows.next_slot;
}

static enum status list_node(struct ctl_source *source, struct clients_listing *listing,
                             const char *node, struct message_items filters, json_t *missing)
{
    struct clients_message message = {.limit = PAGE, .from_node = slice_of(node)};
    message.filters = filters;
    enum status status = STATUS_OK;
    do {
        struct clients_question question;
        struct envelope envelope = clients_encode(&message);
        listing->next_node[0] = '\0';
        status = begin(&question, source);
        if (status != STATUS_OK)
            return status;
        question.waiting = json_object();
        status = ask(&question, node, &envelope);
        if (status == STATUS_OK)
            status = gather(&question, on_rows, listing);
        if (json_object_size(question.waiting))
            (void)json_array_append_new(missing, json_string(node));
        json_decref(question.waiting);
        message.from_slot = listing->next_slot;
    } while (status == STATUS_OK && listing->next_node[0]);
    return status;
}

enum status source_redis_clients(struct ctl_source *source, const json_t *filter, json_t **out)
{
    struct envelope_item items[FILTERS_MAX];
    struct message_items filters = {items, filters_of(filter, items)};
    const char *only = json_string_value(json_object_get(filter, "node"));
    json_t *nodes = NULL, *node = NULL, *missing = json_array();
    struct clients_listing listing = {.clients = json_array()};
    size_t i = 0;
    enum status status = live_nodes(source, &nodes);
    json_array_foreach(nodes, i, node)
    {
        const char *name = json_string_value(node);
        if (status == STATUS_OK && (!only || strcmp(only, name) == 0))
            status = list_node(source, &listing, name, filters, missing);
    }
    if (status == STATUS_OK)
        *out = json_pack("{s:O, s:O}", "clients", listing.clients, "missing", missing);
    json_decref(listing.clients);
    json_decref(missing);
    json_decref(nodes);
    return status;
}

/* --- closing --- */

static void on_counted(void *ctx, const char *node, const struct envelope *answer)
{
    json_int_t *closed = ctx;
    (void)node;
    *closed += (json_int_t)counted_decode(answer).closed;
}

/* Adds up how many clients the nodes closed, and names the nodes that sent no answer. */
static enum status ask_to_close(struct ctl_source *source, struct envelope *envelope, json_t **out)
{
    json_int_t closed = 0;
    json_t *answer = json_object();
    enum status status = ask_all(source, envelope, on_counted, &closed, answer);
    (void)json_object_set_new(answer, "closed", json_integer(closed));
    if (status == STATUS_OK)
        *out = json_incref(answer);
    json_decref(answer);
    return status;
}

enum status source_redis_kick(struct ctl_source *source, const json_t *filter, json_t **out)
{
    struct envelope_item items[FILTERS_MAX];
    const char *reason = json_string_value(json_object_get(filter, "reason"));
    const struct clients_message message = {.reason = slice_of(reason),
                                            .filters = {items, filters_of(filter, items)}};
    struct envelope envelope = clients_encode(&message);
    return ask_to_close(source, &envelope, out);
}

/* --- revocation --- */

/* Of the stored and the new times the later ones count, as in revoke.lua. */
static void merge(const redisReply *held, uint64_t *until_s, uint64_t *before_s)
{
    if (held->type != REDIS_REPLY_STRING)
        return;
    char *end;
    uint64_t held_until = strtoull(held->str, &end, 10), held_before = strtoull(end, NULL, 10);
    *until_s = held_until > *until_s ? held_until : *until_s;
    *before_s = held_before > *before_s ? held_before : *before_s;
}

static enum status store(struct source_redis *redis, const char *field, bool of_subject,
                         uint64_t *until_s, uint64_t *before_s)
{
    char *key = source_redis_key(redis, ":revoked", "", "");
    char value[64];
    redisReply *reply = source_redis_run(redis, 3, (const char *[]){"HGET", key, field});
    if (reply) {
        merge(reply, until_s, before_s);
        freeReplyObject(reply);
        (void)snprintf(value, sizeof(value), of_subject ? "%llu %llu" : "%llu",
                       (unsigned long long)*until_s, (unsigned long long)*before_s);
        reply = source_redis_run(redis, 4, (const char *[]){"HSET", key, field, value});
    }
    free(key);
    if (!reply)
        return STATUS_IO;
    freeReplyObject(reply);
    return STATUS_OK;
}

enum status source_redis_revoke(struct ctl_source *source, const json_t *token, json_t **out)
{
    const char *jti = json_string_value(json_object_get(token, "jti"));
    const char *sub = json_string_value(json_object_get(token, "sub"));
    const json_t *before = json_object_get(token, "before");
    uint64_t now_s = clock_unix_ms() / 1000, until_s = now_s + REVOKED_FOR_S, before_s = 0;
    char *field = NULL;
    if (asprintf(&field, "%s%s", jti ? "jti:" : "sub:", jti ? jti : sub) < 0)
        abort();
    if (sub)
        before_s = before ? (uint64_t)json_integer_value(before) : now_s + 1;
    enum status status = store((struct source_redis *)source, field, sub != NULL, &until_s,
                               &before_s);
    const struct revoke_message message = {
        .name = slice_of(field), .until_s = until_s, .issued_before_s = before_s};
    struct envelope envelope = revoke_encode(&message);
    if (status == STATUS_OK)
        status = ask_to_close(source, &envelope, out);
    free(field);
    return status;
}
