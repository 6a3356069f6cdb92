/*
 * Reference counts of a configuration and its services, and the look-up by name.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "common/conf_rows.h"
#include "common/key_set.h"

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
    if (secret)
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
    key_set_unref(conf->auth.keys);
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
