/* Sets of keys: which keys of a JWK Set are taken, passed over or a mistake; and changed files. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/key_set.h"
#include "conf_rig.h"
#include "rfc_keys.h"

static char why[KEY_SET_WHY_BYTES];
static char notes[4096]; /* a line each */

static void on_note(void *ctx, const char *text)
{
    (void)ctx;
    size_t len = strlen(notes);
    snprintf(notes + len, sizeof(notes) - len, "%s\n", text);
}

static struct key_set *parse(const char *text)
{
    struct key_set *set = NULL;
    why[0] = notes[0] = '\0';
    enum status status = key_set_parse(text, strlen(text), on_note, NULL, &set, why);
    assert_int_equal(status == STATUS_OK, set != NULL);
    return set;
}

#define P256    JWK_P256(RFC7515_A3_X, RFC7515_A3_Y, KID("p"))
#define ED25519 JWK_ED25519(RFC8037_X, KID("e"))
/* 512 zero bits and one more: too small for RSA */
#define SMALL_N                                                                                    \
    "gAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA" \
    "AA"                                                                                           \
    "AAAAAAAQ"

/* Keys that are taken: their algorithm, and the warning about them. */
static void each_key_is_for_one_algorithm(void **state)
{
    (void)state;
    static const struct {
        const char *jwk, *algorithm, *note; /* note NULL: none */
    } cases[] = {
        {JWK_RSA(RFC7517_N, ""), "RS256", NULL},
        {JWK_RSA(RFC7517_N, ALG("RS256") ",\"use\":\"sig\""), "RS256", NULL},
        {JWK_P256(RFC7515_A3_X, RFC7515_A3_Y, ""), "ES256", NULL},
        {JWK_P256(RFC7515_A3_X, RFC7515_A3_Y, ALG("ES256") ",\"key_ops\":[\"verify\"]"), "ES256",
         NULL},
        {JWK_P256(RFC7515_A3_X, RFC7515_A3_Y,
                  ",\"key_ops\":[\"sign\",\"verify\"],\"use\":\"sig\",\"x5c\":[1]"),
         "ES256", NULL},
        {JWK_ED25519(RFC8037_X, ""), "EdDSA", NULL},
        {JWK_ED25519(RFC8037_X, ALG("EdDSA")), "EdDSA", NULL},
        {JWK_OCT(RFC7515_A1_K, ALG("HS256")), "HS256", NULL},
        {JWK_OCT(RFC7515_A1_K, ALG("HS384")), "HS384", NULL},
        {JWK_OCT(RFC7515_A1_K, ALG("HS512")), "HS512", NULL},
        {JWK_OCT("c2hvcnQ", ALG("HS256")), "HS256", "the secret is shorter"},
        {JWK_ED25519(RFC8037_X, ",\"d\":\"" RFC8037_D "\""), "EdDSA", "it is a private key"},
        {JWK_ED25519(RFC8037_X, ",\"d\":\"" RFC8037_D "\",\"key_ops\":[\"sign\"]"), "EdDSA",
         "it is a private key"},
    };
    for (size_t i = 0; i < LEN(cases); i++) {
        char text[2048];
        const char *refusal;
        snprintf(text, sizeof(text), "{\"keys\":[%s],\"more\":{}}", cases[i].jwk);
        struct key_set *set = parse(text);
        if (!set)
            fail_msg("%s: %s", cases[i].jwk, why);
        const struct token_key *key = key_set_find(set, NULL, &refusal);
        assert_string_equal(token_key_algorithm(key), cases[i].algorithm);
        if (!cases[i].note)
            assert_string_equal(notes, "");
        else
            assert_non_null(strstr(notes, cases[i].note));
        assert_null(strstr(notes, RFC8037_D));
        key_set_unref(set);
    }
}

