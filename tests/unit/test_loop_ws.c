/* The frame reader: the rules of RFC 6455, and that it does not matter where the input is cut. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/rng.h"
#include "loop/ws_head.h"
#include "loop/ws_reader.h"

static const struct ws_rules server = {.masked = true, .message_max = 1000, .too_large = 4003};
static const struct ws_rules client = {.masked = false, .message_max = 1000, .too_large = 1009};

struct frame_bytes {
    uint8_t at[65536];
    size_t len;
};

/* Appends a frame; mask NULL: none. */
static void put(struct frame_bytes *out, unsigned first_byte, const void *payload, size_t len,
                const uint8_t *mask)
{
    uint8_t *at = out->at + out->len;
    *at++ = (uint8_t)first_byte;
    uint8_t bit = mask ? 0x80 : 0;
    if (len < 126) {
        *at++ = (uint8_t)(bit | len);
    } else {
        *at++ = bit | 126;
        *at++ = (uint8_t)(len >> 8);
        *at++ = (uint8_t)len;
    }
    if (mask) {
        memcpy(at, mask, 4);
        at += 4;
    }
    for (size_t i = 0; i < len; i++)
        *at++ = ((const uint8_t *)payload)[i] ^ (mask ? mask[i & 3] : 0);
    out->len = (size_t)(at - out->at);
}

static const uint8_t mask[4] = {0x11, 0x22, 0x33, 0x44};

/* The close code after these bytes; 0: the reader needs more. */
static unsigned verdict(const struct ws_rules *rules, const struct frame_bytes *input)
{
    struct frame_bytes copy = *input;
    struct ws_reader reader = {0};
    struct ws_item item;
    uint8_t *at = copy.at;
    size_t len = copy.len;
    unsigned code = 0;
    while (code == 0 && ws_next(&reader, rules, &at, &len, &item)) {
        if (item.kind == WS_ITEM_BAD || item.kind == WS_ITEM_CLOSE)
            code = item.kind == WS_ITEM_BAD ? item.code : 1;
    }
    ws_reader_fini(&reader);
    return code;
}

#define EXPECT(code, rules, ...)                             \
    do {                                                     \
        struct frame_bytes input = {.len = 0};               \
        __VA_ARGS__;                                         \
        assert_int_equal(verdict(&(rules), &input), (code)); \
    } while (0)
#define FRAME(first, text)    put(&input, first, text, sizeof(text) - 1, mask)
#define UNMASKED(first, text) put(&input, first, text, sizeof(text) - 1, NULL)

static void refuses_what_the_protocol_forbids(void **state)
{
    (void)state;
    static uint8_t zeros[2000];
    EXPECT(1002, server, UNMASKED(0x81, "hi"));
    EXPECT(1002, client, FRAME(0x81, "hi"));
    EXPECT(1002, server, FRAME(0xc1, "hi"));
    EXPECT(1002, server, FRAME(0xa1, "hi"));
    EXPECT(1002, server, FRAME(0x91, "hi"));
    for (unsigned opcode = 3; opcode < 8; opcode++)
        EXPECT(1002, server, FRAME(0x80 | opcode, "hi"));
    for (unsigned opcode = 11; opcode < 16; opcode++)
        EXPECT(1002, server, FRAME(0x80 | opcode, "hi"));
    EXPECT(1002, server, FRAME(0x09, "fragment"));
    EXPECT(1002, server, put(&input, 0x89, zeros, 126, mask));
    EXPECT(1002, server, FRAME(0x80, "of nothing"));
    EXPECT(1002, server, FRAME(0x01, "a"), FRAME(0x81, "b"));
    EXPECT(1002, server, FRAME(0x01, "a"), FRAME(0x80, "b"), FRAME(0x80, "c"));
    EXPECT(1007, server, FRAME(0x81, "\xc0\x80"));
    EXPECT(1007, server, FRAME(0x81, "\xe2\x82"));
    EXPECT(1007, server, FRAME(0x01, "\xe2\x82"), FRAME(0x80, "A"));
    EXPECT(1007, server, FRAME(0x01, "\xed"), FRAME(0x00, "\xa0"));
    EXPECT(4003, server, put(&input, 0x82, zeros, 1001, mask));
    EXPECT(1009, client, put(&input, 0x82, zeros, 1001, NULL));
    EXPECT(4003, server, put(&input, 0x02, zeros, 600, mask), put(&input, 0x80, zeros, 401, mask));
    EXPECT(0, server, put(&input, 0x02, zeros, 600, mask), put(&input, 0x80, zeros, 400, mask));
}

