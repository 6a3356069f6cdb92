#include "common/hash.h"

#include <stdbool.h>
#include <string.h>

#include "common/rng.h"

struct sip {
    uint64_t v0, v1, v2, v3;
};

static inline uint64_t rotate(uint64_t value, unsigned bits)
{
    return value << bits | value >> (64 - bits);
}

static inline void sip_round(struct sip *s)
{
    s->v0 += s->v1;
    s->v2 += s->v3;
    s->v1 = rotate(s->v1, 13) ^ s->v0;
    s->v3 = rotate(s->v3, 16) ^ s->v2;
    s->v0 = rotate(s->v0, 32);
    s->v2 += s->v1;
    s->v0 += s->v3;
    s->v1 = rotate(s->v1, 17) ^ s->v2;
    s->v3 = rotate(s->v3, 21) ^ s->v0;
    s->v2 = rotate(s->v2, 32);
}

/* Up to eight bytes, the first the lowest. */
static inline uint64_t little_word(const uint8_t *at, size_t len)
{
    uint64_t word = 0;
    for (size_t i = 0; i < len; i++)
        word |= (uint64_t)at[i] << (8 * i);
    return word;
}

static inline void take(struct sip *s, uint64_t word, unsigned rounds)
{
    s->v3 ^= word;
    for (unsigned i = 0; i < rounds; i++)
        sip_round(s);
    s->v0 ^= word;
}

uint64_t hash_keyed(const uint64_t key[2], unsigned rounds, unsigned final_rounds,
                    const void *bytes, size_t len)
{
    /* The four constants of the paper: "somepseudorandomlygeneratedbytes" */
    struct sip s = {key[0] ^ UINT64_C(0x736f6d6570736575), key[1] ^ UINT64_C(0x646f72616e646f6d),
                    key[0] ^ UINT64_C(0x6c7967656e657261), key[1] ^ UINT64_C(0x7465646279746573)};
    const uint8_t *at = bytes;
    size_t left = len;
    for (; left >= 8; left -= 8, at += 8)
        take(&s, little_word(at, 8), rounds);
    take(&s, little_word(at, left) | (uint64_t)len << 56, rounds);
    s.v2 ^= 0xff;
    for (unsigned i = 0; i < final_rounds; i++)
        sip_round(&s);
    return s.v0 ^ s.v1 ^ s.v2 ^ s.v3;
}

uint32_t hash_bytes(const void *bytes, size_t len)
{
    static uint64_t key[2];
    static bool drawn;
    if (!drawn) {
        rng_secure(key, sizeof(key));
        drawn = true;
    }
    uint64_t hash = hash_keyed(key, 1, 3, bytes, len);
    return (uint32_t)(hash ^ hash >> 32);
}
