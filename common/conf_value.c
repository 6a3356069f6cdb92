/*
 * What the kinds of values have in common: setting one from text, adding to a list, clearing,
 * printing.
 */
#include "common/conf_rows.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#include "common/conf_loader.h"
#include "common/conf_syntax.h"
#include "common/redis_url.h"
#include "common/text.h"

/* A configuration is small and comes from the operator, so running out of memory for it ends the
 * program. */
static void *must(void *allocated)
{
    if (!allocated)
        abort();
    return allocated;
}

static char *copy(const char *text)
{
    return must(strdup(text));
}

static void *value_at(const struct conf_row *row, void *base)
{
    return (char *)base + row->offset;
}

static const void *const_value_at(const struct conf_row *row, const void *base)
{
    return (const char *)base + row->offset;
}

static size_t *len_at(const struct conf_row *row, void *base)
{
    assert(row->kind == CONF_LIST || row->kind == CONF_PAIRS);
    return (size_t *)(void *)((char *)base + row->len_offset);
}

static size_t len_of(const struct conf_row *row, const void *base)
{
    return *(const size_t *)(const void *)((const char *)base + row->len_offset);
}

/* ---- setting ---- */

static enum status find_choice(const struct conf_row *row, const char *text, unsigned *out)
{
    for (unsigned i = 0; i < sizeof(row->choices) / sizeof(row->choices[0]) && row->choices[i];
         i++) {
        if (strcmp(row->choices[i], text) == 0) {
            *out = i;
            return STATUS_OK;
        }
    }
    return STATUS_INVALID;
}

static enum status set_text(const struct conf_row *row, void *base, const char *text)
{
    char **value = value_at(row, base);
    unsigned choice;
    if (*text == '\0' && row->min > 0)
        return STATUS_INVALID;
    if (*text != '\0' && row->check && !row->check(text))
        return STATUS_INVALID;
    if (row->choices[0] && find_choice(row, text, &choice) != STATUS_OK)
        return STATUS_INVALID;
    char *fresh = copy(text);
    free(*value);
    *value = fresh;
    return STATUS_OK;
}

static enum status set_bool(const struct conf_row *row, void *base, const char *text)
{
    bool yes = strcmp(text, "true") == 0;
    if (!yes && strcmp(text, "false") != 0)
        return STATUS_INVALID;
    *(bool *)value_at(row, base) = yes;
    return STATUS_OK;
}

static bool in_range(const struct conf_row *row, uint64_t value)
{
    return value >= row->min && value <= row->max;
}

static enum status set_duration(const struct conf_row *row, void *base, const char *text)
{
    uint32_t ms;
    if (text_duration(text, &ms) != STATUS_OK || !in_range(row, ms))
        return STATUS_INVALID;
    *(uint32_t *)value_at(row, base) = ms;
    return STATUS_OK;
}

static enum status set_size(const struct conf_row *row, void *base, const char *text)
{
    size_t bytes;
    if (text_size(text, &bytes) != STATUS_OK || !in_range(row, bytes))
        return STATUS_INVALID;
    *(size_t *)value_at(row, base) = bytes;
    return STATUS_OK;
}

static enum status set_count(const struct conf_row *row, void *base, const char *text)
{
    size_t number; /* a size without a unit is a plain number */
    if (text[strspn(text, "0123456789")] != '\0' || text_size(text, &number) != STATUS_OK ||
        !in_range(row, number))
        return STATUS_INVALID;
    *(uint32_t *)value_at(row, base) = (uint32_t)number;
    return STATUS_OK;
}

static enum status set_choice(const struct conf_row *row, void *base, const char *text)
{
    unsigned choice;
    if (find_choice(row, text, &choice) != STATUS_OK)
        return STATUS_INVALID;
    _Static_assert(sizeof(enum on_loss) == sizeof(choice) &&
                       sizeof(enum auth_mode) == sizeof(choice),
                   "enums are ints");
    memcpy(value_at(row, base), &choice, sizeof(choice));
    return STATUS_OK;
}

enum status conf_value_set(const struct conf_row *row, void *base, const char *text)
{
    switch (row->kind) {
    case CONF_TEXT: return set_text(row, base, text);
    case CONF_BOOL: return set_bool(row, base, text);
    case CONF_DURATION: return set_duration(row, base, text);
    case CONF_SIZE: return set_size(row, base, text);
    case CONF_COUNT: return set_count(row, base, text);
    case CONF_CHOICE: return set_choice(row, base, text);
    case CONF_LIST:
    case CONF_PAIRS: return STATUS_INVALID;
    }
    return STATUS_INVALID;
}

enum status conf_value_add(const struct conf_row *row, void *base, const char *item)
{
    assert(row->kind == CONF_LIST);
    if (row->check && !row->check(item))
        return STATUS_INVALID;
    char ***items = value_at(row, base);
    size_t *len = len_at(row, base);
    *items = must(realloc(*items, (*len + 1) * sizeof(**items)));
    (*items)[(*len)++] = copy(item);
    return STATUS_OK;
}

