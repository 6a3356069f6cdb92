/*
 * What no row can check alone: settings that must fit each other, and what is allowed but worth a
 * warning.
 */
#include "common/conf_loader.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/address.h"
#include "common/base64.h"
#include "common/conf_syntax.h"
#include "common/redis_url.h"
#include "common/text.h"
#include "common/url.h"

/* Whether some source has set that row of the service; a wrong value has been reported already. */
static bool was_given(const struct conf_loader *loader, size_t index, const char *key)
{
    const struct conf_row *row = conf_row_find(conf_service_rows, key);
    return loader->service_where[index][row - conf_service_rows].source != NULL;
}

static void check_required(struct conf_loader *loader, size_t index)
{
    char key[CONF_SERVICE_KEY_MAX];
    if (!was_given(loader, index, "name"))
        conf_mistake(loader, conf_service_origin(loader, index, "name"),
                     conf_service_key(loader, index, "name", key),
                     "expected a name: each service needs one");
    if (!was_given(loader, index, "upstream"))
        conf_mistake(loader, conf_service_origin(loader, index, "upstream"),
                     conf_service_key(loader, index, "upstream", key),
                     "expected the URL of the backend, as host:port/path: each service needs one");
}

static void check_unique(struct conf_loader *loader, size_t index)
{
    const struct service *service = loader->conf->services[index];
    char key[CONF_SERVICE_KEY_MAX];
    for (size_t i = 0; i < index; i++) {
        if (*service->name != '\0' && strcmp(loader->conf->services[i]->name, service->name) == 0) {
            conf_mistake(loader, conf_service_origin(loader, index, "name"),
                         conf_service_key(loader, index, "name", key),
                         "duplicate name: each name is allowed once");
            return;
        }
    }
}

static void check_name(struct conf_loader *loader, size_t index)
{
    char key[CONF_SERVICE_KEY_MAX];
    if (strcmp(loader->conf->services[index]->name, CONF_SUBSCRIBE) == 0)
        conf_mistake(loader, conf_service_origin(loader, index, "name"),
                     conf_service_key(loader, index, "name", key),
                     "expected another name: ?" CONF_SUBSCRIBE
                     " stands for a connection without a service");
}

static void check_times(struct conf_loader *loader, size_t index)
{
    const struct service *service = loader->conf->services[index];
    char key[CONF_SERVICE_KEY_MAX];
    if (service->reconnect.min_ms > service->reconnect.max_ms)
        conf_mistake(loader, conf_service_origin(loader, index, "reconnect.min"),
                     conf_service_key(loader, index, "reconnect.min", key),
                     "expected at most reconnect.max (%" PRIu32 " ms), got %" PRIu32 " ms",
                     service->reconnect.max_ms, service->reconnect.min_ms);
    if (service->heartbeat.every_ms >= service->heartbeat.timeout_ms)
        conf_warning(loader, conf_service_origin(loader, index, "heartbeat.timeout"),
                     conf_service_key(loader, index, "heartbeat.timeout", key),
                     "not longer than heartbeat.every: a quiet upstream is reconnected before its "
                     "answer can come");
    if (service->replay > service->history.size)
        conf_warning(loader, conf_service_origin(loader, index, "replay"),
                     conf_service_key(loader, index, "replay", key),
                     "more than history.size: no more than that can be replayed");
}

/* The first client of a session gives it the URL; the others then watch under the name of that
 * user. */
static void check_leak(struct conf_loader *loader, size_t index)
{
    char key[CONF_SERVICE_KEY_MAX];
    if (loader->conf->auth.mode != AUTH_NONE &&
        url_template_leaks_user(loader->conf->services[index]))
        conf_warning(loader, conf_service_origin(loader, index, "session"),
                     conf_service_key(loader, index, "session", key),
                     "the upstream URL names the user but the session key does not: all who watch "
                     "a vin share the upstream "
                     "of the first user; \"{user}:{vin}\" keeps users apart");
}

/* Basic (RFC 7617): "user:password", decoded, in base64. */
static char *basic_authorization(const char *credentials, size_t len)
{
    static const char scheme[] = "Basic ";
    size_t scheme_len = sizeof(scheme) - 1, plain_len, text_len;
    char *plain = malloc(len + 2); /* a ':' is added where there is no password */
    if (!plain)
        abort();
    enum status status = text_percent_decode(credentials, len, plain, &plain_len);
    assert(status == STATUS_OK); /* conf_is_upstream has read it */
    (void)status;
    if (!memchr(credentials, ':', len))
        plain[plain_len++] = ':';
    text_len = scheme_len + base64_size(plain_len);
    char *text = malloc(text_len + 1);
    if (!text)
        abort();
    memcpy(text, scheme, scheme_len);
    base64_encode((const uint8_t *)plain, plain_len, (uint8_t *)text + scheme_len);
    text[text_len] = '\0';
    explicit_bzero(plain, plain_len);
    free(plain);
    return text;
}

