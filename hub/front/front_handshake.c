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

/* A token in a URL or a cookie fits; what is larger is refused before it is kept. */
#define REQUEST_LINE_MAX 8192U
#define HEAD_MAX         16384U
#define PROTOCOL_MAX     64U /* bytes of a subprotocol that is echoed */

struct refusal {
    unsigned status;
    const char *phrase;
    enum refuse_reason reason;
    const char *fields; /* more header lines */
};

static const struct refusal malformed = {400, "Bad Request", REFUSE_MALFORMED_URL, ""};
static const struct refusal bad_handshake = {400, "Bad Request", REFUSE_NOT_UPGRADE, ""};
static const struct refusal wrong_origin = {403, "Forbidden", REFUSE_ORIGIN, ""};
static const struct refusal no_service = {404, "Not Found", REFUSE_UNKNOWN_SERVICE, ""};
static const struct refusal wrong_method = {405, "Method Not Allowed", REFUSE_NOT_UPGRADE,
                                            "Allow: GET\r\n"};
static const struct refusal long_url = {414, "URI Too Long", REFUSE_MALFORMED_URL, ""};
static const struct refusal no_upgrade = {426, "Upgrade Required", REFUSE_NOT_UPGRADE,
                                          "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"};
/* The same for HEAD, whose answers have no content. */
static const struct refusal no_upgrade_head = {
    426, "Upgrade Required", REFUSE_NOT_UPGRADE,
    "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"};
static const struct refusal long_head = {431, "Request Header Fields Too Large", REFUSE_NOT_UPGRADE,
                                         ""};
static const struct refusal full = {503, "Service Unavailable", REFUSE_FULL, "Retry-After: 5\r\n"};
static const struct refusal draining = {503, "Service Unavailable", REFUSE_DRAINING,
                                        "Retry-After: 1\r\n"};
static const struct refusal too_many = {503, "Service Unavailable", REFUSE_PER_IP,
                                        "Retry-After: 5\r\n"};

/* What a request asks for, while it is looked at. */
struct request {
    struct http_head head;
    struct http_text key;
    char protocol[PROTOCOL_MAX + 1]; /* the answer; "" for none */
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

/* Answers and waits a moment for the peer to go, throwing away what it still sends: a close at once
 * could reset the connection before the answer was read. */
static void refuse(struct conn *conn, const struct refusal *refusal, const char *why)
{
    char text[1024];
    bool has_content = refusal != &no_upgrade_head;
    int len = snprintf(text, sizeof(text),
                       "HTTP/1.1 %u %s\r\n"
                       "Content-Type: text/plain; charset=utf-8\r\n"
                       "Content-Length: %zu\r\n"
                       "%s"
                       "Connection: close\r\n\r\n%s%s",
                       refusal->status, refusal->phrase, strlen(why) + 1, refusal->fields,
                       has_content ? why : "", has_content ? "\n" : "");
    char address[INET6_ADDRSTRLEN];
    admit_print(&conn->handshake->address, address);
    metric_refuse(refusal->reason);
    log_info_cause("client_refused", LOG_U64("status", refusal->status), LOG_STR("reason", why),
                   LOG_DETAIL("address", address));

    stream_write(&conn->stream, text, (size_t)len);
    stream_shut(&conn->stream);
    conn_set_state(conn, CONN_REFUSED);
    conn_enqueue(conn, QUEUE_CLOSING);
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

static bool check_upgrade(struct conn *conn, struct request *request)
{
    const struct http_head *head = &request->head;
    struct http_text version;
    if (http_text_is(head->start[0], "HEAD")) {
        refuse(conn, &no_upgrade_head, "this port speaks WebSocket only");
        return false;
    }
    if (!http_text_is(head->start[0], "GET")) {
        refuse(conn, &wrong_method, "only GET is served here");
        return false;
    }
    if (!http_text_is(head->start[2], "HTTP/1.1")) {
        refuse(conn, &bad_handshake, "HTTP/1.1 is needed");
        return false;
    }
    if (!http_head_lists(head, "upgrade", "websocket") ||
        !http_head_lists(head, "connection", "upgrade")) {
        refuse(conn, &no_upgrade, "this port speaks WebSocket only");
        return false;
    }
    if (!http_head_one(head, "sec-websocket-version", &version) || !http_text_is(version, "13")) {
        refuse(conn, &no_upgrade, "WebSocket version 13 is needed");
        return false;
    }
    if (!http_head_one(head, "sec-websocket-key", &request->key) || !key_is_valid(request->key)) {
        refuse(conn, &bad_handshake, "Sec-WebSocket-Key is missing or malformed");
        return false;
    }
    struct http_text host;
    if (!http_head_one(head, "host", &host)) {
        refuse(conn, &bad_handshake, "one Host header is needed");
        return false;
    }
    return true;
}

/* The target may come as an http or https URI as well (RFC 6455 section 4.2.1); whom its authority
 * names does not matter here. */
static struct http_text path_of(struct http_text target)
{
    static const char *const schemes[] = {"http://", "https://"};
    for (size_t i = 0; i < 2; i++) {
        size_t len = strlen(schemes[i]);
        if (target.len <= len || strncasecmp(target.at, schemes[i], len) != 0)
            continue;
        const char *slash = memchr(target.at + len, '/', target.len - len);
        if (slash != NULL)
            return (struct http_text){slash, target.len - (size_t)(slash - target.at)};
    }
    return target;
}

static void keep_protocol(struct request *request, struct http_text name)
{
    if (name.len == 0 || name.len > PROTOCOL_MAX)
        return;
    memcpy(request->protocol, name.at, name.len);
    request->protocol[name.len] = '\0';
}

/* Contract section 5: ours if offered, else "bearer", else the first. False: malformed. */
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
                keep_protocol(request, item);
            }
            if (first.len == 0)
                first = item;
            if (http_text_is(item, "bearer"))
                bearer = item;
        }
    }
    if (request->kind == CLIENT_RAW)
        keep_protocol(request, bearer.len > 0 ? bearer : first);
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
    refuse(conn, &wrong_origin, "this Origin is not allowed here");
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
        refuse(conn, &draining, leaving ? "this node is draining" : "this node is not ready");
        return false;
    }
    /* The lowest free descriptor was given: its number says how many are in use. Half-open
     * handshakes make room (front_listen.c). */
    int used = stream_fd(&conn->stream) - (int)(front->connections - front->open);
    if (used + upstreams_owed(front) >= front->descriptors_max ||
        (front->conf->clients.max > 0 && front->open >= front->conf->clients.max)) {
        refuse(conn, &full, "this node is full");
        return false;
    }
    if (!admit_take_ip(front, conn, &conn->handshake->address)) {
        refuse(conn, &too_many, "too many connections of this address");
        return false;
    }
    return true;
}

