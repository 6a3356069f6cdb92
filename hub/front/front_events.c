/*
 * The door of event streams (contract section 6): a GET with Accept: text/event-stream at the URL
 * that a WebSocket would have is answered with what its client is told, one way only.
 *
 * The answer has no length and no chunks: it ends with the connection. So one form serves HTTP/1.0
 * (which nginx speaks to its backends unless told otherwise) and HTTP/1.1, an event has the same
 * bytes for all of its clients, and nothing is put before it a client. That the end of the answer
 * can't be told from a lost connection costs nothing: an event that is not whole is never
 * dispatched, and a reader connects again after both.
 */
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "common/event_stream.h"
#include "common/log.h"
#include "common/url.h"
#include "core/forms.h"
#include "core/hub.h"
#include "front/front_private.h"
#include "front/front_refuse.h"

/* While this node drains, another node can serve the stream at once. */
#define RETRY_MS 1000
/* Browsers' origins are shorter: a host has at most 253 bytes. What is longer gets no answer that a
 * page may read. */
#define ORIGIN_ECHO_MAX 300

/* --- the form --- */

static const struct encoding *publication(void *ctx, unsigned key, struct publication *what,
                                          const char *session)
{
    (void)ctx;
    (void)session; /* a stream has one */
    return publication_encode(what, key, event_publication(what));
}

static struct wire *gap(void *ctx, const struct v1_head *head, uint64_t epoch, uint64_t from,
                        uint64_t to)
{
    (void)ctx;
    (void)head;
    return event_gap(epoch, from, to);
}

static struct wire *welcome(void *ctx, const struct v1_head *head, const struct v1_welcome *what)
{
    (void)ctx;
    (void)head;
    return event_position(what->at);
}

static struct wire *status(void *ctx, const struct v1_head *head, const char *upstream,
                           const char *reason)
{
    (void)ctx;
    (void)head;
    return event_status(upstream, reason);
}

static const struct form events_form = {.name = "event-stream",
                                        .follows = true,
                                        .publication = publication,
                                        .gap = gap,
                                        .welcome = welcome,
                                        .status = status};

void events_register(struct front *front)
{
    front->events_form = form_add(front->hub, &events_form, NULL);
}

/* --- what is asked --- */

static struct http_text cut_at(struct http_text *rest, char mark)
{
    const char *end = memchr(rest->at, mark, rest->len);
    size_t len = end ? (size_t)(end - rest->at) : rest->len;
    struct http_text part = {rest->at, len};
    size_t taken = end ? len + 1 : len;
    rest->at += taken;
    rest->len -= taken;
    while (part.len > 0 && (part.at[0] == ' ' || part.at[0] == '\t')) {
        part.at++;
        part.len--;
    }
    while (part.len > 0 && (part.at[part.len - 1] == ' ' || part.at[part.len - 1] == '\t'))
        part.len--;
    return part;
}

/* "0", "0.", "0.000" (RFC 9110 section 12.4.2): it is not wanted. */
static bool is_zero(struct http_text weight)
{
    if (weight.len == 0 || weight.at[0] != '0' || (weight.len > 1 && weight.at[1] != '.'))
        return false;
    for (size_t i = 2; i < weight.len; i++) {
        if (weight.at[i] != '0')
            return false;
    }
    return true;
}

/* A media range of Accept. Only the type itself: every program's "any type" asks for no stream. */
static bool wants_events(struct http_text range)
{
    if (!http_text_is_word(cut_at(&range, ';'), "text/event-stream"))
        return false;
    while (range.len > 0) {
        struct http_text value = cut_at(&range, ';');
        struct http_text name = cut_at(&value, '=');
        if (http_text_is_word(name, "q"))
            return !is_zero(cut_at(&value, '\0'));
    }
    return true;
}

static bool accepts_events(const struct http_head *head)
{
    size_t index = 0;
    struct http_text value, item;
    while (http_head_next(head, "accept", &index, &value)) {
        while (http_list_next(&value, &item)) {
            if (wants_events(item))
                return true;
        }
    }
    return false;
}

