/* Durations, sizes, names, UTF-8 in one piece and in many, and %XX. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "common/text.h"

#define LEN(array) (sizeof(array) / sizeof((array)[0]))

static void durations_need_a_unit(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint32_t ms;
        const char *printed;
    } good[] = {
        {"0", 0, "0"},
        {"0s", 0, "0"},
        {"1ms", 1, "1ms"},
        {"500ms", 500, "500ms"},
        {"5s", 5000, "5s"},
        {"1500ms", 1500, "1500ms"},
        {"90s", 90000, "90s"},
        {"60s", 60000, "1m"},
        {"2m", 120000, "2m"},
        {"1h", 3600000, "1h"},
        {"24h", 86400000, "24h"},
        {"4294967295ms", UINT32_MAX, "4294967295ms"},
    };
    for (size_t i = 0; i < LEN(good); i++) {
        uint32_t ms = 1;
        char printed[32];
        assert_int_equal(text_duration(good[i].text, &ms), STATUS_OK);
        assert_int_equal(ms, good[i].ms);
        text_duration_print(ms, printed);
        assert_string_equal(printed, good[i].printed);
    }
    static const char *const bad[] = {
        "",     "5",   "s",    "ms",           "-1s",    "+1s",
        "1.5s", "5 s", " 5s",  "5s ",          "5S",     "5sec",
        "5d",   "00x", "0x5s", "4294967296ms", "99999h", "99999999999999999999s",
        "5KiB", "five"};
    for (size_t i = 0; i < LEN(bad); i++) {
        uint32_t ms = 77;
        assert_int_equal(text_duration(bad[i], &ms), STATUS_INVALID);
        assert_int_equal(ms, 77);
    }
}

static void sizes_are_bytes_or_binary_units(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        size_t bytes;
        const char *printed;
    } good[] = {
        {"0", 0, "0"},          {"100", 100, "100"},          {"1KiB", 1024, "1KiB"},
        {"1024", 1024, "1KiB"}, {"256KiB", 262144, "256KiB"}, {"1MiB", 1048576, "1MiB"},
        {"1025", 1025, "1025"}, {"1024KiB", 1048576, "1MiB"}, {"1GiB", 1073741824, "1GiB"},
    };
    for (size_t i = 0; i < LEN(good); i++) {
        size_t bytes = 1;
        char printed[32];
        assert_int_equal(text_size(good[i].text, &bytes), STATUS_OK);
        assert_int_equal(bytes, good[i].bytes);
        text_size_print(bytes, printed);
        assert_string_equal(printed, good[i].printed);
    }
    static const char *const bad[] = {"",
                                      "KiB",
                                      "1KB",
                                      "1kb",
                                      "1MB",
                                      "1 MiB",
                                      "-1",
                                      "1.5MiB",
                                      "5s",
                                      "99999999999999999999",
                                      "18446744073709551615KiB"};
    for (size_t i = 0; i < LEN(bad); i++) {
        size_t bytes = 77;
        assert_int_equal(text_size(bad[i], &bytes), STATUS_INVALID);
        assert_int_equal(bytes, 77);
    }
}

static void names_are_short_and_plain(void **state)
{
    (void)state;
    char longest[66];
    memset(longest, 'a', sizeof(longest));
    assert_true(text_is_name("remoteWs", 8));
    assert_true(text_is_name("A_z.0-9", 7));
    assert_true(text_is_name(longest, 64));
    assert_false(text_is_name(longest, 65));
    assert_false(text_is_name("", 0));
    static const char *const bad[] = {"a b", "a/b", "a:b", "\xc3\xa4", "a%", "{a}"};
    for (size_t i = 0; i < LEN(bad); i++)
        assert_false(text_is_name(bad[i], strlen(bad[i])));
    assert_false(text_is_name("a\0b", 3));
}

struct text_bytes {
    const char *at;
    size_t len;
};
#define BYTES(text)            \
    {                          \
        text, sizeof(text) - 1 \
    }

static const struct text_bytes good_utf8[] = {
    BYTES(""),
    BYTES("a"),
    BYTES("a\0b"),
    BYTES("\x7f"),
    BYTES("\xc2\x80"),
    BYTES("\xdf\xbf"),
    BYTES("\xe0\xa0\x80"),
    BYTES("\xed\x9f\xbf"),
    BYTES("\xee\x80\x80"),
    BYTES("\xef\xbf\xbf"),
    BYTES("\xf0\x90\x80\x80"),
    BYTES("\xf4\x8f\xbf\xbf"),
    BYTES("12345678\xe2\x82\xac"
          "12345678"),
    BYTES("1234567\xf0\x9f\x9a\x97"),
};

static const struct text_bytes bad_utf8[] = {
    BYTES("\x80"),
    BYTES("\xbf"),
    BYTES("\xc0\x80"),
    BYTES("\xc1\xbf"),
    BYTES("\xc2"),
    BYTES("\xc2\x41"),
    BYTES("\xe0\x80\x80"),
    BYTES("\xe0\x9f\xbf"),
    BYTES("\xe2\x82"),
    BYTES("\xed\xa0\x80"),
    BYTES("\xed\xbf\xbf"),
    BYTES("\xf0\x80\x80\x80"),
    BYTES("\xf0\x8f\xbf\xbf"),
    BYTES("\xf4\x90\x80\x80"),
    BYTES("\xf5\x80\x80\x80"),
    BYTES("\xfe"),
    BYTES("\xff"),
    BYTES("12345678\xe2\x82"
          "12345678"),
    BYTES("a\xf0\x9f\x9a"),
};

static void utf8_is_checked_by_rfc_3629(void **state)
{
    (void)state;
    for (size_t i = 0; i < LEN(good_utf8); i++)
        assert_true(text_is_utf8(good_utf8[i].at, good_utf8[i].len));
    for (size_t i = 0; i < LEN(bad_utf8); i++)
        assert_false(text_is_utf8(bad_utf8[i].at, bad_utf8[i].len));
}

static bool check_in_two(struct text_bytes text, size_t cut)
{
    uint32_t utf8 = 0;
    return text_utf8_piece(&utf8, text.at, cut) &&
           text_utf8_piece(&utf8, text.at + cut, text.len - cut) && utf8 == 0;
}

static void utf8_in_pieces_is_the_same_as_whole(void **state)
{
    (void)state;
    for (size_t i = 0; i < LEN(good_utf8); i++) {
        for (size_t cut = 0; cut <= good_utf8[i].len; cut++)
            assert_true(check_in_two(good_utf8[i], cut));
    }
    for (size_t i = 0; i < LEN(bad_utf8); i++) {
        for (size_t cut = 0; cut <= bad_utf8[i].len; cut++)
            assert_false(check_in_two(bad_utf8[i], cut));
    }
}

/* Every sequence of two, three and four bytes is good exactly where decoding it by hand says so. */
static bool is_good_sequence(const uint8_t *b, size_t len)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    uint32_t code = len == 2 ? b[0] & 0x1fU : len == 3 ? b[0] & 0x0fU : b[0] & 0x07U;
    uint8_t mark = len == 2 ? 0xc0 : len == 3 ? 0xe0 : 0xf0;
    uint8_t mask = len == 2 ? 0xe0 : len == 3 ? 0xf0 : 0xf8;
    if ((b[0] & mask) != mark)
        return false;
    for (size_t i = 1; i < len; i++) {
        if ((b[i] & 0xc0) != 0x80)
            return false;
        code = code << 6 | (b[i] & 0x3fU);
    }
    return code >= least[len] && code <= 0x10ffff && (code < 0xd800 || code > 0xdfff);
}

