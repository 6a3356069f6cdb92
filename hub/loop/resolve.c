/* Queries for names, the known addresses of each name, and the resolver as a whole. */
#include "loop/resolve_private.h"

#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "common/clock.h"
#include "common/log.h"
#include "loop/loop.h"
#include "loop/loop_private.h"

/* How long one answer serves further queries: when a backend with thousands of sessions comes
 * back, the name servers get a few questions a second. */
#define FRESH_MS 250
/* How long to wait for a name server if addresses are known. */
#define KNOWN_WAIT_MS 250
/* How long found addresses stay usable (RFC 8767 section 5 advises one to three days). */
#define KNOWN_MS ((uint64_t)24 * 3600 * 1000)
/* Each query is answered within this time; the lookup goes on, for later queries. */
#define PATIENCE_MS 4500
#define NAMES_MAX   1024 /* above this many names, those that are idle are forgotten */
#define WARN_MS     60000

static void trim_names(struct resolver *resolver);

/* --- time --- */

void resolver_arm(struct resolver *resolver)
{
    uint64_t at_ms = timers_next(&resolver->timers), now_ms = clock_boot_ms();
    if (at_ms == UINT64_MAX)
        loop_timer_stop(resolver->timer);
    else
        loop_timer_start(resolver->timer, at_ms > now_ms ? at_ms - now_ms : 0);
}

static void on_timer(void *ctx)
{
    struct resolver *resolver = ctx;
    loop_run_timers(&resolver->timers);
    trim_names(resolver);
    resolver_arm(resolver);
}

/* --- queries --- */

static void finish(struct resolve *resolve, const struct resolved *found, const char *why)
{
    struct resolved with_port = {.len = 0};
    if (found) {
        with_port = *found;
        for (size_t i = 0; i < found->len; i++)
            with_port.addresses[i].v4.sin_port = htons(resolve->port); /* v6 has it there, too */
    }
    resolve_fn *fn = resolve->fn;
    void *ctx = resolve->ctx;
    timer_stop(&resolve->resolver->timers, &resolve->timer);
    if (resolve->name)
        DL_DELETE(resolve->name->asking, resolve);
    free(resolve);
    fn(ctx, found ? &with_port : NULL, why);
}

static bool is_known(const struct name *name)
{
    return name->known_at_ms != 0 && clock_boot_ms() - name->known_at_ms < KNOWN_MS;
}

static bool is_fresh(const struct name *name)
{
    return name->state == NAME_IDLE && name->answered_at_ms != 0 &&
           clock_boot_ms() - name->answered_at_ms < FRESH_MS;
}

static void warn_of_known(struct name *name)
{
    uint64_t now_ms = clock_boot_ms();
    if (name->warned_at_ms != 0 && now_ms - name->warned_at_ms < WARN_MS)
        return;
    name->warned_at_ms = now_ms;
    log_warn("known_addresses_used", LOG_STR("host", name->text), LOG_STR("reason", name->why),
             LOG_U64("age_ms", now_ms - name->known_at_ms));
}

static void answer_one(struct resolve *resolve)
{
    struct name *name = resolve->name;
    bool known = is_known(name);
    if (known && name->why[0] != '\0')
        warn_of_known(name);
    finish(resolve, known ? &name->known : NULL, known ? NULL : name->why);
}

static void on_answer_due(struct timer *timer, uint64_t now_ms)
{
    (void)now_ms;
    answer_one((struct resolve *)((char *)timer - offsetof(struct resolve, timer)));
}

/* A query's callback may open a socket, so hundreds of queries are answered in portions. */
void name_answer(struct name *name)
{
    struct resolver *resolver = name->resolver;
    struct resolve *resolve;
    DL_FOREACH (name->asking, resolve)
        timer_start(&resolver->timers, &resolve->timer, clock_boot_ms(), on_answer_due);
    resolver_arm(resolver);
}

/* --- names --- */

static void free_name(struct name *name)
{
    for (size_t i = 0; i < FAMILIES; i++) {
        if (name->families[i].asked)
            dns_forget(name->families[i].asked);
    }
    timer_stop(&name->resolver->timers, &name->timer);
    HASH_DEL(name->resolver->names, name);
    free(name);
}

/* Forgets idle names while there are too many, those first that were queried longest ago. */
static void trim_names(struct resolver *resolver)
{
    struct name *name, *next;
    size_t over = HASH_COUNT(resolver->names);
    HASH_ITER (hh, resolver->names, name, next) {
        if (over <= NAMES_MAX)
            return;
        if (name->state == NAME_IDLE && !name->asking) {
            free_name(name);
            over--;
        }
    }
}

