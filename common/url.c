#include "common/url.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "common/text.h"
#include "common/url_query.h"
#include "common/url_template.h"

static struct span span_of(const char *from, const char *to)
{
    return (struct span){from, (size_t)(to - from)};
}

/* Where byte first stands in text, or its end. */
static const char *find_byte(struct span text, char byte)
{
    const char *at = memchr(text.at, byte, text.len);
    return at ? at : text.at + text.len;
}

/* What is known so far of the request under way. */
struct url_request {
    const struct conf *conf;
    const struct url_options *options;
    const char *why;
    struct target target;
    size_t query_len;
};

static enum status url_refuse(struct url_request *request, const char *why)
{
    request->why = why;
    return STATUS_INVALID;
}

static enum status check_bytes(struct url_request *request, struct span text)
{
    if (text.len > URL_REQUEST_MAX)
        return url_refuse(request, "the URL is too long");
    if (text.len == 0 || text.at[0] != '/')
        return url_refuse(request, "the path does not start with /");
    for (size_t i = 0; i < text.len; i++) {
        uint8_t byte = (uint8_t)text.at[i];
        if (byte <= ' ' || byte == 0x7f || byte == '#')
            return url_refuse(request, "the URL holds a space, a control byte or #");
    }
    if (!text_is_utf8(text.at, text.len))
        return url_refuse(request, "the URL is not UTF-8");
    return STATUS_OK;
}

static bool is_dots(struct span text)
{
    return (text.len == 1 && text.at[0] == '.') ||
           (text.len == 2 && text.at[0] == '.' && text.at[1] == '.');
}

/* Whether a piece of the part, as backends cut it at ';', is "." or "..". */
static bool has_dot_piece(struct span part)
{
    const char *end = part.at + part.len;
    for (;;) {
        const char *cut = find_byte(part, ';');
        if (is_dots(span_of(part.at, cut)))
            return true;
        if (cut == end)
            return false;
        part = span_of(cut + 1, end);
    }
}

static enum status check_decoded(struct url_request *request, struct span part)
{
    if (part.len == 0)
        return url_refuse(request, "the path or vin has an empty part");
    if (has_dot_piece(part))
        return url_refuse(request, "a part of the path or the vin is . or ..");
    for (size_t i = 0; i < part.len; i++) {
        uint8_t byte = (uint8_t)part.at[i];
        if (byte < ' ' || byte == 0x7f)
            return url_refuse(request,
                              "a part of the path or the vin holds an escaped control byte");
        if (byte == '/' || byte == '\\')
            return url_refuse(request, "a part of the path or the vin holds an escaped / or a \\");
    }
    if (!text_is_utf8(part.at, part.len))
        return url_refuse(request, "a part of the path or the vin is not UTF-8");
    return STATUS_OK;
}

/* Decodes a part of the path, or a vin, into a string of its own. */
static enum status decode_part(struct url_request *request, struct span raw, char **out)
{
    char *text = malloc(raw.len + 1);
    size_t len;
    if (!text)
        return STATUS_NO_MEMORY;

    enum status status = text_percent_decode(raw.at, raw.len, text, &len);
    if (status != STATUS_OK)
        url_refuse(request, "the URL has a bad escape");
    else
        status = check_decoded(request, (struct span){text, len});
    if (status != STATUS_OK) {
        free(text);
        return status;
    }
    *out = text;
    return STATUS_OK;
}

/* "/ws" has no user, of "/tenant;user" it is what follows the ';'. */
static enum status parse_single_part(struct url_request *request, struct span part)
{
    struct target *target = &request->target;
    const char *end = part.at + part.len;
    const char *semicolon = find_byte(part, ';');

    if (semicolon != end) {
        char *tenant;
        enum status status = decode_part(request, span_of(part.at, semicolon), &tenant);
        if (status != STATUS_OK)
            return status;
        free(tenant);
        return decode_part(request, span_of(semicolon + 1, end), &target->user);
    }
    enum status status = decode_part(request, part, &target->user);
    if (status == STATUS_OK && strcmp(target->user, "ws") == 0) {
        free(target->user);
        target->user = NULL;
    }
    return status;
}

static enum status parse_path(struct url_request *request, struct span path)
{
    struct target *target = &request->target;
    target->path = strndup(path.at, path.len);
    if (!target->path)
        return STATUS_NO_MEMORY;

    const char *end = path.at + path.len;
    struct span parts = span_of(path.at + 1, end);
    const char *slash = find_byte(parts, '/');
    if (slash == end)
        return parse_single_part(request, parts);

    struct span second = span_of(slash + 1, end);
    if (find_byte(second, '/') != end)
        return url_refuse(request, "the path has more than two parts or an empty one");
    enum status status = decode_part(request, span_of(parts.at, slash), &target->user);
    if (status != STATUS_OK)
        return status;
    return decode_part(request, second, &target->vin);
}

/* ---- the query ---- */

