#include "bus/redis_link.h"

#include <assert.h>
#include <errno.h>
#include <hiredis/hiredis.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bus/redis_tls.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/metrics.h"
#include "common/rng.h"
#include "loop/resolve.h"
#include "loop/tls_context.h"

#define BACKOFF_MIN_MS 50
/* A quarter of the deadline, so that a server that was away for a moment is found while the lease
 * runs, within these. */
#define BACKOFF_MAX_FROM_MS 100
#define BACKOFF_MAX_TO_MS   1000
#define RESOLVE_MS          5000 /* name servers are slow where they don't have the answer yet */
#define STEADY_MS           5000 /* up for so long, the back-off starts over */
#define READ_BYTES          ((size_t)16 * 1024) /* what hiredis reads at once */
/* What it gets at once, at least, where there is so much */
#define WRITE_BYTES ((size_t)64 * 1024)
/* So long it is read in one turn: a reply may open an upstream, and thousands come together. */
#define READ_US 5000
/* History answers are cut far below by their script. */
#define REPLY_BYTES_MAX    ((size_t)64 * 1024 * 1024)
#define REPLY_ELEMENTS_MAX 4000000

enum redis_link_state {
    REDIS_LINK_STOPPED, /* until it is started */
    REDIS_LINK_WAITING, /* for the back-off */
    REDIS_LINK_RESOLVING,
    REDIS_LINK_CONNECTING, /* TCP */
    REDIS_LINK_SECURING,   /* TLS */
    REDIS_LINK_GREETING,   /* AUTH and SELECT were sent */
    REDIS_LINK_UP,
};

struct redis_link {
    struct redis_link_options options;
    const struct redis_link_events *events;
    void *ctx;
    char *host;
    uint16_t port;
    enum redis_link_state state;
    struct resolve *query;     /* NULL: none is under way */
    struct resolved addresses; /* of the latest one */
    size_t address;            /* the one that is tried */
    redisContext *context;
    struct ssl_st *ssl;
    struct loop_watch *readable, *writable; /* NULL: not waited for */
    struct loop_timer *timer;               /* the back-off, or the deadline of connecting */
    struct redis_output output;
    bool pinned;                 /* to the one address that another link found */
    bool fell_back;              /* the fallback's password was sent on this connection */
    char tried[REDIS_WHY_BYTES]; /* what was wrong with the addresses before this one */
    struct redis_fault fault;
    unsigned greetings; /* replies to AUTH and SELECT that are still to come */
    unsigned failures;  /* since it was steady */
    /* Made so far: tells a callback whether its connection is still this one */
    uint64_t connections;
    uint64_t up_ms;
    struct rng rng;
};

static void link_connect(struct redis_link *link);
static void link_greet(struct redis_link *link, const struct redis_url *as);

static void on_readable(void *ctx);
static void on_writable(void *ctx);

static void link_want(struct redis_link *link, enum loop_ready ready, bool wanted)
{
    struct loop_watch **watch = ready == LOOP_READABLE ? &link->readable : &link->writable;
    if (wanted == (*watch != NULL))
        return;
    if (!wanted) {
        loop_watch_free(*watch);
        *watch = NULL;
        return;
    }
    *watch = loop_watch_new(link->options.loop, "redis", link->context->fd, ready,
                            ready == LOOP_READABLE ? on_readable : on_writable, link);
    if (!*watch)
        abort();
    if (ready ==
        LOOP_READABLE) /* pushes of other nodes and the lease must not wait behind many clients */
        loop_watch_set_urgent(*watch);
}

/* --- ending a connection --- */

static void link_drop_connection(struct redis_link *link)
{
    if (link->query)
        resolve_cancel(link->query);
    link->query = NULL;
    loop_watch_free(link->readable);
    loop_watch_free(link->writable);
    link->readable = link->writable = NULL;
    redis_tls_end(link->ssl);
    if (link->context)
        redisFree(link->context);
    link->context = NULL;
    link->ssl = NULL;
    link->fell_back = false;
    link->connections++;
    redis_output_clear(&link->output);
}

static uint64_t backoff_ms(struct redis_link *link)
{
    uint64_t max_ms = link->options.deadline_ms / 4;
    if (max_ms < BACKOFF_MAX_FROM_MS)
        max_ms = BACKOFF_MAX_FROM_MS;
    if (max_ms > BACKOFF_MAX_TO_MS)
        max_ms = BACKOFF_MAX_TO_MS;
    unsigned doublings = link->failures < 8 ? link->failures : 8;
    uint64_t limit_ms = (uint64_t)BACKOFF_MIN_MS << doublings;
    if (limit_ms > max_ms)
        limit_ms = max_ms;
    return limit_ms / 2 + rng_below(&link->rng, limit_ms / 2 + 1);
}

