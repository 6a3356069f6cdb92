/* Which clients are admitted: origins, addresses behind proxies, the PROXY header; and deflated
 * messages. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

#include "common/rng.h"
#include "front/front_private.h"

static char why[256];

static struct admit *admit_of(const char *const *proxies, size_t proxies_len,
                              const char *const *origins, size_t origins_len)
{
    struct conf conf = {.origins = (char **)(uintptr_t)origins, .origins_len = origins_len};
    conf.listen.trusted_proxies = (char **)(uintptr_t)proxies;
    conf.listen.trusted_proxies_len = proxies_len;
    return admit_new(&conf, why, sizeof(why));
}

static struct in6_addr address(const char *text)
{
    struct in6_addr out = {0};
    out.s6_addr[10] = out.s6_addr[11] = 0xff;
    if (inet_pton(AF_INET, text, out.s6_addr + 12) != 1)
        assert_int_equal(inet_pton(AF_INET6, text, &out), 1);
    return out;
}

static void allows_listed_origins(void **state)
{
    (void)state;
    static const char *const rules[] = {"https://app.example", "plain.example", "*.below.example",
                                        "http://port.example:8080"};
    static const struct {
        const char *origin;
        bool allowed;
    } cases[] = {
        {"https://app.example", true},
        {"https://APP.example:443", true},
        {"https://app.example:8443", false},
        {"https://app.example:80", false},
        {"http://app.example", false},
        {"https://plain.example", true},
        {"http://plain.example:99", true},
        {"http://aplain.example", false},
        {"https://x.below.example", true},
        {"https://a.b.below.example", true},
        {"https://below.example", false},
        {"https://evilbelow.example", false},
        {"http://port.example:8080", true},
        {"http://port.example", false},
        {"https://port.example:8080", false},
        {"http://port.example:80", false},
        {"null", false},
        {"", false},
        {"file://", false},
        {"capacitor://localhost", false},
        {"capacitor://plain.example", true},
        {"plain.example", true}, /* as it stands in the list */
        {"https://plain.example/", false},
        {"https://*.below.example", false},
        {"https://evil.example/.below.example", false},
        {"https://evil.example\\.below.example", false},
        {"https://evil.example#.below.example", false},
        {"https://me@x.below.example", false},
        {"https://.below.example", false},
        {"x: ]y~//a.below.example", false},
        {"https://app.example:84:43x", false},
        {"https://plain.example, https://evil.example", false},
    };
    struct admit *admit = admit_of(NULL, 0, rules, 4);
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        struct http_text text = {cases[i].origin, strlen(cases[i].origin)};
        assert_int_equal(admit_origin(admit, &text), cases[i].allowed);
    }
    assert_true(admit_origin(admit, NULL));
    admit_free(admit);

    static const char *const opaque[] = {"null"};
    admit = admit_of(NULL, 0, opaque, 1);
    assert_true(admit_origin(admit, &(struct http_text){"null", 4}));
    admit_free(admit);
    admit = admit_of(NULL, 0, NULL, 0);
    assert_true(admit_origin(admit, &(struct http_text){"null", 4}));
    admit_free(admit);
}

