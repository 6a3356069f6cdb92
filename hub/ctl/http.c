#include "http.h"

#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "loop/tls.h"

#define CONNECT_S 5
#define HEAD_MAX  16384
#define CHUNK_MAX (64 << 20)

/* A connection, with or without TLS. */
struct http_channel {
    int fd;
    struct tls_context *context; /* NULL: plain */
    struct tls *tls;
};

/* A connection, and the bytes that are read from it and not consumed yet. */
struct http_reader {
    struct http_channel channel;
    size_t at, len;
    char bytes[HEAD_MAX];
};

enum status http_url_parse(const char *url, struct http_url *out)
{
    bool tls = strncmp(url, "https://", 8) == 0;
    if (!tls && strncmp(url, "http://", 7) != 0)
        return STATUS_INVALID;
    const char *authority = url + (tls ? 8 : 7);
    size_t authority_len = strcspn(authority, "/");
    const char *host = authority[0] == '[' ? authority + 1 : authority;
    size_t host_len = authority[0] == '[' ? strcspn(host, "]") : strcspn(host, ":/");
    const char *port = host + host_len + (authority[0] == '[');
    const char *path = authority + authority_len;
    size_t path_len = strlen(path);
    while (path_len > 0 && path[path_len - 1] == '/')
        path_len--;
    size_t port_len = *port == ':' ? strcspn(port + 1, "/") : 0;
    if (host_len == 0 || host_len >= sizeof(out->host) || path_len >= sizeof(out->path) ||
        port_len >= sizeof(out->port) || port > path || strpbrk(authority, " \r\n@"))
        return STATUS_INVALID;
    (void)snprintf(out->host, sizeof(out->host), "%.*s", (int)host_len, host);
    (void)snprintf(out->path, sizeof(out->path), "%.*s", (int)path_len, path);
    (void)snprintf(out->port, sizeof(out->port), "%.*s", port_len ? (int)port_len : 3,
                   port_len ? port + 1
                   : tls    ? "443"
                            : "80");
    out->tls = tls;
    return STATUS_OK;
}

static int open_socket(const struct addrinfo *info)
{
    int fd = socket(info->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct timeval patience = {.tv_sec = CONNECT_S};
    if (fd < 0)
        return -1;
    /* The send timeout bounds connect(2) as well. */
    if (setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience)) == 0 &&
        connect(fd, info->ai_addr, info->ai_addrlen) == 0)
        return fd;
    int why = errno == EINPROGRESS ? ETIMEDOUT : errno;
    (void)close(fd);
    errno = why;
    return -1;
}

static enum status http_connect(const struct http_url *url, int *out, const char **why)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    struct addrinfo *found = NULL;
    int result = getaddrinfo(url->host, url->port, &hints, &found);
    if (result != 0) {
        *why = gai_strerror(result);
        return STATUS_IO;
    }
    int fd = -1;
    for (struct addrinfo *info = found; info && fd < 0; info = info->ai_next)
        fd = open_socket(info);
    *why = strerror(errno);
    freeaddrinfo(found);
    if (fd < 0)
        return STATUS_IO;
    *out = fd;
    return STATUS_OK;
}

static enum status send_all(int fd, const char *data, size_t len, const char **why)
{
    for (size_t sent = 0; sent < len;) {
        ssize_t n = send(fd, data + sent, len - sent, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            *why = strerror(errno);
            return STATUS_IO;
        }
        sent += (size_t)n;
    }
    return STATUS_OK;
}

/* --- TLS, for an https URL --- */

static char tls_trouble[TLS_WHY_BYTES];

static enum status fail_tls(const char *what, const char **why)
{
    if (what != tls_trouble)
        (void)snprintf(tls_trouble, sizeof(tls_trouble), "%s", what);
    *why = tls_trouble;
    return STATUS_IO;
}

/* Sends the records that TLS has for the other side. */
static enum status send_records(struct http_channel *channel, const char **why)
{
    const uint8_t *bytes;
    size_t len = tls_pending(channel->tls, &bytes);
    enum status status = send_all(channel->fd, (const char *)bytes, len, why);
    tls_sent(channel->tls);
    return status;
}

/* STATUS_NOT_FOUND: the other side has ended the connection. */
static enum status receive_some(int fd, void *bytes, size_t cap, size_t *out, const char **why)
{
    ssize_t n;
    do
        n = recv(fd, bytes, cap, 0);
    while (n < 0 && errno == EINTR);
    if (n > 0) {
        *out = (size_t)n;
        return STATUS_OK;
    }
    *why = n == 0            ? "connection closed before the end of the answer"
           : errno == EAGAIN ? "no answer in time"
                             : strerror(errno);
    return n == 0 ? STATUS_NOT_FOUND : errno == EAGAIN ? STATUS_TIMEOUT : STATUS_IO;
}

