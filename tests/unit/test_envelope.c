#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "common/envelope.h"
#include "common/rng.h"

#define BYTES(...) (const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__})

static void assert_slice(struct slice slice, const char *text)
{
    assert_int_equal(slice.len, strlen(text));
    if (slice.len > 0)
        assert_memory_equal(slice.at, text, slice.len);
}

/* Decodes a copy and drops the result; with the copy the sanitizer sees a read past the end. */
static enum status try_decode(const uint8_t *data, size_t len, struct envelope *out)
{
    struct envelope_item *items = NULL;
    uint8_t *copy = malloc(len > 0 ? len : 1);
    assert_non_null(copy);
    memcpy(copy, data, len);
    enum status status = envelope_decode(copy, len, out, &items);
    free(items);
    free(copy);
    return status;
}

static void every_field_survives_the_way_there_and_back(void **state)
{
    (void)state;
    const char binary[] = {0, 1, (char)0xff, 0};
    const struct envelope_item items[] = {
        {.kind = ITEM_COMMAND,
         .number = UINT64_MAX,
         .id = 7,
         .opcode = 2,
         .name = slice_of("client"),
         .bytes = {binary, sizeof(binary)}},
        {.kind = ITEM_PUBLICATION, .number = 65536, .time_ms = UINT64_C(1) << 40, .opcode = 1},
    };
    struct envelope sent = {.type = ENVELOPE_COMMANDS,
                            .session = slice_of("a:b"),
                            .node = slice_of("n-1"),
                            .life = UINT64_C(1) << 63,
                            .number = 255,
                            .epoch = 256,
                            .offset = 65535,
                            .count = UINT32_MAX,
                            .status = 127,
                            .text = slice_of("reason"),
                            .url = slice_of("ws://h/p"),
                            .items = items,
                            .items_len = 2};
    uint8_t *data;
    size_t len;
    assert_int_equal(envelope_encode(&sent, &data, &len), STATUS_OK);

    struct envelope got;
    struct envelope_item *got_items;
    assert_int_equal(envelope_decode(data, len, &got, &got_items), STATUS_OK);
    assert_int_equal(got.type, ENVELOPE_COMMANDS);
    assert_slice(got.session, "a:b");
    assert_slice(got.node, "n-1");
    assert_true(got.life == UINT64_C(1) << 63);
    assert_true(got.number == 255 && got.epoch == 256 && got.offset == 65535 &&
                got.count == UINT32_MAX && got.status == 127);
    assert_slice(got.text, "reason");
    assert_slice(got.url, "ws://h/p");
    assert_int_equal(got.items_len, 2);
    assert_ptr_equal(got.items, got_items);
    assert_int_equal(got_items[0].kind, ITEM_COMMAND);
    assert_true(got_items[0].number == UINT64_MAX && got_items[0].id == 7 &&
                got_items[0].opcode == 2);
    assert_slice(got_items[0].name, "client");
    assert_int_equal(got_items[0].bytes.len, sizeof(binary));
    assert_memory_equal(got_items[0].bytes.at, binary, sizeof(binary));
    assert_int_equal(got_items[1].kind, ITEM_PUBLICATION);
    assert_true(got_items[1].number == 65536 && got_items[1].time_ms == UINT64_C(1) << 40 &&
                got_items[1].bytes.len == 0);
    free(got_items);
    free(data);
}

static void a_grant_of_a_script_stops_early_and_decodes(void **state)
{
    (void)state;
    /* cmsgpack.pack({1, 20, "s:k", "n1", 0, 0, 1700000000123}) as Redis 7.0 makes it */
    const uint8_t grant[] = {0x97, 0x01, 0x14, 0xa3, 's',  ':',  'k',  0xa2, 'n',  '1', 0x00,
                             0x00, 0xcf, 0x00, 0x00, 0x01, 0x8b, 0xcf, 0xe5, 0x68, 0x7b};
    struct envelope got;
    struct envelope_item *items;
    assert_int_equal(envelope_decode(grant, sizeof(grant), &got, &items), STATUS_OK);
    assert_int_equal(got.type, ENVELOPE_GRANT);
    assert_slice(got.session, "s:k");
    assert_slice(got.node, "n1");
    assert_true(got.epoch == UINT64_C(1700000000123));
    assert_true(got.offset == 0 && got.count == 0 && got.status == 0 && got.text.len == 0 &&
                got.items_len == 0);
    assert_null(items);
}

