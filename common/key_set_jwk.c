/*
 * One key of a JWK Set (RFC 7517, RFC 7518 section 6, RFC 8037): what it is for, and what it is.
 */
#include "common/key_set_private.h"

#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/param_build.h>
#include <stdlib.h>
#include <string.h>

#include "common/base64.h"

enum {
    P256_BYTES = 32, /* of a coordinate (RFC 7518 section 6.2.1.2) */
    ED25519_BYTES = 32,
    RSA_BITS_MIN = 2048, /* RFC 7518 section 3.3 */
    RSA_BITS_MAX = 8192, /* checking a signature takes 0.2 ms at this size */
    RSA_EXPONENT_BYTES = 8,
};

struct octets {
    unsigned char *at;
    size_t len;
};

/* A kind of key, and the algorithms that it may be for, the usual one first. */
struct key_kind {
    const char *kty, *crv; /* crv NULL: the kind has none */
    const char *algorithms[4];
    bool needs_alg;
    enum jwk_verdict (*read)(const json_t *jwk, struct token_key *out, struct jwk_words *words);
};

static enum jwk_verdict flawed(struct jwk_words *words, const char *why)
{
    words->why = why;
    return JWK_FLAWED;
}

static enum jwk_verdict foreign(struct jwk_words *words, const char *why)
{
    words->why = why;
    return JWK_FOREIGN;
}

/* Returns false if the member is missing or is not base64url. octets_fini frees. */
static bool read_octets(const json_t *jwk, const char *name, struct octets *out)
{
    const json_t *value = json_object_get(jwk, name);
    return json_is_string(value) &&
           base64url_decode(json_string_value(value), json_string_length(value), &out->at,
                            &out->len) == STATUS_OK;
}

static void octets_fini(struct octets *octets)
{
    if (octets->at)
        OPENSSL_cleanse(octets->at, octets->len);
    free(octets->at);
}

static EVP_PKEY *make_public_key(const char *type, OSSL_PARAM *params)
{
    EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_from_name(NULL, type, NULL);
    EVP_PKEY *key = NULL;
    if (!context || !params || EVP_PKEY_fromdata_init(context) != 1 ||
        EVP_PKEY_fromdata(context, &key, EVP_PKEY_PUBLIC_KEY, params) != 1)
        key = NULL;
    EVP_PKEY_CTX_free(context);
    return key;
}

/* --- the kinds --- */

static EVP_PKEY *make_rsa(const struct octets *n, const struct octets *e)
{
    BIGNUM *modulus = BN_bin2bn(n->at, (int)n->len, NULL),
           *exponent = BN_bin2bn(e->at, (int)e->len, NULL);
    OSSL_PARAM_BLD *builder = OSSL_PARAM_BLD_new();
    OSSL_PARAM *params = NULL;
    if (modulus && exponent && builder &&
        OSSL_PARAM_BLD_push_BN(builder, OSSL_PKEY_PARAM_RSA_N, modulus) == 1 &&
        OSSL_PARAM_BLD_push_BN(builder, OSSL_PKEY_PARAM_RSA_E, exponent) == 1)
        params = OSSL_PARAM_BLD_to_param(builder);
    EVP_PKEY *key = make_public_key("RSA", params);
    OSSL_PARAM_free(params);
    OSSL_PARAM_BLD_free(builder);
    BN_free(modulus);
    BN_free(exponent);
    return key;
}

/* Both numbers are odd in an RSA key. With the exponent 1 every text would be its own signature. */
static bool is_rsa(const struct octets *n, const struct octets *e)
{
    return n->len <= RSA_BITS_MAX / 8 + 1 && e->len <= RSA_EXPONENT_BYTES &&
           (n->at[n->len - 1] & 1) != 0 && (e->at[e->len - 1] & 1) != 0 &&
           (e->at[e->len - 1] > 1 || e->len > 1);
}

static enum jwk_verdict read_rsa(const json_t *jwk, struct token_key *out, struct jwk_words *words)
{
    struct octets n = {0}, e = {0};
    EVP_PKEY *key = NULL;
    if (read_octets(jwk, "n", &n) && read_octets(jwk, "e", &e) && is_rsa(&n, &e))
        key = make_rsa(&n, &e);
    octets_fini(&n);
    octets_fini(&e);
    if (!key)
        return flawed(words, "n and e are not an RSA key that can be used");
    int bits = EVP_PKEY_get_bits(key);
    if (bits < RSA_BITS_MIN || bits > RSA_BITS_MAX) {
        EVP_PKEY_free(key);
        return flawed(words, "expected an RSA key of 2048 to 8192 bits");
    }
    out->public_key = key;
    return JWK_TAKEN;
}

static EVP_PKEY *make_p256(const struct octets *x, const struct octets *y)
{
    char curve[] = "P-256";
    unsigned char point[1 + 2 * P256_BYTES] = {POINT_CONVERSION_UNCOMPRESSED};
    memcpy(point + 1, x->at, P256_BYTES);
    memcpy(point + 1 + P256_BYTES, y->at, P256_BYTES);
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, curve, 0),
        OSSL_PARAM_construct_octet_string(OSSL_PKEY_PARAM_PUB_KEY, point, sizeof(point)),
        OSSL_PARAM_construct_end(),
    };
    return make_public_key("EC", params); /* refuses a point that is not on the curve */
}

