/*
 * One line an event, to stderr, as text or JSON (contract section 12).
 *
 * An event is a short name and named fields; tokens and payloads are never among them. Lines that a
 * peer can cause are limited: of one event at most 50 info and warn lines a second are written;
 * what is held back is counted (METRIC_LOG_SUPPRESSED) and said in the next line of that event as
 * suppressed=N. Errors, debug lines and events whose name starts with "audit" are never held back.
 */
#ifndef VINHUB_COMMON_LOG_H
#define VINHUB_COMMON_LOG_H

#include <stdbool.h>
#include <stdint.h>

#include "common/conf.h"

enum log_field_kind { LOG_FIELD_END, LOG_FIELD_STR, LOG_FIELD_U64, LOG_FIELD_I64 };

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
#define LOG_U64(field, number) \
    ((struct log_field){.name = (field), .kind = LOG_FIELD_U64, .value.u64 = (uint64_t)(number)})
#define LOG_I64(field, number) \
    ((struct log_field){.name = (field), .kind = LOG_FIELD_I64, .value.i64 = (int64_t)(number)})
#define LOG_END ((struct log_field){.kind = LOG_FIELD_END})

void log_configure(enum log_level level, enum log_format format, const char *node);
bool log_enabled(enum log_level level);
/*
 * Writes one line in one write(2), blocking where stderr does. fields ends with LOG_END. event is a
 * snake_case word that outlives the process: "client_closed". Values may hold any bytes: controls
 * and what is no UTF-8 are escaped, a value is cut at 1 KiB. Fields that no longer fit into 8 KiB
 * are left out.
 */
void log_write(enum log_level level, const char *event, const struct log_field *fields);

#define LOG_EVENT(level, event, ...)                                                  \
    do {                                                                              \
        if (log_enabled(level))                                                       \
            log_write(level, event,                                                   \
                      (const struct log_field[]){__VA_OPT__(__VA_ARGS__, ) LOG_END}); \
    } while (0)
#define log_debug(...) LOG_EVENT(LOG_LEVEL_DEBUG, __VA_ARGS__)
#define log_info(...)  LOG_EVENT(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_warn(...)  LOG_EVENT(LOG_LEVEL_WARN, __VA_ARGS__)
#define log_error(...) LOG_EVENT(LOG_LEVEL_ERROR, __VA_ARGS__)

#endif
