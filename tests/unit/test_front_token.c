/* Tokens: the examples of the RFCs, and tokens that must be refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/pem.h>
#include <stdlib.h>
#include <string.h>

#include "front/front_token.h"
#include "rfc_keys.h"

#define LEN(array) (sizeof(array) / sizeof((array)[0]))

static struct key_set *set_of(const char *text)
{
    struct key_set *set = NULL;
    char why[KEY_SET_WHY_BYTES];
    if (key_set_parse(text, strlen(text), NULL, NULL, &set, why) != STATUS_OK)
        fail_msg("%s", why);
    return set;
}

/* NULL: the token gives claims; else why it is refused. */
static const char *verdict(const struct key_set *keys, const char *token)
{
    const char *why = NULL;
    json_t *claims = token_claims(keys, token, &why);
    if (!claims)
        return why;
    json_decref(claims);
    return NULL;
}

#define OCT   JWK_OCT(RFC7515_A1_K, ALG("HS256"))
#define RSA   JWK_RSA(RFC7515_A2_N, "")
#define P256  JWK_P256(RFC7515_A3_X, RFC7515_A3_Y, "")
#define EDDSA JWK_ED25519(RFC8037_X, "")
/* The verdict on a text that is signed correctly and is not JSON. */
#define NO_CLAIMS "token invalid: not a signed JSON Web Token"
#define UNFIT     "token invalid: the signature does not fit"
#define OTHER_ALG "token invalid: its alg is not that of the key"
#define NO_KID    "token invalid: it has no kid, and there are several keys"

static void the_examples_of_the_rfcs(void **state)
{
    (void)state;
    static const struct {
        const char *name, *keys, *token, *wanted; /* wanted NULL: it gives claims */
    } cases[] = {
        {"7515 A.1", JWKS(OCT), RFC7515_A1, NULL},
        {"7515 A.2", JWKS(RSA), RFC7515_A2, NULL},
        {"7515 A.3", JWKS(P256), RFC7515_A3, NULL},
        {"7515 A.5", JWKS(OCT), RFC7515_A5, NO_CLAIMS},
        {"8037 A.4", JWKS(EDDSA), RFC8037_A4, NO_CLAIMS},
        {"8037 A.1, a private key", JWKS(JWK_ED25519(RFC8037_X, ",\"d\":\"" RFC8037_D "\"")),
         RFC8037_A4, NO_CLAIMS},
        {"7517 A.1, another key", RFC7517_A1, RFC7515_A2, UNFIT},
        {"7517 A.2, another key", RFC7517_A2, RFC7515_A2, UNFIT},
        {"7515 A.1 by the others", JWKS(RSA), RFC7515_A1, OTHER_ALG},
        {"7515 A.1 by the others", JWKS(P256), RFC7515_A1, OTHER_ALG},
        {"7515 A.1 by the others", JWKS(EDDSA), RFC7515_A1, OTHER_ALG},
        {"7515 A.2 by the others", JWKS(OCT), RFC7515_A2, OTHER_ALG},
        {"7515 A.3 by the others", JWKS(RSA), RFC7515_A3, OTHER_ALG},
        {"7515 A.1 for HS384", JWKS(JWK_OCT(RFC7515_A1_K, ALG("HS384"))), RFC7515_A1, OTHER_ALG},
        {"several keys", JWKS(OCT "," RSA), RFC7515_A1, NO_KID},
        {"a use of its own leaves one", JWKS(OCT "," JWK_RSA(RFC7515_A2_N, ",\"use\":\"enc\"")),
         RFC7515_A1, NULL},
        {"other claims", JWKS(OCT), RFC7515_A1_HEADER ".eyJzdWIiOiJhIn0." RFC7515_A1_SIGNATURE,
         UNFIT},
        {"no signature", JWKS(OCT), RFC7515_A1_HEADER "." RFC7515_CLAIMS ".", NO_CLAIMS},
        {"half a signature", JWKS(RSA), RFC7515_A2_HEADER "." RFC7515_CLAIMS ".cC4h", UNFIT},
        {"stray bits", JWKS(OCT),
         RFC7515_A1_HEADER "." RFC7515_CLAIMS ".dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXl",
         NO_CLAIMS},
        {"padding", JWKS(OCT), RFC7515_A1 "=", NO_CLAIMS},
        {"a part too many", JWKS(OCT), RFC7515_A1 ".AAAA", NO_CLAIMS},
        {"nothing", JWKS(OCT), "", NO_CLAIMS},
        {"dots", JWKS(OCT), "..", NO_CLAIMS},
    };
    for (size_t i = 0; i < LEN(cases); i++) {
        struct key_set *keys = set_of(cases[i].keys);
        const char *got = verdict(keys, cases[i].token);
        if ((!got) != (!cases[i].wanted) || (got && strcmp(got, cases[i].wanted) != 0))
            fail_msg("%s: %s", cases[i].name, got ? got : "let in");
        key_set_unref(keys);
    }
}

/* With its last byte changed the Ed25519 signature no longer fits. */
static void a_broken_signature_is_told_from_a_good_one(void **state)
{
    (void)state;
    struct key_set *keys = set_of(JWKS(EDDSA));
    char *token = strdup(RFC8037_A4);
    token[strlen(token) - 4] ^= 1;
    assert_string_equal(verdict(keys, token), UNFIT);
    free(token);
    key_set_unref(keys);
}

/* --- headers of our own, signed with a secret --- */

