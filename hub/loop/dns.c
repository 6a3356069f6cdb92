#include "loop/dns.h"

#include <ares.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include "common/log.h"
#include "loop/loop.h"

/* Each server has a second to answer before the next one is asked; two seconds in the second round,
 * four in the third. A late answer still counts, except over TCP, where c-ares asks once: for slow
 * servers the channel without EDNS waits longer. The limits of resolv.conf are not used, since they
 * are meant for programs that block. */
#define ANSWER_MS       1000
#define PLAIN_ANSWER_MS 3000
#define ROUNDS          3
/* An answer of this size passes all networks in one packet (DNS flag day 2020). */
#define EDNS_BYTES 1232
#define NDOTS_MAX  15 /* resolv.conf(5) */

enum dns_channel_kind { WITH_EDNS, WITHOUT_EDNS, HOSTS_FILE, CHANNELS };

/* A socket of c-ares, and what c-ares waits for on it. */
struct watched {
    struct watched *next;
    struct dns *dns;
    struct loop_watch *readable, *writable; /* NULL: c-ares does not wait for it */
    ares_channel channel;
    ares_socket_t fd;
};

struct dns_channel {
    struct dns *dns;
    ares_channel ares;
};

struct dns_file_stamp {
    dev_t device;
    ino_t inode;
    off_t size;
    struct timespec changed_at;
};

static const char *const files[] = {"/etc/resolv.conf", "/etc/nsswitch.conf", "/etc/hosts"};
#define FILES (sizeof(files) / sizeof(*files))

struct dns {
    struct loop *loop;
    struct dns_channel channels[CHANNELS];
    struct watched *watched;
    struct loop_timer *timer;
    struct dns_question *answered; /* to be delivered */
    struct dns_settings settings;
    char *order;
    char servers[96];
    struct dns_file_stamp stamps[FILES];
    enum dns_channel_kind kind; /* the kind of channel for the next question; changed after a
                                   question without an answer */
};

struct dns_question {
    struct dns *dns;
    dns_fn *fn; /* NULL: forgotten */
    void *ctx;
    struct dns_question *next; /* in the list of answered questions */
    int family;
    enum dns_channel_kind kind;
    bool asked_again;
    struct dns_answer answer;
    char name[]; /* with a dot at its end */
};

/* --- the files --- */

static struct dns_file_stamp stamp_of(const char *path)
{
    struct stat file;
    if (stat(path, &file) != 0)
        return (struct dns_file_stamp){0};
    return (struct dns_file_stamp){.device = file.st_dev,
                                   .inode = file.st_ino,
                                   .size = file.st_size,
                                   .changed_at = file.st_mtim};
}

static bool same_stamp(const struct dns_file_stamp *a, const struct dns_file_stamp *b)
{
    return a->device == b->device && a->inode == b->inode && a->size == b->size &&
           a->changed_at.tv_sec == b->changed_at.tv_sec &&
           a->changed_at.tv_nsec == b->changed_at.tv_nsec;
}

bool dns_changed(struct dns *dns)
{
    for (size_t i = 0; i < FILES; i++) {
        struct dns_file_stamp now = stamp_of(files[i]);
        if (!same_stamp(&now, &dns->stamps[i]))
            return true;
    }
    return false;
}

/* --- sockets and time --- */

static void deliver(struct dns *dns);

/* Arms the timer for the next deadline of c-ares, or for now if an answer is to be delivered. */
static void arm(struct dns *dns)
{
    uint64_t next_ms = dns->answered ? 0 : UINT64_MAX;
    for (size_t i = 0; i < CHANNELS && next_ms > 0; i++) {
        struct timeval left;
        if (!dns->channels[i].ares || !ares_timeout(dns->channels[i].ares, NULL, &left))
            continue;
        uint64_t left_ms = (uint64_t)left.tv_sec * 1000 + (uint64_t)left.tv_usec / 1000 + 1;
        if (left_ms < next_ms)
            next_ms = left_ms;
    }
    if (next_ms == UINT64_MAX)
        loop_timer_stop(dns->timer);
    else
        loop_timer_start(dns->timer, next_ms);
}

