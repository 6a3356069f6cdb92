/*
 * A name is idle, waits for its turn, or is looked up; whoever asks for it hangs on it. A lookup
 * goes through the full names it may stand for, both families of one at a time, and goes on without
 * those who asked: its answer is for the next. The last addresses stay with the name.
 */
#include "loop/resolve.h"

#include <netdb.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "common/clock.h"
#include "common/hash.h"
#include "common/log.h"
#include "common/timer.h"
#include "loop/address_order.h"
#include "loop/dns.h"
#include "loop/loop.h"
#include "loop/loop_private.h"

/* An answer serves all who ask for so long: a backend with thousands of sessions comes back to some
 * questions a second. */
#define FRESH_MS 250
/* So long a name server is waited for where addresses are known. */
#define KNOWN_WAIT_MS 250
/* And for the other family where one has been answered (RFC 8305 section 3 has 50 ms for programs
 * with a user): for IPv4 so long that a question that was lost is asked again, since many machines
 * can't use IPv6, whatever name servers say. */
#define V6_WAIT_MS 250
#define V4_WAIT_MS 1500
/* What was found stays usable (RFC 8767 section 5 advises one to three days). */
#define KNOWN_MS ((uint64_t)24 * 3600 * 1000)
/* Who asked hears by then; the lookup goes on for the next. */
#define PATIENCE_MS 4500
/* How often the files are looked at while a lookup is under way. */
#define FILES_MS    1000
#define NAMES_MAX   1024 /* that nobody asks for just now */
#define LOOKUPS_MAX 64   /* at once, of two questions each */
#define STARTS_MAX  16   /* a turn: each reads the hosts file */
#define WARN_MS     60000
#define NAME_BYTES  254 /* of a full name (RFC 1035 section 3.1) */

enum name_state { NAME_IDLE, NAME_WAITING, NAME_ASKING };
enum { V4, V6, FAMILIES };

struct name {
    struct resolver *resolver;
    UT_hash_handle hh;
    struct name *prev, *next; /* in the list of those that wait */
    enum name_state state;
    struct resolve *asking;
    struct resolved known;
    uint64_t known_at_ms;    /* when it was found; 0: nothing is known */
    uint64_t answered_at_ms; /* the latest lookup; 0: none yet */
    uint64_t warned_at_ms;   /* that what is known is used without an answer; 0: never */
    char why[416];           /* "": the latest lookup has found something */
    size_t candidate;        /* the full name that is asked for */
    struct question {
        struct name *name;
        struct dns_question *asked; /* NULL: answered, or not asked */
        struct dns_answer answer;
        bool answered; /* in this lookup */
    } families[FAMILIES];
    struct timer timer; /* the wait for the other family */
    char text[];        /* without a dot at its end, unless it is an absolute name */
};

struct resolve {
    struct resolve *prev, *next;
    struct resolver *resolver;
    struct name *name; /* NULL: an address */
    resolve_fn *fn;
    void *ctx;
    struct timer timer;
    struct resolved literal;
    uint16_t port;
};

struct resolver {
    struct loop *loop;
    struct dns *dns;
    struct name *names;   /* by text; the one that was asked for last is the last */
    struct name *waiting; /* for one of the places */
    size_t lookups;
    struct timers timers;
    struct timer files; /* looks at them */
    struct timer start; /* begins lookups that wait */
    struct loop_timer *timer;
};

static void on_dns(void *ctx, const struct dns_answer *answer);
static void on_start_due(struct timer *timer, uint64_t now_ms);
static void on_files_due(struct timer *timer, uint64_t now_ms);
static void trim_names(struct resolver *resolver);

/* --- time --- */

static void arm(struct resolver *resolver)
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
    timers_run(&resolver->timers, clock_boot_ms());
    trim_names(resolver);
    arm(resolver);
}

/* --- who asked --- */

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

/* Those that were asked for longest ago go first. */
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

/* --- the full names that a name may stand for --- */

static bool print_candidate(const char *text, const char *domain, char out[NAME_BYTES])
{
    int n = domain ? snprintf(out, NAME_BYTES, "%s.%s", text, domain)
                   : snprintf(out, NAME_BYTES, "%s", text);
    if (n <= 0 || n >= NAME_BYTES)
        return false;
    if (out[n - 1] == '.')
        out[n - 1] = '\0';
    return true;
}

static unsigned dots_in(const char *text)
{
    unsigned dots = 0;
    for (; *text != '\0'; text++)
        dots += *text == '.';
    return dots;
}

/* As getaddrinfo does (resolv.conf(5), ndots). False: there is none of that number. */
static bool candidate_at(const struct name *name, size_t at, char out[NAME_BYTES], bool *too_long)
{
    const struct dns_settings *settings = dns_settings(name->resolver->dns);
    size_t len = strlen(name->text);
    bool absolute = len > 0 && name->text[len - 1] == '.';
    size_t domains = absolute ? 0 : settings->domains_len;
    bool as_it_is_first = absolute || dots_in(name->text) >= settings->ndots;
    if (at > domains)
        return false;
    size_t as_it_is = as_it_is_first ? 0 : domains;
    const char *domain = NULL;
    if (at != as_it_is)
        domain = settings->domains[at - (as_it_is_first ? 1 : 0)];
    *too_long = !print_candidate(name->text, domain, out);
    return true;
}