static bool check_pair(const struct conf_row *row, const char *name, const char *value)
{
    if (!row->check)
        return true;
    size_t size = strlen(name) + strlen(value) + 3;
    char *text = must(malloc(size));
    snprintf(text, size, "%s: %s", name, value);
    bool fits = row->check(text);
    free(text);
    return fits;
}

enum status conf_value_add_pair(const struct conf_row *row, void *base, const char *name,
                                const char *value)
{
    assert(row->kind == CONF_PAIRS);
    if (!check_pair(row, name, value))
        return STATUS_INVALID;
    struct conf_pair **pairs = value_at(row, base);
    size_t *len = len_at(row, base);
    *pairs = must(realloc(*pairs, (*len + 1) * sizeof(**pairs)));
    (*pairs)[(*len)++] = (struct conf_pair){.name = copy(name), .value = copy(value)};
    return STATUS_OK;
}

static void clear_list(char ***items, size_t *len)
{
    for (size_t i = 0; i < *len; i++)
        free((*items)[i]);
    free(*items);
    *items = NULL;
    *len = 0;
}

static void clear_pairs(struct conf_pair **pairs, size_t *len)
{
    for (size_t i = 0; i < *len; i++) {
        free((*pairs)[i].name);
        free((*pairs)[i].value);
    }
    free(*pairs);
    *pairs = NULL;
    *len = 0;
}

void conf_value_clear(const struct conf_row *row, void *base)
{
    switch (row->kind) {
    case CONF_TEXT: {
        char **value = value_at(row, base);
        free(*value);
        *value = NULL;
        break;
    }
    case CONF_LIST: clear_list(value_at(row, base), len_at(row, base)); break;
    case CONF_PAIRS: clear_pairs(value_at(row, base), len_at(row, base)); break;
    case CONF_BOOL:
    case CONF_DURATION:
    case CONF_SIZE:
    case CONF_COUNT:
    case CONF_CHOICE: break;
    }
}

void conf_values_clear(const struct conf_row *rows, void *base)
{
    for (const struct conf_row *row = rows; row->key; row++)
        conf_value_clear(row, base);
}

/* The items were accepted by this row before, so they are accepted now. */
static void copy_items(const struct conf_row *row, void *base, const void *other)
{
    const void *value = const_value_at(row, other);
    conf_value_clear(row, base);
    for (size_t i = 0; i < len_of(row, other); i++) {
        enum status status;
        if (row->kind == CONF_LIST) {
            status = conf_value_add(row, base, (*(char **const *)value)[i]);
        } else {
            const struct conf_pair *pair = *(struct conf_pair *const *)value + i;
            status = conf_value_add_pair(row, base, pair->name, pair->value);
        }
        assert(status == STATUS_OK);
        (void)status;
    }
}

void conf_value_copy(const struct conf_row *row, void *base, const void *other)
{
    void *to = value_at(row, base);
    const void *from = const_value_at(row, other);
    switch (row->kind) {
    case CONF_TEXT: {
        char *fresh = copy(*(char *const *)from);
        free(*(char **)to);
        *(char **)to = fresh;
        break;
    }
    case CONF_BOOL: memcpy(to, from, sizeof(bool)); break;
    case CONF_DURATION:
    case CONF_COUNT: memcpy(to, from, sizeof(uint32_t)); break;
    case CONF_SIZE: memcpy(to, from, sizeof(size_t)); break;
    case CONF_CHOICE: memcpy(to, from, sizeof(unsigned)); break;
    case CONF_LIST:
    case CONF_PAIRS: copy_items(row, base, other); break;
    }
}

/* ---- defaults ---- */

/* Lists are empty by default; pairs stand in their row as YAML. */
static void default_pairs(const struct conf_row *row, void *base)
{
    yaml_parser_t parser;
    yaml_document_t document;
    if (yaml_parser_initialize(&parser) == 0)
        abort();
    yaml_parser_set_input_string(&parser, (const unsigned char *)row->standard,
                                 strlen(row->standard));
    int loaded = yaml_parser_load(&parser, &document);
    assert(loaded == 1);
    (void)loaded;

    yaml_node_t *root = yaml_document_get_root_node(&document);
    for (yaml_node_pair_t *pair = root->data.mapping.pairs.start;
         pair < root->data.mapping.pairs.top; pair++) {
        yaml_node_t *name = yaml_document_get_node(&document, pair->key);
        yaml_node_t *value = yaml_document_get_node(&document, pair->value);
        enum status status = conf_value_add_pair(row, base, (const char *)name->data.scalar.value,
                                                 (const char *)value->data.scalar.value);
        assert(status == STATUS_OK);
        (void)status;
    }
    yaml_document_delete(&document);
    yaml_parser_delete(&parser);
}

/* A text that must not be empty and has no default stays empty until the file is read; conf_check
 * finds it then. */
static bool is_required(const struct conf_row *row)
{
    return row->kind == CONF_TEXT && row->min > 0 && row->standard[0] == '\0';
}

void conf_values_default(const struct conf_row *rows, void *base)
{
    for (const struct conf_row *row = rows; row->key; row++) {
        if (row->kind == CONF_LIST)
            continue;
        if (row->kind == CONF_PAIRS) {
            default_pairs(row, base);
        } else if (is_required(row)) {
            *(char **)value_at(row, base) = copy("");
        } else {
            enum status status = conf_value_set(row, base, row->standard);
            assert(status == STATUS_OK);
            (void)status;
        }
    }
}

