#include "loop/ws_reader.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "common/text.h"

/* The size of the first allocation for a message that comes in pieces. */
#define GATHER_MIN 4096U

struct frame_head {
    uint64_t len;
    uint8_t mask[4];
    uint8_t opcode;
    bool final, rsv1, masked;
};

/* The state while the head of a frame, a frame or a message is incomplete. */
struct ws_partial {
    uint8_t head_bytes[WS_HEAD_MAX];
    uint8_t head_len; /* bytes of a head that is not complete; 0: none */
    bool in_frame;
    struct frame_head head; /* of the frame that is being read */
    uint64_t left;          /* payload bytes of it that have not come */
    size_t masked_len;      /* payload bytes of it that were unmasked */

    uint8_t message_opcode; /* 0: no message is under way */
    bool message_compressed;
    bool handed_out; /* the caller has the message below: it is freed at the next call */
    uint32_t utf8;   /* state of text_utf8_piece; 0: between two characters */
    uint8_t *message;
    size_t message_len, message_cap;
    uint8_t control[WS_CONTROL_MAX];
    uint8_t control_len;
};

bool ws_close_code_valid(unsigned code)
{
    if (code >= 3000)
        return code <= 4999;
    return code >= 1000 && code <= 1014 && code != 1004 && code != 1005 && code != 1006;
}

void ws_mask(uint8_t *bytes, size_t len, const uint8_t mask[4], size_t at)
{
    uint8_t turned[8];
    for (size_t i = 0; i < 8; i++)
        turned[i] = mask[(at + i) & 3];

    uint64_t word_mask;
    memcpy(&word_mask, turned, sizeof(word_mask));
    size_t done = 0;
    for (; len - done >= 8; done += 8) {
        uint64_t word;
        memcpy(&word, bytes + done, sizeof(word));
        word ^= word_mask;
        memcpy(bytes + done, &word, sizeof(word));
    }
    for (; done < len; done++)
        bytes[done] ^= turned[done & 7];
}

size_t ws_close_payload(uint8_t out[WS_CONTROL_MAX], unsigned code, const char *reason)
{
    if (code == 0 || code == 1005)
        return 0;
    out[0] = (uint8_t)(code >> 8);
    out[1] = (uint8_t)code;
    size_t len = reason ? strlen(reason) : 0;
    if (len > WS_CONTROL_MAX - 2) {
        len = WS_CONTROL_MAX - 2;
        while (len > 0 && ((uint8_t)reason[len] & 0xc0) == 0x80)
            len--;
    }
    if (len > 0)
        memcpy(out + 2, reason, len);
    return len + 2;
}

static bool bad(struct ws_item *item, unsigned code, const char *why)
{
    *item = (struct ws_item){.kind = WS_ITEM_BAD, .code = code, .why = why};
    return true;
}

/* --- headers --- */

/* The size of the head that begins with these bytes; 0 if there are too few of them. */
static size_t head_size(const uint8_t *bytes, size_t len)
{
    if (len < 2)
        return 0;
    size_t size = 2;
    if ((bytes[1] & 0x7f) == 126)
        size += 2;
    else if ((bytes[1] & 0x7f) == 127)
        size += 8;
    return size + ((bytes[1] & 0x80) != 0 ? 4 : 0);
}

static struct frame_head head_decode(const uint8_t *bytes)
{
    struct frame_head head = {
        .opcode = bytes[0] & 0x0f,
        .final = (bytes[0] & 0x80) != 0,
        .rsv1 = (bytes[0] & 0x40) != 0,
        .masked = (bytes[1] & 0x80) != 0,
        .len = bytes[1] & 0x7f,
    };
    const uint8_t *at = bytes + 2;
    size_t length_bytes = head.len == 126 ? 2 : head.len == 127 ? 8 : 0;
    if (length_bytes > 0)
        head.len = 0;
    for (size_t i = 0; i < length_bytes; i++)
        head.len = head.len << 8 | *at++;
    if (head.masked)
        memcpy(head.mask, at, sizeof(head.mask));
    return head;
}

