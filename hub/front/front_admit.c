/*
 * Who may come in: origins, addresses behind trusted proxies, and how many of one address.
 */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/conf_syntax.h"
#include "common/hash.h"
#include "front/front_private.h"

#define ORIGIN_MAX 300U /* a host has at most 253 bytes */

/* An address block; IPv4 in its mapped form (::ffff:0:0/96). */
struct block {
    struct in6_addr address;
    unsigned bits;
};

/* An origin, or a rule for origins where a part may be missing. */
struct origin {
    struct http_text scheme, host; /* empty scheme: any */
    unsigned port;                 /* 0: none named; of a rule: any */
    bool below;                    /* "*.host": any host below it */
};

struct admit {
    struct block *proxies;
    size_t proxies_len;
    char **origins; /* of the configuration, which the front holds as long as this */
    size_t origins_len;
};

struct ip_entry {
    struct in6_addr key;
    uint32_t clients;
    UT_hash_handle hh;
};

/* --- addresses --- */

static bool parse_address(const char *text, struct in6_addr *out, bool *is_v4)
{
    struct in_addr v4;
    if (inet_pton(AF_INET, text, &v4) == 1) {
        memset(out, 0, sizeof(*out));
        out->s6_addr[10] = out->s6_addr[11] = 0xff;
        memcpy(out->s6_addr + 12, &v4, sizeof(v4));
        *is_v4 = true;
        return true;
    }
    *is_v4 = false;
    return inet_pton(AF_INET6, text, out) == 1;
}

/* "192.0.2.0/24", "2001:db8::/32", or an address alone. */
static bool parse_block(const char *text, struct block *out)
{
    char address[INET6_ADDRSTRLEN + 1];
    size_t len = strcspn(text, "/");
    if (len >= sizeof(address))
        return false;
    memcpy(address, text, len);
    address[len] = '\0';

    bool is_v4;
    if (!parse_address(address, &out->address, &is_v4))
        return false;
    out->bits = 128;
    if (text[len] == '\0')
        return true;
    char *end;
    unsigned long bits = strtoul(text + len + 1, &end, 10);
    if (end == text + len + 1 || *end != '\0' || bits > (is_v4 ? 32 : 128))
        return false;
    out->bits = (unsigned)bits + (is_v4 ? 96 : 0);
    return true;
}

static bool block_holds(const struct block *block, const struct in6_addr *address)
{
    size_t bytes = block->bits / 8, rest = block->bits % 8;
    if (memcmp(block->address.s6_addr, address->s6_addr, bytes) != 0)
        return false;
    if (rest == 0)
        return true;
    uint8_t mask = (uint8_t)(0xff00U >> rest);
    return ((block->address.s6_addr[bytes] ^ address->s6_addr[bytes]) & mask) == 0;
}

struct admit *admit_new(const struct conf *conf, char *why, size_t why_len)
{
    struct admit *admit = calloc(1, sizeof(*admit));
    struct block *proxies = calloc(conf->listen.trusted_proxies_len + 1, sizeof(*proxies));
    if (!admit || !proxies) {
        free(admit);
        free(proxies);
        snprintf(why, why_len, "out of memory");
        return NULL;
    }
    *admit = (struct admit){.proxies = proxies,
                            .proxies_len = conf->listen.trusted_proxies_len,
                            .origins = conf->origins,
                            .origins_len = conf->origins_len};
    for (size_t i = 0; i < admit->proxies_len; i++) {
        if (parse_block(conf->listen.trusted_proxies[i], &proxies[i]))
            continue;
        snprintf(why, why_len, "listen.trusted_proxies: not an address or a CIDR block: %s",
                 conf->listen.trusted_proxies[i]);
        admit_free(admit);
        return NULL;
    }
    return admit;
}

void admit_free(struct admit *admit)
{
    if (!admit)
        return;
    free(admit->proxies);
    free(admit);
}

bool admit_trusted(const struct admit *admit, const struct in6_addr *peer)
{
    for (size_t i = 0; i < admit->proxies_len; i++) {
        if (block_holds(&admit->proxies[i], peer))
            return true;
    }
    return false;
}

bool admit_has_proxies(const struct admit *admit)
{
    return admit->proxies_len > 0;
}

/* An item of X-Forwarded-For: an address, some proxies add a port ("192.0.2.1:4711",
 * "[2001:db8::1]:4711"). */
static bool parse_forwarded(struct http_text item, struct in6_addr *out)
{
    char text[INET6_ADDRSTRLEN + 10];
    bool is_v4;
    if (item.len == 0 || item.len >= sizeof(text))
        return false;
    memcpy(text, item.at, item.len);
    text[item.len] = '\0';
    if (text[0] == '[') {
        char *end = strchr(text, ']');
        if (!end)
            return false;
        *end = '\0';
        return parse_address(text + 1, out, &is_v4);
    }
    if (parse_address(text, out, &is_v4))
        return true;
    text[strcspn(text, ":")] = '\0';
    return parse_address(text, out, &is_v4);
}

struct in6_addr admit_client(const struct admit *admit, const struct in6_addr *peer,
                             const struct http_head *head)
{
    struct in6_addr client = *peer;
    if (!admit_trusted(admit, peer))
        return client;

    /* Reads from the left. Each trusted proxy vouches for the address before its own, so the
     * rightmost untrusted address counts. If all are trusted, the leftmost one counts. */
    size_t index = 0;
    bool first = true;
    struct http_text value, item;
    while (http_head_next(head, "x-forwarded-for", &index, &value)) {
        while (http_list_next(&value, &item)) {
            struct in6_addr address;
            bool read = parse_forwarded(item, &address);
            if (!read)
                client = *peer; /* nobody vouches for what stands to the left of it */
            else if (first || !admit_trusted(admit, &address))
                client = address;
            first = !read;
        }
    }
    return client;
}

