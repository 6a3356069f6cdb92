/* Each event is read back by a small reader after the WHATWG HTML standard, section 9.2.6. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "common/base64.h"
#include "common/event_stream.h"
#include "common/rng.h"

struct stream_event {
    char type[32];
    char id[64];
    uint8_t *data;
    size_t len;
    bool dispatched;
};

static size_t to_line_end(const uint8_t *at, size_t len, size_t *end)
{
    for (size_t i = 0; i < len; i++) {
        if (at[i] != '\n' && at[i] != '\r')
            continue;
        *end = at[i] == '\r' && i + 1 < len && at[i + 1] == '\n' ? 2 : 1;
        return i;
    }
    fail_msg("a line without an end");
    return len;
}

static void take_line(struct stream_event *event, const uint8_t *line, size_t len)
{
    const uint8_t *colon = memchr(line, ':', len);
    assert_non_null(colon);
    size_t name = (size_t)(colon - line), value_len = len - name - 1;
    const uint8_t *value = colon + 1;
    if (value_len > 0 && value[0] == ' ') {
        value++;
        value_len--;
    }
    if (name == 4 && memcmp(line, "data", 4) == 0) {
        memcpy(event->data + event->len, value, value_len);
        event->len += value_len;
        event->data[event->len++] = '\n';
    } else if (name == 5 && memcmp(line, "event", 5) == 0) {
        assert_true(value_len < sizeof(event->type));
        memcpy(event->type, value, value_len);
    } else {
        assert_true(name == 2 && memcmp(line, "id", 2) == 0 && value_len < sizeof(event->id));
        memcpy(event->id, value, value_len);
    }
}

/* The only event of a wire, which is released. */
static struct stream_event read_event(struct wire *wire)
{
    assert_non_null(wire);
    struct stream_event event = {.data = malloc(wire->len + 1)};
    const uint8_t *at = wire->bytes;
    size_t left = wire->len, end = 0, line;
    while ((line = to_line_end(at, left, &end)) > 0) {
        take_line(&event, at, line);
        at += line + end;
        left -= line + end;
    }
    assert_int_equal(left, end); /* nothing after the empty line */
    event.dispatched = event.len > 0;
    event.len -= event.dispatched ? 1 : 0;
    event.data[event.len] = '\0';
    wire_unref(wire);
    return event;
}

static struct stream_event event_of(enum opcode opcode, const void *payload, size_t len)
{
    struct publication *publication = publication_copy(opcode, payload, len);
    publication->at = (struct position){1800000000000, 7};
    struct stream_event event = read_event(event_publication(publication));
    publication_unref(publication);
    return event;
}

static void assert_text(const char *payload, const char *expected)
{
    struct stream_event event = event_of(OPCODE_TEXT, payload, strlen(payload));
    assert_true(event.dispatched);
    assert_string_equal(event.type, "message");
    assert_string_equal(event.id, "1800000000000.7");
    assert_string_equal((char *)event.data, expected);
    free(event.data);
}

static void assert_wire(struct wire *wire, const char *expected)
{
    assert_non_null(wire);
    assert_int_equal(wire->len, strlen(expected));
    assert_memory_equal(wire->bytes, expected, wire->len);
    wire_unref(wire);
}

static void a_position_is_a_lone_id(void **state)
{
    (void)state;
    assert_wire(event_position((struct position){1800000000000, 7}), "id: 1800000000000.7\n\n");
    assert_wire(event_position((struct position){0, 0}), "id: 0.0\n\n");
    assert_wire(event_position((struct position){UINT64_MAX, UINT64_MAX - 1}),
                "id: 18446744073709551615.18446744073709551614\n\n");
}

static void a_message_has_its_position_and_its_lines(void **state)
{
    (void)state;
    struct publication *publication = publication_copy(OPCODE_TEXT, "a\r\nb\n\nc\rd", 10);
    publication->at = (struct position){1800000000000, 7};
    publication->len = 9;
    assert_wire(
        event_publication(publication),
        "event: message\nid: 1800000000000.7\ndata: a\ndata: b\ndata: \ndata: c\ndata: d\n\n");
    publication_unref(publication);
}

