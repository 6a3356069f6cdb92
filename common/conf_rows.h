/*
 * The rows of the configuration: what each key is called, where its value lies, what it may be and
 * means.
 *
 * Everything that knows the keys goes over these two tables: the YAML reader, environment and
 * command line, the checks of single values, --print-config, the table in the manual and the
 * comparison on reload. A key is added by one row.
 */
#ifndef VINHUB_COMMON_CONF_ROWS_H
#define VINHUB_COMMON_CONF_ROWS_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "common/conf.h"

enum conf_kind {
    CONF_TEXT,     /* char * */
    CONF_BOOL,     /* bool */
    CONF_DURATION, /* uint32_t, milliseconds */
    CONF_SIZE,     /* size_t, bytes */
    CONF_COUNT,    /* uint32_t */
    CONF_CHOICE,   /* an enum whose values count the choices from 0 */
    CONF_LIST,     /* char **, and its length */
    CONF_PAIRS,    /* struct conf_pair *, and its length */
};

enum conf_flags {
    CONF_RELOAD = 1, /* SIGHUP applies it; the others need a restart */
    CONF_SECRET = 2, /* its value never shows */
};

struct conf_row {
    const char *key; /* "clients.ping.every" */
    enum conf_kind kind;
    unsigned flags;
    size_t offset;        /* of the value in struct conf or struct service */
    size_t len_offset;    /* of the length, for lists and pairs */
    const char *standard; /* the default, as it would stand in the file */
    uint64_t min, max; /* of durations (ms), sizes (bytes) and counts; where they are numbers 0 may
                          mean "off" */
    const char *choices[6];
    bool (*check)(const char *text); /* of a text that is not empty, a list's items, or "name:
                                        value" of pairs */
    const char *allowed;             /* what check allows, in words */
    const char *meaning;             /* for the manual */
};

#define CONF_ROWS_MAX 64

extern const struct conf_row conf_rows[]; /* ends with a row without a key */
extern const struct conf_row conf_service_rows[];
extern const size_t conf_rows_len, conf_service_rows_len;

/* The row of that key among rows, or NULL. */
const struct conf_row *conf_row_find(const struct conf_row *rows, const char *key);
/* The key as it stands in a variable's name: "CLIENTS__PING__EVERY". */
#define CONF_VARIABLE_MAX 128
void conf_row_variable(const struct conf_row *row, char out[CONF_VARIABLE_MAX]);
/* Whether some row's key goes on below path: true for "clients.ping". */
bool conf_rows_have_parent(const struct conf_row *rows, const char *path);
/* The last part of a key: "every" of "clients.ping.every". */
const char *conf_row_name(const struct conf_row *row);

/* ---- values: what the kinds have in common (conf_value.c). base is the struct conf or struct
 * service. ---- */

/* Sets a value of a kind that is one scalar. On STATUS_INVALID the value is as before. */
MUST_USE enum status conf_value_set(const struct conf_row *row, void *base, const char *text);
/* Adds an item to a list, a pair to pairs. STATUS_INVALID: check refuses it. */
MUST_USE enum status conf_value_add(const struct conf_row *row, void *base, const char *item);
MUST_USE enum status conf_value_add_pair(const struct conf_row *row, void *base, const char *name,
                                         const char *value);
/* Gives base the value that other has. */
void conf_value_copy(const struct conf_row *row, void *base, const void *other);
/* Makes a list or pairs empty; frees a text and leaves NULL. */
void conf_value_clear(const struct conf_row *row, void *base);
/* Writes the value as YAML flow text: what the file may hold. Secrets show only where reveal. */
void conf_value_print(const struct conf_row *row, const void *base, bool reveal, FILE *out);
/* The same as a string the caller frees. */
char *conf_value_text(const struct conf_row *row, const void *base, bool reveal);
/* What the row allows, in words, for a message. */
void conf_value_allowed(const struct conf_row *row, FILE *out);
/* Sets every row of base to its default. base is zeroed before. */
void conf_values_default(const struct conf_row *rows, void *base);
void conf_values_clear(const struct conf_row *rows, void *base);

/* ---- lines of text (conf.c) ---- */

/* Takes line over. */
void conf_findings_add(struct conf_findings *findings, char *line);
/* A malloc'd text, as printf makes it. */
char *conf_format(const char *format, va_list args);

/* A text as a double-quoted YAML scalar (which is JSON). */
void conf_print_quoted(const char *text, FILE *out);

#endif
