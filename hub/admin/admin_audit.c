/*
 * The audit log of operators' actions on clients and tokens, and the JSON that such requests
 * answer.
 */
#include <stdlib.h>

#include "admin/admin_private.h"
#include "common/log.h"

void admin_audit(struct evhttp_request *req, const char *action, const json_t *what)
{
    char *address = NULL;
    ev_uint16_t port = 0;
    struct evhttp_connection *connection = evhttp_request_get_connection(req);
    if (connection)
        evhttp_connection_get_peer(connection, &address, &port);
    char *text = json_dumps(what, JSON_COMPACT);
    log_info("audit", LOG_STR("action", action), LOG_STR("address", address ? address : ""),
             LOG_STR("filter", text ? text : ""));
    free(text);
}

json_t *admin_closed_json(uint64_t closed, const char *const *missing, size_t missing_len)
{
    json_t *json = json_pack("{s:I}", "closed", (json_int_t)closed);
    if (missing_len)
        (void)json_object_set_new(json, "missing", admin_names_json(missing, missing_len));
    return json;
}

json_t *admin_names_json(const char *const *names, size_t len)
{
    json_t *json = json_array();
    for (size_t i = 0; i < len; i++)
        (void)json_array_append_new(json, json_string(names[i]));
    return json;
}