/* What a page may read of the answers. False: no memory. */
static bool name_origin(struct conn *conn, const struct http_head *head)
{
    static const char vary[] = "Vary: Origin\r\n";
    struct http_text origin;
    char *fields = malloc(sizeof(vary) + 128 + ORIGIN_ECHO_MAX);
    if (!fields)
        return false;
    bool named = http_head_one(head, "origin", &origin) && origin.len <= ORIGIN_ECHO_MAX &&
                 handshake_origin_allowed(conn, head);
    int len = snprintf(fields, sizeof(vary), "%s", vary);
    if (named)
        snprintf(fields + len, 128 + ORIGIN_ECHO_MAX,
                 "Access-Control-Allow-Origin: %.*s\r\nAccess-Control-Allow-Credentials: true\r\n",
                 (int)origin.len, origin.at);
    conn->handshake->fields = fields;
    return true;
}

/* Of HTTP/1.1 and HTTP/1.0. False: it has been refused. */
static bool check_request(struct conn *conn, const struct http_head *head)
{
    struct http_text host;
    bool is_old = http_text_is(head->start[2], "HTTP/1.0");
    size_t index = 0;
    if (!is_old && !http_text_is(head->start[2], "HTTP/1.1"))
        refuse(conn, REFUSAL_BAD_HANDSHAKE, "expected HTTP/1.1 or HTTP/1.0");
    else if (handshake_announces_body(head))
        refuse(conn, REFUSAL_BAD_HANDSHAKE,
               "expected a request without a body for an event stream");
    else if (!http_head_one(head, "host", &host) &&
             !(is_old && !http_head_next(head, "host", &index, &host)))
        refuse(conn, REFUSAL_BAD_HANDSHAKE, "expected one Host header");
    else if (!handshake_origin_allowed(conn, head))
        refuse(conn, REFUSAL_ORIGIN, "this Origin is not allowed here");
    else
        return true;
    return false;
}

/* --- the answers --- */

/* A browser asks before it sends a token or a position in a header. The URL does not matter: what
 * is wrong with it the request itself is told, which a page can read. */
static void answer_preflight(struct conn *conn, const struct http_head *head)
{
    if (!handshake_origin_allowed(conn, head)) {
        refuse(conn, REFUSAL_ORIGIN, "this Origin is not allowed here");
        return;
    }
    char text[1024];
    int len = snprintf(text, sizeof(text),
                       "HTTP/1.1 204 No Content\r\n"
                       "Allow: GET, HEAD, OPTIONS\r\n"
                       "Access-Control-Allow-Methods: GET, HEAD\r\n"
                       "Access-Control-Allow-Headers: Authorization, Last-Event-ID\r\n"
                       "Access-Control-Max-Age: 600\r\n"
                       "%s"
                       "Connection: close\r\n\r\n",
                       conn->handshake->fields);
    metric_add(METRIC_PREFLIGHTS, 1);
    answer_and_end(conn, text, (size_t)len);
}

static size_t head_of_stream(const struct conn *conn, char text[1024])
{
    int len = snprintf(text, 1024,
                       "HTTP/1.1 200 OK\r\n"
                       "Content-Type: text/event-stream\r\n"
                       "Cache-Control: no-cache\r\n"
                       "X-Accel-Buffering: no\r\n"
                       "%s"
                       "Connection: close\r\n\r\n",
                       conn->handshake->fields);
    return (size_t)len;
}

/* Nothing of the peer answers a comment but its kernel: one that does not, for as long as a
 * WebSocket client has for its PONG, is given up by ours. Without PINGs all connections have that
 * (front_listen.c). */
static void expect_life(struct conn *conn)
{
    const struct conf *conf = conn->front->conf;
    int unread_ms = (int)conf->clients.ping_timeout_ms;
    if (conf->clients.ping_every_ms != 0)
        setsockopt(socket_fd(&conn->socket), IPPROTO_TCP, TCP_USER_TIMEOUT, &unread_ms,
                   sizeof(unread_ms));
}

static void open_stream(struct conn *conn, const struct target *target, struct grant *grant)
{
    struct front *front = conn->front;
    char text[1024];
    conn->events = true;
    conn->gone_due = true;
    if (door_open(front->hub, &conn->client, target, &conn->handshake->address,
                  front->events_form) != STATUS_OK) {
        conn->gone_due = false;
        refuse(conn, REFUSAL_FULL, "no memory for another session, try again later");
        return;
    }
    handshake_opened(conn, target);
    socket_write(&conn->socket, text, head_of_stream(conn, text));
    conn_set_state(conn, CONN_OPEN);
    conn_enqueue(conn, QUEUE_QUIET);
    expect_life(conn);
    if (front->conf->auth.mode != AUTH_NONE)
        conn_take_pass(conn, target, grant);
}

/* Where the client stood: a browser that comes back names it in a header, and has the older place
 * still in its URL. "0.0" is none. False: no memory. */
