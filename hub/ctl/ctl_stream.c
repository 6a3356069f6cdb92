#include "ctl_stream.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "http.h"
#include "lines.h"

enum {
    QUIET_S = 120, /* the hub sends a comment every clients.ping.every, by default 25 s */
    ATTEMPTS = 10,
    RETRY_MS = 1000,
    RETRY_MAX_MS = 60000,
};

/* A stream that is followed, and the event that is being read. */
struct follower {
    const struct ctl_stream_setup *setup;
    source_message_fn *fn;
    void *ctx;
    int http_status;
    bool over;            /* fn has returned false */
    bool opened;          /* the present connection was answered 200 */
    char id[64];          /* of the latest event with an id: the position to resume after */
    char event[16];       /* name of the event that is being read */
    struct ctl_text data; /* its data lines, each with LF */
    bool has_data;
    long retry_ms;
    struct ctl_text rest; /* an incomplete line */
    struct ctl_text body; /* the body of a refusal */
};

bool ctl_stream_is_url(const char *text)
{
    return strncmp(text, "http://", 7) == 0 || strncmp(text, "https://", 8) == 0;
}

/* --- one event --- */

static json_t *message_json(const struct follower *follower, bool binary)
{
    char *dot, *end;
    uint64_t epoch = strtoull(follower->id, &dot, 10);
    if (dot == follower->id || *dot != '.')
        return NULL;
    uint64_t offset = strtoull(dot + 1, &end, 10);
    if (end == dot + 1)
        return NULL;
    return json_pack("{s:I, s:I, s:s, s:s%}", "epoch", (json_int_t)epoch, "offset",
                     (json_int_t)offset, "encoding", binary ? "base64" : "text", "payload",
                     follower->data.at, follower->data.len - 1);
}

static json_t *event_json(const struct follower *follower)
{
    bool binary = strcmp(follower->event, "binary") == 0;
    if (binary || strcmp(follower->event, "message") == 0)
        return message_json(follower, binary);
    if (strcmp(follower->event, "status") != 0 && strcmp(follower->event, "gap") != 0)
        return NULL;
    json_t *payload = json_loadb(follower->data.at, follower->data.len, 0, NULL);
    return payload ? json_pack("{s:o}", follower->event, payload) : NULL;
}

/* Passes the event on. An event without data or with an unknown name is ignored. */
static bool dispatch(struct follower *follower)
{
    json_t *json = follower->has_data ? event_json(follower) : NULL;
    follower->over = json && !follower->fn(follower->ctx, json);
    json_decref(json);
    follower->event[0] = '\0';
    follower->data.len = 0;
    follower->has_data = false;
    return !follower->over;
}

/* The value of a line "NAME: VALUE"; NULL: it is another field. */
static const char *value_of(const char *line, const char *name)
{
    size_t len = strlen(name);
    if (strncmp(line, name, len) != 0 || line[len] != ':')
        return NULL;
    return line + len + (line[len + 1] == ' ' ? 2 : 1);
}

static bool on_line(void *ctx, const char *line, size_t len)
{
    struct follower *follower = ctx;
    const char *value;
    if (!*line)
        return dispatch(follower);
    if ((value = value_of(line, "data"))) {
        follower->has_data = true;
        return text_add(&follower->data, value, len - (size_t)(value - line)) &&
               text_add(&follower->data, "\n", 1);
    }
    if ((value = value_of(line, "event")))
        (void)snprintf(follower->event, sizeof(follower->event), "%s", value);
    else if ((value = value_of(line, "id")))
        (void)snprintf(follower->id, sizeof(follower->id), "%s", value);
    else if ((value = value_of(line, "retry")))
        follower->retry_ms = strtol(value, NULL, 10);
    return true;
}

static bool on_body(void *ctx, const char *data, size_t len)
{
    struct follower *follower = ctx;
    if (follower->http_status != 200)
        return text_add(&follower->body, data, len);
    follower->opened = true;
    return lines_add(&follower->rest, data, len, on_line, follower);
}

/* --- the stream, again and again --- */

/* Follows the stream over one connection. STATUS_AGAIN: it has ended, or could not be made. */
static enum status follow_once(struct follower *follower, const struct http_url *url,
                               const char *path, char *why, size_t why_len)
{
    const struct http_request request = {.url = url,
                                         .tls = follower->setup->tls,
                                         .method = "GET",
                                         .path = path,
                                         .accept = "text/event-stream",
                                         .after_id = follower->id[0] ? follower->id : NULL,
                                         .token = follower->setup->token};
    const char *trouble = "the stream has ended";
    follower->rest.len = follower->data.len = follower->body.len = 0;
    follower->has_data = follower->opened = false;
    follower->http_status = 0;
    enum status status = http_ask(&request, QUIET_S, &follower->http_status, on_body, follower,
                                  &trouble);
    if (follower->over)
        return STATUS_OK;
    if (status == STATUS_OK && follower->http_status != 200) {
        int line = follower->body.len ? (int)strcspn(follower->body.at, "\r\n") : 0;
        (void)snprintf(why, why_len, "%.*s (HTTP %d)", line, line ? follower->body.at : "",
                       follower->http_status);
        return follower->http_status == 404   ? STATUS_NOT_FOUND
               : follower->http_status == 503 ? STATUS_AGAIN
                                              : STATUS_REFUSED;
    }
    (void)snprintf(why, why_len, "%s://%s:%s: %s", url->tls ? "https" : "http", url->host,
                   url->port, trouble);
    return STATUS_AGAIN;
}

static void wait_ms(long ms)
{
    if (ms < 0 || ms > RETRY_MAX_MS)
        ms = RETRY_MS;
    (void)usleep((useconds_t)ms * 1000);
}

/* Connects again and again. If the first connection fails, it gives up, since the address may be
 * mistyped. */
static enum status follow(struct follower *follower, const struct http_url *url, const char *path,
                          char *why, size_t why_len)
{
    int failures = 0;
    bool ever = false;
    for (;;) {
        enum status status = follow_once(follower, url, path, why, why_len);
        ever = ever || follower->opened;
        failures = follower->opened ? 0 : failures + 1;
        if (status != STATUS_AGAIN)
            return status;
        if (!ever || failures == ATTEMPTS)
            return STATUS_IO;
        wait_ms(follower->retry_ms);
    }
}

enum status ctl_stream_tail(const struct ctl_stream_setup *setup, source_message_fn *fn, void *ctx,
                            char *why, size_t why_len)
{
    struct follower follower = {.setup = setup, .fn = fn, .ctx = ctx, .retry_ms = RETRY_MS};
    struct http_url url;
    const char *authority = strstr(setup->url, "://") + 3;
    const char *path = authority + strcspn(authority, "/");
    char *base = strndup(setup->url, (size_t)(path - setup->url));
    if (!base)
        abort();
    enum status status = STATUS_INVALID;
    if (!*path || strpbrk(path, " \r\n") || http_url_parse(base, &url) != STATUS_OK)
        (void)snprintf(why, why_len, "expected http://host:port/user/vin?service, got %s",
                       setup->url);
    else
        status = follow(&follower, &url, path, why, why_len);
    free(base);
    free(follower.data.at);
    free(follower.rest.at);
    free(follower.body.at);
    return status;
}
