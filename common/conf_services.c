/*
 * The services of a configuration that is being read: those of the file, and "NAME=URL" of
 * environment and command line.
 *
 * NAME=URL adds a service, or gives one that is there another URL. All services are there before
 * the first variable of one is read, so VINHUB__SERVICES__REMOTEWS__LINGER applies to a service of
 * the command line as well.
 */
#include <stdlib.h>
#include <string.h>

#include "common/conf_loader.h"
#include "common/text.h"

static void *must(void *allocated)
{
    if (!allocated)
        abort();
    return allocated;
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

/* "NAME=URL" in two. */
struct named_url {
    char name[CONF_NAME_MAX + 1];
    const char *url;
};

/* False where text is not of that form; the name may still hold any bytes. */
static bool split_named_url(const char *text, struct named_url *out)
{
    const char *equals = strchr(text, '=');
    size_t name_len = equals ? (size_t)(equals - text) : 0;
    if (name_len == 0 || name_len > CONF_NAME_MAX)
        return false;
    memcpy(out->name, text, name_len);
    out->name[name_len] = '\0';
    out->url = equals + 1;
    return true;
}

static size_t find_service(const struct conf *conf, const char *name)
{
    size_t index = 0;
    while (index < conf->services_len && strcmp(conf->services[index]->name, name) != 0)
        index++;
    return index;
}

static struct conf_where *origin_of(struct conf_loader *loader, size_t index, const char *key)
{
    return &loader->service_where[index][conf_row_find(conf_service_rows, key) - conf_service_rows];
}

void conf_declare_service(struct conf_loader *loader, const char *source, const char *text)
{
    struct conf_where where = {source, 0};
    struct named_url named;
    if (!split_named_url(text, &named) || !text_is_name(named.name, strlen(named.name)) ||
        find_service(loader->conf, named.name) < loader->conf->services_len)
        return;
    size_t index = conf_add_service(loader, where);
    conf_assign(loader, where, conf_row_find(conf_service_rows, "name"),
                loader->conf->services[index], origin_of(loader, index, "name"), "services.name",
                named.name);
}

void conf_assign_service(struct conf_loader *loader, const char *source, const char *text)
{
    struct conf_where where = {source, 0};
    struct named_url named;
    if (!split_named_url(text, &named)) {
        loader->services_refused = true;
        char *shown = conf_hide_credentials(text);
        conf_mistake(loader, where, "services", "expected NAME=URL, got \"%.200s\"", shown);
        free(shown);
        return;
    }
    conf_declare_service(loader, source, text);
    size_t index = find_service(loader->conf, named.name);
    if (index == loader->conf->services_len) { /* it is no name */
        loader->services_refused = true;
        conf_refuse_value(loader, where, conf_row_find(conf_service_rows, "name"), "services.name",
                          named.name);
        return;
    }
    char key[CONF_SERVICE_KEY_MAX];
    struct conf_where *origin = origin_of(loader, index, "upstream");
    conf_service_key(loader, index, "upstream", key);
    if (origin->source && origin->line == 0 && strcmp(origin->source, source) == 0) {
        conf_mistake(loader, where, key, "duplicate service: each is allowed once");
        return;
    }
    conf_assign(loader, where, conf_row_find(conf_service_rows, "upstream"),
                loader->conf->services[index], origin, key, named.url);
}
