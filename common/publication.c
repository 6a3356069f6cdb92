#include "common/publication.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

struct publication *publication_new(enum opcode opcode, size_t len)
{
    if (len > SIZE_MAX - sizeof(struct publication) - WIRE_HEADROOM)
        return NULL;
    struct publication *p = malloc(sizeof(*p) + WIRE_HEADROOM + len);
    if (!p)
        return NULL;
    *p = (struct publication){.refs = 1, .opcode = opcode, .len = len};
    p->payload = (uint8_t *)(p + 1) + WIRE_HEADROOM;
    return p;
}

struct publication *publication_copy(enum opcode opcode, const void *payload, size_t len)
{
    struct publication *p = publication_new(opcode, len);
    if (p && len > 0)
        memcpy(p->payload, payload, len);
    return p;
}

struct publication *publication_lost_end(uint64_t epoch)
{
    const uint64_t to = 0;
    struct publication *p = publication_copy(OPCODE_BINARY, &to, sizeof(to));
    if (!p)
        return NULL;
    p->opcode = (enum opcode)0;
    p->at = (struct position){epoch, OFFSET_END};
    return p;
}

struct publication *publication_ref(struct publication *publication)
{
    assert(publication->refs > 0);
    publication->refs++;
    return publication;
}

static void free_encodings(struct publication *publication)
{
    struct encoding *encoding = &publication->encoding;
    while (encoding) {
        struct encoding *next = encoding->next;
        if (encoding->wire)
            wire_unref(encoding->wire);
        if (encoding != &publication->encoding)
            free(encoding);
        encoding = next;
    }
}

void publication_unref(struct publication *publication)
{
    assert(publication->refs > 0);
    if (--publication->refs > 0)
        return;
    free_encodings(publication);
    free(publication);
}

const struct encoding *publication_encoding(const struct publication *publication, unsigned form)
{
    const struct encoding *encoding = &publication->encoding;
    while (encoding && encoding->form != form)
        encoding = encoding->next;
    return encoding;
}

/* A place for one more; NULL when out of memory. */
static struct encoding *add(struct publication *publication, unsigned form)
{
    struct encoding *first = &publication->encoding, *added = first;
    assert(form && !publication_encoding(publication, form));
    if (first->form) {
        added = calloc(1, sizeof(*added));
        if (!added)
            return NULL;
        added->next = first->next;
        first->next = added;
    }
    added->form = form;
    return added;
}

const struct encoding *publication_encode(struct publication *publication, unsigned form,
                                          struct wire *wire)
{
    struct encoding *added = wire ? add(publication, form) : NULL;
    if (!added) {
        if (wire)
            wire_unref(wire);
        return NULL;
    }
    added->wire = wire;
    added->bytes = wire->bytes;
    added->len = wire->len;
    return added;
}

const struct encoding *publication_encode_in_place(struct publication *publication, unsigned form,
                                                   const void *head, size_t head_len)
{
    assert(!publication->in_place && head_len <= WIRE_HEADROOM);
    struct encoding *added = add(publication, form);
    if (!added)
        return NULL;
    uint8_t *at = publication->payload - head_len;
    memcpy(at, head, head_len);
    publication->in_place = true;
    added->bytes = at;
    added->len = head_len + publication->len;
    return added;
}

const struct encoding *publication_encode_alike(struct publication *publication, unsigned form,
                                                const struct encoding *other)
{
    struct encoding *added = add(publication, form);
    if (!added)
        return NULL;
    added->bytes = other->bytes;
    added->len = other->len;
    added->wire = other->wire ? wire_ref(other->wire) : NULL;
    return added;
}
