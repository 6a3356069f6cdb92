/*
 * A source that asks the admin port of a node.
 */
#include <stdlib.h>
#include <string.h>

#include "ctl.h"
#include "http.h"
#include "lines.h"

enum {
    ANSWER_S = 10, /* a publish is answered within 5 s */
    STREAM_S = 60, /* the hub sends a comment every 15 s */
};

struct source_admin {
    struct ctl_source source; /* first */
    struct http_url url;
    char *token;
};

static bool on_body(void *ctx, const char *data, size_t len)
{
    return text_add(ctx, data, len);
}

/* The status for an answer that is not 2xx; keeps the node's error text. */
static enum status fail_by_http(struct source_admin *admin, int http_status,
                                const struct ctl_text *body)
{
    json_t *json = json_loadb(body->at ? body->at : "", body->len, 0, NULL);
    const char *error = json_string_value(json_object_get(json, "error"));
    enum status status = http_status == 404   ? STATUS_NOT_FOUND
                         : http_status == 504 ? STATUS_TIMEOUT
                                              : STATUS_REFUSED;
    (void)source_fail(&admin->source, status, "%s (HTTP %d)%s", error ? error : "refused",
                      http_status,
                      http_status == 401 ? "; set VINHUB_ADMIN_TOKEN or --token-file" : "");
    json_decref(json);
    return status;
}

static enum status ask(struct source_admin *admin, const char *method, const char *path,
                       const json_t *body, json_t **out)
{
    char *text = body ? json_dumps(body, JSON_COMPACT) : NULL;
    struct http_request request = {.url = &admin->url,
                                   .method = method,
                                   .path = path,
                                   .token = admin->token,
                                   .body = text,
                                   .body_len = text ? strlen(text) : 0};
    struct ctl_text answer = {0};
    int http_status = 0;
    const char *why = "";
    enum status status = http_ask(&request, ANSWER_S, &http_status, on_body, &answer, &why);
    free(text);
    if (status != STATUS_OK)
        (void)source_fail(&admin->source, status, "http://%s:%s: %s", admin->url.host,
                          admin->url.port, why);
    else if (http_status / 100 != 2)
        status = fail_by_http(admin, http_status, &answer);
    else if (!(*out = json_loadb(answer.at ? answer.at : "", answer.len, 0, NULL)))
        status = source_fail(&admin->source, STATUS_INVALID,
                             "the answer is not JSON: is it an admin port?");
    free(answer.at);
    return status;
}

/* As encodeURIComponent does. The caller frees. */
static char *escape(const char *text)
{
    static const char plain[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.~";
    static const char hex[] = "0123456789ABCDEF";
    char *out = malloc(strlen(text) * 3 + 1);
    char *at = out;
    if (!out)
        abort();
    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;
        if (strchr(plain, c)) {
            *at++ = (char)c;
        } else {
            *at++ = '%';
            *at++ = hex[c >> 4];
            *at++ = hex[c & 15];
        }
    }
    *at = '\0';
    return out;
}

/* prefix + escaped id + suffix. The caller frees. */
static char *path_of(const char *prefix, const char *id, const char *suffix)
{
    char *escaped = escape(id);
    char *path = NULL;
    if (asprintf(&path, "%s%s%s", prefix, escaped, suffix) < 0)
        abort();
    free(escaped);
    return path;
}

/* The array with this name in the answer, with a reference of its own. */
static enum status array_of(struct source_admin *admin, json_t *answer, const char *name,
                            json_t **out)
{
    json_t *array = json_object_get(answer, name);
    if (!json_is_array(array))
        return source_fail(&admin->source, STATUS_INVALID,
                           "the answer has no %s: is it an admin port?", name);
    *out = json_incref(array);
    return STATUS_OK;
}

static enum status admin_nodes(struct ctl_source *source, json_t **out)
{
    struct source_admin *admin = (struct source_admin *)source;
    json_t *answer = NULL;
    enum status status = ask(admin, "GET", "/api/nodes", NULL, &answer);
    if (status == STATUS_OK)
        status = array_of(admin, answer, "nodes", out);
    json_decref(answer);
    return status;
}

