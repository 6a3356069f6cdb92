/*
 * JWK Sets: in any set that is accepted the kids differ, and each key is for an algorithm of its
 * kind. A second reader finds the same keys, and signatures with the secrets it found are verified;
 * others are not. No message holds a member of a key.
 */
#include <assert.h>
#include <jansson.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdlib.h>
#include <string.h>

#include "common/key_set.h"
#include "fuzz.h"

#define SHOWS_BYTES 12 /* a member of this length is in no message by chance */

static const char text[] = "header.claims";

static bool says(const json_t *value, const char *word)
{
    return json_is_string(value) && strcmp(json_string_value(value), word) == 0;
}

static bool lists(const json_t *list, const char *word)
{
    for (size_t i = 0; i < json_array_size(list); i++) {
        if (says(json_array_get(list, i), word))
            return true;
    }
    return false;
}

/* --- what is said --- */

/* A kid is shown on purpose, even if it equals a member of another key. */
static bool is_in_a_kid(const json_t *list, const char *member)
{
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *kid = json_object_get(json_array_get(list, i), "kid");
        if (json_is_string(kid) && strstr(json_string_value(kid), member))
            return true;
    }
    return false;
}

static void assert_hides_keys(const json_t *list, const char *said)
{
    static const char *const members[] = {"k", "d", "n", "x", "y", "e", "p", "q"};
    for (size_t i = 0; i < json_array_size(list); i++) {
        for (size_t j = 0; j < sizeof(members) / sizeof(*members); j++) {
            const json_t *jwk = json_array_get(list, i);
            const char *member = json_string_value(json_object_get(jwk, members[j]));
            assert(!member || strlen(member) < SHOWS_BYTES || !strstr(said, member) ||
                   is_in_a_kid(list, member));
        }
    }
}

static void assert_is_line(const char *said)
{
    assert(said[0] != '\0' && strlen(said) < KEY_SET_WHY_BYTES);
    for (const char *c = said; *c; c++)
        assert(*c >= ' ' && *c <= '~');
}

static void on_note(void *ctx, const char *said)
{
    assert_is_line(said);
    assert_hides_keys(ctx, said);
}

/* --- a second reading --- */

/* Whether a key is for that algorithm by the contract; its key material is not looked at. */
static bool may_be_for(const json_t *jwk, const char *algorithm)
{
    const json_t *kty = json_object_get(jwk, "kty"), *crv = json_object_get(jwk, "crv"),
                 *use = json_object_get(jwk, "use"), *alg = json_object_get(jwk, "alg"),
                 *ops = json_object_get(jwk, "key_ops");
    bool kind = algorithm[0] == 'R'   ? says(kty, "RSA")
                : algorithm[0] == 'E' ? algorithm[1] == 'S'
                                            ? says(kty, "EC") && says(crv, "P-256")
                                            : says(kty, "OKP") && says(crv, "Ed25519")
                                      : says(kty, "oct") && alg;
    bool private = !says(kty, "oct") && json_object_get(jwk, "d");
    return kind && (!use || says(use, "sig")) && (!alg || says(alg, algorithm)) &&
           (!ops || lists(ops, "verify") || (private && lists(ops, "sign")));
}

/* OpenSSL's reader of base64, which takes more than ours. */
static size_t secret_of(const json_t *jwk, unsigned char **out)
{
    const char *k = json_string_value(json_object_get(jwk, "k"));
    size_t len = strlen(k), padded = (len + 3) / 4 * 4;
    unsigned char *copy = malloc(padded + 1);
    *out = malloc(padded + 1);
    for (size_t i = 0; i < padded; i++)
        copy[i] = (unsigned char)(i >= len ? '=' : k[i] == '-' ? '+' : k[i] == '_' ? '/' : k[i]);
    int n = EVP_DecodeBlock(*out, copy, (int)padded);
    assert(n > 0);
    free(copy);
    return (size_t)n - (padded - len);
}

static void check_secret(const struct token_key *key, const json_t *jwk)
{
    const char *algorithm = token_key_algorithm(key);
    const EVP_MD *hash = algorithm[2] == '2'   ? EVP_sha256()
                         : algorithm[2] == '3' ? EVP_sha384()
                                               : EVP_sha512();
    unsigned char mac[EVP_MAX_MD_SIZE], *secret;
    unsigned len;
    size_t secret_len = secret_of(jwk, &secret);
    assert(
        HMAC(hash, secret, (int)secret_len, (const unsigned char *)text, strlen(text), mac, &len));
    free(secret);
    assert(token_key_verifies(key, text, strlen(text), mac, len));
    assert(!token_key_verifies(key, text, strlen(text), mac, len - 1));
    mac[0] ^= 1;
    assert(!token_key_verifies(key, text, strlen(text), mac, len));
}

/* The public parts of a key must not serve as an HS secret. */
static void check_public(const struct token_key *key, const json_t *jwk)
{
    static const char *const members[] = {"n", "x"};
    unsigned char mac[EVP_MAX_MD_SIZE];
    unsigned len;
    for (size_t i = 0; i < sizeof(members) / sizeof(*members); i++) {
        const char *known = json_string_value(json_object_get(jwk, members[i]));
        if (!known)
            continue;
        assert(HMAC(EVP_sha256(), known, (int)strlen(known), (const unsigned char *)text,
                    strlen(text), mac, &len));
        assert(!token_key_verifies(key, text, strlen(text), mac, len));
    }
}

static void check_key(const struct token_key *key, const json_t *jwk)
{
    const char *algorithm = token_key_algorithm(key);
    assert(may_be_for(jwk, algorithm));
    if (algorithm[0] == 'H')
        check_secret(key, jwk);
    else
        check_public(key, jwk);
}

static void check_set(const struct key_set *set, const json_t *list)
{
    const char *why = NULL;
    size_t named = 0, len = key_set_len(set);
    assert(len > 0 && len <= KEY_SET_KEYS_MAX && len <= json_array_size(list));
    assert(!key_set_is_single(set) && (key_set_find(set, NULL, &why) != NULL) == (len == 1));
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *jwk = json_array_get(list, i);
        const char *kid = json_string_value(json_object_get(jwk, "kid"));
        const struct token_key *key = kid ? key_set_find(set, kid, &why) : NULL;
        for (size_t j = 0; kid && j < i; j++)
            assert(!says(json_object_get(json_array_get(list, j), "kid"), kid));
        if (!key)
            continue;
        named++;
        check_key(key, jwk);
    }
    assert(named <= len);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    char *exact = malloc(len > 0 ? len : 1), why[KEY_SET_WHY_BYTES] = "";
    if (len > 0)
        memcpy(exact, data, len);
    json_t *root = json_loadb(exact, len, JSON_REJECT_DUPLICATES, NULL);
    json_t *list = json_object_get(root, "keys");
    struct key_set *set = NULL;
    enum status status = key_set_parse(exact, len, on_note, list, &set, why);
    if (status == STATUS_OK) {
        check_set(set, list);
        key_set_unref(set);
    } else {
        assert(status == STATUS_INVALID && !set);
        assert_is_line(why);
        assert_hides_keys(list, why);
    }
    json_decref(root);
    free(exact);
    return 0;
}
