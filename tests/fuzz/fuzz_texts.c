/*
 * Short texts from outside: request URLs and the templates they fill, Redis URLs, parameters of the
 * admin port, durations and sizes, UTF-8. The first byte chooses.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "admin/admin_address.h"
#include "admin/admin_private.h"
#include "common/base64.h"
#include "common/redis_url.h"
#include "common/text.h"
#include "common/url.h"
#include "common/url_parts.h"
#include "common/url_template.h"
#include "fuzz.h"

static const char yaml[] = "services:\n"
                           "  - {name: plain, upstream: 'ws://backend:28088/base'}\n"
                           "  - {name: other, upstream: 'wss://backend:28088/x{path}{query}',"
                           " session: '{path}'}\n"
                           "  - {name: filled, session: '{user}:{vin}', upstream: "
                           "'ws://backend:28088/{user}/{vin}/{service}?k={key}&{query}'}\n"
                           "default_service: other\n";

/* --- requests and templates --- */

static bool is_clean(const char *text)
{
    for (; *text != '\0'; text++) {
        if ((unsigned char)*text <= ' ' || *text == 0x7f || *text == '#')
            return false;
    }
    return true;
}

/* Whatever the request, the hub connects to the configured host, with one clean request line. */
static void check_upstream(const struct target *target)
{
    char *url = url_upstream(target);
    struct url_parts parts;
    assert(url && is_clean(url));
    assert(url_split(url, &parts) == STATUS_OK);
    assert(strcmp(parts.host, "backend") == 0 && parts.port == 28088);
    char *redacted = url_redact(url);
    assert(redacted && strncmp(url, redacted, strcspn(url, "?")) == 0);
    free(redacted);
    free(url);
}

static void check_part(const char *part)
{
    if (!part)
        return;
    assert(*part != '\0' && strcmp(part, ".") != 0 && strcmp(part, "..") != 0);
    assert(text_is_utf8(part, strlen(part)) && !strpbrk(part, "/\\"));
    for (; *part != '\0'; part++)
        assert((unsigned char)*part >= ' ' && *part != 0x7f);
}

/* The vin of the query, as a backend reads it, whether '+' is a space to it or not. */
static void check_vin(const struct target *target, const char *raw)
{
    char *text = strdup(raw);
    size_t len;
    assert(!strpbrk(raw, "+;"));
    assert(text_percent_decode(raw, strlen(raw), text, &len) == STATUS_OK);
    assert(target->vin && strlen(target->vin) == len && memcmp(target->vin, text, len) == 0);
    free(text);
}

/* The hub's own items are removed; the others go on as they came, except for the vin. */
static void check_kept(const struct target *target, struct slice request, unsigned flags)
{
    const char *query = memchr(request.at, '?', request.len);
    size_t path_len = query ? (size_t)(query - request.at) : request.len;
    assert(strlen(target->path) == path_len && memcmp(target->path, request.at, path_len) == 0);
    char *kept = strdup(target->query), *rest = kept + (*kept == '?'), *item;
    while ((item = strsep(&rest, "&")) != NULL) {
        if (strncmp(item, "vin=", 4) == 0) {
            check_vin(target, item + 4);
            continue;
        }
        assert(strncmp(item, "replay=", 7) != 0 &&
               memmem(request.at, request.len, item, strlen(item)));
        assert((flags & 1) == 0 || strncmp(item, "token=", 6) != 0);
        assert((flags & 2) == 0 ||
               (strncmp(item, "resume=", 7) != 0 && strncmp(item, "rate=", 5) != 0));
    }
    free(kept);
    if (strcmp(target->service->name, "plain") != 0)
        return;
    static const char base[] = "ws://backend:28088/base";
    char *url = url_upstream(target);
    assert(strncmp(url, base, strlen(base)) == 0);
    assert(strncmp(url + strlen(base), target->path, path_len) == 0);
    assert(strcmp(url + strlen(base) + path_len, target->query) == 0);
    assert(strncmp(target->session_id, "plain:", 6) == 0);
    /* Two vins never share a session: the key says which it is. */
    char key[SESSION_ID_MAX];
    size_t key_len;
    assert(text_percent_decode(target->session_id + 6, strlen(target->session_id + 6), key,
                               &key_len) == STATUS_OK);
    assert(!target->vin ||
           (strlen(target->vin) == key_len && memcmp(target->vin, key, key_len) == 0));
    free(url);
}

static bool up_attempt_request(const struct conf *conf, struct slice request, unsigned flags)
{
    const struct url_options options = {.take_token = (flags & 1) != 0,
                                        .protocol_client = (flags & 2) != 0};
    char *exact = fuzz_copy(request);
    struct target target;
    const char *why = NULL;
    enum status status = url_parse(conf, exact, request.len, &options, &target, &why);
    free(exact);
    if (status != STATUS_OK) {
        assert(why && *why != '\0');
        return false;
    }
    check_part(target.user);
    check_part(target.vin);
    assert(admin_is_session_id(target.session_id, strlen(target.session_id)));
    assert((options.take_token || !target.token) && (options.protocol_client || !target.resume));
    check_upstream(&target);
    check_kept(&target, request, flags);
    target_fini(&target);
    return true;
}

