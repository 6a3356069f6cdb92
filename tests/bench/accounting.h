/*
 * What a process has used so far, as the kernel accounts for it.
 */
#ifndef BENCH_ACCOUNTING_H
#define BENCH_ACCOUNTING_H

#include <stdint.h>
#include <sys/types.h>

/* Processor time of all its threads in ns, user and system; 0 where it is gone. */
uint64_t cpu_ns_of(pid_t pid);

/* Resident memory in bytes; 0 where it is gone. */
uint64_t rss_of(pid_t pid);

#endif