/* --- a lookup --- */

static void start_soon(struct resolver *resolver)
{
    if (!timer_armed(&resolver->start))
        timer_start(&resolver->timers, &resolver->start, clock_boot_ms(), on_start_due);
}

/* The name waits for one of the places, for the first time or once more. */
static void queue_lookup(struct name *name)
{
    name->state = NAME_WAITING;
    DL_APPEND(name->resolver->waiting, name);
    start_soon(name->resolver);
}

static void end_lookup(struct name *name, const char *why)
{
    struct resolver *resolver = name->resolver;
    timer_stop(&resolver->timers, &name->timer);
    if (why)
        snprintf(name->why, sizeof(name->why), "could not resolve %.100s: %s", name->text, why);
    else
        name->why[0] = '\0';
    name->answered_at_ms = clock_boot_ms();
    name->state = NAME_IDLE;
    resolver->lookups--;
    if (resolver->lookups == 0)
        timer_stop(&resolver->timers, &resolver->files);
    if (resolver->waiting)
        start_soon(resolver);
    /* Who asks again from within its callback is answered in its own turn. */
    struct resolve *resolve;
    size_t asking;
    DL_COUNT(name->asking, resolve, asking);
    for (size_t i = 0; i < asking && name->asking; i++)
        answer_one(name->asking);
}

static void found(struct name *name, union resolve_address *addresses, size_t len)
{
    address_order(addresses, len);
    struct resolved *known = &name->known;
    known->len = len < RESOLVE_MAX ? len : RESOLVE_MAX;
    for (size_t i = 0; i < known->len; i++) {
        known->addresses[i] = addresses[i];
        known->sizes[i] = addresses[i].any.sa_family == AF_INET ? sizeof(addresses[i].v4)
                                                                : sizeof(addresses[i].v6);
    }
    name->known_at_ms = clock_boot_ms();
    end_lookup(name, NULL);
}

/* Both families of one full name. */
static void found_by_servers(struct name *name)
{
    union resolve_address addresses[2 * RESOLVE_MAX];
    size_t len = 0;
    for (size_t i = 0; i < FAMILIES; i++) {
        const struct question *family = &name->families[i];
        if (!family->answered || family->answer.outcome != DNS_FOUND)
            continue;
        for (size_t k = 0; k < family->answer.found.len; k++)
            addresses[len++] = family->answer.found.addresses[k];
    }
    found(name, addresses, len);
}

static bool found_in_hosts(struct name *name)
{
    char text[NAME_BYTES]; /* the file has names without the dot */
    struct resolved resolved;
    if (!print_candidate(name->text, NULL, text) ||
        !dns_hosts(name->resolver->dns, text, &resolved))
        return false;
    union resolve_address addresses[2 * RESOLVE_MAX];
    memcpy(addresses, resolved.addresses, sizeof(resolved.addresses));
    found(name, addresses, resolved.len);
    return true;
}

/* What was known is another's by now. */
static void not_there(struct name *name, const char *why)
{
    name->known_at_ms = 0;
    char copy[sizeof(name->families[0].answer.why)];
    snprintf(copy, sizeof(copy), "%s", why);
    end_lookup(name, copy);
}

/* A question that an earlier lookup has left unanswered is not asked twice. */
static bool ask_family(struct name *name, size_t family, const char *full_name)
{
    struct question *question = &name->families[family];
    question->answered = false;
    if (question->asked &&
        strncmp(dns_question_name(question->asked), full_name, strlen(full_name)) == 0 &&
        strlen(dns_question_name(question->asked)) == strlen(full_name) + 1)
        return true;
    if (question->asked)
        dns_forget(question->asked);
    question->asked = dns_ask(name->resolver->dns, full_name, family == V4 ? AF_INET : AF_INET6,
                              on_dns, question);
    return question->asked != NULL;
}

/* why: what is said where there is no such candidate. */
static void ask_candidate(struct name *name, const char *why)
{
    char full_name[NAME_BYTES];
    bool too_long = true;
    while (candidate_at(name, name->candidate, full_name, &too_long) && too_long)
        name->candidate++;
    if (too_long) {
        not_there(name, why);
        return;
    }
    for (size_t i = 0; i < FAMILIES; i++) {
        if (!ask_family(name, i, full_name)) {
            end_lookup(name, "out of memory");
            return;
        }
    }
}

static void next_candidate(struct name *name)
{
    timer_stop(&name->resolver->timers, &name->timer);
    name->candidate++;
    const struct question *v4 = &name->families[V4];
    ask_candidate(name, v4->answered ? v4->answer.why : name->families[V6].answer.why);
}

