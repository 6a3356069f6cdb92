/*
 * What was wrong in a configuration, or worth a warning: lines for people, with the place of the
 * value. No value that may be secret gets into one.
 */
#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/conf_loader.h"
#include "common/conf_syntax.h"

static void *must(void *allocated)
{
    if (!allocated)
        abort();
    return allocated;
}

void conf_findings_fini(struct conf_findings *findings)
{
    for (size_t i = 0; i < findings->len; i++)
        free(findings->lines[i]);
    free(findings->lines);
    *findings = (struct conf_findings){0};
}

void conf_findings_add(struct conf_findings *findings, char *line)
{
    findings->lines = must(realloc(findings->lines, (findings->len + 1) * sizeof(char *)));
    findings->lines[findings->len++] = line;
}

char *conf_format(const char *format, va_list args)
{
    char *text;
    if (vasprintf(&text, format, args) < 0)
        abort();
    return text;
}

/* Mistakes come first, warnings after them; each in the order they were found. */
static void insert_finding(struct conf_findings *findings, size_t at, char *line)
{
    conf_findings_add(findings, line);
    memmove(findings->lines + at + 1, findings->lines + at,
            (findings->len - 1 - at) * sizeof(char *));
    findings->lines[at] = line;
}

/* Takes text over. The value may hold any bytes, so they are escaped: a finding is one line. */
static void add_finding(struct conf_loader *loader, size_t at, struct conf_where where,
                        const char *key, const char *kind, char *text)
{
    struct conf_findings *findings = loader->findings;
    const char *file = loader->file ? loader->file : "configuration";
    char line[24] = "", *finding;
    if (where.line > 0)
        snprintf(line, sizeof(line), ":%zu", where.line);
    int len = asprintf(&finding, "%s%s: %s%s%s%s", where.source ? where.source : file, line,
                       key ? key : "", key ? ": " : "", kind, text);
    if (len < 0)
        abort();
    free(text);
    for (char *c = finding; *c != '\0'; c++) {
        if ((unsigned char)*c < ' ' || *c == 0x7f)
            *c = ' ';
    }
    insert_finding(findings, at, finding);
}

void conf_mistake(struct conf_loader *loader, struct conf_where where, const char *key,
                  const char *format, ...)
{
    va_list args;
    va_start(args, format);
    add_finding(loader, loader->findings->errors, where, key, "", conf_format(format, args));
    va_end(args);
    loader->findings->errors++;
}

void conf_warning(struct conf_loader *loader, struct conf_where where, const char *key,
                  const char *format, ...)
{
    va_list args;
    va_start(args, format);
    add_finding(loader, loader->findings->len, where, key, "warning: ", conf_format(format, args));
    va_end(args);
}

static bool is_placeholder(const char *text, size_t len)
{
    return len > 2 && text[0] == '{' && memchr(text, '}', len) == text + len - 1;
}

char *conf_hide_query(const char *text)
{
    char *shown = NULL;
    size_t size = 0;
    FILE *out = must(open_memstream(&shown, &size));
    size_t len = strcspn(text, "?");
    fprintf(out, "%.*s", (int)len, text);
    for (const char *item = text + len; *item != '\0'; item += len) {
        len = 1 + strcspn(item + 1, "&"); /* with its '?' or '&' */
        const char *equals = memchr(item, '=', len);
        size_t name_len = equals ? (size_t)(equals + 1 - item) : len;
        bool hide = name_len < len && !is_placeholder(item + name_len, len - name_len);
        fprintf(out, "%.*s%s", (int)(hide ? name_len : len), item, hide ? "***" : "");
    }
    if (fclose(out) != 0)
        abort();
    return shown;
}

static char *hide_user(const char *text)
{
    const char *at = strrchr(text, '@');
    const char *from = strstr(text, "://");
    char *shown;
    from = !from || !at || from > at ? text : from + 3;
    int len = at ? asprintf(&shown, "%.*s***%s", (int)(from - text), text, at)
                 : asprintf(&shown, "%s", text);
    if (len < 0)
        abort();
    return shown;
}

char *conf_hide_credentials(const char *text)
{
    char *without_user = hide_user(text), *shown = conf_hide_query(without_user);
    free(without_user);
    return shown;
}

/* What the row allows, in words. The caller frees. */
static char *allowed_words(const struct conf_row *row)
{
    char *allowed = NULL;
    size_t size = 0;
    FILE *out = must(open_memstream(&allowed, &size));
    conf_value_allowed(row, out);
    if (fclose(out) != 0)
        abort();
    return allowed;
}

void conf_refuse_kind(struct conf_loader *loader, struct conf_where where,
                      const struct conf_row *row, const char *key, const char *got)
{
    char *allowed = allowed_words(row);
    conf_mistake(loader, where, key, "expected %s, got %s", allowed, got);
    free(allowed);
}

void conf_refuse_value(struct conf_loader *loader, struct conf_where where,
                       const struct conf_row *row, const char *key, const char *got)
{
    char *allowed = allowed_words(row);
    const char *flaw = row->kind == CONF_TEXT ? conf_flaw(row->check, got) : NULL;
    /* The URL is malformed, so the end of its password is not known: all of it is hidden. */
    bool hide = (row->flags & CONF_SECRET && row->kind == CONF_TEXT) ||
                (row->check == conf_is_upstream && strchr(got, '@'));
    char *shown = conf_hide_credentials(got);
    conf_mistake(loader, where, key, "expected %s, got \"%.200s\"%s%s", allowed,
                 hide ? "***" : shown, flaw ? ": " : "", flaw ? flaw : "");
    free(shown);
    free(allowed);
}

/* ---- where values come from ---- */

struct conf_where conf_origin(const struct conf_loader *loader, const char *key)
{
    const struct conf_row *row = conf_row_find(conf_rows, key);
    assert(row);
    return loader->where[row - conf_rows];
}

struct conf_where conf_service_origin(const struct conf_loader *loader, size_t service,
                                      const char *key)
{
    const struct conf_row *row = conf_row_find(conf_service_rows, key);
    assert(row && service < loader->conf->services_len);
    const struct conf_where *where = loader->service_where[service];
    return where[row - conf_service_rows].source ? where[row - conf_service_rows]
                                                 : where[CONF_SERVICE_ITSELF];
}

const char *conf_service_key(const struct conf_loader *loader, size_t service, const char *key,
                             char out[CONF_SERVICE_KEY_MAX])
{
    const char *name = loader->conf->services[service]->name;
    if (*name != '\0')
        snprintf(out, CONF_SERVICE_KEY_MAX, "services.%s.%s", name, key);
    else
        snprintf(out, CONF_SERVICE_KEY_MAX, "services[%zu].%s", service, key);
    return out;
}
