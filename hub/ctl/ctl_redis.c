#include "ctl_redis.h"

#include <errno.h>
#include <netdb.h>
#include <openssl/evp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "bus/redis_slot_map.h"
#include "bus/redis_tls.h"
#include "common/redis_url.h"
#include "loop/loop.h"
#include "loop/resolve.h"

#define PATIENCE_S    5
#define SERVERS_MAX   64
#define REDIRECTS_MAX 5

struct server {
    struct redis_host host;
    redisContext *context;
};

struct ctl_redis {
    struct redis_url url;
    struct tls_client client;
    struct tls_context *tls;            /* NULL: not needed yet */
    struct loop *loop;                  /* for names; NULL: not needed yet */
    struct server servers[SERVERS_MAX]; /* commands go to the first one, unless redirected */
    size_t servers_len;
    redisContext *subscription;
    redisReply *message; /* the last one received */
    char why[640];
};

static void say(struct ctl_redis *redis, const char *what, const char *detail)
{
    (void)snprintf(redis->why, sizeof(redis->why), "Redis: %.120s%s%.500s", what,
                   *detail ? ": " : "", detail);
}

static bool start_tls(struct ctl_redis *redis, redisContext *context, const char *host)
{
    char why[TLS_WHY_BYTES];
    struct ssl_st *ssl; /* the context's */
    if (!redis->tls &&
        tls_context_client(&redis->client, &redis->tls, why, sizeof(why)) != STATUS_OK) {
        say(redis, "TLS", why);
        return false;
    }
    if (redis_tls_start(redis->tls, context, host, &ssl, why, sizeof(why)) != STATUS_OK) {
        say(redis, host, why);
        return false;
    }
    /* Any reply will do: with TLS 1.3 a missing client certificate shows only at the first read. */
    redisReply *reply = redisCommand(context, "PING");
    if (reply) {
        freeReplyObject(reply);
        return true;
    }
    (void)snprintf(why, sizeof(why), "%s", context->errstr);
    redis_tls_explain(ssl, why, sizeof(why));
    say(redis, host, why);
    return false;
}

/* Frees the reply. Returns false if it is an error or missing; why has the text then. */
static bool accepted(struct ctl_redis *redis, redisContext *context, redisReply *reply)
{
    bool good = reply && reply->type != REDIS_REPLY_ERROR;
    if (!good)
        say(redis, reply ? reply->str : context->errstr, "");
    freeReplyObject(reply);
    return good;
}

static bool sign_in(struct ctl_redis *redis, redisContext *context)
{
    const struct redis_url *url = &redis->url;
    if (url->user[0] &&
        !accepted(redis, context, redisCommand(context, "AUTH %s %s", url->user, url->password)))
        return false;
    if (!url->user[0] && url->password[0] &&
        !accepted(redis, context, redisCommand(context, "AUTH %s", url->password)))
        return false;
    return url->db == 0 || accepted(redis, context, redisCommand(context, "SELECT %u", url->db));
}

/* --- connecting --- */

struct found {
    struct ctl_redis *redis;
    struct resolved addresses;
};

static void on_found(void *ctx, const struct resolved *result, const char *why)
{
    struct found *found = ctx;
    if (result)
        found->addresses = *result;
    else
        say(found->redis, why, "");
    loop_stop(found->redis->loop);
}

/* Resolves a host as the hub does. If no address is found, found->len is 0 and why says why. */
static void find(struct ctl_redis *redis, const struct redis_host *host, struct found *found)
{
    struct resolve *query;
    *found = (struct found){.redis = redis};
    if (!redis->loop && loop_new(&redis->loop) != STATUS_OK)
        abort();
    if (resolve_start(redis->loop, host->name, host->port, on_found, found, &query) != STATUS_OK)
        abort();
    loop_run(redis->loop);
}

