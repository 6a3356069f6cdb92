/*
 * The forms of the WebSocket door: raw, vinhub.v1 and vinhub.v1.msgpack, each plain or deflated.
 *
 * A publication is framed once for all clients of a form. The plain raw form is its payload, where
 * it stands, with the frame's head before it. A deflated one is made without context takeover, so
 * that the same bytes serve every client: it refers back within the message alone, and each window
 * that holds the whole message inflates it. Clients whose window is smaller than the message get it
 * plain (RFC 7692 section 7).
 */
#include <assert.h>
#include <string.h>

#include "core/forms.h"
#include "front/front_private.h"
#include "loop/ws_head.h"

#define BITS_MIN 8

static enum v1_encoding encoding_of(const struct ws_form *form)
{
    return form->protocol == PROTOCOL_JSON ? V1_JSON : V1_MSGPACK;
}

/* Puts the head of a frame before a message; NULL stays NULL. */
static struct wire *frame(struct wire *wire, unsigned opcode)
{
    uint8_t head[WS_SERVER_HEAD_MAX];
    if (!wire)
        return NULL;
    size_t len = ws_head(head, opcode, false, wire->len);
    memcpy(wire_prepend(wire, len), head, len);
    return wire;
}

static struct wire *frame_v1(const struct ws_form *form, struct wire *wire)
{
    return frame(wire, form->protocol == PROTOCOL_JSON ? OPCODE_TEXT : OPCODE_BINARY);
}

static const struct encoding *plain(void *ctx, unsigned key, struct publication *publication,
                                    const char *session)
{
    const struct ws_form *form = ctx;
    if (form->protocol != PROTOCOL_RAW)
        return publication_encode(
            publication, key, frame_v1(form, v1_message(encoding_of(form), publication, session)));
    uint8_t head[WS_SERVER_HEAD_MAX];
    size_t len = ws_head(head, publication->opcode, false, publication->len);
    return publication_encode_in_place(publication, key, head, len);
}

/* The same message in another form of its protocol, made where it is not there yet. */
static const struct encoding *other(const struct ws_form *form, unsigned key, unsigned bits,
                                    struct publication *publication, const char *session)
{
    struct front *front = form->front;
    unsigned named = key & FORM_NAMED;
    return form_of(front->hub, front_form(front, form->protocol, bits) | named, publication,
                   session);
}

static const struct encoding *deflated(void *ctx, unsigned key, struct publication *publication,
                                       const char *session)
{
    const struct ws_form *form = ctx;
    const struct encoding *as_plain = other(form, key, 0, publication, session);
    if (!as_plain)
        return NULL;
    size_t head = ws_head_len(as_plain->bytes), len = as_plain->len - head;
    if (form->window_bits < DEFLATE_BITS_MAX) {
        const struct encoding *widest = as_plain;
        if (len <= (size_t)1 << form->window_bits)
            widest = other(form, key, DEFLATE_BITS_MAX, publication, session);
        return widest ? publication_encode_alike(publication, key, widest) : NULL;
    }
    struct wire *wire = deflate_message(form->front->deflater, as_plain->bytes[0] & 0x0fU,
                                        as_plain->bytes + head, len);
    return wire ? publication_encode(publication, key, wire)
                : publication_encode_alike(publication, key, as_plain);
}

static struct wire *text(void *ctx, const char *reply, size_t len)
{
    (void)ctx;
    struct wire *wire = wire_new(len);
    if (wire)
        memcpy(wire->bytes, reply, len);
    return frame(wire, OPCODE_TEXT);
}

/* --- what else clients of vinhub.v1 are told --- */

static struct wire *gap(void *ctx, const struct v1_head *head, uint64_t epoch, uint64_t from,
                        uint64_t to)
{
    return frame_v1(ctx, v1_gap(encoding_of(ctx), head, epoch, from, to));
}

static struct wire *welcome(void *ctx, const struct v1_head *head, const struct v1_welcome *what)
{
    return frame_v1(ctx, v1_welcome(encoding_of(ctx), head, what));
}

static struct wire *status(void *ctx, const struct v1_head *head, const char *upstream,
                           const char *reason)
{
    return frame_v1(ctx, v1_status(encoding_of(ctx), head, upstream, reason));
}

static struct wire *ack(void *ctx, const struct v1_head *head, uint64_t id)
{
    return frame_v1(ctx, v1_ack(encoding_of(ctx), head, id));
}

static struct wire *error(void *ctx, const struct v1_head *head, const struct v1_error *what)
{
    return frame_v1(ctx, v1_error(encoding_of(ctx), head, what));
}

static struct wire *closed(void *ctx, const struct v1_head *head, const struct v1_closed *what)
{
    return frame_v1(ctx, v1_closed(encoding_of(ctx), head, what));
}

static struct wire *presence(void *ctx, const struct v1_head *head, const struct v1_watcher *users,
                             size_t len, uint64_t more)
{
    return frame_v1(ctx, v1_presence(encoding_of(ctx), head, users, len, more));
}

static struct wire *pong(void *ctx, const struct v1_head *head)
{
    return frame_v1(ctx, v1_pong(encoding_of(ctx), head));
}

static enum status request(void *ctx, enum opcode opcode, const void *bytes, size_t len,
                           struct v1_request *out, struct v1_mistake *mistake)
{
    return v1_decode(encoding_of(ctx), opcode, bytes, len, out, mistake);
}

/* By protocol, plain and deflated. */
#define V1_FORM(label, make)                                                                \
    {                                                                                       \
        .name = (label), .follows = true, .publication = (make), .text = text, .gap = gap,  \
        .welcome = welcome, .status = status, .ack = ack, .error = error, .closed = closed, \
        .pong = pong, .presence = presence, .request = request                              \
    }
static const struct form forms[PROTOCOLS][2] = {
    [PROTOCOL_RAW] = {{.name = "raw", .publication = plain, .text = text},
                      {.name = "raw, deflated", .publication = deflated, .text = text}},
    [PROTOCOL_JSON] = {V1_FORM("vinhub.v1", plain), V1_FORM("vinhub.v1, deflated", deflated)},
    [PROTOCOL_MSGPACK] = {V1_FORM("vinhub.v1.msgpack", plain),
                          V1_FORM("vinhub.v1.msgpack, deflated", deflated)},
};

static size_t place_of(unsigned window_bits)
{
    assert(window_bits == 0 || (window_bits >= BITS_MIN && window_bits <= DEFLATE_BITS_MAX));
    return window_bits == 0 ? 0 : window_bits - BITS_MIN + 1;
}

unsigned front_form(const struct front *front, enum protocol protocol, unsigned window_bits)
{
    return front->forms[protocol][place_of(window_bits)].id;
}

void forms_register(struct front *front)
{
    for (enum protocol protocol = PROTOCOL_RAW; protocol < PROTOCOLS; protocol++) {
        for (size_t i = 0; i < WS_FORMS; i++) {
            struct ws_form *form = &front->forms[protocol][i];
            *form = (struct ws_form){.front = front, .protocol = protocol};
            form->window_bits = i == 0 ? 0 : (unsigned)i + BITS_MIN - 1;
            form->id = form_add(front->hub, &forms[protocol][i != 0], form);
        }
    }
}