static bool is_control(uint8_t opcode)
{
    return (opcode & 0x08) != 0;
}

/* Checks the first two bytes of a head, before the rest of it has come. Returns the rule that they
 * break; NULL: none. */
static const char *first_bytes_wrong(const uint8_t *bytes, const struct ws_rules *rules,
                                     bool continues)
{
    uint8_t opcode = bytes[0] & 0x0f;
    bool first = opcode == WS_TEXT || opcode == WS_BINARY;
    if ((bytes[0] & 0x30) != 0 || ((bytes[0] & 0x40) != 0 && (!rules->rsv1 || !first)))
        return "reserved bit set";
    if (((bytes[1] & 0x80) != 0) != rules->masked)
        return rules->masked ? "frame is not masked" : "frame is masked";
    if (is_control(opcode)) {
        if (opcode > WS_PONG)
            return "unknown opcode";
        if ((bytes[0] & 0x80) == 0)
            return "fragmented control frame";
        return (bytes[1] & 0x7f) > WS_CONTROL_MAX ? "control frame too long" : NULL;
    }
    if (opcode > WS_BINARY)
        return "unknown opcode";
    if (first && continues)
        return "new message before the last one ended";
    return !first && !continues ? "continuation frame without a message" : NULL;
}

/* The length must come in its shortest form and below 2^63 (section 5.2). */
static bool length_wrong(const uint8_t *bytes, uint64_t len)
{
    uint8_t form = bytes[1] & 0x7f;
    return (form == 126 && len < 126) || (form == 127 && (len <= UINT16_MAX || len >> 63 != 0));
}

/* --- what is handed out --- */

static bool emit_message(struct ws_item *item, uint8_t opcode, bool compressed, uint8_t *payload,
                         size_t len)
{
    *item = (struct ws_item){.kind = WS_ITEM_MESSAGE,
                             .opcode = opcode,
                             .compressed = compressed,
                             .payload = payload,
                             .len = len};
    return true;
}

static bool emit_close(struct ws_item *item, uint8_t *payload, size_t len)
{
    if (len == 1)
        return bad(item, 1002, "close frame of one byte");
    unsigned code = len == 0 ? 1005 : (unsigned)payload[0] << 8 | payload[1];
    if (len > 0 && !ws_close_code_valid(code))
        return bad(item, 1002, "invalid close code");
    size_t reason = len == 0 ? 0 : 2;
    if (!text_is_utf8(payload + reason, len - reason))
        return bad(item, 1007, "close reason is not UTF-8");
    *item = (struct ws_item){
        .kind = WS_ITEM_CLOSE, .code = code, .payload = payload + reason, .len = len - reason};
    return true;
}

static bool emit_control(struct ws_item *item, uint8_t opcode, uint8_t *payload, size_t len)
{
    if (opcode == WS_CLOSE)
        return emit_close(item, payload, len);
    *item = (struct ws_item){
        .kind = opcode == WS_PING ? WS_ITEM_PING : WS_ITEM_PONG, .payload = payload, .len = len};
    return true;
}

/* --- what is cut off --- */

static struct ws_partial *partial_get(struct ws_reader *reader)
{
    if (!reader->partial)
        reader->partial = calloc(1, sizeof(*reader->partial));
    return reader->partial;
}

static void message_reset(struct ws_partial *partial)
{
    free(partial->message);
    partial->message = NULL;
    partial->message_len = partial->message_cap = 0;
    partial->message_opcode = 0;
    partial->utf8 = 0;
}

/* Frees the message that the caller has seen, and all of the state if nothing is pending. */
static void settle(struct ws_reader *reader)
{
    struct ws_partial *partial = reader->partial;
    if (!partial)
        return;
    if (partial->handed_out) {
        partial->handed_out = false;
        message_reset(partial);
    }
    if (partial->head_len == 0 && !partial->in_frame && partial->message_opcode == 0) {
        free(partial);
        reader->partial = NULL;
    }
}

void ws_reader_fini(struct ws_reader *reader)
{
    if (!reader->partial)
        return;
    free(reader->partial->message);
    free(reader->partial);
    reader->partial = NULL;
}