static struct name *name_of(struct resolver *resolver, const char *text)
{
    size_t len = strlen(text);
    struct name *name;
    HASH_FIND(hh, resolver->names, text, len, name);
    if (name) {
        HASH_DEL(resolver->names, name);
    } else {
        name = calloc(1, sizeof(*name) + len + 1);
        if (!name)
            return NULL;
        name->resolver = resolver;
        for (size_t i = 0; i < FAMILIES; i++)
            name->families[i].name = name;
        memcpy(name->text, text, len);
    }
    HASH_ADD_KEYPTR(hh, resolver->names, name->text, len, name);
    return name;
}

/* --- the whole --- */

static struct resolver *resolver_of(struct loop *loop)
{
    struct resolver *resolver = loop_resolver(loop);
    if (resolver)
        return resolver;
    resolver = calloc(1, sizeof(*resolver));
    if (!resolver)
        return NULL;
    resolver->loop = loop;
    timers_init(&resolver->timers);
    resolver->timer = loop_timer_new(loop, "names", on_timer, resolver);
    if (!resolver->timer || dns_new(loop, &resolver->dns) != STATUS_OK) {
        loop_timer_free(resolver->timer);
        timers_fini(&resolver->timers);
        free(resolver);
        return NULL;
    }
    loop_set_resolver(loop, resolver);
    return resolver;
}

void resolver_free(struct resolver *resolver)
{
    if (!resolver)
        return;
    struct name *name, *next;
    HASH_ITER (hh, resolver->names, name, next)
        free_name(name);
    timer_stop(&resolver->timers, &resolver->files);
    timer_stop(&resolver->timers, &resolver->start);
    timers_fini(&resolver->timers);
    loop_timer_free(resolver->timer);
    dns_free(resolver->dns);
    free(resolver);
}

/* --- asking --- */

/* Takes host if it is an IP address in any notation that getaddrinfo accepts, a scope included. */
static bool take_literal(const char *host, struct resolved *out)
{
    char text[NAME_BYTES];
    if (!lookup_print_name(host, NULL, text))
        return false;
    struct addrinfo hints = {.ai_flags = AI_NUMERICHOST, .ai_socktype = SOCK_STREAM}, *list;
    if (getaddrinfo(text, NULL, &hints, &list) != 0)
        return false;
    memcpy(&out->addresses[0], list->ai_addr, list->ai_addrlen);
    out->sizes[0] = list->ai_addrlen;
    out->len = 1;
    freeaddrinfo(list);
    return true;
}

static void on_literal(struct timer *timer, uint64_t now_ms)
{
    (void)now_ms;
    struct resolve *resolve = (struct resolve *)((char *)timer - offsetof(struct resolve, timer));
    struct resolved literal = resolve->literal;
    finish(resolve, &literal, NULL);
}

/* The query has waited long enough: KNOWN_WAIT_MS if an address is known, else PATIENCE_MS; or not
 * at all if the last answer is fresh. */
static void on_patience_due(struct timer *timer, uint64_t now_ms)
{
    (void)now_ms;
    struct resolve *resolve = (struct resolve *)((char *)timer - offsetof(struct resolve, timer));
    struct name *name = resolve->name;
    if (!is_fresh(name))
        snprintf(name->why, sizeof(name->why),
                 "could not resolve %.100s: no answer from the name server (%s) in time",
                 name->text, dns_settings(name->resolver->dns)->servers);
    answer_one(resolve);
}

static enum status ask(struct resolve *resolve, const char *host)
{
    struct resolver *resolver = resolve->resolver;
    struct name *name = name_of(resolver, host);
    if (!name)
        return STATUS_NO_MEMORY;
    resolve->name = name;
    DL_APPEND(name->asking, resolve);
    if (name->state == NAME_IDLE && !is_fresh(name))
        lookup_queue(name);
    uint64_t wait_ms = is_fresh(name) ? 0 : is_known(name) ? KNOWN_WAIT_MS : PATIENCE_MS;
    timer_start(&resolver->timers, &resolve->timer, clock_boot_ms() + wait_ms, on_patience_due);
    return STATUS_OK;
}

enum status resolve_start(struct loop *loop, const char *host, uint16_t port, resolve_fn *fn,
                          void *ctx, struct resolve **out)
{
    struct resolver *resolver = resolver_of(loop);
    struct resolve *resolve = resolver ? calloc(1, sizeof(*resolve)) : NULL;
    if (!resolve)
        return STATUS_NO_MEMORY;
    *resolve = (struct resolve){.resolver = resolver, .fn = fn, .ctx = ctx, .port = port};
    if (take_literal(host, &resolve->literal)) {
        timer_start(&resolver->timers, &resolve->timer, clock_boot_ms(), on_literal);
    } else if (ask(resolve, host) != STATUS_OK) {
        free(resolve);
        return STATUS_NO_MEMORY;
    }
    resolver_arm(resolver);
    *out = resolve;
    return STATUS_OK;
}

void resolve_cancel(struct resolve *resolve)
{
    timer_stop(&resolve->resolver->timers, &resolve->timer);
    if (resolve->name)
        DL_DELETE(resolve->name->asking, resolve);
    free(resolve);
}
