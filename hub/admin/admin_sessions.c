/*
 * Listings of the whole cluster: nodes, sessions, one session.
 *
 * A listing with a filter reads the sessions in the order of their ids, and a bounded number of
 * batches for each request: one request costs the same in a cluster of a hundred thousand sessions.
 * `next` continues where the request stopped.
 */
#include <event2/keyvalq_struct.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/queue.h>

#include "admin/admin_private.h"
#include "common/url.h"

enum {
    LIMIT_DEFAULT = 100,
    LIMIT_MAX = 1000,    /* this many rows are printed as JSON in one turn: a few milliseconds */
    FILTER_BATCH = 4000, /* large, since each batch costs a scan of the index */
    FILTER_BATCHES = 3,  /* batches of one request */
};

static void on_nodes(void *ctx, enum status status, const struct bus_row *rows, size_t len,
                     const char *next)
{
    struct admin_call *call = ctx;
    (void)next;
    if (call->req && status != STATUS_OK)
        admin_reply_error(call->req, 503, "Redis does not answer");
    else if (call->req) {
        json_t *nodes = json_array();
        for (size_t i = 0; i < len; i++)
            (void)json_array_append_new(nodes, admin_json_row(&rows[i]));
        admin_reply_json(call->req, 200, json_pack("{s:o}", "nodes", nodes));
    }
    admin_call_end(call);
}

void admin_get_nodes(struct admin *admin, struct evhttp_request *req, const char *rest)
{
    (void)rest;
    struct bus *bus = admin->setup.bus;
    bus->ops->list(bus, BUS_LIST_NODES, NULL, LIMIT_MAX, on_nodes,
                   admin_call_new(admin, req, sizeof(struct admin_call)));
}

struct sessions_call {
    struct admin_call call; /* first: freed with it */
    struct evkeyvalq query;
    const char *search, *service, *owner, *state;
    const char *prefix; /* of the key; it is looked up in each service, so a vin is found at once */
    size_t next_service;            /* the service in which it is looked up next */
    char start[SESSION_ID_MAX + 1]; /* SERVICE:PREFIX of the present lookup; "" without a prefix */
    size_t limit;
    unsigned batches_left;
    json_t *sessions;
};

static bool has_filter(const struct sessions_call *listing)
{
    return listing->search || listing->service || listing->owner || listing->state;
}

static bool matches(const struct sessions_call *listing, const struct bus_row *row)
{
    size_t service_len = listing->service ? strlen(listing->service) : 0;
    if (strncmp(row->id, listing->start, strlen(listing->start)) != 0)
        return false;
    if (listing->search && !strcasestr(row->id, listing->search))
        return false;
    if (listing->service &&
        (strncmp(row->id, listing->service, service_len) != 0 || row->id[service_len] != ':'))
        return false;
    if (listing->owner && strcmp(admin_row_field(row, "owner"), listing->owner) != 0)
        return false;
    return !listing->state || strcmp(admin_row_field(row, "state"), listing->state) == 0;
}

static void end_sessions(struct sessions_call *listing, int status, const char *next)
{
    struct evhttp_request *req = listing->call.req;
    if (req && status == 200)
        admin_reply_json(req, 200,
                         json_pack("{s:O, s:s?}", "sessions", listing->sessions, "next", next));
    else if (req)
        admin_reply_error(req, status, "Redis does not answer");
    json_decref(listing->sessions);
    evhttp_clear_headers(&listing->query);
    admin_call_end(&listing->call);
}

static void ask_sessions(struct sessions_call *listing, const char *after);

/* Looks the prefix up in the next service. Returns false if there is no further service. */
static bool ask_next_service(struct sessions_call *listing)
{
    const struct conf *conf = listing->call.admin->conf;
    if (!listing->prefix || listing->next_service >= conf->services_len)
        return false;
    const char *service = conf->services[listing->next_service++]->name;
    int len = snprintf(listing->start, sizeof(listing->start), "%s:%s", service, listing->prefix);
    if (len >= (int)sizeof(listing->start))
        return false;
    /* The listing begins just before the prefix: no byte of an id is above '~'. */
    char before[sizeof(listing->start) + 2];
    (void)snprintf(before, sizeof(before), "%s\x7f", listing->start);
    before[len - 1]--;
    ask_sessions(listing, before);
    return true;
}

