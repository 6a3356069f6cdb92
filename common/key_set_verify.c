/*
 * Signatures of tokens (RFC 7518 section 3, RFC 8037 section 3.1).
 */
#include <openssl/crypto.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <string.h>

#include "common/key_set_private.h"

#define ES256_HALF 32 /* bytes of r and of s (RFC 7518 section 3.4) */

struct signed_message {
    const unsigned char *text;
    size_t len;
};

struct signature {
    const unsigned char *at;
    size_t len;
};

static bool hmac_fits(const struct token_key *key, struct signed_message message,
                      struct signature signature)
{
    const EVP_MD *hash = strcmp(key->algorithm, "HS256") == 0   ? EVP_sha256()
                         : strcmp(key->algorithm, "HS384") == 0 ? EVP_sha384()
                                                                : EVP_sha512();
    unsigned char mac[EVP_MAX_MD_SIZE];
    unsigned len = 0;
    return HMAC(hash, key->secret, (int)key->secret_len, message.text, message.len, mac, &len) &&
           signature.len == len && CRYPTO_memcmp(mac, signature.at, len) == 0;
}

static bool digest_fits(EVP_PKEY *key, const EVP_MD *hash, struct signed_message message,
                        struct signature signature)
{
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    bool fits = context && EVP_DigestVerifyInit(context, NULL, hash, NULL, key) == 1 &&
                EVP_DigestVerify(context, signature.at, signature.len, message.text, message.len) ==
                    1;
    EVP_MD_CTX_free(context);
    return fits;
}

/* Converts r and s into the DER sequence that OpenSSL reads. Returns its length; 0: no memory. */
static size_t es256_to_der(struct signature raw, unsigned char **out)
{
    ECDSA_SIG *pair = ECDSA_SIG_new();
    BIGNUM *r = BN_bin2bn(raw.at, ES256_HALF, NULL),
           *s = BN_bin2bn(raw.at + ES256_HALF, ES256_HALF, NULL);
    if (!pair || !r || !s || ECDSA_SIG_set0(pair, r, s) != 1) {
        BN_free(r);
        BN_free(s);
        ECDSA_SIG_free(pair);
        return 0;
    }
    int len = i2d_ECDSA_SIG(pair, out);
    ECDSA_SIG_free(pair);
    return len > 0 ? (size_t)len : 0;
}

static bool es256_fits(EVP_PKEY *key, struct signed_message message, struct signature signature)
{
    unsigned char *der = NULL;
    if (signature.len != 2 * (size_t)ES256_HALF)
        return false;
    size_t len = es256_to_der(signature, &der);
    bool fits = len > 0 && digest_fits(key, EVP_sha256(), message, (struct signature){der, len});
    OPENSSL_free(der);
    return fits;
}

bool token_key_verifies(const struct token_key *key, const void *text, size_t len,
                        const unsigned char *signature, size_t signature_len)
{
    struct signed_message message = {text, len};
    struct signature given = {signature, signature_len};
    if (!key->public_key)
        return hmac_fits(key, message, given);
    if (strcmp(key->algorithm, "ES256") == 0)
        return es256_fits(key->public_key, message, given);
    bool hashes_itself = strcmp(key->algorithm, "EdDSA") == 0; /* RFC 8032: EdDSA hashes the text */
    return digest_fits(key->public_key, hashes_itself ? NULL : EVP_sha256(), message, given);
}