static void request(struct fuzz_input *input)
{
    static struct conf *conf;
    if (!conf)
        conf = fuzz_conf(yaml);
    unsigned flags = fuzz_byte(input);
    struct slice text = fuzz_rest(input);
    /* A named service means the same with and without a default service. */
    char *default_service = conf->default_service;
    bool with = up_attempt_request(conf, text, flags);
    conf->default_service = (char[]){""};
    bool without = up_attempt_request(conf, text, flags);
    conf->default_service = default_service;
    assert(with || !without);
}

/* Templates are the operator's, requests a stranger's. */
static void template_of(struct fuzz_input *input)
{
    char *upstream = fuzz_text(fuzz_slice(input)), *session = fuzz_text(fuzz_slice(input));
    const char *why = NULL;
    struct service service = {
        .refs = 1, .name = (char[]){"plain"}, .upstream = upstream, .session = session};
    struct service *services[] = {&service};
    struct conf conf = {
        .services = services, .services_len = 1, .default_service = (char[]){"plain"}};
    if (url_template_check(upstream, &why) == STATUS_OK &&
        url_template_check(session, &why) == STATUS_OK) {
        struct slice text = fuzz_rest(input);
        struct target target;
        if (url_parse(&conf, text.at, text.len, &(struct url_options){0}, &target, &why) ==
            STATUS_OK) {
            char *url = url_upstream(&target);
            char *redacted = url_redact(url);
            assert(url && redacted);
            free(redacted);
            free(url);
            target_fini(&target);
        }
        url_template_leaks_user(&service);
    } else {
        assert(why);
    }
    free(upstream);
    free(session);
}

/* --- URLs of the configuration --- */

static void redis_url(struct fuzz_input *input)
{
    char *text = fuzz_text(fuzz_rest(input));
    struct redis_url url;
    if (redis_url_parse(text, &url) == STATUS_OK) {
        assert(url.hosts_len >= 1 && url.hosts_len <= REDIS_HOSTS_MAX);
        redis_url_is_loopback(&url);
        char *redacted = redis_url_redact(text);
        struct redis_url shown;
        assert(redacted && redis_url_parse(redacted, &shown) == STATUS_OK);
        assert(url.password[0] == '\0' || strcmp(shown.password, "***") == 0);
        free(redacted);
    }
    struct url_parts parts;
    if (url_split(text, &parts) == STATUS_OK) {
        assert(parts.host[0] != '\0' && parts.port > 0 && parts.path[0] == '/');
        char *redacted = url_redact(text);
        assert(redacted);
        free(redacted);
    }
    free(text);
}

/* --- the admin port --- */

static void session_id(struct fuzz_input *input)
{
    struct slice text = fuzz_rest(input);
    char *exact = fuzz_copy(text);
    char *id = admin_session_id(exact, text.len);
    free(exact);
    if (!id)
        return;
    assert(strlen(id) < SESSION_ID_MAX && admin_is_session_id(id, strlen(id)));
    char *again = admin_session_id(id, strlen(id));
    assert(again);
    free(again);
    free(id);
}

/* Each accepted text is the only one for its bytes. */
static void base64(struct fuzz_input *input)
{
    struct slice text = fuzz_rest(input);
    char *exact = fuzz_copy(text);
    uint8_t *bytes = NULL;
    size_t len = 0;
    if (base64_decode(exact, text.len, &bytes, &len) == STATUS_OK) {
        assert(base64_size(len) == text.len && (bytes != NULL) == (len > 0));
        uint8_t *again = malloc(text.len + 1);
        base64_encode(bytes, len, again);
        assert(memcmp(again, exact, text.len) == 0);
        free(again);
    }
    free(bytes);
    free(exact);
}

static void address(struct fuzz_input *input)
{
    char *text = fuzz_text(fuzz_rest(input));
    char host[64];
    if (admin_address_host(text, host, sizeof(host))) {
        assert(strlen(host) < sizeof(host));
        admin_host_is_loopback(host);
    }
    free(text);
}

/* --- values and UTF-8 --- */

static void values(struct fuzz_input *input)
{
    char *text = fuzz_text(fuzz_rest(input)), printed[32];
    uint32_t ms, ms_again;
    size_t bytes, bytes_again;
    if (text_duration(text, &ms) == STATUS_OK) {
        text_duration_print(ms, printed);
        assert(text_duration(printed, &ms_again) == STATUS_OK && ms == ms_again);
    }
    if (text_size(text, &bytes) == STATUS_OK) {
        text_size_print(bytes, printed);
        assert(text_size(printed, &bytes_again) == STATUS_OK && bytes == bytes_again);
    }
    free(text);
}

static void utf8(struct fuzz_input *input)
{
    unsigned step = 1 + fuzz_below(input, 16);
    struct slice text = fuzz_rest(input);
    char *exact = fuzz_copy(text);
    uint32_t state = 0;
    bool good = true;
    for (size_t at = 0; good && at < text.len; at += step)
        good = text_utf8_piece(&state, exact + at, text.len - at < step ? text.len - at : step);
    assert(text_is_utf8(exact, text.len) == (good && state == 0));
    free(exact);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static void (*const parts[])(struct fuzz_input *) = {
        request, template_of, redis_url, session_id, base64, address, values, utf8};
    struct fuzz_input input = {data, len};
    parts[fuzz_below(&input, sizeof(parts) / sizeof(*parts))](&input);
    return 0;
}
