#include "hist.h"

#include <inttypes.h>
#include <stdio.h>

#define SUB (1u << HIST_SUB_BITS)

static unsigned bucket_of(uint64_t ns)
{
    if (ns < SUB)
        return (unsigned)ns;
    unsigned power = 63u - (unsigned)__builtin_clzll(ns); /* at least HIST_SUB_BITS */
    unsigned shift = power - HIST_SUB_BITS;
    unsigned bucket = ((shift + 1) << HIST_SUB_BITS) + (unsigned)(ns >> shift) - SUB;
    return bucket < HIST_BUCKETS ? bucket : HIST_BUCKETS - 1;
}

static uint64_t upper_end(unsigned bucket)
{
    if (bucket < SUB)
        return bucket;
    unsigned shift = (bucket >> HIST_SUB_BITS) - 1;
    return (((uint64_t)(bucket & (SUB - 1)) + SUB + 1) << shift) - 1;
}

void hist_add(struct hist *hist, uint64_t ns)
{
    hist->buckets[bucket_of(ns)]++;
    hist->count++;
    hist->sum += ns;
    if (ns > hist->max)
        hist->max = ns;
}

void hist_merge(struct hist *into, const struct hist *from)
{
    for (unsigned i = 0; i < HIST_BUCKETS; i++)
        into->buckets[i] += from->buckets[i];
    into->count += from->count;
    into->sum += from->sum;
    if (from->max > into->max)
        into->max = from->max;
}

uint64_t hist_percentile(const struct hist *hist, double share)
{
    uint64_t wanted = (uint64_t)(share * (double)hist->count), seen = 0;
    for (unsigned i = 0; i < HIST_BUCKETS; i++) {
        seen += hist->buckets[i];
        if (seen > wanted)
            return upper_end(i) < hist->max ? upper_end(i) : hist->max;
    }
    return hist->max;
}

void hist_print(const struct hist *hist)
{
    printf("{\"count\":%" PRIu64 ",\"mean\":%" PRIu64 ",\"p50\":%" PRIu64 ",\"p90\":%" PRIu64
           ",\"p99\":%" PRIu64 ",\"p999\":%" PRIu64 ",\"max\":%" PRIu64 "}",
           hist->count, hist->count ? hist->sum / hist->count : 0, hist_percentile(hist, 0.5),
           hist_percentile(hist, 0.9), hist_percentile(hist, 0.99), hist_percentile(hist, 0.999),
           hist->max);
}