/* Appends the error of the current address to those of the addresses before it. */
static void note_tried(struct redis_link *link, const char *why)
{
    char reason[REDIS_WHY_BYTES];
    size_t len = strlen(link->tried);
    redis_quote(link->options.url, why, reason);
    if (link->options.fallback)
        redis_quote(link->options.fallback, reason, reason);
    if (!strstr(link->tried, reason))
        snprintf(link->tried + len, sizeof(link->tried) - len, "%s%s", len > 0 ? "; " : "", reason);
}

static void set_fault(struct redis_link *link, const char *reason)
{
    char text[REDIS_WHY_BYTES];
    snprintf(text, sizeof(text), "Redis %.60s:%u (%s): %.220s", link->host, link->port,
             link->options.name, reason);
    redis_fault_set(link->options.trouble, &link->fault, text);
}

/* The one way down: whatever ends the connection or the try comes here. */
static void link_fail(struct redis_link *link, const char *why)
{
    bool was_up = link->state == REDIS_LINK_UP;
    char reason[REDIS_WHY_BYTES];
    note_tried(link, why); /* why may point into the context that is freed now */
    snprintf(reason, sizeof(reason), "%s", link->tried);
    link->tried[0] = '\0';
    set_fault(link, reason);
    if (was_up && clock_boot_ms() - link->up_ms >= STEADY_MS)
        link->failures = 0;
    link_drop_connection(link);
    link->state = REDIS_LINK_WAITING;
    loop_timer_start(link->timer, backoff_ms(link));
    link->failures++;
    log_warn_cause(was_up ? "redis_disconnected" : "redis_unreachable",
                   LOG_STR("link", link->options.name), LOG_STR("host", link->host),
                   LOG_U64("port", link->port), LOG_STR("reason", reason));
    if (was_up)
        link->events->on_down(link->ctx);
    if (link->events->on_failed)
        link->events->on_failed(link->ctx);
}

/* Reading or writing has failed. */
static void link_fail_io(struct redis_link *link)
{
    char why[TLS_WHY_BYTES];
    snprintf(why, sizeof(why), "%s", link->context->errstr);
    redis_tls_explain(link->ssl, why, sizeof(why));
    link_fail(link, why);
}

/* An address did not lead to a connection: the next one, or the back-off. */
static void link_next_address(struct redis_link *link, const char *why)
{
    if (link->state == REDIS_LINK_RESOLVING || link->address + 1 >= link->addresses.len) {
        link_fail(link, why);
        return;
    }
    note_tried(link, why);
    link_drop_connection(link);
    link->address++;
    link_connect(link);
}

/* --- reading and writing --- */

static void on_greeting(struct redis_link *link, redisReply *reply)
{
    const struct redis_url *fallback = link->options.fallback;
    if (reply->type == REDIS_REPLY_ERROR && strncmp(reply->str, "NOAUTH", 6) == 0 && fallback &&
        fallback->password[0] != '\0' && !link->fell_back) {
        link->fell_back = true;
        link_greet(link, fallback);
        return;
    }
    if (reply->type != REDIS_REPLY_STATUS) {
        link_next_address(link, reply->type == REDIS_REPLY_ERROR ? reply->str
                                                                 : "this is not a Redis server");
        return;
    }
    if (--link->greetings > 0)
        return;
    link->state = REDIS_LINK_UP;
    if (link->up_ms != 0)
        metric_add(METRIC_BUS_RECONNECTS, 1);
    link->up_ms = clock_boot_ms();
    loop_timer_stop(link->timer);
    link->tried[0] = '\0';
    log_info_cause("redis_connected", LOG_STR("link", link->options.name),
                   LOG_STR("host", link->host), LOG_U64("port", link->port));
    link->events->on_up(link->ctx);
}

/* Hands over all replies that are there. False: the connection is another one now, or none. */
static bool link_deliver(struct redis_link *link)
{
    uint64_t connection = link->connections;
    for (;;) {
        void *reply = NULL;
        if (redisGetReplyFromReader(link->context, &reply) != REDIS_OK) {
            link_fail(link, link->context->errstr);
            return false;
        }
        if (!reply)
            return true;
        if (link->state == REDIS_LINK_UP) {
            link->events->on_reply(link->ctx, reply);
        } else {
            on_greeting(link, reply);
            freeReplyObject(reply);
        }
        if (connection != link->connections)
            return false;
    }
}

static void link_read(struct redis_link *link)
{
    uint64_t until_us = clock_boot_us() + READ_US;
    do {
        size_t before = link->context->reader->len;
        redis_tls_prepare(link->ssl);
        if (redisBufferRead(link->context) != REDIS_OK) {
            link_fail_io(link);
            return;
        }
        size_t after = link->context->reader->len;
        if (after > REPLY_BYTES_MAX) {
            link_fail(link, "a reply is too large");
            return;
        }
        if (!link_deliver(link) || after - before < READ_BYTES)
            return;
    } while (clock_boot_us() < until_us);
}

