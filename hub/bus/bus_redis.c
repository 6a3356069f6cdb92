#include "bus/bus_redis.h"

#include <hiredis/hiredis.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bus/bus_redis_private.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/metrics.h"
#include "loop/tls_context.h"

#define DEADLINE_MIN_MS 250
#define DEADLINE_MAX_MS 5000

/* --- keys, ops and replies --- */

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
    bus_redis_flush_batches(b); /* some of it may be held: this goes behind it */
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

/* --- events from below --- */

/* The session of a push channel, in a new text; NULL for the inbox. */
static char *channel_session(const struct bus_redis *b, const char *channel)
{
    const struct redis_key start = redis_channel_push(b, "");
    size_t start_len = strlen(start.text) - 1, len = strlen(channel);
    if (len <= start_len || strncmp(channel, start.text, start_len) != 0)
        return NULL;
    char *session = redis_copy_text(channel + start_len);
    session[len - start_len - 1] = '\0';
    return session;
}

static void on_message(void *ctx, const char *channel, struct slice message)
{
    struct bus_redis *b = ctx;
    struct envelope envelope;
    struct envelope_item *items;
    if (envelope_decode(message.at, message.len, &envelope, &items) != STATUS_OK) {
        metric_drop(DROP_BUS_UNREADABLE, 1);
        return;
    }
    bool push = strcmp(channel, b->inbox.text) != 0;
    b->bus.events->on_message(b->bus.events_ctx, &envelope, push);
    free(items);
}

static void on_subscribed(void *ctx, const char *channel)
{
    struct bus_redis *b = ctx;
    char *session = channel_session(b, channel);
    if (session)
        b->bus.events->on_subscribed(b->bus.events_ctx, session);
    free(session);
}

static void on_refused(void *ctx, const char *channel, const char *error)
{
    struct bus_redis *b = ctx;
    char why[REDIS_WHY_BYTES + KEY_MAX];
    char *session = channel_session(b, channel);
    snprintf(why, sizeof(why), "Redis: %s (channel %s)", error, channel);
    if (session && b->bus.events->on_refused)
        b->bus.events->on_refused(b->bus.events_ctx, session, why, true);
    free(session);
}

void bus_redis_note_refusal(struct bus_redis *b, const struct redis_op *op)
{
    char why[REDIS_WHY_BYTES + 16];
    if (!op->error || !redis_is_no_right(op->error) || !b->bus.events->on_refused)
        return;
    snprintf(why, sizeof(why), "Redis: %s", op->error);
    b->bus.events->on_refused(b->bus.events_ctx, op->session, why, false);
}

static void send_held(void *ctx, struct redis_op *op)
{
    struct bus_redis *b = ctx;
    if (op->part.arguments > 0) {
        bus_redis_gather_held(b, op);
        return;
    }
    bus_redis_flush_batches(b);
    redis_topology_send(b->topology, op, op->key);
}

static void on_open(void *ctx)
{
    struct bus_redis *b = ctx;
    b->opened_ms = clock_boot_ms();
    b->bus.events->on_connected(b->bus.events_ctx);
}

static void on_closed(void *ctx)
{
    struct bus_redis *b = ctx;
    bus_redis_flush_batches(b); /* calls under way are answered before on_disconnected here, too */
    redis_order_answer(&b->order);
    b->bus.events->on_disconnected(b->bus.events_ctx);
}

static void on_progress(void *ctx)
{
    struct bus_redis *b = ctx;
    redis_order_answer(&b->order);
    if (redis_topology_has_credit_again(b->topology) && b->bus.events->on_credit)
        b->bus.events->on_credit(b->bus.events_ctx);
}

/* Requests a turn, whose end flushes. */
static void on_wake(void *ctx)
{
    (void)ctx;
}

/* --- the bus --- */

static void bus_redis_subscribe(struct bus *bus, const char *session)
{
    struct bus_redis *b = bus_redis_of(bus);
    redis_topology_subscribe(b->topology, redis_channel_push(b, session).text);
}

static void bus_redis_unsubscribe(struct bus *bus, const char *session)
{
    struct bus_redis *b = bus_redis_of(bus);
    bus_redis_forget_apart(b, session);
    redis_topology_unsubscribe(b->topology, redis_channel_push(b, session).text);
}

static size_t bus_redis_credit(struct bus *bus, const char *session)
{
    struct bus_redis *b = bus_redis_of(bus);
    const struct redis_key key = redis_key_session(b, "session", session);
    bus_redis_flush_batches(b); /* what is gathered takes credit, too */
    return redis_topology_credit(b->topology, key.text);
}

static uint64_t bus_redis_heard_ms(const struct bus *bus)
{
    return redis_topology_heard_ms(((const struct bus_redis *)bus)->topology);
}

static const char *bus_redis_trouble(const struct bus *bus)
{
    return redis_trouble_why(&((const struct bus_redis *)bus)->trouble);
}

static void bus_redis_flush(struct bus *bus)
{
    struct bus_redis *b = bus_redis_of(bus);
    redis_order_answer(&b->order);
    bus_redis_end_turn(b);
    bus_redis_flush_touched(b);
    redis_topology_flush(b->topology);
    if (redis_order_waits(&b->order))
        loop_timer_start(b->wake, 1);
}

