/*
 * The head of an unmasked, final WebSocket frame (RFC 6455 section 5.2), as a server sends it. A
 * client adds the mask bit and the mask itself.
 */
#ifndef VINHUB_LOOP_WS_HEAD_H
#define VINHUB_LOOP_WS_HEAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WS_SERVER_HEAD_MAX 10 /* two bytes and a 64-bit length */

/* Writes the head of a frame with len payload bytes; returns the size of the head. */
size_t ws_head(uint8_t out[WS_SERVER_HEAD_MAX], unsigned opcode, bool rsv1, size_t len);
/* The size of the head of an unmasked frame. */
static inline size_t ws_head_len(const uint8_t *frame)
{
    return frame[1] < 126 ? 2 : frame[1] == 126 ? 4 : 10;
}

#endif
