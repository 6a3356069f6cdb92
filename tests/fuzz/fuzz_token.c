/*
 * Tokens: one without a valid signature is refused, whatever its header. For a signed one the
 * claims decide, and a second reader of the claims must agree.
 *
 * The clock stands, so that an input means the same for ever.
 */
#include <assert.h>
#include <jansson.h>
#include <math.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/pem.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "front/front_private.h"
#include "fuzz.h"

static const char secret[] = "a secret that is in nobody's dictionary: 5up3r-s3cr3t-4nd-l0ng";
static char *public_key; /* PEM */

static struct service service = {.refs = 1, .name = (char[]){"svc"}};
static const struct target target = {
    .service = &service, .user = (char[]){"alice"}, .vin = (char[]){"VIN1"}};

/* Takes the key over. */
static char *pem_of(EVP_PKEY *key)
{
    BIO *bio = BIO_new(BIO_s_mem());
    char *text;
    if (!key || !bio || PEM_write_bio_PUBKEY(bio, key) != 1)
        abort();
    long len = BIO_get_mem_data(bio, &text);
    char *pem = strndup(text, (size_t)len);
    BIO_free(bio);
    EVP_PKEY_free(key);
    return pem;
}

/* Any keys for ES256 and EdDSA, whose tokens are not signed here. Kept for good. */
static struct key_set *others(const char *algorithm)
{
    static struct key_set *p256, *ed25519;
    if (!p256) {
        char *pem = pem_of(EVP_EC_gen("P-256"));
        p256 = key_set_of_pem("ES256", pem);
        free(pem);
        pem = pem_of(EVP_PKEY_Q_keygen(NULL, NULL, "ED25519"));
        ed25519 = key_set_of_pem("EdDSA", pem);
        free(pem);
    }
    return strcmp(algorithm, "ES256") == 0 ? p256 : ed25519;
}

/* Kept for good. */
static struct key_set *keys_of(const char *algorithm)
{
    static struct key_set *secrets[3], *rsa;
    if (!rsa)
        rsa = key_set_of_pem("RS256", public_key);
    if (strncmp(algorithm, "HS", 2) != 0)
        return strcmp(algorithm, "RS256") == 0 ? rsa : others(algorithm);
    size_t i = algorithm[2] == '2' ? 0 : algorithm[2] == '3' ? 1 : 2;
    if (!secrets[i])
        secrets[i] = key_set_of_secret(algorithm, secret);
    return secrets[i];
}

static struct conf conf_of(const char *algorithm, unsigned flags)
{
    static char audience[] = "vinhub", issuer[] = "https://issuer", none[] = "",
                any[] = "https://a";
    static char *origins[] = {any};
    struct conf conf = {.origins = origins, .origins_len = (flags & 4) != 0};
    conf.auth.mode = AUTH_JWT;
    conf.auth.algorithm = (char *)(uintptr_t)algorithm;
    conf.auth.keys = keys_of(algorithm);
    conf.auth.audience = (flags & 1) != 0 ? audience : none;
    conf.auth.issuer = (flags & 2) != 0 ? issuer : none;
    return conf;
}

static const char *check(const struct conf *conf, const char *field, struct slice value,
                         uint64_t *ends_ms)
{
    struct http_head head = {.len = 1};
    head.names[0] = (struct http_text){field, strlen(field)};
    head.values[0] = (struct http_text){value.at, value.len};
    struct grant grant;
    const char *why;
    (void)auth_check(conf, conf->auth.keys, &head, &target, &grant, &why);
    *ends_ms = grant.ends_ms;
    grant_fini(&grant);
    return why;
}

/* --- tokens that nobody signed --- */

static void made_up(struct fuzz_input *input)
{
    static const char *const algorithms[] = {"HS256", "HS384", "HS512", "RS256", "ES256", "EdDSA"};
    static const char *const fields[] = {"Sec-WebSocket-Protocol", "Cookie", "Authorization"};
    const char *algorithm = algorithms[fuzz_below(input, 6)];
    struct conf conf = conf_of(algorithm, fuzz_byte(input));
    const char *field = fields[fuzz_below(input, 3)];
    struct slice value = fuzz_rest(input);
    void *exact = fuzz_copy(value);
    uint64_t ends_ms;
    assert(check(&conf, field, (struct slice){exact, value.len}, &ends_ms));
    free(exact);
}

/* --- signed ones --- */

static size_t base64url(const void *bytes, size_t len, char *out)
{
    int n = EVP_EncodeBlock((unsigned char *)out, bytes, (int)len);
    while (n > 0 && out[n - 1] == '=')
        n--;
    for (int i = 0; i < n; i++)
        out[i] = out[i] == '+' ? '-' : out[i] == '/' ? '_' : out[i];
    out[n] = '\0';
    return (size_t)n;
}

static char *sign(struct slice header, struct slice claims, const char *key)
{
    static const char lead[] = "bearer, ";
    char *text = malloc(sizeof(lead) + (header.len + claims.len) * 2 + 128);
    size_t start = sizeof(lead) - 1, len = start;
    memcpy(text, lead, start);
    len += base64url(header.at, header.len, text + len);
    text[len++] = '.';
    len += base64url(claims.at, claims.len, text + len);
    unsigned char mac[EVP_MAX_MD_SIZE];
    unsigned mac_len;
    HMAC(EVP_sha256(), key, (int)strlen(key), (unsigned char *)text + start, len - start, mac,
         &mac_len);
    text[len++] = '.';
    base64url(mac, mac_len, text + len);
    return text;
}

