/* A publication: the allocation that is both payload and its plainest form, and the other forms
 * kept with it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "common/publication.h"

static struct publication *filled(size_t len)
{
    struct publication *p = publication_new(OPCODE_BINARY, len);
    memset(p->payload, 'x', len);
    return p;
}

static void a_head_and_the_payload_stand_in_a_row_without_a_copy(void **state)
{
    (void)state;
    static const size_t lens[] = {0, 1, 125, 65536, 1 << 20};
    for (size_t i = 0; i < sizeof(lens) / sizeof(lens[0]); i++) {
        struct publication *p = filled(lens[i]);
        const struct encoding *encoding = publication_encode_in_place(p, 3, "0123456789",
                                                                      WIRE_HEADROOM);
        assert_int_equal(encoding->len, WIRE_HEADROOM + lens[i]);
        assert_memory_equal(encoding->bytes, "0123456789", WIRE_HEADROOM);
        assert_ptr_equal(encoding->bytes + WIRE_HEADROOM, p->payload);
        assert_ptr_equal(publication_encoding(p, 3), encoding);
        assert_int_equal(p->len, lens[i]);
        assert_int_equal(p->opcode, OPCODE_BINARY);
        assert_int_equal(p->at.epoch, 0);
        assert_int_equal(p->at.offset, 0);
        for (size_t k = 0; k < lens[i]; k++)
            assert_int_equal(p->payload[k], 'x');
        publication_unref(p);
    }
}

static void each_form_is_kept_once(void **state)
{
    (void)state;
    struct publication *p = filled(5);
    assert_null(publication_encoding(p, 1));
    for (unsigned form = 1; form <= 40; form++) {
        struct wire *wire = wire_new(form);
        const struct encoding *made = publication_encode(p, form, wire);
        assert_ptr_equal(made->bytes, wire->bytes);
    }
    for (unsigned form = 1; form <= 40; form++)
        assert_int_equal(publication_encoding(p, form)->len, form);
    assert_null(publication_encoding(p, 41));
    assert_null(publication_encode(p, 41, NULL)); /* a form that could not be made is tried again */
    assert_null(publication_encoding(p, 41));
    publication_unref(p);
}

static void what_looks_alike_is_shared(void **state)
{
    (void)state;
    struct publication *p = filled(5);
    struct wire *wire = wire_new(9);
    const struct encoding *first = publication_encode(p, 1, wire);
    const struct encoding *second = publication_encode_alike(p, 2, first);
    assert_ptr_equal(second->bytes, wire->bytes);
    assert_int_equal(wire->refs, 2);
    const struct encoding *third = publication_encode_in_place(p, 3, "h", 1);
    const struct encoding *fourth = publication_encode_alike(p, 4, third);
    assert_ptr_equal(fourth->bytes, p->payload - 1);
    assert_int_equal(fourth->len, 6);
    publication_unref(p);
}

static void the_last_reference_frees_the_forms_that_nobody_else_holds(void **state)
{
    (void)state;
    struct publication *p = filled(3);
    struct wire *json = wire_new(10);
    publication_encode(p, 2, json);
    publication_encode(p, 5, wire_new(0));
    wire_ref(json); /* a second holder */

    assert_ptr_equal(publication_ref(p), p);
    publication_unref(p);
    assert_int_equal(p->refs, 1);
    assert_int_equal(json->refs, 2);
    publication_unref(p);
    assert_int_equal(json->refs, 1);
    memset(json->bytes, 1, json->len);
    wire_unref(json);
}

static void a_wire_has_room_for_a_head(void **state)
{
    (void)state;
    struct wire *wire = wire_new(100);
    memset(wire->bytes, 'b', 100);
    wire = wire_shrink(wire, 20);
    uint8_t *body = wire->bytes;
    memcpy(wire_prepend(wire, 4), "head", 4);
    memcpy(wire_prepend(wire, WIRE_HEADROOM - 4), "123456", WIRE_HEADROOM - 4);
    assert_int_equal(wire->len, 20 + WIRE_HEADROOM);
    assert_memory_equal(wire->bytes, "123456head", WIRE_HEADROOM);
    assert_ptr_equal(wire->bytes + WIRE_HEADROOM, body);
    for (size_t i = 0; i < 20; i++)
        assert_int_equal(body[i], 'b');
    wire_unref(wire);
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
        cmocka_unit_test(a_head_and_the_payload_stand_in_a_row_without_a_copy),
        cmocka_unit_test(each_form_is_kept_once),
        cmocka_unit_test(what_looks_alike_is_shared),
        cmocka_unit_test(a_wire_has_room_for_a_head),
        cmocka_unit_test(the_last_reference_frees_the_forms_that_nobody_else_holds),
        cmocka_unit_test(sizes_that_overflow_are_refused),
        cmocka_unit_test(positions_compare_by_epoch_then_offset),
    };
    return cmocka_run_group_tests_name("publication", tests, NULL, NULL);
}
