#include "common/redis_url.h"

#include <arpa/inet.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/address.h"
#include "common/text.h"

struct scheme {
    const char *text;
    enum redis_shape shape;
    bool tls;
    uint16_t port;
};

static const struct scheme schemes[] = {
    {"redis://", REDIS_SINGLE, false, 6379},
    {"rediss://", REDIS_SINGLE, true, 6379},
    {"redis-sentinel://", REDIS_SENTINEL, false, 26379},
    {"rediss-sentinel://", REDIS_SENTINEL, true, 26379},
    {"redis-cluster://", REDIS_CLUSTER, false, 6379},
    {"rediss-cluster://", REDIS_CLUSTER, true, 6379},
};

static const struct scheme *find_scheme(const char *url)
{
    for (size_t i = 0; i < sizeof(schemes) / sizeof(schemes[0]); i++) {
        if (strncmp(url, schemes[i].text, strlen(schemes[i].text)) == 0)
            return &schemes[i];
    }
    return NULL;
}

const char *redis_url_flaw(const char *text)
{
    struct redis_url url;
    if (redis_url_parse(text, &url) == STATUS_OK)
        return NULL;
    if (!strstr(text, "://"))
        return "it does not begin with redis://";
    return !find_scheme(text) ? "it begins with another scheme than these"
                              : "host, port, master or database are not of this form";
}

/* Decodes from..to into out of that size, terminated. */
static enum status read_part(const char *from, const char *to, char *out, size_t size)
{
    char text[3 * 512];
    size_t raw = (size_t)(to - from), len;
    if (raw >= sizeof(text) || text_percent_decode(from, raw, text, &len) != STATUS_OK)
        return STATUS_INVALID;
    if (len >= size || memchr(text, '\0', len))
        return STATUS_INVALID;
    memcpy(out, text, len + 1);
    return STATUS_OK;
}

/* "user:pass", ":pass", or "pass" alone, as redis-cli takes them too. */
static enum status read_credentials(const char *from, const char *to, struct redis_url *url)
{
    const char *colon = memchr(from, ':', (size_t)(to - from));
    if (!colon)
        return read_part(from, to, url->password, sizeof(url->password));
    enum status status = read_part(from, colon, url->user, sizeof(url->user));
    if (status != STATUS_OK)
        return status;
    return read_part(colon + 1, to, url->password, sizeof(url->password));
}

static enum status read_number(const char *from, const char *to, uint32_t max, uint32_t *out)
{
    uint32_t number = 0;
    if (from == to || to - from > 5)
        return STATUS_INVALID;
    for (; from < to; from++) {
        if (*from < '0' || *from > '9')
            return STATUS_INVALID;
        number = number * 10 + (uint32_t)(*from - '0');
    }
    if (number > max)
        return STATUS_INVALID;
    *out = number;
    return STATUS_OK;
}

static enum status read_host(const char *from, const char *to, uint16_t default_port,
                             struct redis_host *host)
{
    const char *name = from, *name_end, *rest;
    bool bracket = from < to && *from == '[';
    uint32_t port = default_port;

    if (bracket) {
        name = from + 1;
        name_end = memchr(name, ']', (size_t)(to - name));
        rest = name_end ? name_end + 1 : NULL;
    } else {
        name_end = memchr(from, ':', (size_t)(to - from));
        name_end = name_end ? name_end : to;
        rest = name_end;
    }
    if (!rest || (size_t)(name_end - name) >= sizeof(host->name))
        return STATUS_INVALID;
    if (rest != to &&
        (*rest != ':' || read_number(rest + 1, to, UINT16_MAX, &port) != STATUS_OK || port == 0))
        return STATUS_INVALID;

    memcpy(host->name, name, (size_t)(name_end - name));
    host->name[name_end - name] = '\0';
    host->port = (uint16_t)port;
    struct in6_addr six;
    bool fits = bracket ? inet_pton(AF_INET6, host->name, &six) == 1 : address_is_name(host->name);
    return fits ? STATUS_OK : STATUS_INVALID;
}