static enum status receive_records(struct http_channel *channel, const char **why)
{
    uint8_t bytes[HEAD_MAX];
    size_t len;
    enum status status = receive_some(channel->fd, bytes, sizeof(bytes), &len, why);
    if (status == STATUS_OK && tls_feed(channel->tls, bytes, len) != STATUS_OK)
        status = fail_tls(tls_why(channel->tls), why);
    enum status sent = send_records(channel, why); /* after a failure, an alert with the cause */
    return status != STATUS_OK ? status : sent;
}

static enum status secure(struct http_channel *channel, const struct http_request *request,
                          const char **why)
{
    if (!request->url->tls)
        return STATUS_OK;
    if (tls_context_client(request->tls, &channel->context, tls_trouble, sizeof(tls_trouble)) !=
        STATUS_OK)
        return fail_tls(tls_trouble, why);
    channel->tls = tls_new(channel->context, request->url->host);
    if (!channel->tls)
        abort();
    enum status status = send_records(channel, why);
    while (status == STATUS_OK && !tls_ready(channel->tls))
        status = receive_records(channel, why);
    return status == STATUS_NOT_FOUND ? STATUS_IO : status;
}

static enum status channel_send(struct http_channel *channel, const char *data, size_t len,
                                const char **why)
{
    if (!channel->tls)
        return send_all(channel->fd, data, len, why);
    if (tls_write(channel->tls, data, len) != STATUS_OK)
        return fail_tls(tls_why(channel->tls), why);
    return send_records(channel, why);
}

static enum status channel_receive(struct http_channel *channel, char *bytes, size_t cap,
                                   size_t *out, const char **why)
{
    if (!channel->tls)
        return receive_some(channel->fd, bytes, cap, out, why);
    enum status status = STATUS_OK;
    while (status == STATUS_OK && !(*out = tls_read(channel->tls, (uint8_t *)bytes, cap))) {
        *why = "connection closed before the end of the answer";
        status = tls_ended(channel->tls) ? STATUS_NOT_FOUND : receive_records(channel, why);
    }
    return status;
}

static void channel_close(struct http_channel *channel)
{
    tls_free(channel->tls);
    tls_context_free(channel->context);
    (void)close(channel->fd);
}

/* --- the request and its answer --- */

static enum status send_request(struct http_channel *channel, const struct http_request *request,
                                const char **why)
{
    const struct http_url *url = request->url;
    bool v6 = strchr(url->host, ':') != NULL;
    char *head = NULL;
    int len = asprintf(
        &head,
        "%s %s%s HTTP/1.1\r\nHost: %s%s%s:%s\r\nConnection: close\r\nAccept: %s\r\n"
        "%s%s%s%s%s%s%sContent-Length: %zu\r\n\r\n",
        request->method, url->path, request->path, v6 ? "[" : "", url->host, v6 ? "]" : "",
        url->port, request->accept ? request->accept : "application/json",
        request->after_id ? "Last-Event-ID: " : "", request->after_id ? request->after_id : "",
        request->after_id ? "\r\n" : "", request->token ? "Authorization: Bearer " : "",
        request->token ? request->token : "", request->token ? "\r\n" : "",
        request->body ? "Content-Type: application/json\r\n" : "", request->body_len);
    if (len < 0)
        abort();
    enum status status = channel_send(channel, head, (size_t)len, why);
    free(head);
    if (status == STATUS_OK && request->body)
        status = channel_send(channel, request->body, request->body_len, why);
    return status;
}

/* Reads more bytes into the buffer. STATUS_NOT_FOUND: the other side has ended the connection. */
static enum status fill(struct http_reader *reader, const char **why)
{
    if (reader->at > 0) {
        memmove(reader->bytes, reader->bytes + reader->at, reader->len - reader->at);
        reader->len -= reader->at;
        reader->at = 0;
    }
    size_t n;
    enum status status = channel_receive(&reader->channel, reader->bytes + reader->len,
                                         sizeof(reader->bytes) - reader->len, &n, why);
    if (status == STATUS_OK)
        reader->len += n;
    return status;
}