static void believes_trusted_proxies_alone(void **state)
{
    (void)state;
    static const char *const proxies[] = {"10.0.0.0/8", "2001:db8::/32"};
    static const struct {
        const char *peer, *forwarded, *client;
    } cases[] = {
        {"192.0.2.1", "198.51.100.7", "192.0.2.1"},
        {"10.1.1.1", "198.51.100.7", "198.51.100.7"},
        {"10.1.1.1", "198.51.100.7, 203.0.113.5", "203.0.113.5"},
        {"10.1.1.1", "198.51.100.7, 203.0.113.5, 10.2.2.2", "203.0.113.5"},
        {"10.1.1.1", "198.51.100.7:4711", "198.51.100.7"},
        {"10.1.1.1", "[2001:4860::8]:443", "2001:4860::8"},
        {"2001:db8::9", "198.51.100.7, 2001:db8::8", "198.51.100.7"},
        {"10.1.1.1", "198.51.100.7, unknown", "10.1.1.1"},
        {"10.1.1.1", "", "10.1.1.1"},
        {"10.1.1.1", "10.3.3.3, 10.2.2.2", "10.3.3.3"},
        {"10.1.1.1", "unknown, 10.3.3.3, 10.2.2.2", "10.3.3.3"},
    };
    struct admit *admit = admit_of(proxies, 2, NULL, 0);
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        struct http_head head = {.len = 1};
        head.names[0] = (struct http_text){"X-Forwarded-For", 15};
        head.values[0] = (struct http_text){cases[i].forwarded, strlen(cases[i].forwarded)};
        struct in6_addr peer = address(cases[i].peer), wanted = address(cases[i].client);
        struct in6_addr client = admit_client(admit, &peer, &head);
        assert_memory_equal(&client, &wanted, sizeof(client));
    }
    admit_free(admit);
}

/* Origins of apps and local files are compared literally. */
static void allows_what_is_listed_literally(void **state)
{
    (void)state;
    static const char *const rules[] = {"null",
                                        "file://",
                                        "capacitor://localhost",
                                        "app://obsidian.md",
                                        "chrome-extension://abcdef",
                                        "about:blank",
                                        "my-app",
                                        "http://dev.example:3000"};
    static const char *const others[] = {"NULL",
                                         "file:",
                                         "file:///",
                                         "capacitor://localhost:1",
                                         "capacitor://localhos",
                                         "app://obsidian.md/x",
                                         "chrome-extension://abcdeg",
                                         "about:blan",
                                         "about",
                                         "https://null",
                                         "my-app2",
                                         "http://dev.example:300",
                                         "http://dev.example",
                                         "https://dev.example:3000"};
    struct admit *admit = admit_of(NULL, 0, rules, sizeof(rules) / sizeof(*rules));
    for (size_t i = 0; i < sizeof(rules) / sizeof(*rules); i++) {
        struct http_text text = {rules[i], strlen(rules[i])};
        if (!admit_origin(admit, &text))
            fail_msg("%s is refused", rules[i]);
    }
    for (size_t i = 0; i < sizeof(others) / sizeof(*others); i++) {
        struct http_text text = {others[i], strlen(others[i])};
        if (admit_origin(admit, &text))
            fail_msg("%s is allowed", others[i]);
    }
    admit_free(admit);
}

static void refuses_what_is_no_block(void **state)
{
    (void)state;
    static const char *const wrong[] = {"10.0.0.0/33", "10.0.0/8",  "2001:db8::/129",
                                        "host",        "10.0.0.1/", "10.0.0.1/x"};
    for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++) {
        assert_null(admit_of(&wrong[i], 1, NULL, 0));
        assert_non_null(strstr(why, wrong[i]));
    }
}

/* --- the PROXY header --- */

static void expect_source(const void *header, size_t len, const char *wanted)
{
    struct proxy_source source;
    size_t used = 0;
    for (size_t cut = 0; cut < len; cut++)
        assert_int_equal(proxy_parse(header, cut, &source, &used), STATUS_AGAIN);
    assert_int_equal(proxy_parse(header, len, &source, &used), STATUS_OK);
    assert_int_equal(used, len);
    assert_int_equal(source.known, wanted != NULL);
    if (wanted) {
        struct in6_addr expected = address(wanted);
        assert_memory_equal(&source.address, &expected, sizeof(expected));
        assert_int_equal(source.port, 0x1234);
    }
}

#define V2 "\r\n\r\n\0\r\nQUIT\n"