static void refuses_by_the_header_alone(void **state)
{
    (void)state;
    static const uint8_t huge[] = {0x82, 0xff, 0, 0, 0, 0, 0x40, 0, 0, 0, 1, 2, 3, 4};
    static const uint8_t negative[] = {0x82, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 1, 1, 2, 3, 4};
    static const uint8_t padded16[] = {0x82, 0xfe, 0, 125, 1, 2, 3, 4};
    static const uint8_t padded64[] = {0x82, 0xff, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 1, 2, 3, 4};
    struct frame_bytes input = {.len = sizeof(huge)};
    memcpy(input.at, huge, sizeof(huge));
    assert_int_equal(verdict(&server, &input), 4003);
    memcpy(input.at, negative, sizeof(negative));
    assert_int_equal(verdict(&server, &input), 1002);
    memcpy(input.at, padded64, sizeof(padded64));
    assert_int_equal(verdict(&server, &input), 1002);
    input.len = sizeof(padded16);
    memcpy(input.at, padded16, sizeof(padded16));
    assert_int_equal(verdict(&server, &input), 1002);
    input.len = 2; /* an unmasked frame needs no more than this to be refused */
    memcpy(input.at, "\x81\x02", 2);
    assert_int_equal(verdict(&server, &input), 1002);
}

/* The rules are those of the configuration in force, which may change between two reads. */
static void a_lowered_limit_holds_for_a_message_under_way(void **state)
{
    (void)state;
    static const struct {
        size_t first, cut, second; /* bytes of two fragments; cut: of the first that came before */
        size_t limit;              /* of the second read */
        unsigned code;
    } cases[] = {
        {900, 900, 50, 1000, 0},   {900, 900, 50, 950, 0},   {900, 900, 50, 949, 4003},
        {900, 900, 50, 500, 4003}, {900, 900, 0, 900, 0},    {900, 900, 0, 899, 4003},
        {900, 300, 0, 899, 4003},  {900, 300, 0, 200, 4003}, {900, 300, 0, 900, 0},
    };
    static const uint8_t noise[1000];
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        struct frame_bytes input = {.len = 0};
        struct ws_reader reader = {0};
        struct ws_item item;
        put(&input, 0x02, noise, cases[i].first, mask);
        size_t first_read = 8 + cases[i].cut; /* its header has eight bytes */
        put(&input, 0x00, noise, cases[i].second, mask);
        uint8_t *at = input.at;
        size_t len = first_read;
        assert_false(ws_next(&reader, &server, &at, &len, &item));
        struct ws_rules lowered = server;
        lowered.message_max = cases[i].limit;
        len = input.len - first_read;
        bool found = ws_next(&reader, &lowered, &at, &len, &item);
        assert_int_equal(found ? item.code : 0, cases[i].code);
        ws_reader_fini(&reader);
    }
}

static void checks_close_frames(void **state)
{
    (void)state;
    EXPECT(1, server, FRAME(0x88, ""));
    EXPECT(1002, server, FRAME(0x88, "\x03"));
    EXPECT(1007, server, FRAME(0x88, "\x03\xe8\xff"));
    EXPECT(1, server, FRAME(0x88, "\x03\xe8good bye"));
    static const unsigned valid[] = {1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010,
                                     1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999};
    static const unsigned invalid[] = {0,    999,  1004, 1005, 1006, 1015,
                                       1016, 1100, 2000, 2999, 5000, 65535};
    for (size_t i = 0; i < sizeof(valid) / sizeof(*valid); i++)
        assert_true(ws_close_code_valid(valid[i]));
    for (size_t i = 0; i < sizeof(invalid) / sizeof(*invalid); i++)
        assert_false(ws_close_code_valid(invalid[i]));
}