/* Reads all pages. */
static enum status admin_sessions(struct ctl_source *source, json_t **out)
{
    struct source_admin *admin = (struct source_admin *)source;
    json_t *all = json_array();
    char *path = strdup("/api/sessions?limit=1000");
    enum status status = STATUS_OK;
    while (path && status == STATUS_OK) {
        json_t *answer = NULL;
        json_t *page = NULL;
        status = ask(admin, "GET", path, NULL, &answer);
        if (status == STATUS_OK)
            status = array_of(admin, answer, "sessions", &page);
        (void)json_array_extend(all, page);
        const char *next = json_string_value(json_object_get(answer, "next"));
        free(path);
        path = next ? path_of("/api/sessions?limit=1000&after=", next, "") : NULL;
        json_decref(page);
        json_decref(answer);
    }
    free(path);
    if (status == STATUS_OK)
        *out = json_incref(all);
    json_decref(all);
    return status;
}

static enum status admin_session(struct ctl_source *source, const char *id, json_t **out)
{
    char *path = path_of("/api/sessions/", id, "");
    enum status status = ask((struct source_admin *)source, "GET", path, NULL, out);
    free(path);
    return status;
}

static enum status admin_publish(struct ctl_source *source, const char *id, const void *data,
                                 size_t len, json_t **out)
{
    json_t *text = json_stringn(data, len);
    json_t *body = text ? json_pack("{s:s, s:o}", "session", id, "data", text) : NULL;
    if (!body)
        return source_fail(source, STATUS_INVALID, "the session or the data is not UTF-8");
    enum status status = ask((struct source_admin *)source, "POST", "/api/publish", body, out);
    json_decref(body);
    return status;
}

/* A POST whose answer has no content that is needed. */
static enum status post(struct ctl_source *source, const char *path, json_t *body)
{
    json_t *answer = NULL;
    enum status status = ask((struct source_admin *)source, "POST", path, body, &answer);
    json_decref(answer);
    json_decref(body);
    return status;
}

static enum status admin_drain(struct ctl_source *source, const char *node)
{
    return post(source, "/api/drain", node ? json_pack("{s:s}", "node", node) : json_object());
}

static enum status admin_close(struct ctl_source *source, const char *id)
{
    char *path = path_of("/api/sessions/", id, "/close");
    enum status status = post(source, path, json_object());
    free(path);
    return status;
}

/* "/api/clients?limit=1000&key=value…". The caller frees. */
static char *clients_path(const json_t *filter, const char *after)
{
    const char *name = NULL;
    json_t *value = NULL;
    char *path = path_of("/api/clients?limit=1000", "", "");
    json_object_foreach((json_t *)filter, name, value)
    {
        char *escaped = escape(json_string_value(value)), *longer = NULL;
        if (asprintf(&longer, "%s&%s=%s", path, name, escaped) < 0)
            abort();
        free(escaped);
        free(path);
        path = longer;
    }
    char *escaped = escape(after), *whole = NULL;
    if (asprintf(&whole, "%s%s%s", path, *after ? "&after=" : "", escaped) < 0)
        abort();
    free(escaped);
    free(path);
    return whole;
}

/* Adds a page: its clients to clients, and each node that did not answer once to missing. */
static enum status add_page(struct source_admin *admin, json_t *answer, json_t *clients,
                            json_t *missing)
{
    json_t *page = NULL, *name = NULL;
    size_t i = 0;
    enum status status = array_of(admin, answer, "clients", &page);
    (void)json_array_extend(clients, page);
    json_decref(page);
    json_array_foreach(json_object_get(answer, "missing"), i, name)(void)
        json_object_set(missing, json_string_value(name), json_true());
    return status;
}

static enum status admin_clients(struct ctl_source *source, const json_t *filter, json_t **out)
{
    struct source_admin *admin = (struct source_admin *)source;
    json_t *clients = json_array(), *missing = json_object(), *answer = NULL;
    enum status status = STATUS_OK;
    const char *next = "";
    while (next && status == STATUS_OK) {
        char *path = clients_path(filter, next);
        json_decref(answer);
        answer = NULL;
        status = ask(admin, "GET", path, NULL, &answer);
        free(path);
        if (status == STATUS_OK)
            status = add_page(admin, answer, clients, missing);
        next = json_string_value(json_object_get(answer, "next"));
    }
    json_decref(answer);
    if (status == STATUS_OK) {
        json_t *names = json_array();
        const char *name = NULL;
        json_t *value = NULL;
        json_object_foreach(missing, name, value)(void)
            json_array_append_new(names, json_string(name));
        *out = json_pack("{s:O, s:o}", "clients", clients, "missing", names);
    }
    json_decref(missing);
    json_decref(clients);
    return status;
}

