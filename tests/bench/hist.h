/*
 * A histogram of durations in nanoseconds, for memory that several processes share.
 *
 * Buckets are linear within a power of two, so a percentile is off by less than 1 %. It has one
 * writer at a time; readers may look while it is written. All zero is an empty histogram.
 */
#ifndef BENCH_HIST_H
#define BENCH_HIST_H

#include <stdint.h>

#define HIST_SUB_BITS 7
#define HIST_POWERS   36 /* up to 2^42 ns, more than an hour */
#define HIST_BUCKETS  ((HIST_POWERS + 1) << HIST_SUB_BITS)

struct hist {
    uint64_t count, sum, max;
    uint32_t buckets[HIST_BUCKETS];
};

void hist_add(struct hist *hist, uint64_t ns);
void hist_merge(struct hist *into, const struct hist *from);

/* The upper end of the bucket that holds the given share (0 to 1) of the values; 0 where there are
 * none. */
uint64_t hist_percentile(const struct hist *hist, double share);

/* Prints {"count":…,"p50":…,…} in nanoseconds to stdout. */
void hist_print(const struct hist *hist);

#endif
