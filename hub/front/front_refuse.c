#include "front/front_refuse.h"

#include <stdio.h>
#include <string.h>

#include "common/address.h"
#include "common/log.h"
#include "core/hub.h"
#include "front/front_private.h"

struct refusal_row {
    unsigned status;
    const char *phrase;
    enum refuse_reason reason;
    const char *fields; /* more header lines */
};

#define UPGRADE_FIELDS "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"

static const struct refusal_row rows[REFUSALS] = {
    [REFUSAL_MALFORMED_URL] = {400, "Bad Request", REFUSE_MALFORMED_URL, ""},
    [REFUSAL_BAD_HANDSHAKE] = {400, "Bad Request", REFUSE_NOT_UPGRADE, ""},
    [REFUSAL_NOT_HTTP] = {400, "Bad Request", REFUSE_NOT_HTTP, ""},
    [REFUSAL_PLAIN_ON_TLS] = {400, "Bad Request", REFUSE_TLS, ""},
    [REFUSAL_PROXY_HEADER] = {400, "Bad Request", REFUSE_PROXY_HEADER, ""},
    [REFUSAL_UNAUTHORIZED] = {401, "Unauthorized", REFUSE_UNAUTHORIZED,
                              "WWW-Authenticate: Bearer\r\n"},
    [REFUSAL_NOT_COVERED] = {403, "Forbidden", REFUSE_UNAUTHORIZED, ""},
    [REFUSAL_ORIGIN] = {403, "Forbidden", REFUSE_ORIGIN, ""},
    [REFUSAL_NO_SERVICE] = {404, "Not Found", REFUSE_UNKNOWN_SERVICE, ""},
    [REFUSAL_METHOD] = {405, "Method Not Allowed", REFUSE_NOT_UPGRADE,
                        "Allow: GET, HEAD, OPTIONS\r\n"},
    [REFUSAL_LONG_URL] = {414, "URI Too Long", REFUSE_MALFORMED_URL, ""},
    [REFUSAL_NO_UPGRADE] = {426, "Upgrade Required", REFUSE_NOT_UPGRADE, UPGRADE_FIELDS},
    [REFUSAL_LONG_HEAD] = {431, "Request Header Fields Too Large", REFUSE_NOT_UPGRADE, ""},
    [REFUSAL_FULL] = {503, "Service Unavailable", REFUSE_FULL, "Retry-After: 5\r\n"},
    [REFUSAL_DRAINING] = {503, "Service Unavailable", REFUSE_DRAINING, "Retry-After: 1\r\n"},
    [REFUSAL_PER_IP] = {503, "Service Unavailable", REFUSE_PER_IP, "Retry-After: 5\r\n"},
};

/* Closing at once could reset the connection before the peer has read the answer, so the
 * connection stays a moment. */
void answer_and_end(struct conn *conn, const char *answer, size_t len)
{
    socket_write(&conn->socket, answer, len);
    socket_shut(&conn->socket);
    conn->handshake->noted = true;
    conn_set_state(conn, CONN_REFUSED);
    conn_enqueue(conn, QUEUE_CLOSING);
}

void refuse(struct conn *conn, enum refusal refusal, const char *why)
{
    const struct refusal_row *row = &rows[refusal];
    char text[2048];
    const char *fields = conn->handshake->fields;
    bool has_content = !conn->handshake->no_content;
    int len = snprintf(text, sizeof(text),
                       "HTTP/1.1 %u %s\r\n"
                       "Content-Type: text/plain; charset=utf-8\r\n"
                       "Content-Length: %zu\r\n"
                       "%s%s"
                       "Connection: close\r\n\r\n%s%s",
                       row->status, row->phrase, strlen(why) + 1, row->fields, fields ? fields : "",
                       has_content ? why : "", has_content ? "\n" : "");
    char address[INET6_ADDRSTRLEN];
    address_print(&conn->handshake->address, address);
    metric_refuse(row->reason);
    log_info_cause("client_refused", LOG_U64("status", row->status), LOG_STR("reason", why),
                   LOG_DETAIL("address", address));
    answer_and_end(conn, text, (size_t)len);
}

void refuse_unanswered(struct conn *conn, enum refuse_reason reason, const char *why)
{
    char address[INET6_ADDRSTRLEN];
    address_print(&conn->handshake->address, address);
    metric_refuse(reason);
    log_info_cause("client_refused", LOG_STR("reason", why), LOG_DETAIL("address", address));
    conn->handshake->noted = true;
}

/* Load balancers check with connections that they end at once: these are not logged. */
void refuse_aborted(struct conn *conn)
{
    const struct handshake *handshake = conn->handshake;
    if (!handshake || !handshake->heard || handshake->noted)
        return;
    metric_refuse(REFUSE_ABORTED);
    log_debug("handshake_aborted", LOG_U64("bytes", handshake->len));
}

/* --- health checks --- */

static bool names_path(struct http_text target, const char *path)
{
    const char *mark = memchr(target.at, '?', target.len);
    struct http_text plain = {target.at, mark ? (size_t)(mark - target.at) : target.len};
    return http_text_is(plain, path);
}

bool health_answer(struct conn *conn, const struct http_head *head)
{
    const struct hub *hub = conn->front->hub;
    bool is_head = http_text_is(head->start[0], "HEAD");
    bool asks_health = names_path(head->start[1], "/healthz");
    /* Balancers' checks are often HTTP/1.0. */
    if ((!is_head && !http_text_is(head->start[0], "GET")) ||
        (!asks_health && !names_path(head->start[1], "/readyz")) ||
        (!http_text_is(head->start[2], "HTTP/1.1") && !http_text_is(head->start[2], "HTTP/1.0")) ||
        http_head_lists(head, "upgrade", "websocket"))
        return false;

    bool good = asks_health || hub_ready(hub);
    char why[HUB_WHY_BYTES], body[HUB_WHY_BYTES + 16], text[sizeof(body) + 256];
    hub_why_not_ready(hub, why);
    if (good)
        snprintf(body, sizeof(body), "ok\n");
    else
        snprintf(body, sizeof(body), "not ready: %s\n", why);
    int len = snprintf(text, sizeof(text),
                       "HTTP/1.1 %s\r\n"
                       "Content-Type: text/plain; charset=utf-8\r\n"
                       "Content-Length: %zu\r\n"
                       "Cache-Control: no-store\r\n"
                       "Connection: close\r\n\r\n%s",
                       good ? "200 OK" : "503 Service Unavailable", strlen(body),
                       is_head ? "" : body);
    answer_and_end(conn, text, (size_t)len);
    return true;
}
