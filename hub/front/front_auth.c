/*
 * Tokens (contract section 8): where one is looked for, what its claims must say, and when it ends.
 * The signature is front_token.c's.
 */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/clock.h"
#include "common/text.h"
#include "front/front_private.h"
#include "front/front_token.h"

#define LEEWAY_S 5 /* for clocks that differ */

/* --- where it is --- */

static bool find_in_protocols(const struct http_head *head, struct http_text *out)
{
    size_t index = 0;
    struct http_text value, item;
    bool next = false;
    while (http_head_next(head, "sec-websocket-protocol", &index, &value)) {
        while (http_list_next(&value, &item)) {
            if (next) {
                *out = item;
                return true;
            }
            next = http_text_is_word(item, "bearer");
        }
    }
    return false;
}

/* "Bearer TOKEN" (RFC 6750 section 2.1); of another scheme the field says nothing here. */
static bool find_in_authorization(const struct http_head *head, struct http_text *out)
{
    static const char scheme[] = "bearer ";
    size_t index = 0, len = sizeof(scheme) - 1;
    struct http_text value;
    while (http_head_next(head, "authorization", &index, &value)) {
        if (value.len <= len || strncasecmp(value.at, scheme, len) != 0)
            continue;
        while (len < value.len && value.at[len] == ' ')
            len++;
        *out = (struct http_text){value.at + len, value.len - len};
        return out->len > 0;
    }
    return false;
}

/* "token=x", with or without quotes (RFC 6265 section 4.1.1). */
static bool read_cookie(struct http_text pair, struct http_text *out)
{
    static const char name[] = "token=";
    size_t len = sizeof(name) - 1;
    while (pair.len > 0 && (pair.at[0] == ' ' || pair.at[0] == '\t')) {
        pair.at++;
        pair.len--;
    }
    while (pair.len > 0 && (pair.at[pair.len - 1] == ' ' || pair.at[pair.len - 1] == '\t'))
        pair.len--;
    if (pair.len <= len || memcmp(pair.at, name, len) != 0)
        return false;
    *out = (struct http_text){pair.at + len, pair.len - len};
    if (out->len >= 2 && out->at[0] == '"' && out->at[out->len - 1] == '"')
        *out = (struct http_text){out->at + 1, out->len - 2};
    return out->len > 0;
}

/* The first cookie of that name that is not empty. */
static bool find_in_cookies(const struct http_head *head, struct http_text *out)
{
    size_t index = 0;
    struct http_text value;
    while (http_head_next(head, "cookie", &index, &value)) {
        while (value.len > 0) {
            const char *end = memchr(value.at, ';', value.len);
            size_t len = end ? (size_t)(end - value.at) : value.len;
            if (read_cookie((struct http_text){value.at, len}, out))
                return true;
            size_t taken = end ? len + 1 : len;
            value.at += taken;
            value.len -= taken;
        }
    }
    return false;
}

/* Takes the token from the first source that has one (contract section 8). If no token can be read,
 * *out is NULL and the result says why. The caller frees *out. */
static const char *find_token(const struct conf *conf, const struct http_head *head,
                              const struct target *target, char **out)
{
    struct http_text token;
    *out = NULL;
    if (find_in_protocols(head, &token) || find_in_authorization(head, &token))
        *out = strndup(token.at, token.len);
    else if (target->token_flaw)
        return target->token_flaw;
    else if (target->token)
        *out = strdup(target->token);
    /* A browser sends a cookie whichever page opens the socket: without a check of the Origin any
     * page could. */
    else if (conf->origins_len > 0 && find_in_cookies(head, &token))
        *out = strndup(token.at, token.len);
    else
        return "token missing";
    return !*out ? "out of memory" : NULL;
}

/* --- the claims --- */

static bool is_text(const json_t *value, const char *wanted)
{
    return json_is_string(value) && json_string_length(value) == strlen(wanted) &&
           strcmp(json_string_value(value), wanted) == 0;
}

/* A string, or a list that holds it (RFC 7519 section 4.1.3). */
static bool names(const json_t *value, const char *wanted)
{
    size_t index;
    json_t *item;
    json_array_foreach(value, index, item)
    {
        if (is_text(item, wanted))
            return true;
    }
    return is_text(value, wanted);
}

/* "*", or a trailing "*" after what the vin begins with, or the vin itself. */
static bool covers(const char *rule, size_t rule_len, const char *vin)
{
    if (rule_len > 0 && rule[rule_len - 1] == '*')
        return strncmp(rule, vin, rule_len - 1) == 0;
    return strlen(vin) == rule_len && memcmp(rule, vin, rule_len) == 0;
}

