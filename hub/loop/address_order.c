#include "loop/address_order.h"

#include <assert.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A destination, and the values that the rules compare. */
struct candidate {
    union resolve_address to;
    bool reachable;                          /* rule 1 */
    bool same_scope;                         /* rule 2: source and destination */
    bool same_label;                         /* rule 5 */
    unsigned precedence, scope, shared_bits; /* rules 6, 8, 9 */
    size_t at;                               /* rule 10 */
};

/* RFC 6724 section 2.1. */
struct policy {
    uint8_t prefix[16];
    unsigned bits, precedence, label;
};

/* clang-format off */
static const struct policy policies[] = {
    {{[15] = 1},                     128, 50,  0}, /* ::1 */
    {{[10] = 0xff, [11] = 0xff},      96, 35,  4}, /* IPv4 */
    {{[0] = 0},                       96,  1,  3}, /* IPv4-compatible */
    {{0x20, 0x01},                    32,  5,  5}, /* Teredo */
    {{0x20, 0x02},                    16, 30,  2}, /* 6to4 */
    {{0x3f, 0xfe},                    16,  1, 12}, /* 6bone */
    {{0xfe, 0xc0},                    10,  1, 11}, /* site-local */
    {{0xfc},                           7,  3, 13}, /* unique local */
    {{0},                              0, 40,  1},
};
/* clang-format on */

enum { SCOPE_LINK = 2, SCOPE_SITE = 5, SCOPE_GLOBAL = 14 };

static unsigned shared_bits(const uint8_t *a, const uint8_t *b, unsigned limit)
{
    unsigned bits = 0;
    while (bits < limit && ((a[bits / 8] ^ b[bits / 8]) >> (7 - bits % 8) & 1) == 0)
        bits++;
    return bits;
}

/* The address as 16 bytes; an IPv4 address in its mapped form (::ffff:a.b.c.d). */
static void to_bytes(const union resolve_address *address, uint8_t out[16])
{
    if (address->any.sa_family == AF_INET6) {
        memcpy(out, &address->v6.sin6_addr, 16);
        return;
    }
    memset(out, 0, 10);
    out[10] = out[11] = 0xff;
    memcpy(out + 12, &address->v4.sin_addr, 4);
}

static const struct policy *policy_of(const uint8_t bytes[16])
{
    const struct policy *policy = policies;
    while (shared_bits(bytes, policy->prefix, policy->bits) < policy->bits)
        policy++;
    return policy;
}

/* RFC 6724 sections 3.1 and 3.2: loopback and auto-configured IPv4 addresses are link-local. */
static unsigned scope_of(const uint8_t bytes[16])
{
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
    static const uint8_t loopback[16] = {[15] = 1};
    if (memcmp(bytes, mapped, sizeof(mapped)) == 0) {
        bool local = bytes[12] == 127 || (bytes[12] == 169 && bytes[13] == 254);
        return local ? SCOPE_LINK : SCOPE_GLOBAL;
    }
    if (bytes[0] == 0xff)
        return bytes[1] & 0x0f;
    if (memcmp(bytes, loopback, sizeof(loopback)) == 0)
        return SCOPE_LINK;
    if (bytes[0] == 0xfe && (bytes[1] & 0xc0) == 0x80)
        return SCOPE_LINK;
    if (bytes[0] == 0xfe && (bytes[1] & 0xc0) == 0xc0)
        return SCOPE_SITE;
    return SCOPE_GLOBAL;
}

/* False: there is no route to it. */
static bool find_source(const union resolve_address *to, union resolve_address *from)
{
    union resolve_address with_port = *to;
    with_port.v4.sin_port = htons(9); /* v6 has the port at the same place; port 0 is refused */
    socklen_t size = to->any.sa_family == AF_INET ? sizeof(to->v4) : sizeof(to->v6);
    int fd = socket(to->any.sa_family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return false;
    socklen_t got = sizeof(*from);
    bool found = connect(fd, &with_port.any, size) == 0 && getsockname(fd, &from->any, &got) == 0;
    close(fd);
    return found;
}

static struct candidate rate(const union resolve_address *to, size_t at, source_fn *source)
{
    struct candidate c = {.to = *to, .at = at};
    union resolve_address from;
    uint8_t to_16[16], from_16[16];
    to_bytes(to, to_16);
    c.precedence = policy_of(to_16)->precedence;
    c.scope = scope_of(to_16);
    c.reachable = source(to, &from);
    if (!c.reachable)
        return c;
    to_bytes(&from, from_16);
    c.same_scope = scope_of(from_16) == c.scope;
    c.same_label = policy_of(from_16)->label == policy_of(to_16)->label;
    /* IPv4 addresses stay in the name server's order: a common prefix says nothing about the
     * route. */
    if (to->any.sa_family == AF_INET6)
        c.shared_bits = shared_bits(to_16, from_16, 64);
    return c;
}

static int more_first(unsigned a, unsigned b)
{
    return a == b ? 0 : a > b ? -1 : 1;
}

static int compare(const void *left, const void *right)
{
    const struct candidate *a = left, *b = right;
    int order = more_first(a->reachable, b->reachable);
    if (order == 0)
        order = more_first(a->same_scope, b->same_scope);
    if (order == 0)
        order = more_first(a->same_label, b->same_label);
    if (order == 0)
        order = more_first(a->precedence, b->precedence);
    if (order == 0)
        order = more_first(b->scope, a->scope);
    if (order == 0 && a->to.any.sa_family == b->to.any.sa_family)
        order = more_first(a->shared_bits, b->shared_bits);
    return order != 0 ? order : a->at < b->at ? -1 : 1;
}

void address_order_by(union resolve_address *addresses, size_t len, source_fn *source)
{
    struct candidate candidates[2 * RESOLVE_MAX];
    assert(len <= 2 * RESOLVE_MAX);
    for (size_t i = 0; i < len; i++)
        candidates[i] = rate(&addresses[i], i, source);
    qsort(candidates, len, sizeof(*candidates), compare);
    for (size_t i = 0; i < len; i++)
        addresses[i] = candidates[i].to;
}

void address_order(union resolve_address *addresses, size_t len)
{
    address_order_by(addresses, len, find_source);
}
