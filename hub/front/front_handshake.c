/*
 * The opening handshake (RFC 6455 section 4.2): decides on a request, and answers with 101 or with
 * a status and a line of text that says why. front_request.c reads it.
 */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/address.h"
#include "common/log.h"
#include "common/url.h"
#include "core/client/retry.h"
#include "core/hub.h"
#include "front/front_private.h"
#include "front/front_refuse.h"

#define NOT_SERVED \
    "this port serves WebSocket, and event streams to requests with Accept: text/event-stream"

/* A request while it is checked, and what it asks for. */
struct handshake_request {
    struct http_head head;
    struct http_text key;
    struct http_text protocol; /* the answer; empty for none */
    enum protocol kind;
    struct deflate_terms deflate;
    const char *forbidden; /* why the token is refused; NULL: it is not */
    struct grant grant;    /* what the token allows; empty without a token or if it is refused */
};

/* --- what is asked --- */

/* 16 bytes in base64. */
static bool key_is_valid(struct http_text key)
{
    if (key.len != 24 || memcmp(key.at + 22, "==", 2) != 0)
        return false;
    for (size_t i = 0; i < 22; i++) {
        unsigned char c = (unsigned char)key.at[i];
        if (!isalnum(c) && c != '+' && c != '/')
            return false;
    }
    return true;
}

/* A proxy in front would take what follows the head for a body, and we for frames (request
 * smuggling). */
bool handshake_announces_body(const struct http_head *head)
{
    struct http_text value;
    size_t index = 0;
    if (http_head_next(head, "transfer-encoding", &index, &value))
        return true;
    for (index = 0; http_head_next(head, "content-length", &index, &value);) {
        size_t zeros = 0;
        while (zeros < value.len && value.at[zeros] == '0')
            zeros++;
        if (zeros == 0 || zeros < value.len)
            return true;
    }
    return false;
}

/* Both headers are of one hop: a proxy passes neither on unless it is configured to. */
static const char *no_upgrade_reason(const struct http_head *head)
{
    if (http_head_lists(head, "upgrade", "websocket"))
        return "expected Connection: Upgrade beside Upgrade: websocket; a proxy in front may "
               "have dropped it";
    size_t index = 0;
    struct http_text key;
    if (http_head_next(head, "sec-websocket-key", &index, &key))
        return "expected Upgrade: websocket in a WebSocket handshake; a proxy in front may have "
               "dropped it";
    return NOT_SERVED;
}

static bool check_upgrade(struct conn *conn, struct handshake_request *request)
{
    const struct http_head *head = &request->head;
    struct http_text version;
    if (http_text_is(head->start[0], "HEAD")) {
        refuse(conn, REFUSAL_NO_UPGRADE, NOT_SERVED);
        return false;
    }
    if (!http_text_is(head->start[0], "GET")) {
        refuse(conn, REFUSAL_METHOD, "expected GET, HEAD or OPTIONS");
        return false;
    }
    if (!http_text_is(head->start[2], "HTTP/1.1")) {
        refuse(conn, REFUSAL_BAD_HANDSHAKE, "expected HTTP/1.1 (nginx: proxy_http_version 1.1)");
        return false;
    }
    if (!http_head_lists(head, "upgrade", "websocket") ||
        !http_head_lists(head, "connection", "upgrade")) {
        refuse(conn, REFUSAL_NO_UPGRADE, no_upgrade_reason(head));
        return false;
    }
    if (handshake_announces_body(head)) {
        refuse(conn, REFUSAL_BAD_HANDSHAKE, "expected a WebSocket handshake without a body");
        return false;
    }
    if (!http_head_one(head, "sec-websocket-version", &version) || !http_text_is(version, "13")) {
        refuse(conn, REFUSAL_NO_UPGRADE, "expected Sec-WebSocket-Version: 13");
        return false;
    }
    if (!http_head_one(head, "sec-websocket-key", &request->key) || !key_is_valid(request->key)) {
        refuse(conn, REFUSAL_BAD_HANDSHAKE, "Sec-WebSocket-Key is missing or malformed");
        return false;
    }
    struct http_text host;
    if (!http_head_one(head, "host", &host)) {
        refuse(conn, REFUSAL_BAD_HANDSHAKE, "expected one Host header");
        return false;
    }
    return true;
}

/* The target may come as an http or https URI as well (RFC 6455 section 4.2.1), from some forward
 * proxies as a ws or wss one; whom its authority names does not matter here. */
