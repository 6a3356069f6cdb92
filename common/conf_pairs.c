/*
 * The items of maps: canned replies, and headers, whose values may hold ${NAME} of the environment.
 */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/conf_loader.h"

/* The variable at text ("${NAME}..."), its name copied to out; NULL where the form is not right. */
static const char *variable_name(const char *text, char out[CONF_KEY_MAX])
{
    size_t len = strspn(text + 2,
                        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_");
    if (len == 0 || len >= CONF_KEY_MAX || text[2 + len] != '}')
        return NULL;
    memcpy(out, text + 2, len);
    out[len] = '\0';
    return text + 2 + len + 1;
}

/* The value with each ${NAME} replaced from the environment; NULL after a mistake. The caller
 * frees. */
static char *expand(struct conf_loader *loader, struct conf_where where, const char *key,
                    const char *value)
{
    char *text = NULL, name[CONF_KEY_MAX];
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    if (!out)
        abort();
    bool fits = true;
    while (fits && *value != '\0') {
        if (strncmp(value, "${", 2) != 0) {
            fputc(*value++, out);
            continue;
        }
        const char *rest = variable_name(value, name);
        const char *content = rest ? getenv(name) : NULL;
        if (!rest)
            conf_mistake(loader, where, key, "expected a variable as ${NAME} with A-Z a-z 0-9 _");
        else if (!content)
            conf_mistake(loader, where, key,
                         "expected the environment variable %s, which is not set", name);
        else
            fputs(content, out);
        fits = content != NULL;
        value = rest;
    }
    if (fclose(out) != 0)
        abort();
    if (!fits) {
        free(text);
        return NULL;
    }
    return text;
}

static bool has_equal_header(const struct conf_pair *pairs, size_t len, const char *name)
{
    for (size_t i = 0; i < len; i++) {
        if (strcasecmp(pairs[i].name, name) == 0)
            return true;
    }
    return false;
}

static void add_header(struct conf_loader *loader, struct conf_where where,
                       const struct conf_row *row, struct service *service, const char *key,
                       const char *name, const char *value)
{
    if (has_equal_header(service->headers, service->headers_len, name)) {
        conf_mistake(loader, where, key, "duplicate header %s", name);
        return;
    }
    char *expanded = expand(loader, where, key, value);
    if (expanded && conf_value_add_pair(row, service, name, expanded) != STATUS_OK)
        conf_refuse_value(loader, where, row, key, name); /* the value may be secret */
    free(expanded);
}

void conf_assign_pair(struct conf_loader *loader, struct conf_where where,
                      const struct conf_row *row, void *base, const char *key, const char *name,
                      const char *value)
{
    if (row == conf_row_find(conf_service_rows, "headers"))
        add_header(loader, where, row, base, key, name, value);
    else if (conf_value_add_pair(row, base, name, value) != STATUS_OK)
        conf_refuse_value(loader, where, row, key, name);
}
