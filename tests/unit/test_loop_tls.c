/* TLS of outgoing connections: which servers are accepted, and the reason if one is not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "loop/tls.h"

static char folder[] = "/tmp/vinhub-tls-XXXXXX";

static void run(const char *script)
{
    char command[4096];
    snprintf(command, sizeof(command), "cd %s && { %s; } >/dev/null 2>&1", folder, script);
    if (system(command) != 0)
        fail_msg("failed: %s", script);
}

/* Chains root > middle > NAME, each for the names in ALT; strangers are self-signed. */
static int make_certificates(void **state)
{
    (void)state;
    assert_non_null(mkdtemp(folder));
    run("set -e; key='-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes'; "
        "openssl req -x509 $key -keyout root.key -out root.pem -days 9 -subj '/CN=the root'; "
        "openssl req $key -keyout middle.key -out middle.csr -subj '/CN=the middle'; "
        "printf 'basicConstraints=critical,CA:TRUE' > ca.ext; "
        "openssl x509 -req -in middle.csr -CA root.pem -CAkey root.key -CAcreateserial -days 9 "
        "-extfile ca.ext -out middle.pem; "
        "issue() { openssl req $key -keyout $1.key -out $1.csr -subj /CN=$1; "
        "printf \"subjectAltName=$2\" > $1.ext; "
        "openssl x509 -req -in $1.csr -CA middle.pem -CAkey middle.key -CAcreateserial $3 "
        "-extfile $1.ext -out $1.leaf; cat $1.leaf middle.pem > $1.pem; }; "
        "issue names 'DNS:a.test,DNS:*.b.test' '-days 9'; "
        "issue address 'IP:127.0.0.1,IP:::1' '-days 9'; issue other 'DNS:other.test' '-days 9'; "
        /* OpenSSL 3.4 and later refuse an end before the start, but can set both */
        "over='-days -1'; if openssl x509 -help 2>&1 | grep -q not_after; then "
        "over='-not_before 20200101000000Z -not_after 20200102000000Z'; fi; "
        "issue old 'DNS:a.test' \"$over\"; "
        "openssl req -x509 $key -keyout stranger.key -out stranger.pem -days 9 "
        "-subj '/CN=a stranger' -addext subjectAltName=DNS:a.test; "
        "openssl ec -in names.key -aes128 -passout pass:x -out locked.key; echo no > empty.pem");
    return 0;
}

static int remove_certificates(void **state)
{
    (void)state;
    run("rm -f -- *");
    return rmdir(folder);
}

static const char *in_folder(const char *name)
{
    static char paths[8][128];
    static size_t next;
    char *path = paths[next++ % 8];
    snprintf(path, sizeof(paths[0]), "%s/%s", folder, name);
    return path;
}

static void carry(struct tls *from, struct tls *to)
{
    const uint8_t *bytes;
    size_t len = tls_pending(from, &bytes);
    if (len > 0)
        (void)!tls_feed(to, bytes, len);
    tls_sent(from);
}

static struct tls_context *server_of(const char *name)
{
    char cert[64], key[64], why[TLS_WHY_BYTES] = "";
    struct tls_context *context = NULL;
    snprintf(cert, sizeof(cert), "%s.pem", name);
    snprintf(key, sizeof(key), "%s.key", name);
    if (tls_context_server(in_folder(cert), in_folder(key), &context, why, sizeof(why)) !=
        STATUS_OK)
        fail_msg("%s", why);
    return context;
}

struct tls_pair {
    struct tls *client, *server;
};

static struct tls_pair shake(struct tls_context *trust, const char *server, const char *host)
{
    struct tls_context *context = server_of(server);
    struct tls_pair pair = {tls_new(trust, host), tls_new(context, NULL)};
    assert_non_null(pair.client);
    for (int i = 0; i < 4; i++) {
        carry(pair.client, pair.server);
        carry(pair.server, pair.client);
    }
    tls_context_free(context);
    return pair;
}

static void part(struct tls_pair pair)
{
    tls_free(pair.client);
    tls_free(pair.server);
}

/* Why the client refuses that server; "" if it accepts it. */
static const char *verdict(const struct tls_client *client, const char *server, const char *host)
{
    static char text[TLS_WHY_BYTES];
    struct tls_context *trust = NULL;
    if (tls_context_client(client, &trust, text, sizeof(text)) != STATUS_OK)
        fail_msg("%s", text);
    struct tls_pair pair = shake(trust, server, host);
    snprintf(text, sizeof(text), "%s", tls_why(pair.client));
    assert_int_equal(text[0] == '\0', tls_ready(pair.client));
    part(pair);
    tls_context_free(trust);
    return text;
}

static struct tls_client trusting(const char *ca)
{
    return (struct tls_client){.ca = in_folder(ca)};
}

static void assert_says(const char *text, const char *part_of_it)
{
    if (!strstr(text, part_of_it))
        fail_msg("expected \"%s\", got \"%s\"", part_of_it, text);
}

