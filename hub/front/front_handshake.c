/*
 * The opening handshake (RFC 6455 section 4.2): reads the request, decides, and answers with 101 or
 * with a status and a line of text that says why.
 */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/log.h"
#include "common/url.h"
#include "core/hub.h"
#include "front/front_private.h"
#include "front/front_refuse.h"

/* A token in a URL or a cookie fits; what is larger is refused before it is kept. */
#define REQUEST_LINE_MAX 8192U
#define HEAD_MAX         16384U
/* By so many bytes it shows whether a request may be HTTP. */
#define FIRST_BYTES 8U
#define TLS_HANDSHAKE_RECORD 0x16 /* RFC 8446 section 5.1 */

/* What a request asks for, while it is looked at. */
struct request {
    struct http_head head;
    struct http_text key;
    struct http_text protocol; /* the answer; empty for none */
    enum client_protocol kind;
    struct deflate_terms deflate;
    const char *forbidden; /* why the token is refused; NULL where it is not */
    uint64_t ends_ms;
};

void handshake_free(struct handshake *handshake)
{
    if (handshake == NULL)
        return;
    free(handshake->bytes);
    free(handshake);
}

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

/* What follows the head would be a body to a proxy in front, and frames to us. */
static bool announces_body(const struct http_head *head)
{
    struct http_text value;
    size_t index = 0;
    if (http_head_next(head, "transfer-encoding", &index, &value))
        return true;
    for (index = 0; http_head_next(head, "content-length", &index, &value);) {
        if (!http_text_is(value, "0"))
            return true;
    }
    return false;
}

/* Both headers are of one hop: a proxy that was not told to passes neither on. */
static const char *no_upgrade_reason(const struct http_head *head)
{
    if (http_head_lists(head, "upgrade", "websocket"))
        return "no Connection: Upgrade beside Upgrade: websocket; a proxy in front may have dropped it";
    size_t index = 0;
    struct http_text key;
    if (http_head_next(head, "sec-websocket-key", &index, &key))
        return "a WebSocket handshake without Upgrade: websocket; a proxy in front may have dropped it";
    return "this port speaks WebSocket only";
}

static bool check_upgrade(struct conn *conn, struct request *request)
{
    const struct http_head *head = &request->head;
    struct http_text version;
    if (http_text_is(head->start[0], "HEAD")) {
        refuse(conn, REFUSAL_NO_UPGRADE_HEAD, "this port speaks WebSocket only");
        return false;
    }
    if (!http_text_is(head->start[0], "GET")) {
        refuse(conn, REFUSAL_METHOD, "only GET is served here");
        return false;
    }
    if (!http_text_is(head->start[2], "HTTP/1.1")) {
        refuse(conn, REFUSAL_BAD_HANDSHAKE, "HTTP/1.1 is needed (nginx: proxy_http_version 1.1)");
        return false;
    }
    if (!http_head_lists(head, "upgrade", "websocket") ||
        !http_head_lists(head, "connection", "upgrade")) {
        refuse(conn, REFUSAL_NO_UPGRADE, no_upgrade_reason(head));
        return false;
    }
    if (announces_body(head)) {
        refuse(conn, REFUSAL_BAD_HANDSHAKE, "a WebSocket handshake has no body");
        return false;
    }
    if (!http_head_one(head, "sec-websocket-version", &version) || !http_text_is(version, "13")) {
        refuse(conn, REFUSAL_NO_UPGRADE, "WebSocket version 13 is needed");
        return false;
    }
    if (!http_head_one(head, "sec-websocket-key", &request->key) || !key_is_valid(request->key)) {
        refuse(conn, REFUSAL_BAD_HANDSHAKE, "Sec-WebSocket-Key is missing or malformed");
        return false;
    }
    struct http_text host;
    if (!http_head_one(head, "host", &host)) {
        refuse(conn, REFUSAL_BAD_HANDSHAKE, "one Host header is needed");
        return false;
    }
    return true;
}

/* The target may come as an http or https URI as well (RFC 6455 section 4.2.1), from some forward
 * proxies as a ws or wss one; whom its authority names does not matter here. */
static struct http_text path_of(struct http_text target)
{
    static const char *const schemes[] = {"http://", "https://", "ws://", "wss://"};
    for (size_t i = 0; i < sizeof(schemes) / sizeof(*schemes); i++) {
        size_t len = strlen(schemes[i]);
        if (target.len <= len || strncasecmp(target.at, schemes[i], len) != 0)
            continue;
        const char *slash = memchr(target.at + len, '/', target.len - len);
        if (slash != NULL)
            return (struct http_text){slash, target.len - (size_t)(slash - target.at)};
    }
    return target;
}

/* Contract section 5: ours if offered, else "bearer", else the first, whatever its length: a browser
 * drops a connection whose offer gets no answer. False: malformed. */