/* Beside a good key these are passed over (with a warning if flawed); alone they are a mistake. */
static void other_keys_are_passed_over(void **state)
{
    (void)state;
    static const struct {
        const char *jwk, *reason;
        bool flawed;
    } cases[] = {
        {"{\"kty\":\"AKP\",\"alg\":\"ML-DSA-44\",\"pub\":\"AA\"}", "its kind is not one of", false},
        {"{\"kty\":\"EC\",\"crv\":\"P-521\",\"x\":\"AA\",\"y\":\"AA\"}", "its kind is not one of",
         false},
        {"{\"kty\":\"EC\",\"x\":\"AA\",\"y\":\"AA\"}", "its kind is not one of", false},
        {"{\"kty\":\"OKP\",\"crv\":\"X25519\",\"x\":\"" RFC8037_X "\"}", "its kind is not one of",
         false},
        {"{\"kty\":\"rsa\",\"n\":\"AA\"}", "its kind is not one of", false},
        {JWK_RSA(RFC7517_N, ",\"use\":\"enc\""), "its use is not sig", false},
        {JWK_RSA(RFC7517_N, ",\"use\":\"SIG\""), "its use is not sig", false},
        {JWK_RSA(RFC7517_N, ALG("PS256")), "its alg is not one", false},
        {JWK_RSA(RFC7517_N, ALG("HS256")), "its alg is not one", false},
        {JWK_RSA(RFC7517_N, ALG("none")), "its alg is not one", false},
        {JWK_P256(RFC7515_A3_X, RFC7515_A3_Y, ALG("ECDH-ES")), "its alg is not one", false},
        {JWK_ED25519(RFC8037_X, ALG("ES256")), "its alg is not one", false},
        {JWK_OCT(RFC7515_A1_K, ALG("A128KW")), "its alg is not one", false},
        {JWK_OCT(RFC7515_A1_K, ALG("RS256")), "its alg is not one", false},
        {JWK_RSA(RFC7517_N, ",\"key_ops\":[]"), "its key_ops do not hold verify", false},
        {JWK_RSA(RFC7517_N, ",\"key_ops\":[\"encrypt\"]"), "its key_ops do not hold verify", false},
        {JWK_RSA(RFC7517_N, ",\"key_ops\":[\"sign\"]"), "its key_ops do not hold verify", false},
        {JWK_OCT(RFC7515_A1_K, ALG("HS256") ",\"key_ops\":[\"sign\"]"),
         "its key_ops do not hold verify", false},
        {JWK_OCT(RFC7515_A1_K, ""), "needs its alg", true},
        {JWK_OCT("", ALG("HS256")), "k is not a secret", true},
        {JWK_OCT("a+/b", ALG("HS256")), "k is not a secret", true},
        {JWK_OCT("YWE=", ALG("HS256")), "k is not a secret", true},
        {"{\"kty\":\"oct\",\"k\":5,\"alg\":\"HS256\"}", "k is not a secret", true},
        {JWK_RSA(SMALL_N, ""), "expected an RSA key of 2048 to 8192 bits", true},
        {"{\"kty\":\"RSA\",\"n\":\"" RFC7517_N "\"}", "n and e are not an RSA key", true},
        {"{\"kty\":\"RSA\",\"n\":\"" RFC7517_N "\",\"e\":\"AQ\"}", "n and e are not an RSA key",
         true},
        {"{\"kty\":\"RSA\",\"n\":\"" RFC7517_N "\",\"e\":\"AQAC\"}", "n and e are not an RSA key",
         true},
        {"{\"kty\":\"RSA\",\"n\":\"" RFC7517_N "\",\"e\":\"AQAAAAAAAAAB\"}",
         "n and e are not an RSA key", true},
        {JWK_P256(RFC7515_A3_Y, RFC7515_A3_X, ""), "x and y are not a point on P-256", true},
        {JWK_P256(RFC7515_A3_X, "AA", ""), "x and y are not a point on P-256", true},
        {"{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"" RFC7515_A3_X "\"}", "x and y are not a point",
         true},
        {JWK_ED25519("AAAA", ""), "x is not an Ed25519 key", true},
        {JWK_RSA(RFC7517_N, ",\"alg\":7"), "alg is not a string", true},
        {JWK_RSA(RFC7517_N, ",\"use\":[\"sig\"]"), "use is not a string", true},
        {JWK_RSA(RFC7517_N, ",\"key_ops\":\"verify\""), "key_ops is not a list", true},
        {JWK_RSA(RFC7517_N, ",\"kid\":7"), "kid is not a string", true},
        {"{\"n\":\"AA\"}", "expected an object with kty", true},
        {"[]", "expected an object with kty", true},
        {"null", "expected an object with kty", true},
    };
    for (size_t i = 0; i < LEN(cases); i++) {
        char text[4096];
        snprintf(text, sizeof(text), JWKS("%s," ED25519), cases[i].jwk);
        struct key_set *set = parse(text);
        if (!set)
            fail_msg("%s: %s", cases[i].jwk, why);
        assert_int_equal(key_set_len(set), 1);
        if (cases[i].flawed)
            assert_non_null(strstr(notes, "key 1 is passed over: "));
        else
            assert_string_equal(notes, "");
        key_set_unref(set);

        snprintf(text, sizeof(text), JWKS("%s"), cases[i].jwk);
        assert_null(parse(text));
        assert_non_null(strstr(why, "expected a key that can verify tokens, got 1 keys"));
        if (!strstr(why, cases[i].reason))
            fail_msg("%s: %s", cases[i].jwk, why);
    }
}