/* The next line without its end, terminated in place. */
static enum status read_line(struct http_reader *reader, char **out, const char **why)
{
    for (;;) {
        char *start = reader->bytes + reader->at;
        char *end = memchr(start, '\n', reader->len - reader->at);
        if (end) {
            *end = '\0';
            if (end > start && end[-1] == '\r')
                end[-1] = '\0';
            reader->at = (size_t)(end + 1 - reader->bytes);
            *out = start;
            return STATUS_OK;
        }
        *why = "answer is not HTTP";
        if (reader->at == 0 && reader->len == sizeof(reader->bytes))
            return STATUS_INVALID;
        enum status status = fill(reader, why);
        if (status != STATUS_OK)
            return status == STATUS_NOT_FOUND ? STATUS_IO : status;
    }
}

struct answer_head {
    int status;
    bool chunked;
    bool has_length;
    unsigned long long length;
};

static enum status read_head(struct http_reader *reader, struct answer_head *head, const char **why)
{
    char *line = NULL;
    enum status status = read_line(reader, &line, why);
    if (status != STATUS_OK)
        return status;
    *why = "answer is not HTTP";
    if (strncmp(line, "HTTP/1.", 7) != 0 || strlen(line) < 12)
        return STATUS_INVALID;
    head->status = (int)strtol(line + 9, NULL, 10);
    while ((status = read_line(reader, &line, why)) == STATUS_OK && *line) {
        if (strncasecmp(line, "Transfer-Encoding:", 18) == 0)
            head->chunked = strcasestr(line, "chunked") != NULL;
        if (strncasecmp(line, "Content-Length:", 15) == 0) {
            head->has_length = true;
            head->length = strtoull(line + 15, NULL, 10);
        }
    }
    return status;
}

/* Passes len bytes to fn. STATUS_AGAIN: fn has returned false. */
static enum status pass_on(struct http_reader *reader, unsigned long long len, http_body_fn *fn,
                           void *ctx, const char **why)
{
    while (len > 0) {
        if (reader->at == reader->len) {
            enum status status = fill(reader, why);
            if (status != STATUS_OK)
                return status;
        }
        size_t n = reader->len - reader->at < len ? reader->len - reader->at : (size_t)len;
        const char *data = reader->bytes + reader->at;
        reader->at += n;
        len -= n;
        if (!fn(ctx, data, n))
            return STATUS_AGAIN;
    }
    return STATUS_OK;
}

static enum status pass_chunks(struct http_reader *reader, http_body_fn *fn, void *ctx,
                               const char **why)
{
    for (;;) {
        char *line = NULL;
        enum status status = read_line(reader, &line, why);
        if (status != STATUS_OK)
            return status;
        unsigned long len = strtoul(line, NULL, 16);
        *why = "answer is not HTTP";
        if (len > CHUNK_MAX)
            return STATUS_INVALID;
        if (len == 0)
            return STATUS_OK;
        status = pass_on(reader, len, fn, ctx, why);
        if (status == STATUS_OK)
            status = read_line(reader, &line, why);
        if (status != STATUS_OK)
            return status;
    }
}

static enum status read_body(struct http_reader *reader, const struct answer_head *head,
                             http_body_fn *fn, void *ctx, const char **why)
{
    enum status status = head->chunked ? pass_chunks(reader, fn, ctx, why)
                                       : pass_on(reader, head->has_length ? head->length : ~0ULL,
                                                 fn, ctx, why);
    bool ended_by_close = status == STATUS_NOT_FOUND && !head->chunked && !head->has_length;
    if (status == STATUS_AGAIN || ended_by_close)
        return STATUS_OK;
    return status == STATUS_NOT_FOUND ? STATUS_IO : status;
}

enum status http_ask(const struct http_request *request, int quiet_s, int *out_http_status,
                     http_body_fn *fn, void *ctx, const char **why)
{
    struct http_reader reader = {.channel.fd = -1};
    struct http_channel *channel = &reader.channel;
    enum status status = http_connect(request->url, &channel->fd, why);
    if (status != STATUS_OK)
        return status;
    struct timeval patience = {.tv_sec = quiet_s};
    (void)setsockopt(channel->fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    struct answer_head head = {0};
    status = secure(channel, request, why);
    if (status == STATUS_OK)
        status = send_request(channel, request, why);
    if (status == STATUS_OK)
        status = read_head(&reader, &head, why);
    if (status == STATUS_OK) {
        *out_http_status = head.status; /* set first: fn may read it */
        status = read_body(&reader, &head, fn, ctx, why);
    }
    channel_close(channel);
    return status;
}