static bool choose_protocol(struct request *request)
{
    size_t index = 0;
    struct http_text value, item, first = {0}, bearer = {0};
    while (http_head_next(&request->head, "sec-websocket-protocol", &index, &value)) {
        while (http_list_next(&value, &item)) {
            if (!http_text_is_token(item))
                return false;
            bool json = http_text_is(item, "vinhub.v1"),
                 msgpack = http_text_is(item, "vinhub.v1.msgpack");
            if ((json || msgpack) && request->kind == CLIENT_RAW) {
                request->kind = json ? CLIENT_JSON : CLIENT_MSGPACK;
                request->protocol = item;
            }
            if (first.len == 0)
                first = item;
            if (http_text_is(item, "bearer"))
                bearer = item;
        }
    }
    if (request->kind == CLIENT_RAW)
        request->protocol = bearer.len > 0 ? bearer : first;
    return true;
}

static bool check_origin(struct conn *conn, const struct request *request)
{
    struct http_text origin, other;
    size_t index = 0;
    bool has = http_head_next(&request->head, "origin", &index, &origin);
    bool one = !has || !http_head_next(&request->head, "origin", &index, &other);
    if (one && admit_origin(conn->front->admit, has ? &origin : NULL))
        return true;
    refuse(conn, REFUSAL_ORIGIN, "this Origin is not allowed here");
    return false;
}

/* Descriptors that are kept for upstreams of sessions owned here which have none yet: who is let in
 * is not to find that there is none left for his. */
static int upstreams_owed(const struct front *front)
{
    struct hub_counts counts;
    hub_count(front->hub, &counts);
    return counts.owned > counts.upstreams ? (int)(counts.owned - counts.upstreams) : 0;
}

static bool check_capacity(struct conn *conn)
{
    struct front *front = conn->front;
    if (!hub_ready(front->hub)) {
        bool leaving = hub_state(front->hub) == NODE_DRAINING ||
                       hub_state(front->hub) == NODE_STOPPED;
        refuse(conn, REFUSAL_DRAINING, leaving ? "this node is draining" : "this node is not ready");
        return false;
    }
    /* The lowest free descriptor was given: its number says how many are in use. Half-open
     * handshakes make room (front_listen.c). */
    int used = stream_fd(&conn->stream) - (int)(front->connections - front->open);
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

static void write_answer(struct conn *conn, const struct request *request)
{
    char accept[WS_ACCEPT_SIZE], text[HEAD_MAX + 512]; /* the protocol is part of a head */
    ws_accept_key(request->key, accept);
    bool named = request->protocol.len > 0, deflates = request->deflate.window_bits != 0;
    int len = snprintf(text, sizeof(text),
                       "HTTP/1.1 101 Switching Protocols\r\n"
                       "Upgrade: websocket\r\n"
                       "Connection: Upgrade\r\n"
                       "Sec-WebSocket-Accept: %s\r\n"
                       "%s%.*s%s%s%s%s\r\n",
                       accept, named ? "Sec-WebSocket-Protocol: " : "", (int)request->protocol.len,
                       named ? request->protocol.at : "",
                       named ? "\r\n" : "", deflates ? "Sec-WebSocket-Extensions: " : "",
                       request->deflate.answer, deflates ? "\r\n" : "");
    stream_write(&conn->stream, text, (size_t)len);
}

/* After the upgrade, since a browser can't read a refused handshake. */
static void forbid(struct conn *conn, const char *why, const char *address)
{
    metric_refuse(REFUSE_UNAUTHORIZED);
    log_info_cause("client_refused", LOG_U64("code", CLOSE_UNAUTHORIZED), LOG_STR("reason", why),
                   LOG_DETAIL("address", address));
    conn_start_closing(conn, CLOSE_UNAUTHORIZED, why);
}

static void open_client(struct conn *conn, const struct request *request,
                        const struct target *target)
{
    char address[INET6_ADDRSTRLEN];
    admit_print(&conn->handshake->address, address);
    write_answer(conn, request);
    conn->deflate = request->deflate.window_bits != 0;
    conn_set_state(conn, CONN_OPEN);
    conn_enqueue(conn, QUEUE_QUIET);
    if (request->forbidden != NULL) {
        forbid(conn, request->forbidden, address);
        return;
    }
    metric_add(METRIC_ACCEPTED, 1);
    log_debug("client_opened", LOG_STR("session", target->session_id),
              LOG_DETAIL("address", address));

    conn->told = true;
    if (client_open(conn->front->hub, &conn->client, target, request->kind,
                    request->deflate.window_bits) != STATUS_OK) {
        conn->told = false;
        metric_refuse(REFUSE_FULL);
        conn_start_closing(conn, CLOSE_TRY_LATER, "try again later");
    } else if (request->ends_ms != UINT64_MAX) {
        conn_expire_at(conn, request->ends_ms);
    }
}

static void serve(struct conn *conn, struct request *request)
{
    struct front *front = conn->front;
    if (health_answer(conn, &request->head) || !check_upgrade(conn, request))
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
                                  .protocol_client = request->kind != CLIENT_RAW};
    struct http_text path = path_of(request->head.start[1]);
    struct target target;
    const char *why;
    enum status status = url_parse(front->conf, path.at, path.len, &options, &target, &why);
    if (status != STATUS_OK) {
        refuse(conn, status == STATUS_NOT_FOUND ? REFUSAL_NO_SERVICE : REFUSAL_MALFORMED_URL, why);
        return;
    }
    if (check_origin(conn, request) && check_capacity(conn)) {
        request->forbidden = auth_check(front->conf, &request->head, &target, &request->ends_ms);
        open_client(conn, request, &target);
    }
    target_fini(&target);
}

