#include "common/log.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/metrics.h"
#include "common/text.h"

#define LINE_MAX_BYTES  8192 /* a line that would be longer loses its last fields */
#define VALUE_MAX_BYTES 1024 /* of one field, before escaping; a peer may have chosen the text */
#define EVENTS_MAX      256  /* distinct event names that are limited; the program has far fewer */
#define LINES_A_SECOND  50   /* of one event */

static struct {
    enum log_level level;
    enum log_format format;
    char node[CONF_NAME_MAX + 1];
} settings = {.level = LOG_LEVEL_INFO};

static const char *const level_names[] = {
    [LOG_LEVEL_DEBUG] = "debug",
    [LOG_LEVEL_INFO] = "info",
    [LOG_LEVEL_WARN] = "warn",
    [LOG_LEVEL_ERROR] = "error",
};

void log_configure(enum log_level level, enum log_format format, const char *node)
{
    settings.level = level;
    settings.format = format;
    snprintf(settings.node, sizeof(settings.node), "%s", node == NULL ? "" : node);
}

bool log_enabled(enum log_level level)
{
    return level >= settings.level;
}

/* ---- the limit per event ---- */

struct event_rate {
    const char *event;
    uint64_t second;
    uint32_t lines;
    uint64_t suppressed;
};

static struct event_rate rates[EVENTS_MAX];

/* The entry of that event, made where it is new; NULL where the table is full: the event is not
 * limited then. */
static struct event_rate *rate_of(const char *event)
{
    uint32_t hash = 2166136261U;
    for (const char *c = event; *c != '\0'; c++)
        hash = (hash ^ (uint8_t)*c) * 16777619U;

    for (uint32_t probe = 0; probe < EVENTS_MAX; probe++) {
        struct event_rate *rate = &rates[(hash + probe) % EVENTS_MAX];
        if (rate->event == NULL)
            rate->event = event;
        if (strcmp(rate->event, event) == 0)
            return rate;
    }
    return NULL;
}

/* Errors are the operator's and debug lines are asked for; an audit that leaves lines out is none.
 */
static bool is_limited(enum log_level level, const char *event)
{
    return (level == LOG_LEVEL_INFO || level == LOG_LEVEL_WARN) && strncmp(event, "audit", 5) != 0;
}

/* Counts the line; false where it is held back, else *suppressed is how many were since the last
 * one. */
static bool admit(enum log_level level, const char *event, uint64_t *suppressed)
{
    struct event_rate *rate = is_limited(level, event) ? rate_of(event) : NULL;
    if (rate == NULL)
        return true;

    uint64_t second = clock_boot_ms() / 1000;
    if (rate->second != second) {
        rate->second = second;
        rate->lines = 0;
    }
    if (rate->lines >= LINES_A_SECOND) {
        rate->suppressed++;
        metric_add(METRIC_LOG_SUPPRESSED, 1);
        return false;
    }
    rate->lines++;
    *suppressed = rate->suppressed;
    rate->suppressed = 0;
    return true;
}

/* ---- a line ---- */

struct line {
    size_t len;
    bool full; /* the last piece did not fit */
    char bytes[LINE_MAX_BYTES];
};

static void put(struct line *line, const char *text, size_t len)
{
    if (line->full ||
        len > sizeof(line->bytes) - 2 - line->len) { /* room for a brace and the newline */
        line->full = true;
        return;
    }
    memcpy(line->bytes + line->len, text, len);
    line->len += len;
}

static void put_text(struct line *line, const char *text)
{
    put(line, text, strlen(text));
}

/* How many bytes the UTF-8 character at text takes, 0 where there is none. */
static size_t utf8_char(const char *text, size_t len)
{
    for (size_t n = 1; n <= 4 && n <= len; n++) {
        if (text_is_utf8(text, n))
            return n;
    }
    return 0;
}

/* Bytes that are no UTF-8 become U+FFFD: a JSON line must be UTF-8, and a terminal gets nothing to
 * act upon. */
