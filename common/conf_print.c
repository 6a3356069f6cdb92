/*
 * The configuration as text for people: --print-config, the table in hub/docs/configuration.md, and
 * what a reload changes.
 */
#include "common/conf.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "common/conf_rows.h"
#include "common/key_set.h"

struct text_stream {
    FILE *out;
    char *text;
    size_t size;
};

static void stream_open(struct text_stream *stream)
{
    *stream = (struct text_stream){0};
    stream->out = open_memstream(&stream->text, &stream->size);
    if (!stream->out)
        abort();
}

static char *stream_close(struct text_stream *stream)
{
    if (fclose(stream->out) != 0)
        abort();
    return stream->text;
}

/* ---- --print-config ---- */

/* How many bytes of the two keys are the same whole parts: 13 of "clients.ping.every" and
 * "clients.ping.timeout". */
static size_t common_parts(const char *a, const char *b)
{
    size_t common = 0;
    for (size_t i = 0; a[i] != '\0' && a[i] == b[i]; i++) {
        if (a[i] == '.')
            common = i + 1;
    }
    return common;
}

static void indent(FILE *out, size_t depth)
{
    for (size_t i = 0; i < depth; i++)
        fputs("  ", out);
}

/* "ping:" above "every:": the parts of key that the key before it has not opened. */
static size_t open_parents(const char *key, size_t from, size_t depth, FILE *out)
{
    for (size_t i = 0; key[i] != '\0'; i++) {
        if (key[i] != '.')
            continue;
        if (i >= from) {
            size_t start = i;
            while (start > 0 && key[start - 1] != '.')
                start--;
            indent(out, depth);
            fprintf(out, "%.*s:\n", (int)(i - start), key + start);
        }
        depth++;
    }
    return depth;
}

static void print_rows(const struct conf_row *rows, const void *base, size_t depth, FILE *out)
{
    const char *previous = "";
    for (const struct conf_row *row = rows; row->key; row++) {
        size_t row_depth = open_parents(row->key, common_parts(previous, row->key), depth, out);
        indent(out, row_depth);
        fprintf(out, "%s: ", conf_row_name(row));
        conf_value_print(row, base, false, out);
        fputc('\n', out);
        previous = row->key;
    }
}

char *conf_print(const struct conf *conf)
{
    struct text_stream stream;
    stream_open(&stream);
    print_rows(conf_rows, conf, 0, stream.out);
    fputs("services:\n", stream.out);
    for (size_t i = 0; i < conf->services_len; i++) {
        fputs("  -\n", stream.out);
        print_rows(conf_service_rows, conf->services[i], 2, stream.out);
    }
    return stream_close(&stream);
}

/* ---- the table in hub/docs/configuration.md ---- */

static void print_cell(const char *text, FILE *out)
{
    for (const char *c = text; *c != '\0'; c++) {
        if (*c == '|')
            fputc('\\', out);
        fputc(*c, out);
    }
}

static void print_row(const struct conf_row *row, const char *prefix, const char *variable_prefix,
                      bool reload, FILE *out)
{
    char variable[CONF_VARIABLE_MAX];
    const char *standard = *row->standard == '\0' ? "\"\"" : row->standard;
    conf_row_variable(row, variable);
    fprintf(out, "| `%s%s` | `VINHUB__%s%s` | ", prefix, row->key, variable_prefix, variable);
    if (row->kind == CONF_TEXT && row->min > 0 && *row->standard == '\0') {
        fputs("required | ", out);
    } else {
        fputc('`', out);
        print_cell(standard, out);
        fputs("` | ", out);
    }
    print_cell(row->meaning, out);
    fprintf(out, " | %s |\n", reload ? "yes" : "restart");
}

char *conf_markdown(void)
{
    struct text_stream stream;
    stream_open(&stream);
    fputs("| key | variable | default | meaning | SIGHUP |\n| --- | --- | --- | --- | --- |\n",
          stream.out);
    for (const struct conf_row *row = conf_rows; row->key; row++)
        print_row(row, "", "", row->flags & CONF_RELOAD, stream.out);
    for (const struct conf_row *row = conf_service_rows; row->key; row++)
        print_row(row, "services[].", "SERVICES__NAME__", true, stream.out);
    return stream_close(&stream);
}

/* ---- what a reload changes ---- */

PRINTF_LIKE(2, 3)
static void add_change(struct conf_findings *changes, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    conf_findings_add(changes, conf_format(format, args));
    va_end(args);
}

static void compare_row(const struct conf_row *row, const char *prefix, const void *before,
                        const void *after, bool reload, struct conf_findings *changes)
{
    char *old = conf_value_text(row, before, true), *new = conf_value_text(row, after, true);
    if (strcmp(old, new) != 0) {
        char *shown_old = conf_value_text(row, before, false),
             *shown_new = conf_value_text(row, after, false);
        const char *note = reload ? "" : " (needs a restart)";
        if (strcmp(shown_old, shown_new) == 0)
            add_change(changes, "%s%s: changed%s", prefix, row->key, note);
        else
            add_change(changes, "%s%s: %s -> %s%s", prefix, row->key, shown_old, shown_new, note);
        free(shown_old);
        free(shown_new);
    }
    free(old);
    free(new);
}

static bool same_digest(const struct conf_digest *a, const struct conf_digest *b)
{
    return memcmp(a->sha256, b->sha256, sizeof(a->sha256)) == 0;
}

static void compare_services(const struct conf *before, const struct conf *after,
                             struct conf_findings *changes)
{
    for (size_t i = 0; i < before->services_len; i++) {
        const struct service *old = before->services[i];
        const struct service *new = conf_service(after, old->name, strlen(old->name));
        if (!new) {
            add_change(changes, "services.%s: removed", old->name);
            continue;
        }
        char prefix[CONF_NAME_MAX + 16];
        snprintf(prefix, sizeof(prefix), "services.%s.", old->name);
        for (const struct conf_row *row = conf_service_rows; row->key; row++)
            compare_row(row, prefix, old, new, true, changes);
        if (!same_digest(&old->tls_ca_digest, &new->tls_ca_digest))
            add_change(changes, "%stls_ca: the authorities changed", prefix);
    }
    for (size_t i = 0; i < after->services_len; i++) {
        const char *name = after->services[i]->name;
        if (!conf_service(before, name, strlen(name)))
            add_change(changes, "services.%s: added", name);
    }
}

static bool same_text(const char *a, const char *b)
{
    return !a || !b ? a == b : strcmp(a, b) == 0;
}

void conf_diff(const struct conf *before, const struct conf *after, struct conf_findings *changes)
{
    *changes = (struct conf_findings){0};
    for (const struct conf_row *row = conf_rows; row->key; row++)
        compare_row(row, "", before, after, row->flags & CONF_RELOAD, changes);
    if (!same_digest(&before->listen.tls_digest, &after->listen.tls_digest))
        add_change(changes, "listen.tls_cert: the certificate or its key changed");
    if (!same_text(before->auth.secret, after->auth.secret))
        add_change(changes, "auth: the secret changed");
    if (!same_text(before->auth.public_key, after->auth.public_key))
        add_change(changes, "auth: the public key changed");
    if (*after->auth.keys_file != '\0' && !key_set_same(before->auth.keys, after->auth.keys))
        add_change(changes, "auth.keys_file: the keys changed");
    compare_services(before, after, changes);
}

void conf_keep_fixed(const struct conf *before, struct conf *after)
{
    for (const struct conf_row *row = conf_rows; row->key; row++) {
        if (!(row->flags & CONF_RELOAD))
            conf_value_copy(row, after, before);
    }
}
