/*
 * The clocks of the hub.
 *
 * clock_boot_* is CLOCK_BOOTTIME: it never jumps and goes on while the machine sleeps, so leases
 * count on it. clock_unix_ms is wall time: only for people and for the epoch's floor.
 */
#ifndef VINHUB_COMMON_CLOCK_H
#define VINHUB_COMMON_CLOCK_H

#include <stdint.h>

uint64_t clock_boot_ms(void);
uint64_t clock_boot_us(void);
uint64_t clock_unix_ms(void);
/* Processor time that this thread has used, us. A system call, unlike the others. */
uint64_t clock_cpu_us(void);

#endif