static void mistakes_of_a_set_are_named(void **state)
{
    (void)state;
    static const struct {
        const char *text, *wanted;
    } cases[] = {
        {"", "expected a JWK Set in JSON, got text that is not JSON at line 1"},
        {"{\"keys\":[", "expected a JWK Set in JSON"},
        {"-----BEGIN PUBLIC KEY-----\n", "expected a JWK Set in JSON"},
        {JWKS(P256) "x", "expected a JWK Set in JSON"},
        {"{\"keys\":[],\"keys\":[" P256 "]}", "expected a JWK Set in JSON"},
        {"[" P256 "]", "an object with a list \"keys\""},
        {P256, "an object with a list \"keys\""},
        {"{\"keys\":{\"p\":" P256 "}}", "an object with a list \"keys\""},
        {JWKS(""), "got 0 keys and none of them does"},
        {JWKS(P256 "," P256), "got one twice: key 2 (kid \"p\") has that of key 1"},
        {JWKS(P256 "," ED25519 "," JWK_RSA(RFC7517_N, KID("p"))),
         "got one twice: key 3 (kid \"p\") has that of key 1"},
        {JWKS(P256 "," JWK_RSA(RFC7517_N, KID("p") ",\"use\":\"enc\"")), "got one twice: key 2"},
        {JWKS(JWK_ED25519(RFC8037_X, KID("a b\\n")) "," JWK_RSA(RFC7517_N, KID("a b\\n"))),
         "got one twice: key 2 has that of key 1"},
    };
    for (size_t i = 0; i < LEN(cases); i++) {
        assert_null(parse(cases[i].text));
        if (!strstr(why, cases[i].wanted))
            fail_msg("%s: %s", cases[i].text, why);
    }
    assert_null(parse(RFC7517_A3)); /* neither is for a supported algorithm */
    assert_non_null(strstr(why, "got 2 keys"));
}

static void the_number_of_keys_is_bounded(void **state)
{
    (void)state;
    char *text = calloc(1, 200 * (KEY_SET_KEYS_MAX + 1));
    for (size_t len = KEY_SET_KEYS_MAX; len <= KEY_SET_KEYS_MAX + 1; len++) {
        strcpy(text, "{\"keys\":[");
        for (size_t i = 0; i < len; i++)
            sprintf(text + strlen(text), "%s" JWK_ED25519(RFC8037_X, KID("%zu")), i > 0 ? "," : "",
                    i);
        strcat(text, "]}");
        struct key_set *set = parse(text);
        assert_int_equal(set != NULL, len <= KEY_SET_KEYS_MAX);
        key_set_unref(set);
    }
    assert_string_equal(why, "expected at most 64 keys, got 65");
    free(text);
}

