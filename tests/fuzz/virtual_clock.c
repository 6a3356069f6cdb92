/* Clocks for targets that set the time themselves, so that an input always means the same. */
#include "common/clock.h"

#include "fuzz.h"

uint64_t fuzz_now_ms;

uint64_t clock_boot_ms(void)
{
    return fuzz_now_ms;
}

uint64_t clock_boot_us(void)
{
    return fuzz_now_ms * 1000;
}

uint64_t clock_unix_ms(void)
{
    return FUZZ_UNIX_MS + fuzz_now_ms;
}

uint64_t clock_cpu_us(void)
{
    return 0; /* no turn is a slow one */
}
