#include "admin/admin.h"

#include <errno.h>
#include <event2/buffer.h>
#include <event2/listener.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "admin/admin_address.h"
#include "admin/admin_private.h"
#include "common/metrics.h"

#define HEADERS_MAX 16384

enum route_flag {
    ROUTE_OPEN = 1,   /* without a token */
    ROUTE_PREFIX = 2, /* the rest of the path is an argument */
    ROUTE_ID = 4,     /* the argument includes the query: a session id may contain a '?' */
};

struct route {
    const char *path;
    unsigned flags;
    admin_handler *get, *post; /* NULL: 405 */
};

/* The first route that matches is used. */
static const struct route routes[] = {
    {"/healthz", ROUTE_OPEN, admin_get_health, NULL},
    {"/readyz", ROUTE_OPEN, admin_get_ready, NULL},
    {"/metrics", 0, admin_get_metrics, NULL},
    {"/websocket-stats", 0, admin_get_stats, NULL},
    {"/api/nodes", 0, admin_get_nodes, NULL},
    {"/api/sessions", 0, admin_get_sessions, NULL},
    {"/api/sessions/", ROUTE_PREFIX | ROUTE_ID, admin_get_session, admin_post_session},
    {"/api/clients", 0, admin_get_clients, NULL},
    {"/api/clients/close", 0, NULL, admin_post_close_clients},
    {"/api/publish", 0, NULL, admin_post_publish},
    {"/api/drain", 0, NULL, admin_post_drain},
    {"/api/revoke", 0, NULL, admin_post_revoke},
    {"/api/events", 0, admin_get_events, NULL},
    {"/", ROUTE_OPEN, admin_get_asset, NULL},
    {"/console/", ROUTE_OPEN | ROUTE_PREFIX, admin_get_asset, NULL},
};

static const struct route *route_of(const char *path, const char **rest)
{
    for (size_t i = 0; i < sizeof(routes) / sizeof(routes[0]); i++) {
        const struct route *route = &routes[i];
        size_t len = strlen(route->path);
        if (route->flags & ROUTE_PREFIX ? strncmp(path, route->path, len) == 0
                                        : strcmp(path, route->path) == 0) {
            *rest = route->flags & ROUTE_PREFIX ? path + len : NULL;
            return route;
        }
    }
    return NULL;
}

static bool is_json(struct evhttp_request *req)
{
    const char *type = evhttp_find_header(evhttp_request_get_input_headers(req), "Content-Type");
    const char *json = "application/json";
    size_t len = strlen(json);
    return type && strncasecmp(type, json, len) == 0 &&
           (type[len] == '\0' || strchr("; \t", type[len]));
}

static admin_handler *handler_of(const struct route *route, struct evhttp_request *req)
{
    enum evhttp_cmd_type method = evhttp_request_get_command(req);
    if (method == EVHTTP_REQ_POST)
        return route->post;
    return method == EVHTTP_REQ_GET || method == EVHTTP_REQ_HEAD ? route->get : NULL;
}

static void refuse_method(const struct route *route, struct evhttp_request *req)
{
    const char *allow = !route->post ? "GET, HEAD" : route->get ? "GET, HEAD, POST" : "POST";
    char text[64];
    (void)evhttp_add_header(evhttp_request_get_output_headers(req), "Allow", allow);
    (void)snprintf(text, sizeof(text), "method not allowed, expected %s", allow);
    admin_reply_error(req, 405, text);
}

static void on_request(struct evhttp_request *req, void *ctx)
{
    struct admin *admin = ctx;
    loop_enter(admin->setup.loop, "admin_request");
    admin_connection_answering(admin->connections, req);
    if (!admin_guard_host(admin, req) || !admin_guard_origin(req))
        return;
    const char *rest = NULL;
    const char *path = evhttp_uri_get_path(evhttp_request_get_evhttp_uri(req));
    const struct route *route = route_of(path && *path ? path : "/", &rest);
    if (!(route && route->flags & ROUTE_OPEN) && !admin_guard_token(admin, req))
        return;
    if (!route) {
        admin_reply_error(req, 404, "no such path");
        return;
    }
    if (route->flags & ROUTE_ID)
        rest = strstr(evhttp_request_get_uri(req), route->path) + strlen(route->path);
    admin_handler *handler = handler_of(route, req);
    if (!handler) {
        refuse_method(route, req);
        return;
    }
    bool post = evhttp_request_get_command(req) == EVHTTP_REQ_POST;
    if (post && !is_json(req))
        admin_reply_error(req, 415, "expected Content-Type: application/json");
    else if (evbuffer_get_length(evhttp_request_get_input_buffer(req)) > ADMIN_BODY_MAX)
        admin_reply_error(req, 413, "expected a body of at most 4 MiB");
    else
        handler(admin, req, rest);
}