static void on_timer(void *ctx)
{
    struct dns *dns = ctx;
    for (size_t i = 0; i < CHANNELS; i++) {
        if (dns->channels[i].ares)
            ares_process_fd(dns->channels[i].ares, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
    }
    deliver(dns);
}

/* c-ares may close the socket during the call, which frees *watched. */
static void on_readable(void *ctx)
{
    struct watched *watched = ctx;
    struct dns *dns = watched->dns;
    ares_process_fd(watched->channel, watched->fd, ARES_SOCKET_BAD);
    deliver(dns);
}

static void on_writable(void *ctx)
{
    struct watched *watched = ctx;
    struct dns *dns = watched->dns;
    ares_process_fd(watched->channel, ARES_SOCKET_BAD, watched->fd);
    deliver(dns);
}

static void watch(struct watched *watched, enum loop_ready ready, bool wanted)
{
    struct loop_watch **at = ready == LOOP_READABLE ? &watched->readable : &watched->writable;
    if (wanted == (*at != NULL))
        return;
    if (!wanted) {
        loop_watch_free(*at);
        *at = NULL;
        return;
    }
    *at = loop_watch_new(watched->dns->loop, "names", watched->fd, ready,
                         ready == LOOP_READABLE ? on_readable : on_writable, watched);
    if (!*at)
        abort();
}

/* c-ares wants neither direction just before it closes the socket. */
static void on_socket(void *ctx, ares_socket_t fd, int readable, int writable)
{
    struct dns_channel *channel = ctx;
    struct watched **at = &channel->dns->watched;
    while (*at && (*at)->fd != fd)
        at = &(*at)->next;
    struct watched *watched = *at;
    if (!watched) {
        if (!readable && !writable)
            return;
        watched = calloc(1, sizeof(*watched));
        if (!watched)
            abort();
        *watched = (struct watched){.dns = channel->dns, .channel = channel->ares, .fd = fd};
        *at = watched;
    }
    watch(watched, LOOP_READABLE, readable);
    watch(watched, LOOP_WRITABLE, writable);
    if (!readable && !writable) {
        *at = watched->next;
        free(watched);
    }
}

/* --- settings --- */

static void forget_settings(struct dns *dns)
{
    for (size_t i = 0; i < dns->settings.domains_len; i++)
        free(dns->settings.domains[i]);
    free(dns->settings.domains);
    free(dns->order);
    dns->order = NULL;
    dns->settings = (struct dns_settings){0};
}

/* The search domains. Without any, systemd's resolved writes "search .". */
static void take_domains(struct dns *dns, const struct ares_options *options)
{
    size_t len = options->ndomains > 0 ? (size_t)options->ndomains : 0;
    dns->settings.domains = calloc(len + 1, sizeof(*dns->settings.domains));
    if (!dns->settings.domains)
        abort();
    for (size_t i = 0; i < len; i++) {
        const char *domain = options->domains[i];
        domain += strspn(domain, ".");
        size_t domain_len = strlen(domain);
        while (domain_len > 0 && domain[domain_len - 1] == '.')
            domain_len--;
        if (domain_len > 0)
            dns->settings.domains[dns->settings.domains_len++] = strndup(domain, domain_len);
    }
}

static void print_servers(struct dns *dns)
{
    snprintf(dns->servers, sizeof(dns->servers), "none");
#if ARES_VERSION >= 0x011800
    char *list = ares_get_servers_csv(dns->channels[WITH_EDNS].ares);
    if (list)
        snprintf(dns->servers, sizeof(dns->servers), "%s", list);
    ares_free_string(list);
#else
    struct ares_addr_port_node *list = NULL;
    if (ares_get_servers_ports(dns->channels[WITH_EDNS].ares, &list) != ARES_SUCCESS)
        return;
    size_t used = 0;
    for (struct ares_addr_port_node *at = list; at; at = at->next) {
        char address[INET6_ADDRSTRLEN];
        ares_inet_ntop(at->family, &at->addr, address, sizeof(address));
        int n = snprintf(dns->servers + used, sizeof(dns->servers) - used, "%s%s",
                         used > 0 ? ", " : "", address);
        if (n > 0 && (size_t)n < sizeof(dns->servers) - used)
            used += (size_t)n;
    }
    ares_free_data(list);
#endif
}

static void take_settings(struct dns *dns)
{
    forget_settings(dns);
    struct ares_options options;
    int mask;
    if (ares_save_options(dns->channels[WITH_EDNS].ares, &options, &mask) != ARES_SUCCESS)
        abort(); /* out of memory */
    take_domains(dns, &options);
    dns->settings.ndots = options.ndots < 0           ? 1
                          : options.ndots > NDOTS_MAX ? NDOTS_MAX
                                                      : (unsigned)options.ndots;
    dns->order = strdup(options.lookups ? options.lookups : "fb");
    dns->settings.order = dns->order;
    ares_destroy_options(&options);
    print_servers(dns);
    dns->settings.servers = dns->servers;
}

static bool open_channel(struct dns *dns, enum dns_channel_kind kind)
{
    struct dns_channel *channel = &dns->channels[kind];
    struct ares_options options = {
        .flags = ARES_FLAG_NOALIASES | ARES_FLAG_NOSEARCH |
                 (kind == WITH_EDNS ? ARES_FLAG_EDNS : 0),
        .timeout = kind == WITH_EDNS ? ANSWER_MS : PLAIN_ANSWER_MS,
        .tries = ROUNDS,
        .ednspsz = EDNS_BYTES,
        .sock_state_cb = on_socket,
        .sock_state_cb_data = channel,
        .lookups = (char *)(kind == HOSTS_FILE ? "f" : "b"),
    };
    int mask = ARES_OPT_FLAGS | ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES | ARES_OPT_EDNSPSZ |
               ARES_OPT_SOCK_STATE_CB;
    if (kind != WITH_EDNS) /* the channel from which we learn the system's order of sources */
        mask |= ARES_OPT_LOOKUPS;
#ifdef ARES_OPT_QUERY_CACHE
    options.qcache_max_ttl = 0;
    mask |= ARES_OPT_QUERY_CACHE;
#endif
    channel->dns = dns;
    int result = ares_init_options(&channel->ares, &options, mask);
    if (result == ARES_SUCCESS)
        return true;
    channel->ares = NULL;
    log_warn("resolver_settings", LOG_STR("reason", ares_strerror(result)));
    return false;
}

static void close_channels(struct dns *dns)
{
    for (size_t i = 0; i < CHANNELS; i++) {
        if (dns->channels[i].ares)
            ares_destroy(dns->channels[i].ares);
        dns->channels[i].ares = NULL;
    }
}

static bool open_channels(struct dns *dns)
{
    for (size_t i = 0; i < FILES; i++)
        dns->stamps[i] = stamp_of(
            files[i]); /* taken before the files are read, so that a change meanwhile is noticed */
    for (enum dns_channel_kind kind = 0; kind < CHANNELS; kind++) {
        if (!open_channel(dns, kind))
            return false;
    }
    take_settings(dns);
    return true;
}

enum status dns_new(struct loop *loop, struct dns **out)
{
    struct dns *dns = calloc(1, sizeof(*dns));
    if (!dns)
        return STATUS_NO_MEMORY;
    dns->loop = loop;
    dns->timer = loop_timer_new(loop, "names", on_timer, dns);
    if (!dns->timer || ares_library_init(ARES_LIB_INIT_ALL) != ARES_SUCCESS) {
        loop_timer_free(dns->timer);
        free(dns);
        return STATUS_NO_MEMORY;
    }
    if (!open_channels(dns)) {
        dns_free(dns);
        return STATUS_NO_MEMORY;
    }
    *out = dns;
    return STATUS_OK;
}

static void drop_answered(struct dns *dns)
{
    while (dns->answered) {
        struct dns_question *question = dns->answered;
        dns->answered = question->next;
        free(question);
    }
}

void dns_free(struct dns *dns)
{
    if (!dns)
        return;
    close_channels(dns); /* this answers each question that is under way */
    drop_answered(dns);
    loop_timer_free(dns->timer);
    forget_settings(dns);
    ares_library_cleanup();
    free(dns);
}

void dns_reread(struct dns *dns)
{
    close_channels(dns);
    drop_answered(dns);
    dns->kind = WITH_EDNS;
    if (!open_channels(dns))
        abort(); /* out of memory */
    arm(dns);
}

const struct dns_settings *dns_settings(const struct dns *dns)
{
    return &dns->settings;
}

/* --- questions --- */

static void take_addresses(struct resolved *out, const struct ares_addrinfo *list)
{
    out->len = 0;
    for (struct ares_addrinfo_node *node = list->nodes; node && out->len < RESOLVE_MAX;
         node = node->ai_next) {
        if (node->ai_family != AF_INET && node->ai_family != AF_INET6)
            continue;
        memset(&out->addresses[out->len], 0, sizeof(*out->addresses));
        memcpy(&out->addresses[out->len], node->ai_addr, (size_t)node->ai_addrlen);
        out->sizes[out->len++] = (socklen_t)node->ai_addrlen;
    }
}

static void print_why(struct dns_answer *answer, int result, const struct dns_question *question)
{
    const char *servers = question->dns->servers;
    int len = (int)strlen(question->name) - 1;
    len = len < 80 ? len : 80;
    char *why = answer->why;
    size_t size = sizeof(answer->why);
    switch (result) {
    case ARES_ENOTFOUND:
        snprintf(why, size, "the name server (%s) knows no such name", servers);
        break;
    case ARES_ENODATA:
        snprintf(why, size, "the name server (%s) knows no address of this name", servers);
        break;
    case ARES_ETIMEOUT: snprintf(why, size, "no answer from the name server (%s)", servers); break;
    case ARES_ECONNREFUSED:
    case ARES_ESERVFAIL:
    case ARES_EREFUSED:
    case ARES_ENOTIMP:
        snprintf(
            why, size,
            "the name server (%s) can't be reached, or has answered SERVFAIL or REFUSED for %.*s",
            servers, len, question->name);
        break;
    default:
        snprintf(why, size, "the name server (%s) has answered for %.*s: %s", servers, len,
                 question->name, ares_strerror(result));
        break;
    }
}

static enum dns_outcome outcome_of(int result, const struct resolved *found)
{
    switch (result) {
    case ARES_SUCCESS: return found->len > 0 ? DNS_FOUND : DNS_NO_ADDRESS;
    case ARES_ENOTFOUND: return DNS_NO_NAME;
    case ARES_ENODATA: return DNS_NO_ADDRESS;
    default: return DNS_TROUBLE;
    }
}

static void send_question(struct dns_question *question);

static void on_answer(void *ctx, int result, int timeouts, struct ares_addrinfo *list)
{
    (void)timeouts;
    struct dns_question *question = ctx;
    struct dns *dns = question->dns;
    struct dns_answer *answer = &question->answer;
    if (list)
        take_addresses(&answer->found, list);
    if (list)
        ares_freeaddrinfo(list);
    /* c-ares 1.18 asks again without EDNS after the first FORMERR of a server, but takes the second
     * FORMERR, to the question for the other family, as the answer. So that one is asked again. */
    if (result == ARES_EFORMERR && !question->asked_again) {
        question->asked_again = true;
        send_question(question);
        return;
    }
    /* Some networks drop questions with EDNS, some servers are slow: the next question uses the
     * other channel. */
    if (result == ARES_ETIMEOUT && question->kind == dns->kind)
        dns->kind = dns->kind == WITH_EDNS ? WITHOUT_EDNS : WITH_EDNS;
    answer->outcome = outcome_of(result, &answer->found);
    if (result == ARES_SUCCESS && answer->outcome != DNS_FOUND)
        result = ARES_ENODATA;
    if (answer->outcome != DNS_FOUND)
        print_why(answer, result, question);
    question->next = dns->answered;
    dns->answered = question;
}

static void send_question(struct dns_question *question)
{
    struct ares_addrinfo_hints hints = {
        .ai_family = question->family, .ai_socktype = SOCK_STREAM, .ai_flags = ARES_AI_NOSORT};
    ares_getaddrinfo(question->dns->channels[question->kind].ares, question->name, NULL, &hints,
                     on_answer, question);
}

/* Delivered outside of c-ares: the callback may ask again, or have the files read again. */
static void deliver(struct dns *dns)
{
    while (dns->answered) {
        struct dns_question *question = dns->answered;
        dns->answered = question->next;
        if (question->fn)
            question->fn(question->ctx, &question->answer);
        free(question);
    }
    arm(dns);
}

struct dns_question *dns_ask(struct dns *dns, const char *name, int family, dns_fn *fn, void *ctx)
{
    size_t len = strlen(name);
    struct dns_question *question = calloc(1, sizeof(*question) + len + 2);
    if (!question)
        return NULL;
    *question = (struct dns_question){
        .dns = dns, .fn = fn, .ctx = ctx, .family = family, .kind = dns->kind};
    memcpy(question->name, name, len);
    question->name[len] = '.';
    send_question(question);
    arm(dns);
    return question;
}

const char *dns_question_name(const struct dns_question *question)
{
    return question->name;
}

void dns_forget(struct dns_question *question)
{
    question->fn = NULL;
}

/* --- the hosts file --- */

struct hosts_answer {
    struct resolved *out;
    bool found;
};

static void on_hosts(void *ctx, int result, int timeouts, struct ares_addrinfo *list)
{
    (void)timeouts;
    struct hosts_answer *answer = ctx;
    if (result == ARES_SUCCESS && list && list->nodes) {
        take_addresses(answer->out, list);
        answer->found = answer->out->len > 0;
    }
    if (list)
        ares_freeaddrinfo(list);
}

/* c-ares reads the file during the call. It knows localhost without the file. A name that ends in
 * .localhost has the addresses of localhost (RFC 6761 section 6.3). */
bool dns_hosts(struct dns *dns, const char *name, struct resolved *out)
{
    struct hosts_answer answer = {.out = out};
    struct ares_addrinfo_hints hints = {
        .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = ARES_AI_NOSORT};
    ares_channel channel = dns->channels[HOSTS_FILE].ares;
    ares_getaddrinfo(channel, name, NULL, &hints, on_hosts, &answer);
    static const char local[] = ".localhost";
    size_t len = strlen(name);
    if (!answer.found && len >= sizeof(local) &&
        strcasecmp(name + len - (sizeof(local) - 1), local) == 0)
        ares_getaddrinfo(channel, "localhost", NULL, &hints, on_hosts, &answer);
    return answer.found;
}
