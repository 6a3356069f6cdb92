/*
 * The PROXY protocol, versions 1 and 2: a header with which a load balancer names the client's
 * address. It comes before all other bytes
 * (https://www.haproxy.org/download/2.9/doc/proxy-protocol.txt).
 */
#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

#include "front/front_private.h"

#define V1_MAX       107U /* bytes of the line, section 2.1 */
#define V2_HEAD      16U
#define V2_ADDRESSES 36U /* bytes of the longest ones that are read; TLVs may follow */

static const uint8_t v2_signature[12] = {0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d,
                                         0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a};

static enum status wrong(struct proxy_source *out, const char *why)
{
    out->known = false;
    out->why = why;
    return STATUS_INVALID;
}

static void map_v4(const void *v4, struct in6_addr *out)
{
    memset(out, 0, sizeof(*out));
    out->s6_addr[10] = out->s6_addr[11] = 0xff;
    memcpy(out->s6_addr + 12, v4, 4);
}

static bool parse_port(const char *text, uint16_t *out)
{
    size_t len = strlen(text);
    if (len == 0 || len > 5 || strspn(text, "0123456789") != len)
        return false;
    unsigned long port = strtoul(text, NULL, 10);
    *out = (uint16_t)port;
    return port <= UINT16_MAX;
}

/* Whether both texts are addresses of that family; out gets the first. */
static bool parse_pair(int family, const char *from, const char *to, struct in6_addr *out)
{
    struct in6_addr source = {0}, ignored;
    if (inet_pton(family, from, &source) != 1 || inet_pton(family, to, &ignored) != 1)
        return false;
    if (family == AF_INET)
        map_v4(source.s6_addr, out);
    else
        *out = source;
    return true;
}

/* "PROXY TCP4 192.0.2.1 192.0.2.2 4711 443\r\n", or "PROXY UNKNOWN ...\r\n". */
static enum status parse_v1(const uint8_t *bytes, size_t len, struct proxy_source *out,
                            size_t *used)
{
    const uint8_t *end = memmem(bytes, len < V1_MAX ? len : V1_MAX, "\r\n", 2);
    if (!end)
        return len < V1_MAX ? STATUS_AGAIN : wrong(out, "the PROXY line has no end");
    char line[V1_MAX + 1];
    size_t line_len = (size_t)(end - bytes);
    memcpy(line, bytes, line_len);
    line[line_len] = '\0';
    if (strlen(line) != line_len)
        return wrong(out, "the PROXY line holds a NUL byte");
    *used = line_len + 2;

    char *rest = line, *words[6] = {NULL};
    for (size_t i = 0; i < 6; i++)
        words[i] = strsep(&rest, " ");
    if (words[1] && strcmp(words[1], "UNKNOWN") == 0)
        return STATUS_OK;
    struct proxy_source source = {.known = true};
    uint16_t to_port;
    if (!words[5] || rest || !parse_port(words[4], &source.port) || !parse_port(words[5], &to_port))
        return wrong(out, "expected \"PROXY TCP4|TCP6 from to port port\" or \"PROXY UNKNOWN\"");
    bool v4 = strcmp(words[1], "TCP4") == 0;
    if ((!v4 && strcmp(words[1], "TCP6") != 0) ||
        !parse_pair(v4 ? AF_INET : AF_INET6, words[2], words[3], &source.address))
        return wrong(out, "the PROXY line names no two addresses of TCP4 or TCP6");
    *out = source;
    return STATUS_OK;
}

static enum status parse_v2(const uint8_t *bytes, size_t len, struct proxy_source *out,
                            size_t *used)
{
    if (len < V2_HEAD)
        return STATUS_AGAIN;
    unsigned version = bytes[12] >> 4, command = bytes[12] & 0x0f, family = bytes[13];
    size_t whole = V2_HEAD + ((size_t)bytes[14] << 8 | bytes[15]);
    if (version != 2)
        return wrong(out, "the PROXY header has an unknown version, expected 1 or 2");
    if (command > 1)
        return wrong(out, "the PROXY header has an unknown command, expected LOCAL or PROXY");
    if (len < whole && len < V2_HEAD + V2_ADDRESSES)
        return STATUS_AGAIN;
    *used = whole;

    const uint8_t *at = bytes + V2_HEAD;
    if (command == 0) /* LOCAL: the proxy's own health check */
        return STATUS_OK;
    if (family == 0x11 && whole >= V2_HEAD + 12) {
        map_v4(at, &out->address);
        out->port = (uint16_t)(at[8] << 8 | at[9]);
        out->known = true;
    } else if (family == 0x21 && whole >= V2_HEAD + 36) {
        memcpy(&out->address, at, 16);
        out->port = (uint16_t)(at[32] << 8 | at[33]);
        out->known = true;
    } else if (family == 0x11 || family == 0x21) {
        return wrong(out, "the PROXY header is too short for its addresses");
    }
    return STATUS_OK; /* for other families the socket's own address counts */
}

enum status proxy_parse(const uint8_t *bytes, size_t len, struct proxy_source *out, size_t *used)
{
    *out = (struct proxy_source){.known = false};
    if (len == 0)
        return STATUS_AGAIN;
    size_t v2_len = len < sizeof(v2_signature) ? len : sizeof(v2_signature);
    if (memcmp(bytes, v2_signature, v2_len) == 0)
        return len < sizeof(v2_signature) ? STATUS_AGAIN : parse_v2(bytes, len, out, used);
    size_t v1_len = len < 6 ? len : 6;
    if (memcmp(bytes, "PROXY ", v1_len) == 0)
        return len < 6 ? STATUS_AGAIN : parse_v1(bytes, len, out, used);
    return wrong(out, "no PROXY header, which listen.proxy_protocol requires");
}
