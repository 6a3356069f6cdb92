/* One attempt to open an upstream: resolving the name, TCP to its addresses one after the other,
 * TLS, and the handshake; all within reconnect.timeout. */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/container_of.h"
#include "common/metrics.h"
#include "common/rng.h"
#include "core/hub.h"
#include "upstream/upstream_private.h"

static void connect_next(struct upstream *up);

void up_attempt_free(struct upstream_attempt *attempt)
{
    if (!attempt)
        return;
    if (attempt->query)
        resolve_cancel(attempt->query);
    loop_watch_free(attempt->watch);
    if (attempt->fd >= 0)
        close(attempt->fd);
    answer_reader_fini(&attempt->answer);
    free(attempt);
}

static struct upstream *upstream_of(struct socket *socket)
{
    return CONTAINER_OF(socket, struct upstream, socket);
}

static bool on_bytes(struct socket *socket, uint8_t *bytes, size_t len)
{
    struct upstream *up = upstream_of(socket);
    up->heard_at_ms = up->all->now_ms;
    if (up->state == UP_ASKING)
        up_attempt_answer(up, bytes, len);
    else
        talk_bytes(up, bytes, len);
    return true; /* also if the upstream has ended: then the socket is detached already */
}

static bool on_writable(struct socket *socket)
{
    struct upstream *up = upstream_of(socket);
    if (up->want_writable && up->state == UP_OPEN) {
        up->want_writable = false;
        hub_upstream_writable(up->session, up);
    }
    return true;
}

static void on_gone(struct socket *socket)
{
    struct upstream *up = upstream_of(socket);
    if (up->open_reported)
        talk_lost(up);
    else
        up_attempt_lost(up);
}

static void on_secured(struct socket *socket, const char *why)
{
    up_attempt_secured(upstream_of(socket), why);
}

static const struct socket_handler handler = {.name = "upstream",
                                              .on_bytes = on_bytes,
                                              .on_writable = on_writable,
                                              .on_gone = on_gone,
                                              .on_secured = on_secured};

void up_attempt_lost(struct upstream *up)
{
    if (up->state == UP_SECURING)
        up_end_plain(up, UPSTREAM_END_TLS, "connection closed during the TLS handshake");
    else
        up_end_plain(up, UPSTREAM_END_CLOSED, "connection closed during the handshake");
}

/* --- TLS --- */

static struct tls_context *trust_context(struct upstreams *all, const char *ca, char *why,
                                         size_t why_len)
{
    for (struct trust *trust = all->trusts; trust; trust = trust->next) {
        if (strcmp(trust->ca, ca) == 0)
            return trust->context;
    }
    struct trust *trust = malloc(sizeof(*trust) + strlen(ca) + 1);
    const struct tls_client client = {.ca = ca};
    if (!trust || tls_context_client(&client, &trust->context, why, why_len) != STATUS_OK) {
        free(trust);
        return NULL;
    }
    memcpy(trust->ca, ca, strlen(ca) + 1);
    trust->next = all->trusts;
    all->trusts = trust;
    return trust->context;
}

static struct tls *make_tls(struct upstream *up)
{
    const char *ca = up->service->tls_ca ? up->service->tls_ca : "";
    struct tls_context *context = trust_context(up->all, ca, up->attempt->why,
                                                sizeof(up->attempt->why));
    struct tls *tls = context ? tls_new(context, up->parts.host) : NULL;
    if (context && !tls)
        snprintf(up->attempt->why, sizeof(up->attempt->why), "no TLS for this host name");
    return tls;
}

/* --- the request --- */

static void make_key(char key[25], char accept[WS_ACCEPT_SIZE])
{
    uint8_t random[16];
    rng_secure(random, sizeof(random));
    EVP_EncodeBlock((unsigned char *)key, random, sizeof(random));
    ws_accept_key((struct http_text){key, 24}, accept);
}

/* The Host field: the host of the URL, and the port if it is not the default of the scheme (RFC
 * 9110 section 7.2). */
static void print_host(const struct url_parts *parts, char *out, size_t len)
{
    bool v6 = strchr(parts->host, ':') != NULL;
    size_t host_len = strlen(parts->host);
    if (host_len > 1 && parts->host[host_len - 1] == '.')
        host_len--; /* the final dot is for the resolver only */
    int n = snprintf(out, len, v6 ? "[%.*s]" : "%.*s", (int)host_len, parts->host);
    if (parts->port != (parts->tls ? 443 : 80) && n > 0 && (size_t)n < len)
        snprintf(out + n, len - (size_t)n, ":%u", parts->port);
}

