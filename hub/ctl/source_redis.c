/*
 * A source that asks Redis: the keys and channels of contract section 11.
 */
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/node_messages.h"
#include "common/record_fields.h"
#include "common/redis_url.h"
#include "common/rng.h"
#include "source_redis.h"

enum {
    PUBLISH_WAIT_MS = 5000, /* contract section 10 */
    PROBE_MS = 15000,       /* after this silence the connection of a subscription is checked */
    BATCH = 500,            /* commands that are sent before their answers are read */
};

static char *join(const char *prefix, const char *middle, const char *id, const char *end)
{
    char *name = NULL;
    if (asprintf(&name, "%s%s%s%s", prefix, middle, id, end) < 0)
        abort();
    return name;
}

char *source_redis_key(const struct source_redis *redis, const char *middle, const char *id,
                       const char *end)
{
    return join(redis->prefix, middle, id, end);
}

char *source_redis_channel(const struct source_redis *redis, const char *middle, const char *id,
                           const char *end)
{
    return join(redis->channel_prefix, middle, id, end);
}

enum status source_redis_fail(struct source_redis *redis)
{
    return source_fail(&redis->source, STATUS_IO, "%s", ctl_redis_why(redis->connection));
}

redisReply *source_redis_run(struct source_redis *redis, size_t len, const char **words)
{
    redisReply *reply = ctl_redis_run(redis->connection, len, words, NULL);
    if (!reply)
        (void)source_redis_fail(redis);
    return reply;
}

static json_t *value_json(const char *name, const redisReply *value)
{
    if (record_is_number(name, value->str, value->len))
        return json_integer(strtoll(value->str, NULL, 10));
    json_t *text = json_stringn(value->str, value->len);
    return text ? text : json_string("?");
}

/* {"id", fields…} of a hash; only "id" if the key is gone. */
static json_t *hash_json(const char *id, const redisReply *hash)
{
    json_t *json = json_pack("{s:s}", "id", id);
    for (size_t i = 0; json && hash->type == REDIS_REPLY_ARRAY && i + 1 < hash->elements; i += 2) {
        const redisReply *name = hash->element[i];
        const redisReply *value = hash->element[i + 1];
        if (name->str && value->str)
            (void)json_object_set_new(json, name->str, value_json(name->str, value));
    }
    return json;
}

/* Hashes to be read, in the order of ids. */
struct hashes {
    struct source_redis *redis;
    const char *middle, *end;
    const char **ids;
    size_t len;
    json_t *array;  /* gets an object for each hash */
    bool skip_gone; /* leave out keys that are gone */
};