static void cuts_a_close_reason_between_characters(void **state)
{
    (void)state;
    uint8_t out[WS_CONTROL_MAX];
    char reason[200];
    memset(reason, 'a', sizeof(reason));
    memcpy(reason + 122, "\xe2\x82\xac", 3);
    reason[199] = '\0';
    assert_int_equal(ws_close_payload(out, 1000, reason), 2 + 122);
    assert_int_equal(ws_close_payload(out, 1000, NULL), 2);
    assert_int_equal(ws_close_payload(out, 1005, "x"), 0);
    assert_memory_equal(out, "\x03\xe8", 2);
}

static void takes_rsv1_where_it_was_agreed(void **state)
{
    (void)state;
    struct ws_rules deflate = server;
    deflate.rsv1 = true;
    EXPECT(0, deflate, FRAME(0xc1, "\xff\xff not UTF-8 is fine"));
    EXPECT(1002, deflate, FRAME(0x41, "a"), FRAME(0xc0, "b"));
    EXPECT(1002, deflate, FRAME(0xc9, "ping"));
}

/* --- wherever the input is cut --- */

struct sent {
    uint8_t kind, opcode;
    uint8_t payload[300];
    size_t len;
};

struct script {
    struct frame_bytes wire;
    struct sent items[64];
    size_t len;
};

static void random_ascii(struct rng *rng, uint8_t *out, size_t len)
{
    for (size_t i = 0; i < len; i++)
        out[i] = (uint8_t)(' ' + rng_below(rng, 90));
}

static void add_control(struct rng *rng, struct script *script)
{
    struct sent *item = &script->items[script->len++];
    item->kind = rng_below(rng, 2) == 0 ? WS_ITEM_PING : WS_ITEM_PONG;
    item->len = rng_below(rng, 126);
    random_ascii(rng, item->payload, item->len);
    put(&script->wire, item->kind == WS_ITEM_PING ? 0x89 : 0x8a, item->payload, item->len, mask);
}

/* A message in one to four frames, with control frames among them: those come out first. */
static void add_message(struct rng *rng, struct script *script)
{
    struct sent message = {.kind = WS_ITEM_MESSAGE,
                           .opcode = rng_below(rng, 2) == 0 ? WS_TEXT : WS_BINARY};
    message.len = rng_below(rng, sizeof(message.payload) + 1);
    random_ascii(rng, message.payload, message.len);
    size_t frames = 1 + rng_below(rng, 4), from = 0;
    for (size_t i = 0; i < frames; i++) {
        size_t n = i + 1 == frames ? message.len - from : rng_below(rng, message.len - from + 1);
        unsigned opcode = i == 0 ? message.opcode : WS_CONTINUATION;
        uint8_t key[4];
        random_ascii(rng, key, 4);
        put(&script->wire, opcode | (i + 1 == frames ? 0x80 : 0), message.payload + from, n, key);
        from += n;
        if (i + 1 < frames && rng_below(rng, 3) == 0)
            add_control(rng, script);
    }
    script->items[script->len++] = message;
}

static void expect_item(const struct sent *sent, const struct ws_item *item)
{
    assert_int_equal(item->kind, sent->kind);
    assert_int_equal(item->len, sent->len);
    if (sent->len > 0)
        assert_memory_equal(item->payload, sent->payload, sent->len);
    if (sent->kind == WS_ITEM_MESSAGE)
        assert_int_equal(item->opcode, sent->opcode);
}

