#include "core/client/filter.h"

#include <stdlib.h>
#include <string.h>

#include "common/address.h"
#include "common/text.h"
#include "core/client/client.h"
#include "core/client/further.h"
#include "core/node/node.h"
#include "core/session/state.h"

static const char *const names[CLIENT_FILTERS] = {"user",    "vin",  "service",
                                                  "session", "node", "address"};

const char *client_filter_name(enum client_filter_key key)
{
    return names[key];
}

enum client_filter_key client_filter_key_of(const char *name, size_t len)
{
    enum client_filter_key key = 0;
    while (key < CLIENT_FILTERS &&
           (strlen(names[key]) != len || memcmp(names[key], name, len) != 0))
        key++;
    return key;
}

const char *client_filter_wrong(const struct client_filter *filter)
{
    struct in6_addr address;
    for (enum client_filter_key key = 0; key < CLIENT_FILTERS; key++) {
        const char *value = filter->values[key];
        if (value && (!*value || strlen(value) > CLIENT_FILTER_MAX))
            return "a filter must be a text of 1 to 1024 bytes";
        /* Nothing of a client is anything else, and no other node would understand it */
        if (value && !text_is_utf8(value, strlen(value)))
            return "a filter must be UTF-8";
    }
    const char *text = filter->values[CLIENT_FILTER_ADDRESS];
    if (text && !address_parse(text, &address))
        return "address must be an IP address without a port";
    return NULL;
}

void client_match_init(struct client_match *match, const struct client_filter *filter)
{
    *match = (struct client_match){0};
    for (enum client_filter_key key = 0; key < CLIENT_FILTERS; key++) {
        const char *value = filter->values[key];
        if (value && !(match->filter.values[key] = strdup(value)))
            abort(); /* of at most 1 KiB */
    }
    if (filter->values[CLIENT_FILTER_ADDRESS])
        (void)address_parse(filter->values[CLIENT_FILTER_ADDRESS], &match->address);
}

void client_match_fini(struct client_match *match)
{
    for (enum client_filter_key key = 0; key < CLIENT_FILTERS; key++)
        free((char *)match->filter.values[key]);
}

static bool is_value(const char *wanted, const char *value)
{
    return !wanted || (value && !strcmp(wanted, value));
}

static bool follows(const struct client_match *match, const struct subscription *subscription,
                    const char *vin)
{
    const char *const *values = match->filter.values;
    const struct session *session = subscription->session;
    return session && is_value(values[CLIENT_FILTER_SESSION], session->id) &&
           is_value(values[CLIENT_FILTER_SERVICE], session->service->name) &&
           is_value(values[CLIENT_FILTER_VIN], vin);
}

static bool follows_one(const struct client_match *match, const struct client *client)
{
    const char *const *values = match->filter.values;
    if (!values[CLIENT_FILTER_SESSION] && !values[CLIENT_FILTER_SERVICE] &&
        !values[CLIENT_FILTER_VIN])
        return true;
    if (follows(match, &client->own, directory_vin(client->entry)))
        return true;
    for (size_t i = 0; client->further && i < client->further->len; i++)
        if (follows(match, client->further->items[i], further_vin(client->further->items[i])))
            return true;
    return false;
}

bool client_match_fits(const struct client_match *match, const struct client *client)
{
    const char *const *values = match->filter.values;
    return client_takes(client) && is_value(values[CLIENT_FILTER_USER], client_user(client)) &&
           is_value(values[CLIENT_FILTER_NODE], client->hub->id) &&
           (!values[CLIENT_FILTER_ADDRESS] ||
            !memcmp(&match->address, &client->address, sizeof(match->address))) &&
           follows_one(match, client);
}
