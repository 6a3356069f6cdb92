#include <event2/buffer.h>
#include <stdlib.h>
#include <string.h>

#include "admin/admin_private.h"
#include "common/json_fields.h"
#include "common/record_fields.h"
#include "common/text.h"

static const char *reason_of(int status)
{
    static const struct {
        int status;
        const char *reason;
    } rows[] = {
        {200, "OK"},
        {202, "Accepted"},
        {400, "Bad Request"},
        {401, "Unauthorized"},
        {403, "Forbidden"},
        {404, "Not Found"},
        {405, "Method Not Allowed"},
        {413, "Payload Too Large"},
        {415, "Unsupported Media Type"},
        {500, "Internal Server Error"},
        {503, "Service Unavailable"},
        {504, "Gateway Timeout"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        if (rows[i].status == status)
            return rows[i].reason;
    }
    return "Error";
}

void admin_reply_bytes(struct evhttp_request *req, int status, const char *mime, const void *body,
                       size_t len)
{
    struct evkeyvalq *headers = evhttp_request_get_output_headers(req);
    (void)evhttp_add_header(headers, "Content-Type", mime);
    (void)evhttp_add_header(headers, "X-Content-Type-Options", "nosniff");
    if (!evhttp_find_header(headers, "Cache-Control"))
        (void)evhttp_add_header(headers, "Cache-Control", "no-store");
    struct evbuffer *buffer = evbuffer_new();
    if (!buffer)
        abort();
    /* For HEAD, libevent 2.1 would send the body too, so only its length is given. */
    bool head = evhttp_request_get_command(req) == EVHTTP_REQ_HEAD;
    char size[24];
    (void)snprintf(size, sizeof(size), "%zu", len);
    if (head)
        (void)evhttp_add_header(headers, "Content-Length", size);
    else if (evbuffer_add(buffer, body, len) != 0)
        abort();
    evhttp_send_reply(req, status, reason_of(status), buffer);
    evbuffer_free(buffer);
}

void admin_reply_json(struct evhttp_request *req, int status, json_t *json)
{
    char *text = json ? json_dumps(json, JSON_COMPACT | JSON_REAL_PRECISION(12)) : NULL;
    json_decref(json);
    if (!text) {
        admin_reply_error(req, 500, "out of memory");
        return;
    }
    admin_reply_bytes(req, status, "application/json", text, strlen(text));
    free(text);
}

void admin_reply_error(struct evhttp_request *req, int status, const char *text)
{
    char body[256];
    json_t *json = json_pack("{s:s}", "error", text);
    size_t len = json ? json_dumpb(json, body, sizeof(body), JSON_COMPACT) : 0;
    json_decref(json);
    if (len == 0 || len > sizeof(body))
        len = (size_t)snprintf(body, sizeof(body), "{\"error\":\"%s\"}", reason_of(status));
    admin_reply_bytes(req, status, "application/json", body, len);
}

json_t *admin_json_text(const char *text, size_t len)
{
    if (text_is_utf8(text, len))
        return json_stringn_nocheck(text, len);
    char *copy = malloc(len + 1);
    if (!copy)
        return NULL;
    for (size_t i = 0; i < len; i++)
        copy[i] = (unsigned char)text[i] < 0x80 ? text[i] : '?';
    json_t *json = json_stringn_nocheck(copy, len);
    free(copy);
    return json;
}

/* A larger body is not parsed into a tree: that took a second for 4 MiB of small values. */
#define TREE_MAX 65536u

/* A value that is not a string becomes an empty object, so that whoever expects a string refuses
 * it. */
static bool add_field(void *body, const struct json_field *field)
{
    char name[64];
    if (field->name_len >= sizeof(name) || memchr(field->name, '\0', field->name_len))
        return false; /* no request has a field with such a name */
    memcpy(name, field->name, field->name_len);
    name[field->name_len] = '\0';
    if (json_object_get(body, name))
        return false;
    json_t *value = field->text ? json_stringn_nocheck(field->text, field->len) : json_object();
    return json_object_set_new(body, name, value) == 0;
}

static json_t *large_body(const char *text, size_t len)
{
    json_t *body = json_object();
    if (text_is_utf8(text, len) && json_fields(text, len, add_field, body) == STATUS_OK)
        return body;
    json_decref(body);
    return NULL;
}

json_t *admin_body_object(struct evhttp_request *req)
{
    struct evbuffer *body = evhttp_request_get_input_buffer(req);
    size_t len = evbuffer_get_length(body);
    if (len == 0)
        return json_object();
    const char *text = (const char *)evbuffer_pullup(body, -1);
    json_t *json = NULL;
    if (text)
        json = len > TREE_MAX
                   ? large_body(text, len)
                   : json_loadb(text, len, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, NULL);
    if (json_is_object(json))
        return json;
    json_decref(json);
    admin_reply_error(req, 400,
                      len > TREE_MAX ? "expected a JSON object of at most 256 values as the body"
                                     : "expected a JSON object as the body");
    return NULL;
}

static json_t *field_json(const struct bus_field *field)
{
    size_t len = strlen(field->value);
    if (record_is_number(field->name, field->value, len))
        return json_integer(strtoll(field->value, NULL, 10));
    return admin_json_text(field->value, len);
}

json_t *admin_json_row(const struct bus_row *row)
{
    json_t *json = json_object();
    (void)json_object_set_new(json, "id", admin_json_text(row->id, strlen(row->id)));
    for (size_t i = 0; i < row->fields_len; i++)
        (void)json_object_set_new(json, row->fields[i].name, field_json(&row->fields[i]));
    return json;
}

const char *admin_row_field(const struct bus_row *row, const char *name)
{
    for (size_t i = 0; i < row->fields_len; i++) {
        if (strcmp(row->fields[i].name, name) == 0)
            return row->fields[i].value;
    }
    return "";
}
