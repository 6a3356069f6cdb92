#include "common/url_template.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "common/text.h"
#include "common/url_query.h"

enum placeholder {
    PLACEHOLDER_PATH,
    PLACEHOLDER_USER,
    PLACEHOLDER_VIN,
    PLACEHOLDER_QUERY,
    PLACEHOLDER_SERVICE,
    PLACEHOLDER_KEY,
    PLACEHOLDERS
};

static const char *const names[PLACEHOLDERS] = {
    [PLACEHOLDER_PATH] = "path",   [PLACEHOLDER_USER] = "user",       [PLACEHOLDER_VIN] = "vin",
    [PLACEHOLDER_QUERY] = "query", [PLACEHOLDER_SERVICE] = "service", [PLACEHOLDER_KEY] = "key",
};

/* A piece of a template: a placeholder or the text before the next one. */
struct template_piece {
    const char *text; /* of a placeholder: what stands between the braces */
    size_t len;
    bool is_placeholder;
    enum placeholder placeholder;
};

static enum status find_placeholder(const char *text, size_t len, enum placeholder *out)
{
    for (size_t i = 0; i < PLACEHOLDERS; i++) {
        if (strlen(names[i]) == len && memcmp(names[i], text, len) == 0) {
            *out = (enum placeholder)i;
            return STATUS_OK;
        }
    }
    return STATUS_NOT_FOUND;
}

/* Reads the piece at *at and moves *at behind it. STATUS_NOT_FOUND: the template is at its end. */
static enum status next_piece(const char **at, struct template_piece *out)
{
    const char *text = *at;
    if (*text == '\0')
        return STATUS_NOT_FOUND;
    if (*text != '{') {
        size_t len = strcspn(text, "{}");
        if (len == 0)
            return STATUS_INVALID;
        *out = (struct template_piece){.text = text, .len = len};
        *at = text + len;
        return STATUS_OK;
    }
    size_t len = strcspn(text + 1, "{}");
    enum placeholder placeholder;
    if (text[1 + len] != '}')
        return STATUS_INVALID;
    if (find_placeholder(text + 1, len, &placeholder) != STATUS_OK)
        return STATUS_REFUSED;
    *out = (struct template_piece){
        .text = text + 1, .len = len, .is_placeholder = true, .placeholder = placeholder};
    *at = text + len + 2;
    return STATUS_OK;
}

enum status url_template_check(const char *text, const char **why)
{
    struct template_piece piece;
    enum status status;
    while ((status = next_piece(&text, &piece)) == STATUS_OK)
        continue;
    if (status == STATUS_NOT_FOUND)
        return STATUS_OK;
    *why = status == STATUS_REFUSED ? "it has an unknown placeholder"
                                    : "a \"{\" or \"}\" in it stands alone";
    return STATUS_INVALID;
}

bool template_names(const char *text, const char *placeholder)
{
    struct template_piece piece;
    while (next_piece(&text, &piece) == STATUS_OK) {
        if (piece.is_placeholder && strcmp(names[piece.placeholder], placeholder) == 0)
            return true;
    }
    return false;
}

static bool has_placeholder(const char *text)
{
    return strchr(text, '{') != NULL;
}

bool url_template_leaks_user(const struct service *service)
{
    const char *url = service->upstream, *key = service->session;
    bool url_names_user = !has_placeholder(url) || template_names(url, "path") ||
                          template_names(url, "user");
    bool key_names_user = template_names(key, "path") || template_names(key, "user");
    return url_names_user && !key_names_user;
}

/* ---- the session key ---- */

/* A buffer of fixed size that remembers that something did not fit. */
struct bounded {
    char *bytes;
    size_t cap, len;
    bool full;
};

static void put(struct bounded *out, const char *text, size_t len)
{
    if (out->full || len > out->cap - out->len) {
        out->full = true;
        return;
    }
    memcpy(out->bytes + out->len, text, len);
    out->len += len;
}

static void put_text(struct bounded *out, const char *text)
{
    if (text)
        put(out, text, strlen(text));
}

static const char *value_of(const struct target *target, enum placeholder placeholder)
{
    switch (placeholder) {
    case PLACEHOLDER_PATH: return target->path;
    case PLACEHOLDER_USER: return target->user;
    case PLACEHOLDER_VIN: return target->vin;
    case PLACEHOLDER_QUERY: return target->query;
    case PLACEHOLDER_SERVICE: return target->service->name;
    case PLACEHOLDER_KEY:
    case PLACEHOLDERS: return NULL;
    }
    return NULL;
}

static const char *key_template(const struct target *target)
{
    const char *text = target->service->session;
    if (*text == '\0')
        text = "{vin}";
    bool lacks_vin = !target->vin && template_names(text, "vin");
    bool lacks_user = !target->user && template_names(text, "user");
    return lacks_vin || lacks_user ? "{path}{query}" : text;
}