static void a_kid_names_a_key(void **state)
{
    (void)state;
    struct key_set *one = parse(JWKS(P256)), *two = parse(JWKS(P256 "," ED25519)),
                   *nameless = parse(JWKS(JWK_ED25519(RFC8037_X, "")));
    const char *refusal = NULL;
    assert_non_null(key_set_find(one, NULL, &refusal));
    assert_non_null(key_set_find(one, "p", &refusal));
    assert_null(key_set_find(one, "q", &refusal));
    assert_string_equal(refusal, "token invalid: its kid names no key");
    assert_null(key_set_find(two, NULL, &refusal));
    assert_string_equal(refusal, "token invalid: it has no kid, and there are several keys");
    assert_string_equal(token_key_algorithm(key_set_find(two, "p", &refusal)), "ES256");
    assert_string_equal(token_key_algorithm(key_set_find(two, "e", &refusal)), "EdDSA");
    assert_null(key_set_find(two, "P", &refusal));
    assert_null(key_set_find(two, "", &refusal));
    assert_non_null(key_set_find(nameless, NULL, &refusal));
    assert_null(key_set_find(nameless, "e", &refusal));
    key_set_unref(one);
    key_set_unref(two);
    key_set_unref(nameless);

    struct key_set *secret = key_set_of_secret("HS256", "x");
    assert_non_null(key_set_find(secret, NULL, &refusal));
    assert_non_null(key_set_find(secret, "any", &refusal));
    key_set_unref(secret);
}

/* --- files --- */

static struct key_set *read_set(const char *path)
{
    struct key_set *set = NULL;
    why[0] = notes[0] = '\0';
    (void)!key_set_read(path, on_note, NULL, &set, why);
    return set;
}

static void a_file_is_bounded_and_regular(void **state)
{
    (void)state;
    char path[128];
    assert_null(read_set("/nowhere"));
    assert_string_equal(why, "expected a readable file: No such file or directory");
    assert_null(read_set(folder));
    assert_string_equal(why, "expected a regular file, got something else");
    snprintf(path, sizeof(path), "%s/pipe", folder);
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_null(read_set(path));
    assert_string_equal(why, "expected a regular file, got something else");
    unlink(path);

    for (size_t more = 0; more < 2; more++) {
        size_t len = KEY_SET_FILE_BYTES + more;
        char *text = malloc(len + 1);
        memset(text, ' ', len);
        text[len] = '\0';
        memcpy(text, JWKS(P256), strlen(JWKS(P256)));
        struct key_set *set = read_set(write_file("large.json", text));
        assert_int_equal(set != NULL, more == 0);
        key_set_unref(set);
        free(text);
    }
    assert_string_equal(why, "expected at most 1 MiB, got more");
}

static bool shows(const char *path, const struct key_set *set)
{
    struct file_stamp now;
    file_stamp_of(path, &now);
    return !file_stamp_same(&now, key_set_stamp(set));
}

static void a_changed_file_shows(void **state)
{
    (void)state;
    char link[128], other[128];
    const char *path = write_file("a.json", JWKS(P256)),
               *twin = write_file("b.json", JWKS(P256)); /* of the same size */
    struct key_set *set = read_set(path), *same = read_set(twin);
    assert_non_null(set);
    assert_false(shows(path, set));
    assert_true(shows(twin, set));
    assert_true(key_set_same(set, same));
    assert_true(shows("/nowhere", set));

    /* behind a link that is exchanged by rename */
    snprintf(link, sizeof(link), "%s/link", folder);
    snprintf(other, sizeof(other), "%s/link.new", folder);
    assert_int_equal(symlink("a.json", link), 0);
    assert_false(shows(link, set));
    assert_int_equal(symlink("b.json", other), 0);
    assert_int_equal(rename(other, link), 0);
    assert_true(shows(link, set));
    /* another file under its name, and other bytes in the same file */
    assert_int_equal(rename(twin, path), 0);
    assert_true(shows(path, set));
    key_set_unref(set);
    set = read_set(path);
    write_file("a.json", JWKS(P256 "," ED25519));
    assert_true(shows(path, set));
    unlink(link);
    struct key_set *after = read_set(path);
    assert_false(key_set_same(set, after));
    key_set_unref(after);
    key_set_unref(set);
    key_set_unref(same);
}