/* --- the answer --- */

static void write_answer(struct conn *conn, const struct request *request)
{
    char accept[WS_ACCEPT_SIZE], text[768];
    ws_accept_key(request->key, accept);
    bool named = request->protocol[0] != '\0', deflates = request->deflate.window_bits != 0;
    int len = snprintf(text, sizeof(text),
                       "HTTP/1.1 101 Switching Protocols\r\n"
                       "Upgrade: websocket\r\n"
                       "Connection: Upgrade\r\n"
                       "Sec-WebSocket-Accept: %s\r\n"
                       "%s%s%s%s%s%s\r\n",
                       accept, named ? "Sec-WebSocket-Protocol: " : "", request->protocol,
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
    if (!check_upgrade(conn, request))
        return;
    if (!choose_protocol(request)) {
        refuse(conn, &bad_handshake, "Sec-WebSocket-Protocol is malformed");
        return;
    }
    if (front->conf->clients.compression &&
        deflate_negotiate(&request->head, &request->deflate) != STATUS_OK) {
        refuse(conn, &bad_handshake, "Sec-WebSocket-Extensions is malformed");
        return;
    }
    struct url_options options = {.take_token = front->conf->auth.mode == AUTH_JWT,
                                  .protocol_client = request->kind != CLIENT_RAW};
    struct http_text path = path_of(request->head.start[1]);
    struct target target;
    const char *why;
    enum status status = url_parse(front->conf, path.at, path.len, &options, &target, &why);
    if (status != STATUS_OK) {
        refuse(conn, status == STATUS_NOT_FOUND ? &no_service : &malformed, why);
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
        refuse(conn, &long_url, "the URL is too long");
    else if (status == STATUS_LIMIT || len > HEAD_MAX)
        refuse(conn, &long_head, "the header is too large");
    else if (status != STATUS_OK)
        refuse(conn, &bad_handshake, "this is not an HTTP request");
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

static void refuse_proxy(struct conn *conn)
{
    char address[INET6_ADDRSTRLEN];
    admit_print(&conn->handshake->address, address);
    metric_refuse(REFUSE_PROXY_HEADER);
    log_info_cause("client_refused", LOG_STR("reason", "no PROXY header"),
                   LOG_DETAIL("address", address));
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

bool handshake_proxy(struct conn *conn, uint8_t *bytes, size_t len)
{
    struct handshake *handshake = conn->handshake;
    struct proxy_source source;
    size_t before = handshake->len, used = 0;
    if (!keep(handshake, bytes, len))
        return false;
    enum status status = proxy_parse((const uint8_t *)handshake->bytes, handshake->len, &source,
                                     &used);
    if (status == STATUS_AGAIN)
        return true;
    if (status != STATUS_OK) {
        refuse_proxy(conn);
        return false;
    }
    take_source(conn, &source);
    handshake->proxy_header = false;
    handshake->len = 0;
    bytes += used - before;
    len -= used - before;
    if (conn->front->tls != NULL)
        return stream_secure(&conn->stream, tls_new(conn->front->tls, NULL), bytes, len);
    return len == 0 || handshake_read(conn, bytes, len);
}

/* Usually the whole head is in the first bytes and nothing is copied. */
bool handshake_read(struct conn *conn, uint8_t *bytes, size_t len)
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

    size_t end = http_head_end(all, all_len, before);
    if (end == 0 && line_too_long(all, all_len)) {
        refuse(conn, &long_url, "the URL is too long");
        return true;
    }
    if (end == 0 && all_len > HEAD_MAX) {
        refuse(conn, &long_head, "the header is too large");
        return true;
    }
    if (end == 0)
        return before > 0 || keep(handshake, bytes, len);

    size_t rest = all_len - end;
    serve_head(conn, all, end);
    handshake_free(conn->handshake);
    conn->handshake = NULL;
    return conn->state != CONN_OPEN || conn_frames(conn, bytes + len - rest, rest);
}