/* Gives hiredis what leaves in one write. False: there is nothing. */
static bool link_feed(struct redis_link *link)
{
    size_t fed = 0;
    struct redis_chunk *chunk;
    while (fed < WRITE_BYTES && (chunk = redis_output_take(&link->output)) != NULL) {
        if (redisAppendFormattedCommand(link->context, chunk->bytes, chunk->len) != REDIS_OK)
            abort(); /* out of memory */
        fed += chunk->len;
        free(chunk);
    }
    return fed > 0;
}

static void link_write(struct redis_link *link)
{
    int done = 0;
    do {
        redis_tls_prepare(link->ssl);
        if (redisBufferWrite(link->context, &done) != REDIS_OK) {
            link_fail_io(link);
            return;
        }
    } while (done && link_feed(link));
    link_want(link, LOOP_WRITABLE, !done);
}

/* --- connecting --- */

static void link_handshake(struct redis_link *link)
{
    char why[TLS_WHY_BYTES];
    switch (redis_tls_handshake(link->ssl, why, sizeof(why))) {
    case REDIS_TLS_WANTS_READ: link_want(link, LOOP_WRITABLE, false); break;
    case REDIS_TLS_WANTS_WRITE: link_want(link, LOOP_WRITABLE, true); break;
    case REDIS_TLS_FAILED: link_next_address(link, why); break;
    case REDIS_TLS_DONE: link_greet(link, link->options.url); break;
    }
}

static void link_secure(struct redis_link *link)
{
    link->state = REDIS_LINK_SECURING;
    char why[TLS_WHY_BYTES];
    if (redis_tls_start(link->options.tls, link->context, link->host, &link->ssl, why,
                        sizeof(why)) != STATUS_OK)
        link_next_address(link, why);
    else
        link_handshake(link);
}

static void link_on_tcp(struct redis_link *link)
{
    int error = 0;
    socklen_t len = sizeof(error);
    if (getsockopt(link->context->fd, SOL_SOCKET, SO_ERROR, &error, &len) != 0)
        error = errno;
    if (error != 0) {
        link_next_address(link, strerror(error));
        return;
    }
    link_want(link, LOOP_READABLE, true);
    if (link->options.tls)
        link_secure(link);
    else
        link_greet(link, link->options.url);
}

/* Every greeting ends with a PING, so that one reply at least says that the server serves. */
static void link_greet(struct redis_link *link, const struct redis_url *as)
{
    const struct redis_url *url = link->options.url;
    struct redis_request request = {0};
    link->state = REDIS_LINK_GREETING;
    link->greetings = 1;
    if (as->password[0] != '\0') {
        redis_request_begin(&request, as->user[0] != '\0' ? 3 : 2);
        redis_request_text(&request, "AUTH");
        if (as->user[0] != '\0')
            redis_request_text(&request, as->user);
        redis_request_text(&request, as->password);
        link->greetings++;
    }
    if (url->db != 0) {
        redis_request_begin(&request, 2);
        redis_request_text(&request, "SELECT");
        redis_request_number(&request, url->db);
        link->greetings++;
    }
    redis_request_begin(&request, 1);
    redis_request_text(&request, "PING");
    redis_output_append(&link->output, &request);
    redis_request_fini(&request);
    link_write(link);
}

static void on_readable(void *ctx)
{
    struct redis_link *link = ctx;
    if (link->state == REDIS_LINK_SECURING)
        link_handshake(link);
    else
        link_read(link);
}

static void on_writable(void *ctx)
{
    struct redis_link *link = ctx;
    if (link->state == REDIS_LINK_CONNECTING)
        link_on_tcp(link);
    else if (link->state == REDIS_LINK_SECURING)
        link_handshake(link);
    else
        link_write(link);
}

static redisContext *wrap_socket(int fd)
{
    redisOptions options = {
        .type = REDIS_CONN_USERFD, .options = REDIS_OPT_NONBLOCK, .endpoint.fd = fd};
    redisContext *context = redisConnectWithOptions(&options);
    if (!context)
        abort();
    context->reader->maxelements = REPLY_ELEMENTS_MAX;
    return context;
}

static void link_connect(struct redis_link *link)
{
    const struct sockaddr *address =
        (const struct sockaddr *)&link->addresses.addresses[link->address];
    link->state = REDIS_LINK_CONNECTING;
    loop_timer_start(link->timer, link->options.deadline_ms);
    int fd = socket(address->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        link_next_address(link, strerror(errno));
        return;
    }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
    if (connect(fd, address, link->addresses.sizes[link->address]) != 0 && errno != EINPROGRESS) {
        int error = errno;
        close(fd);
        link_next_address(link, strerror(error));
        return;
    }
    link->context = wrap_socket(fd);
    link_want(link, LOOP_WRITABLE, true);
}