static enum jwk_verdict read_p256(const json_t *jwk, struct token_key *out, struct jwk_words *words)
{
    struct octets x = {0}, y = {0};
    if (read_octets(jwk, "x", &x) && read_octets(jwk, "y", &y) && x.len == P256_BYTES &&
        y.len == P256_BYTES)
        out->public_key = make_p256(&x, &y);
    octets_fini(&x);
    octets_fini(&y);
    return out->public_key ? JWK_TAKEN : flawed(words, "x and y are not a point on P-256");
}

static enum jwk_verdict read_ed25519(const json_t *jwk, struct token_key *out,
                                     struct jwk_words *words)
{
    struct octets x = {0};
    if (read_octets(jwk, "x", &x) && x.len == ED25519_BYTES)
        out->public_key = EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, NULL, x.at, x.len);
    octets_fini(&x);
    return out->public_key ? JWK_TAKEN : flawed(words, "x is not an Ed25519 key of 32 bytes");
}

static enum jwk_verdict read_secret(const json_t *jwk, struct token_key *out,
                                    struct jwk_words *words)
{
    struct octets k = {0};
    if (!read_octets(jwk, "k", &k))
        return flawed(words, "k is not a secret in base64url");
    out->secret = k.at;
    out->secret_len = k.len;
    if (k.len < strtoul(out->algorithm + 2, NULL, 10) / 8)
        words->warning = "the secret is shorter than the hash of its alg (RFC 7518 section 3.2)";
    return JWK_TAKEN;
}

static const struct key_kind kinds[] = {
    {"RSA", NULL, {"RS256"}, false, read_rsa},
    {"EC", "P-256", {"ES256"}, false, read_p256},
    {"OKP", "Ed25519", {"EdDSA"}, false, read_ed25519},
    {"oct", NULL, {"HS256", "HS384", "HS512"}, true, read_secret},
};

/* --- what a key is for --- */

static bool is_text(const json_t *value, const char *text)
{
    return json_is_string(value) && strcmp(json_string_value(value), text) == 0;
}

static const struct key_kind *kind_of(const json_t *jwk)
{
    const json_t *kty = json_object_get(jwk, "kty"), *crv = json_object_get(jwk, "crv");
    for (size_t i = 0; i < sizeof(kinds) / sizeof(*kinds); i++) {
        if (is_text(kty, kinds[i].kty) && (!kinds[i].crv || is_text(crv, kinds[i].crv)))
            return &kinds[i];
    }
    return NULL;
}

static bool is_private(const json_t *jwk, const struct key_kind *kind)
{
    return strcmp(kind->kty, "oct") != 0 && json_object_get(jwk, "d");
}

/* A private key that may sign is taken, too: its public half verifies. */
static bool ops_allow(const json_t *ops, bool private)
{
    size_t index;
    json_t *op;
    json_array_foreach(ops, index, op)
    {
        if (is_text(op, "verify") || (private && is_text(op, "sign")))
            return true;
    }
    return !ops;
}

static enum jwk_verdict check_use(const json_t *jwk, bool private, struct jwk_words *words)
{
    const json_t *use = json_object_get(jwk, "use"), *ops = json_object_get(jwk, "key_ops");
    if (use && !json_is_string(use))
        return flawed(words, "use is not a string");
    if (ops && !json_is_array(ops))
        return flawed(words, "key_ops is not a list");
    if (use && !is_text(use, "sig"))
        return foreign(words, "its use is not sig");
    return ops_allow(ops, private) ? JWK_TAKEN : foreign(words, "its key_ops do not hold verify");
}

static enum jwk_verdict choose_algorithm(const json_t *jwk, const struct key_kind *kind,
                                         const char **out, struct jwk_words *words)
{
    const json_t *alg = json_object_get(jwk, "alg");
    if (alg && !json_is_string(alg))
        return flawed(words, "alg is not a string");
    if (!alg && kind->needs_alg)
        return flawed(words, "a key of kind oct needs its alg: HS256, HS384 or HS512");
    for (size_t i = 0; i < sizeof(kind->algorithms) / sizeof(*kind->algorithms); i++) {
        if (kind->algorithms[i] && (!alg || is_text(alg, kind->algorithms[i]))) {
            *out = kind->algorithms[i];
            return JWK_TAKEN;
        }
    }
    return foreign(words, "its alg is not one that is supported for its kind");
}

enum jwk_verdict jwk_read(const json_t *jwk, struct token_key *out, struct jwk_words *words)
{
    *words = (struct jwk_words){0};
    if (!json_is_object(jwk) || !json_is_string(json_object_get(jwk, "kty")))
        return flawed(words, "expected an object with kty, a string");
    const struct key_kind *kind = kind_of(jwk);
    if (!kind)
        return foreign(words, "its kind is not one of RSA, EC on P-256, OKP with Ed25519, oct");
    struct token_key key = {0};
    enum jwk_verdict verdict = check_use(jwk, is_private(jwk, kind), words);
    if (verdict == JWK_TAKEN)
        verdict = choose_algorithm(jwk, kind, &key.algorithm, words);
    if (verdict == JWK_TAKEN)
        verdict = kind->read(jwk, &key, words);
    if (verdict != JWK_TAKEN)
        return verdict;
    if (is_private(jwk, kind))
        words->warning = "it is a private key, which no node needs; its public half is used";
    *out = key;
    return JWK_TAKEN;
}
