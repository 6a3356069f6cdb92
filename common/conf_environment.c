/*
 * The environment: VINHUB__NODE__LEASE=5s for each key of the rows, and the short names that go
 * before those.
 *
 * The parts of a key stand in capitals with "__" between them. A service is named by its own name
 * in capitals, with "_" for each byte that is no letter and no digit:
 * VINHUB__SERVICES__REMOTE_WS__HISTORY__SIZE is history.size of "remote-ws".
 */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/conf_loader.h"
#include "common/text.h"

#define PREFIX   "VINHUB__"
#define SERVICES "SERVICES__"

static void *must(void *allocated)
{
    if (!allocated)
        abort();
    return allocated;
}

/* A variable being read, and what it sets. */
struct variable {
    struct conf_loader *loader;
    struct conf_where where; /* its name */
    const char *path;        /* of its name, behind VINHUB__ */
    const char *value;
    const struct conf_row *row;
    void *base; /* what the row belongs to */
    struct conf_where *origin;
    char key[CONF_SERVICE_KEY_MAX]; /* of the row, for messages: "services.remoteWs.history.size" */
};

/* ---- names ---- */

static char upper(char c)
{
    return c >= 'a' && c <= 'z' ? (char)(c - 'a' + 'A') : c;
}

static void service_variable(const char *name, char out[CONF_NAME_MAX + 1])
{
    size_t n = 0;
    for (; name[n] != '\0' && n < CONF_NAME_MAX; n++) {
        char c = upper(name[n]);
        out[n] = (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ? c : '_';
    }
    out[n] = '\0';
}

static const struct conf_row *row_of(const struct conf_row *rows, const char *path)
{
    char variable[CONF_VARIABLE_MAX];
    for (const struct conf_row *row = rows; row->key; row++) {
        conf_row_variable(row, variable);
        if (strcmp(variable, path) == 0)
            return row;
    }
    return NULL;
}

/* ---- values ---- */

static void refuse(const struct variable *v, const char *got)
{
    conf_refuse_value(v->loader, v->where, v->row, v->key, got);
}

/* "a, b" in place, its items without the blanks around them. */
static void read_list(const struct variable *v)
{
    conf_value_clear(v->row, v->base);
    if (*v->value == '\0')
        return;
    char *copy = must(strdup(v->value)), *rest = copy, *item;
    while ((item = strsep(&rest, ",")) != NULL) {
        item += strspn(item, " \t");
        size_t len = strlen(item);
        while (len > 0 && strchr(" \t", item[len - 1]))
            item[--len] = '\0';
        if (len == 0 || conf_value_add(v->row, v->base, item) != STATUS_OK)
            refuse(v, item);
    }
    free(copy);
}

/* The parser's error text would quote the value, which may hold a password. */
static const char *json_flaw(const json_error_t *error)
{
    if (json_error_code(error) == json_error_duplicate_key)
        return "duplicate name";
    return "it is not JSON";
}

static void read_pairs(const struct variable *v)
{
    json_error_t error;
    const char *text = *v->value == '\0' ? "{}" : v->value;
    json_t *object = json_loads(text, JSON_REJECT_DUPLICATES, &error);
    if (!json_is_object(object)) {
        conf_mistake(v->loader, v->where, v->key,
                     "expected a JSON object of texts, as {\"name\": \"value\"}: %s",
                     object ? "it is not an object" : json_flaw(&error));
        json_decref(object);
        return;
    }
    const char *name;
    json_t *value;
    conf_value_clear(v->row, v->base);
    json_object_foreach(object, name, value)
    {
        if (json_is_string(value))
            conf_assign_pair(v->loader, v->where, v->row, v->base, v->key, name,
                             json_string_value(value));
        else
            conf_mistake(v->loader, v->where, v->key,
                         "expected a JSON object of texts: the value of \"%.100s\" is not a text",
                         name);
    }
    json_decref(object);
}

static void read_value(const struct variable *v)
{
    if (!text_is_utf8(v->value, strlen(v->value))) {
        conf_mistake(v->loader, v->where, v->key, "expected UTF-8 text");
        return;
    }
    if (v->row->kind != CONF_LIST && v->row->kind != CONF_PAIRS) {
        conf_assign(v->loader, v->where, v->row, v->base, v->origin, v->key, v->value);
        return;
    }
    *v->origin = v->where;
    if (v->row->kind == CONF_LIST)
        read_list(v);
    else
        read_pairs(v);
}

/* ---- what a name stands for ---- */

/* No row has that path: says what is allowed where it goes wrong. "NODE__LAESE" of conf_rows is
 * "laese" below "node.". title stands before the key in messages. */
static void refuse_path(const struct variable *v, const struct conf_row *rows, const char *title,
                        const char *path)
{
    char key[CONF_KEY_MAX], prefix[CONF_KEY_MAX] = "", full[2 * CONF_KEY_MAX];
    size_t n = 0;
    for (const char *c = path; *c != '\0' && n + 1 < CONF_KEY_MAX; c++) {
        if (strncmp(c, "__", 2) == 0 && c[2] != '\0') {
            key[n++] = '.';
            c++;
        } else {
            key[n++] = *c >= 'A' && *c <= 'Z' ? (char)(*c - 'A' + 'a') : *c;
        }
    }
    key[n] = '\0';
    for (size_t i = 0; i < n; i++) {
        char parent[CONF_KEY_MAX];
        memcpy(parent, key, i + 1);
        parent[i] = '\0';
        if (key[i] == '.' && conf_rows_have_parent(rows, parent))
            memcpy(prefix, key, i + 1), prefix[i + 1] = '\0';
    }
    snprintf(full, sizeof(full), "%s%s", title, key);
    conf_refuse_key(v->loader, v->where, full, rows, prefix, key + strlen(prefix));
}

#define SHOWN_MAX 20

/* "remoteWs as REMOTEWS, ..." of at most so many. */
static void print_services(const struct conf *conf, FILE *out)
{
    char variable[CONF_NAME_MAX + 1];
    for (size_t i = 0; i < conf->services_len && i < SHOWN_MAX; i++) {
        service_variable(conf->services[i]->name, variable);
        fprintf(out, "%s%s for %s", i == 0 ? "" : ", ", variable, conf->services[i]->name);
    }
    if (conf->services_len > SHOWN_MAX)
        fprintf(out, " and %zu more", conf->services_len - SHOWN_MAX);
    if (conf->services_len == 0)
        fputs("none is configured", out);
}

static void refuse_service(const struct variable *v)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = must(open_memstream(&text, &size));
    print_services(v->loader->conf, out);
    if (fclose(out) != 0)
        abort();
    conf_mistake(v->loader, v->where, "services",
                 "expected " PREFIX SERVICES "NAME__KEY with the NAME of a service that exists: %s",
                 text);
    free(text);
}

