/*
 * A publication: one message from the upstream (or the publish API), immutable and shared.
 *
 * One allocation holds the object, the WebSocket header of an unmasked server frame and the
 * payload, so that the plain raw wire form is there without a copy (RFC 6455 section 5.2). The
 * other wire forms are made at most once each, when the first client needs them; they live as long
 * as the publication. Reference counted, one thread.
 */
#ifndef VINHUB_COMMON_PUBLICATION_H
#define VINHUB_COMMON_PUBLICATION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/status.h"

enum opcode { OPCODE_TEXT = 1, OPCODE_BINARY = 2 }; /* values of RFC 6455 section 5.2 */

/* Where in a session's stream something stands. Compared by epoch, then offset. {0,0}: not known.
 */
struct position {
    uint64_t epoch;
    uint64_t offset;
};

static inline int position_compare(struct position a, struct position b)
{
    if (a.epoch != b.epoch)
        return a.epoch < b.epoch ? -1 : 1;
    return a.offset < b.offset ? -1 : a.offset > b.offset;
}

/* The forms a publication takes on a browser's wire. */
enum wire_form { WIRE_RAW, WIRE_JSON, WIRE_MSGPACK, WIRE_FORMS };

/* A ready frame, or several in a row. Immutable, reference counted. */
struct wire {
    unsigned refs;
    size_t len;
    uint8_t bytes[];
};

struct publication {
    unsigned refs;
    enum opcode opcode;
    struct position at; /* {0,0} until the owner gave it its place */
    uint64_t time_ms;   /* when the owner placed it, Unix time, milliseconds */
    uint64_t
        received_us; /* when this node got it, monotonic, for the latency histogram; 0: not known */
    size_t len;      /* payload bytes */
    uint8_t head_len; /* bytes of the frame header that stands right before the payload */
    struct wire *forms[WIRE_FORMS]
                      [2]; /* [form][deflated]; [WIRE_RAW][0] stays NULL: see publication_frame */
    uint8_t *payload;      /* within this allocation */
};

/* A publication with room for len payload bytes, to be filled by the caller before it is shared.
 * Returns NULL when out of memory. One reference, the caller's. */
struct publication *publication_new(enum opcode opcode, size_t len);
/* The same with the payload copied in. */
struct publication *publication_copy(enum opcode opcode, const void *payload, size_t len);
struct publication *publication_ref(struct publication *publication);
void publication_unref(struct publication *publication);

/* The plain raw frame (header and payload), valid as long as the publication. */
static inline const uint8_t *publication_frame(const struct publication *p, size_t *len)
{
    *len = p->head_len + p->len;
    return p->payload - p->head_len;
}

/* Writes an unmasked final frame's header for len payload bytes into out (at most 10 bytes);
 * returns its size. */
size_t frame_header(uint8_t out[10], unsigned opcode, bool rsv1, size_t len);

struct wire *wire_new(size_t len); /* NULL when out of memory; one reference */
struct wire *wire_ref(struct wire *wire);
void wire_unref(struct wire *wire);

#endif
