/*
 * permessage-deflate (RFC 7692), without context takeover in either direction: one deflater and one
 * inflater serve all connections, a publication is deflated once for all of them, and no connection
 * holds memory for it.
 *
 * A client may ask for a smaller window of what it is sent (server_max_window_bits). zlib's own
 * answer would be a deflater a window size, and for 256 bytes none at all: its raw deflate silently
 * takes a window of 512 where 8 bits are asked for. But a stream refers back within its message
 * alone, so one that is no longer than the window needs no other stream, and a longer one goes
 * plain.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "common/text.h"
#include "front/front_private.h"
#include "loop/ws_head.h"

#define LEVEL       5 /* within a few per cent of 9 for messages of some kilobytes, at half the time */
#define INFLATE_MIN 4096U

static const uint8_t tail[4] = {0x00, 0x00, 0xff,
                                0xff}; /* what a sender leaves out (section 7.2.1) */

struct deflater {
    z_stream out, in;
    bool ended;     /* the last of what was inflated was a final block */
    uint8_t *plain; /* of the message inflated last */
    size_t plain_cap;
};

struct deflater *deflater_new(void)
{
    struct deflater *deflater = calloc(1, sizeof(*deflater));
    if (!deflater)
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
    if (!deflater)
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

/* The part up to separator; *rest moves past it. *found: there was a separator. */
static struct http_text cut(struct http_text *rest, char separator, bool *found)
{
    const char *end = memchr(rest->at, separator, rest->len);
    struct http_text part = {rest->at, end ? (size_t)(end - rest->at) : rest->len};
    size_t taken = end ? part.len + 1 : rest->len;
    rest->at += taken;
    rest->len -= taken;
    *found = end != NULL;
    return trim_part(part);
}

/* A parameter's value without the quotes it may stand in. What is quoted must be a token, too (RFC
 * 6455 section 9.1), so that no separator hides in it; nobody needs an escape for that. */
static struct http_text unquoted(struct http_text value)
{
    if (value.len < 2 || value.at[0] != '"' || value.at[value.len - 1] != '"')
        return value;
    return (struct http_text){value.at + 1, value.len - 2};
}

/* Takes the next parameter of an extension. False: it is malformed. */
static bool next_parameter(struct http_text *rest, struct http_text *name, struct http_text *value,
                           bool *more)
{
    bool has_value;
    struct http_text part = cut(rest, ';', more);
    *name = cut(&part, '=', &has_value);
    *value = unquoted(trim_part(part));
    return http_text_is_token(*name) && has_value == (part.len > 0) &&
           (!has_value || http_text_is_token(*value));
}

static bool window_bits(struct http_text value, unsigned *out)
{
    if (value.len == 0 || value.len > 2 || value.at[0] == '0')
        return false;
    unsigned bits = 0;
    for (size_t i = 0; i < value.len; i++) {
        if (value.at[i] < '0' || value.at[i] > '9')
            return false;
        bits = bits * 10 + (unsigned)(value.at[i] - '0');
    }
    if (bits < 8 || bits > 15)
        return false;
    *out = bits;
    return true;
}

/* The parameters of section 7.1, in the order of the table below. */
enum { SERVER_TAKEOVER, CLIENT_TAKEOVER, SERVER_BITS, CLIENT_BITS, UNKNOWN };

/* An offer under examination. */
struct offer {
    unsigned seen; /* parameters, as bits */
    unsigned server_bits, client_bits;
    bool fits;
};

/* Each parameter at most once, known, and with a value that it may have. */
static void take_parameter(struct offer *offer, struct http_text name, struct http_text value)
{
    static const char *const known[] = {"server_no_context_takeover", "client_no_context_takeover",
                                        "server_max_window_bits", "client_max_window_bits"};
    unsigned which = SERVER_TAKEOVER;
    while (which < UNKNOWN && !http_text_is_word(name, known[which]))
        which++;
    bool valid = which != UNKNOWN && (offer->seen & 1U << which) == 0;
    if (which == SERVER_BITS)
        valid = valid && window_bits(value, &offer->server_bits);
    else if (which == CLIENT_BITS)
        valid = valid && (value.len == 0 || window_bits(value, &offer->client_bits));
    else
        valid = valid && value.len == 0;
    offer->seen |= 1U << which;
    offer->fits = offer->fits && valid;
}

/* False: the extension is malformed. */
static bool read_offer(struct http_text extension, struct offer *offer)
{
    *offer = (struct offer){.server_bits = DEFLATE_BITS_MAX};
    bool more;
    struct http_text name = cut(&extension, ';', &more), value;
    if (!http_text_is_token(name))
        return false;
    offer->fits = http_text_is_word(name, "permessage-deflate");
    while (more) {
        if (!next_parameter(&extension, &name, &value, &more))
            return false;
        take_parameter(offer, name, value);
    }
    return true;
}

/* The client may keep its window: what it sends is inflated with the largest. */
static void agree(const struct offer *offer, struct deflate_terms *out)
{
    static const char both[] =
        "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
    out->window_bits = offer->server_bits;
    bool named = (offer->seen & 1U << SERVER_BITS) != 0;
    snprintf(out->answer, sizeof(out->answer), named ? "%s; server_max_window_bits=%u" : "%s", both,
             offer->server_bits);
}

enum status deflate_negotiate(const struct http_head *head, struct deflate_terms *out)
{
    *out = (struct deflate_terms){0};
    size_t index = 0;
    struct http_text value, item;
    while (http_head_next(head, "sec-websocket-extensions", &index, &value)) {
        while (http_list_next(&value, &item)) {
            struct offer offer;
            if (!read_offer(item, &offer))
                return STATUS_INVALID;
            if (offer.fits && out->window_bits == 0)
                agree(&offer, out);
        }
    }
    return STATUS_OK;
}

/* --- messages --- */

struct wire *deflate_message(struct deflater *deflater, unsigned opcode, const uint8_t *payload,
                             size_t len)
{
    if (len < 16 || len > UINT32_MAX / 2)
        return NULL;
    z_stream *out = &deflater->out;
    struct wire *wire = wire_new(len);
    if (!wire || deflateReset(out) != Z_OK) {
        if (wire)
            wire_unref(wire);
        return NULL;
    }
    out->next_in = (Bytef *)(uintptr_t)payload;
    out->avail_in = (uInt)len;
    out->next_out = wire->bytes;
    out->avail_out = (uInt)len;
    /* If the result would be longer than the plain message, deflating does not pay. */
    bool whole = deflate(out, Z_SYNC_FLUSH) == Z_OK && out->avail_in == 0 && out->avail_out > 0;
    size_t deflated = len - out->avail_out;
    if (!whole || deflated < sizeof(tail)) {
        wire_unref(wire);
        return NULL;
    }
    /* It lives as long as its publication, which the history may keep. */
    wire = wire_shrink(wire, deflated - sizeof(tail));
    uint8_t head[WS_SERVER_HEAD_MAX];
    size_t head_len = ws_head(head, opcode, true, wire->len);
    memcpy(wire_prepend(wire, head_len), head, head_len);
    return wire;
}

static bool grow(struct deflater *deflater, size_t max)
{
    size_t cap = deflater->plain_cap * 2 > INFLATE_MIN ? deflater->plain_cap * 2 : INFLATE_MIN;
    if (cap > max)
        cap = max;
    uint8_t *grown = realloc(deflater->plain, cap);
    if (!grown)
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
        if (result == Z_OK || result == Z_STREAM_END)
            deflater->ended = result == Z_STREAM_END;
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

/* What was cut off in the middle of a block would swallow the tail; zlib says so alone by this bit,
 * which it sets between blocks. */
static bool between_blocks(const z_stream *in)
{
    return (in->data_type & 128) != 0;
}

enum status inflate_message(struct deflater *deflater, const uint8_t *payload, size_t len,
                            size_t max, const uint8_t **out, size_t *out_len)
{
    size_t have = 0;
    if (inflateReset(&deflater->in) != Z_OK)
        return STATUS_INVALID;
    deflater->ended = len ==
                      0; /* not even a block: some senders make no more of an empty message */
    enum status status = len == 0 ? STATUS_OK : run(deflater, payload, len, max, &have);
    /* Some end with a final block and no empty one for the tail. */
    if (status == STATUS_OK && !deflater->ended) {
        status = run(deflater, tail, sizeof(tail), max, &have);
        if (status == STATUS_OK && !between_blocks(&deflater->in))
            status = STATUS_INVALID;
    }
    if (status != STATUS_OK)
        return status;
    *out = have == 0 ? tail : deflater->plain; /* never NULL */
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