static bool covers_vin(const json_t *vins)
{
    size_t i;
    json_t *item;
    json_array_foreach(vins, i, item)
    {
        const char *rule = json_string_value(item);
        size_t len = json_string_length(item);
        if (rule && len > 0 && rule[len - 1] == '*' && len - 1 <= strlen(target.vin) &&
            memcmp(rule, target.vin, len - 1) == 0)
            return true;
        if (rule && len == strlen(target.vin) && memcmp(rule, target.vin, len) == 0)
            return true;
    }
    return false;
}

static bool says(const json_t *value, const char *text)
{
    return json_is_string(value) && json_string_length(value) == strlen(text) &&
           strcmp(json_string_value(value), text) == 0;
}

static bool lists(const json_t *list, const char *text)
{
    bool found = false;
    for (size_t i = 0; i < json_array_size(list); i++)
        found = found || says(json_array_get(list, i), text);
    return found;
}

/* Whether the claims are accepted, by contract section 8. */
static bool are_good(const json_t *claims, const struct conf *conf)
{
    const json_t *exp = json_object_get(claims, "exp"), *nbf = json_object_get(claims, "nbf"),
                 *aud = json_object_get(claims, "aud"),
                 *services = json_object_get(claims, "services");
    double now_s = (double)FUZZ_UNIX_MS / 1000;
    bool timely = json_is_number(exp) && json_number_value(exp) > now_s - 5 &&
                  (!nbf || (json_is_number(nbf) && json_number_value(nbf) <= now_s + 5));
    bool meant = conf->auth.audience[0] == '\0' || says(aud, conf->auth.audience) ||
                 lists(aud, conf->auth.audience);
    bool issued = conf->auth.issuer[0] == '\0' ||
                  says(json_object_get(claims, "iss"), conf->auth.issuer);
    return timely && meant && issued && says(json_object_get(claims, "sub"), target.user) &&
           covers_vin(json_object_get(claims, "vins")) &&
           (!services || lists(services, service.name));
}

static void check_end(const json_t *claims, uint64_t ends_ms)
{
    double exp_s = json_number_value(json_object_get(claims, "exp"));
    double left_ms = exp_s * 1000 - (double)FUZZ_UNIX_MS;
    if (left_ms <= 0)
        left_ms += 5000; /* taken within the leeway */
    /* A token of thirty years counts as one without an end. */
    assert(ends_ms == UINT64_MAX ? left_ms > 900e9 : fabs((double)ends_ms - left_ms) < 10);
}

static void check_claims(struct slice bytes, const struct conf *conf, bool let_in, uint64_t ends_ms)
{
    json_t *claims = json_loadb(bytes.at, bytes.len, JSON_REJECT_DUPLICATES, NULL);
    assert(let_in == (json_is_object(claims) && are_good(claims, conf)));
    if (let_in)
        check_end(claims, ends_ms);
    json_decref(claims);
}

static void check_header(struct slice bytes)
{
    json_t *header = json_loadb(bytes.at, bytes.len, JSON_REJECT_DUPLICATES, NULL);
    assert(says(json_object_get(header, "alg"), "HS256") && !json_object_get(header, "crit"));
    json_decref(header);
}

static const char usual_header[] = "{\"alg\":\"HS256\",\"typ\":\"JWT\"}";

static void up_attempt_signed(struct slice header, struct slice claims, unsigned flags)
{
    struct conf conf = conf_of("HS256", flags);
    char *token = sign(header, claims, secret);
    uint64_t ends_ms;
    bool let_in = !check(&conf, "Sec-WebSocket-Protocol", slice_of(token), &ends_ms);
    if (let_in)
        check_header(header);
    if (let_in || header.at == usual_header)
        check_claims(claims, &conf, let_in, ends_ms);
    free(token);

    /* The public key is known to all: it must not serve as an HS secret. */
    struct conf asymmetric = conf_of("RS256", 0);
    token = sign(header, claims, public_key);
    assert(check(&asymmetric, "Sec-WebSocket-Protocol", slice_of(token), &ends_ms));
    free(token);
}

static void signed_claims(struct fuzz_input *input)
{
    unsigned flags = fuzz_byte(input);
    up_attempt_signed(slice_of(usual_header), fuzz_rest(input), flags);
}

static void signed_header(struct fuzz_input *input)
{
    static const char claims[] = "{\"exp\":1700000100,\"sub\":\"alice\",\"vins\":[\"*\"]}";
    up_attempt_signed(fuzz_rest(input), slice_of(claims), 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static void (*const parts[])(struct fuzz_input *) = {made_up, signed_claims, signed_header};
    if (!public_key)
        public_key = pem_of(EVP_RSA_gen(2048));
    fuzz_now_ms = 0;
    struct fuzz_input input = {data, len};
    parts[fuzz_below(&input, sizeof(parts) / sizeof(*parts))](&input);
    return 0;
}
