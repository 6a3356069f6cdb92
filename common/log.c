#include "common/log.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/clock.h"
#include "common/log_output.h"
#include "common/metrics.h"
#include "common/rng.h"
#include "common/text.h"

#define LINE_MAX_BYTES  8192                 /* fields that do not fit are left out */
#define WAITING_BYTES   ((size_t)256 * 1024) /* for a burst while standard error is slow */
#define FINISH_MS       200                  /* how long log_finish waits for a slow reader */
#define VALUE_MAX_BYTES 1024 /* of one field, before escaping; a peer may have chosen the text */
#define CAUSES_MAX      1024 /* that are remembered, of all events */
#define CAUSES_OF_EVENT 128
#define CAUSE_AGAIN_MS  60000

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
    snprintf(settings.node, sizeof(settings.node), "%s", node ? node : "");
}

bool log_enabled(enum log_level level)
{
    return level >= settings.level;
}

/* ---- causes that stay ---- */

struct cause {
    uint64_t key; /* 0: free */
    const char *event;
    uint64_t written_ms;
    uint64_t repeated; /* since the line was written */
};

static struct cause causes[CAUSES_MAX];

static void mix(uint64_t *key, const char *text)
{
    for (const char *c = text; *c != '\0'; c++)
        *key = (*key ^ (uint8_t)*c) * UINT64_C(1099511628211);
    *key *= UINT64_C(1099511628211); /* "a", "b" and "ab" get different keys */
}

/* FNV-1a with a random start: a peer may choose a text, but cannot make keys collide. */
static uint64_t cause_key(const char *event, const struct log_field *fields)
{
    static uint64_t start;
    while (start == 0)
        rng_secure(&start, sizeof(start));
    uint64_t key = start;
    mix(&key, event);
    for (const struct log_field *field = fields; field->kind != LOG_FIELD_END; field++) {
        if (field->kind == LOG_FIELD_STR && field->value.str)
            mix(&key, field->value.str);
    }
    return key == 0 ? 1 : key;
}

static bool is_over(const struct cause *cause, uint64_t now_ms)
{
    return cause->key == 0 || now_ms - cause->written_ms >= CAUSE_AGAIN_MS;
}

static struct cause *find_cause(uint64_t key)
{
    for (size_t i = 0; i < CAUSES_MAX; i++) {
        if (causes[i].key == key)
            return &causes[i];
    }
    return NULL;
}

/*
 * The entry of that cause; a new one replaces an entry that is over. A peer may choose texts: when
 * an event has had CAUSES_OF_EVENT causes within a minute, one entry serves all its further causes.
 */
static struct cause *cause_of(const char *event, uint64_t key, uint64_t now_ms)
{
    struct cause *over = NULL, *known = find_cause(key);
    if (known)
        return known;
    size_t same_event = 0;
    for (size_t i = 0; i < CAUSES_MAX; i++) {
        if (is_over(&causes[i], now_ms))
            over = &causes[i];
        else
            same_event += strcmp(causes[i].event, event) == 0;
    }
    if (same_event >= CAUSES_OF_EVENT) {
        key = cause_key(event, &LOG_END);
        known = find_cause(key);
    }
    if (!known && over)
        *over = (struct cause){.key = key, .event = event};
    return known ? known : over;
}

/* Whether a line of that cause is due; *repeated: how many were held back since the last one. If
 * the table is full, every line is due. */
