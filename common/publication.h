/*
 * A publication: one message from the upstream (or the publish API), immutable and shared.
 *
 * One allocation holds the object and the payload, with room before that for the head that a front
 * door puts in front of it: its plainest form is there without a copy. Other forms are made at most
 * once each, when the first client needs them; they live as long as the publication. A form is a
 * number here; its door knows what it means and how to make it. Reference counted, one thread.
 */
#ifndef VINHUB_COMMON_PUBLICATION_H
#define VINHUB_COMMON_PUBLICATION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/status.h"
#include "common/wire.h"

enum opcode { OPCODE_TEXT = 1, OPCODE_BINARY = 2 }; /* values of RFC 6455 section 5.2 */

/* Where in a session's stream something stands. Compared by epoch, then offset. {0,0}: not known.
 */
struct position {
    uint64_t epoch;
    uint64_t offset;
};

/* An offset after all offsets of an epoch; exact as a JSON number. */
#define OFFSET_END ((UINT64_C(1) << 53) - 1)

static inline int position_compare(struct position a, struct position b)
{
    if (a.epoch != b.epoch)
        return a.epoch < b.epoch ? -1 : 1;
    return a.offset < b.offset ? -1 : a.offset > b.offset;
}

/* A publication in one form. */
struct encoding {
    unsigned form; /* 0: none */
    size_t len;
    const uint8_t *bytes;
    struct wire *wire;     /* owns bytes; NULL: they stand in the publication */
    struct encoding *next; /* of the publication */
};

struct publication {
    unsigned refs;
    enum opcode opcode;
    struct position at; /* {0,0} until the owner gave it its place */
    uint64_t time_ms;   /* when the owner placed it, Unix time, milliseconds */
    uint64_t
        received_us; /* when this node got it, monotonic, for the latency histogram; 0: not known */
    size_t len;      /* payload bytes */
    uint8_t *payload;         /* within this allocation */
    struct encoding encoding; /* the first; the others follow it */
    bool in_place;            /* the room before the payload is taken by one of them */
};

/* A publication with room for len payload bytes, to be filled by the caller before it is shared.
 * Returns NULL when out of memory. One reference, the caller's. */
struct publication *publication_new(enum opcode opcode, size_t len);
/* The same with the payload copied in. */
struct publication *publication_copy(enum opcode opcode, const void *payload, size_t len);
struct publication *publication_ref(struct publication *publication);
void publication_unref(struct publication *publication);

/* What a history has for the end of an epoch whose owner died before it had written all: nobody
 * knows how much is missing. Its opcode is 0, its place {epoch, OFFSET_END}, its payload a gap
 * note's (core/pubs.h). One reference, the caller's; NULL when out of memory. */
struct publication *publication_lost_end(uint64_t epoch);

/* Its encoding of that form, NULL where it was not made yet. Lives as long as the publication. */
const struct encoding *publication_encoding(const struct publication *publication, unsigned form);
/* Adds one; takes over the reference to wire (NULL: it could not be made). NULL when out of memory.
 */
const struct encoding *publication_encode(struct publication *publication, unsigned form,
                                          struct wire *wire);
/* Adds one that is a head of at most WIRE_HEADROOM bytes and the payload, where they stand. Once
 * for each publication at most. */
const struct encoding *publication_encode_in_place(struct publication *publication, unsigned form,
                                                   const void *head, size_t head_len);
/* Adds one that is the same bytes as another of its encodings. */
const struct encoding *publication_encode_alike(struct publication *publication, unsigned form,
                                                const struct encoding *other);

#endif
