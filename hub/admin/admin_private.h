/*
 * What the files of the admin port share. Nothing outside hub/admin includes this.
 */
#ifndef VINHUB_ADMIN_ADMIN_PRIVATE_H
#define VINHUB_ADMIN_ADMIN_PRIVATE_H

#include <event2/http.h>
#include <jansson.h>

#include "admin/admin.h"
#include "admin/admin_connections.h"
#include "core/clients.h"
#include "core/revoked.h"

#define ADMIN_BODY_MAX (4U << 20) /* contract section 10 */
/* A body over ADMIN_BODY_MAX is answered by us, in JSON. evhttp answers what is over this itself,
 * without keeping it. */
#define ADMIN_BODY_HARD_MAX (8U << 20)

struct admin_events;
struct evhttp_bound_socket;

struct admin {
    struct admin_setup setup;
    struct conf *conf;
    struct evhttp *http;
    struct evhttp_bound_socket *socket;
    struct admin_connections *connections;
    struct admin_events *events;
    struct admin_call *calls; /* answers that wait for the bus or the hub */
    char *address;
};

/* An answer that comes later. req is NULL where the admin port went away meanwhile. */
struct admin_call {
    struct admin *admin;
    struct evhttp_request *req;
    struct admin_call *prev, *next;
};
/* Freed by admin_call_end. */
struct admin_call *admin_call_new(struct admin *admin, struct evhttp_request *req, size_t size);
void admin_call_end(struct admin_call *call);

/* --- admin_reply.c */
/* Sends json (a reference is taken over) with the status; NULL is a 500. */
void admin_reply_json(struct evhttp_request *req, int status, json_t *json);
void admin_reply_error(struct evhttp_request *req, int status, const char *text);
/* body is only read. */
void admin_reply_bytes(struct evhttp_request *req, int status, const char *mime, const void *body,
                       size_t len);
/* The body as a JSON object; replies 400 and returns NULL where it is none. An empty body is an
 * empty object. */
json_t *admin_body_object(struct evhttp_request *req);
/* A JSON string of any bytes: what is no UTF-8 becomes '?'. */
json_t *admin_json_text(const char *text, size_t len);
/* The row as an object: {"id", fields…}; what section 11 calls a number is one. */
json_t *admin_json_row(const struct bus_row *row);
/* The value of a field, "" where the row has none. */
const char *admin_row_field(const struct bus_row *row, const char *name);

/* --- admin_audit.c */
/* A line of the audit log: the asker's address, and what was asked for. */
void admin_audit(struct evhttp_request *req, const char *action, const json_t *what);
/* {"closed", "missing"}; missing is left out where no node is. */
json_t *admin_closed_json(uint64_t closed, const char *const *missing, size_t missing_len);
json_t *admin_names_json(const char *const *names, size_t len);

/* --- what requests about clients and tokens say; each returns NULL where all is in order, else a
 * static text: what was expected */

/* What a query asks for. */
struct admin_clients_query {
    struct client_filter filter;
    const char *after;
    size_t limit;
};

/* *out points into *query, which is for evhttp_clear_headers whatever is returned. */
const char *admin_clients_query(const char *text, struct evkeyvalq *query,
                                struct admin_clients_query *out);
/* *filter and *reason point into the body. A filter that was mistyped must not be passed over: more
 * clients would be closed than are meant. */
const char *admin_clients_body(json_t *body, struct client_filter *filter, const char **reason);
/* *out points into the body. */
const char *admin_revoke_body(const json_t *body, struct token_choice *out);

/* --- admin_guard.c: each answers false where it has already replied */
bool admin_guard_host(const struct admin *admin, struct evhttp_request *req);
bool admin_guard_origin(struct evhttp_request *req);
bool admin_guard_token(const struct admin *admin, struct evhttp_request *req);

/* --- handlers; rest is the path behind the route's prefix, NULL where the route is exact */
typedef void admin_handler(struct admin *admin, struct evhttp_request *req, const char *rest);
admin_handler admin_get_health, admin_get_ready, admin_get_metrics, admin_get_stats,
    admin_get_asset;
admin_handler admin_get_nodes, admin_get_sessions, admin_get_session;
admin_handler admin_post_publish, admin_post_session, admin_post_drain;
admin_handler admin_get_events;
admin_handler admin_get_clients, admin_post_close_clients, admin_post_revoke;

/* --- admin_events.c */
struct admin_events *admin_events_new(struct admin *admin);
void admin_events_free(struct admin_events *events);
/* Ends all streams: who still may comes back. */
void admin_events_end(struct admin_events *events);

/* --- admin_session_id.c */
/* The session id of a path part: percent-decoded once where that gives an id, as it came otherwise
 * (raw ids hold %XX too; one with %25 has to come encoded). Returns a malloc'd string, NULL where
 * it can't be an id. */
char *admin_session_id(const char *part, size_t len);
bool admin_is_session_id(const char *text, size_t len);

#endif