/* For IPv6 the /64 prefix counts: one household or server has a whole /64. */
static struct in6_addr counted(const struct in6_addr *address)
{
    struct in6_addr key = *address;
    if (!IN6_IS_ADDR_V4MAPPED(address))
        memset(key.s6_addr + 8, 0, 8);
    return key;
}

bool admit_take_ip(struct front *front, struct conn *conn, const struct in6_addr *address)
{
    /* Counts even if there is no limit: a reload may set one. */
    uint32_t max = front->conf->clients.max_per_ip;
    struct in6_addr key = counted(address);
    struct ip_entry *entry;
    HASH_FIND(hh, front->ips, &key, sizeof(key), entry);
    if (entry && max > 0 && entry->clients >= max)
        return false;
    if (!entry) {
        entry = calloc(1, sizeof(*entry));
        if (!entry)
            return false;
        entry->key = key;
        HASH_ADD(hh, front->ips, key, sizeof(entry->key), entry);
    }
    entry->clients++;
    conn->ip = entry;
    return true;
}

void admit_release_ip(struct conn *conn)
{
    struct ip_entry *entry = conn->ip;
    if (!entry)
        return;
    conn->ip = NULL;
    if (--entry->clients > 0)
        return;
    HASH_DEL(conn->front->ips, entry);
    free(entry);
}

/* --- origins --- */

static unsigned default_port(struct http_text scheme)
{
    if (http_text_is_word(scheme, "https") || http_text_is_word(scheme, "wss"))
        return 443;
    return http_text_is_word(scheme, "http") || http_text_is_word(scheme, "ws") ? 80 : 0;
}

/* [scheme://]host[:port] that conf_is_origin_rule takes; host may stand in brackets. */
static struct origin parse_origin(struct http_text text)
{
    struct origin origin = {.host = text};
    const char *slashes = memmem(text.at, text.len, "://", 3);
    if (slashes) {
        origin.scheme = (struct http_text){text.at, (size_t)(slashes - text.at)};
        origin.host = (struct http_text){slashes + 3, text.len - origin.scheme.len - 3};
    }
    const char *host_end = memchr(origin.host.at, ']', origin.host.len);
    size_t from = host_end ? (size_t)(host_end - origin.host.at) : 0;
    const char *colon = memchr(origin.host.at + from, ':', origin.host.len - from);
    if (colon) {
        size_t host_len = (size_t)(colon - origin.host.at);
        for (size_t i = host_len + 1; i < origin.host.len && origin.port <= 65535; i++)
            origin.port = origin.port * 10 + (unsigned)(unsigned char)(origin.host.at[i] - '0');
        origin.host.len = host_len;
    }
    if (origin.host.len > 2 && memcmp(origin.host.at, "*.", 2) == 0) {
        origin.below = true;
        origin.host.at++;
        origin.host.len--;
    }
    return origin;
}

static bool same_word(struct http_text a, struct http_text b)
{
    return a.len == b.len && strncasecmp(a.at, b.at, a.len) == 0;
}

static unsigned port_of(const struct origin *origin)
{
    return origin->port != 0 ? origin->port : default_port(origin->scheme);
}

/* A rule with a scheme matches exactly that origin; without a port, that of the scheme. */
static bool origin_fits(const struct origin *origin, const struct origin *rule)
{
    bool has_scheme = rule->scheme.len > 0;
    if (has_scheme && !same_word(rule->scheme, origin->scheme))
        return false;
    if ((has_scheme || rule->port != 0) && port_of(rule) != port_of(origin))
        return false;
    if (!rule->below)
        return same_word(rule->host, origin->host);
    if (origin->host.len <= rule->host.len)
        return false;
    struct http_text tail = {origin->host.at + origin->host.len - rule->host.len, rule->host.len};
    return same_word(tail, rule->host);
}

/* What a browser writes (RFC 6454 section 6.2), and not a rule or anything that merely ends like an
 * origin. */
static bool is_origin(struct http_text text)
{
    char copy[ORIGIN_MAX + 1];
    if (text.len > ORIGIN_MAX || memchr(text.at, '\0', text.len))
        return false;
    memcpy(copy, text.at, text.len);
    copy[text.len] = '\0';
    return strstr(copy, "://") && !strchr(copy, '*') && conf_is_origin_rule(copy);
}

/* An Origin that is in the list byte for byte is allowed, whatever it is. A well-formed origin is
 * also compared with the rules.
 */
bool admit_origin(const struct admit *admit, const struct http_text *text)
{
    if (!text || admit->origins_len == 0)
        return true;
    bool has_parts = is_origin(*text);
    struct origin origin = has_parts ? parse_origin(*text) : (struct origin){.port = 0};
    for (size_t i = 0; i < admit->origins_len; i++) {
        const char *item = admit->origins[i];
        if (http_text_is(*text, item))
            return true;
        if (!has_parts || strcmp(item, "null") == 0 || !conf_is_origin_rule(item))
            continue;
        struct origin rule = parse_origin((struct http_text){item, strlen(item)});
        if (origin_fits(&origin, &rule))
            return true;
    }
    return false;
}