/* Makes room for more bytes. The buffer doubles, so a peer can't make us allocate much more than it
 * has sent; in the last frame it grows no further than the message needs. */
static bool message_reserve(struct ws_partial *partial, size_t more)
{
    if (partial->message_cap - partial->message_len >= more)
        return true;
    size_t cap = partial->message_cap * 2 > GATHER_MIN ? partial->message_cap * 2 : GATHER_MIN;
    if (cap < partial->message_len + more)
        cap = partial->message_len + more;
    size_t whole = partial->message_len + (size_t)partial->left;
    if (partial->head.final && cap > whole)
        cap = whole;
    uint8_t *message = realloc(partial->message, cap);
    if (!message)
        return false;
    partial->message = message;
    partial->message_cap = cap;
    return true;
}

/* Appends a piece to the message, and checks that a text is UTF-8. Returns true if the piece is
 * bad; item says why. */
static bool message_add(struct ws_partial *partial, uint8_t *bytes, size_t n, struct ws_item *item)
{
    bool text = partial->message_opcode == WS_TEXT && !partial->message_compressed;
    if (text && !text_utf8_piece(&partial->utf8, bytes, n))
        return bad(item, 1007, "text is not UTF-8");
    if (n > 0 && !message_reserve(partial, n))
        return bad(item, 1011, "out of memory");
    if (n > 0)
        memcpy(partial->message + partial->message_len, bytes, n);
    partial->message_len += n;
    return false;
}

/* --- frames --- */

/*
 * Makes a complete head out of the bytes that were kept and those that came. False: more bytes are
 * needed (all input is taken), or item says what is wrong.
 */
static bool read_head(struct ws_reader *reader, const struct ws_rules *rules, uint8_t **bytes,
                      size_t *len, struct frame_head *out, struct ws_item *item)
{
    uint8_t kept[WS_HEAD_MAX];
    struct ws_partial *partial = reader->partial;
    size_t kept_len = partial ? partial->head_len : 0;
    size_t fresh = *len < WS_HEAD_MAX - kept_len ? *len : WS_HEAD_MAX - kept_len;
    if (kept_len > 0)
        memcpy(kept, partial->head_bytes, kept_len);
    if (fresh > 0)
        memcpy(kept + kept_len, *bytes, fresh);

    size_t have = kept_len + fresh;
    size_t size = head_size(kept, have);
    const char *wrong = NULL;
    if (have >= 2)
        wrong = first_bytes_wrong(kept, rules, partial && partial->message_opcode != 0);
    if (wrong) {
        bad(item, 1002, wrong);
        return false;
    }
    if (size == 0 || have < size) {
        if (have == 0)
            return false;
        partial = partial_get(reader);
        if (!partial) {
            bad(item, 1011, "out of memory");
            return false;
        }
        memcpy(partial->head_bytes, kept, have);
        partial->head_len = (uint8_t)have;
        *bytes += *len;
        *len = 0;
        return false;
    }

    *out = head_decode(kept);
    if (length_wrong(kept, out->len)) {
        bad(item, 1002, "malformed length");
        return false;
    }
    *bytes += size - kept_len;
    *len -= size - kept_len;
    if (partial)
        partial->head_len = 0;
    return true;
}

/* Whether the message would exceed max. have may be larger already: a reload may have lowered the
 * limit since the message began. */
static bool exceeds(size_t max, size_t have, uint64_t more)
{
    return have > max || more > max - have;
}

static bool too_large(const struct ws_reader *reader, const struct ws_rules *rules,
                      const struct frame_head *head)
{
    if (is_control(head->opcode))
        return false;
    const struct ws_partial *partial = reader->partial;
    bool compressed = head->opcode == WS_CONTINUATION ? partial->message_compressed : head->rsv1;
    size_t max = rules->message_max + (compressed ? rules->deflated_more : 0);
    return exceeds(max, partial ? partial->message_len : 0, head->len);
}