static void each_line_end_becomes_one(void **state)
{
    (void)state;
    assert_text("", "");
    assert_text("{\"a\":1}", "{\"a\":1}");
    assert_text(" leading", " leading");
    assert_text("data: x\nid: 1\nevent: y", "data: x\nid: 1\nevent: y");
    assert_text("\n", "\n");
    assert_text("\r", "\n");
    assert_text("\r\n", "\n");
    assert_text("\n\r", "\n\n");
    assert_text("\r\r\n\n", "\n\n\n");
    assert_text("a\r\n\r\nb", "a\n\nb");
    assert_text("Türe 车\r\noffen", "Türe 车\noffen");
    assert_text(":no comment", ":no comment");
}

/* The text as EventSource gives it: every line end becomes a newline. */
static size_t normalized(const uint8_t *text, size_t len, uint8_t *out)
{
    size_t n = 0;
    for (size_t i = 0; i < len; i++) {
        if (text[i] == '\r' && i + 1 < len && text[i + 1] == '\n')
            continue;
        out[n++] = text[i] == '\r' ? '\n' : text[i];
    }
    return n;
}

static void random_texts_come_back(void **state)
{
    (void)state;
    static const char alphabet[] = "ab: \r\n\r\n{";
    struct rng rng;
    rng_seed(&rng, 7);
    for (unsigned round = 0; round < 20000; round++) {
        uint8_t text[24], expected[24];
        size_t len = rng_below(&rng, sizeof(text) + 1);
        for (size_t i = 0; i < len; i++)
            text[i] = (uint8_t)alphabet[rng_below(&rng, sizeof(alphabet) - 1)];
        struct stream_event event = event_of(OPCODE_TEXT, text, len);
        assert_int_equal(event.len, normalized(text, len, expected));
        assert_memory_equal(event.data, expected, event.len);
        free(event.data);
    }
}

static void bytes_are_base64(void **state)
{
    (void)state;
    uint8_t bytes[300];
    for (size_t i = 0; i < sizeof(bytes); i++)
        bytes[i] = (uint8_t)(i * 7);
    for (size_t len = 0; len <= sizeof(bytes); len++) {
        struct stream_event event = event_of(OPCODE_BINARY, bytes, len);
        uint8_t *back;
        size_t back_len;
        assert_true(event.dispatched);
        assert_string_equal(event.type, "binary");
        assert_int_equal(base64_decode((char *)event.data, event.len, &back, &back_len), STATUS_OK);
        assert_int_equal(back_len, len);
        assert_true(len == 0 || memcmp(back, bytes, len) == 0);
        free(back);
        free(event.data);
    }
}

/* A text is read once to measure it and once for its lines, whatever its line ends. */
static void a_text_of_line_ends_alone_costs_no_more(void **state)
{
    (void)state;
    size_t len = 4 << 20;
    char *text = malloc(len);
    memset(text, '\r', len);
    struct stream_event event = event_of(OPCODE_TEXT, text,
                                         len); /* a minute if it were quadratic */
    assert_int_equal(event.len, len);
    free(event.data);
    free(text);
}

static void other_events_are_json_without_an_id(void **state)
{
    (void)state;
    assert_wire(event_status("connected", NULL),
                "event: status\ndata: {\"upstream\":\"connected\"}\n\n");
    assert_wire(event_gap(1800000000000, 4, 0),
                "event: gap\ndata: {\"epoch\":1800000000000,\"from\":4,\"to\":0}\n\n");
    const char *reason = "it said:\r\n\"no\"\n\n";
    struct stream_event event = read_event(event_status("down", reason));
    assert_string_equal(event.type, "status");
    assert_string_equal(event.id, "");
    json_t *json = json_loadb((char *)event.data, event.len, 0, NULL);
    assert_string_equal(json_string_value(json_object_get(json, "reason")), reason);
    json_decref(json);
    free(event.data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_position_is_a_lone_id),
        cmocka_unit_test(a_message_has_its_position_and_its_lines),
        cmocka_unit_test(each_line_end_becomes_one),
        cmocka_unit_test(random_texts_come_back),
        cmocka_unit_test(bytes_are_base64),
        cmocka_unit_test(a_text_of_line_ends_alone_costs_no_more),
        cmocka_unit_test(other_events_are_json_without_an_id),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