static void names_and_addresses_are_checked_as_what_they_are(void **state)
{
    (void)state;
    struct tls_client client = trusting("root.pem");
    assert_string_equal(verdict(&client, "names", "a.test"), "");
    assert_string_equal(verdict(&client, "names", "A.TEST"), "");
    assert_string_equal(verdict(&client, "names", "x.b.test"), "");
    assert_string_equal(verdict(&client, "address", "127.0.0.1"), "");
    assert_string_equal(verdict(&client, "address", "::1"), "");
    assert_string_not_equal(verdict(&client, "names", "b.test"), "");
    assert_string_not_equal(verdict(&client, "names", "x.x.b.test"), "");
    assert_string_not_equal(verdict(&client, "address", "127.0.0.2"), "");
}

static void a_dot_at_the_end_is_for_the_resolver_only(void **state)
{
    (void)state;
    struct tls_client client = trusting("root.pem");
    assert_string_equal(verdict(&client, "names", "a.test."), "");
    assert_string_equal(verdict(&client, "names", "x.b.test."), "");
    assert_string_equal(verdict(&client, "address", "127.0.0.1."), "");
    client.name = "a.test.";
    assert_string_equal(verdict(&client, "names", "10.0.0.7"), "");
}

static void each_certificate_of_the_file_is_an_anchor(void **state)
{
    (void)state;
    const char *const anchors[] = {"root.pem", "middle.pem", "names.leaf", "names.pem"};
    for (size_t i = 0; i < sizeof(anchors) / sizeof(*anchors); i++) {
        struct tls_client client = trusting(anchors[i]);
        assert_string_equal(verdict(&client, "names", "a.test"), "");
    }
    struct tls_client leaf = trusting("names.leaf");
    assert_says(verdict(&leaf, "other", "other.test"), "none of the authorities in");
    struct tls_client stranger = trusting("stranger.pem");
    assert_string_equal(verdict(&stranger, "stranger", "a.test"), "");
}

static void the_name_to_expect_can_be_set(void **state)
{
    (void)state;
    struct tls_client client = trusting("root.pem");
    client.name = "a.test";
    assert_string_equal(verdict(&client, "names", "127.0.0.1"), "");
    assert_string_equal(verdict(&client, "names", "elsewhere.test"), "");
    assert_string_not_equal(verdict(&client, "other", "other.test"), "");
    client.name = "127.0.0.1";
    assert_string_equal(verdict(&client, "address", "redis"), "");
}

static void reasons_name_what_was_expected_and_what_came(void **state)
{
    (void)state;
    struct tls_client client = trusting("root.pem");
    client.name_setting = "redis.tls_name";
    assert_says(verdict(&client, "names", "10.0.0.7"),
                "expected a certificate for 10.0.0.7, got one for a.test, *.b.test "
                "(redis.tls_name sets another name to expect)");
    assert_says(verdict(&client, "address", "a.test"),
                "expected a certificate for a.test, got one for 127.0.0.1, ::1");
    assert_says(verdict(&client, "old", "a.test"), "the certificate \"CN=old\" has expired");
    char expected[256];
    snprintf(expected, sizeof(expected),
             "signed by \"CN=a stranger\", which is none of the authorities in %s",
             in_folder("root.pem"));
    assert_says(verdict(&client, "stranger", "a.test"), expected);
    client.ca = NULL;
    assert_says(verdict(&client, "names", "a.test"),
                "which is none of the authorities of this system");
}

static void a_peer_without_tls_is_named(void **state)
{
    (void)state;
    struct tls_client client = trusting("root.pem");
    struct tls_context *trust = NULL;
    char why[TLS_WHY_BYTES];
    assert_int_equal(tls_context_client(&client, &trust, why, sizeof(why)), STATUS_OK);
    struct tls *tls = tls_new(trust, "a.test");
    static const char plain[] = "HTTP/1.1 400 Bad Request\r\n\r\n";
    assert_int_equal(tls_feed(tls, (const uint8_t *)plain, sizeof(plain) - 1), STATUS_IO);
    assert_says(tls_why(tls), "the other side speaks something else");
    tls_free(tls);
    tls_context_free(trust);
}

static void assert_refused(const struct tls_client *client, const char *expected)
{
    struct tls_context *context = NULL;
    char why[TLS_WHY_BYTES] = "";
    assert_int_equal(tls_context_client(client, &context, why, sizeof(why)), STATUS_INVALID);
    assert_null(context);
    assert_says(why, expected);
}