/* Connects to the first of the addresses that accepts. */
static redisContext *connect_any(struct ctl_redis *redis, const struct redis_host *host,
                                 const struct resolved *addresses)
{
    for (size_t i = 0; i < addresses->len; i++) {
        char address[NI_MAXHOST];
        if (getnameinfo(&addresses->addresses[i].any, addresses->sizes[i], address, sizeof(address),
                        NULL, 0, NI_NUMERICHOST) != 0)
            continue;
        redisContext *context = redisConnectWithTimeout(address, host->port,
                                                        (struct timeval){.tv_sec = PATIENCE_S});
        if (context && !context->err)
            return context;
        char where[300];
        (void)snprintf(where, sizeof(where), "%s:%u", host->name, host->port);
        say(redis, where, context ? context->errstr : "out of memory");
        redisFree(context);
    }
    return NULL;
}

/* data_server: sign in with the user, password and database of the URL; not for a Sentinel. */
static redisContext *connect_to(struct ctl_redis *redis, const struct redis_host *host,
                                bool data_server)
{
    struct found found;
    find(redis, host, &found);
    redisContext *context = connect_any(redis, host, &found.addresses);
    if (!context)
        return NULL;
    (void)redisSetTimeout(context, (struct timeval){.tv_sec = PATIENCE_S});
    if ((redis->url.tls && !start_tls(redis, context, host->name)) ||
        (data_server && !sign_in(redis, context))) {
        redisFree(context);
        return NULL;
    }
    return context;
}

/* The answers of the Sentinels of the URL and of those that they name. Each is asked once. */
struct poll_of_sentinels {
    struct redis_host asked[2 * REDIS_HOSTS_MAX];
    char ids[2 * REDIS_HOSTS_MAX][64];            /* of the Sentinels that answered */
    struct redis_host named[2 * REDIS_HOSTS_MAX]; /* the primary that the one with this id names */
    size_t asked_len, answered;
};

static const char *text_at(const redisReply *reply, size_t index)
{
    bool there = reply && reply->type == REDIS_REPLY_ARRAY && index < reply->elements &&
                 reply->element[index]->type == REDIS_REPLY_STRING;
    return there ? reply->element[index]->str : "";
}

static bool host_of(const char *name, const char *port, struct redis_host *out)
{
    unsigned long number = strtoul(port, NULL, 10);
    *out = (struct redis_host){.port = (uint16_t)number};
    (void)snprintf(out->name, sizeof(out->name), "%s", name);
    return *name && number > 0 && number <= UINT16_MAX;
}

static bool same_host(const struct redis_host *a, const struct redis_host *b)
{
    return a->port == b->port && strcmp(a->name, b->name) == 0;
}

static void add_sentinel(struct poll_of_sentinels *poll, const struct redis_host *host)
{
    for (size_t i = 0; i < poll->asked_len; i++) {
        if (same_host(&poll->asked[i], host))
            return;
    }
    if (poll->asked_len < sizeof(poll->asked) / sizeof(poll->asked[0]))
        poll->asked[poll->asked_len++] = *host;
}

static void add_others(struct poll_of_sentinels *poll, const redisReply *others)
{
    for (size_t i = 0; others && others->type == REDIS_REPLY_ARRAY && i < others->elements; i++) {
        const char *name = "", *port = "";
        for (size_t at = 0; at < others->element[i]->elements; at += 2) {
            if (strcmp(text_at(others->element[i], at), "ip") == 0)
                name = text_at(others->element[i], at + 1);
            else if (strcmp(text_at(others->element[i], at), "port") == 0)
                port = text_at(others->element[i], at + 1);
        }
        struct redis_host host;
        if (host_of(name, port, &host))
            add_sentinel(poll, &host);
    }
}

/* Signs in to a Sentinel with the user and password of the URL, if it requires a password. */
static void sign_in_where_asked(struct ctl_redis *redis, redisContext *context)
{
    redisReply *reply = redisCommand(context, "PING");
    bool asks = reply && reply->type == REDIS_REPLY_ERROR && strncmp(reply->str, "NOAUTH", 6) == 0;
    freeReplyObject(reply);
    const struct redis_url *url = &redis->url;
    if (asks && url->password[0])
        (void)accepted(redis, context,
                       url->user[0] ? redisCommand(context, "AUTH %s %s", url->user, url->password)
                                    : redisCommand(context, "AUTH %s", url->password));
}