/* The part of the path behind the service's name, or NULL. */
static const char *behind_service(const struct conf *conf, size_t index, const char *path)
{
    char variable[CONF_NAME_MAX + 1];
    service_variable(conf->services[index]->name, variable);
    size_t len = strlen(variable);
    return len > 0 && strncmp(path, variable, len) == 0 && strncmp(path + len, "__", 2) == 0
               ? path + len + 2
               : NULL;
}

/* A name may go on as another service's name does, so each service is tried with the rest as a key.
 * False after a mistake. */
static bool find_in_services(struct variable *v, const char *path)
{
    const struct conf *conf = v->loader->conf;
    size_t found = conf->services_len, named = conf->services_len;
    for (size_t i = 0; i < conf->services_len; i++) {
        const char *rest = behind_service(conf, i, path);
        const struct conf_row *row = rest ? row_of(conf_service_rows, rest) : NULL;
        if (rest)
            named = i;
        if (!row)
            continue;
        if (v->row) {
            conf_mistake(v->loader, v->where, "services",
                         "fits more than one service: %s and %s; set the key in the file",
                         conf->services[found]->name, conf->services[i]->name);
            return false;
        }
        v->row = row;
        found = i;
    }
    if (v->row) {
        v->base = conf->services[found];
        v->origin = &v->loader->service_where[found][v->row - conf_service_rows];
        conf_service_key(v->loader, found, v->row->key, v->key);
    } else if (named < conf->services_len) {
        char title[CONF_SERVICE_KEY_MAX];
        refuse_path(v, conf_service_rows, conf_service_key(v->loader, named, "", title),
                    behind_service(conf, named, path));
    } else {
        refuse_service(v);
    }
    return v->row != NULL;
}