/* ---- printing ---- */

void conf_print_quoted(const char *text, FILE *out)
{
    fputc('"', out);
    for (const char *c = text; *c != '\0'; c++) {
        unsigned char byte = (unsigned char)*c;
        if (byte == '"' || byte == '\\')
            fprintf(out, "\\%c", byte);
        else if (byte < ' ' || byte == 0x7f)
            fprintf(out, "\\u%04x", byte);
        else
            fputc(byte, out);
    }
    fputc('"', out);
}

/* Prints URLs with their secret parts hidden: the password of redis.url, the query values of an
 * upstream. */
static void print_text(const struct conf_row *row, const char *text, bool reveal, FILE *out)
{
    if (!reveal && row->check == conf_is_upstream) {
        char *shown = conf_hide_query(text);
        conf_print_quoted(shown, out);
        free(shown);
    } else if (reveal || !(row->flags & CONF_SECRET) || *text == '\0') {
        conf_print_quoted(text, out);
    } else if (strcmp(row->key, "redis.url") == 0) {
        char *redacted = redis_url_redact(text);
        conf_print_quoted(redacted, out);
        free(redacted);
    } else {
        conf_print_quoted("***", out);
    }
}

static void print_list(char *const *items, size_t len, FILE *out)
{
    fputc('[', out);
    for (size_t i = 0; i < len; i++) {
        fputs(i == 0 ? "" : ", ", out);
        conf_print_quoted(items[i], out);
    }
    fputc(']', out);
}

static void print_pairs(const struct conf_row *row, const struct conf_pair *pairs, size_t len,
                        bool reveal, FILE *out)
{
    bool hide = !reveal && (row->flags & CONF_SECRET);
    fputc('{', out);
    for (size_t i = 0; i < len; i++) {
        fputs(i == 0 ? "" : ", ", out);
        conf_print_quoted(pairs[i].name, out);
        fputs(": ", out);
        conf_print_quoted(hide ? "***" : pairs[i].value, out);
    }
    fputc('}', out);
}

static void print_choice(const struct conf_row *row, const void *value, FILE *out)
{
    unsigned choice;
    memcpy(&choice, value, sizeof(choice));
    fputs(row->choices[choice], out);
}

void conf_value_print(const struct conf_row *row, const void *base, bool reveal, FILE *out)
{
    const void *value = const_value_at(row, base);
    char quantity[32];
    switch (row->kind) {
    case CONF_TEXT: print_text(row, *(char *const *)value, reveal, out); break;
    case CONF_BOOL: fputs(*(const bool *)value ? "true" : "false", out); break;
    case CONF_DURATION:
        text_duration_print(*(const uint32_t *)value, quantity);
        fputs(quantity, out);
        break;
    case CONF_SIZE:
        text_size_print(*(const size_t *)value, quantity);
        fputs(quantity, out);
        break;
    case CONF_COUNT: fprintf(out, "%" PRIu32, *(const uint32_t *)value); break;
    case CONF_CHOICE: print_choice(row, value, out); break;
    case CONF_LIST: print_list(*(char **const *)value, len_of(row, base), out); break;
    case CONF_PAIRS:
        print_pairs(row, *(struct conf_pair *const *)value, len_of(row, base), reveal, out);
        break;
    }
}

char *conf_value_text(const struct conf_row *row, const void *base, bool reveal)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = must(open_memstream(&text, &size));
    conf_value_print(row, base, reveal, out);
    if (fclose(out) != 0)
        abort();
    return text;
}

static void print_choices(const struct conf_row *row, FILE *out)
{
    for (size_t i = 0; i < sizeof(row->choices) / sizeof(row->choices[0]) && row->choices[i]; i++)
        fprintf(out, "%s%s", i == 0 ? "one of " : ", ", row->choices[i]);
}

void conf_value_allowed(const struct conf_row *row, FILE *out)
{
    char low[32], high[32];
    switch (row->kind) {
    case CONF_BOOL: fputs("true or false", out); break;
    case CONF_DURATION:
        text_duration_print((uint32_t)row->min, low);
        text_duration_print((uint32_t)row->max, high);
        fprintf(out, "a duration with unit (ms s m h) from %s to %s", low, high);
        break;
    case CONF_SIZE:
        text_size_print((size_t)row->min, low);
        text_size_print((size_t)row->max, high);
        fprintf(out, "a size in bytes, KiB, MiB or GiB from %s to %s", low, high);
        break;
    case CONF_COUNT:
        fprintf(out, "a whole number from %" PRIu64 " to %" PRIu64, row->min, row->max);
        break;
    case CONF_CHOICE: print_choices(row, out); break;
    case CONF_TEXT:
    case CONF_LIST:
    case CONF_PAIRS:
        if (row->choices[0])
            print_choices(row, out);
        else
            fputs(row->allowed   ? row->allowed
                  : row->min > 0 ? "text that is not empty"
                                 : "text",
                  out);
        break;
    }
}
