/*
 * Random numbers: a seedable generator for jitter and the simulation, and the kernel's for ids.
 */
#ifndef VINHUB_COMMON_RNG_H
#define VINHUB_COMMON_RNG_H

#include <stddef.h>
#include <stdint.h>

struct rng {
    uint64_t state[4]; /* xoshiro256** */
};

void rng_seed(struct rng *rng, uint64_t seed);
uint64_t rng_next(struct rng *rng);
/* Uniform in [0, bound); bound > 0. */
uint64_t rng_below(struct rng *rng, uint64_t bound);
/* Unpredictable bytes from the kernel (getrandom). Aborts where the kernel has none. */
void rng_secure(void *out, size_t len);

#endif
