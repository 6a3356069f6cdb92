#include <stdio.h>
#include <string.h>

#include "common/clock.h"
#include "ctl.h"

#define CELL_MAX    320
#define COLUMNS_MAX 12

/* How a field of contract section 11 is shown. */
enum shape { SHAPE_TEXT, SHAPE_NUMBER, SHAPE_BYTES, SHAPE_AGE, SHAPE_MS };

struct column {
    const char *title, *field;
    enum shape shape;
};

void table_bytes(json_int_t bytes, char out[32])
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    double value = (double)bytes;
    size_t unit = 0;
    for (; value >= 1024 && unit + 1 < sizeof(units) / sizeof(units[0]); unit++)
        value /= 1024;
    (void)snprintf(out, 32, unit && value < 100 ? "%.1f %s" : "%.0f %s", value, units[unit]);
}

void table_age(json_int_t since_ms, char out[32])
{
    json_int_t now_ms = (json_int_t)clock_unix_ms();
    json_int_t s = since_ms > 0 && now_ms > since_ms ? (now_ms - since_ms) / 1000 : 0;
    if (since_ms == 0)
        (void)snprintf(out, 32, "-");
    else if (s < 120)
        (void)snprintf(out, 32, "%lld s", (long long)s);
    else if (s < 7200)
        (void)snprintf(out, 32, "%lld m", (long long)(s / 60));
    else if (s < 172800)
        (void)snprintf(out, 32, "%lld h", (long long)(s / 3600));
    else
        (void)snprintf(out, 32, "%lld d", (long long)(s / 86400));
}

/* Replaces control characters: texts from Redis must not control the terminal. */
static void copy_printable(char out[CELL_MAX], const char *text)
{
    size_t len = 0;
    for (; *text && len + 1 < CELL_MAX; text++)
        out[len++] = (unsigned char)*text < 0x20 || *text == 0x7f ? '?' : *text;
    out[len] = '\0';
}

static void cell_of(const struct column *column, const json_t *row, char out[CELL_MAX])
{
    const json_t *value = json_object_get(row, column->field);
    json_int_t number = json_integer_value(value);
    char text[32];
    if (!value)
        (void)snprintf(out, CELL_MAX, "-");
    else if (json_is_string(value))
        copy_printable(out, *json_string_value(value) ? json_string_value(value) : "-");
    else if (column->shape == SHAPE_BYTES || column->shape == SHAPE_AGE) {
        (column->shape == SHAPE_BYTES ? table_bytes : table_age)(number, text);
        (void)snprintf(out, CELL_MAX, "%s", text);
    } else
        (void)snprintf(out, CELL_MAX, column->shape == SHAPE_MS ? "%lld ms" : "%lld",
                       (long long)number);
}

static void print_cell(const struct column *column, const char *text, size_t width, bool last)
{
    if (column->shape == SHAPE_TEXT)
        (void)printf("%-*s%s", last ? 0 : (int)width, text, last ? "" : "  ");
    else
        (void)printf("%*s%s", (int)width, text, last ? "" : "  ");
}

static void print_table(const struct column *columns, size_t len, const json_t *rows)
{
    size_t widths[COLUMNS_MAX];
    char cell[CELL_MAX];
    for (size_t c = 0; c < len; c++) {
        widths[c] = strlen(columns[c].title);
        for (size_t r = 0; r < json_array_size(rows); r++) {
            cell_of(&columns[c], json_array_get(rows, r), cell);
            widths[c] = strlen(cell) > widths[c] ? strlen(cell) : widths[c];
        }
    }
    for (size_t c = 0; c < len; c++)
        print_cell(&columns[c], columns[c].title, widths[c], c + 1 == len);
    (void)printf("\n");
    for (size_t r = 0; r < json_array_size(rows); r++) {
        for (size_t c = 0; c < len; c++) {
            cell_of(&columns[c], json_array_get(rows, r), cell);
            print_cell(&columns[c], cell, widths[c], c + 1 == len);
        }
        (void)printf("\n");
    }
}

#define TABLE(columns, rows) print_table(columns, sizeof(columns) / sizeof((columns)[0]), rows)

void table_nodes(const json_t *nodes)
{
    static const struct column columns[] = {
        {"NODE", "id", SHAPE_TEXT},
        {"STATE", "state", SHAPE_TEXT},
        {"CLIENTS", "clients", SHAPE_NUMBER},
        {"SESSIONS", "sessions", SHAPE_NUMBER},
        {"UPSTREAMS", "upstreams", SHAPE_NUMBER},
        {"MSGS IN", "msgs_in", SHAPE_NUMBER},
        {"MSGS OUT", "msgs_out", SHAPE_NUMBER},
        {"RSS", "rss", SHAPE_BYTES},
        {"LAG", "loop_lag_ms", SHAPE_MS},
        {"UP", "started", SHAPE_AGE},
        {"RENEWED", "renewed", SHAPE_AGE},
        {"LISTEN", "listen", SHAPE_TEXT},
    };
    TABLE(columns, nodes);
}

void table_sessions(const json_t *sessions)
{
    static const struct column columns[] = {
        {"SESSION", "id", SHAPE_TEXT},        {"STATE", "state", SHAPE_TEXT},
        {"OWNER", "owner", SHAPE_TEXT},       {"CLIENTS", "clients", SHAPE_NUMBER},
        {"MEMBERS", "members", SHAPE_NUMBER}, {"EPOCH", "epoch", SHAPE_NUMBER},
        {"OFFSET", "offset", SHAPE_NUMBER},   {"SINCE", "since", SHAPE_AGE},
        {"REASON", "reason", SHAPE_TEXT},
    };
    TABLE(columns, sessions);
}

void table_clients(const json_t *clients)
{
    static const struct column columns[] = {
        {"USER", "user", SHAPE_TEXT},
        {"SESSION", "session", SHAPE_TEXT},
        {"NODE", "node", SHAPE_TEXT},
        {"ADDRESS", "address", SHAPE_TEXT},
        {"PROTOCOL", "protocol", SHAPE_TEXT},
        {"SINCE", "since", SHAPE_AGE},
        {"MORE", "subscriptions", SHAPE_NUMBER},
        {"RECEIVED", "received", SHAPE_NUMBER},
        {"SENT", "sent", SHAPE_NUMBER},
        {"QUEUED", "queued", SHAPE_BYTES},
        {"ID", "id", SHAPE_TEXT},
    };
    TABLE(columns, clients);
}

void table_session(const json_t *session)
{
    const char *name = NULL;
    json_t *value = NULL;
    char cell[CELL_MAX];
    char age[32];
    json_object_foreach((json_t *)session, name, value)
    {
        struct column column = {.field = name, .shape = SHAPE_NUMBER};
        cell_of(&column, session, cell);
        (void)printf("%-9s %s", name, cell);
        if (strcmp(name, "since") == 0) {
            table_age(json_integer_value(value), age);
            (void)printf("  (%s ago)", age);
        }
        (void)printf("\n");
    }
}