static bool cause_is_due(const char *event, const struct log_field *fields, uint64_t *repeated)
{
    uint64_t now_ms = clock_boot_ms();
    struct cause *cause = cause_of(event, cause_key(event, fields), now_ms);
    if (!cause)
        return true;
    if (cause->written_ms != 0 && !is_over(cause, now_ms)) {
        cause->repeated++;
        metric_add(METRIC_LOG_SUPPRESSED, 1);
        return false;
    }
    cause->written_ms = now_ms;
    *repeated = cause->repeated;
    cause->repeated = 0;
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

/* How many bytes the UTF-8 character at text takes, 0 if it is not one. */
static size_t utf8_char(const char *text, size_t len)
{
    for (size_t n = 1; n <= 4 && n <= len; n++) {
        if (text_is_utf8(text, n))
            return n;
    }
    return 0;
}

/* Bytes that are no UTF-8 become U+FFFD: a JSON line must be UTF-8, and a terminal must not
 * get control sequences. */
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
    bool is_text = field->kind == LOG_FIELD_STR || field->kind == LOG_FIELD_DETAIL;
    if (is_text && !field->value.str)
        return;

    size_t start = line->len;
    char number[24];
    put_name(line, field->name);
    switch (field->kind) {
    case LOG_FIELD_DETAIL:
    case LOG_FIELD_STR: put_string(line, field->value.str); break;
    case LOG_FIELD_U64:
        snprintf(number, sizeof(number), "%" PRIu64, field->value.u64);
        put_text(line, number);
        break;
    case LOG_FIELD_I64:
        snprintf(number, sizeof(number), "%" PRId64, field->value.i64);
        put_text(line, number);
        break;
    case LOG_FIELD_END: abort(); /* LOG_FIELD_END is not a field */
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

/* ---- lines that wait for standard error ---- */

/* What it has not taken yet, from start on: whole lines, of which the first may be partly written.
 */
static struct {
    size_t start, len;
    uint64_t dropped; /* lines, since the last one that was kept */
    char bytes[WAITING_BYTES];
} waiting;

static bool waiting_add(const struct line *line)
{
    if (waiting.len + line->len > sizeof(waiting.bytes))
        return false;
    memmove(waiting.bytes, waiting.bytes + waiting.start, waiting.len);
    waiting.start = 0;
    memcpy(waiting.bytes + waiting.len, line->bytes, line->len);
    waiting.len += line->len;
    return true;
}

/* Returns true when nothing waits any more. */
static bool waiting_flush(void)
{
    while (waiting.len > 0) {
        ssize_t written = log_output_write(waiting.bytes + waiting.start, waiting.len);
        if (written <= 0)
            break;
        waiting.start += (size_t)written;
        waiting.len -= (size_t)written;
    }
    return waiting.len == 0;
}

/* Writes the line at once if no other waits. */
static bool line_emit(const struct line *line)
{
    if (!waiting_flush())
        return waiting_add(line);
    ssize_t written = log_output_write(line->bytes, line->len);
    if (written == (ssize_t)line->len)
        return true;
    waiting.start = 0;
    waiting.len = line->len - (written > 0 ? (size_t)written : 0);
    memcpy(waiting.bytes, line->bytes + line->len - waiting.len, waiting.len);
    return true;
}

static void line_begin(struct line *line, enum log_level level, const char *event)
{
    line->len = 0;
    line->full = false;
    put_head(line, level, event);
}

static void line_end(struct line *line)
{
    if (settings.format == LOG_FORMAT_JSON)
        line->bytes[line->len++] = '}';
    line->bytes[line->len++] = '\n';
}

/* Once there is room again, writes how many lines are missing here. False: there is no room yet. */
static bool write_dropped(void)
{
    if (waiting.dropped == 0)
        return true;
    if (!waiting_flush() && waiting.len > WAITING_BYTES / 2)
        return false;
    struct line line;
    line_begin(&line, LOG_LEVEL_WARN, "log_lines_dropped");
    put_field(&line, &LOG_U64("count", waiting.dropped));
    put_field(&line, &LOG_STR("reason", "standard error did not take them"));
    line_end(&line);
    waiting.dropped = 0;
    return line_emit(&line);
}

bool log_flush(void)
{
    return waiting_flush() && write_dropped() && waiting.len == 0;
}

void log_finish(void)
{
    uint64_t until_ms = clock_boot_ms() + FINISH_MS, now_ms;
    while (!log_flush() && (now_ms = clock_boot_ms()) < until_ms)
        log_output_await((int)(until_ms - now_ms));
}

static void write_line(enum log_level level, const char *event, uint64_t repeated,
                       const struct log_field *fields)
{
    struct line line;
    line_begin(&line, level, event);
    if (repeated > 0)
        put_field(&line, &LOG_U64("repeated", repeated));
    for (const struct log_field *field = fields; field->kind != LOG_FIELD_END; field++)
        put_field(&line, field);
    line_end(&line);
    if (write_dropped() && line_emit(&line))
        return;
    waiting.dropped++;
    metric_add(METRIC_LOG_LINES_DROPPED, 1);
}

void log_write(enum log_level level, const char *event, const struct log_field *fields)
{
    if (log_enabled(level))
        write_line(level, event, 0, fields);
}

void log_write_cause(enum log_level level, const char *event, const struct log_field *fields)
{
    uint64_t repeated = 0;
    if (log_enabled(level) && cause_is_due(event, fields, &repeated))
        write_line(level, event, repeated, fields);
}
