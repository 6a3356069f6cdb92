/*
 * A configuration is put together: defaults < file < environment < command line, then looked at as
 * a whole.
 */
#include <stdlib.h>

#include "common/conf_loader.h"

static void *must(void *allocated)
{
    if (!allocated)
        abort();
    return allocated;
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
        if (flags[i].value)
            conf_assign_named(loader, flags[i].flag, flags[i].key, flags[i].value);
    }
    for (size_t i = 0; i < overrides->services_len; i++)
        conf_assign_service(loader, "--service", overrides->services[i]);
}

static void read_all(struct conf_loader *loader, const struct conf_overrides *overrides)
{
    conf_declare_environment(loader);
    for (size_t i = 0; i < overrides->services_len; i++)
        conf_declare_service(loader, "--service", overrides->services[i]);
    conf_read_environment(loader);
    read_overrides(loader, overrides);
    conf_check(loader);
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

    if (!file || conf_read_yaml(&loader))
        read_all(&loader, overrides ? overrides : &none);
    for (size_t i = 0; i < loader.sources_len; i++)
        free(loader.sources[i]);
    free(loader.sources);
    free(loader.service_where);
    if (findings->errors > 0) {
        conf_unref(loader.conf);
        return STATUS_INVALID;
    }
    *out = loader.conf;
    return STATUS_OK;
}