/* --- reading it --- */

static bool line_too_long(const char *bytes, size_t len)
{
    size_t look = len < REQUEST_LINE_MAX ? len : REQUEST_LINE_MAX;
    return len > REQUEST_LINE_MAX && memmem(bytes, look, "\r\n", 2) == NULL;
}

static void serve_head(struct conn *conn, const char *bytes, size_t len)
{
    struct request request = {.kind = CLIENT_RAW};
    enum status status = http_head_parse(bytes, len, &request.head);
    if (line_too_long(bytes, len))
        refuse(conn, REFUSAL_LONG_URL, "the URL is too long");
    else if (status == STATUS_LIMIT || len > HEAD_MAX)
        refuse(conn, REFUSAL_LONG_HEAD, "the header is too large");
    else if (status != STATUS_OK)
        refuse(conn, REFUSAL_BAD_HANDSHAKE, "not an HTTP request");
    else {
        conn->handshake->address = admit_client(conn->front->admit, &conn->handshake->address,
                                                &request.head);
        serve(conn, &request);
    }
}

/* Keeps what came so far; it is no more than HEAD_MAX and a read. */
static bool keep(struct handshake *handshake, const uint8_t *bytes, size_t len)
{
    size_t need = handshake->len + len;
    if (need > handshake->cap) {
        size_t cap = need < 1024 ? 1024 : need * 2;
        char *grown = realloc(handshake->bytes, cap);
        if (grown == NULL)
            return false;
        handshake->bytes = grown;
        handshake->cap = cap;
    }
    memcpy(handshake->bytes + handshake->len, bytes, len);
    handshake->len = need;
    return true;
}

/* What a peer says counts where it is trusted, or where nobody is named. */
static void take_source(struct conn *conn, const struct proxy_source *source)
{
    const struct admit *admit = conn->front->admit;
    struct handshake *handshake = conn->handshake;
    if (source->known && (!admit_has_proxies(admit) || admit_trusted(admit, &handshake->address))) {
        handshake->address = source->address;
    }
}

/* Begins TLS with the first bytes after the PROXY header. Who speaks HTTP is told so (in plain), since
 * a browser would show nothing else. */
static bool secure(struct conn *conn, const uint8_t *bytes, size_t len)
{
    struct front *front = conn->front;
    conn->handshake->tls_due = false;
    if (bytes[0] == TLS_HANDSHAKE_RECORD)
        return front->tls != NULL &&
               stream_secure(&conn->stream, tls_new(front->tls, NULL), bytes, len);
    if (isalpha(bytes[0])) {
        refuse(conn, REFUSAL_PLAIN_ON_TLS, "plain HTTP on a TLS port");
        return true;
    }
    refuse_unanswered(conn, REFUSE_TLS, "neither TLS nor HTTP on a TLS port");
    return false;
}

void handshake_secured(struct conn *conn, const char *why)
{
    char text[200];
    if (why == NULL || conn->handshake == NULL)
        return;
    snprintf(text, sizeof(text), "TLS handshake failed: %s", why);
    refuse_unanswered(conn, REFUSE_TLS, text);
}

/* What comes after the PROXY header, if there is something. */
static bool after_proxy(struct conn *conn, uint8_t *bytes, size_t len)
{
    conn->handshake->proxy_header = false;
    conn->handshake->len = 0;
    return len == 0 || handshake_read(conn, bytes, len);
}

static bool read_proxy(struct conn *conn, uint8_t *bytes, size_t len)
{
    struct handshake *handshake = conn->handshake;
    if (handshake->proxy_left > 0) {
        size_t n = handshake->proxy_left < len ? handshake->proxy_left : len;
        handshake->proxy_left -= n;
        return handshake->proxy_left > 0 || after_proxy(conn, bytes + n, len - n);
    }
    struct proxy_source source;
    size_t before = handshake->len, used = 0;
    if (!keep(handshake, bytes, len))
        return false;
    enum status status = proxy_parse((const uint8_t *)handshake->bytes, handshake->len, &source,
                                     &used);
    if (status == STATUS_AGAIN)
        return true;
    if (status != STATUS_OK) {
        refuse_unanswered(conn, REFUSE_PROXY_HEADER, source.why);
        return false;
    }
    take_source(conn, &source);
    if (used > handshake->len) {
        handshake->proxy_left = used - handshake->len;
        return true;
    }
    return after_proxy(conn, bytes + (used - before), len - (used - before));
}

