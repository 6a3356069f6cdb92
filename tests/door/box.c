#include "box.h"

#include <assert.h>
#include <string.h>

#include "core/forms.h"

#define HEAD 5

static size_t head_of(uint8_t head[HEAD], unsigned opcode, size_t len)
{
    assert(len <= UINT32_MAX);
    head[0] = (uint8_t)opcode;
    for (size_t i = 0; i < 4; i++)
        head[1 + i] = (uint8_t)(len >> (24 - 8 * i));
    return HEAD;
}

static struct wire *boxed(struct wire *wire, unsigned opcode)
{
    uint8_t head[HEAD];
    if (!wire)
        return NULL;
    head_of(head, opcode, wire->len);
    memcpy(wire_prepend(wire, HEAD), head, HEAD);
    return wire;
}

static const enum v1_encoding encodings[] = {V1_JSON, V1_MSGPACK};

static struct wire *boxed_v1(void *ctx, struct wire *wire)
{
    return boxed(wire, ctx == &encodings[V1_JSON] ? OPCODE_TEXT : OPCODE_BINARY);
}

static enum v1_encoding of(const void *ctx)
{
    return *(const enum v1_encoding *)ctx;
}

static const struct encoding *raw(void *ctx, unsigned key, struct publication *publication,
                                  const char *session)
{
    uint8_t head[HEAD];
    (void)ctx;
    (void)session;
    return publication_encode_in_place(publication, key, head,
                                       head_of(head, publication->opcode, publication->len));
}

static const struct encoding *message(void *ctx, unsigned key, struct publication *publication,
                                      const char *session)
{
    return publication_encode(publication, key,
                              boxed_v1(ctx, v1_message(of(ctx), publication, session)));
}

static struct wire *text(void *ctx, const char *reply, size_t len)
{
    struct wire *wire = wire_new(len);
    (void)ctx;
    if (wire)
        memcpy(wire->bytes, reply, len);
    return boxed(wire, OPCODE_TEXT);
}

static struct wire *gap(void *ctx, const struct v1_head *head, uint64_t epoch, uint64_t from,
                        uint64_t to)
{
    return boxed_v1(ctx, v1_gap(of(ctx), head, epoch, from, to));
}

static struct wire *welcome(void *ctx, const struct v1_head *head, const struct v1_welcome *what)
{
    return boxed_v1(ctx, v1_welcome(of(ctx), head, what));
}

static struct wire *status(void *ctx, const struct v1_head *head, const char *upstream,
                           const char *reason)
{
    return boxed_v1(ctx, v1_status(of(ctx), head, upstream, reason));
}

static struct wire *ack(void *ctx, const struct v1_head *head, uint64_t id)
{
    return boxed_v1(ctx, v1_ack(of(ctx), head, id));
}

static struct wire *error(void *ctx, const struct v1_head *head, const struct v1_error *what)
{
    return boxed_v1(ctx, v1_error(of(ctx), head, what));
}

static struct wire *closed(void *ctx, const struct v1_head *head, const struct v1_closed *what)
{
    return boxed_v1(ctx, v1_closed(of(ctx), head, what));
}

static struct wire *presence(void *ctx, const struct v1_head *head, const struct v1_watcher *users,
                             size_t len, uint64_t more)
{
    return boxed_v1(ctx, v1_presence(of(ctx), head, users, len, more));
}

static struct wire *pong(void *ctx, const struct v1_head *head)
{
    return boxed_v1(ctx, v1_pong(of(ctx), head));
}

static enum status request(void *ctx, enum opcode opcode, const void *bytes, size_t len,
                           struct v1_request *out, struct v1_mistake *mistake)
{
    return v1_decode(of(ctx), opcode, bytes, len, out, mistake);
}

static const struct form raw_form = {.name = "box", .publication = raw, .text = text};
static const struct form v1_form = {.name = "boxed v1",
                                    .follows = true,
                                    .publication = message,
                                    .text = text,
                                    .gap = gap,
                                    .welcome = welcome,
                                    .status = status,
                                    .ack = ack,
                                    .error = error,
                                    .closed = closed,
                                    .pong = pong,
                                    .presence = presence,
                                    .request = request};
/* Like event streams: one way, and without presence. */
static const struct form one_way_form = {.name = "boxed v1, one way",
                                         .follows = true,
                                         .publication = message,
                                         .text = text,
                                         .gap = gap,
                                         .welcome = welcome,
                                         .status = status};

void box_register(struct hub *hub)
{
    bool first = form_add(hub, &raw_form, NULL) == BOX_RAW;
    assert(first);
    form_add(hub, &v1_form, (void *)(uintptr_t)&encodings[V1_JSON]);
    form_add(hub, &v1_form, (void *)(uintptr_t)&encodings[V1_MSGPACK]);
    form_add(hub, &one_way_form, (void *)(uintptr_t)&encodings[V1_JSON]);
}

bool box_next(const uint8_t **bytes, size_t *len, struct box *out)
{
    if (!*len)
        return false;
    const uint8_t *at = *bytes;
    assert(*len >= HEAD && (at[0] == OPCODE_TEXT || at[0] == OPCODE_BINARY));
    size_t body = (size_t)at[1] << 24 | (size_t)at[2] << 16 | (size_t)at[3] << 8 | at[4];
    assert(body <= *len - HEAD); /* only whole boxes are written */
    *out = (struct box){.opcode = at[0], .bytes = at + HEAD, .len = body};
    *bytes += HEAD + body;
    *len -= HEAD + body;
    return true;
}