static void numbers_come_in_every_width_but_never_negative(void **state)
{
    (void)state;
    struct envelope got;
    assert_int_equal(try_decode(BYTES(0x95, 1, 1, 0xa0, 0xa0, 0xcc, 0xff), &got), STATUS_OK);
    assert_true(got.life == 0xff);
    assert_int_equal(try_decode(BYTES(0x95, 1, 1, 0xa0, 0xa0, 0xcd, 1, 0), &got), STATUS_OK);
    assert_true(got.life == 0x100);
    assert_int_equal(try_decode(BYTES(0x95, 1, 1, 0xa0, 0xa0, 0xd3, 0, 0, 0, 0, 0, 1, 0, 0), &got),
                     STATUS_OK);
    assert_true(got.life == 0x10000);
    assert_int_equal(try_decode(BYTES(0x95, 1, 1, 0xa0, 0xa0, 0xd0, 0xff), &got), STATUS_INVALID);
    assert_int_equal(try_decode(BYTES(0x95, 1, 1, 0xa0, 0xa0, 0xff), &got), STATUS_INVALID);
    assert_int_equal(try_decode(BYTES(0x95, 1, 1, 0xa0, 0xa0, 0xcb, 0, 0, 0, 0, 0, 0, 0, 0), &got),
                     STATUS_INVALID);
    assert_int_equal(try_decode(BYTES(0x95, 1, 1, 0xa0, 0xa0, 0xa1, '7'), &got), STATUS_INVALID);
}

static void a_string_may_come_as_bin_and_bytes_as_str(void **state)
{
    (void)state;
    struct envelope got;
    struct envelope_item *items;
    const uint8_t data[] = {0x9d, 1,    21, 0xc4, 1,    's',  0xda, 0,    1, 'n', 0,  0,
                            0,    0,    0,  0,    0xa0, 0xa0, 0x91, 0x97, 0, 1,   0,  0,
                            1,    0xc6, 0,  0,    0,    1,    'x',  0xd9, 2, 'h', 'i'};
    assert_int_equal(envelope_decode(data, sizeof(data), &got, &items), STATUS_OK);
    assert_slice(got.session, "s");
    assert_slice(got.node, "n");
    assert_int_equal(got.items_len, 1);
    assert_slice(items[0].name, "x");
    assert_slice(items[0].bytes, "hi");
    free(items);
}

static void fields_of_a_newer_version_are_ignored(void **state)
{
    (void)state;
    struct envelope got;
    /* version 2, type 99, two further fields: a nested map and an ext; an item with a further float
     */
    const uint8_t data[] = {0x9f, 2,    99,   0xa0, 0xa0, 0,    0,    5, 0,    0,
                            0,    0xa0, 0xa0, 0x91, 0x99, 9,    3,    0, 0,    0,
                            0xa0, 0xa0, 7,    0xca, 0,    0,    0,    0, 0x82, 0xa1,
                            'k',  0x92, 0xc0, 0xc3, 1,    0x80, 0xd5, 1, 2,    3};
    assert_int_equal(try_decode(data, sizeof(data), &got), STATUS_OK);
    assert_int_equal(got.type, 99);
    assert_true(got.epoch == 5);
    assert_int_equal(got.items_len, 1);
    for (size_t len = 0; len < sizeof(data); len++)
        assert_int_equal(try_decode(data, len, &got), STATUS_INVALID);
}

static void what_is_no_message_is_refused(void **state)
{
    (void)state;
    struct envelope got;
    assert_int_equal(try_decode((const uint8_t *)"", 0, &got), STATUS_INVALID);
    assert_int_equal(try_decode(BYTES(0x91, 1), &got), STATUS_INVALID);       /* no type */
    assert_int_equal(try_decode(BYTES(0x92, 0, 1), &got), STATUS_INVALID);    /* version 0 */
    assert_int_equal(try_decode(BYTES(0x92, 1, 1, 0), &got), STATUS_INVALID); /* trailing byte */
    assert_int_equal(try_decode(BYTES(0x81, 1, 1), &got), STATUS_INVALID);    /* a map */
    assert_int_equal(try_decode(BYTES(0x93, 1, 1, 5), &got),
                     STATUS_INVALID); /* session is a number */
    assert_int_equal(try_decode(BYTES(0x93, 1, 1, 0xc0), &got),
                     STATUS_INVALID); /* session is nil */
    assert_int_equal(try_decode(BYTES(0x92, 1, 0xcf, 1, 0, 0, 0, 0, 0, 0, 0), &got),
                     STATUS_INVALID);
    assert_int_equal(try_decode(BYTES(0x93, 1, 1, 0xdb, 0xff, 0xff, 0xff, 0xff), &got),
                     STATUS_INVALID);
    assert_int_equal(try_decode(BYTES(0xdd, 0xff, 0xff, 0xff, 0xff, 1, 1), &got), STATUS_INVALID);
}

static void deep_nesting_ends_without_recursion(void **state)
{
    (void)state;
    struct envelope got;
    uint8_t data[4096] = {0x9e, 1, 1, 0xa0, 0xa0, 0, 0, 0, 0, 0, 0, 0xa0, 0xa0, 0x90};
    memset(data + 14, 0x91, sizeof(data) - 15);
    data[sizeof(data) - 1] = 0;
    assert_int_equal(try_decode(data, sizeof(data), &got), STATUS_INVALID);
}

