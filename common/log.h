/*
 * One line an event, to stderr, as text or JSON (contract section 12).
 *
 * An event is a short name and named fields; tokens and payloads are never among them. Lines that a peer can
 * cause are limited per event name: what is held back is counted and said in the next line of that event.
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

#define LOG_STR(field, text) ((struct log_field){.name = (field), .kind = LOG_FIELD_STR, .value.str = (text)})
#define LOG_U64(field, number) ((struct log_field){.name = (field), .kind = LOG_FIELD_U64, .value.u64 = (uint64_t)(number)})
#define LOG_I64(field, number) ((struct log_field){.name = (field), .kind = LOG_FIELD_I64, .value.i64 = (int64_t)(number)})
#define LOG_END ((struct log_field){.kind = LOG_FIELD_END})

void log_configure(enum log_level level, enum log_format format, const char *node);
bool log_enabled(enum log_level level);
/* fields ends with LOG_END. event is a snake_case word: "client_closed". */
void log_write(enum log_level level, const char *event, const struct log_field *fields);

#define LOG_EVENT(level, event, ...)                                                     \
    do {                                                                                 \
        if (log_enabled(level))                                                          \
            log_write(level, event, (const struct log_field[]){__VA_ARGS__, LOG_END});   \
    } while (0)
#define log_debug(...) LOG_EVENT(LOG_LEVEL_DEBUG, __VA_ARGS__)
#define log_info(...) LOG_EVENT(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_warn(...) LOG_EVENT(LOG_LEVEL_WARN, __VA_ARGS__)
#define log_error(...) LOG_EVENT(LOG_LEVEL_ERROR, __VA_ARGS__)

#endif
