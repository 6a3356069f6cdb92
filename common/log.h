/*
 * One line an event, to stderr, as text or JSON (contract section 12).
 *
 * An event is a short name and named fields; tokens and payloads are never among them. Writing
 * never blocks: what standard error does not take is kept, up to 256 KiB, and written by a later
 * call. What does not fit is dropped, counted (METRIC_LOG_LINES_DROPPED) and reported by a line
 * log_lines_dropped.
 *
 * A cause that stays is logged once, and then once a minute with repeated=N, the number of lines
 * held back since (METRIC_LOG_SUPPRESSED). Lines of one event have the same cause if their LOG_STR
 * fields are equal.
 */
#ifndef VINHUB_COMMON_LOG_H
#define VINHUB_COMMON_LOG_H

#include <stdbool.h>
#include <stdint.h>

#include "common/conf.h"

enum log_field_kind {
    LOG_FIELD_END,
    LOG_FIELD_STR,
    LOG_FIELD_DETAIL,
    LOG_FIELD_U64,
    LOG_FIELD_I64
};

struct log_field {
    const char *name;
    enum log_field_kind kind;
    union {
        const char *str; /* NULL is left out */
        uint64_t u64;
        int64_t i64;
    } value;
};

#define LOG_STR(field, text) \
    ((struct log_field){.name = (field), .kind = LOG_FIELD_STR, .value.str = (text)})
/* A text that may differ while the cause is the same, such as the address of a refused client. */
#define LOG_DETAIL(field, text) \
    ((struct log_field){.name = (field), .kind = LOG_FIELD_DETAIL, .value.str = (text)})
#define LOG_U64(field, number) \
    ((struct log_field){.name = (field), .kind = LOG_FIELD_U64, .value.u64 = (uint64_t)(number)})
#define LOG_I64(field, number) \
    ((struct log_field){.name = (field), .kind = LOG_FIELD_I64, .value.i64 = (int64_t)(number)})
#define LOG_END ((struct log_field){.kind = LOG_FIELD_END})

void log_configure(enum log_level level, enum log_format format, const char *node);
bool log_enabled(enum log_level level);
/*
 * Writes one line, or keeps it for later; never blocks. fields ends with LOG_END. event is a
 * static text in snake_case: "client_closed". Values may hold any bytes: controls and bytes that
 * are not UTF-8 are escaped, a value is cut at 1 KiB. Fields that no longer fit into 8 KiB
 * are left out.
 */
void log_write(enum log_level level, const char *event, const struct log_field *fields);
/* The same for a line that would come again and again while its cause stays. */
void log_write_cause(enum log_level level, const char *event, const struct log_field *fields);
/* Writes as much of the waiting lines as standard error takes now. True: none waits any more. */
bool log_flush(void);
/* The same at the end of the process: waits a little for a slow reader, at most 200 ms. */
void log_finish(void);

#define LOG_EVENT(write, level, event, ...)                                                     \
    do {                                                                                        \
        if (log_enabled(level))                                                                 \
            write(level, event, (const struct log_field[]){__VA_OPT__(__VA_ARGS__, ) LOG_END}); \
    } while (0)
#define log_debug(...)      LOG_EVENT(log_write, LOG_LEVEL_DEBUG, __VA_ARGS__)
#define log_info(...)       LOG_EVENT(log_write, LOG_LEVEL_INFO, __VA_ARGS__)
#define log_warn(...)       LOG_EVENT(log_write, LOG_LEVEL_WARN, __VA_ARGS__)
#define log_error(...)      LOG_EVENT(log_write, LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_info_cause(...) LOG_EVENT(log_write_cause, LOG_LEVEL_INFO, __VA_ARGS__)
#define log_warn_cause(...) LOG_EVENT(log_write_cause, LOG_LEVEL_WARN, __VA_ARGS__)

#endif
