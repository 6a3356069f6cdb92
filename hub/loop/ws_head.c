#include "loop/ws_head.h"

#include <assert.h>

size_t ws_head(uint8_t out[WS_SERVER_HEAD_MAX], unsigned opcode, bool rsv1, size_t len)
{
    assert(opcode < 16);
    out[0] = (uint8_t)(0x80U | (rsv1 ? 0x40U : 0U) | opcode);
    if (len < 126) {
        out[1] = (uint8_t)len;
        return 2;
    }
    if (len <= UINT16_MAX) {
        out[1] = 126;
        out[2] = (uint8_t)(len >> 8);
        out[3] = (uint8_t)len;
        return 4;
    }
    out[1] = 127;
    for (size_t i = 0; i < 8; i++)
        out[2 + i] = (uint8_t)((uint64_t)len >> (56 - 8 * i));
    return WS_SERVER_HEAD_MAX;
}