/* The same as too_large, for a frame that was read in part before. */
static bool rest_too_large(const struct ws_partial *partial, const struct ws_rules *rules)
{
    if (is_control(partial->head.opcode))
        return false;
    size_t max = rules->message_max + (partial->message_compressed ? rules->deflated_more : 0);
    return exceeds(max, partial->message_len, partial->left);
}

/* The usual case: the frame is whole in the input, and is a control frame or a whole message. */
static bool emit_whole(const struct frame_head *head, uint8_t *payload, struct ws_item *item)
{
    size_t len = (size_t)head->len;
    if (head->masked)
        ws_mask(payload, len, head->mask, 0);
    if (is_control(head->opcode))
        return emit_control(item, head->opcode, payload, len);
    if (head->opcode == WS_TEXT && !head->rsv1 && !text_is_utf8(payload, len))
        return bad(item, 1007, "text is not UTF-8");
    return emit_message(item, head->opcode, head->rsv1, payload, len);
}

static void frame_begin(struct ws_partial *partial, const struct frame_head *head)
{
    partial->head = *head;
    partial->in_frame = true;
    partial->left = head->len;
    partial->masked_len = 0;
    partial->control_len = 0;
    if (head->opcode == WS_TEXT || head->opcode == WS_BINARY) {
        partial->message_opcode = head->opcode;
        partial->message_compressed = head->rsv1;
        partial->utf8 = 0;
    }
}

/* The last byte of the frame has come. True: item is set. */
static bool frame_end(struct ws_partial *partial, struct ws_item *item)
{
    partial->in_frame = false;
    if (is_control(partial->head.opcode))
        return emit_control(item, partial->head.opcode, partial->control, partial->control_len);
    if (!partial->head.final)
        return false;
    if (partial->utf8 != 0)
        return bad(item, 1007, "text is not UTF-8");
    partial->handed_out = true;
    return emit_message(item, partial->message_opcode, partial->message_compressed,
                        partial->message, partial->message_len);
}

/* Takes the available part of the frame. True: item is set. */
static bool frame_read(struct ws_partial *partial, uint8_t **bytes, size_t *len,
                       struct ws_item *item)
{
    size_t n = partial->left < *len ? (size_t)partial->left : *len;
    if (partial->head.masked)
        ws_mask(*bytes, n, partial->head.mask, partial->masked_len);
    partial->masked_len += n;
    if (is_control(partial->head.opcode)) {
        assert(partial->control_len + n <= WS_CONTROL_MAX);
        memcpy(partial->control + partial->control_len, *bytes, n);
        partial->control_len = (uint8_t)(partial->control_len + n);
    } else if (message_add(partial, *bytes, n, item)) {
        return true;
    }
    partial->left -= n;
    *bytes += n;
    *len -= n;
    return partial->left == 0 && frame_end(partial, item);
}

bool ws_next(struct ws_reader *reader, const struct ws_rules *rules, uint8_t **bytes, size_t *len,
             struct ws_item *item)
{
    settle(reader);
    for (;;) {
        if (reader->partial && reader->partial->in_frame) {
            if (*len == 0)
                return false;
            if (rest_too_large(reader->partial, rules))
                return bad(item, rules->too_large, "message too large");
            if (frame_read(reader->partial, bytes, len, item))
                return true;
            continue;
        }

        struct frame_head head;
        *item = (struct ws_item){.kind = WS_ITEM_MESSAGE};
        if (!read_head(reader, rules, bytes, len, &head, item))
            return item->kind == WS_ITEM_BAD;
        if (too_large(reader, rules, &head))
            return bad(item, rules->too_large, "message too large");

        bool alone = is_control(head.opcode) || (head.final && head.opcode != WS_CONTINUATION);
        if (alone && head.len <= *len) {
            uint8_t *payload = *bytes;
            *bytes += head.len;
            *len -= (size_t)head.len;
            return emit_whole(&head, payload, item);
        }
        if (!partial_get(reader))
            return bad(item, 1011, "out of memory");
        frame_begin(reader->partial, &head);
        if (head.len == 0 && frame_end(reader->partial, item))
            return true;
    }
}