static bool take_place(const struct http_head *head, struct target *target)
{
    struct http_text last;
    if (!http_head_one(head, "last-event-id", &last) || last.len == 0 || http_text_is(last, "0.0"))
        return true;
    free(target->resume);
    target->resume = strndup(last.at, last.len);
    return target->resume != NULL;
}

static void serve_target(struct conn *conn, const struct http_head *head, struct target *target)
{
    struct front *front = conn->front;
    struct grant grant;
    const char *why;
    char text[1024];
    if (!handshake_take_place(conn))
        return;
    enum grant_verdict verdict = conn_check_token(front, head, target, &grant, &why);
    if (verdict != GRANT_GIVEN) {
        admit_release_ip(conn); /* the connection stays a moment for its close */
        refuse(conn, verdict == GRANT_REFUSED ? REFUSAL_UNAUTHORIZED : REFUSAL_NOT_COVERED, why);
        return;
    }
    if (conn->handshake->no_content) {
        admit_release_ip(conn);
        answer_and_end(conn, text, head_of_stream(conn, text));
    } else if (!take_place(head, target)) {
        refuse(conn, REFUSAL_FULL, "out of memory");
    } else {
        open_stream(conn, target, &grant);
    }
    grant_fini(&grant);
}

static void serve(struct conn *conn, const struct http_head *head)
{
    struct front *front = conn->front;
    const struct url_options options = {.take_token = front->conf->auth.mode == AUTH_JWT,
                                        .protocol_client = true};
    struct target target;
    const char *why;
    if (!check_request(conn, head))
        return;
    struct http_text path = handshake_path(head->start[1]);
    enum status found = url_parse(front->conf, path.at, path.len, &options, &target, &why);
    if (found != STATUS_OK) {
        refuse(conn, found == STATUS_NOT_FOUND ? REFUSAL_NO_SERVICE : REFUSAL_MALFORMED_URL, why);
        return;
    }
    serve_target(conn, head, &target);
    target_fini(&target);
}

bool events_serve(struct conn *conn, const struct http_head *head)
{
    bool is_options = http_text_is(head->start[0], "OPTIONS");
    bool is_read = http_text_is(head->start[0], "GET") || http_text_is(head->start[0], "HEAD");
    if (!is_options &&
        !(is_read && accepts_events(head) && !http_head_lists(head, "upgrade", "websocket")))
        return false;
    if (!name_origin(conn, head))
        refuse(conn, REFUSAL_FULL, "out of memory");
    else if (is_options)
        answer_preflight(conn, head);
    else
        serve(conn, head);
    return true;
}

/* --- while it is open --- */

/* A stream is one way: nothing that comes is read. */
void events_input(struct conn *conn, size_t len)
{
    if (conn->state != CONN_OPEN)
        return;
    conn->discarded += (uint32_t)len;
    if (conn->discarded <= DISCARD_MAX)
        return;
    metric_drop(DROP_MALFORMED, 1);
    client_close(&conn->client, CLOSE_PROTOCOL_ERROR, "an event stream takes no input");
}

void events_ping(struct conn *conn)
{
    static const char comment[] = ":\n\n";
    if (!socket_blocked(&conn->socket))
        socket_write(&conn->socket, comment, sizeof(comment) - 1);
}

/* The time after which to reconnect, ms; 0: the client decides. */
static unsigned long retry_after(unsigned code, const char *reason)
{
    const char *at = reason && code == CLOSE_TRY_LATER ? strstr(reason, "retry=") : NULL;
    if (code == CLOSE_RESTART)
        return RETRY_MS;
    return at ? strtoul(at + strlen("retry="), NULL, 10) : 0;
}

void events_end(struct conn *conn, unsigned code, const char *reason)
{
    unsigned long retry_ms = retry_after(code, reason);
    char text[256];
    int len = snprintf(text, sizeof(text), ": %u %.120s", code, reason ? reason : "");
    for (int i = 0; i < len; i++) {
        if ((unsigned char)text[i] < ' ')
            text[i] = ' '; /* a line end would end the comment */
    }
    len += snprintf(text + len, sizeof(text) - (size_t)len, "\n");
    if (retry_ms != 0)
        len += snprintf(text + len, sizeof(text) - (size_t)len, "retry: %lu\n", retry_ms);
    len += snprintf(text + len, sizeof(text) - (size_t)len, "\n");
    socket_write(&conn->socket, text, (size_t)len);
    socket_shut(&conn->socket);
}