static void ask_sentinel(struct ctl_redis *redis, struct poll_of_sentinels *poll,
                         redisContext *context, const struct redis_host *host)
{
    const char *master = redis->url.master;
    sign_in_where_asked(redis, context);
    redisReply *primary = redisCommand(context, "SENTINEL get-master-addr-by-name %s", master);
    redisReply *others = redisCommand(context, "SENTINEL sentinels %s", master);
    redisReply *id = redisCommand(context, "SENTINEL myid");
    struct redis_host named;
    char name[64];
    if (id && id->type == REDIS_REPLY_STRING)
        (void)snprintf(name, sizeof(name), "%s", id->str);
    else
        (void)snprintf(name, sizeof(name), "%.55s:%u", host->name, host->port);
    bool known = false;
    for (size_t i = 0; i < poll->answered; i++)
        known = known || strcmp(poll->ids[i], name) == 0;
    if (primary && primary->type == REDIS_REPLY_ERROR)
        say(redis, primary->str, "");
    if (!known && host_of(text_at(primary, 0), text_at(primary, 1), &named)) {
        (void)snprintf(poll->ids[poll->answered], sizeof(name), "%s", name);
        poll->named[poll->answered++] = named;
    }
    add_others(poll, others);
    freeReplyObject(primary);
    freeReplyObject(others);
    freeReplyObject(id);
}

/* Whether another Sentinel named the same primary as the latest one. */
static bool is_seconded(const struct poll_of_sentinels *poll)
{
    for (size_t i = 0; i + 1 < poll->answered; i++) {
        if (same_host(&poll->named[i], &poll->named[poll->answered - 1]))
            return true;
    }
    return false;
}

/* The primary that two Sentinels name. One is enough if the URL has no other and no other answers.
 */
static bool ask_sentinels(struct ctl_redis *redis, struct redis_host *out)
{
    struct poll_of_sentinels poll = {0};
    say(redis, "no Sentinel knows the primary", redis->url.master);
    for (size_t i = 0; i < redis->url.hosts_len; i++)
        add_sentinel(&poll, &redis->url.hosts[i]);
    for (size_t i = 0; i < poll.asked_len; i++) {
        struct redis_host host = poll.asked[i];
        redisContext *context = connect_to(redis, &host, false);
        if (context)
            ask_sentinel(redis, &poll, context, &host);
        redisFree(context);
        if (is_seconded(&poll)) {
            *out = poll.named[poll.answered - 1];
            return true;
        }
    }
    if (poll.answered == 1 && redis->url.hosts_len == 1) {
        *out = poll.named[0];
        return true;
    }
    if (poll.answered > 0)
        say(redis, "expected two Sentinels that name the same primary, got none",
            redis->url.master);
    return false;
}

/* Returns the connection to that host, and opens it at the first call. */
static redisContext *context_of(struct ctl_redis *redis, const struct redis_host *host)
{
    struct server *server = NULL;
    for (size_t i = 0; i < redis->servers_len && !server; i++) {
        if (redis->servers[i].host.port == host->port &&
            strcmp(redis->servers[i].host.name, host->name) == 0)
            server = &redis->servers[i];
    }
    if (!server && redis->servers_len == SERVERS_MAX) {
        say(redis, "expected at most 64 servers in this Cluster, got more", "");
        return NULL;
    }
    if (!server) {
        server = &redis->servers[redis->servers_len++];
        *server = (struct server){.host = *host};
    }
    if (server->context && server->context->err) {
        redisFree(server->context);
        server->context = NULL;
    }
    if (!server->context)
        server->context = connect_to(redis, host, true);
    return server->context;
}

/* The connection for the first command: to the primary, or to the first host of the URL that
 * answers. */
