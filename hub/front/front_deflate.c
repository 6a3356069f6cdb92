/*
 * permessage-deflate (RFC 7692), without context takeover in either direction: one deflater and one
 * inflater serve all connections, a publication is deflated once for all of them, and no connection
 * holds memory for it.
 */
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "common/text.h"
#include "front/front_private.h"

#define LEVEL       5 /* within a few per cent of 9 for messages of some kilobytes, at half the time */
#define INFLATE_MIN 4096U

static const uint8_t tail[4] = {0x00, 0x00, 0xff,
                                0xff}; /* what a sender leaves out (section 7.2.1) */

struct deflater {
    z_stream out, in;
    uint8_t *plain; /* of the message inflated last */
    size_t plain_cap;
};

struct deflater *deflater_new(void)
{
    struct deflater *deflater = calloc(1, sizeof(*deflater));
    if (deflater == NULL)
        return NULL;
    if (deflateInit2(&deflater->out, LEVEL, Z_DEFLATED, -15, 8, Z_DEFAULT_STRATEGY) != Z_OK) {
        free(deflater);
        return NULL;
    }
    if (inflateInit2(&deflater->in, -15) != Z_OK) {
        deflateEnd(&deflater->out);
        free(deflater);
        return NULL;
    }
    return deflater;
}

void deflater_free(struct deflater *deflater)
{
    if (deflater == NULL)
        return;
    deflateEnd(&deflater->out);
    inflateEnd(&deflater->in);
    free(deflater->plain);
    free(deflater);
}

/* --- negotiation --- */

static struct http_text trim_part(struct http_text text)
{
    struct http_text rest = text, item = {text.at, 0};
    http_list_next(&rest, &item); /* trims; a part holds no comma */
    return item;
}

/* The part up to separator; *rest moves past it. */
static struct http_text cut(struct http_text *rest, char separator)
{
    const char *end = memchr(rest->at, separator, rest->len);
    struct http_text part = {rest->at, end == NULL ? rest->len : (size_t)(end - rest->at)};
    size_t taken = end == NULL ? rest->len : part.len + 1;
    rest->at += taken;
    rest->len -= taken;
    return trim_part(part);
}

static bool window_bits(struct http_text value, unsigned *out)
{
    if (value.len >= 2 && value.at[0] == '"' && value.at[value.len - 1] == '"') {
        value.at++;
        value.len -= 2;
    }
    if (value.len == 0 || value.len > 2 || value.at[0] == '0')
        return false;
    *out = 0;
    for (size_t i = 0; i < value.len; i++) {
        if (value.at[i] < '0' || value.at[i] > '9')
            return false;
        *out = *out * 10 + (unsigned)(value.at[i] - '0');
    }
    return *out >= 8 && *out <= 15;
}

/*
 * An offer (section 7.1): each parameter at most once and well-formed. What we send is made with
 * the full window, so an offer that wants a smaller one is declined.
 */
static bool offer_fits(struct http_text offer, bool *names_window)
{
    unsigned seen = 0;
    *names_window = false;
    while (offer.len > 0) {
        struct http_text value = cut(&offer, ';');
        struct http_text name = cut(&value, '=');
        static const char *const known[] = {"server_no_context_takeover",
                                            "client_no_context_takeover", "server_max_window_bits",
                                            "client_max_window_bits"};
        size_t which = 0;
        while (which < 4 && !http_text_is_word(name, known[which]))
            which++;
        if (which == 4 || (seen & 1U << which) != 0)
            return false;
        seen |= 1U << which;
        unsigned bits = 15;
        if (which < 2 && value.len > 0)
            return false;
        if (which == 2 && (!window_bits(value, &bits) || bits != 15))
            return false;
        if (which == 3 && value.len > 0 && !window_bits(value, &bits))
            return false;
        *names_window = *names_window || which == 2;
    }
    return true;
}

const char *deflate_negotiate(const struct http_head *head)
{
    size_t index = 0;
    struct http_text value, item;
    while (http_head_next(head, "sec-websocket-extensions", &index, &value)) {
        while (http_list_next(&value, &item)) {
            struct http_text name = cut(&item, ';');
            bool names_window;
            if (!http_text_is_word(name, "permessage-deflate") || !offer_fits(item, &names_window))
                continue;
            return names_window ? "permessage-deflate; server_no_context_takeover; "
                                  "client_no_context_takeover; "
                                  "server_max_window_bits=15"
                                : "permessage-deflate; server_no_context_takeover; "
                                  "client_no_context_takeover";
        }
    }
    return NULL;
}