static size_t encode(const void *bytes, size_t len, char *out)
{
    int n = EVP_EncodeBlock((unsigned char *)out, bytes, (int)len);
    while (n > 0 && out[n - 1] == '=')
        n--;
    for (int i = 0; i < n; i++)
        out[i] = out[i] == '+' ? '-' : out[i] == '/' ? '_' : out[i];
    return (size_t)n;
}

static const char *sign(const char *header, const void *secret, size_t secret_len)
{
    static char token[4096];
    unsigned char mac[EVP_MAX_MD_SIZE];
    unsigned mac_len = 0;
    size_t len = encode(header, strlen(header), token);
    token[len++] = '.';
    len += encode("{\"sub\":\"a\"}", 11, token + len);
    assert_non_null(
        HMAC(EVP_sha256(), secret, (int)secret_len, (unsigned char *)token, len, mac, &mac_len));
    token[len++] = '.';
    len += encode(mac, mac_len, token + len);
    token[len] = '\0';
    return token;
}

#define SECRET   "0123456789abcdef0123456789abcdef"
#define SECRET_K "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY"

static void the_header_names_key_and_algorithm(void **state)
{
    (void)state;
    static const struct {
        const char *header, *wanted;
    } cases[] = {
        {"{\"alg\":\"HS256\",\"kid\":\"s\"}", NULL},
        {"{\"alg\":\"HS256\",\"kid\":\"s\",\"typ\":\"JWT\",\"jku\":\"https://evil/\"}", NULL},
        {"{\"alg\":\"HS256\",\"kid\":\"p\"}", OTHER_ALG},
        {"{\"alg\":\"ES256\",\"kid\":\"p\"}", UNFIT},
        {"{\"alg\":\"ES256\",\"kid\":\"s\"}", OTHER_ALG},
        {"{\"alg\":\"HS512\",\"kid\":\"s\"}", OTHER_ALG},
        {"{\"alg\":\"none\",\"kid\":\"s\"}", OTHER_ALG},
        {"{\"alg\":\"hs256\",\"kid\":\"s\"}", OTHER_ALG},
        {"{\"kid\":\"s\"}", OTHER_ALG},
        {"{\"alg\":\"HS256\"}", NO_KID},
        {"{\"alg\":\"HS256\",\"kid\":\"\"}", "token invalid: its kid names no key"},
        {"{\"alg\":\"HS256\",\"kid\":\"S\"}", "token invalid: its kid names no key"},
        {"{\"alg\":\"HS256\",\"kid\":[\"s\"]}", "token invalid: kid is not a string"},
        {"{\"alg\":\"HS256\",\"kid\":null}", "token invalid: kid is not a string"},
        {"{\"alg\":\"HS256\",\"kid\":\"s\",\"kid\":\"p\"}", NO_CLAIMS},
        {"{\"alg\":\"HS256\",\"kid\":\"s\\u0000\"}", NO_CLAIMS},
        {"{\"alg\":\"HS256\",\"kid\":\"s\",\"crit\":[\"exp\"]}",
         "token invalid: crit is not supported"},
        /* A key inside the token is ignored. */
        {"{\"alg\":\"HS256\",\"jwk\":{\"kty\":\"oct\",\"k\":\"" SECRET_K "\"}}", NO_KID},
    };
    struct key_set *keys = set_of(JWKS(JWK_OCT(SECRET_K, ALG("HS256") KID("s")) "," JWK_P256(
        RFC7515_A3_X, RFC7515_A3_Y, KID("p"))));
    for (size_t i = 0; i < LEN(cases); i++) {
        const char *got = verdict(keys, sign(cases[i].header, SECRET, strlen(SECRET)));
        if ((!got) != (!cases[i].wanted) || (got && strcmp(got, cases[i].wanted) != 0))
            fail_msg("%s: %s", cases[i].header, got ? got : "let in");
    }
    key_set_unref(keys);
}

/* A public key is known to all, so in none of its forms may it serve as an HS secret. */
static void a_public_key_is_no_secret(void **state)
{
    (void)state;
    EVP_PKEY *key = EVP_EC_gen("P-256");
    BIO *bio = BIO_new(BIO_s_mem());
    char *pem;
    assert_int_equal(PEM_write_bio_PUBKEY(bio, key), 1);
    long len = BIO_get_mem_data(bio, &pem);
    char *text = strndup(pem, (size_t)len);
    struct key_set *keys = key_set_of_pem("ES256", text);
    assert_string_equal(verdict(keys, sign("{\"alg\":\"HS256\"}", text, (size_t)len)),
                        "token invalid: its alg is not auth.algorithm");
    assert_string_equal(verdict(keys, sign("{\"alg\":\"ES256\"}", text, (size_t)len)), UNFIT);
    key_set_unref(keys);
    free(text);
    BIO_free(bio);
    EVP_PKEY_free(key);

    static const char jwks[] = JWKS(EDDSA);
    keys = set_of(jwks);
    assert_string_equal(verdict(keys, sign("{\"alg\":\"HS256\"}", jwks, strlen(jwks))), OTHER_ALG);
    assert_string_equal(verdict(keys, sign("{\"alg\":\"EdDSA\"}", RFC8037_X, strlen(RFC8037_X))),
                        UNFIT);
    key_set_unref(keys);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_examples_of_the_rfcs),
        cmocka_unit_test(a_broken_signature_is_told_from_a_good_one),
        cmocka_unit_test(the_header_names_key_and_algorithm),
        cmocka_unit_test(a_public_key_is_no_secret),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