/* Moves user and password from the URL into a header: the URL is printed and sent to other nodes,
 * headers are not. */
static void take_credentials(struct conf_loader *loader, size_t index)
{
    struct service *service = loader->conf->services[index];
    const struct conf_row *headers = conf_row_find(conf_service_rows, "headers");
    char key[CONF_SERVICE_KEY_MAX];
    size_t len;
    const char *credentials = conf_url_credentials(service->upstream, &len);
    if (!credentials || !conf_is_upstream(service->upstream))
        return;
    for (size_t i = 0; i < service->headers_len; i++) {
        if (strcasecmp(service->headers[i].name, "authorization") == 0)
            conf_mistake(
                loader, conf_service_origin(loader, index, "upstream"),
                conf_service_key(loader, index, "upstream", key),
                "expected user and password in the URL, or Authorization in headers, got both");
    }
    char *value = basic_authorization(credentials, len);
    enum status status = conf_value_add_pair(headers, service, "Authorization", value);
    (void)status; /* not checked here if it does not fit: it is refused with the other mistakes */
    explicit_bzero(value, strlen(value));
    free(value);
    char *at = service->upstream + (credentials - service->upstream);
    memmove(at, at + len + 1, strlen(at + len + 1) + 1);
}

static void check_services(struct conf_loader *loader)
{
    const struct conf *conf = loader->conf;
    if (conf->services_len == 0 && !loader->services_refused)
        conf_mistake(
            loader, (struct conf_where){0}, "services",
            "expected at least one: \"- name: NAME\" with \"upstream: URL\" below, or --service "
            "NAME=URL");
    for (size_t i = 0; i < conf->services_len; i++) {
        check_required(loader, i);
        check_unique(loader, i);
        check_name(loader, i);
        check_times(loader, i);
        check_leak(loader, i);
        take_credentials(loader, i);
    }
    if (*conf->default_service != '\0' &&
        !conf_service(conf, conf->default_service, strlen(conf->default_service)))
        conf_mistake(loader, conf_origin(loader, "default_service"), "default_service",
                     "expected the name of a configured service, got \"%s\"",
                     conf->default_service);
}

static void check_clients(struct conf_loader *loader)
{
    const struct conf *conf = loader->conf;
    if (conf->clients.rate_messages > 0 && conf->clients.rate_burst == 0)
        conf_mistake(
            loader, conf_origin(loader, "clients.rate.burst"), "clients.rate.burst",
            "expected at least 1 where clients.rate.messages is not 0: no message could pass");
}

static void check_admin(struct conf_loader *loader)
{
    const struct conf *conf = loader->conf;
    if (!address_is_loopback(conf->admin.address) && *conf->admin.token == '\0' &&
        !conf->admin.allow_open)
        conf_mistake(loader, conf_origin(loader, "admin.address"), "admin.address",
                     "expected a loopback address; another one needs admin.token (or "
                     "VINHUB_ADMIN_TOKEN) or admin.allow_open: true; got \"%s\"",
                     conf->admin.address);
}

/* Warns of keys that only another kind of redis.url uses. */
static void check_unused(struct conf_loader *loader, const char *scheme, const char *const keys[],
                         size_t keys_len)
{
    for (size_t i = 0; i < keys_len; i++) {
        const struct conf_row *row = conf_row_find(conf_rows, keys[i]);
        char *text = conf_value_text(row, loader->conf, true);
        if (strcmp(text, "\"\"") != 0)
            conf_warning(loader, conf_origin(loader, keys[i]), keys[i],
                         "not used: redis.url is not a %s URL", scheme);
        free(text);
    }
}

static void check_redis(struct conf_loader *loader)
{
    const struct conf *conf = loader->conf;
    if (*conf->redis.sentinel_user != '\0' && *conf->redis.sentinel_password == '\0')
        conf_mistake(loader, conf_origin(loader, "redis.sentinel_user"), "redis.sentinel_user",
                     "expected redis.sentinel_password beside it, got the user alone");
    struct redis_url url;
    if (redis_url_parse(conf->redis.url, &url) != STATUS_OK)
        return; /* empty, or a mistake that has been reported */
    if (!url.tls)
        check_unused(loader, "rediss://",
                     (const char *const[]){"redis.tls_ca", "redis.tls_cert", "redis.tls_name"}, 3);
    if (url.shape != REDIS_SENTINEL)
        check_unused(loader, "redis-sentinel://", (const char *const[]){"redis.sentinel_password"},
                     1);
    if (!redis_url_is_loopback(&url) && !url.tls && url.password[0] == '\0')
        conf_warning(
            loader, conf_origin(loader, "redis.url"), "redis.url",
            "neither a password nor TLS: who can write to this Redis can speak to vehicles");
}

void conf_check(struct conf_loader *loader)
{
    check_services(loader);
    check_clients(loader);
    check_admin(loader);
    check_redis(loader);
    conf_check_keys(loader);
}