static redisContext *first_context(struct ctl_redis *redis)
{
    if (redis->servers_len > 0)
        return context_of(redis, &redis->servers[0].host);
    struct redis_host primary = {0};
    if (redis->url.shape == REDIS_SENTINEL)
        return ask_sentinels(redis, &primary) ? context_of(redis, &primary) : NULL;
    for (size_t i = 0; i < redis->url.hosts_len; i++) {
        redisContext *context = context_of(redis, &redis->url.hosts[i]);
        if (context)
            return context;
        redis->servers_len = 0;
    }
    return NULL;
}

static bool is_moved(const redisReply *reply, struct redis_host *out)
{
    return reply && reply->type == REDIS_REPLY_ERROR && strncmp(reply->str, "MOVED ", 6) == 0 &&
           redis_redirect_read(reply->str, out->name, sizeof(out->name), &out->port) &&
           out->name[0];
}

/* Follows redirections and returns the reply of the right server. Takes over the first reply. */
static redisReply *follow(struct ctl_redis *redis, redisContext *context, redisReply *reply,
                          size_t len, const char **words, const size_t *lens)
{
    struct redis_host host = {0};
    for (int i = 0; i < REDIRECTS_MAX && is_moved(reply, &host); i++) {
        freeReplyObject(reply);
        context = context_of(redis, &host);
        if (!context)
            return NULL;
        reply = redisCommandArgv(context, (int)len, words, lens);
    }
    if (reply && reply->type != REDIS_REPLY_ERROR)
        return reply;
    say(redis, reply ? reply->str : context->errstr, "");
    freeReplyObject(reply);
    return NULL;
}

redisReply *ctl_redis_run(struct ctl_redis *redis, size_t len, const char **words,
                          const size_t *lens)
{
    redisContext *context = first_context(redis);
    return context ? follow(redis, context, redisCommandArgv(context, (int)len, words, lens), len,
                            words, lens)
                   : NULL;
}

enum status ctl_redis_hgetall(struct ctl_redis *redis, char *const *keys, size_t len,
                              redisReply **replies)
{
    redisContext *context = first_context(redis);
    if (!context)
        return STATUS_IO;
    for (size_t i = 0; i < len; i++)
        (void)redisAppendCommand(context, "HGETALL %s", keys[i]);
    size_t got = 0;
    while (got < len) {
        void *reply = NULL;
        if (redisGetReply(context, &reply) != REDIS_OK)
            break;
        replies[got++] = reply;
    }
    size_t good = got;
    if (got < len)
        say(redis, context->errstr, "");
    /* Redirections are followed only when all answers are read: a command in between would get one
     * of them as its answer. */
    for (size_t i = 0; i < got && good == len; i++) {
        replies[i] = follow(redis, context, replies[i], 2, (const char *[]){"HGETALL", keys[i]},
                            NULL);
        if (!replies[i])
            good = i;
    }
    if (good == len)
        return STATUS_OK;
    for (size_t i = 0; i < got; i++)
        freeReplyObject(replies[i]);
    return STATUS_IO;
}

long long ctl_redis_publish(struct ctl_redis *redis, const char *channel, const void *data,
                            size_t len)
{
    const char *verb = redis->url.shape == REDIS_CLUSTER ? "SPUBLISH" : "PUBLISH";
    const char *words[] = {verb, channel, data};
    const size_t lens[] = {strlen(verb), strlen(channel), len};
    redisReply *reply = ctl_redis_run(redis, 3, words, lens);
    long long receivers = reply && reply->type == REDIS_REPLY_INTEGER ? reply->integer : -1;
    freeReplyObject(reply);
    return receivers;
}

enum status ctl_redis_subscribe(struct ctl_redis *redis, const char *channel)
{
    const char *verb = redis->url.shape == REDIS_CLUSTER ? "SSUBSCRIBE" : "SUBSCRIBE";
    redisContext *context = first_context(redis);
    struct redis_host host = {0};
    for (size_t i = 0; context && i < redis->servers_len; i++) {
        if (redis->servers[i].context == context)
            host = redis->servers[i].host;
    }
    for (int i = 0; context && i < REDIRECTS_MAX; i++) {
        redisFree(redis->subscription);
        redis->subscription = connect_to(redis, &host, true);
        if (!redis->subscription)
            return STATUS_IO;
        redisReply *reply = redisCommand(redis->subscription, "%s %s", verb, channel);
        if (!is_moved(reply, &host))
            return accepted(redis, redis->subscription, reply) ? STATUS_OK : STATUS_IO;
        freeReplyObject(reply);
    }
    return STATUS_IO;
}