static void replay(struct rng *rng, const struct script *script)
{
    static uint8_t copy[65536];
    memcpy(copy, script->wire.at, script->wire.len);
    struct ws_reader reader = {0};
    size_t at = 0, seen = 0;
    while (at < script->wire.len) {
        size_t n = 1 + rng_below(rng, rng_below(rng, 2) == 0 ? 3 : 700);
        if (n > script->wire.len - at)
            n = script->wire.len - at;
        uint8_t *bytes = copy + at;
        at += n;
        struct ws_item item;
        while (ws_next(&reader, &server, &bytes, &n, &item)) {
            assert_true(seen < script->len);
            expect_item(&script->items[seen++], &item);
        }
        assert_int_equal(n, 0);
    }
    assert_int_equal(seen, script->len);
    assert_null(reader.partial); /* nothing is held between messages */
}

static void reads_the_same_wherever_it_is_cut(void **state)
{
    (void)state;
    uint64_t seed = clock_boot_us();
    const char *given = getenv("VINHUB_TEST_SEED");
    if (given)
        seed = strtoull(given, NULL, 10);
    print_message("# VINHUB_TEST_SEED=%llu\n", (unsigned long long)seed);
    struct rng rng;
    rng_seed(&rng, seed);
    for (int round = 0; round < 300; round++) {
        static struct script script;
        script.len = 0;
        script.wire.len = 0;
        for (int i = 0; i < 8; i++)
            add_message(&rng, &script);
        for (int i = 0; i < 4; i++)
            replay(&rng, &script);
    }
}

static void unmasks_from_any_offset(void **state)
{
    (void)state;
    uint8_t plain[100], masked[100];
    for (size_t i = 0; i < sizeof(plain); i++) {
        plain[i] = (uint8_t)(i * 7);
        masked[i] = plain[i] ^ mask[i & 3];
    }
    for (size_t cut = 0; cut <= sizeof(plain); cut++) {
        uint8_t work[100];
        memcpy(work, masked, sizeof(work));
        ws_mask(work, cut, mask, 0);
        ws_mask(work + cut, sizeof(work) - cut, mask, cut);
        assert_memory_equal(work, plain, sizeof(plain));
    }
}

static void frame_heads_take_the_shortest_length_form(void **state)
{
    (void)state;
    static const struct {
        unsigned opcode;
        bool rsv1;
        size_t len;
        size_t head_len;
        uint8_t head[10];
    } cases[] = {
        {1, false, 0, 2, {0x81, 0}},
        {2, false, 125, 2, {0x82, 125}},
        {1, true, 5, 2, {0xc1, 5}},
        {1, false, 126, 4, {0x81, 126, 0, 126}},
        {1, false, 65535, 4, {0x81, 126, 0xff, 0xff}},
        {2, true, 65536, 10, {0xc2, 127, 0, 0, 0, 0, 0, 1, 0, 0}},
        {1, false, 0x123456789aU, 10, {0x81, 127, 0, 0, 0, 0x12, 0x34, 0x56, 0x78, 0x9a}},
        {8, false, 2, 2, {0x88, 2}},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        uint8_t out[WS_SERVER_HEAD_MAX];
        assert_int_equal(ws_head(out, cases[i].opcode, cases[i].rsv1, cases[i].len),
                         cases[i].head_len);
        assert_memory_equal(out, cases[i].head, cases[i].head_len);
        assert_int_equal(ws_head_len(out), cases[i].head_len);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(refuses_what_the_protocol_forbids),
        cmocka_unit_test(refuses_by_the_header_alone),
        cmocka_unit_test(a_lowered_limit_holds_for_a_message_under_way),
        cmocka_unit_test(checks_close_frames),
        cmocka_unit_test(cuts_a_close_reason_between_characters),
        cmocka_unit_test(takes_rsv1_where_it_was_agreed),
        cmocka_unit_test(frame_heads_take_the_shortest_length_form),
        cmocka_unit_test(reads_the_same_wherever_it_is_cut),
        cmocka_unit_test(unmasks_from_any_offset),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
