/* Frame headers by RFC 6455 section 5.2, and the one allocation that is payload and raw frame at
 * once. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "common/publication.h"

static void frame_headers_take_the_shortest_length_form(void **state)
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
        uint8_t out[10];
        assert_int_equal(frame_header(out, cases[i].opcode, cases[i].rsv1, cases[i].len),
                         cases[i].head_len);
        assert_memory_equal(out, cases[i].head, cases[i].head_len);
    }
}

static void the_frame_is_header_and_payload_in_a_row(void **state)
{
    (void)state;
    static const size_t lens[] = {0, 1, 125, 126, 65535, 65536, 1 << 20};
    for (size_t i = 0; i < sizeof(lens) / sizeof(lens[0]); i++) {
        uint8_t *payload = malloc(lens[i] + 1), head[10];
        memset(payload, 'x', lens[i]);
        struct publication *p = publication_copy(OPCODE_BINARY, payload, lens[i]);
        size_t head_len = frame_header(head, OPCODE_BINARY, false, lens[i]), len;
        const uint8_t *frame = publication_frame(p, &len);

        assert_int_equal(len, head_len + lens[i]);
        assert_memory_equal(frame, head, head_len);
        assert_memory_equal(frame + head_len, payload, lens[i]);
        assert_int_equal(p->len, lens[i]);
        assert_int_equal(p->opcode, OPCODE_BINARY);
        assert_int_equal(p->at.epoch, 0);
        assert_int_equal(p->at.offset, 0);
        publication_unref(p);
        free(payload);
    }
}

static void the_last_reference_frees_the_forms_that_nobody_else_holds(void **state)
{
    (void)state;
    struct publication *p = publication_new(OPCODE_TEXT, 3);
    memcpy(p->payload, "abc", 3);
    struct wire *json = wire_new(10), *deflated = wire_new(0);
    p->forms[WIRE_JSON][0] = json;
    p->forms[WIRE_RAW][1] = deflated;
    wire_ref(json); /* a client's queue */

    assert_ptr_equal(publication_ref(p), p);
    publication_unref(p);
    assert_int_equal(p->refs, 1);
    assert_int_equal(json->refs, 2);
    publication_unref(p);
    assert_int_equal(json->refs, 1);
    memset(json->bytes, 1, json->len);
    wire_unref(json);
}

static void sizes_that_overflow_are_refused(void **state)
{
    (void)state;
    assert_null(publication_new(OPCODE_TEXT, SIZE_MAX));
    assert_null(publication_new(OPCODE_TEXT, SIZE_MAX - sizeof(struct publication)));
    assert_null(wire_new(SIZE_MAX));
}

static void positions_compare_by_epoch_then_offset(void **state)
{
    (void)state;
    static const struct {
        struct position a, b;
        int order;
    } cases[] = {
        {{1, 1}, {1, 1}, 0},  {{1, 1}, {1, 2}, -1}, {{1, 2}, {1, 1}, 1},
        {{1, 9}, {2, 1}, -1}, {{2, 1}, {1, 9}, 1},  {{0, 0}, {UINT64_MAX, 0}, -1},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        assert_int_equal(position_compare(cases[i].a, cases[i].b), cases[i].order);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(frame_headers_take_the_shortest_length_form),
        cmocka_unit_test(the_frame_is_header_and_payload_in_a_row),
        cmocka_unit_test(the_last_reference_frees_the_forms_that_nobody_else_holds),
        cmocka_unit_test(sizes_that_overflow_are_refused),
        cmocka_unit_test(positions_compare_by_epoch_then_offset),
    };
    return cmocka_run_group_tests_name("publication", tests, NULL, NULL);
}
