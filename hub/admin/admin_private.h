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
/* A body over ADMIN_BODY_MAX is refused by on_request. A body over this size is refused by evhttp,
 * which does not keep it in memory. */
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

/* A request that is answered later. req and admin are NULL if the admin port was closed meanwhile;
 * a call without a request has no req at all. */
struct admin_call {
    struct admin *admin;
    struct evhttp_request *req;
    struct admin_call *prev, *next;
};
/* Freed by admin_call_end. */
struct admin_call *admin_call_new(struct admin *admin, struct evhttp_request *req, size_t size);
void admin_call_end(struct admin_call *call);

/* --- admin_reply.c */
/* Sends json with the status, and takes over the reference; json NULL (out of memory) sends a 500.
 */
void admin_reply_json(struct evhttp_request *req, int status, json_t *json);
/* Sends {"error": text}. */
void admin_reply_error(struct evhttp_request *req, int status, const char *text);
/* body is copied. */
void admin_reply_bytes(struct evhttp_request *req, int status, const char *mime, const void *body,
                       size_t len);
/* The body as a JSON object, which the caller frees; an empty body is an empty object. If it is not
 * an object, replies 400 and returns NULL. */
json_t *admin_body_object(struct evhttp_request *req);
/* A JSON string of any bytes. If they are not UTF-8, all bytes but ASCII become '?'. */
json_t *admin_json_text(const char *text, size_t len);
/* The row as an object: {"id", fields…}. Fields that are numbers in contract section 11 are numbers
 * here. */
json_t *admin_json_row(const struct bus_row *row);
/* The value of a field; "": the row does not have it. */
const char *admin_row_field(const struct bus_row *row, const char *name);

/* --- admin_audit.c */
/* Writes a line of the audit log: the operator's address, and the request. */
void admin_audit(struct evhttp_request *req, const char *action, const json_t *what);
/* {"closed", "missing"}; missing (nodes that did not answer) is left out if it is empty. */
json_t *admin_closed_json(uint64_t closed, const char *const *missing, size_t missing_len);
json_t *admin_names_json(const char *const *names, size_t len);

/* --- parsers of requests about clients and tokens; each returns NULL if the request is valid, else
 * a static text that says what was expected */

/* The parameters of a listing of clients. */
struct admin_clients_query {
    struct client_filter filter;
    const char *after;
    size_t limit;
};

/* *out points into *query, on which the caller calls evhttp_clear_headers, also after an error. */
const char *admin_clients_query(const char *text, struct evkeyvalq *query,
                                struct admin_clients_query *out);
/* *filter and *reason point into the body. An unknown key is an error: if a mistyped filter were
 * ignored, more clients would be closed than the operator meant. */
const char *admin_clients_body(json_t *body, struct client_filter *filter, const char **reason);
/* *out points into the body. */
const char *admin_revoke_body(const json_t *body, struct token_choice *out);

/* --- admin_guard.c: each returns false if it has refused the request and replied */
bool admin_guard_host(const struct admin *admin, struct evhttp_request *req);
bool admin_guard_origin(struct evhttp_request *req);
bool admin_guard_token(const struct admin *admin, struct evhttp_request *req);

/* --- handlers; rest: the path after the prefix of the route, NULL if the route has no prefix */
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
/* Ends all streams; a client whose token is still valid connects again. */
void admin_events_end(struct admin_events *events);

/* --- admin_session_id.c */
/* The session id of a part of a path: percent-decoded once if the result is a valid id, otherwise
 * taken as it is (raw ids may contain %XX, too; an id with %25 must be sent encoded). Returns a
 * malloc'd string; NULL: it can't be an id. */
char *admin_session_id(const char *part, size_t len);
bool admin_is_session_id(const char *text, size_t len);

#endif
