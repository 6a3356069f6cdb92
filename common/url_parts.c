#include "common/url_parts.h"

#include <arpa/inet.h>
#include <string.h>
#include <strings.h>

static bool is_host_name(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        char c = text[i];
        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
              c == '.' || c == '-' || c == '_'))
            return false;
    }
    return len > 0;
}

/* Copies the host at authority into out and returns what follows it; NULL if there is no host or it
 * does not fit. */
static const char *read_host(const char *authority, const char *end, char out[256])
{
    bool bracket = authority < end && *authority == '[';
    const char *from = bracket ? authority + 1 : authority;
    const char *found = memchr(from, bracket ? ']' : ':', (size_t)(end - from));
    const char *to = found ? found : end;
    size_t len = (size_t)(to - from);

    if (len > 255 || (bracket && to == end))
        return NULL;
    memcpy(out, from, len);
    out[len] = '\0';
    struct in6_addr address;
    if (bracket)
        return strlen(out) == len && inet_pton(AF_INET6, out, &address) == 1 ? to + 1 : NULL;
    return is_host_name(from, len) ? to : NULL;
}

static enum status read_port(const char *text, const char *end, uint16_t *out)
{
    uint32_t port = 0;
    if (end - text < 2 || end - text > 6 || *text != ':')
        return STATUS_INVALID;
    for (const char *digit = text + 1; digit < end; digit++) {
        if (*digit < '0' || *digit > '9')
            return STATUS_INVALID;
        port = port * 10 + (uint32_t)(*digit - '0');
    }
    if (port == 0 || port > UINT16_MAX)
        return STATUS_INVALID;
    *out = (uint16_t)port;
    return STATUS_OK;
}

enum status url_split(const char *url, struct url_parts *out)
{
    struct url_parts parts = {.tls = strncasecmp(url, "wss://", 6) == 0};
    if (!parts.tls && strncasecmp(url, "ws://", 5) != 0)
        return STATUS_INVALID;
    const char *from = url + (parts.tls ? 6 : 5);
    const char *end = from + strcspn(from, "/?#");
    if (*end == '?' || strchr(end, '#'))
        return STATUS_INVALID;

    const char *port = read_host(from, end, parts.host);
    if (!port)
        return STATUS_INVALID;
    parts.port = parts.tls ? 443 : 80;
    if (port != end && read_port(port, end, &parts.port) != STATUS_OK)
        return STATUS_INVALID;
    parts.path = *end == '\0' ? "/" : end;
    *out = parts;
    return STATUS_OK;
}