static enum status read_hosts(const char *from, const char *to, uint16_t default_port,
                              struct redis_url *url)
{
    for (;;) {
        const char *comma = memchr(from, ',', (size_t)(to - from));
        const char *end = comma ? comma : to;
        if (url->hosts_len == REDIS_HOSTS_MAX)
            return STATUS_INVALID;
        enum status status = read_host(from, end, default_port, &url->hosts[url->hosts_len]);
        if (status != STATUS_OK)
            return status;
        url->hosts_len++;
        if (!comma)
            return STATUS_OK;
        from = comma + 1;
    }
}

/* What follows the hosts: "", "/", "/db", or "/master[/db]" of Sentinel. A cluster has database 0
 * alone. */
static enum status read_path(const char *path, struct redis_url *url)
{
    const char *end = path + strlen(path);
    if (*path == '/')
        path++;
    if (url->shape == REDIS_SENTINEL) {
        const char *slash = strchr(path, '/');
        const char *master_end = slash ? slash : end;
        if (read_part(path, master_end, url->master, sizeof(url->master)) != STATUS_OK ||
            url->master[0] == '\0')
            return STATUS_INVALID;
        path = slash ? slash + 1 : end;
    }
    if (*path == '\0')
        return STATUS_OK;
    return read_number(path, end, url->shape == REDIS_CLUSTER ? 0 : 9999, &url->db);
}

enum status redis_url_parse(const char *url, struct redis_url *out)
{
    const struct scheme *scheme = find_scheme(url);
    if (!scheme || strlen(url) > 4096)
        return STATUS_INVALID;

    struct redis_url parsed = {.shape = scheme->shape, .tls = scheme->tls};
    const char *from = url + strlen(scheme->text);
    const char *end = from + strcspn(from, "/?#");
    const char *at = memrchr(from, '@', (size_t)(end - from));
    enum status status = STATUS_OK;
    if (*end == '?' || *end == '#')
        return STATUS_INVALID;
    if (at) {
        status = read_credentials(from, at, &parsed);
        from = at + 1;
    }
    if (status == STATUS_OK)
        status = read_hosts(from, end, scheme->port, &parsed);
    if (status == STATUS_OK)
        status = read_path(end, &parsed);
    if (status != STATUS_OK)
        return status;
    if (parsed.shape == REDIS_SINGLE && parsed.hosts_len != 1)
        return STATUS_INVALID;
    *out = parsed;
    return STATUS_OK;
}

char *redis_url_redact(const char *url)
{
    const char *from = strstr(url, "://");
    from = from ? from + 3 : url;
    const char *end = from + strcspn(from, "/?#");
    const char *at = memrchr(from, '@', (size_t)(end - from));
    const char *colon = at ? memchr(from, ':', (size_t)(at - from)) : NULL;
    const char *password = colon ? colon + 1 : from;

    char *text;
    int len = at ? asprintf(&text, "%.*s***%s", (int)(password - url), url, at)
                 : asprintf(&text, "%s", url);
    if (len < 0)
        abort(); /* the URL is the operator's own and short */
    return text;
}

void redis_url_channel_prefix(const struct redis_url *url, const char *prefix, char *out)
{
    if (url->db == 0)
        snprintf(out, REDIS_CHANNEL_PREFIX_BYTES, "%.64s", prefix);
    else
        snprintf(out, REDIS_CHANNEL_PREFIX_BYTES, "%.64s@%" PRIu32, prefix, url->db);
}

bool redis_url_is_loopback(const struct redis_url *url)
{
    for (size_t i = 0; i < url->hosts_len; i++) {
        if (!address_is_loopback_host(url->hosts[i].name, strlen(url->hosts[i].name)))
            return false;
    }
    return true;
}
