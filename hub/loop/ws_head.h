/*
 * The head of an unmasked final WebSocket frame (RFC 6455 section 5.2): what a server sends.
 */
#ifndef VINHUB_LOOP_WS_HEAD_H
#define VINHUB_LOOP_WS_HEAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WS_SERVER_HEAD_MAX 10 /* two bytes and a 64-bit length */

/* Writes the head of a frame with len payload bytes; returns its size. */
size_t ws_head(uint8_t out[WS_SERVER_HEAD_MAX], unsigned opcode, bool rsv1, size_t len);
/* The size of the head that a frame begins with. */
static inline size_t ws_head_len(const uint8_t *frame)
{
    return frame[1] < 126 ? 2 : frame[1] == 126 ? 4 : 10;
}

#endif