static bool find_row(struct variable *v)
{
    if (strpbrk(v->path, "abcdefghijklmnopqrstuvwxyz")) {
        conf_mistake(v->loader, v->where, NULL,
                     "expected a name in capitals, as VINHUB__NODE__LEASE");
        return false;
    }
    if (strncmp(v->path, SERVICES, strlen(SERVICES)) == 0)
        return find_in_services(v, v->path + strlen(SERVICES));
    if (strcmp(v->path, "SERVICES") == 0) {
        refuse_service(v);
        return false;
    }
    v->row = row_of(conf_rows, v->path);
    if (!v->row) {
        refuse_path(v, conf_rows, "", v->path);
        return false;
    }
    v->base = v->loader->conf;
    v->origin = &v->loader->where[v->row - conf_rows];
    snprintf(v->key, sizeof(v->key), "%s", v->row->key);
    return true;
}

/* ---- the environment ---- */

static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Names and values of all VINHUB__ variables ("NAME\0VALUE"), in the order of their names. They
 * stay with the loader, as findings name them. */
static void collect_variables(struct conf_loader *loader)
{
    for (char **entry = environ; entry && *entry; entry++) {
        if (strncmp(*entry, PREFIX, strlen(PREFIX)) != 0 || !strchr(*entry, '='))
            continue;
        loader->sources = must(
            realloc(loader->sources, (loader->sources_len + 1) * sizeof(*loader->sources)));
        char *copy = must(strdup(*entry));
        *strchr(copy, '=') = '\0';
        loader->sources[loader->sources_len++] = copy;
    }
    if (loader->sources_len > 0)
        qsort(loader->sources, loader->sources_len, sizeof(*loader->sources), by_text);
}

/* All names are looked up before the first value is set: NAME may give a service another name. */
static void read_variables(struct conf_loader *loader)
{
    collect_variables(loader);
    if (loader->sources_len == 0)
        return;
    struct variable *variables = must(calloc(loader->sources_len, sizeof(*variables)));
    size_t len = 0;
    for (size_t i = 0; i < loader->sources_len; i++) {
        const char *name = loader->sources[i];
        variables[len] = (struct variable){.loader = loader,
                                           .where = {name, 0},
                                           .path = name + strlen(PREFIX),
                                           .value = name + strlen(name) + 1};
        if (find_row(&variables[len]))
            len++;
    }
    for (size_t i = 0; i < len; i++)
        read_value(&variables[i]);
    free(variables);
}

/* Docker Compose passes short variables that are not set as empty ones, so an empty one counts as
 * not set. */
static const char *short_variable(const char *name)
{
    const char *value = getenv(name);
    return value && *value != '\0' ? value : NULL;
}

static void each_service(struct conf_loader *loader,
                         void (*fn)(struct conf_loader *, const char *source, const char *text))
{
    const char *services = short_variable("VINHUB_SERVICES");
    if (!services)
        return;
    char *copy = must(strdup(services)), *rest = copy, *item;
    while ((item = strsep(&rest, ",")) != NULL) {
        if (*item != '\0')
            fn(loader, "VINHUB_SERVICES", item);
    }
    free(copy);
}

static void read_short_variables(struct conf_loader *loader)
{
    static const struct {
        const char *name, *key;
    } variables[] = {
        {"VINHUB_LISTEN", "listen.address"}, {"VINHUB_ADMIN", "admin.address"},
        {"VINHUB_REDIS_URL", "redis.url"},   {"VINHUB_NODE_ID", "node.id"},
        {"VINHUB_LOG_LEVEL", "log.level"},   {"VINHUB_ADMIN_TOKEN", "admin.token"},
    };
    for (size_t i = 0; i < sizeof(variables) / sizeof(variables[0]); i++) {
        const char *value = short_variable(variables[i].name);
        if (value)
            conf_assign_named(loader, variables[i].name, variables[i].key, value);
    }
    each_service(loader, conf_assign_service);
}

void conf_declare_environment(struct conf_loader *loader)
{
    each_service(loader, conf_declare_service);
}

void conf_read_environment(struct conf_loader *loader)
{
    read_variables(loader);
    read_short_variables(loader);
}