static void on_resolved(void *ctx, const struct resolved *found, const char *why)
{
    struct redis_link *link = ctx;
    link->query = NULL;
    if (why) {
        link_fail(link, why);
        return;
    }
    link->addresses = *found;
    link->address = 0;
    link_connect(link);
}

static void on_timer(void *ctx)
{
    struct redis_link *link = ctx;
    if (link->state != REDIS_LINK_WAITING) {
        link_next_address(link, "no answer in time");
        return;
    }
    if (link->pinned) {
        link->address = 0;
        link_connect(link);
        return;
    }
    link->state = REDIS_LINK_RESOLVING;
    loop_timer_start(link->timer, RESOLVE_MS);
    enum status status = resolve_start(link->options.loop, link->host, link->port, on_resolved,
                                       link, &link->query);
    if (status != STATUS_OK)
        link_fail(link, status_name(status));
}

/* --- for the owner --- */

struct redis_link *redis_link_new(const struct redis_link_options *options,
                                  const struct redis_link_events *events, void *ctx)
{
    struct redis_link *link = redis_claim_memory(1, sizeof(*link));
    link->options = *options;
    link->events = events;
    link->ctx = ctx;
    link->host = redis_copy_text("");
    link->timer = loop_timer_new(options->loop, "redis_connect", on_timer, link);
    if (!link->timer)
        abort();
    uint64_t seed;
    rng_secure(&seed, sizeof(seed));
    rng_seed(&link->rng, seed);
    return link;
}

void redis_link_free(struct redis_link *link)
{
    redis_link_fit(link);
    link_drop_connection(link);
    loop_timer_free(link->timer);
    free(link->host);
    free(link);
}

void redis_link_target(struct redis_link *link, const char *host, uint16_t port)
{
    char *copy = redis_copy_text(host);
    free(link->host);
    link->host = copy;
    link->port = port;
    link->pinned = false;
}

const char *redis_link_host(const struct redis_link *link)
{
    return link->host;
}

uint16_t redis_link_port(const struct redis_link *link)
{
    return link->port;
}

void redis_link_start(struct redis_link *link)
{
    if (link->state != REDIS_LINK_STOPPED)
        return;
    link->state = REDIS_LINK_WAITING;
    loop_timer_start(link->timer, 0);
}

void redis_link_cut(struct redis_link *link, const char *why)
{
    if (link->state != REDIS_LINK_STOPPED && link->state != REDIS_LINK_WAITING)
        link_fail(link, why);
}

void redis_link_unfit(struct redis_link *link, const char *why)
{
    if (link->state != REDIS_LINK_UP)
        return;
    if (link->address + 1 >= link->addresses.len) {
        link_fail(link, why);
        return;
    }
    note_tried(link, why);
    link_drop_connection(link);
    link->address++;
    link->state = REDIS_LINK_CONNECTING;
    link->events->on_down(link->ctx);
    link_connect(link);
}

void redis_link_fit(struct redis_link *link)
{
    redis_fault_clear(link->options.trouble, &link->fault);
}

const char *redis_link_why(const struct redis_link *link)
{
    return link->fault.text;
}

void redis_link_follow(struct redis_link *link, const struct redis_link *other)
{
    struct resolved at = {.len = 1};
    at.addresses[0] = other->addresses.addresses[other->address];
    at.sizes[0] = other->addresses.sizes[other->address];
    bool same = link->state >= REDIS_LINK_CONNECTING &&
                link->addresses.sizes[link->address] == at.sizes[0] &&
                memcmp(&link->addresses.addresses[link->address], &at.addresses[0], at.sizes[0]) ==
                    0;
    if (!same)
        redis_link_cut(link, "the connection for commands goes to another address");
    link->pinned = true;
    link->addresses = at;
    link->address = 0;
}

void redis_link_stop(struct redis_link *link)
{
    redis_link_cut(link, "stopped");
    loop_timer_stop(link->timer);
    link->state = REDIS_LINK_STOPPED;
    redis_link_fit(link); /* nobody waits for it */
}

bool redis_link_up(const struct redis_link *link)
{
    return link->state == REDIS_LINK_UP;
}

struct redis_output *redis_link_output(struct redis_link *link)
{
    assert(link->state == REDIS_LINK_UP);
    return &link->output;
}

void redis_link_flush(struct redis_link *link)
{
    if (link->state == REDIS_LINK_UP && link->output.first)
        link_write(link);
}

size_t redis_link_backlog(const struct redis_link *link)
{
    return link->output.bytes;
}

uint64_t redis_link_up_ms(const struct redis_link *link)
{
    return link->up_ms;
}