static bool list_covers(const json_t *list, const char *vin)
{
    size_t index;
    json_t *item;
    json_array_foreach(list, index, item)
    {
        if (json_is_string(item) && covers(json_string_value(item), json_string_length(item), vin))
            return true;
    }
    return false;
}

/* What a token must say whatever the URL names. NULL: it is in order. */
static const char *claims_wrong(const struct conf *conf, const json_t *claims, double now_s)
{
    const json_t *exp = json_object_get(claims, "exp"), *nbf = json_object_get(claims, "nbf");
    if (!json_is_number(exp))
        return "token without exp";
    if (json_number_value(exp) + LEEWAY_S <= now_s)
        return "token expired";
    if (nbf && (!json_is_number(nbf) || json_number_value(nbf) - LEEWAY_S > now_s))
        return "token not valid yet";
    if (conf->auth.audience[0] != '\0' &&
        !names(json_object_get(claims, "aud"), conf->auth.audience))
        return "token for another audience";
    if (conf->auth.issuer[0] != '\0' && !is_text(json_object_get(claims, "iss"), conf->auth.issuer))
        return "token of another issuer";
    return NULL;
}

static bool is_of_other(const json_t *claims, const struct target *target)
{
    return target->user && !is_text(json_object_get(claims, "sub"), target->user);
}

/* A target without a service names no session: there is nothing to cover but its user. */
const char *grant_covers(const struct grant *grant, const struct target *target)
{
    if (target->user && !is_text(grant->subject, target->user))
        return "token of another user";
    if (target->vin && !list_covers(grant->vins, target->vin))
        return "token does not cover this vin";
    if (target->service && grant->services &&
        !(json_is_array(grant->services) && names(grant->services, target->service->name)))
        return "token does not cover this service";
    return NULL;
}

/* --- the whole --- */

static uint64_t end_of(const json_t *claims, double now_s)
{
    double left_s = json_number_value(json_object_get(claims, "exp")) - now_s;
    if (left_s <= 0)
        left_s += LEEWAY_S; /* accepted within the leeway only, so it is valid until the end of the
                               leeway */
    if (left_s <= 0)        /* expired, and too far back for the number */
        return clock_boot_ms();
    if (left_s >= 1e9) /* thirty years are for ever */
        return UINT64_MAX;
    return clock_boot_ms() + (uint64_t)(left_s * 1000.0);
}

static struct grant grant_of(const json_t *claims, double now_s)
{
    const json_t *iat = json_object_get(claims, "iat");
    return (struct grant){.ends_ms = end_of(claims, now_s),
                          .subject = json_incref(json_object_get(claims, "sub")),
                          .id = json_incref(json_object_get(claims, "jti")),
                          .vins = json_incref(json_object_get(claims, "vins")),
                          .services = json_incref(json_object_get(claims, "services")),
                          .has_iat = json_is_number(iat),
                          .issued_s = json_number_value(iat)};
}

enum grant_verdict auth_token(const struct conf *conf, const struct key_set *keys,
                              const char *token, const struct target *target, struct grant *out,
                              const char **why)
{
    *why = NULL;
    json_t *claims = token_claims(keys, token, why);
    if (!claims)
        return GRANT_REFUSED;
    double now_s = (double)clock_unix_ms() / 1000.0;
    enum grant_verdict verdict = GRANT_GIVEN;
    struct grant grant = grant_of(claims, now_s);
    if ((*why = claims_wrong(conf, claims, now_s)) != NULL) {
        verdict = GRANT_REFUSED;
    } else if (is_of_other(claims, target)) {
        verdict = GRANT_OTHER_USER;
        *why = "token of another user";
    } else if ((*why = grant_covers(&grant, target)) != NULL) {
        verdict = GRANT_NOT_COVERED;
    }
    if (verdict == GRANT_GIVEN || verdict == GRANT_NOT_COVERED)
        *out = grant;
    else
        grant_fini(&grant);
    json_decref(claims);
    return verdict;
}

void grant_fini(struct grant *grant)
{
    json_decref(grant->subject);
    json_decref(grant->id);
    json_decref(grant->vins);
    json_decref(grant->services);
    grant->subject = grant->id = grant->vins = grant->services = NULL;
}

enum grant_verdict auth_check(const struct conf *conf, const struct key_set *keys,
                              const struct http_head *head, const struct target *target,
                              struct grant *out, const char **why)
{
    *out = (struct grant){.ends_ms = UINT64_MAX};
    *why = NULL;
    if (conf->auth.mode == AUTH_NONE)
        return GRANT_GIVEN;
    char *token;
    *why = find_token(conf, head, target, &token);
    if (*why)
        return GRANT_REFUSED;
    enum grant_verdict verdict = auth_token(conf, keys, token, target, out, why);
    if (verdict == GRANT_NOT_COVERED)
        grant_fini(out);
    free(token);
    return verdict;
}