static void put_escaped(struct line *line, const char *text, size_t len)
{
    for (size_t i = 0; i < len;) {
        uint8_t byte = (uint8_t)text[i];
        size_t n = utf8_char(text + i, len - i);
        char escape[8];
        if (n == 0) {
            put_text(line, "\\ufffd");
            n = 1;
        } else if (byte == '"' || byte == '\\') {
            escape[0] = '\\';
            escape[1] = (char)byte;
            put(line, escape, 2);
        } else if (byte < 0x20 || byte == 0x7f) {
            snprintf(escape, sizeof(escape), "\\u%04x", byte);
            put_text(line, escape);
        } else if (n == 2 && byte == 0xc2 && (uint8_t)text[i + 1] < 0xa0) { /* C1 controls */
            snprintf(escape, sizeof(escape), "\\u%04x", (uint8_t)text[i + 1]);
            put_text(line, escape);
        } else {
            put(line, text + i, n);
        }
        i += n;
    }
}

static bool is_plain(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        uint8_t byte = (uint8_t)text[i];
        if (byte <= ' ' || byte >= 0x7f || byte == '"' || byte == '\\' || byte == '=')
            return false;
    }
    return len > 0;
}

static void put_string(struct line *line, const char *text)
{
    size_t len = strnlen(text, VALUE_MAX_BYTES + 1);
    bool cut = len > VALUE_MAX_BYTES;
    if (cut)
        len = VALUE_MAX_BYTES;
    if (settings.format == LOG_FORMAT_TEXT && !cut && is_plain(text, len)) {
        put(line, text, len);
        return;
    }
    put_text(line, "\"");
    put_escaped(line, text, len);
    put_text(line, cut ? "...\"" : "\"");
}

static void put_name(struct line *line, const char *name)
{
    if (settings.format == LOG_FORMAT_JSON) {
        put_text(line, ",\"");
        put_text(line, name);
        put_text(line, "\":");
    } else {
        put_text(line, " ");
        put_text(line, name);
        put_text(line, "=");
    }
}

/* A field that does not fit is left out whole, so that a JSON line stays one. */
static void put_field(struct line *line, const struct log_field *field)
{
    if (field->kind == LOG_FIELD_STR && field->value.str == NULL)
        return;

    size_t start = line->len;
    char number[24];
    put_name(line, field->name);
    switch (field->kind) {
    case LOG_FIELD_STR: put_string(line, field->value.str); break;
    case LOG_FIELD_U64:
        snprintf(number, sizeof(number), "%" PRIu64, field->value.u64);
        put_text(line, number);
        break;
    case LOG_FIELD_I64:
        snprintf(number, sizeof(number), "%" PRId64, field->value.i64);
        put_text(line, number);
        break;
    case LOG_FIELD_END: abort(); /* the end is no field */
    }
    if (line->full) {
        line->len = start;
        line->full = false;
    }
}

static void put_head(struct line *line, enum log_level level, const char *event)
{
    uint64_t now_ms = clock_unix_ms();
    time_t seconds = (time_t)(now_ms / 1000);
    struct tm tm;
    char date[32], stamp[48];

    gmtime_r(&seconds, &tm);
    strftime(date, sizeof(date), "%Y-%m-%dT%H:%M:%S", &tm);
    snprintf(stamp, sizeof(stamp), "%s.%03uZ", date, (unsigned)(now_ms % 1000));
    bool json = settings.format == LOG_FORMAT_JSON;
    put_text(line, json ? "{\"timestamp\":\"" : "");
    put_text(line, stamp);
    put_text(line, json ? "\",\"level\":\"" : " ");
    put_text(line, level_names[level]);
    put_text(line, json ? "\",\"event\":\"" : " ");
    put_text(line, event);
    put_text(line, json ? "\"" : "");
    if (settings.node[0] != '\0')
        put_field(line, &LOG_STR("node", settings.node));
}

/* One write, so that lines of several processes on one pipe do not mix. Nobody could be told of its
 * failure. */
static void write_line(const struct line *line)
{
    ssize_t written;
    do {
        written = write(STDERR_FILENO, line->bytes, line->len);
    } while (written < 0 && errno == EINTR);
}

void log_write(enum log_level level, const char *event, const struct log_field *fields)
{
    uint64_t suppressed = 0;
    if (!log_enabled(level) || !admit(level, event, &suppressed))
        return;

    struct line line;
    line.len = 0;
    line.full = false;
    put_head(&line, level, event);
    if (suppressed > 0)
        put_field(&line, &LOG_U64("suppressed", suppressed));
    for (const struct log_field *field = fields; field->kind != LOG_FIELD_END; field++)
        put_field(&line, field);
    if (settings.format == LOG_FORMAT_JSON)
        line.bytes[line.len++] = '}';
    line.bytes[line.len++] = '\n';
    write_line(&line);
}
