/*
 * One value is set, from wherever it comes: the place is remembered, a value that is not allowed is
 * a finding.
 */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/conf_loader.h"

static void *must(void *allocated)
{
    if (!allocated)
        abort();
    return allocated;
}

/* The contract lets an upstream come without a scheme, as the relay had it. */
static void complete_upstream(struct service *service)
{
    if (strstr(service->upstream, "://"))
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

void conf_assign_named(struct conf_loader *loader, const char *source, const char *key,
                       const char *text)
{
    const struct conf_row *row = conf_row_find(conf_rows, key);
    assert(row);
    conf_assign(loader, (struct conf_where){source, 0}, row, loader->conf,
                &loader->where[row - conf_rows], key, text);
}
