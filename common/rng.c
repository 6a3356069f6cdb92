#include "common/rng.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>

static uint64_t rotate_left(uint64_t x, int k)
{
    return (x << k) | (x >> (64 - k));
}

/* splitmix64 spreads a small seed over the whole state; its output is never all zero, the one
 * forbidden state. */
void rng_seed(struct rng *rng, uint64_t seed)
{
    for (size_t i = 0; i < 4; i++) {
        seed += 0x9e3779b97f4a7c15U;
        uint64_t z = seed;
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9U;
        z = (z ^ (z >> 27)) * 0x94d049bb133111ebU;
        rng->state[i] = z ^ (z >> 31);
    }
}

/* xoshiro256** 1.0, Blackman and Vigna. */
uint64_t rng_next(struct rng *rng)
{
    uint64_t *s = rng->state;
    uint64_t result = rotate_left(s[1] * 5, 7) * 9;
    uint64_t t = s[1] << 17;

    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotate_left(s[3], 45);
    return result;
}

uint64_t rng_below(struct rng *rng, uint64_t bound)
{
    assert(bound > 0);
    /* 2^64 mod bound values at the low end would come up once too often: they are drawn again. */
    uint64_t skip = (0 - bound) % bound;
    uint64_t x;
    do {
        x = rng_next(rng);
    } while (x < skip);
    return x % bound;
}

void rng_secure(void *out, size_t len)
{
    uint8_t *at = out;
    while (len > 0) {
        ssize_t got = getrandom(at, len, 0);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            abort();
        at += got;
        len -= (size_t)got;
    }
}
