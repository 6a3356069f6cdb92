/*
 * Writes to standard error without ever waiting for its reader.
 *
 * Its open file description may be shared with other processes, so its flags are not changed: a
 * pipe or a terminal is opened anew for this process alone, a socket gets MSG_DONTWAIT.
 * Standard error may become another file while the process runs.
 */
#ifndef VINHUB_COMMON_LOG_OUTPUT_H
#define VINHUB_COMMON_LOG_OUTPUT_H

#include <stddef.h>
#include <sys/types.h>

/* Returns how many of the bytes standard error took; 0 or less if it takes none now. */
ssize_t log_output_write(const char *bytes, size_t len);
/* Waits until standard error takes bytes, or the time is over. */
void log_output_await(int at_most_ms);

#endif
