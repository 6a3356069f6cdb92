/*
 * Commands of operators: publish, close a session, drain.
 */
#include <stdlib.h>
#include <string.h>

#include "admin/admin_private.h"
#include "common/base64.h"

static void on_published(void *ctx, unsigned http_status, struct position at)
{
    struct admin_call *call = ctx;
    if (!call->req) {
        admin_call_end(call);
        return;
    }
    if (http_status == 200)
        admin_reply_json(call->req, 200,
                         json_pack("{s:I, s:I}", "epoch", (json_int_t)at.epoch, "offset",
                                   (json_int_t)at.offset));
    else
        admin_reply_error(call->req, (int)http_status,
                          http_status == 404 ? "nobody has the session open"
                          : http_status == 503
                              ? "not published, the session has no owner that can write now: try "
                                "again"
                              : "no answer from the owner: not known whether it was published");
    admin_call_end(call);
}

static void *bytes_of(const json_t *base64, size_t *len)
{
    uint8_t *bytes = NULL;
    if (base64_decode(json_string_value(base64), json_string_length(base64), &bytes, len) !=
        STATUS_OK)
        return NULL;
    return bytes ? bytes : malloc(1); /* an empty payload, which is not NULL */
}

/* The payload of a publish request, which the caller frees. NULL: the request has none, see why. */
static void *payload_of(const json_t *body, enum opcode *opcode, size_t *len, const char **why)
{
    const json_t *text = json_object_get(body, "data");
    const json_t *base64 = json_object_get(body, "data_base64");
    *why = "expected either data or data_base64, as a string";
    if (!text == !base64 || !json_is_string(text ? text : base64))
        return NULL;
    if (base64) {
        *opcode = OPCODE_BINARY;
        *why = "data_base64: expected base64";
        return bytes_of(base64, len);
    }
    *opcode = OPCODE_TEXT;
    *len = json_string_length(text);
    char *copy = malloc(*len + 1);
    if (copy)
        memcpy(copy, json_string_value(text), *len);
    *why = "out of memory";
    return copy;
}

void admin_post_publish(struct admin *admin, struct evhttp_request *req, const char *rest)
{
    (void)rest;
    json_t *body = admin_body_object(req);
    if (!body)
        return;
    const char *session = json_string_value(json_object_get(body, "session"));
    const char *why = "session: expected a string";
    enum opcode opcode = OPCODE_TEXT;
    size_t len = 0;
    void *payload = session ? payload_of(body, &opcode, &len, &why) : NULL;
    if (!payload)
        admin_reply_error(req, 400, why);
    else if (!admin_is_session_id(session, strlen(session)))
        admin_reply_error(req, 404, "nobody has the session open");
    else
        hub_publish(admin->setup.hub, session, opcode, payload, len, on_published,
                    admin_call_new(admin, req, sizeof(struct admin_call)));
    free(payload);
    json_decref(body);
}

struct named_call {
    struct admin_call call; /* first: freed with it */
    char *name;             /* session or node */
};

static struct named_call *named_call_new(struct admin *admin, struct evhttp_request *req,
                                         char *name)
{
    struct named_call *named = (void *)admin_call_new(admin, req, sizeof(*named));
    named->name = name;
    return named;
}

static void named_call_end(struct named_call *named)
{
    free(named->name);
    admin_call_end(&named->call);
}

/* Returns true if the store has it and the request still waits. Otherwise a waiting request is
 * answered here: 503, or 404 with the text missing. */
static bool is_there(const struct named_call *named, enum status status, bool found,
                     const char *missing)
{
    struct evhttp_request *req = named->call.req;
    if (!req)
        return false;
    if (status != STATUS_OK)
        admin_reply_error(req, 503, "Redis does not answer");
    else if (!found)
        admin_reply_error(req, 404, missing);
    return status == STATUS_OK && found;
}

static void on_session_to_close(void *ctx, enum status status, const struct bus_row *rows,
                                size_t len, const char *next)
{
    struct named_call *named = ctx;
    (void)next;
    bool found = len > 0 && rows[0].fields_len > 0;
    if (is_there(named, status, found, "no such session")) {
        hub_close_session(named->call.admin->setup.hub, named->name);
        admin_reply_json(named->call.req, 200, json_pack("{s:s}", "closed", named->name));
    }
    named_call_end(named);
}

void admin_post_session(struct admin *admin, struct evhttp_request *req, const char *rest)
{
    static const char verb[] = "/close";
    size_t len = strlen(rest);
    size_t verb_len = sizeof(verb) - 1;
    if (len <= verb_len || strcmp(rest + len - verb_len, verb) != 0) {
        (void)evhttp_add_header(evhttp_request_get_output_headers(req), "Allow", "GET, HEAD");
        admin_reply_error(req, 405, "method not allowed, expected GET, HEAD");
        return;
    }
    char *id = admin_session_id(rest, len - verb_len);
    if (!id) {
        admin_reply_error(req, 404, "no such session");
        return;
    }
    struct bus *bus = admin->setup.bus;
    bus->ops->list(bus, BUS_LIST_SESSION, id, 1, on_session_to_close,
                   named_call_new(admin, req, id));
}

static bool has_row(const struct bus_row *rows, size_t len, const char *id)
{
    for (size_t i = 0; i < len; i++) {
        if (strcmp(rows[i].id, id) == 0)
            return true;
    }
    return false;
}

static void on_nodes_for_drain(void *ctx, enum status status, const struct bus_row *rows,
                               size_t len, const char *next)
{
    struct named_call *named = ctx;
    (void)next;
    if (is_there(named, status, has_row(rows, len, named->name), "no such node")) {
        hub_ask_drain(named->call.admin->setup.hub, named->name);
        admin_reply_json(named->call.req, 202, json_pack("{s:s}", "draining", named->name));
    }
    named_call_end(named);
}

void admin_post_drain(struct admin *admin, struct evhttp_request *req, const char *rest)
{
    (void)rest;
    json_t *body = admin_body_object(req);
    if (!body)
        return;
    const char *own = hub_node_id(admin->setup.hub);
    const json_t *member = json_object_get(body, "node");
    const char *node = member ? json_string_value(member) : own;
    struct bus *bus = admin->setup.bus;
    if (!node)
        admin_reply_error(req, 400, "node: expected a string");
    else if (strcmp(node, own) != 0)
        bus->ops->list(bus, BUS_LIST_NODES, NULL, 1000, on_nodes_for_drain,
                       named_call_new(admin, req, strdup(node)));
    else {
        admin->setup.on_drain(admin->setup.ctx);
        admin_reply_json(req, 202, json_pack("{s:s}", "draining", own));
    }
    json_decref(body);
}
