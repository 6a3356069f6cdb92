#include "common/conf.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/conf_loader.h"
#include "common/conf_syntax.h"

static void *must(void *allocated)
{
    if (allocated == NULL)
        abort();
    return allocated;
}

/* ---- reference counts ---- */

struct service *service_ref(struct service *service)
{
    assert(service->refs > 0);
    service->refs++;
    return service;
}

void service_unref(struct service *service)
{
    assert(service->refs > 0);
    if (--service->refs > 0)
        return;
    conf_values_clear(conf_service_rows, service);
    free(service);
}

struct conf *conf_ref(struct conf *conf)
{
    assert(conf->refs > 0);
    conf->refs++;
    return conf;
}

static void free_secret(char *secret)
{
    if (secret != NULL)
        explicit_bzero(secret, strlen(secret));
    free(secret);
}

void conf_unref(struct conf *conf)
{
    assert(conf->refs > 0);
    if (--conf->refs > 0)
        return;
    for (size_t i = 0; i < conf->services_len; i++)
        service_unref(conf->services[i]);
    free(conf->services);
    free_secret(conf->auth.secret);
    free(conf->auth.public_key);
    conf_values_clear(conf_rows, conf);
    free(conf);
}

struct service *conf_service(const struct conf *conf, const char *name, size_t name_len)
{
    for (size_t i = 0; i < conf->services_len; i++) {
        const char *other = conf->services[i]->name;
        if (strlen(other) == name_len && memcmp(other, name, name_len) == 0)
            return name_len == 0 ? NULL : conf->services[i];
    }
    return NULL;
}

/* ---- findings ---- */

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

/* Takes text over. What was got may hold anything; a finding is one line. */
static void add_finding(struct conf_loader *loader, struct conf_where where, const char *key,
                        const char *kind, char *text)
{
    struct conf_findings *findings = loader->findings;
    const char *file = loader->file != NULL ? loader->file : "configuration";
    char line[24] = "", *finding;
    if (where.line > 0)
        snprintf(line, sizeof(line), ":%zu", where.line);
    int len = asprintf(&finding, "%s%s: %s%s%s%s", where.source != NULL ? where.source : file, line,
                       key == NULL ? "" : key, key == NULL ? "" : ": ", kind, text);
    if (len < 0)
        abort();
    free(text);
    for (char *c = finding; *c != '\0'; c++) {
        if ((unsigned char)*c < ' ' || *c == 0x7f)
            *c = ' ';
    }
    conf_findings_add(findings, finding);
}

void conf_mistake(struct conf_loader *loader, struct conf_where where, const char *key,
                  const char *format, ...)
{
    va_list args;
    va_start(args, format);
    add_finding(loader, where, key, "", conf_format(format, args));
    va_end(args);
    loader->findings->errors++;
}

void conf_warning(struct conf_loader *loader, struct conf_where where, const char *key,
                  const char *format, ...)
{
    va_list args;
    va_start(args, format);
    add_finding(loader, where, key, "warning: ", conf_format(format, args));
    va_end(args);
}

void conf_refuse_value(struct conf_loader *loader, struct conf_where where,
                       const struct conf_row *row, const char *key, const char *got)
{
    char *allowed = NULL;
    size_t size = 0;
    FILE *out = must(open_memstream(&allowed, &size));
    conf_value_allowed(row, out);
    if (fclose(out) != 0)
        abort();
    /* Of an upstream's URL too, where it may hold a password */
    bool hide = row->flags & CONF_SECRET ||
                (row->check == conf_is_upstream && got != NULL && strchr(got, '@') != NULL);
    if (got == NULL)
        conf_mistake(loader, where, key, "%s is wanted", allowed);
    else
        conf_mistake(loader, where, key, "%s is wanted (got \"%.200s\")", allowed,
                     hide ? "***" : got);
    free(allowed);
}

/* ---- where values come from ---- */