static struct conf *load_keys(const char *settings, const char *path)
{
    char text[512];
    struct conf *conf = NULL;
    snprintf(text, sizeof(text),
             "auth: {mode: jwt, %s keys_file: %s}\nservices: [{name: a, upstream: "
             "\"ws://h/{vin}\"}]\n",
             settings, path);
    (void)!load(text, NULL, &conf);
    return conf;
}

static void the_configuration_names_one_source_of_keys(void **state)
{
    (void)state;
    struct conf *conf = load_keys("", write_file("keys.json", JWKS(P256 "," ED25519)));
    assert_non_null(conf);
    assert_int_equal(findings.len, 0);
    assert_int_equal(key_set_len(conf->auth.keys), 2);
    struct conf *other = load_keys("", write_file("keys.json", JWKS(P256)));
    conf_diff(conf, other, &findings);
    assert_finding("auth.keys_file: the keys changed");
    conf_findings_fini(&findings);
    conf_unref(other);
    conf_unref(conf);

    assert_null(load_keys("", write_file("keys.json", "{}")));
    assert_finding(":1: auth.keys_file: \"");
    assert_finding("keys.json\": expected a JWK Set, an object with a list \"keys\"");
    conf_findings_fini(&findings);
    assert_null(load_keys("", "/nowhere"));
    assert_finding("auth.keys_file: \"/nowhere\": expected a readable file: No such file");
    conf_findings_fini(&findings);
    const char *good = write_file("keys.json", JWKS(P256));
    assert_null(load_keys("secret_file: /x,", good));
    assert_finding(":1: auth.keys_file: expected one of auth.secret_file, auth.public_key_file "
                   "and auth.keys_file, got auth.secret_file, too");
    conf_findings_fini(&findings);
    assert_null(load_keys("public_key_file: /x,", good));
    assert_finding("got auth.public_key_file, too");
    conf_findings_fini(&findings);

    setenv("VINHUB_JWT_SECRET", "whatever", 1);
    conf = load_keys("algorithm: ES256,", good);
    assert_finding("VINHUB_JWT_SECRET: auth: warning: not used: auth.keys_file has the keys");
    assert_finding(":1: auth.algorithm: warning: not used: each key of auth.keys_file says its");
    conf_findings_fini(&findings);
    conf_unref(conf);
}

static void a_private_key_is_a_warning_of_the_configuration(void **state)
{
    (void)state;
    struct conf *conf = load_keys(
        "",
        write_file("keys.json", JWKS(JWK_ED25519(RFC8037_X, KID("e") ",\"d\":\"" RFC8037_D "\""))));
    assert_non_null(conf);
    assert_int_equal(findings.len, 1);
    assert_finding(": auth.keys_file: warning: \"");
    assert_finding("key 1 (kid \"e\"): it is a private key, which no node needs");
    assert_false(has_finding(RFC8037_D));
    conf_findings_fini(&findings);
    conf_unref(conf);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_key_is_for_one_algorithm),
        cmocka_unit_test(other_keys_are_passed_over),
        cmocka_unit_test(mistakes_of_a_set_are_named),
        cmocka_unit_test(the_number_of_keys_is_bounded),
        cmocka_unit_test(a_kid_names_a_key),
        cmocka_unit_test(a_file_is_bounded_and_regular),
        cmocka_unit_test(a_changed_file_shows),
        cmocka_unit_test_setup(the_configuration_names_one_source_of_keys, clear_environment),
        cmocka_unit_test_setup(a_private_key_is_a_warning_of_the_configuration, clear_environment),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