struct admin_call *admin_call_new(struct admin *admin, struct evhttp_request *req, size_t size)
{
    struct admin_call *call = calloc(1, size);
    if (!call)
        abort();
    call->admin = admin;
    call->req = req;
    call->next = admin->calls;
    if (call->next)
        call->next->prev = call;
    admin->calls = call;
    return call;
}

void admin_call_end(struct admin_call *call)
{
    if (call->prev)
        call->prev->next = call->next;
    else if (call->admin)
        call->admin->calls = call->next;
    if (call->next)
        call->next->prev = call->prev;
    free(call);
}

bool admin_may_listen(const struct conf *conf)
{
    char host[256];
    if (conf->admin.token[0] != '\0' || conf->admin.allow_open)
        return true;
    return admin_address_host(conf->admin.address, host, sizeof(host)) &&
           admin_host_is_loopback(host);
}

static void start_http(struct admin *admin, int fd)
{
    admin->http = evhttp_new(loop_base(admin->setup.loop));
    if (!admin->http)
        abort();
    /* All methods that evhttp knows: a method that is not allowed gets our 405 with Allow. */
    evhttp_set_allowed_methods(admin->http, EVHTTP_REQ_GET | EVHTTP_REQ_POST | EVHTTP_REQ_HEAD |
                                                EVHTTP_REQ_PUT | EVHTTP_REQ_DELETE |
                                                EVHTTP_REQ_OPTIONS | EVHTTP_REQ_TRACE |
                                                EVHTTP_REQ_CONNECT | EVHTTP_REQ_PATCH);
    evhttp_set_max_headers_size(admin->http, HEADERS_MAX);
    evhttp_set_max_body_size(admin->http, ADMIN_BODY_HARD_MAX);
    /* Without this flag a client that is still sending its body gets a reset instead of the 413. */
    (void)evhttp_set_flags(admin->http, EVHTTP_SERVER_LINGERING_CLOSE);
    evhttp_set_default_content_type(admin->http, NULL);
    evhttp_set_gencb(admin->http, on_request, admin);
    admin->socket = evhttp_accept_socket_with_handle(admin->http, fd);
    if (!admin->socket)
        abort();
    admin->connections = admin_connections_new(admin->setup.loop, admin->http,
                                               evhttp_bound_socket_get_listener(admin->socket));
}

/* Registers each service, so that the metrics have its row before its first client comes. */
static void name_services(const struct conf *conf)
{
    for (size_t i = 0; i < conf->services_len; i++)
        (void)metric_service(conf->services[i]->name);
}

enum status admin_new(const struct admin_setup *setup, struct admin **out)
{
    if (!admin_may_listen(setup->conf))
        return STATUS_REFUSED;
    int fd = -1;
    enum status status = admin_address_listen(setup->conf->admin.address, &fd);
    if (status != STATUS_OK)
        return status;
    struct admin *admin = calloc(1, sizeof(*admin));
    char address[320];
    admin_address_bound(fd, address, sizeof(address));
    if (!admin || !(admin->address = strdup(address)))
        abort();
    admin->setup = *setup;
    admin->conf = conf_ref(setup->conf);
    name_services(admin->conf);
    start_http(admin, fd);
    admin->events = admin_events_new(admin);
    *out = admin;
    return STATUS_OK;
}

void admin_free(struct admin *admin)
{
    if (!admin)
        return;
    admin_events_free(admin->events);
    for (struct admin_call *call = admin->calls, *next; call; call = next) {
        next = call->next;
        call->admin = NULL;
        call->req = NULL;
        call->prev = call->next = NULL;
    }
    evhttp_free(admin->http);
    admin_connections_free(admin->connections);
    conf_unref(admin->conf);
    free(admin->address);
    free(admin);
}

const char *admin_address(const struct admin *admin)
{
    return admin->address;
}

void admin_reload(struct admin *admin, struct conf *conf)
{
    struct conf *before = admin->conf;
    admin->conf = conf_ref(conf);
    name_services(conf);
    if (strcmp(before->admin.token, conf->admin.token) != 0)
        admin_events_end(admin->events);
    conf_unref(before);
}
