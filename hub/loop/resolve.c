#include "loop/resolve.h"

#include <event2/dns.h>
#include <event2/util.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/log.h"
#include "loop/loop.h"

struct resolver {
    struct loop *loop;
    struct evdns_base *base;
    struct timespec read_at[2]; /* when the files below were changed last, as far as is known */
    size_t queries;
    bool closed; /* waits for the last answer to a cancelled query, and is freed then */
};

static const char *const files[2] = {"/etc/resolv.conf", "/etc/hosts"};

struct resolve {
    struct resolver *resolver;
    struct evdns_getaddrinfo_request *request;
    resolve_fn *fn; /* NULL: cancelled */
    void *ctx;
    struct resolve **out; /* while resolve_start runs */
};

static bool files_changed(struct resolver *resolver)
{
    bool changed = false;
    for (size_t i = 0; i < 2; i++) {
        struct stat file;
        struct timespec at = {0};
        if (stat(files[i], &file) == 0)
            at = file.st_mtim;
        if (memcmp(&at, &resolver->read_at[i], sizeof(at)) != 0) {
            resolver->read_at[i] = at;
            changed = true;
        }
    }
    return changed;
}

/* Without a name server literals and the hosts file still serve. */
static bool base_ready(struct resolver *resolver)
{
    bool idle = resolver->queries == 0;
    if (resolver->base != NULL && !(idle && files_changed(resolver)))
        return true;
    files_changed(resolver);
    struct evdns_base *base = evdns_base_new(loop_base(resolver->loop),
                                             EVDNS_BASE_DISABLE_WHEN_INACTIVE);
    if (base == NULL)
        return resolver->base != NULL;
    int result = evdns_base_resolv_conf_parse(base, DNS_OPTIONS_ALL, files[0]);
    if (result != 0)
        log_warn("resolv_conf", LOG_I64("result", result));
    if (resolver->base != NULL)
        evdns_base_free(resolver->base, 0);
    resolver->base = base;
    return true;
}

enum status resolver_new(struct loop *loop, struct resolver **out)
{
    struct resolver *resolver = calloc(1, sizeof(*resolver));
    if (resolver == NULL)
        return STATUS_NO_MEMORY;
    resolver->loop = loop;
    *out = resolver;
    return STATUS_OK;
}

void resolver_free(struct resolver *resolver)
{
    if (resolver == NULL)
        return;
    /* evdns calls back once more for each cancelled query, from the loop. */
    if (resolver->base != NULL)
        evdns_base_free(resolver->base, 1);
    resolver->base = NULL;
    resolver->closed = true;
    if (resolver->queries == 0)
        free(resolver);
}

static void gather(const struct evutil_addrinfo *list, struct resolved *out)
{
    for (const struct evutil_addrinfo *info = list; info != NULL && out->len < RESOLVE_MAX;
         info = info->ai_next) {
        if (info->ai_family != AF_INET && info->ai_family != AF_INET6)
            continue;
        memcpy(&out->addresses[out->len], info->ai_addr, info->ai_addrlen);
        out->sizes[out->len++] = (socklen_t)info->ai_addrlen;
    }
}

static void on_result(int result, struct evutil_addrinfo *list, void *arg)
{
    struct resolve *resolve = arg;
    struct resolver *resolver = resolve->resolver;
    loop_enter(resolver->loop);
    resolver->queries--;
    if (resolver->closed && resolver->queries == 0)
        free(resolver);
    if (resolve->out != NULL)
        *resolve->out = NULL;

    struct resolved resolved = {.len = 0};
    gather(list, &resolved);
    if (list != NULL)
        evutil_freeaddrinfo(list);
    resolve_fn *fn = resolve->fn;
    void *ctx = resolve->ctx;
    free(resolve);
    if (fn == NULL)
        return;
    if (resolved.len > 0)
        fn(ctx, &resolved, NULL);
    else
        fn(ctx, NULL, result == 0 ? "the name has no address" : evutil_gai_strerror(result));
}

enum status resolve_start(struct resolver *resolver, const char *host, uint16_t port,
                          resolve_fn *fn, void *ctx, struct resolve **out)
{
    struct resolve *resolve = calloc(1, sizeof(*resolve));
    if (resolve == NULL || !base_ready(resolver)) {
        free(resolve);
        return STATUS_NO_MEMORY;
    }
    char service[8];
    snprintf(service, sizeof(service), "%u", port);
    struct evutil_addrinfo hints = {
        .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_protocol = IPPROTO_TCP};
    *resolve = (struct resolve){.resolver = resolver, .fn = fn, .ctx = ctx, .out = out};
    resolver->queries++;
    *out = resolve;
    struct evdns_getaddrinfo_request *request = evdns_getaddrinfo(resolver->base, host, service,
                                                                  &hints, on_result, resolve);
    if (request == NULL)
        return STATUS_OK; /* called back, and freed */
    resolve->request = request;
    resolve->out = NULL;
    return STATUS_OK;
}

/* evdns calls back once more for a cancelled request, now or later. */
void resolve_cancel(struct resolve *resolve)
{
    resolve->fn = NULL;
    evdns_getaddrinfo_cancel(resolve->request);
}
