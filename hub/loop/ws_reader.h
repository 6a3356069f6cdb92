/*
 * The reading half of RFC 6455 framing, for both roles: bytes in, whole messages and control frames
 * out.
 *
 * It knows no socket. It checks the rules of section 5 (masking, reserved bits, opcodes,
 * fragmentation, control frames, lengths), the UTF-8 of texts while they arrive, close codes, and
 * the size of a message by its frame heads, before memory is allocated. A frame that is whole in
 * the input is handed out in place. Only an incomplete one is copied, so a connection between two
 * messages needs no memory here.
 */
#ifndef VINHUB_LOOP_WS_READER_H
#define VINHUB_LOOP_WS_READER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WS_CONTROL_MAX 125 /* bytes of a control frame's payload (section 5.5) */
/* The most a header takes: two bytes, a length of eight, a mask of four. */
#define WS_HEAD_MAX 14

enum ws_opcode {
    WS_CONTINUATION = 0x0,
    WS_TEXT = 0x1,
    WS_BINARY = 0x2,
    WS_CLOSE = 0x8,
    WS_PING = 0x9,
    WS_PONG = 0xa,
};

struct ws_partial;

/* Of one connection. Starts zeroed. */
struct ws_reader {
    struct ws_partial *partial; /* NULL between messages */
};

struct ws_rules {
    bool masked; /* frames must be masked (we are the server), or must not be (we are the client) */
    bool rsv1;   /* the first frame of a message may carry RSV1: permessage-deflate was agreed */
    size_t message_max;   /* bytes of a message's payload, as it is on the wire */
    size_t deflated_more; /* how much longer a deflated message may be: deflate may add bytes */
    unsigned too_large;   /* the close code for a larger message */
};

enum ws_item_kind { WS_ITEM_MESSAGE, WS_ITEM_PING, WS_ITEM_PONG, WS_ITEM_CLOSE, WS_ITEM_BAD };

struct ws_item {
    enum ws_item_kind kind;
    uint8_t opcode;   /* of a message: WS_TEXT or WS_BINARY */
    bool compressed;  /* of a message: RSV1 was set; its text was not checked for UTF-8 */
    uint8_t *payload; /* of a close: the reason; valid until the next call for this reader */
    size_t len;
    /* Of a close: the peer's code, 1005 for none. Of bad input: the code to close with. */
    unsigned code;
    const char *why; /* of bad input: a static text */
};

/*
 * Takes the next item out of *bytes, and moves *bytes and *len on. The bytes are unmasked in place.
 * False: all bytes are taken, and more are needed. After an item of kind CLOSE or BAD the reader
 * must not be called again.
 */
bool ws_next(struct ws_reader *reader, const struct ws_rules *rules, uint8_t **bytes, size_t *len,
             struct ws_item *item);
/* Frees what is half read. */
void ws_reader_fini(struct ws_reader *reader);

/* Whether a peer may send this close code (section 7.4, and IANA's registry). */
bool ws_close_code_valid(unsigned code);
/* XORs bytes with the mask, beginning with byte (at mod 4) of the mask. */
void ws_mask(uint8_t *bytes, size_t len, const uint8_t mask[4], size_t at);
/* Writes the payload of a close frame into out: the code (none for 0 and 1005) and the reason,
 * which is cut between two characters if it is too long. Returns the length. */
size_t ws_close_payload(uint8_t out[WS_CONTROL_MAX], unsigned code, const char *reason);

#endif