/* The query without credentials, which a digest stands for; '~' marks it. */
static void put_key_query(struct bounded *key, const char *query)
{
    struct span rest = {query, strlen(query)};
    struct query_item item;
    const char *mark = "?";
    if (rest.len > 0) {
        rest.at++;
        rest.len--;
    }
    for (; query_next(&rest, &item); mark = "&") {
        put_text(key, mark);
        if (!query_is_secret(&item)) {
            put(key, item.raw.at, item.raw.len);
            continue;
        }
        struct span secret = item.value.len > 0 ? item.value : item.raw;
        char digest[QUERY_DIGEST_LEN + 1];
        query_digest(secret, digest);
        put(key, item.raw.at, item.raw.len - secret.len);
        put_text(key, "~");
        put_text(key, digest);
    }
}

enum status template_session_key(const struct target *target, char out[SESSION_KEY_MAX],
                                 size_t *out_len)
{
    struct bounded key = {.bytes = out, .cap = SESSION_KEY_MAX};
    struct template_piece piece;
    for (const char *at = key_template(target); next_piece(&at, &piece) == STATUS_OK;) {
        if (!piece.is_placeholder)
            put(&key, piece.text, piece.len);
        else if (piece.placeholder == PLACEHOLDER_QUERY)
            put_key_query(&key, target->query);
        else
            put_text(&key, value_of(target, piece.placeholder));
    }
    if (key.full)
        return STATUS_LIMIT;
    *out_len = key.len;
    return STATUS_OK;
}

static bool is_alphanumeric(char c)
{
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

static void put_escaped(struct bounded *out, const char *text, size_t len, const char *kept)
{
    static const char hex[] = "0123456789ABCDEF";
    for (size_t i = 0; i < len; i++) {
        char c = text[i];
        if (is_alphanumeric(c) || (c != '\0' && strchr(kept, c))) {
            put(out, &c, 1);
        } else {
            char escape[3] = {'%', hex[(uint8_t)c >> 4], hex[(uint8_t)c & 15]};
            put(out, escape, 3);
        }
    }
}

void template_session_id(struct target *target, const char *key, size_t len)
{
    struct bounded id = {.bytes = target->session_id, .cap = sizeof(target->session_id) - 1};
    put_text(&id, target->service->name);
    put_text(&id, ":");
    put_escaped(&id, key, len, "._~-/;?=&"); /* contract section 1 */
    assert(!id.full);
    target->session_id[id.len] = '\0';
}

/* ---- the upstream URL ---- */

/* The key again, out of the id: escaping loses nothing. */
static void put_key(struct bounded *out, const struct target *target)
{
    char key[SESSION_ID_MAX];
    size_t len;
    const char *escaped = strchr(target->session_id, ':');
    assert(escaped);
    enum status status = text_percent_decode(escaped + 1, strlen(escaped + 1), key, &len);
    assert(status == STATUS_OK);
    (void)status;
    put_escaped(out, key, len, "._~-");
}

static void put_query(struct bounded *out, const char *query)
{
    if (*query != '\0' && memchr(out->bytes, '?', out->len)) {
        put_text(out, "&");
        query++;
    }
    put_text(out, query);
}

static void put_value(struct bounded *out, const struct target *target,
                      enum placeholder placeholder)
{
    const char *value = value_of(target, placeholder);
    switch (placeholder) {
    case PLACEHOLDER_PATH: put_text(out, value); break;
    case PLACEHOLDER_QUERY: put_query(out, value); break;
    case PLACEHOLDER_KEY: put_key(out, target); break;
    case PLACEHOLDER_USER:
    case PLACEHOLDER_VIN:
    case PLACEHOLDER_SERVICE:
        if (value)
            put_escaped(out, value, strlen(value), "._~-");
        break;
    case PLACEHOLDERS: abort(); /* no placeholder */
    }
}

/* A template without placeholders: the path goes behind its path, the query behind its query. */
static void put_appended(struct bounded *out, const struct target *target)
{
    const char *text = target->service->upstream;
    size_t len = strcspn(text, "?");
    size_t path_len = len > 0 && text[len - 1] == '/' ? len - 1 : len;
    put(out, text, path_len);
    put_text(out, target->path);
    put_text(out, text + len);
    put_query(out, target->query);
}

static void put_upstream(struct bounded *out, const struct target *target)
{
    const char *at = target->service->upstream;
    struct template_piece piece;
    if (!has_placeholder(at)) {
        put_appended(out, target);
        return;
    }
    while (next_piece(&at, &piece) == STATUS_OK) {
        if (piece.is_placeholder)
            put_value(out, target, piece.placeholder);
        else
            put(out, piece.text, piece.len);
    }
}

/* No placeholder stands for more than this; templates repeat them seldom. */
static size_t value_max(const struct target *target)
{
    size_t parts = strlen(target->path) + strlen(target->query);
    return 3 * (parts + SESSION_KEY_MAX + CONF_NAME_MAX);
}

char *url_upstream(const struct target *target)
{
    const char *text = target->service->upstream;
    size_t values = 2; /* the appended path and query */
    for (const char *c = text; *c != '\0'; c++)
        values += *c == '{';

    struct bounded url = {.cap = strlen(text) + values * value_max(target)};
    url.bytes = malloc(url.cap + 1);
    if (!url.bytes)
        return NULL;
    put_upstream(&url, target);
    assert(!url.full);
    url.bytes[url.len] = '\0';

    char *fitted = realloc(url.bytes, url.len + 1);
    return fitted ? fitted : url.bytes;
}
