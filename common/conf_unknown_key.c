/* An unknown key of the file: which keys are allowed in its place, and which one may have been
 * meant. */
#include "common/conf_loader.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static size_t smallest(size_t a, size_t b, size_t c)
{
    size_t least = a < b ? a : b;
    return least < c ? least : c;
}

/* How many bytes have to be changed, added or removed to turn one text into the other
 * (Levenshtein). */
static size_t distance(const char *a, const char *b)
{
    size_t row[65];
    size_t a_len = strlen(a), b_len = strlen(b);
    if (a_len > 64 || b_len > 64)
        return 64;
    for (size_t j = 0; j <= b_len; j++)
        row[j] = j;
    for (size_t i = 1; i <= a_len; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= b_len; j++) {
            size_t above = row[j];
            row[j] = smallest(above + 1, row[j - 1] + 1, diagonal + (a[i - 1] != b[j - 1]));
            diagonal = above;
        }
    }
    return row[b_len];
}

/* The row's next part below prefix ("clients." of "clients.ping.every": "ping"); false where it is
 * not below it. */
static bool part_below(const struct conf_row *row, const char *prefix, char out[CONF_KEY_MAX])
{
    size_t len = strlen(prefix);
    if (strncmp(row->key, prefix, len) != 0)
        return false;
    size_t part = strcspn(row->key + len, ".");
    memcpy(out, row->key + len, part);
    out[part] = '\0';
    return true;
}

/* The key of the row whose last part is `name`, where there is just one; else NULL. */
static const char *key_elsewhere(const struct conf_row *rows, const char *name)
{
    const char *found = NULL;
    for (const struct conf_row *row = rows; row->key; row++) {
        const char *dot = strrchr(row->key, '.');
        if (!dot || strcmp(dot + 1, name) != 0)
            continue;
        if (found)
            return NULL;
        found = row->key;
    }
    return found;
}

/* Suggests a key: one that differs in a few letters, one in another place, or the relay's.
 */
static void print_guess(const struct conf_row *rows, const char *prefix, const char *name,
                        const char *nearest, FILE *out)
{
    const char *elsewhere = key_elsewhere(rows, name);
    if (*prefix == '\0' && rows == conf_rows && strcmp(name, "websocket") == 0)
        fputs(" (the relay's map is written as the list services here)", out);
    else if (nearest[0] != '\0')
        fprintf(out, " (did you mean %s?)", nearest);
    else if (elsewhere)
        fprintf(out, " (did you mean %s?)", elsewhere);
    else if (rows == conf_rows && (conf_row_find(conf_service_rows, name) ||
                                   conf_rows_have_parent(conf_service_rows, name)))
        fputs(" (it is a key of a service)", out);
}

static void print_allowed_keys(const struct conf_row *rows, const char *prefix, const char *name,
                               FILE *out)
{
    char part[CONF_KEY_MAX], last[CONF_KEY_MAX] = "", nearest[CONF_KEY_MAX] = "";
    size_t best = strlen(name) / 3 + 2;

    fputs("unknown key, expected one of: ", out);
    if (*prefix == '\0' && rows == conf_rows)
        fputs("services, ", out);
    bool first = true;
    for (const struct conf_row *row = rows; row->key; row++) {
        if (!part_below(row, prefix, part) || strcmp(part, last) == 0)
            continue;
        fprintf(out, "%s%s", first ? "" : ", ", part);
        first = false;
        if (distance(name, part) < best) {
            best = distance(name, part);
            snprintf(nearest, sizeof(nearest), "%s", part);
        }
        snprintf(last, sizeof(last), "%s", part);
    }
    print_guess(rows, prefix, name, nearest, out);
}

void conf_refuse_key(struct conf_loader *loader, struct conf_where where, const char *key,
                     const struct conf_row *rows, const char *prefix, const char *name)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    if (!out)
        abort();
    print_allowed_keys(rows, prefix, name, out);
    if (fclose(out) != 0)
        abort();
    conf_mistake(loader, where, key, "%s", text);
    free(text);
}