/* The hosts file goes first: it is read at once, and holds what this machine has its own way. */
static void look_up(struct name *name)
{
    struct resolver *resolver = name->resolver;
    const char *order = dns_settings(resolver->dns)->order;
    if (!timer_armed(&resolver->files))
        timer_start(&resolver->timers, &resolver->files, clock_boot_ms() + FILES_MS, on_files_due);
    if (strchr(order, 'f') && found_in_hosts(name))
        return;
    name->candidate = 0;
    if (strchr(order, 'b'))
        ask_candidate(name, "not a host name");
    else
        not_there(name, "not in the hosts file, and nsswitch.conf allows no name server");
}

/* The other family does not answer: what one has said counts. */
static void on_family_due(struct timer *timer, uint64_t now_ms)
{
    (void)now_ms;
    struct name *name = (struct name *)((char *)timer - offsetof(struct name, timer));
    const struct question *v4 = &name->families[V4], *v6 = &name->families[V6];
    if ((v4->answered && v4->answer.outcome == DNS_FOUND) ||
        (v6->answered && v6->answer.outcome == DNS_FOUND))
        found_by_servers(name);
    else
        next_candidate(name);
}

/* Whether one answer is enough, but for a short wait. "No such name" holds for both families; asked
 * for IPv6, servers that know only IPv4 say it wrongly (RFC 4074 section 4.2). */
static bool settles(const struct question *question, size_t family)
{
    return question->answered && (question->answer.outcome == DNS_FOUND ||
                                  (family == V4 && question->answer.outcome == DNS_NO_NAME));
}

static void on_dns(void *ctx, const struct dns_answer *answer)
{
    struct question *question = ctx;
    struct name *name = question->name;
    question->asked = NULL;
    if (name->state != NAME_ASKING)
        return; /* too late for its lookup, which went without it */
    question->answered = true;
    question->answer = *answer;
    struct question *v4 = &name->families[V4], *v6 = &name->families[V6];
    if (!v4->answered || !v6->answered) {
        if (settles(v4, V4) || settles(v6, V6))
            timer_start(&name->resolver->timers, &name->timer,
                        clock_boot_ms() + (v4->answered ? V6_WAIT_MS : V4_WAIT_MS), on_family_due);
    } else if (v4->answer.outcome == DNS_FOUND || v6->answer.outcome == DNS_FOUND) {
        found_by_servers(name);
    } else if (v4->answer.outcome == DNS_TROUBLE ||
               (v6->answer.outcome == DNS_TROUBLE && !settles(v4, V4))) {
        end_lookup(name, v4->answer.outcome == DNS_TROUBLE ? v4->answer.why : v6->answer.why);
    } else {
        next_candidate(name);
    }
    arm(name->resolver);
}

/* --- changed files --- */

/* What is looked up is asked for once more, of the servers there are now. */
static void reread(struct resolver *resolver)
{
    struct name *name, *next;
    HASH_ITER (hh, resolver->names, name, next) {
        for (size_t i = 0; i < FAMILIES; i++) {
            if (name->families[i].asked)
                dns_forget(name->families[i].asked);
            name->families[i].asked = NULL;
        }
        name->answered_at_ms = 0;
        if (name->state != NAME_ASKING)
            continue;
        timer_stop(&resolver->timers, &name->timer);
        resolver->lookups--;
        queue_lookup(name);
    }
    dns_reread(resolver->dns);
}

static void on_files_due(struct timer *timer, uint64_t now_ms)
{
    struct resolver *resolver = (struct resolver *)((char *)timer -
                                                    offsetof(struct resolver, files));
    if (dns_changed(resolver->dns))
        reread(resolver);
    if (resolver->lookups > 0)
        timer_start(&resolver->timers, timer, now_ms + FILES_MS, on_files_due);
}

static void on_start_due(struct timer *timer, uint64_t now_ms)
{
    (void)now_ms;
    struct resolver *resolver = (struct resolver *)((char *)timer -
                                                    offsetof(struct resolver, start));
    if (dns_changed(resolver->dns))
        reread(resolver);
    for (size_t i = 0; i < STARTS_MAX && resolver->waiting && resolver->lookups < LOOKUPS_MAX;
         i++) {
        struct name *name = resolver->waiting;
        DL_DELETE(resolver->waiting, name);
        resolver->lookups++;
        name->state = NAME_ASKING;
        look_up(name);
    }
    if (resolver->waiting && resolver->lookups < LOOKUPS_MAX)
        start_soon(resolver);
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
    resolver->timer = loop_timer_new(loop, on_timer, resolver);
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

/* An address in any notation that getaddrinfo takes, with a scope where it has one. */
static bool take_literal(const char *host, struct resolved *out)
{
    char text[NAME_BYTES];
    if (!print_candidate(host, NULL, text))
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

/* First at the end of the wait for where an address is known, if one is. */
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
        queue_lookup(name);
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
    arm(resolver);
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
