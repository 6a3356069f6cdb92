#include "front/front_token.h"

#include <openssl/crypto.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/pem.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define ES256_HALF 32 /* bytes of r and of s (RFC 7518 section 3.4) */

/* Bytes that a part of the token stands for. */
struct bytes {
    unsigned char *at;
    size_t len;
};

/* "header.claims.signature", as it came. */
struct parts {
    const char *signed_text; /* "header.claims" */
    size_t signed_len;
    struct bytes header, claims, signature;
};

/* --- taking it apart --- */

static bool is_base64url(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        char c = text[i];
        if (!((c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') ||
              c == '-' || c == '_'))
            return false;
    }
    return len > 0 && len % 4 != 1;
}

/* base64url without padding (RFC 7515 section 2). False: not that, or no memory. */
static bool decode_part(const char *text, size_t len, struct bytes *out)
{
    size_t padded = (len + 3) / 4 * 4;
    if (!is_base64url(text, len))
        return false;
    unsigned char *copy = malloc(padded), *plain = malloc(padded + 1);
    if (!copy || !plain) {
        free(copy);
        free(plain);
        return false;
    }
    for (size_t i = 0; i < padded; i++) {
        char c = i < len ? text[i] : '=';
        copy[i] = (unsigned char)(c == '-' ? '+' : c == '_' ? '/' : c);
    }
    int n = EVP_DecodeBlock(plain, copy, (int)padded);
    free(copy);
    if (n < 0) {
        free(plain);
        return false;
    }
    *out = (struct bytes){plain, (size_t)n - (padded - len)};
    return true;
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

static json_t *parse_object(struct bytes text)
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

static const char *header_wrong(const json_t *header, const char *algorithm)
{
    const char *alg = json_string_value(json_object_get(header, "alg"));
    if (!alg || strcmp(alg, algorithm) != 0)
        return "token invalid: its alg is not auth.algorithm";
    /* What a header calls critical must be understood (RFC 7515 section 4.1.11), and nothing is. */
    if (json_object_get(header, "crit"))
        return "token invalid: crit is not supported";
    if (!typ_is_allowed(json_object_get(header, "typ")))
        return "token invalid: typ is neither JWT nor at+jwt";
    return NULL;
}

/* --- the signature --- */

static bool hmac_fits(const EVP_MD *hash, const char *secret, const struct parts *parts)
{
    unsigned char mac[EVP_MAX_MD_SIZE];
    unsigned len = 0;
    return HMAC(hash, secret, (int)strlen(secret), (const unsigned char *)parts->signed_text,
                parts->signed_len, mac, &len) &&
           parts->signature.len == len && CRYPTO_memcmp(mac, parts->signature.at, len) == 0;
}

/* r and s side by side become what OpenSSL reads: a sequence in DER. */
static bool es256_to_der(struct bytes raw, struct bytes *out)
{
    if (raw.len != 2 * ES256_HALF)
        return false;
    ECDSA_SIG *pair = ECDSA_SIG_new();
    BIGNUM *r = BN_bin2bn(raw.at, ES256_HALF, NULL),
           *s = BN_bin2bn(raw.at + ES256_HALF, ES256_HALF, NULL);
    if (!pair || !r || !s || ECDSA_SIG_set0(pair, r, s) != 1) {
        BN_free(r);
        BN_free(s);
        ECDSA_SIG_free(pair);
        return false;
    }
    int len = i2d_ECDSA_SIG(pair, &out->at);
    ECDSA_SIG_free(pair);
    out->len = len > 0 ? (size_t)len : 0;
    return len > 0;
}

static bool verifies(EVP_PKEY *key, const EVP_MD *hash, struct bytes signature,
                     const struct parts *parts)
{
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    bool fits = context && EVP_DigestVerifyInit(context, NULL, hash, NULL, key) == 1 &&
                EVP_DigestVerify(context, signature.at, signature.len,
                                 (const unsigned char *)parts->signed_text, parts->signed_len) == 1;
    EVP_MD_CTX_free(context);
    return fits;
}

/* The key is of the kind that the algorithm is for: the configuration was checked for it. */
static bool public_key_fits(const char *algorithm, const char *pem, const struct parts *parts)
{
    BIO *bio = BIO_new_mem_buf(pem, -1);
    EVP_PKEY *key = bio ? PEM_read_bio_PUBKEY(bio, NULL, NULL, NULL) : NULL;
    BIO_free(bio);
    if (!key)
        return false;
    bool fits;
    if (strcmp(algorithm, "ES256") == 0) {
        struct bytes der = {NULL, 0};
        fits = es256_to_der(parts->signature, &der) && verifies(key, EVP_sha256(), der, parts);
        OPENSSL_free(der.at);
    } else {
        bool hashes_itself = strcmp(algorithm, "EdDSA") == 0; /* RFC 8032: no hash beside it */
        fits = verifies(key, hashes_itself ? NULL : EVP_sha256(), parts->signature, parts);
    }
    EVP_PKEY_free(key);
    return fits;
}

/* The algorithm is the configured one, never the token's: a public key is no shared secret. */
static bool signature_fits(const struct conf *conf, const struct parts *parts)
{
    const char *algorithm = conf->auth.algorithm;
    if (strncmp(algorithm, "HS", 2) != 0)
        return conf->auth.public_key && public_key_fits(algorithm, conf->auth.public_key, parts);
    const EVP_MD *hash = strcmp(algorithm, "HS256") == 0   ? EVP_sha256()
                         : strcmp(algorithm, "HS384") == 0 ? EVP_sha384()
                                                           : EVP_sha512();
    return conf->auth.secret && hmac_fits(hash, conf->auth.secret, parts);
}

json_t *token_claims(const struct conf *conf, const char *token, const char **why)
{
    struct parts parts = {0};
    json_t *header = NULL, *claims = NULL;
    *why = "token invalid: not a signed JSON Web Token";
    if (split(token, &parts) && (header = parse_object(parts.header))) {
        const char *wrong = header_wrong(header, conf->auth.algorithm);
        if (wrong)
            *why = wrong;
        else if (!signature_fits(conf, &parts))
            *why = "token invalid: the signature does not fit";
        else
            claims = parse_object(parts.claims);
    }
    json_decref(header);
    parts_fini(&parts);
    return claims;
}