/* Sends the request of the handshake. The path is sent byte for byte as it is in the URL. */
static void ask(struct upstream *up)
{
    char key[25], host[300];
    make_key(key, up->attempt->answer.accept);
    print_host(&up->parts, host, sizeof(host));

    char *text = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&text, &len);
    if (!out)
        abort();
    fprintf(out,
            "GET %s HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Key: %s\r\nSec-WebSocket-Version: 13\r\n",
            up->parts.path, host, key);
    for (size_t i = 0; i < up->service->headers_len; i++)
        fprintf(out, "%s: %s\r\n", up->service->headers[i].name, up->service->headers[i].value);
    fputs("\r\n", out);
    fclose(out);

    up_set_state(up, UP_ASKING);
    socket_write(&up->socket, text, len);
    free(text);
}

void up_attempt_secured(struct upstream *up, const char *why)
{
    if (!why) {
        ask(up);
        return;
    }
    if (up->state != UP_SECURING && up->state != UP_ASKING)
        return;
    char text[TLS_WHY_BYTES]; /* why belongs to the socket, which is freed first */
    snprintf(text, sizeof(text), "%s", why);
    up_end_plain(up, UPSTREAM_END_TLS, text);
}

/* --- TCP --- */

/*
 * If the backend's host vanishes without closing the connection, TCP gives it up within a minute,
 * with any heartbeat: by keep-alive probes while nothing is sent, or by data that is not
 * acknowledged.
 */
static void keep_alive(int fd)
{
    static const struct {
        int level, name, value;
    } options[] = {
        {IPPROTO_TCP, TCP_NODELAY, 1},   {SOL_SOCKET, SO_KEEPALIVE, 1},
        {IPPROTO_TCP, TCP_KEEPIDLE, 20}, {IPPROTO_TCP, TCP_KEEPINTVL, 10},
        {IPPROTO_TCP, TCP_KEEPCNT, 3},   {IPPROTO_TCP, TCP_USER_TIMEOUT, 60000},
    };
    for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++)
        setsockopt(fd, options[i].level, options[i].name, &options[i].value,
                   sizeof(options[i].value));
}

static void connected(struct upstream *up)
{
    struct upstream_attempt *attempt = up->attempt;
    keep_alive(attempt->fd);
    struct tls *tls = NULL;
    if (up->parts.tls) {
        tls = make_tls(up);
        if (!tls) {
            char why[sizeof(attempt->why)];
            memcpy(why, attempt->why, sizeof(why));
            up_end_plain(up, UPSTREAM_END_TLS, why);
            return;
        }
    }
    loop_watch_free(attempt->watch);
    attempt->watch = NULL;
    int fd = attempt->fd;
    attempt->fd = -1;
    if (socket_open(&up->socket, up->all->loop, fd, tls, &handler) != STATUS_OK) {
        up_end_plain(up, UPSTREAM_END_NO_TCP, "out of descriptors or memory");
        return;
    }
    socket_set_urgent(&up->socket);
    up_deadline(up, attempt->give_up_at_ms);
    if (up->parts.tls)
        up_set_state(up, UP_SECURING);
    else
        ask(up);
}

static void drop_socket(struct upstream *up, int error)
{
    struct upstream_attempt *attempt = up->attempt;
    snprintf(attempt->why, sizeof(attempt->why), "%s", strerror(error));
    loop_watch_free(attempt->watch);
    attempt->watch = NULL;
    if (attempt->fd >= 0)
        close(attempt->fd);
    attempt->fd = -1;
}

static void on_connect(void *ctx)
{
    struct upstream *up = ctx;
    int error = 0;
    socklen_t size = sizeof(error);
    if (getsockopt(up->attempt->fd, SOL_SOCKET, SO_ERROR, &error, &size) != 0)
        error = errno;
    if (error == 0) {
        connected(up);
        return;
    }
    drop_socket(up, error);
    connect_next(up);
}

/* The remaining time is divided equally among the remaining addresses. */
static void extend_deadline(struct upstream *up)
{
    struct upstream_attempt *attempt = up->attempt;
    uint64_t now_ms = up->all->now_ms;
    uint64_t left_ms = attempt->give_up_at_ms > now_ms ? attempt->give_up_at_ms - now_ms : 0;
    attempt->address_at_ms = now_ms + left_ms / (attempt->addresses.len - attempt->next + 1);
    up_deadline(up, attempt->address_at_ms);
}

