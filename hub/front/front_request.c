/*
 * What comes before a client is served: the PROXY header, TLS, and the bytes of the request up to
 * its end.
 *
 *   PROXY header  where it is configured; what balancers add behind its addresses is skipped
 *   TLS           where it is configured; the first byte says whether a hello comes
 *   request       what can be no HTTP is refused by its first bytes; then handshake_serve decides
 */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "front/front_private.h"
#include "front/front_refuse.h"

/* Large enough for a token in the URL. A larger head is refused before it is stored. */
#define REQUEST_LINE_MAX 8192U
/* By so many bytes it shows whether a request may be HTTP. */
#define FIRST_BYTES          8U
#define TLS_HANDSHAKE_RECORD 0x16 /* RFC 8446 section 5.1 */

void handshake_free(struct handshake *handshake)
{
    if (!handshake)
        return;
    free(handshake->bytes);
    free(handshake->fields);
    free(handshake);
}

static bool line_too_long(const char *bytes, size_t len)
{
    size_t look = len < REQUEST_LINE_MAX ? len : REQUEST_LINE_MAX;
    return len > REQUEST_LINE_MAX && !memmem(bytes, look, "\r\n", 2);
}

/* Keeps what came so far; it is no more than HANDSHAKE_HEAD_MAX and a read. */
static bool keep(struct handshake *handshake, const uint8_t *bytes, size_t len)
{
    size_t need = handshake->len + len;
    if (need > handshake->cap) {
        size_t cap = need < 1024 ? 1024 : need * 2;
        char *grown = realloc(handshake->bytes, cap);
        if (!grown)
            return false;
        handshake->bytes = grown;
        handshake->cap = cap;
    }
    memcpy(handshake->bytes + handshake->len, bytes, len);
    handshake->len = need;
    return true;
}

/* The PROXY header of a peer counts if the peer is trusted, or if listen.trusted_proxies is
 * empty. */
static void take_source(struct conn *conn, const struct proxy_source *source)
{
    const struct admit *admit = conn->front->admit;
    struct handshake *handshake = conn->handshake;
    if (source->known && (!admit_has_proxies(admit) || admit_trusted(admit, &handshake->address))) {
        handshake->address = source->address;
    }
}

/* Begins TLS with the first bytes after the PROXY header. Who speaks HTTP is told so (in plain),
 * since a browser would show nothing else. */
static bool secure(struct conn *conn, const uint8_t *bytes, size_t len)
{
    struct front *front = conn->front;
    conn->handshake->tls_due = false;
    if (bytes[0] == TLS_HANDSHAKE_RECORD)
        return front->tls && socket_secure(&conn->socket, tls_new(front->tls, NULL), bytes, len);
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
    if (!why || !conn->handshake)
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

/* If the first bytes can't be HTTP, the request is refused at once. False: drop the connection. */
static bool check_first_bytes(struct conn *conn, const char *bytes, size_t len, size_t empty)
{
    static const char proxy_1[] = "PROXY ", proxy_2[] = {'\r', '\n', '\r', '\n', '\0'};
    if ((len >= 6 && memcmp(bytes, proxy_1, 6) == 0) ||
        (len >= sizeof(proxy_2) && memcmp(bytes, proxy_2, sizeof(proxy_2)) == 0)) {
        refuse(conn, REFUSAL_PROXY_HEADER,
               conn->front->conf->listen.proxy_protocol
                   ? "a second PROXY header, expected one"
                   : "a PROXY header, but listen.proxy_protocol is off");
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

/* Why an unfinished head can be refused already. NULL: it can't. from: how many bytes were
 * checked before. */
static const char *refused_early(const char *head, size_t len, size_t from)
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
    if (end == 0 && (why = refused_early(head, head_len, seen)) != NULL) {
        refuse(conn, REFUSAL_NOT_HTTP, why);
        return true;
    }
    if (end == 0 && line_too_long(head, head_len)) {
        refuse(conn, REFUSAL_LONG_URL, "the URL is too long");
        return true;
    }
    if (end == 0 && head_len > HANDSHAKE_HEAD_MAX) {
        refuse(conn, REFUSAL_LONG_HEAD, "the header is too large");
        return true;
    }
    if (end == 0)
        return before > 0 || keep(handshake, bytes, len);

    size_t rest = head_len - end;
    if (line_too_long(head, end))
        refuse(conn, REFUSAL_LONG_URL, "the URL is too long");
    else
        handshake_serve(conn, head, end);
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
