/*
 * Undoes permessage-deflate of a message that was compressed without context takeover (RFC 7692).
 */
#ifndef BENCH_INFLATE_H
#define BENCH_INFLATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* True: *bytes and *len are the plain message, valid until the next call. False: it is not well
 * formed, or larger than 1 MiB; they are unchanged. */
bool inflate_message(uint8_t **bytes, size_t *len);

#endif
