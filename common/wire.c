#include "common/wire.h"

#include <assert.h>
#include <stdlib.h>

struct wire *wire_new(size_t len)
{
    if (len > SIZE_MAX - sizeof(struct wire) - WIRE_HEADROOM)
        return NULL;
    struct wire *wire = malloc(sizeof(*wire) + WIRE_HEADROOM + len);
    if (!wire)
        return NULL;
    *wire = (struct wire){.refs = 1, .room = WIRE_HEADROOM, .len = len};
    wire->bytes = (uint8_t *)(wire + 1) + WIRE_HEADROOM;
    return wire;
}

struct wire *wire_ref(struct wire *wire)
{
    assert(wire->refs > 0);
    wire->refs++;
    return wire;
}

void wire_unref(struct wire *wire)
{
    assert(wire->refs > 0);
    if (--wire->refs == 0)
        free(wire);
}

uint8_t *wire_prepend(struct wire *wire, size_t len)
{
    assert(len <= wire->room);
    wire->room -= (unsigned)len;
    wire->len += len;
    wire->bytes -= len;
    return wire->bytes;
}

struct wire *wire_shrink(struct wire *wire, size_t len)
{
    assert(wire->refs == 1 && len <= wire->len);
    wire->len = len;
    struct wire *fitted = realloc(wire, sizeof(*wire) + wire->room + len);
    if (!fitted)
        return wire;
    fitted->bytes = (uint8_t *)(fitted + 1) + fitted->room;
    return fitted;
}