struct http_text handshake_path(struct http_text target)
{
    static const char *const schemes[] = {"http://", "https://", "ws://", "wss://"};
    for (size_t i = 0; i < sizeof(schemes) / sizeof(*schemes); i++) {
        size_t len = strlen(schemes[i]);
        if (target.len <= len || strncasecmp(target.at, schemes[i], len) != 0)
            continue;
        const char *slash = memchr(target.at + len, '/', target.len - len);
        if (slash)
            return (struct http_text){slash, target.len - (size_t)(slash - target.at)};
    }
    return target;
}

/* Contract section 5: ours if offered, else "bearer", else the first, whatever its length: a
 * browser drops a connection whose offer gets no answer. False: malformed. */
static bool choose_protocol(struct handshake_request *request)
{
    size_t index = 0;
    struct http_text value, item, first = {0}, bearer = {0};
    while (http_head_next(&request->head, "sec-websocket-protocol", &index, &value)) {
        while (http_list_next(&value, &item)) {
            if (!http_text_is_token(item))
                return false;
            bool json = http_text_is(item, "vinhub.v1"),
                 msgpack = http_text_is(item, "vinhub.v1.msgpack");
            if ((json || msgpack) && request->kind == PROTOCOL_RAW) {
                request->kind = json ? PROTOCOL_JSON : PROTOCOL_MSGPACK;
                request->protocol = item;
            }
            if (first.len == 0)
                first = item;
            if (http_text_is(item, "bearer"))
                bearer = item;
        }
    }
    if (request->kind == PROTOCOL_RAW)
        request->protocol = bearer.len > 0 ? bearer : first;
    return true;
}

bool handshake_origin_allowed(const struct conn *conn, const struct http_head *head)
{
    struct http_text origin, other;
    size_t index = 0;
    bool has = http_head_next(head, "origin", &index, &origin);
    bool one = !has || !http_head_next(head, "origin", &index, &other);
    return one && admit_origin(conn->front->admit, has ? &origin : NULL);
}

static bool check_origin(struct conn *conn, const struct handshake_request *request)
{
    if (handshake_origin_allowed(conn, &request->head))
        return true;
    refuse(conn, REFUSAL_ORIGIN, "this Origin is not allowed here");
    return false;
}

/* How many descriptors to reserve: one for each upstream of a session owned here that is not
 * connected yet. An accepted client must not find that none is left for its upstream. */
static int upstreams_owed(const struct front *front)
{
    struct hub_counts counts;
    hub_count(front->hub, &counts);
    return counts.owned > counts.upstreams ? (int)(counts.owned - counts.upstreams) : 0;
}

bool handshake_take_place(struct conn *conn)
{
    struct front *front = conn->front;
    if (!hub_ready(front->hub)) {
        bool leaving = hub_state(front->hub) == NODE_DRAINING ||
                       hub_state(front->hub) == NODE_STOPPED;
        refuse(conn, REFUSAL_DRAINING,
               leaving ? "this node is draining" : "this node is not ready");
        return false;
    }
    /* The lowest free descriptor was given: its number says how many are in use. Half-open
     * handshakes make room (front_listen.c). */
    int used = socket_fd(&conn->socket) - (int)(front->connections - front->open);
    if (used + upstreams_owed(front) >= front->descriptors_max ||
        (front->conf->clients.max > 0 && front->open >= front->conf->clients.max)) {
        refuse(conn, REFUSAL_FULL, "this node is full");
        return false;
    }
    if (!admit_take_ip(front, conn, &conn->handshake->address)) {
        refuse(conn, REFUSAL_PER_IP, "too many connections of this address");
        return false;
    }
    return true;
}

/* --- the answer --- */

static void write_answer(struct conn *conn, const struct handshake_request *request)
{
    char accept[WS_ACCEPT_SIZE],
        text[HANDSHAKE_HEAD_MAX + 512]; /* the protocol is part of a head */
    ws_accept_key(request->key, accept);
    bool named = request->protocol.len > 0, deflates = request->deflate.window_bits != 0;
    int len = snprintf(text, sizeof(text),
                       "HTTP/1.1 101 Switching Protocols\r\n"
                       "Upgrade: websocket\r\n"
                       "Connection: Upgrade\r\n"
                       "Sec-WebSocket-Accept: %s\r\n"
                       "%s%.*s%s%s%s%s\r\n",
                       accept, named ? "Sec-WebSocket-Protocol: " : "", (int)request->protocol.len,
                       named ? request->protocol.at : "", named ? "\r\n" : "",
                       deflates ? "Sec-WebSocket-Extensions: " : "", request->deflate.answer,
                       deflates ? "\r\n" : "");
    socket_write(&conn->socket, text, (size_t)len);
}