static enum status read_hashes(struct hashes *hashes)
{
    struct source_redis *redis = hashes->redis;
    for (size_t start = 0; start < hashes->len; start += BATCH) {
        size_t len = hashes->len - start < BATCH ? hashes->len - start : BATCH;
        char *keys[BATCH];
        redisReply *replies[BATCH];
        for (size_t i = 0; i < len; i++)
            keys[i] = source_redis_key(redis, hashes->middle, hashes->ids[start + i], hashes->end);
        enum status status = ctl_redis_hgetall(redis->connection, keys, len, replies);
        for (size_t i = 0; i < len; i++) {
            free(keys[i]);
            json_t *json = status == STATUS_OK ? hash_json(hashes->ids[start + i], replies[i])
                                               : NULL;
            if (json && !(hashes->skip_gone && json_object_size(json) == 1))
                (void)json_array_append(hashes->array, json);
            json_decref(json);
            if (status == STATUS_OK)
                freeReplyObject(replies[i]);
        }
        if (status != STATUS_OK)
            return source_redis_fail(redis);
    }
    return STATUS_OK;
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static enum status redis_sessions(struct ctl_source *source, json_t **out)
{
    struct source_redis *redis = (struct source_redis *)source;
    char *key = source_redis_key(redis, ":sessions", "", "");
    redisReply *ids = source_redis_run(redis, 4, (const char *[]){"ZRANGE", key, "0", "-1"});
    free(key);
    if (!ids)
        return STATUS_IO;
    struct hashes hashes = {.redis = redis, .middle = ":session:{", .end = "}", .skip_gone = true};
    hashes.ids = calloc(ids->elements + 1, sizeof(*hashes.ids));
    hashes.array = json_array();
    for (size_t i = 0; hashes.ids && i < ids->elements; i++)
        hashes.ids[hashes.len++] = ids->element[i]->str;
    if (hashes.ids)
        qsort(hashes.ids, hashes.len, sizeof(*hashes.ids), by_text);
    enum status status = read_hashes(&hashes);
    if (status == STATUS_OK)
        *out = json_incref(hashes.array);
    json_decref(hashes.array);
    free(hashes.ids);
    freeReplyObject(ids);
    return status;
}

enum status source_redis_nodes(struct ctl_source *source, json_t **out)
{
    struct source_redis *redis = (struct source_redis *)source;
    char *key = source_redis_key(redis, ":nodes", "", "");
    redisReply *scores = source_redis_run(redis, 5,
                                          (const char *[]){"ZRANGE", key, "0", "-1", "WITHSCORES"});
    free(key);
    if (!scores)
        return STATUS_IO;
    struct hashes hashes = {.redis = redis, .middle = ":node:", .end = ""};
    hashes.ids = calloc(scores->elements + 1, sizeof(*hashes.ids));
    hashes.array = json_array();
    for (size_t i = 0; hashes.ids && i + 1 < scores->elements; i += 2)
        hashes.ids[hashes.len++] = scores->element[i]->str;
    enum status status = read_hashes(&hashes);
    for (size_t i = 0; status == STATUS_OK && i < hashes.len; i++) {
        json_int_t renewed = (json_int_t)strtod(scores->element[2 * i + 1]->str, NULL);
        (void)json_object_set_new(json_array_get(hashes.array, i), "renewed",
                                  json_integer(renewed));
    }
    if (status == STATUS_OK)
        *out = json_incref(hashes.array);
    json_decref(hashes.array);
    free(hashes.ids);
    freeReplyObject(scores);
    return status;
}

static enum status redis_session(struct ctl_source *source, const char *id, json_t **out)
{
    struct source_redis *redis = (struct source_redis *)source;
    struct hashes hashes = {.redis = redis,
                            .middle = ":session:{",
                            .end = "}",
                            .ids = &id,
                            .len = 1,
                            .skip_gone = true};
    hashes.array = json_array();
    enum status status = read_hashes(&hashes);
    if (status == STATUS_OK && json_array_size(hashes.array) == 0)
        status = source_fail(source, STATUS_NOT_FOUND, "no such session: %s", id);
    else if (status == STATUS_OK)
        *out = json_incref(json_array_get(hashes.array, 0));
    json_decref(hashes.array);
    return status;
}

static bool send_publication(uint64_t epoch, const struct publication_entry *entry,
                             source_message_fn *fn, void *ctx)
{
    json_t *payload = entry->opcode == OPCODE_TEXT
                          ? json_stringn(entry->payload.at, entry->payload.len)
                          : NULL;
    bool text = payload != NULL;
    char *base64 = text ? NULL : ctl_redis_base64(entry->payload.at, entry->payload.len);
    if (base64)
        payload = json_string(base64);
    json_t *json = json_pack("{s:I, s:I, s:I, s:s, s:o}", "epoch", (json_int_t)epoch, "offset",
                             (json_int_t)entry->offset, "time", (json_int_t)entry->time_ms,
                             "encoding", text ? "text" : "base64", "payload", payload);
    bool go_on = !json || fn(ctx, json);
    json_decref(json);
    free(base64);
    return go_on;
}

static bool send_push(const void *data, size_t len, source_message_fn *fn, void *ctx)
{
    struct envelope envelope;
    struct envelope_item *items = NULL;
    bool go_on = true;
    if (envelope_decode(data, len, &envelope, &items) != STATUS_OK)
        return true; /* a message of a version that is unknown here is ignored */
    const struct push_message push = push_decode(&envelope);
    for (size_t i = 0; envelope.type == ENVELOPE_PUSH && go_on && i < push.publications.len; i++) {
        struct publication_entry entry;
        if (publication_entry_of(&push.publications.at[i], &entry))
            go_on = send_publication(push.epoch, &entry, fn, ctx);
    }
    free(items);
    return go_on;
}

static enum status redis_tail(struct ctl_source *source, const char *id, source_message_fn *fn,
                              void *ctx)
{
    struct source_redis *redis = (struct source_redis *)source;
    json_t *session = NULL;
    enum status status = redis_session(source, id, &session);
    json_decref(session);
    if (status != STATUS_OK)
        return status;
    char *channel = source_redis_channel(redis, ":push:{", id, "}");
    status = ctl_redis_subscribe(redis->connection, channel);
    free(channel);
    bool go_on = true;
    while (status == STATUS_OK && go_on) {
        const void *data = NULL;
        size_t len = 0;
        status = ctl_redis_receive(redis->connection, PROBE_MS, &data, &len);
        if (status == STATUS_TIMEOUT)
            status = ctl_redis_probe(redis->connection, PROBE_MS);
        else if (status == STATUS_OK)
            go_on = send_push(data, len, fn, ctx);
    }
    return status == STATUS_OK ? status : source_redis_fail(redis);
}

enum status source_redis_send(struct source_redis *redis, const char *channel,
                              const struct envelope *envelope)
{
    uint8_t *data = NULL;
    size_t len = 0;
    if (envelope_encode(envelope, &data, &len) != STATUS_OK)
        abort();
    long long receivers = ctl_redis_publish(redis->connection, channel, data, len);
    free(data);
    if (receivers < 0)
        return source_redis_fail(redis);
    return receivers == 0 ? STATUS_NOT_FOUND : STATUS_OK;
}

/* Sets the session that the message is about, and its sender. */
static void address(struct envelope *envelope, const char *session, const char *node)
{
    envelope->session = slice_of(session);
    envelope->node = slice_of(node);
    envelope->life = clock_unix_ms();
}

static enum status redis_drain(struct ctl_source *source, const char *node)
{
    struct source_redis *redis = (struct source_redis *)source;
    if (!node)
        return source_fail(source, STATUS_INVALID, "drain over Redis: expected the id of a node");
    struct envelope envelope = drain_encode();
    address(&envelope, "", "vinhubctl");
    char *inbox = source_redis_channel(redis, ":inbox:", node, "");
    enum status status = source_redis_send(redis, inbox, &envelope);
    free(inbox);
    return status == STATUS_NOT_FOUND ? source_fail(source, status, "no such node: %s", node)
                                      : status;
}

static enum status redis_close(struct ctl_source *source, const char *id)
{
    struct source_redis *redis = (struct source_redis *)source;
    struct envelope envelope = close_encode();
    address(&envelope, id, "vinhubctl");
    char *channel = source_redis_channel(redis, ":push:{", id, "}");
    enum status status = source_redis_send(redis, channel, &envelope);
    free(channel);
    return status == STATUS_NOT_FOUND
               ? source_fail(source, status, "nobody has the session open: %s", id)
               : status;
}

/* Waits for the answer to the request with this number, on our own inbox. */
static enum status await_published(struct source_redis *redis, uint64_t number, json_t **out)
{
    uint64_t until_ms = clock_boot_ms() + PUBLISH_WAIT_MS;
    enum status status = STATUS_OK;
    while (status == STATUS_OK) {
        uint64_t now_ms = clock_boot_ms();
        const void *data = NULL;
        size_t len = 0;
        status = now_ms < until_ms
                     ? ctl_redis_receive(redis->connection, (int)(until_ms - now_ms), &data, &len)
                     : STATUS_TIMEOUT;
        if (status == STATUS_TIMEOUT)
            return source_fail(&redis->source, status,
                               "no answer from the owner: not known whether it was published");
        if (status != STATUS_OK)
            return source_redis_fail(redis);
        struct envelope answer;
        struct envelope_item *items = NULL;
        if (envelope_decode(data, len, &answer, &items) != STATUS_OK)
            continue;
        free(items);
        const struct published_message published = published_decode(&answer);
        if (answer.type != ENVELOPE_PUBLISHED || published.number != number)
            continue;
        if (published.http_status == 404)
            return source_fail(&redis->source, STATUS_NOT_FOUND, "nobody has the session open");
        if (published.http_status != 0 && published.http_status != 200)
            return source_fail(&redis->source, STATUS_REFUSED,
                               "not published, the owner answers with status %u: try again",
                               (unsigned)published.http_status);
        *out = json_pack("{s:I, s:I}", "epoch", (json_int_t)published.at.epoch, "offset",
                         (json_int_t)published.at.offset);
        return STATUS_OK;
    }
    return status;
}

static enum status redis_publish(struct ctl_source *source, const char *id, const void *data,
                                 size_t len, json_t **out)
{
    struct source_redis *redis = (struct source_redis *)source;
    json_t *session = NULL;
    enum status status = redis_session(source, id, &session);
    if (status != STATUS_OK)
        return status;
    const char *owner = json_string_value(json_object_get(session, "owner"));
    uint64_t number = 0;
    char name[32];
    rng_secure(&number, sizeof(number));
    number >>= 8; /* fits the signed integers of other msgpack libraries */
    (void)snprintf(name, sizeof(name), "ctl-%016llx", (unsigned long long)number);
    char *inbox = source_redis_channel(redis, ":inbox:", owner && *owner ? owner : "none", "");
    char *own = source_redis_channel(redis, ":inbox:", name, "");
    const struct publication_entry entry = {.opcode = OPCODE_TEXT, .payload = {data, len}};
    const struct envelope_item item = publication_item(&entry);
    const struct publish_message message = {number, {&item, 1}};
    struct envelope envelope = publish_encode(&message);
    address(&envelope, id, name);
    if (!owner || !*owner)
        status = source_fail(source, STATUS_NOT_FOUND, "nobody has the session open");
    else if (ctl_redis_subscribe(redis->connection, own) != STATUS_OK)
        status = source_redis_fail(redis);
    else if ((status = source_redis_send(redis, inbox, &envelope)) == STATUS_NOT_FOUND)
        (void)source_fail(source, status, "not published: the owner %s is not connected to Redis",
                          owner);
    if (status == STATUS_OK)
        status = await_published(redis, number, out);
    free(inbox);
    free(own);
    json_decref(session);
    return status;
}

static void redis_free(struct ctl_source *source)
{
    struct source_redis *redis = (struct source_redis *)source;
    ctl_redis_free(redis->connection);
    free(redis->prefix);
    free(redis);
}

static const struct source_ops ops = {
    .nodes = source_redis_nodes,
    .sessions = redis_sessions,
    .session = redis_session,
    .tail = redis_tail,
    .publish = redis_publish,
    .drain = redis_drain,
    .close = redis_close,
    .clients = source_redis_clients,
    .kick = source_redis_kick,
    .revoke = source_redis_revoke,
    .free = redis_free,
};

enum status source_redis_new(const char *url, const char *prefix, const struct tls_client *client,
                             struct ctl_source **out)
{
    struct ctl_redis *connection = NULL;
    enum status status = ctl_redis_new(url, client, &connection);
    if (status != STATUS_OK)
        return status;
    struct source_redis *redis = calloc(1, sizeof(*redis));
    if (!redis || !(redis->prefix = strdup(prefix)))
        abort();
    redis->source.ops = &ops;
    redis->connection = connection;
    redis_url_channel_prefix(ctl_redis_url(connection), prefix, redis->channel_prefix);
    *out = &redis->source;
    return STATUS_OK;
}