static void reads_both_versions(void **state)
{
    (void)state;
#define SOURCE(text, wanted) expect_source(text, sizeof(text) - 1, wanted)
    SOURCE("PROXY TCP4 192.0.2.1 192.0.2.2 4660 443\r\n", "192.0.2.1");
    SOURCE("PROXY TCP6 2001:db8::1 2001:db8::2 4660 443\r\n", "2001:db8::1");
    SOURCE("PROXY UNKNOWN\r\n", NULL);
    SOURCE("PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n", NULL);
    SOURCE(V2 "\x21\x11\x00\x0c\xc0\x00\x02\x01\xc0\x00\x02\x02\x12\x34\x01\xbb", "192.0.2.1");
    SOURCE(V2 "\x21\x11\x00\x0f\xc0\x00\x02\x01\xc0\x00\x02\x02\x12\x34\x01\xbb\x04\x00\x00",
           "192.0.2.1");
    SOURCE(V2 "\x20\x00\x00\x00", NULL);
    SOURCE(V2 "\x21\x31\x00\x02\x00\x00", NULL);
}

/* TLVs may be 64 KiB; they are skipped and not kept. */
static void tells_how_much_to_skip_behind_the_addresses(void **state)
{
    (void)state;
    static const size_t sizes[] = {4096, 40960, 65535};
    static const uint8_t start[] = V2 "\x21\x21\x00\x00";
    uint8_t header[16 + 36] = {0};
    struct in6_addr from = address("2001:db8::1");
    for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
        struct proxy_source source;
        size_t used = 0;
        memcpy(header, start, 16);
        header[14] = (uint8_t)(sizes[i] >> 8);
        header[15] = (uint8_t)sizes[i];
        memcpy(header + 16, &from, sizeof(from));
        assert_int_equal(proxy_parse(header, sizeof(header) - 1, &source, &used), STATUS_AGAIN);
        assert_int_equal(proxy_parse(header, sizeof(header), &source, &used), STATUS_OK);
        assert_int_equal(used, 16 + sizes[i]);
        assert_memory_equal(&source.address, &from, sizeof(from));
    }
}

static void refuses_other_beginnings(void **state)
{
    (void)state;
    static const char *const wrong[] = {"GET / HTTP/1.1\r\n",
                                        "PROXY TCP4 192.0.2.1 192.0.2.2 4660\r\n",
                                        "PROXY TCP4 2001:db8::1 ::1 1 2\r\n",
                                        "PROXY TCP4 192.0.2.1 192.0.2.2 70000 1\r\n",
                                        "PROXY TCP4 192.0.2.1 nonsense 1 2\r\n",
                                        "PROXY TCP4 192.0.2.1 192.0.2.2 +1 2\r\n",
                                        "PROXY TCP4 192.0.2.1 192.0.2.2 1 70000\r\n",
                                        "PROXY TCP4 192.0.2.1 192.0.2.2 1 2 3\r\n",
                                        "PROXY \r\n"};
    struct proxy_source source;
    size_t used;
    for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++) {
        assert_int_equal(proxy_parse((const uint8_t *)wrong[i], strlen(wrong[i]), &source, &used),
                         STATUS_INVALID);
        assert_non_null(strstr(source.why, "PROXY"));
    }
    static const uint8_t version3[] = V2 "\x31\x11\x00\x0c", command2[] = V2 "\x22\x11\x00\x0c",
                         no_room[] = V2 "\x21\x11\x00\x02xx";
    assert_int_equal(proxy_parse(version3, 16, &source, &used), STATUS_INVALID);
    assert_non_null(strstr(source.why, "version"));
    assert_int_equal(proxy_parse(command2, 16, &source, &used), STATUS_INVALID);
    assert_non_null(strstr(source.why, "command"));
    assert_int_equal(proxy_parse(no_room, 18, &source, &used), STATUS_INVALID);
    assert_non_null(strstr(source.why, "too short"));
    char endless[200];
    memset(endless, 'x', sizeof(endless));
    memcpy(endless, "PROXY ", 6);
    assert_int_equal(proxy_parse((const uint8_t *)endless, sizeof(endless), &source, &used),
                     STATUS_INVALID);
}

/* --- permessage-deflate --- */