/* One empty line before the request is passed over (RFC 9112 section 2.2). Its length. */
static size_t empty_line(const char *bytes, size_t len)
{
    if (len > 0 && bytes[0] == '\n')
        return 1;
    return len > 1 && bytes[0] == '\r' && bytes[1] == '\n' ? 2 : 0;
}

/* What is no HTTP by its first bytes is not waited for. False: drop the connection. */
static bool check_first_bytes(struct conn *conn, const char *bytes, size_t len, size_t empty)
{
    static const char proxy_1[] = "PROXY ", proxy_2[] = {'\r', '\n', '\r', '\n', '\0'};
    if ((len >= 6 && memcmp(bytes, proxy_1, 6) == 0) ||
        (len >= sizeof(proxy_2) && memcmp(bytes, proxy_2, sizeof(proxy_2)) == 0)) {
        refuse(conn, REFUSAL_PROXY_HEADER, "a PROXY header, but listen.proxy_protocol is off");
        return true;
    }
    if (len == empty || (len == 1 && bytes[0] == '\r'))
        return true;
    if ((unsigned char)bytes[empty] == TLS_HANDSHAKE_RECORD) {
        refuse_unanswered(conn, REFUSE_TLS, "a TLS hello on a port without TLS");
        return false;
    }
    bool may_be_proxy = empty == 2 && len < sizeof(proxy_2) && bytes[2] == '\r';
    if (!may_be_proxy && !http_text_is_token((struct http_text){bytes + empty, 1}))
        refuse(conn, REFUSAL_NOT_HTTP, "not an HTTP request");
    return true;
}

/* What shows in a head that has no end yet: that none will come. NULL: nothing does. from: how much
 * was looked through before. */
static const char *hopeless(const char *head, size_t len, size_t from)
{
    for (const char *at = head + from; (at = memchr(at, '\n', (size_t)(head + len - at))); at++) {
        if (at == head || at[-1] != '\r')
            return "lines of an HTTP head end in CRLF";
    }
    const char *line_end = memmem(head, len, "\r\n", 2);
    if (line_end && !memmem(head, (size_t)(line_end - head), " HTTP/", 6))
        return "not an HTTP request";
    return NULL;
}

/* Usually the whole head is in the first bytes and nothing is copied. */
static bool read_request(struct conn *conn, uint8_t *bytes, size_t len)
{
    struct handshake *handshake = conn->handshake;
    size_t before = handshake->len;
    const char *all = (const char *)bytes;
    size_t all_len = len;
    if (before > 0) {
        if (!keep(handshake, bytes, len))
            return false;
        all = handshake->bytes;
        all_len = handshake->len;
    }
    size_t empty = empty_line(all, all_len);
    if (before < FIRST_BYTES && !check_first_bytes(conn, all, all_len, empty))
        return false;
    if (conn->state != CONN_HANDSHAKE)
        return true;

    const char *head = all + empty, *why;
    size_t head_len = all_len - empty, seen = before > empty ? before - empty : 0,
           end = http_head_end(head, head_len, seen);
    if (end == 0 && (why = hopeless(head, head_len, seen)) != NULL) {
        refuse(conn, REFUSAL_NOT_HTTP, why);
        return true;
    }
    if (end == 0 && line_too_long(head, head_len)) {
        refuse(conn, REFUSAL_LONG_URL, "the URL is too long");
        return true;
    }
    if (end == 0 && head_len > HEAD_MAX) {
        refuse(conn, REFUSAL_LONG_HEAD, "the header is too large");
        return true;
    }
    if (end == 0)
        return before > 0 || keep(handshake, bytes, len);

    size_t rest = head_len - end;
    serve_head(conn, head, end);
    handshake_free(conn->handshake);
    conn->handshake = NULL;
    return conn->state != CONN_OPEN || conn_frames(conn, bytes + len - rest, rest);
}

bool handshake_read(struct conn *conn, uint8_t *bytes, size_t len)
{
    struct handshake *handshake = conn->handshake;
    if (!handshake->heard)
        handshake->tls_due = conn->front->tls != NULL;
    handshake->heard = true;
    if (handshake->proxy_header)
        return read_proxy(conn, bytes, len);
    if (handshake->tls_due)
        return secure(conn, bytes, len);
    return read_request(conn, bytes, len);
}