static enum status admin_kick(struct ctl_source *source, const json_t *filter, json_t **out)
{
    return ask((struct source_admin *)source, "POST", "/api/clients/close", filter, out);
}

static enum status admin_revoke(struct ctl_source *source, const json_t *token, json_t **out)
{
    return ask((struct source_admin *)source, "POST", "/api/revoke", token, out);
}

/* Server-sent events: lines of "event: NAME" and "data: JSON", an empty line ends one. */
struct events {
    const int *http_status;
    struct ctl_text line;
    struct ctl_text body; /* of an answer that is an error */
    char name[32];
    source_message_fn *fn;
    void *ctx;
};

static bool on_line(void *ctx, const char *line, size_t len)
{
    struct events *events = ctx;
    (void)len;
    if (strncmp(line, "event: ", 7) == 0) {
        (void)snprintf(events->name, sizeof(events->name), "%s", line + 7);
        return true;
    }
    if (strncmp(line, "data: ", 6) != 0)
        return true;
    json_t *json = json_loads(line + 6, JSON_ALLOW_NUL, NULL);
    bool go_on = true;
    if (strcmp(events->name, "message") == 0 && json)
        go_on = events->fn(events->ctx, json);
    if (strcmp(events->name, "dropped") == 0 && json) {
        json_t *dropped = json_pack("{s:O}", "dropped", json_object_get(json, "count"));
        go_on = !dropped || events->fn(events->ctx, dropped);
        json_decref(dropped);
    }
    json_decref(json);
    return go_on;
}

static bool on_events(void *ctx, const char *data, size_t len)
{
    struct events *events = ctx;
    if (*events->http_status != 200)
        return text_add(&events->body, data, len);
    return lines_add(&events->line, data, len, on_line, events);
}

static enum status admin_tail(struct ctl_source *source, const char *id, source_message_fn *fn,
                              void *ctx)
{
    struct source_admin *admin = (struct source_admin *)source;
    char *path = path_of("/api/events?session=", id, "");
    struct http_request request = {
        .url = &admin->url, .method = "GET", .path = path, .token = admin->token};
    int http_status = 0;
    struct events events = {.http_status = &http_status, .fn = fn, .ctx = ctx};
    const char *why = "";
    enum status status = http_ask(&request, STREAM_S, &http_status, on_events, &events, &why);
    if (status != STATUS_OK)
        (void)source_fail(source, status, "http://%s:%s: %s", admin->url.host, admin->url.port,
                          why);
    else if (http_status != 200)
        status = fail_by_http(admin, http_status, &events.body);
    free(path);
    free(events.line.at);
    free(events.body.at);
    return status;
}

static void admin_free(struct ctl_source *source)
{
    struct source_admin *admin = (struct source_admin *)source;
    free(admin->token);
    free(admin);
}

static const struct source_ops ops = {
    .nodes = admin_nodes,
    .sessions = admin_sessions,
    .session = admin_session,
    .tail = admin_tail,
    .publish = admin_publish,
    .drain = admin_drain,
    .close = admin_close,
    .clients = admin_clients,
    .kick = admin_kick,
    .revoke = admin_revoke,
    .free = admin_free,
};

enum status source_admin_new(const char *url, const char *token, struct ctl_source **out)
{
    struct http_url parsed;
    if (http_url_parse(url, &parsed) != STATUS_OK || parsed.tls ||
        (token && strpbrk(token, "\r\n")))
        return STATUS_INVALID;
    struct source_admin *admin = calloc(1, sizeof(*admin));
    if (!admin)
        abort();
    admin->source.ops = &ops;
    admin->url = parsed;
    admin->token = token && *token ? strdup(token) : NULL;
    *out = &admin->source;
    return STATUS_OK;
}
