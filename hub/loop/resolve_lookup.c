/* The lookup of a name: in the hosts file, then its full names one after the other at the name
 * servers. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "common/clock.h"
#include "loop/address_order.h"
#include "loop/resolve_private.h"

/* How long we wait for the other family after one is answered (RFC 8305 section 3 suggests 50 ms
 * for programs with a user). The wait for IPv4 is long enough that a lost question is asked again,
 * since many machines can't use IPv6 even if the name has such an address. */
#define V6_WAIT_MS 250
#define V4_WAIT_MS 1500
/* How often the files are checked for changes while a lookup is under way. */
#define FILES_MS    1000
#define LOOKUPS_MAX 64 /* at once, of two questions each */
#define STARTS_MAX  16 /* lookups begun in one turn: each reads the hosts file */

static void on_dns(void *ctx, const struct dns_answer *answer);
static void on_start_due(struct timer *timer, uint64_t now_ms);
static void on_files_due(struct timer *timer, uint64_t now_ms);

/* --- the full names that a name may stand for --- */

bool lookup_print_name(const char *text, const char *domain, char out[NAME_BYTES])
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

/* The full name with number at, in the order of getaddrinfo (resolv.conf(5), ndots). Returns false
 * if there are fewer. */
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
    *too_long = !lookup_print_name(name->text, domain, out);
    return true;
}

/* --- a lookup --- */

static void start_soon(struct resolver *resolver)
{
    if (!timer_armed(&resolver->start))
        timer_start(&resolver->timers, &resolver->start, clock_boot_ms(), on_start_due);
}

/* Lists the name as waiting for a lookup, for the first time or again. */
void lookup_queue(struct name *name)
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
    name_answer(name);
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

/* Joins the addresses of both families, which the name servers have answered. */
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
    char text[NAME_BYTES]; /* names in the hosts file have no dot at the end */
    struct resolved resolved;
    if (!lookup_print_name(name->text, NULL, text) ||
        !dns_hosts(name->resolver->dns, text, &resolved))
        return false;
    union resolve_address addresses[2 * RESOLVE_MAX];
    memcpy(addresses, resolved.addresses, sizeof(resolved.addresses));
    found(name, addresses, resolved.len);
    return true;
}

/* The name has no address now: the known ones may belong to another host. */
static void not_there(struct name *name, const char *why)
{
    name->known_at_ms = 0;
    char copy[sizeof(name->families[0].answer.why)];
    snprintf(copy, sizeof(copy), "%s", why);
    end_lookup(name, copy);
}

/* If an earlier lookup has asked the same question and the answer is still awaited, it is not asked
 * again. */
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

/* Asks for both families of the present full name. why: the reason to report if no name is left. */
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

/* The hosts file comes first, whatever the order in nsswitch.conf: reading it takes no time, and
 * the administrator of this machine has written it. */
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

/* The other family has not answered in time: goes on with the answer of this one. */
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

/* Whether the answer of one family is enough after a short wait. "No such name" holds for both
 * families, but some servers that know only IPv4 give this answer wrongly when they are asked for
 * IPv6 (RFC 4074 section 4.2). */
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
        return; /* too late: the lookup went on without it */
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
    resolver_arm(name->resolver);
}

/* --- changed files --- */

/* Lookups under way begin again with the current servers. */
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
        lookup_queue(name);
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