static enum status check_vin(struct url_request *request, struct span value, char **out)
{
    char *text;
    enum status status = query_decode(value, &text);
    if (status == STATUS_INVALID)
        return url_refuse(request, "the vin has a bad escape or a NUL byte");
    if (status != STATUS_OK)
        return status;
    status = check_decoded(request, (struct span){text, strlen(text)});
    if (status == STATUS_OK)
        *out = text;
    else
        free(text);
    return status;
}

static void keep_bytes(struct url_request *request, const char *bytes, size_t len)
{
    memcpy(request->target.query + request->query_len, bytes, len);
    request->query_len += len;
    request->target.query[request->query_len] = '\0';
}

static void keep_item(struct url_request *request, struct span raw)
{
    keep_bytes(request, request->query_len == 0 ? "?" : "&", 1);
    keep_bytes(request, raw.at, raw.len);
}

/* The upstream gets the vin in a form that every backend reads alike: its name without escapes, a
 * space as %20 ('+' is a plus for some), no raw ';' (the end of an item for some). */
static void keep_vin(struct url_request *request, struct span value)
{
    keep_item(request, (struct span){"vin=", 4});
    for (size_t i = 0; i < value.len; i++) {
        if (value.at[i] == '+')
            keep_bytes(request, "%20", 3);
        else if (value.at[i] == ';')
            keep_bytes(request, "%3B", 3);
        else
            keep_bytes(request, value.at + i, 1);
    }
}

static enum status take_vin(struct url_request *request, const struct query_item *item)
{
    if (request->target.vin)
        return url_refuse(request, "the URL names the vin twice");
    enum status status = check_vin(request, item->value, &request->target.vin);
    if (status == STATUS_OK)
        keep_vin(request, item->value);
    return status;
}

static enum status take_replay(struct url_request *request, const struct query_item *item)
{
    if (request->target.has_replay)
        return url_refuse(request, "replay is given twice");
    enum status status = query_number(item->value, &request->target.replay);
    if (status == STATUS_INVALID)
        return url_refuse(request, "replay is not a number from 0 to 4294967295");
    request->target.has_replay = status == STATUS_OK;
    return status;
}

static enum status take_rate(struct url_request *request, const struct query_item *item)
{
    uint32_t rate = 0;
    if (request->target.rate_milli != 0)
        return url_refuse(request, "rate is given twice");
    enum status status = query_thousandths(item->value, &rate);
    if (status == STATUS_NO_MEMORY)
        return status;
    if (status != STATUS_OK || rate < RATE_MIN_MILLI || rate > RATE_MAX_MILLI)
        return url_refuse(request, "rate is not a number from 0.1 to 100");
    request->target.rate_milli = rate;
    return STATUS_OK;
}

/* A bad token does not refuse the handshake: a page could not read the reason. */
static enum status take_token(struct url_request *request, const struct query_item *item)
{
    struct target *target = &request->target;
    if (item->value.len == 0)
        return STATUS_OK;
    if (target->token) {
        target->token_flaw = "token is given twice";
        return STATUS_OK;
    }
    enum status status = query_decode(item->value, &target->token);
    if (status == STATUS_INVALID)
        target->token_flaw = "token has a bad escape";
    return status == STATUS_INVALID ? STATUS_OK : status;
}

static enum status take_resume(struct url_request *request, const struct query_item *item)
{
    if (request->target.resume)
        return STATUS_OK;
    enum status status = query_decode(item->value, &request->target.resume);
    if (status != STATUS_INVALID)
        return status;
    request->target.resume = strdup("");
    return request->target.resume ? STATUS_OK : STATUS_NO_MEMORY;
}

/* Returns true if the item names the service; the first such item counts. */
static bool take_service(struct url_request *request, const struct query_item *item)
{
    if (item->value.len > 0 || request->target.service)
        return false;
    struct service *service = conf_service(request->conf, item->name, strlen(item->name));
    if (!service)
        return false;
    request->target.service = service_ref(service);
    return true;
}

/* conf is NULL in url_reread, whose text has none of the hub's own parameters. */
static bool take_subscribe(struct url_request *request, const struct query_item *item)
{
    bool is = request->conf && item->value.len == 0 && strcmp(item->name, CONF_SUBSCRIBE) == 0;
    request->target.subscribes = request->target.subscribes || is;
    return is;
}

static enum status take_item(struct url_request *request, const struct query_item *item)
{
    const struct url_options *options = request->options;
    if (take_subscribe(request, item) || take_service(request, item))
        return STATUS_OK;
    if (strcmp(item->name, "replay") == 0)
        return take_replay(request, item);
    if (options->take_token && strcmp(item->name, "token") == 0)
        return take_token(request, item);
    if (options->protocol_client && strcmp(item->name, "resume") == 0)
        return take_resume(request, item);
    if (options->protocol_client && strcmp(item->name, "rate") == 0)
        return take_rate(request, item);
    switch (query_vin(item)) {
    case QUERY_VIN: return take_vin(request, item);
    case QUERY_VIN_UNSURE:
        return url_refuse(request,
                          "the query names the vin in a way that backends read differently");
    case QUERY_VIN_NONE: keep_item(request, item->raw); break;
    }
    return STATUS_OK;
}

