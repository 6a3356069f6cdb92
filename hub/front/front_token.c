#include "front/front_token.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/base64.h"

/* Bytes that a part of the token stands for. */
struct decoded {
    unsigned char *at;
    size_t len;
};

/* "header.claims.signature", as it came. */
struct parts {
    const char *signed_text; /* "header.claims" */
    size_t signed_len;
    struct decoded header, claims, signature;
};

/* --- taking it apart --- */

static bool decode_part(const char *text, size_t len, struct decoded *out)
{
    return base64url_decode(text, len, &out->at, &out->len) == STATUS_OK;
}

static bool split(const char *token, struct parts *out)
{
    const char *first = strchr(token, '.'), *second = first ? strchr(first + 1, '.') : NULL;
    if (!second)
        return false;
    out->signed_text = token;
    out->signed_len = (size_t)(second - token);
    return decode_part(token, (size_t)(first - token), &out->header) &&
           decode_part(first + 1, (size_t)(second - first - 1), &out->claims) &&
           decode_part(second + 1, strlen(second + 1), &out->signature);
}

static void parts_fini(struct parts *parts)
{
    free(parts->header.at);
    free(parts->claims.at);
    free(parts->signature.at);
}

static json_t *parse_object(struct decoded text)
{
    json_t *json = json_loadb((const char *)text.at, text.len, JSON_REJECT_DUPLICATES, NULL);
    if (json_is_object(json))
        return json;
    json_decref(json);
    return NULL;
}

/* --- the header --- */

/* A media type, of which "application/" may be left out (RFC 7515 section 4.1.9); access tokens of
 * OAuth are "at+jwt" (RFC 9068 section 2.1). */
static bool typ_is_allowed(const json_t *typ)
{
    static const char prefix[] = "application/";
    if (!typ)
        return true;
    const char *text = json_string_value(typ);
    if (!text)
        return false;
    if (strncasecmp(text, prefix, sizeof(prefix) - 1) == 0)
        text += sizeof(prefix) - 1;
    return strcasecmp(text, "JWT") == 0 || strcasecmp(text, "at+jwt") == 0;
}

/* The key that the token's header names. Returns NULL and sets why if there is no such key or the
 * token's algorithm is not that of the key. The key alone decides the algorithm, so that a public
 * key is never used as a shared secret. */
static const struct token_key *choose_key(const struct key_set *keys, const json_t *header,
                                          const char **why)
{
    const json_t *kid = json_object_get(header, "kid");
    const char *alg = json_string_value(json_object_get(header, "alg"));
    bool single = key_set_is_single(keys);
    if (!single && kid && !json_is_string(kid)) {
        *why = "token invalid: kid is not a string";
        return NULL;
    }
    const struct token_key *key = key_set_find(keys, json_string_value(kid), why);
    if (!key)
        return NULL;
    *why = single ? "token invalid: its alg is not auth.algorithm"
                  : "token invalid: its alg is not that of the key";
    return alg && strcmp(alg, token_key_algorithm(key)) == 0 ? key : NULL;
}

static const char *header_wrong(const json_t *header)
{
    /* What a header calls critical must be understood (RFC 7515 section 4.1.11), and nothing is. */
    if (json_object_get(header, "crit"))
        return "token invalid: crit is not supported";
    if (!typ_is_allowed(json_object_get(header, "typ")))
        return "token invalid: typ is neither JWT nor at+jwt";
    return NULL;
}

static bool signature_fits(const struct token_key *key, const struct parts *parts)
{
    return token_key_verifies(key, parts->signed_text, parts->signed_len, parts->signature.at,
                              parts->signature.len);
}

json_t *token_claims(const struct key_set *keys, const char *token, const char **why)
{
    struct parts parts = {0};
    json_t *header = NULL, *claims = NULL;
    *why = "token invalid: not a signed JSON Web Token";
    if (split(token, &parts) && (header = parse_object(parts.header))) {
        const struct token_key *key = choose_key(keys, header, why);
        const char *wrong = key ? header_wrong(header) : NULL;
        if (wrong)
            *why = wrong;
        else if (key && !signature_fits(key, &parts))
            *why = "token invalid: the signature does not fit";
        else if (key) {
            *why = "token invalid: not a signed JSON Web Token";
            claims = parse_object(parts.claims);
        }
    }
    json_decref(header);
    parts_fini(&parts);
    return claims;
}