static void bus_redis_free(struct bus *bus)
{
    struct bus_redis *b = bus_redis_of(bus);
    b->freeing = true;
    bus_redis_forget_batches(b);
    if (b->topology)
        redis_topology_free(b->topology);
    redis_order_fini(&b->order);
    bus_redis_forget_nodes(b);
    redis_request_fini(&b->touched);
    loop_timer_free(b->wake);
    tls_context_free(b->tls);
    conf_unref(b->conf);
    free(b->node);
    free(b);
}

static const struct bus_ops redis_ops = {
    .renew = bus_redis_renew,
    .heard_ms = bus_redis_heard_ms,
    .record_node = bus_redis_record_node,
    .sign_off = bus_redis_sign_off,
    .subscribe = bus_redis_subscribe,
    .unsubscribe = bus_redis_unsubscribe,
    .claim = bus_redis_claim,
    .release = bus_redis_release,
    .transfer = bus_redis_transfer,
    .assert_owner = bus_redis_assert_owner,
    .record_session = bus_redis_record_session,
    .publish = bus_redis_publish,
    .credit = bus_redis_credit,
    .history = bus_redis_history,
    .send = bus_redis_send_message,
    .broadcast = bus_redis_broadcast,
    .revoke = bus_redis_revoke,
    .list = bus_redis_list,
    .trouble = bus_redis_trouble,
    .flush = bus_redis_flush,
    .free = bus_redis_free,
};

static const struct redis_topology_events topology_events = {.on_open = on_open,
                                                             .on_closed = on_closed};
static const struct redis_receiver receiver = {.on_progress = on_progress,
                                               .on_subscribed = on_subscribed,
                                               .on_message = on_message,
                                               .on_refused = on_refused};

/* Half a lease: a connection that does not answer is replaced while the lease still runs. */
static uint32_t deadline_ms(const struct conf *conf)
{
    uint32_t half_ms = conf->node.lease_ms / 2;
    if (half_ms < DEADLINE_MIN_MS)
        return DEADLINE_MIN_MS;
    return half_ms < DEADLINE_MAX_MS ? half_ms : DEADLINE_MAX_MS;
}

static void start_connections(struct bus_redis *b)
{
    b->setup = (struct redis_setup){.loop = b->loop,
                                    .url = &b->url,
                                    .tls = b->tls,
                                    .lease_ms = b->conf->node.lease_ms,
                                    .deadline_ms = deadline_ms(b->conf),
                                    .replicas = b->conf->redis.replicas,
                                    .prefix = b->conf->redis.prefix,
                                    .node = b->node,
                                    .life = b->life,
                                    .sentinel = &b->sentinel,
                                    .trouble = &b->trouble,
                                    .receiver = &receiver,
                                    .receiver_ctx = b,
                                    .sharded = b->url.shape == REDIS_CLUSTER};
    redis_url_channel_prefix(&b->url, b->conf->redis.prefix, b->channel_prefix);
    b->inbox = redis_channel_inbox(b, b->node);
    b->topology = redis_topology_new(&b->setup, b->inbox.text, &topology_events, b);
}

static const char *text_of(const char *setting)
{
    return setting ? setting : "";
}

static enum status prepare(struct bus_redis *b, char *why, size_t why_len)
{
    if (redis_url_parse(b->conf->redis.url, &b->url) != STATUS_OK) {
        snprintf(why, why_len, "redis.url is not a Redis URL");
        return STATUS_INVALID;
    }
    const struct conf *conf = b->conf;
    snprintf(b->sentinel.user, sizeof(b->sentinel.user), "%s", text_of(conf->redis.sentinel_user));
    snprintf(b->sentinel.password, sizeof(b->sentinel.password), "%s",
             text_of(conf->redis.sentinel_password));
    if (!b->url.tls)
        return STATUS_OK;
    const struct tls_client client = {.ca = conf->redis.tls_ca,
                                      .cert = conf->redis.tls_cert,
                                      .key = conf->redis.tls_key,
                                      .name = conf->redis.tls_name,
                                      .name_setting = "redis.tls_name",
                                      .cert_setting = "redis.tls_cert"};
    return tls_context_client(&client, &b->tls, why, why_len);
}

enum status bus_redis_new(struct loop *loop, const struct conf *conf, const char *node_id,
                          uint64_t life, struct bus **out, char *why, size_t why_len)
{
    struct bus_redis *b = redis_claim_memory(1, sizeof(*b));
    b->bus.ops = &redis_ops;
    b->bus.shared = true;
    b->loop = loop;
    b->conf = conf_ref((struct conf *)conf);
    b->node = redis_copy_text(node_id);
    b->life = life;
    b->wake = loop_timer_new(loop, "redis_answers", on_wake, b);
    redis_scripts_hash(&b->shas);
    b->order.send = send_held;
    b->order.ctx = b;
    enum status status = prepare(b, why, why_len);
    if (status != STATUS_OK) {
        bus_redis_free(&b->bus);
        return status;
    }
    if (!redis_url_is_loopback(&b->url) && (!b->url.tls && b->url.password[0] == '\0'))
        log_warn("redis_unprotected", LOG_STR("advice", "set a password or use TLS (rediss://)"));
    start_connections(b);
    *out = &b->bus;
    return STATUS_OK;
}