static void files_that_can_not_be_used_are_named_with_the_cause(void **state)
{
    (void)state;
    const char *names = in_folder("names.pem");
    struct tls_client ca = {.ca = "/nowhere/ca.pem"};
    assert_refused(&ca, "/nowhere/ca.pem: No such file or directory");
    struct tls_client empty = trusting("empty.pem");
    assert_refused(&empty, "empty.pem: expected a PEM file with certificates");
    struct tls_client no_key = {.cert = names, .key = "/nowhere/a.key"};
    assert_refused(&no_key, "/nowhere/a.key: No such file or directory");
    struct tls_client lone = {.cert = names};
    assert_refused(&lone, "together");
    struct tls_client locked = {.cert = names, .key = in_folder("locked.key")};
    assert_refused(&locked, "locked.key: expected a private key without pass phrase");
    struct tls_client mixed = {.cert = names, .key = in_folder("other.key")};
    assert_refused(&mixed, "other.key: the private key does not match the certificate in");
    struct tls_client swapped = {.cert = names, .key = names};
    assert_refused(&swapped, "names.pem: expected a PEM file with a private key");
}

static void touch_later(const char *name)
{
    struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_sec = 4000000000}};
    assert_int_equal(utimensat(-1, in_folder(name), times, 0), 0);
}

static bool accepts(struct tls_context *trust, const char *server, const char *host)
{
    struct tls_pair pair = shake(trust, server, host);
    bool ready = tls_ready(pair.client);
    part(pair);
    return ready;
}

static void changed_files_serve_the_next_connection(void **state)
{
    (void)state;
    struct tls_context *trust = NULL;
    char why[TLS_WHY_BYTES];
    run("cp root.pem now.pem");
    struct tls_client client = trusting("now.pem");
    assert_int_equal(tls_context_client(&client, &trust, why, sizeof(why)), STATUS_OK);
    assert_false(accepts(trust, "stranger", "a.test"));
    run("cp stranger.pem now.pem");
    touch_later("now.pem");
    assert_true(accepts(trust, "stranger", "a.test"));
    run("cp empty.pem now.pem && touch -d @4100000000 now.pem");
    assert_true(accepts(trust, "stranger", "a.test")); /* what was read before goes on */
    run("rm now.pem");
    assert_true(accepts(trust, "stranger", "a.test"));
    run("cp root.pem now.pem");
    assert_false(accepts(trust, "stranger", "a.test"));
    assert_true(accepts(trust, "names", "a.test"));
    tls_context_free(trust);
}

/* As Kubernetes replaces a secret: the folder behind a link is swapped, file times stay equal. */
static void a_folder_that_is_swapped_serves_the_next_connection(void **state)
{
    (void)state;
    struct tls_context *trust = NULL;
    char why[TLS_WHY_BYTES];
    run("mkdir one two && cp root.pem one/ca && cp stranger.pem two/ca && "
        "touch -d @1700000000 one/ca two/ca && ln -s one data && ln -s data/ca ca");
    struct tls_client client = trusting("ca");
    assert_int_equal(tls_context_client(&client, &trust, why, sizeof(why)), STATUS_OK);
    assert_true(accepts(trust, "names", "a.test"));
    run("ln -s two next && mv -T next data");
    assert_false(accepts(trust, "names", "a.test"));
    assert_true(accepts(trust, "stranger", "a.test"));
    tls_context_free(trust);
    run("rm -r one two data ca");
}

static void a_clean_end_is_distinguished_from_a_cut(void **state)
{
    (void)state;
    struct tls_context *trust = NULL;
    char why[TLS_WHY_BYTES];
    uint8_t plain[64];
    struct tls_client client = trusting("root.pem");
    assert_int_equal(tls_context_client(&client, &trust, why, sizeof(why)), STATUS_OK);
    struct tls_pair pair = shake(trust, "names", "a.test");
    assert_int_equal(tls_write(pair.client, "bye", 3), STATUS_OK);
    tls_shut(pair.client);
    tls_shut(pair.client); /* once only */
    carry(pair.client, pair.server);
    assert_int_equal(tls_read(pair.server, plain, sizeof(plain)), 3);
    assert_int_equal(tls_read(pair.server, plain, sizeof(plain)), 0);
    assert_true(tls_ended(pair.server));
    assert_string_equal(tls_why(pair.server), "");
    tls_shut(pair.server); /* and back */
    carry(pair.server, pair.client);
    assert_int_equal(tls_read(pair.client, plain, sizeof(plain)), 0);
    assert_true(tls_ended(pair.client));
    part(pair);
    tls_context_free(trust);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_and_addresses_are_checked_as_what_they_are),
        cmocka_unit_test(a_dot_at_the_end_is_for_the_resolver_only),
        cmocka_unit_test(each_certificate_of_the_file_is_an_anchor),
        cmocka_unit_test(the_name_to_expect_can_be_set),
        cmocka_unit_test(reasons_name_what_was_expected_and_what_came),
        cmocka_unit_test(a_peer_without_tls_is_named),
        cmocka_unit_test(files_that_can_not_be_used_are_named_with_the_cause),
        cmocka_unit_test(changed_files_serve_the_next_connection),
        cmocka_unit_test(a_folder_that_is_swapped_serves_the_next_connection),
        cmocka_unit_test(a_clean_end_is_distinguished_from_a_cut),
    };
    return cmocka_run_group_tests_name("loop_tls", tests, make_certificates, remove_certificates);
}