static bool connect_to(struct upstream *up, const struct sockaddr *address, socklen_t size)
{
    struct upstream_attempt *attempt = up->attempt;
    attempt->fd = socket(address->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (attempt->fd >= 0 && (connect(attempt->fd, address, size) == 0 || errno == EINPROGRESS)) {
        attempt->watch = loop_watch_new(up->all->loop, "upstream_connect", attempt->fd,
                                        LOOP_WRITABLE, on_connect, up);
        if (attempt->watch)
            return true;
        errno = ENOMEM;
    }
    drop_socket(up, errno);
    return false;
}

static void connect_next(struct upstream *up)
{
    struct upstream_attempt *attempt = up->attempt;
    while (attempt->next < attempt->addresses.len) {
        size_t i = (attempt->first + attempt->next++) % attempt->addresses.len;
        extend_deadline(up);
        if (connect_to(up, (const struct sockaddr *)&attempt->addresses.addresses[i],
                       attempt->addresses.sizes[i]))
            return;
    }
    char why[sizeof(attempt->why)];
    memcpy(why, attempt->why, sizeof(why));
    up_end_plain(up, UPSTREAM_END_NO_TCP, why);
}

/* --- the name, and the deadline of all --- */

static void on_resolved(void *ctx, const struct resolved *result, const char *why)
{
    struct upstream *up = ctx;
    up->attempt->query = NULL;
    if (why) {
        up_end_plain(up, UPSTREAM_END_NO_TCP, why);
        return;
    }
    up->attempt->addresses = *result;
    up->attempt->first = up->all->first_address;
    up_set_state(up, UP_CONNECTING);
    connect_next(up);
}

void up_attempt_begin(struct upstream *up)
{
    up_set_state(up, UP_RESOLVING);
    up->attempt = calloc(1, sizeof(*up->attempt));
    if (!up->attempt)
        abort(); /* 3 KiB, at most 256 times */
    up->attempt->fd = -1;
    up->attempt->give_up_at_ms = up->all->now_ms + up->service->reconnect.timeout_ms;
    up_deadline(up, up->attempt->give_up_at_ms);
    if (url_split(up->url, &up->parts) != STATUS_OK) {
        up_end_plain(up, UPSTREAM_END_NO_TCP, "expected a ws:// or wss:// URL");
        return;
    }
    if (resolve_start(up->all->loop, up->parts.host, up->parts.port, on_resolved, up,
                      &up->attempt->query) != STATUS_OK)
        up_end_plain(up, UPSTREAM_END_NO_TCP, "out of memory");
}

void up_attempt_deadline(struct upstream *up)
{
    switch ((enum upstream_state)up->state) {
    case UP_RESOLVING:
        up_end_plain(up, UPSTREAM_END_NO_TCP, "could not resolve the host name in time");
        break;
    case UP_CONNECTING:
        drop_socket(up, ETIMEDOUT);
        connect_next(up);
        break;
    case UP_SECURING: up_end_plain(up, UPSTREAM_END_TLS, "TLS handshake took too long"); break;
    case UP_ASKING:
        up_end_plain(up, UPSTREAM_END_TIMEOUT, "no answer to the handshake in time");
        break;
    case UP_WAITING:
    case UP_OPEN:
    case UP_CLOSING:
    case UP_ENDED: break;
    }
}

/* --- the answer --- */

static void refused(struct upstream *up, unsigned http_status)
{
    char why[64];
    snprintf(why, sizeof(why), "refused with HTTP status %u", http_status);
    up_end(up, &(struct upstream_end){.kind = http_status >= 500 ? UPSTREAM_END_AWAY
                                                                 : UPSTREAM_END_REFUSED,
                                      .http_status = http_status,
                                      .reason = why});
}

void up_attempt_answer(struct upstream *up, uint8_t *bytes, size_t len)
{
    struct answer answer = answer_take(&up->attempt->answer, bytes, len);
    switch (answer.verdict) {
    case ANSWER_MORE: return;
    case ANSWER_REFUSES: refused(up, answer.http_status); return;
    case ANSWER_WRONG: up_end_plain(up, UPSTREAM_END_INVALID, answer.why); return;
    case ANSWER_OPENS: break;
    }
    up_free_attempt(up);
    talk_begin(up);
    if (up->state == UP_OPEN && answer.used < len)
        talk_bytes(up, bytes + answer.used, len - answer.used);
}
