/*
 * Clients of all nodes: pages of them, and closing those that match a filter.
 */
#include <event2/keyvalq_struct.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "admin/admin_private.h"
#include "core/clients.h"

#define LIMIT_DEFAULT 100

static const char too_much[] = "too many requests about clients are under way: try again";

static json_t *row_json(const struct client_row *row)
{
    return json_pack("{s:o, s:o, s:s, s:s, s:s, s:s, s:I, s:I, s:I, s:I, s:I}",           //
                     "id", admin_json_text(row->id, strlen(row->id)),                     //
                     "user", admin_json_text(row->user, strlen(row->user)),               //
                     "session", row->session, "node", row->node, "address", row->address, //
                     "protocol", row->protocol, "since", (json_int_t)row->since_ms,       //
                     "subscriptions", (json_int_t)row->subscriptions,                     //
                     "received", (json_int_t)row->received, "sent", (json_int_t)row->sent,
                     "queued", //
                     (json_int_t)row->queued_bytes);
}

static void on_clients(void *ctx, const struct client_row *rows, size_t len, const char *next,
                       const char *const *missing, size_t missing_len)
{
    struct admin_call *call = ctx;
    if (call->req) {
        json_t *clients = json_array();
        for (size_t i = 0; i < len; i++)
            (void)json_array_append_new(clients, row_json(&rows[i]));
        json_t *json = json_pack("{s:o, s:s?}", "clients", clients, "next", next);
        if (missing_len)
            (void)json_object_set_new(json, "missing", admin_names_json(missing, missing_len));
        admin_reply_json(call->req, 200, json);
    }
    admin_call_end(call);
}

/* Returns NULL if the parameter is valid, else what was expected. */
static const char *take_parameter(const char *name, const char *value,
                                  struct admin_clients_query *out)
{
    enum client_filter_key key = client_filter_key_of(name, strlen(name));
    if (key < CLIENT_FILTERS && !out->filter.values[key]) {
        out->filter.values[key] = value;
        return NULL;
    }
    if (strcmp(name, "after") == 0 && !out->after) {
        out->after = value;
        return NULL;
    }
    if (strcmp(name, "limit") == 0 && !out->limit) {
        char *end = NULL;
        unsigned long limit = strtoul(value, &end, 10);
        if (!*value || strspn(value, "0123456789") != strlen(value) || !limit)
            return "limit: expected a whole number from 1 on";
        out->limit = limit < CLIENTS_PAGE_MAX ? limit : CLIENTS_PAGE_MAX;
        return NULL;
    }
    return "expected user, vin, service, session, node, address, limit and after, each once";
}

const char *admin_clients_query(const char *text, struct evkeyvalq *query,
                                struct admin_clients_query *out)
{
    const struct evkeyval *item;
    const char *why = NULL;
    *out = (struct admin_clients_query){.limit = 0};
    TAILQ_INIT(query);
    /* Text behind a NUL would be ignored, and more clients would match than the operator meant. */
    if (strstr(text, "%00") || evhttp_parse_query_str(text, query) != 0)
        return "expected a query as name=value&name=value";
    TAILQ_FOREACH(item, query, next)
    {
        if (!why)
            why = take_parameter(item->key, item->value, out);
    }
    if (!out->limit)
        out->limit = LIMIT_DEFAULT;
    return why ? why : client_filter_wrong(&out->filter);
}

static json_t *filter_json(const struct client_filter *filter)
{
    json_t *json = json_object();
    for (enum client_filter_key key = 0; key < CLIENT_FILTERS; key++) {
        const char *value = filter->values[key];
        if (value)
            (void)json_object_set_new(json, client_filter_name(key),
                                      admin_json_text(value, strlen(value)));
    }
    return json;
}

static void audit_filter(struct evhttp_request *req, const char *action,
                         const struct client_filter *filter)
{
    json_t *json = filter_json(filter);
    admin_audit(req, action, json);
    json_decref(json);
}

static void ask_page(struct admin *admin, struct evhttp_request *req,
                     const struct admin_clients_query *asked)
{
    /* The console lists clients every few seconds: these requests are logged only with log.audit.
     */
    if (admin->conf->log.audit)
        audit_filter(req, "clients", &asked->filter);
    struct admin_call *call = admin_call_new(admin, req, sizeof(*call));
    enum status status = hub_clients(admin->setup.hub, &asked->filter, asked->after, asked->limit,
                                     on_clients, call);
    if (status == STATUS_OK)
        return;
    admin_call_end(call);
    if (status == STATUS_INVALID)
        admin_reply_error(req, 400, "after: expected the value of next from an earlier page");
    else
        admin_reply_error(req, 503, too_much);
}

void admin_get_clients(struct admin *admin, struct evhttp_request *req, const char *rest)
{
    (void)rest;
    const char *text = evhttp_uri_get_query(evhttp_request_get_evhttp_uri(req));
    struct evkeyvalq query;
    struct admin_clients_query asked;
    const char *why = admin_clients_query(text ? text : "", &query, &asked);
    if (why)
        admin_reply_error(req, 400, why);
    else
        ask_page(admin, req, &asked);
    evhttp_clear_headers(&query);
}

/* --- closing --- */

static void on_closed(void *ctx, uint64_t closed, const char *const *missing, size_t missing_len)
{
    struct admin_call *call = ctx;
    if (call->req)
        admin_reply_json(call->req, 200, admin_closed_json(closed, missing, missing_len));
    admin_call_end(call);
}

static const char *read_reason(const json_t *value, const char **out)
{
    size_t len = json_string_length(value);
    *out = json_string_value(value);
    return json_is_string(value) && len && len <= CLIENTS_REASON_MAX && strlen(*out) == len
               ? NULL
               : "reason: expected a text of 1 to 123 bytes";
}

const char *admin_clients_body(json_t *body, struct client_filter *filter, const char **reason)
{
    const char *name, *why = NULL;
    json_t *value;
    size_t filters = 0;
    *filter = (struct client_filter){{NULL}};
    *reason = CLIENTS_REASON_DEFAULT;
    json_object_foreach(body, name, value)
    {
        enum client_filter_key key = client_filter_key_of(name, strlen(name));
        if (why)
            break;
        if (strcmp(name, "reason") == 0)
            why = read_reason(value, reason);
        else if (key == CLIENT_FILTERS || !json_is_string(value) ||
                 strlen(json_string_value(value)) != json_string_length(value))
            why = "expected texts: user, vin, service, session, node, address and reason";
        else {
            filter->values[key] = json_string_value(value);
            filters++;
        }
    }
    if (!why && !filters)
        why = "expected at least one filter: user, vin, service, session, node or address";
    return why ? why : client_filter_wrong(filter);
}

void admin_post_close_clients(struct admin *admin, struct evhttp_request *req, const char *rest)
{
    (void)rest;
    json_t *body = admin_body_object(req);
    if (!body)
        return;
    struct client_filter filter;
    const char *reason, *why = admin_clients_body(body, &filter, &reason);
    if (why) {
        admin_reply_error(req, 400, why);
    } else {
        admin_audit(req, "close_clients", body);
        struct admin_call *call = admin_call_new(admin, req, sizeof(*call));
        if (hub_close_clients(admin->setup.hub, &filter, reason, on_closed, call) != STATUS_OK) {
            admin_call_end(call);
            admin_reply_error(req, 503, too_much);
        }
    }
    json_decref(body);
}
