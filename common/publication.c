#include "common/publication.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define FRAME_HEAD_MAX 10 /* two bytes and a 64-bit length, unmasked */

size_t frame_header(uint8_t out[10], unsigned opcode, bool rsv1, size_t len)
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
    return FRAME_HEAD_MAX;
}

struct publication *publication_new(enum opcode opcode, size_t len)
{
    if (len > SIZE_MAX - sizeof(struct publication) - FRAME_HEAD_MAX)
        return NULL;

    uint8_t head[FRAME_HEAD_MAX];
    size_t head_len = frame_header(head, opcode, false, len);
    struct publication *p = malloc(sizeof(*p) + head_len + len);
    if (p == NULL)
        return NULL;

    *p = (struct publication){
        .refs = 1, .opcode = opcode, .len = len, .head_len = (uint8_t)head_len};
    uint8_t *frame = (uint8_t *)(p + 1);
    memcpy(frame, head, head_len);
    p->payload = frame + head_len;
    return p;
}

struct publication *publication_copy(enum opcode opcode, const void *payload, size_t len)
{
    struct publication *p = publication_new(opcode, len);
    if (p != NULL && len > 0)
        memcpy(p->payload, payload, len);
    return p;
}

struct publication *publication_ref(struct publication *publication)
{
    assert(publication->refs > 0);
    publication->refs++;
    return publication;
}

static void free_forms(struct publication *publication)
{
    for (size_t form = 0; form < WIRE_FORMS; form++) {
        for (size_t deflated = 0; deflated < 2; deflated++) {
            if (publication->forms[form][deflated] != NULL)
                wire_unref(publication->forms[form][deflated]);
        }
    }
}

void publication_unref(struct publication *publication)
{
    assert(publication->refs > 0);
    if (--publication->refs > 0)
        return;
    free_forms(publication);
    free(publication);
}

struct wire *wire_new(size_t len)
{
    if (len > SIZE_MAX - sizeof(struct wire))
        return NULL;
    struct wire *wire = malloc(sizeof(*wire) + len);
    if (wire == NULL)
        return NULL;
    wire->refs = 1;
    wire->len = len;
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