static void more_than_65536_items_are_refused(void **state)
{
    (void)state;
    const uint8_t head[] = {0x9d, 1, 1, 0xa0, 0xa0, 0, 0, 0, 0, 0, 0, 0xa0, 0xa0, 0xdd, 0, 1, 0, 0};
    uint8_t *data = malloc(sizeof(head) + 65537);
    assert_non_null(data);
    memcpy(data, head, sizeof(head));
    memset(data + sizeof(head), 0x90, 65537);
    struct envelope got;
    assert_int_equal(try_decode(data, sizeof(head) + 65536, &got), STATUS_OK);
    assert_int_equal(got.items_len, 65536);
    data[sizeof(head) - 1] = 1;
    assert_int_equal(try_decode(data, sizeof(head) + 65537, &got), STATUS_INVALID);
    free(data);
}

static void a_failed_decode_leaves_the_output_alone(void **state)
{
    (void)state;
    struct envelope got = {.type = 77};
    struct envelope_item *items = NULL;
    const uint8_t data[] = {0x9d, 1, 1, 0xa0, 0xa0, 0, 0, 0, 0, 0, 0, 0xa0, 0xa0, 0x92, 0x90, 0x05};
    assert_int_equal(envelope_decode(data, sizeof(data), &got, &items), STATUS_INVALID);
    assert_int_equal(got.type, 77);
    assert_null(items);
}

/* It would end a browser's connection. */
static void a_text_that_is_not_utf8_is_no_message(void **state)
{
    (void)state;
    static const struct {
        unsigned opcode;
        const char *bytes;
        enum status status;
    } cases[] = {{1, "caf\xc3\xa9", STATUS_OK},
                 {1, "caf\xc3", STATUS_INVALID},
                 {1, "\xed\xa0\x80", STATUS_INVALID},
                 {0, "\xff", STATUS_INVALID},
                 {2, "\xff", STATUS_OK},
                 {1, "", STATUS_OK}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        const struct envelope_item item = {.opcode = cases[i].opcode,
                                           .bytes = slice_of(cases[i].bytes)};
        const struct envelope sent = {
            .type = ENVELOPE_PUSH, .items = (struct envelope_item *)&item, .items_len = 1};
        struct envelope got;
        uint8_t *data;
        size_t len;
        assert_int_equal(envelope_encode(&sent, &data, &len), STATUS_OK);
        assert_int_equal(try_decode(data, len, &got), cases[i].status);
        free(data);
    }
}

/* Mutations of a good message: whatever is accepted has its strings within the input. */
static void damaged_messages_never_lead_outside(void **state)
{
    (void)state;
    const struct envelope_item item = {.kind = ITEM_COMMAND,
                                       .number = 300,
                                       .id = 70000,
                                       .name = slice_of("abc"),
                                       .bytes = slice_of("0123456789")};
    struct envelope sent = {.type = 3,
                            .session = slice_of("s:k"),
                            .node = slice_of("n"),
                            .epoch = UINT64_C(1) << 40,
                            .items = &item,
                            .items_len = 1};
    uint8_t *data;
    size_t len;
    assert_int_equal(envelope_encode(&sent, &data, &len), STATUS_OK);
    struct rng rng;
    rng_seed(&rng, 20261121);
    unsigned accepted = 0;
    for (unsigned round = 0; round < 20000; round++) {
        uint8_t *damaged = malloc(len);
        assert_non_null(damaged);
        memcpy(damaged, data, len);
        for (uint64_t n = 1 + rng_below(&rng, 3); n > 0; n--)
            damaged[rng_below(&rng, len)] = (uint8_t)rng_next(&rng);
        struct envelope got;
        struct envelope_item *items = NULL;
        if (envelope_decode(damaged, len, &got, &items) == STATUS_OK) {
            accepted++;
            assert_true(got.session.len == 0 ||
                        (got.session.at > (char *)damaged &&
                         got.session.at + got.session.len <= (char *)damaged + len));
            for (size_t i = 0; i < got.items_len; i++)
                assert_true(items[i].bytes.len == 0 ||
                            items[i].bytes.at + items[i].bytes.len <= (char *)damaged + len);
        }
        free(items);
        free(damaged);
    }
    assert_true(accepted > 100 && accepted < 19900);
    free(data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_field_survives_the_way_there_and_back),
        cmocka_unit_test(a_grant_of_a_script_stops_early_and_decodes),
        cmocka_unit_test(numbers_come_in_every_width_but_never_negative),
        cmocka_unit_test(a_string_may_come_as_bin_and_bytes_as_str),
        cmocka_unit_test(fields_of_a_newer_version_are_ignored),
        cmocka_unit_test(what_is_no_message_is_refused),
        cmocka_unit_test(deep_nesting_ends_without_recursion),
        cmocka_unit_test(more_than_65536_items_are_refused),
        cmocka_unit_test(a_failed_decode_leaves_the_output_alone),
        cmocka_unit_test(a_text_that_is_not_utf8_is_no_message),
        cmocka_unit_test(damaged_messages_never_lead_outside),
    };
    return cmocka_run_group_tests_name("envelope", tests, NULL, NULL);
}
