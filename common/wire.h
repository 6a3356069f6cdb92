/*
 * Bytes for a socket, made once and shared by all who are to get them. Reference counted, one
 * thread; immutable once it is shared. Before the bytes there is room for the head that a front
 * door puts in front of them, so that framing copies nothing.
 */
#ifndef VINHUB_COMMON_WIRE_H
#define VINHUB_COMMON_WIRE_H

#include <stddef.h>
#include <stdint.h>

/* Of a WebSocket frame from a server: two bytes and a 64-bit length (RFC 6455 section 5.2). */
#define WIRE_HEADROOM 10

struct wire {
    unsigned refs;
    unsigned room; /* bytes that are free before `bytes` */
    size_t len;
    uint8_t *bytes; /* within this allocation */
};

struct wire *wire_new(size_t len); /* NULL when out of memory; one reference */
struct wire *wire_ref(struct wire *wire);
void wire_unref(struct wire *wire);
/* Makes it len bytes longer at the front and returns where those stand. len is at most the room. */
uint8_t *wire_prepend(struct wire *wire, size_t len);
/* Cuts a wire that turned out shorter than planned, and gives the rest back. Returns where it is
 * now. Only while nobody else has it. */
struct wire *wire_shrink(struct wire *wire, size_t len);

#endif