/* The answer: "" for none, "malformed". */
static const char *negotiate(const char *offers)
{
    static struct deflate_terms terms;
    struct http_head head = {.len = 1};
    head.names[0] = (struct http_text){"Sec-WebSocket-Extensions", 24};
    head.values[0] = (struct http_text){offers, strlen(offers)};
    return deflate_negotiate(&head, &terms) == STATUS_OK ? terms.answer : "malformed";
}

static void negotiates_the_first_offer_that_fits(void **state)
{
    (void)state;
#define BOTH "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
    static const char *const rows[][2] = {
        {"permessage-deflate", BOTH},
        {"Permessage-Deflate", BOTH},
        {"permessage-deflate; client_max_window_bits", BOTH},
        {"x-other, permessage-deflate;client_max_window_bits=10; server_no_context_takeover", BOTH},
        {"permessage-deflate; client_max_window_bits=\"9\"", BOTH},
        {"permessage-deflate; server_max_window_bits=15", BOTH "; server_max_window_bits=15"},
        {"permessage-deflate; server_max_window_bits=8", BOTH "; server_max_window_bits=8"},
        {"permessage-deflate; server_max_window_bits=\"10\", permessage-deflate",
         BOTH "; server_max_window_bits=10"},
        {"permessage-deflate; server_max_window_bits=16, permessage-deflate", BOTH},
        {"x-webkit-deflate-frame", ""},
        {"permessage-deflate; server_max_window_bits", ""},
        {"permessage-deflate; server_max_window_bits=7", ""},
        {"permessage-deflate; unknown", ""},
        {"permessage-deflate; client_max_window_bits=16", ""},
        {"permessage-deflate; client_max_window_bits=08", ""},
        {"permessage-deflate; server_no_context_takeover=1", ""},
        {"permessage-deflate; client_max_window_bits; client_max_window_bits", ""},
        {"permessage-deflate;", "malformed"},
        {"permessage-deflate; client_max_window_bits=", "malformed"},
        {"permessage-deflate; =9", "malformed"},
        {"permessage-deflate; client_max_window_bits=\"9", "malformed"},
        {"permessage-deflate, perm essage", "malformed"},
        {"", ""},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++)
        assert_string_equal(negotiate(rows[i][0]), rows[i][1]);
}

/* The payload of an unmasked frame below 64 KiB. */
static const uint8_t *payload_of(const struct wire *wire, size_t *len)
{
    assert_int_equal(wire->bytes[0], 0xc1);
    size_t head = wire->bytes[1] == 126 ? 4 : 2;
    *len = head == 4 ? (size_t)wire->bytes[2] << 8 | wire->bytes[3] : wire->bytes[1];
    assert_int_equal(wire->len, head + *len);
    return wire->bytes + head;
}

static void inflates_what_it_deflated(void **state)
{
    (void)state;
    struct deflater *deflater = deflater_new();
    static uint8_t text[20000];
    struct rng rng;
    rng_seed(&rng, 7);
    for (size_t i = 0; i < sizeof(text); i++)
        text[i] = (uint8_t)('a' + rng_below(&rng, 3));
    for (size_t len = 100; len < sizeof(text); len = len * 3 / 2) {
        struct wire *wire = deflate_message(deflater, 1, text, len);
        assert_non_null(wire);
        assert_true(wire->len < len);
        size_t packed_len, plain_len;
        const uint8_t *packed = payload_of(wire, &packed_len), *plain;
        assert_int_equal(inflate_message(deflater, packed, packed_len, len, &plain, &plain_len),
                         STATUS_OK);
        assert_int_equal(plain_len, len);
        assert_memory_equal(plain, text, len);
        assert_int_equal(inflate_message(deflater, packed, packed_len, len - 1, &plain, &plain_len),
                         STATUS_LIMIT);
        inflate_done(deflater);
        wire_unref(wire);
    }
    deflater_free(deflater);
}