static void every_sequence_with_a_lead_byte_is_judged_right(void **state)
{
    (void)state;
    for (unsigned lead = 0xc0; lead <= 0xff; lead++) {
        for (unsigned second = 0; second <= 0xff; second++) {
            size_t len = lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
            uint8_t bytes[4] = {(uint8_t)lead, (uint8_t)second, 0x80, 0xbf};
            assert_int_equal(text_is_utf8(bytes, len), is_good_sequence(bytes, len));
        }
    }
}

static void percent_escapes_are_decoded_or_refused(void **state)
{
    (void)state;
    static const struct {
        const char *text, *decoded;
    } good[] = {{"", ""},         {"abc", "abc"}, {"%41", "A"}, {"a%2Fb%2fc", "a/b/c"},
                {"%2541", "%41"}, {"a+b", "a+b"}};
    char out[32];
    size_t len;
    for (size_t i = 0; i < LEN(good); i++) {
        assert_int_equal(text_percent_decode(good[i].text, strlen(good[i].text), out, &len),
                         STATUS_OK);
        assert_string_equal(out, good[i].decoded);
        assert_int_equal(len, strlen(good[i].decoded));
    }
    assert_int_equal(text_percent_decode("a%00b", 5, out, &len), STATUS_OK);
    assert_int_equal(len, 3);
    assert_memory_equal(out, "a\0b", 4);

    static const char *const bad[] = {"%", "%4", "a%", "%4g", "%g4", "%%41", "%-1", "% 1"};
    for (size_t i = 0; i < LEN(bad); i++) {
        len = 77;
        assert_int_equal(text_percent_decode(bad[i], strlen(bad[i]), out, &len), STATUS_INVALID);
        assert_int_equal(len, 77);
    }
    /* the length counts, not the bytes after it */
    assert_int_equal(text_percent_decode("%41", 2, out, &len), STATUS_INVALID);
}

static void every_status_has_a_name(void **state)
{
    (void)state;
    assert_string_equal(status_name(STATUS_OK), "ok");
    for (int status = STATUS_TIMEOUT; status <= STATUS_OK; status++)
        assert_string_not_equal(status_name((enum status)status), "unknown");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(durations_need_a_unit),
        cmocka_unit_test(sizes_are_bytes_or_binary_units),
        cmocka_unit_test(names_are_short_and_plain),
        cmocka_unit_test(utf8_is_checked_by_rfc_3629),
        cmocka_unit_test(utf8_in_pieces_is_the_same_as_whole),
        cmocka_unit_test(every_sequence_with_a_lead_byte_is_judged_right),
        cmocka_unit_test(percent_escapes_are_decoded_or_refused),
        cmocka_unit_test(every_status_has_a_name),
    };
    return cmocka_run_group_tests_name("text", tests, NULL, NULL);
}
