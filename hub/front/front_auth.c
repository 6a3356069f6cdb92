/*
 * Tokens (contract section 8): where one is looked for, what of it is checked, and when it ends.
 *
 * libjwt checks the signature. The algorithm is compared with the configured one before it is
 * asked, so that a public key is never taken for a shared secret.
 */
#include <jansson.h>
#include <jwt.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/text.h"
#include "front/front_private.h"

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
            next = http_text_is(item, "bearer");
        }
    }
    return false;
}

/* "a=1; token=x" (RFC 6265 section 4.2.1). */
static bool find_in_cookies(const struct http_head *head, struct http_text *out)
{
    size_t index = 0;
    struct http_text value;
    while (http_head_next(head, "cookie", &index, &value)) {
        while (value.len > 0) {
            const char *end = memchr(value.at, ';', value.len);
            size_t len = end == NULL ? value.len : (size_t)(end - value.at);
            if (len > 6 && memcmp(value.at, "token=", 6) == 0) {
                *out = (struct http_text){value.at + 6, len - 6};
                return true;
            }
            size_t taken = end == NULL ? len : len + 1;
            value.at += taken;
            value.len -= taken;
            while (value.len > 0 && value.at[0] == ' ') {
                value.at++;
                value.len--;
            }
        }
    }
    return false;
}

static char *find_token(const struct conf *conf, const struct http_head *head,
                        const struct target *target)
{
    struct http_text token;
    if (find_in_protocols(head, &token))
        return strndup(token.at, token.len);
    if (target->token != NULL)
        return strdup(target->token);
    /* A browser sends a cookie whichever page opens the socket: without a check of the Origin any
     * page could. */
    if (conf->origins_len > 0 && find_in_cookies(head, &token))
        return strndup(token.at, token.len);
    return NULL;
}

/* --- the signature --- */

/* The header's "alg", without trusting anything else of it. */
static bool names_algorithm(const char *token, const char *algorithm)
{
    size_t len = strcspn(token, ".");
    unsigned char padded[1024], plain[sizeof(padded)];
    if (len == 0 || len + 4 > sizeof(padded))
        return false;
    memcpy(padded, token, len);
    for (size_t i = 0; i < len; i++)
        padded[i] = padded[i] == '-' ? '+' : padded[i] == '_' ? '/' : padded[i];
    while (len % 4 != 0)
        padded[len++] = '=';
    int plain_len = EVP_DecodeBlock(plain, padded, (int)len);
    if (plain_len <= 0)
        return false;
    json_t *header = json_loadb((const char *)plain, (size_t)plain_len, JSON_DISABLE_EOF_CHECK,
                                NULL);
    const char *named = json_string_value(json_object_get(header, "alg"));
    /* What a header calls critical must be understood (RFC 7515 section 4.1.11), and nothing is. */
    bool same = named != NULL && strcmp(named, algorithm) == 0 &&
                json_object_get(header, "crit") == NULL;
    json_decref(header);
    return same;
}

/* The claims of a token whose signature is right; NULL else. */
static json_t *verified_claims(const struct conf *conf, const char *token)
{
    if (!names_algorithm(token, conf->auth.algorithm))
        return NULL;
    bool shared = strncmp(conf->auth.algorithm, "HS", 2) == 0;
    const char *key = shared ? conf->auth.secret : conf->auth.public_key;
    jwt_t *jwt = NULL;
    if (key == NULL || jwt_decode(&jwt, token, (const unsigned char *)key, (int)strlen(key)) != 0)
        return NULL;
    json_t *claims = NULL;
    if (jwt_get_alg(jwt) == jwt_str_alg(conf->auth.algorithm)) {
        char *text = jwt_get_grants_json(jwt, NULL);
        claims = text == NULL ? NULL : json_loads(text, 0, NULL);
        free(text);
    }
    jwt_free(jwt);
    return claims;
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

/* NULL: they are in order. */
static const char *claims_wrong(const struct conf *conf, const json_t *claims,
                                const struct target *target, double now_s)
{
    const json_t *exp = json_object_get(claims, "exp"), *nbf = json_object_get(claims, "nbf");
    if (!json_is_number(exp))
        return "token without exp";
    if (json_number_value(exp) + LEEWAY_S <= now_s)
        return "token expired";
    if (nbf != NULL && (!json_is_number(nbf) || json_number_value(nbf) - LEEWAY_S > now_s))
        return "token not valid yet";
    if (conf->auth.audience[0] != '\0' &&
        !names(json_object_get(claims, "aud"), conf->auth.audience))
        return "token for another audience";
    if (conf->auth.issuer[0] != '\0' && !is_text(json_object_get(claims, "iss"), conf->auth.issuer))
        return "token of another issuer";
    if (target->user != NULL && !is_text(json_object_get(claims, "sub"), target->user))
        return "token of another user";
    if (target->vin != NULL && !list_covers(json_object_get(claims, "vins"), target->vin))
        return "token does not cover this vin";
    const json_t *services = json_object_get(claims, "services");
    if (services != NULL && !(json_is_array(services) && names(services, target->service->name)))
        return "token does not cover this service";
    return NULL;
}

const char *auth_check(const struct conf *conf, const struct http_head *head,
                       const struct target *target, uint64_t *ends_ms)
{
    *ends_ms = UINT64_MAX;
    if (conf->auth.mode == AUTH_NONE)
        return NULL;
    char *token = find_token(conf, head, target);
    if (token == NULL)
        return "token missing";
    json_t *claims = verified_claims(conf, token);
    free(token);
    if (claims == NULL)
        return "token invalid";

    double now_s = (double)clock_unix_ms() / 1000.0;
    const char *wrong = claims_wrong(conf, claims, target, now_s);
    double left_s = json_number_value(json_object_get(claims, "exp")) - now_s;
    if (left_s <= 0)
        left_s += LEEWAY_S;            /* taken for the leeway's sake, it lasts as long as that */
    if (wrong == NULL && left_s < 1e9) /* thirty years are for ever */
        *ends_ms = clock_boot_ms() + (uint64_t)(left_s * 1000.0);
    json_decref(claims);
    return wrong;
}