static void on_sessions(void *ctx, enum status status, const struct bus_row *rows, size_t len,
                        const char *next)
{
    struct sessions_call *listing = ctx;
    if (status != STATUS_OK || !listing->call.req) {
        end_sessions(listing, 503, NULL);
        return;
    }
    for (size_t i = 0; i < len; i++) {
        /* An id without fields is a leftover in the index: the record has expired. */
        if (rows[i].fields_len == 0 || !matches(listing, &rows[i]))
            continue;
        (void)json_array_append_new(listing->sessions, admin_json_row(&rows[i]));
        if (json_array_size(listing->sessions) == listing->limit) {
            bool more = !listing->prefix && (i + 1 < len || next);
            end_sessions(listing, 200, more ? rows[i].id : NULL);
            return;
        }
    }
    bool past = len > 0 && strncmp(rows[len - 1].id, listing->start, strlen(listing->start)) > 0;
    if (next && !past && --listing->batches_left > 0)
        ask_sessions(listing, next);
    else if (!ask_next_service(listing))
        end_sessions(listing, 200, listing->prefix ? NULL : next);
}

static void ask_sessions(struct sessions_call *listing, const char *after)
{
    struct bus *bus = listing->call.admin->setup.bus;
    size_t batch = has_filter(listing) ? FILTER_BATCH : listing->limit + 1;
    bus->ops->list(bus, BUS_LIST_SESSIONS, after, batch, on_sessions, listing);
}

static const char *query_value(const struct evkeyvalq *query, const char *name)
{
    const char *value = evhttp_find_header(query, name);
    return value && *value ? value : NULL;
}

/* Returns false if limit is not a whole number from 1 on. */
static bool read_limit(const struct evkeyvalq *query, size_t *out)
{
    const char *text = query_value(query, "limit");
    if (!text)
        return true;
    char *end = NULL;
    unsigned long limit = strtoul(text, &end, 10);
    if (strspn(text, "0123456789") != strlen(text) || limit == 0)
        return false;
    *out = limit < LIMIT_MAX ? limit : LIMIT_MAX;
    return true;
}

void admin_get_sessions(struct admin *admin, struct evhttp_request *req, const char *rest)
{
    (void)rest;
    const char *text = evhttp_uri_get_query(evhttp_request_get_evhttp_uri(req));
    struct evkeyvalq query = {0};
    size_t limit = LIMIT_DEFAULT;
    bool parsed = evhttp_parse_query_str(text ? text : "", &query) == 0;
    if (!parsed || !read_limit(&query, &limit)) {
        evhttp_clear_headers(&query);
        admin_reply_error(req, 400,
                          parsed ? "limit: expected a whole number from 1 on"
                                 : "expected a query as name=value&name=value");
        return;
    }
    struct sessions_call *listing = (void *)admin_call_new(admin, req, sizeof(*listing));
    /* The list must be moved, not copied: its tail points into its own head. */
    TAILQ_INIT(&listing->query);
    TAILQ_CONCAT(&listing->query, &query, next);
    listing->search = query_value(&listing->query, "q");
    listing->service = query_value(&listing->query, "service");
    listing->owner = query_value(&listing->query, "owner");
    listing->state = query_value(&listing->query, "state");
    listing->prefix = query_value(&listing->query, "prefix");
    listing->limit = limit;
    listing->batches_left = has_filter(listing) ? FILTER_BATCHES : 2;
    listing->sessions = json_array();
    if (!ask_next_service(listing))
        ask_sessions(listing, query_value(&listing->query, "after"));
}

static void on_session(void *ctx, enum status status, const struct bus_row *rows, size_t len,
                       const char *next)
{
    struct admin_call *call = ctx;
    (void)next;
    if (call->req && status != STATUS_OK)
        admin_reply_error(call->req, 503, "Redis does not answer");
    else if (call->req && (len == 0 || rows[0].fields_len == 0))
        admin_reply_error(call->req, 404, "no such session");
    else if (call->req)
        admin_reply_json(call->req, 200, admin_json_row(&rows[0]));
    admin_call_end(call);
}

void admin_get_session(struct admin *admin, struct evhttp_request *req, const char *rest)
{
    char *id = admin_session_id(rest, strlen(rest));
    if (!id) {
        admin_reply_error(req, 404, "no such session");
        return;
    }
    struct bus *bus = admin->setup.bus;
    bus->ops->list(bus, BUS_LIST_SESSION, id, 1, on_session,
                   admin_call_new(admin, req, sizeof(struct admin_call)));
    free(id);
}