/* After the upgrade, since a browser can't read a refused handshake. */
static void forbid(struct conn *conn, const char *why, const char *address)
{
    metric_refuse(REFUSE_UNAUTHORIZED);
    log_info_cause("client_refused", LOG_U64("code", CLOSE_UNAUTHORIZED), LOG_STR("reason", why),
                   LOG_DETAIL("address", address));
    conn_start_closing(conn, CLOSE_UNAUTHORIZED, why);
}

void handshake_opened(struct conn *conn, const struct target *target)
{
    char address[INET6_ADDRSTRLEN];
    address_print(&conn->handshake->address, address);
    metric_add(METRIC_ACCEPTED, 1);
    log_debug("client_opened", LOG_STR("session", target->session_id),
              LOG_DETAIL("address", address));
}

static void open_client(struct conn *conn, struct handshake_request *request,
                        const struct target *target)
{
    char address[INET6_ADDRSTRLEN];
    address_print(&conn->handshake->address, address);
    write_answer(conn, request);
    conn->deflate = request->deflate.window_bits != 0;
    conn_set_state(conn, CONN_OPEN);
    conn_enqueue(conn, QUEUE_QUIET);
    if (request->forbidden) {
        forbid(conn, request->forbidden, address);
        return;
    }
    handshake_opened(conn, target);
    conn->gone_due = true;
    unsigned form = front_form(conn->front, request->kind, request->deflate.window_bits);
    if (door_open(conn->front->hub, &conn->client, target, &conn->handshake->address, form) !=
        STATUS_OK) {
        conn->gone_due = false;
        metric_refuse(REFUSE_FULL);
        char text[RETRY_REASON_BYTES];
        conn_start_closing(
            conn, CLOSE_TRY_LATER,
            retry_reason(conn->front->hub, CLOSE_TRY_LATER, "try again later", text));
    } else if (conn->front->conf->auth.mode != AUTH_NONE) {
        conn_take_pass(conn, target, &request->grant);
    }
}

static void serve(struct conn *conn, struct handshake_request *request)
{
    struct front *front = conn->front;
    if (health_answer(conn, &request->head) || events_serve(conn, &request->head) ||
        !check_upgrade(conn, request))
        return;
    if (!choose_protocol(request)) {
        refuse(conn, REFUSAL_BAD_HANDSHAKE, "Sec-WebSocket-Protocol is malformed");
        return;
    }
    if (front->conf->clients.compression &&
        deflate_negotiate(&request->head, &request->deflate) != STATUS_OK) {
        refuse(conn, REFUSAL_BAD_HANDSHAKE, "Sec-WebSocket-Extensions is malformed");
        return;
    }
    struct url_options options = {.take_token = front->conf->auth.mode == AUTH_JWT,
                                  .protocol_client = request->kind != PROTOCOL_RAW,
                                  .may_subscribe = request->kind != PROTOCOL_RAW};
    struct http_text path = handshake_path(request->head.start[1]);
    struct target target;
    const char *why;
    enum status status = url_parse(front->conf, path.at, path.len, &options, &target, &why);
    if (status != STATUS_OK) {
        refuse(conn, status == STATUS_NOT_FOUND ? REFUSAL_NO_SERVICE : REFUSAL_MALFORMED_URL, why);
        return;
    }
    if (check_origin(conn, request) && handshake_take_place(conn)) {
        (void)conn_check_token(front, &request->head, &target, &request->grant,
                               &request->forbidden);
        open_client(conn, request, &target);
        grant_fini(&request->grant);
    }
    target_fini(&target);
}

void handshake_serve(struct conn *conn, const char *bytes, size_t len)
{
    struct handshake_request request = {.kind = PROTOCOL_RAW};
    enum status status = http_head_parse(bytes, len, &request.head);
    if (status == STATUS_LIMIT || len > HANDSHAKE_HEAD_MAX)
        refuse(conn, REFUSAL_LONG_HEAD, "the header is too large");
    else if (status != STATUS_OK)
        refuse(conn, REFUSAL_BAD_HANDSHAKE, "not an HTTP request");
    else {
        conn->handshake->no_content = http_text_is(request.head.start[0], "HEAD");
        conn->handshake->address = admit_client(conn->front->admit, &conn->handshake->address,
                                                &request.head);
        serve(conn, &request);
    }
}
