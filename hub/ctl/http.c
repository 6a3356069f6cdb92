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

enum { CONNECT_S = 5, HEAD_MAX = 16384, CHUNK_MAX = 64 << 20 };

/* Bytes read and not consumed yet. */
struct reader {
    int fd;
    size_t at, len;
    char bytes[HEAD_MAX];
};

enum status http_url_parse(const char *url, struct http_url *out)
{
    static const char scheme[] = "http://";
    if (strncmp(url, scheme, sizeof scheme - 1) != 0)
        return STATUS_INVALID;
    const char *authority = url + sizeof scheme - 1;
    size_t authority_len = strcspn(authority, "/");
    const char *host = authority[0] == '[' ? authority + 1 : authority;
    size_t host_len = authority[0] == '[' ? strcspn(host, "]") : strcspn(host, ":/");
    const char *port = host + host_len + (authority[0] == '[');
    const char *path = authority + authority_len;
    size_t path_len = strlen(path);
    while (path_len > 0 && path[path_len - 1] == '/')
        path_len--;
    size_t port_len = *port == ':' ? strcspn(port + 1, "/") : 0;
    if (host_len == 0 || host_len >= sizeof out->host || path_len >= sizeof out->path ||
        port_len >= sizeof out->port || port > path || strpbrk(authority, " \r\n@"))
        return STATUS_INVALID;
    (void)snprintf(out->host, sizeof out->host, "%.*s", (int)host_len, host);
    (void)snprintf(out->path, sizeof out->path, "%.*s", (int)path_len, path);
    (void)snprintf(out->port, sizeof out->port, "%.*s", port_len ? (int)port_len : 2,
                   port_len ? port + 1 : "80");
    return STATUS_OK;
}

static int open_socket(const struct addrinfo *info)
{
    int fd = socket(info->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct timeval patience = {.tv_sec = CONNECT_S};
    if (fd < 0)
        return -1;
    /* The send timeout bounds connect(2) as well. */
    if (setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience) == 0 &&
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

static enum status send_request(int fd, const struct http_request *request, const char **why)
{
    const struct http_url *url = request->url;
    bool v6 = strchr(url->host, ':') != NULL;
    char *head = NULL;
    int len = asprintf(
        &head,
        "%s %s%s HTTP/1.1\r\nHost: %s%s%s:%s\r\nConnection: close\r\nAccept: application/json\r\n"
        "%s%s%s%sContent-Length: %zu\r\n\r\n",
        request->method, url->path, request->path, v6 ? "[" : "", url->host, v6 ? "]" : "",
        url->port, request->token ? "Authorization: Bearer " : "",
        request->token ? request->token : "", request->token ? "\r\n" : "",
        request->body ? "Content-Type: application/json\r\n" : "", request->body_len);
    if (len < 0)
        abort();
    enum status status = send_all(fd, head, (size_t)len, why);
    free(head);
    if (status == STATUS_OK && request->body)
        status = send_all(fd, request->body, request->body_len, why);
    return status;
}

/* Reads more behind what is there. STATUS_NOT_FOUND: the other side has ended. */
static enum status fill(struct reader *reader, const char **why)
{
    if (reader->at > 0) {
        memmove(reader->bytes, reader->bytes + reader->at, reader->len - reader->at);
        reader->len -= reader->at;
        reader->at = 0;
    }
    for (;;) {
        ssize_t n = recv(reader->fd, reader->bytes + reader->len,
                         sizeof reader->bytes - reader->len, 0);
        if (n > 0) {
            reader->len += (size_t)n;
            return STATUS_OK;
        }
        if (n < 0 && errno == EINTR)
            continue;
        *why = n == 0            ? "connection closed early"
               : errno == EAGAIN ? "no answer in time"
                                 : strerror(errno);
        return n == 0 ? STATUS_NOT_FOUND : errno == EAGAIN ? STATUS_TIMEOUT : STATUS_IO;
    }
}

/* The next line without its end, terminated in place. */
static enum status read_line(struct reader *reader, char **out, const char **why)
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
        if (reader->at == 0 && reader->len == sizeof reader->bytes)
            return STATUS_INVALID;
        enum status status = fill(reader, why);
        if (status != STATUS_OK)
            return status == STATUS_NOT_FOUND ? STATUS_IO : status;
    }
}

struct head {
    int status;
    bool chunked;
    bool has_length;
    unsigned long long length;
};

static enum status read_head(struct reader *reader, struct head *head, const char **why)
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

/* Passes on len bytes; STATUS_AGAIN: the callback has had enough. */
static enum status pass_on(struct reader *reader, unsigned long long len, http_body_fn *fn,
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

static enum status pass_chunks(struct reader *reader, http_body_fn *fn, void *ctx, const char **why)
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

static enum status read_body(struct reader *reader, const struct head *head, http_body_fn *fn,
                             void *ctx, const char **why)
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
    struct reader reader = {.fd = -1};
    enum status status = http_connect(request->url, &reader.fd, why);
    if (status != STATUS_OK)
        return status;
    struct timeval patience = {.tv_sec = quiet_s};
    (void)setsockopt(reader.fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    struct head head = {0};
    status = send_request(reader.fd, request, why);
    if (status == STATUS_OK)
        status = read_head(&reader, &head, why);
    if (status == STATUS_OK) {
        *out_http_status = head.status; /* the callback may look at it */
        status = read_body(&reader, &head, fn, ctx, why);
    }
    (void)close(reader.fd);
    return status;
}