static void does_not_deflate_where_it_does_not_pay(void **state)
{
    (void)state;
    struct deflater *deflater = deflater_new();
    uint8_t noise[5000];
    rng_secure(noise, sizeof(noise));
    assert_null(deflate_message(deflater, 2, noise, sizeof(noise)));
    assert_null(deflate_message(deflater, 1, (const uint8_t *)"short", 5));
    deflater_free(deflater);
}

static void inflates_odd_but_legal_streams(void **state)
{
    (void)state;
    struct deflater *deflater = deflater_new();
    static const uint8_t final_block[] = {0xf3, 0x48, 0xcd, 0xc9,
                                          0xc9, 0x07, 0x00, 0x00}; /* RFC 7692 section 7.2.3.4 */
    static const uint8_t two_blocks[] = {0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff,
                                         0xff, 0xca, 0xc9, 0xc9, 0x07, 0x00};
    static const uint8_t stored[] = {0x00, 0x05, 0x00, 0xfa, 0xff, 0x48,
                                     0x65, 0x6c, 0x6c, 0x6f, 0x00};
    static const uint8_t no_tail[] = {0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00};
    static const uint8_t nonsense[] = {0xff, 0xff, 0xff, 0xff};
    const uint8_t *plain;
    size_t len;
    assert_int_equal(inflate_message(deflater, final_block, sizeof(final_block), 100, &plain, &len),
                     STATUS_OK);
    assert_int_equal(len, 5);
    assert_memory_equal(plain, "Hello", 5);
    assert_int_equal(inflate_message(deflater, two_blocks, sizeof(two_blocks), 100, &plain, &len),
                     STATUS_OK);
    assert_memory_equal(plain, "Hello", 5);
    assert_int_equal(inflate_message(deflater, stored, sizeof(stored), 100, &plain, &len),
                     STATUS_OK);
    assert_memory_equal(plain, "Hello", 5);
    assert_int_equal(inflate_message(deflater, no_tail, sizeof(no_tail), 100, &plain, &len),
                     STATUS_OK);
    assert_memory_equal(plain, "Hello", 5);
    assert_int_equal(inflate_message(deflater, NULL, 0, 100, &plain, &len), STATUS_OK);
    assert_int_equal(len, 0);
    assert_int_equal(inflate_message(deflater, nonsense, sizeof(nonsense), 100, &plain, &len),
                     STATUS_INVALID);
    deflater_free(deflater);
}

static void refuses_a_stream_that_is_cut_off(void **state)
{
    (void)state;
    struct deflater *deflater = deflater_new();
    uint8_t text[600];
    struct rng rng;
    rng_seed(&rng, 11);
    for (size_t i = 0; i < sizeof(text); i++)
        text[i] = (uint8_t)('a' + rng_below(&rng, 20));
    struct wire *wire = deflate_message(deflater, 2, text, sizeof(text));
    assert_non_null(wire);
    wire->bytes[0] = 0xc1;
    size_t packed_len, len;
    const uint8_t *packed = payload_of(wire, &packed_len), *plain;
    assert_int_equal(inflate_message(deflater, packed, packed_len, 1000, &plain, &len), STATUS_OK);
    for (size_t cut = 1; cut < packed_len; cut++)
        assert_int_equal(inflate_message(deflater, packed, cut, 1000, &plain, &len),
                         STATUS_INVALID);
    wire_unref(wire);
    deflater_free(deflater);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(allows_listed_origins),
        cmocka_unit_test(allows_what_is_listed_literally),
        cmocka_unit_test(believes_trusted_proxies_alone),
        cmocka_unit_test(refuses_what_is_no_block),
        cmocka_unit_test(reads_both_versions),
        cmocka_unit_test(tells_how_much_to_skip_behind_the_addresses),
        cmocka_unit_test(refuses_other_beginnings),
        cmocka_unit_test(negotiates_the_first_offer_that_fits),
        cmocka_unit_test(inflates_what_it_deflated),
        cmocka_unit_test(does_not_deflate_where_it_does_not_pay),
        cmocka_unit_test(refuses_a_stream_that_is_cut_off),
        cmocka_unit_test(inflates_odd_but_legal_streams),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
