/*
 * Requests to the admin port about clients and tokens: the query of /api/clients, the bodies of
 * /api/clients/close and /api/revoke. The first byte chooses. A second reader must find the same
 * filters: a filter that is ignored or mistaken would close more clients than meant.
 */
#include <assert.h>
#include <ctype.h>
#include <event2/keyvalq_struct.h>
#include <stdlib.h>
#include <string.h>

#include "admin/admin_private.h"
#include "common/clock.h"
#include "common/node_messages.h"
#include "fuzz.h"

static const char *const filters[] = {"user", "vin", "service", "session", "node", "address"};

/* The number of filters. */
static size_t count(const struct client_filter *filter)
{
    size_t n = 0;
    for (size_t i = 0; i < CLIENT_FILTERS; i++)
        n += filter->values[i] != NULL;
    return n;
}

/* NULL: there is no filter of that name. */
static const char *const *value_of(const struct client_filter *filter, const char *name)
{
    for (size_t i = 0; i < CLIENT_FILTERS; i++)
        if (!strcmp(filters[i], name))
            return &filter->values[i];
    return NULL;
}

static unsigned hex(char c)
{
    return isdigit((unsigned char)c) ? (unsigned)(c - '0') : (unsigned)(tolower(c) - 'a' + 10);
}

/* Decodes a form's text in place. */
static void decode(char *text)
{
    char *to = text;
    for (; *text; text++) {
        if (*text == '%' && isxdigit((unsigned char)text[1]) && isxdigit((unsigned char)text[2])) {
            *to++ = (char)(hex(text[1]) << 4 | hex(text[2]));
            text += 2;
        } else {
            *to++ = *text == '+' ? ' ' : *text;
        }
    }
    *to = '\0';
}

/* Each item is a filter, the limit or the page's start, and has the value that was read. */
static void check_query(char *text, const struct admin_clients_query *asked)
{
    size_t n = 0, others = 0;
    char *rest = *text ? text : NULL, *item;
    while ((item = strsep(&rest, "&")) != NULL) {
        if (!*item && !rest)
            break; /* behind the last "&" */
        char *equals = strchr(item, '=');
        assert(equals);
        *equals = '\0';
        decode(equals + 1);
        const char *const *value = value_of(&asked->filter, item);
        if (value) {
            assert(*value && !strcmp(*value, equals + 1));
            n++;
        } else if (!strcmp(item, "after")) {
            assert(!strcmp(asked->after, equals + 1));
            others++;
        } else {
            assert(!strcmp(item, "limit"));
            unsigned long limit = strtoul(equals + 1, NULL, 10);
            assert(asked->limit == (limit < CLIENTS_PAGE_MAX ? limit : CLIENTS_PAGE_MAX));
            others++;
        }
    }
    assert(n == count(&asked->filter) && others <= 2);
}

/* Other nodes can read the poll. */
static void check_question(const struct client_filter *filter, const char *reason)
{
    struct envelope_item asked[CLIENT_FILTERS], *items = NULL;
    struct envelope question, read;
    size_t n = 0, len;
    uint8_t *bytes;
    for (size_t i = 0; i < CLIENT_FILTERS; i++)
        if (filter->values[i])
            asked[n++] = filter_item(
                &(struct filter_entry){slice_of(filters[i]), slice_of(filter->values[i])});
    const struct clients_message message = {.reason = slice_of(reason), .filters = {asked, n}};
    question = clients_encode(&message);
    enum status status = envelope_encode(&question, &bytes, &len);
    assert(status == STATUS_OK);
    status = envelope_decode(bytes, len, &read, &items);
    assert(status == STATUS_OK && read.items_len == n);
    free(items);
    free(bytes);
}

static void query(struct fuzz_input *input)
{
    char *text = fuzz_text(fuzz_rest(input));
    struct evkeyvalq items;
    struct admin_clients_query asked;
    const char *why = admin_clients_query(text, &items, &asked);
    if (!why) {
        assert(asked.limit >= 1 && asked.limit <= CLIENTS_PAGE_MAX);
        char *again = strdup(text);
        check_query(again, &asked);
        free(again);
        struct client_match match;
        client_match_init(&match, &asked.filter);
        assert(count(&match.filter) == count(&asked.filter));
        check_question(&asked.filter, "");
        client_match_fini(&match);
    } else {
        assert(*why);
    }
    evhttp_clear_headers(&items);
    free(text);
}

/* As admin_body_object reads it; NULL: no object. */
static json_t *body_of(struct fuzz_input *input)
{
    struct slice text = fuzz_rest(input);
    char *exact = fuzz_copy(text);
    json_t *json = text.len
                       ? json_loadb(exact, text.len, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, NULL)
                       : json_object();
    free(exact);
    if (json_is_object(json))
        return json;
    json_decref(json);
    return NULL;
}

static bool says(const json_t *value, const char *text)
{
    return json_is_string(value) && strlen(text) == json_string_length(value) &&
           !strcmp(json_string_value(value), text);
}

static void close_body(struct fuzz_input *input)
{
    json_t *body = body_of(input), *value;
    struct client_filter filter;
    const char *reason, *name, *why = body ? admin_clients_body(body, &filter, &reason) : "none";
    size_t n = 0;
    if (!why) {
        json_object_foreach(body, name, value)
        {
            const char *const *taken = value_of(&filter, name);
            n += taken != NULL;
            assert(says(value, taken ? *taken : reason));
            assert(taken || !strcmp(name, "reason"));
        }
        assert(n && n == count(&filter) && *reason && strlen(reason) <= CLIENTS_REASON_MAX);
        check_question(&filter, reason);
    }
    json_decref(body);
}

static void revoke_body(struct fuzz_input *input)
{
    json_t *body = body_of(input);
    struct token_choice choice;
    const char *why = body ? admin_revoke_body(body, &choice) : "none";
    if (!why) {
        const json_t *jti = json_object_get(body, "jti"), *sub = json_object_get(body, "sub"),
                     *before = json_object_get(body, "before");
        double day_ahead = (double)clock_unix_ms() / 1000 + 24 * 3600 + 1;
        assert((jti != NULL) != (sub != NULL) && choice.sub == (sub != NULL));
        assert(says(jti ? jti : sub, choice.name) && *choice.name);
        assert(json_object_size(body) == (before ? 2 : 1) && !(before && jti));
        assert(choice.issued_before_s >= 0 && choice.issued_before_s <= day_ahead);
        assert(!before || choice.issued_before_s == json_number_value(before));
    }
    json_decref(body);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static void (*const parts[])(struct fuzz_input *) = {query, close_body, revoke_body};
    struct fuzz_input input = {data, len};
    parts[fuzz_below(&input, sizeof(parts) / sizeof(*parts))](&input);
    return 0;
}