/* Waits for the socket unless hiredis has a reply in its buffer already. */
static enum status next_reply(struct ctl_redis *redis, int wait_ms, redisReply **out)
{
    void *reply = NULL;
    redisContext *context = redis->subscription;
    for (;;) {
        if (redisGetReplyFromReader(context, &reply) != REDIS_OK)
            break;
        if (reply) {
            *out = reply;
            return STATUS_OK;
        }
        struct pollfd ready = {.fd = context->fd, .events = POLLIN};
        int result = poll(&ready, 1, wait_ms);
        if (result == 0)
            return STATUS_TIMEOUT;
        if ((result < 0 && errno != EINTR) || (result > 0 && redisBufferRead(context) != REDIS_OK))
            break;
    }
    say(redis, "subscription lost", context->errstr);
    return STATUS_IO;
}

static bool is_message(const redisReply *reply)
{
    return reply->elements == 3 && reply->element[2]->type == REDIS_REPLY_STRING &&
           reply->element[0]->str &&
           (strcmp(reply->element[0]->str, "message") == 0 ||
            strcmp(reply->element[0]->str, "smessage") == 0);
}

enum status ctl_redis_receive(struct ctl_redis *redis, int wait_ms, const void **data, size_t *len)
{
    for (;;) {
        redisReply *reply = NULL;
        enum status status = next_reply(redis, wait_ms, &reply);
        if (status != STATUS_OK)
            return status;
        freeReplyObject(redis->message);
        redis->message = reply;
        if (is_message(reply)) {
            *data = reply->element[2]->str;
            *len = reply->element[2]->len;
            return STATUS_OK;
        }
    }
}

enum status ctl_redis_probe(struct ctl_redis *redis, int wait_ms)
{
    int done = 0;
    if (redisAppendCommand(redis->subscription, "PING") != REDIS_OK)
        return STATUS_IO;
    while (!done) {
        if (redisBufferWrite(redis->subscription, &done) != REDIS_OK) {
            say(redis, "subscription lost", redis->subscription->errstr);
            return STATUS_IO;
        }
    }
    struct pollfd ready = {.fd = redis->subscription->fd, .events = POLLIN};
    if (poll(&ready, 1, wait_ms) > 0)
        return STATUS_OK; /* the pong, or a message before it: ctl_redis_receive reads both */
    say(redis, "subscription lost", "no answer");
    return STATUS_IO;
}

enum status ctl_redis_new(const char *url, const struct tls_client *client, struct ctl_redis **out)
{
    struct ctl_redis *redis = calloc(1, sizeof(*redis));
    if (!redis)
        abort();
    enum status status = redis_url_parse(url, &redis->url);
    if (status != STATUS_OK) {
        free(redis);
        return status;
    }
    redis->client = *client;
    *out = redis;
    return STATUS_OK;
}

void ctl_redis_free(struct ctl_redis *redis)
{
    for (size_t i = 0; i < redis->servers_len; i++)
        redisFree(redis->servers[i].context);
    redisFree(redis->subscription);
    freeReplyObject(redis->message);
    tls_context_free(redis->tls);
    loop_free(redis->loop);
    free(redis);
}

const struct redis_url *ctl_redis_url(const struct ctl_redis *redis)
{
    return &redis->url;
}

const char *ctl_redis_why(const struct ctl_redis *redis)
{
    return redis->why;
}

char *ctl_redis_base64(const void *data, size_t len)
{
    char *out = malloc((len + 2) / 3 * 4 + 1);
    if (!out)
        abort();
    (void)EVP_EncodeBlock((unsigned char *)out, data, (int)len);
    return out;
}