struct conf_where conf_origin(const struct conf_loader *loader, const char *key)
{
    const struct conf_row *row = conf_row_find(conf_rows, key);
    assert(row != NULL);
    return loader->where[row - conf_rows];
}

struct conf_where conf_service_origin(const struct conf_loader *loader, size_t service,
                                      const char *key)
{
    const struct conf_row *row = conf_row_find(conf_service_rows, key);
    assert(row != NULL && service < loader->conf->services_len);
    const struct conf_where *where = loader->service_where[service];
    return where[row - conf_service_rows].source != NULL ? where[row - conf_service_rows]
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

size_t conf_add_service(struct conf_loader *loader, struct conf_where where)
{
    struct conf *conf = loader->conf;
    size_t index = conf->services_len++;
    struct service *service = must(calloc(1, sizeof(*service)));
    service->refs = 1;
    conf_values_default(conf_service_rows, service);

    conf->services = must(realloc(conf->services, conf->services_len * sizeof(struct service *)));
    conf->services[index] = service;
    loader->service_where = must(
        realloc(loader->service_where, conf->services_len * sizeof(*loader->service_where)));
    memset(loader->service_where[index], 0, sizeof(loader->service_where[index]));
    loader->service_where[index][CONF_SERVICE_ITSELF] = where;
    return index;
}

/* The contract lets an upstream come without a scheme, as the relay had it. */
static void complete_upstream(struct service *service)
{
    if (strstr(service->upstream, "://") != NULL)
        return;
    size_t size = strlen(service->upstream) + 6;
    char *url = must(malloc(size));
    snprintf(url, size, "ws://%s", service->upstream);
    free(service->upstream);
    service->upstream = url;
}

void conf_assign(struct conf_loader *loader, struct conf_where where, const struct conf_row *row,
                 void *base, struct conf_where *origin, const char *key, const char *text)
{
    *origin = where;
    if (conf_value_set(row, base, text) != STATUS_OK)
        conf_refuse_value(loader, where, row, key, text);
    else if (row->offset == offsetof(struct service, upstream) &&
             conf_row_find(conf_service_rows, row->key) == row)
        complete_upstream(base);
}

static void assign_named(struct conf_loader *loader, const char *source, const char *key,
                         const char *text)
{
    const struct conf_row *row = conf_row_find(conf_rows, key);
    assert(row != NULL);
    conf_assign(loader, (struct conf_where){source, 0}, row, loader->conf,
                &loader->where[row - conf_rows], key, text);
}

/* "NAME=URL": a new service, or another URL for one that the file has. */
static void assign_service(struct conf_loader *loader, const char *source, const char *text)
{
    struct conf_where where = {source, 0};
    struct conf *conf = loader->conf;
    const char *equals = strchr(text, '=');
    size_t name_len = equals == NULL ? 0 : (size_t)(equals - text);
    if (name_len == 0 || name_len > CONF_NAME_MAX) {
        conf_mistake(loader, where, "services", "NAME=URL is wanted (got \"%.200s\")",
                     strchr(text, '@') != NULL ? "***" : text);
        return;
    }
    size_t index = 0;
    while (index < conf->services_len && (strlen(conf->services[index]->name) != name_len ||
                                          memcmp(conf->services[index]->name, text, name_len) != 0))
        index++;
    const struct conf_row *name_row = conf_row_find(conf_service_rows, "name");
    const struct conf_row *url_row = conf_row_find(conf_service_rows, "upstream");
    char name[CONF_NAME_MAX + 1], key[CONF_NAME_MAX + 32];
    memcpy(name, text, name_len);
    name[name_len] = '\0';
    if (index == conf->services_len)
        conf_add_service(loader, where);
    struct conf_where *origins = loader->service_where[index];
    snprintf(key, sizeof(key), "services.%s.upstream", name);
    if (origins[url_row - conf_service_rows].source == source) {
        conf_mistake(loader, where, key, "a service may be there once");
        return;
    }
    conf_assign(loader, where, name_row, conf->services[index],
                &origins[name_row - conf_service_rows], "services.name", name);
    conf_assign(loader, where, url_row, conf->services[index],
                &origins[url_row - conf_service_rows], key, equals + 1);
}

/* ---- environment and command line ---- */

/* Docker Compose hands on variables that are not set as empty ones: they say nothing. */
static const char *environment(const char *name)
{
    const char *value = getenv(name);
    return value != NULL && *value != '\0' ? value : NULL;
}

static void read_environment(struct conf_loader *loader)
{
    static const struct {
        const char *name, *key;
    } variables[] = {
        {"VINHUB_LISTEN", "listen.address"}, {"VINHUB_ADMIN", "admin.address"},
        {"VINHUB_REDIS_URL", "redis.url"},   {"VINHUB_NODE_ID", "node.id"},
        {"VINHUB_LOG_LEVEL", "log.level"},   {"VINHUB_ADMIN_TOKEN", "admin.token"},
    };
    for (size_t i = 0; i < sizeof(variables) / sizeof(variables[0]); i++) {
        const char *value = environment(variables[i].name);
        if (value != NULL)
            assign_named(loader, variables[i].name, variables[i].key, value);
    }

    const char *services = environment("VINHUB_SERVICES");
    if (services == NULL)
        return;
    char *copy = must(strdup(services)), *rest = copy, *item;
    while ((item = strsep(&rest, ",")) != NULL) {
        if (*item != '\0')
            assign_service(loader, "VINHUB_SERVICES", item);
    }
    free(copy);
}

static void read_overrides(struct conf_loader *loader, const struct conf_overrides *overrides)
{
    const struct {
        const char *flag, *key, *value;
    } flags[] = {
        {"--listen", "listen.address", overrides->listen},
        {"--admin", "admin.address", overrides->admin},
        {"--redis", "redis.url", overrides->redis_url},
        {"--node-id", "node.id", overrides->node_id},
        {"--log-level", "log.level", overrides->log_level},
    };
    for (size_t i = 0; i < sizeof(flags) / sizeof(flags[0]); i++) {
        if (flags[i].value != NULL)
            assign_named(loader, flags[i].flag, flags[i].key, flags[i].value);
    }
    for (size_t i = 0; i < overrides->services_len; i++)
        assign_service(loader, "--service", overrides->services[i]);
}

/* Mistakes first, warnings after them; each in the order they were found. */
static void sort_findings(struct conf_findings *findings)
{
    if (findings->len == 0)
        return;
    char **sorted = must(calloc(findings->len, sizeof(char *)));
    size_t len = 0;
    for (int warnings = 0; warnings < 2; warnings++) {
        for (size_t i = 0; i < findings->len; i++) {
            if ((strstr(findings->lines[i], ": warning: ") != NULL) == (warnings == 1))
                sorted[len++] = findings->lines[i];
        }
    }
    free(findings->lines);
    findings->lines = sorted;
}

enum status conf_load(const char *file, const struct conf_overrides *overrides,
                      struct conf_findings *findings, struct conf **out)
{
    static const struct conf_overrides none;
    struct conf_loader loader = {.file = file, .findings = findings};
    *findings = (struct conf_findings){0};
    loader.conf = must(calloc(1, sizeof(*loader.conf)));
    loader.conf->refs = 1;
    conf_values_default(conf_rows, loader.conf);

    if (file == NULL || conf_read_yaml(&loader)) {
        read_environment(&loader);
        read_overrides(&loader, overrides == NULL ? &none : overrides);
        conf_check(&loader);
    }
    sort_findings(findings);
    free(loader.service_where);
    if (findings->errors > 0) {
        conf_unref(loader.conf);
        return STATUS_INVALID;
    }
    *out = loader.conf;
    return STATUS_OK;
}