/* --- messages --- */

struct wire *deflate_message(struct deflater *deflater, unsigned opcode, const uint8_t *payload,
                             size_t len)
{
    if (len < 16 || len > UINT32_MAX / 2)
        return NULL;
    z_stream *out = &deflater->out;
    struct wire *wire = wire_new(10 + len);
    if (wire == NULL || deflateReset(out) != Z_OK) {
        if (wire != NULL)
            wire_unref(wire);
        return NULL;
    }
    out->next_in = (Bytef *)(uintptr_t)payload;
    out->avail_in = (uInt)len;
    out->next_out = wire->bytes + 10;
    out->avail_out = (uInt)len;
    /* Where it does not end within the plain length, it does not pay. */
    bool whole = deflate(out, Z_SYNC_FLUSH) == Z_OK && out->avail_in == 0 && out->avail_out > 0;
    size_t deflated = len - out->avail_out;
    if (!whole || deflated < sizeof(tail)) {
        wire_unref(wire);
        return NULL;
    }
    deflated -= sizeof(tail);
    uint8_t frame[10];
    size_t frame_len = frame_header(frame, opcode, true, deflated);
    memmove(wire->bytes + frame_len, wire->bytes + 10, deflated);
    memcpy(wire->bytes, frame, frame_len);
    wire->len = frame_len + deflated;
    return wire;
}

static bool grow(struct deflater *deflater, size_t max)
{
    size_t cap = deflater->plain_cap * 2 > INFLATE_MIN ? deflater->plain_cap * 2 : INFLATE_MIN;
    if (cap > max)
        cap = max;
    uint8_t *grown = realloc(deflater->plain, cap);
    if (grown == NULL)
        return false;
    deflater->plain = grown;
    deflater->plain_cap = cap;
    return true;
}

/* Goes on until the input is used up. STATUS_LIMIT: it would become larger than max. */
static enum status run(struct deflater *deflater, const uint8_t *bytes, size_t len, size_t max,
                       size_t *have)
{
    z_stream *in = &deflater->in;
    in->next_in = (Bytef *)(uintptr_t)bytes;
    in->avail_in = (uInt)len;
    for (;;) {
        /* One byte of room above max tells "exactly max" from "more". */
        if (*have == deflater->plain_cap && !grow(deflater, max + 1))
            return STATUS_NO_MEMORY;
        if (*have == deflater->plain_cap)
            return STATUS_LIMIT;
        in->next_out = deflater->plain + *have;
        in->avail_out = (uInt)(deflater->plain_cap - *have);
        int result = inflate(in, Z_SYNC_FLUSH);
        *have = deflater->plain_cap - in->avail_out;
        if (*have > max)
            return STATUS_LIMIT;
        if (result == Z_STREAM_END &&
            inflateReset(in) != Z_OK) /* a final block may come before the end (section 7.2.3.4) */
            return STATUS_INVALID;
        if (result != Z_OK && result != Z_STREAM_END && result != Z_BUF_ERROR)
            return STATUS_INVALID;
        if (in->avail_in == 0 && in->avail_out > 0)
            return STATUS_OK;
        if (result == Z_BUF_ERROR && in->avail_out > 0)
            return STATUS_INVALID;
    }
}

enum status inflate_message(struct deflater *deflater, const uint8_t *payload, size_t len,
                            size_t max, const uint8_t **out, size_t *out_len)
{
    size_t have = 0;
    if (inflateReset(&deflater->in) != Z_OK)
        return STATUS_INVALID;
    enum status status = len == 0 ? STATUS_OK : run(deflater, payload, len, max, &have);
    if (status == STATUS_OK)
        status = run(deflater, tail, sizeof(tail), max, &have);
    if (status != STATUS_OK)
        return status;
    *out = deflater->plain;
    *out_len = have;
    return STATUS_OK;
}

/* After a large message the buffer is given back. */
void inflate_done(struct deflater *deflater)
{
    if (deflater->plain_cap <= 65536)
        return;
    free(deflater->plain);
    deflater->plain = NULL;
    deflater->plain_cap = 0;
}