static enum status parse_query(struct url_request *request, struct span query)
{
    /* Each byte of the vin may become an escape; then "vin=", its '&' and the end. */
    request->target.query = malloc(3 * query.len + 8);
    if (!request->target.query)
        return STATUS_NO_MEMORY;
    request->target.query[0] = '\0';

    struct query_item item;
    while (query_next(&query, &item)) {
        enum status status = take_item(request, &item);
        if (status != STATUS_OK)
            return status;
    }
    return STATUS_OK;
}

/* ---- the whole ---- */

static enum status no_service(struct url_request *request)
{
    if (request->target.service)
        return url_refuse(request, "subscribe stands beside a service: name it in SUBSCRIBE");
    if (!request->options->may_subscribe) {
        request->why = "only a connection of vinhub.v1 can have ?subscribe";
        return STATUS_NOT_FOUND;
    }
    if (request->target.vin)
        return url_refuse(request, "subscribe stands beside a vin: name it in SUBSCRIBE");
    return STATUS_OK;
}

static enum status choose_service(struct url_request *request)
{
    const struct conf *conf = request->conf;
    if (request->target.subscribes)
        return no_service(request);
    if (request->target.service)
        return STATUS_OK;
    struct service *service = conf_service(conf, conf->default_service,
                                           strlen(conf->default_service));
    if (!service) {
        request->why = "the URL names no service that is configured";
        return STATUS_NOT_FOUND;
    }
    request->target.service = service_ref(service);
    return STATUS_OK;
}

static enum status make_session_id(struct url_request *request)
{
    char key[SESSION_KEY_MAX];
    size_t len;
    if (!request->target.service)
        return STATUS_OK;
    enum status status = template_session_key(&request->target, key, &len);
    if (status != STATUS_OK)
        return url_refuse(request, "the session key is longer than 256 bytes");
    template_session_id(&request->target, key, len);
    return STATUS_OK;
}

static enum status parse_request(struct url_request *request, struct span text)
{
    enum status status = check_bytes(request, text);
    if (status != STATUS_OK)
        return status;

    const char *end = text.at + text.len;
    const char *mark = find_byte(text, '?');
    status = parse_path(request, span_of(text.at, mark));
    if (status != STATUS_OK)
        return status;
    status = parse_query(request, mark == end ? span_of(end, end) : span_of(mark + 1, end));
    if (status != STATUS_OK)
        return status;
    status = choose_service(request);
    if (status != STATUS_OK)
        return status;
    return make_session_id(request);
}

enum status url_parse(const struct conf *conf, const char *request, size_t len,
                      const struct url_options *options, struct target *out, const char **why)
{
    struct url_request state = {.conf = conf, .options = options};
    enum status status = parse_request(&state, (struct span){request, len});
    if (status == STATUS_OK) {
        *out = state.target;
        return STATUS_OK;
    }
    target_fini(&state.target);
    *why = status == STATUS_NO_MEMORY ? "out of memory" : state.why;
    return status;
}

enum status url_reread(struct service *service, const char *text, size_t len, struct target *out)
{
    static const struct url_options options = {0};
    struct url_request state = {.options = &options, .target = {.service = service_ref(service)}};
    enum status status = parse_request(&state, (struct span){text, len});
    if (status != STATUS_OK) {
        target_fini(&state.target);
        return status;
    }
    *out = state.target;
    return STATUS_OK;
}

void target_fini(struct target *target)
{
    if (target->service)
        service_unref(target->service);
    free(target->path);
    free(target->user);
    free(target->vin);
    free(target->query);
    free(target->token);
    free(target->resume);
    *target = (struct target){0};
}

/* ---- upstream URLs ---- */

#define ELLIPSIS "\xe2\x80\xa6"

char *url_redact(const char *url)
{
    size_t items = 1;
    for (const char *c = url; *c != '\0'; c++)
        items += *c == '&';
    char *text = malloc(strlen(url) + items * strlen(ELLIPSIS) + 1);
    if (!text)
        abort(); /* the URL itself is bounded */

    const char *mark = strchr(url, '?');
    size_t len = mark ? (size_t)(mark - url) : strlen(url);
    memcpy(text, url, len);
    bool hide = false;
    for (const char *c = url + len; *c != '\0'; c++) {
        if (*c == '&')
            hide = false;
        if (hide)
            continue;
        text[len++] = *c;
        if (*c == '=') {
            memcpy(text + len, ELLIPSIS, strlen(ELLIPSIS));
            len += strlen(ELLIPSIS);
            hide = true;
        }
    }
    text[len] = '\0';
    return text;
}
