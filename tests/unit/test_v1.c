#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "common/json_fields.h"
#include "common/rng.h"
#include "common/v1.h"

#define LITERAL(text) (text), sizeof(text) - 1

/* A copy of the message, ended by a zero; it has room for a head before it. Releases the wire. */
static uint8_t *take_body(struct wire *wire, size_t *len)
{
    assert_non_null(wire);
    assert_int_equal(wire->refs, 1);
    assert_int_equal(wire->room, WIRE_HEADROOM);
    *len = wire->len;
    uint8_t *body = malloc(*len + 1);
    assert_non_null(body);
    memcpy(body, wire->bytes, *len);
    body[*len] = '\0';
    wire_unref(wire);
    return body;
}

static void assert_json(struct wire *wire, const char *expected)
{
    size_t len;
    char *body = (char *)take_body(wire, &len);
    assert_int_equal(len, strlen(body));
    assert_string_equal(body, expected);
    free(body);
}

static void assert_msgpack(struct wire *wire, const void *expected, size_t expected_len)
{
    size_t len;
    uint8_t *body = take_body(wire, &len);
    assert_int_equal(len, expected_len);
    assert_memory_equal(body, expected, len);
    free(body);
}

static struct publication *publication_at(enum opcode opcode, const void *payload, size_t len)
{
    struct publication *p = publication_copy(opcode, payload, len);
    assert_non_null(p);
    p->time_ms = 1700000000000;
    p->at = (struct position){1800000000000, 7};
    return p;
}

static struct wire *message(enum v1_encoding form, enum opcode opcode, const void *payload,
                            size_t len)
{
    struct publication *p = publication_at(opcode, payload, len);
    struct wire *wire = v1_message(form, p, NULL);
    publication_unref(p);
    return wire;
}

static void server_messages_in_json_have_their_known_text(void **state)
{
    (void)state;
    const struct v1_welcome welcome = {.node = "n1",
                                       .session = "s:k",
                                       .client = "c9",
                                       .at = {1800000000000, 42},
                                       .resumed = true,
                                       .upstream = "connected"};
    const uint64_t id = UINT64_MAX;
    assert_json(
        v1_welcome(V1_JSON, &(struct v1_head){5, NULL}, &welcome),
        "{\"timestamp\":5,\"version\":\"1.0\",\"type\":\"WELCOME\",\"payload\":{\"node\":\"n1\","
        "\"session\":\"s:k\",\"client\":\"c9\",\"epoch\":1800000000000,\"offset\":42,"
        "\"resumed\":true,\"upstream\":\"connected\"}}");
    assert_json(v1_status(V1_JSON, &(struct v1_head){0, NULL}, "down", "closed: \"bye\""),
                "{\"timestamp\":0,\"version\":\"1.0\",\"type\":\"STATUS\",\"payload\":{"
                "\"upstream\":\"down\","
                "\"reason\":\"closed: \\\"bye\\\"\"}}");
    assert_json(
        v1_status(V1_JSON, &(struct v1_head){0, NULL}, "connected", NULL),
        "{\"timestamp\":0,\"version\":\"1.0\",\"type\":\"STATUS\",\"payload\":{\"upstream\":"
        "\"connected\"}}");
    assert_json(
        v1_gap(V1_JSON, &(struct v1_head){1, NULL}, 2, 3, 0),
        "{\"timestamp\":1,\"version\":\"1.0\",\"type\":\"GAP\",\"payload\":{\"epoch\":2,\"from\":3,"
        "\"to\":0}}");
    assert_json(v1_ack(V1_JSON, &(struct v1_head){1, NULL}, 10),
                "{\"timestamp\":1,\"version\":\"1.0\",\"type\":\"ACK\",\"payload\":{\"id\":10}}");
    assert_json(v1_error(V1_JSON, &(struct v1_head){1, NULL},
                         &(struct v1_error){.id = &id, .code = "c", .message = "m"}),
                "{\"timestamp\":1,\"version\":\"1.0\",\"type\":\"ERROR\",\"payload\":{\"id\":"
                "18446744073709551615,\"code\":\"c\",\"message\":\"m\"}}");
    assert_json(
        v1_error(V1_JSON, &(struct v1_head){1, NULL},
                 &(struct v1_error){.code = "c", .message = "m"}),
        "{\"timestamp\":1,\"version\":\"1.0\",\"type\":\"ERROR\",\"payload\":{\"code\":\"c\","
        "\"message\":\"m\"}}");
    const struct v1_watcher users[] = {{"", 1}, {"b\"", 20}};
    assert_json(v1_presence(V1_JSON, &(struct v1_head){1, "s:k"}, users, 2, 3),
                "{\"timestamp\":1,\"version\":\"1.0\",\"type\":\"PRESENCE\",\"session\":\"s:k\","
                "\"payload\":{\"users\":[{\"user\":\"\",\"clients\":1},{\"user\":\"b\\\"\","
                "\"clients\":20}],\"more\":3}}");
    assert_json(v1_presence(V1_JSON, &(struct v1_head){1, NULL}, NULL, 0, 0),
                "{\"timestamp\":1,\"version\":\"1.0\",\"type\":\"PRESENCE\",\"payload\":{"
                "\"users\":[],\"more\":0}}");
    assert_json(v1_pong(V1_JSON, &(struct v1_head){1, NULL}),
                "{\"timestamp\":1,\"version\":\"1.0\",\"type\":\"PONG\",\"payload\":{}}");
}

static void server_messages_in_msgpack_have_their_known_bytes(void **state)
{
    (void)state;
#define HEAD                               \
    "\x84\xa9timestamp\x05\xa7version\xa3" \
    "1.0\xa4type"
    const struct v1_welcome welcome = {.node = "n1",
                                       .session = "s:k",
                                       .client = "c9",
                                       .at = {1800000000000, 42},
                                       .resumed = false,
                                       .upstream = "connected"};
    const uint64_t id = UINT64_MAX;
    assert_msgpack(v1_welcome(V1_MSGPACK, &(struct v1_head){5, NULL}, &welcome),
                   LITERAL(HEAD "\xa7WELCOME\xa7payload\x87\xa4node\xa2n1\xa7session\xa3s:k\xa6"
                                "client\xa2"
                                "c9\xa5"
                                "epoch\xcf\x00\x00\x01\xa3\x18\x5c\x50\x00\xa6"
                                "offset\x2a\xa7resumed\xc2\xa8upstream\xa9"
                                "connected"));
    assert_msgpack(v1_status(V1_MSGPACK, &(struct v1_head){5, NULL}, "down", NULL),
                   LITERAL(HEAD "\xa6STATUS\xa7payload\x81\xa8upstream\xa4"
                                "down"));
    assert_msgpack(v1_gap(V1_MSGPACK, &(struct v1_head){5, NULL}, 2, 300, 0),
                   LITERAL(HEAD "\xa3GAP\xa7payload\x83\xa5"
                                "epoch\x02\xa4"
                                "from\xcd\x01\x2c\xa2to\x00"));
    const struct v1_watcher users[] = {{"", 1}, {"b", 20}};
    assert_msgpack(v1_presence(V1_MSGPACK, &(struct v1_head){5, NULL}, users, 2, 0),
                   LITERAL(HEAD "\xa8PRESENCE\xa7payload\x82\xa5users\x92\x82\xa4user\xa0\xa7"
                                "clients\x01\x82\xa4user\xa1"
                                "b\xa7"
                                "clients\x14\xa4more\x00"));
    assert_msgpack(v1_ack(V1_MSGPACK, &(struct v1_head){5, NULL}, 10),
                   LITERAL(HEAD "\xa3"
                                "ACK\xa7payload\x81\xa2id\x0a"));
    assert_msgpack(v1_error(V1_MSGPACK, &(struct v1_head){5, NULL},
                            &(struct v1_error){.id = &id, .code = "c", .message = "m"}),
                   LITERAL(HEAD "\xa5"
                                "ERROR\xa7payload\x83\xa2id\xcf\xff\xff\xff\xff\xff\xff\xff\xff\xa4"
                                "code\xa1"
                                "c\xa7message\xa1m"));
    assert_msgpack(v1_pong(V1_MSGPACK, &(struct v1_head){5, NULL}),
                   LITERAL(HEAD "\xa4PONG\xa7payload\x80"));
#undef HEAD
}

#define JSON_HEAD                                                                      \
    "{\"timestamp\":1700000000000,\"version\":\"1.0\",\"type\":\"MESSAGE\",\"epoch\":" \
    "1800000000000,\"offset\":7,\"encoding\":"
#define MSGPACK_HEAD                                                       \
    "\x87\xa9timestamp\xcf\x00\x00\x01\x8b\xcf\xe5\x68\x00\xa7version\xa3" \
    "1.0\xa4type\xa7MESSAGE\xa5"                                           \
    "epoch\xcf\x00\x00\x01\xa3\x18\x5c\x50\x00\xa6offset\x07\xa8"          \
    "encoding"

static void a_message_has_its_position_beside_the_type(void **state)
{
    (void)state;
    assert_json(message(V1_JSON, OPCODE_TEXT, LITERAL("{\"a\":1}")),
                JSON_HEAD "\"text\",\"payload\":\"{\\\"a\\\":1}\"}");
    assert_json(message(V1_JSON, OPCODE_TEXT, "", 0), JSON_HEAD "\"text\",\"payload\":\"\"}");
    assert_json(message(V1_JSON, OPCODE_BINARY, LITERAL("\x00\xff\x10")),
                JSON_HEAD "\"base64\",\"payload\":\"AP8Q\"}");
    assert_json(message(V1_JSON, OPCODE_BINARY, "", 0), JSON_HEAD "\"base64\",\"payload\":\"\"}");
    assert_msgpack(message(V1_MSGPACK, OPCODE_TEXT, LITERAL("{}")),
                   LITERAL(MSGPACK_HEAD "\xa4text\xa7payload\xa2{}"));
    assert_msgpack(message(V1_MSGPACK, OPCODE_BINARY, LITERAL("\x00\xff\x10")),
                   LITERAL(MSGPACK_HEAD "\xa6"
                                        "base64\xa7payload\xc4\x03\x00\xff\x10"));
}

static void escapes_are_those_of_json(void **state)
{
    (void)state;
    assert_json(message(V1_JSON, OPCODE_TEXT,
                        LITERAL("\x00\x01\x1f\b\t\n\f\r\"\\/\x7f\xc3\xa9\xf0\x9f\x9a\x97")),
                JSON_HEAD
                "\"text\",\"payload\":\"\\u0000\\u0001\\u001f\\b\\t\\n\\f\\r\\\"\\\\/\x7f\xc3\xa9"
                "\xf0\x9f\x9a\x97\"}");
}

/* Any text of any length and alignment is read back by another JSON reader. */
static void text_survives_json_at_every_length(void **state)
{
    (void)state;
    static const char *const pieces[] = {"a",    "abcdefgh", "\"",           "\\", "\n",
                                         "\x01", "\xc3\xa9", "\xe2\x82\xac", "~",  " "};
    struct rng rng;
    rng_seed(&rng, 20261121);
    for (size_t round = 0; round < 3000; round++) {
        char text[400];
        size_t len = 0;
        size_t count = rng_below(&rng, 48);
        for (size_t i = 0; i < count; i++) {
            const char *piece = pieces[rng_below(&rng, sizeof(pieces) / sizeof(pieces[0]))];
            memcpy(text + len, piece, strlen(piece));
            len += strlen(piece);
            if (rng_below(&rng, 20) == 0)
                text[len++] = '\0';
        }
        size_t body_len;
        uint8_t *body = take_body(message(V1_JSON, OPCODE_TEXT, text, len), &body_len);
        json_t *json = json_loadb((char *)body, body_len, JSON_ALLOW_NUL, NULL);
        assert_non_null(json);
        json_t *payload = json_object_get(json, "payload");
        assert_int_equal(json_string_length(payload), len);
        assert_memory_equal(json_string_value(payload), text, len);
        json_decref(json);
        free(body);
    }
}

static void each_byte_alone_is_escaped_only_where_it_must_be(void **state)
{
    (void)state;
    for (unsigned byte = 0; byte < 0x80; byte++) {
        for (size_t place = 0; place < 17; place++) {
            char text[17];
            memset(text, 'x', sizeof(text));
            text[place] = (char)byte;
            size_t len;
            uint8_t *body = take_body(message(V1_JSON, OPCODE_TEXT, text, sizeof(text)), &len);
            size_t more = strchr("\b\t\n\f\r\"\\", (int)byte) && byte != 0 ? 1
                          : byte < 0x20                                    ? 5
                                                                           : 0;
            assert_int_equal(len, sizeof(JSON_HEAD "\"text\",\"payload\":\"\"}") - 1 +
                                      sizeof(text) + more);
            free(body);
        }
    }
}

static void large_messages_are_whole(void **state)
{
    (void)state;
    const size_t sizes[] = {126, 1000, 65000, 65536, 1048576};
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        char *payload = malloc(sizes[i]);
        assert_non_null(payload);
        memset(payload, '"', sizes[i]);
        size_t len;
        uint8_t *body = take_body(message(V1_JSON, OPCODE_TEXT, payload, sizes[i]), &len);
        assert_int_equal(len, sizeof(JSON_HEAD "\"text\",\"payload\":\"\"}") - 1 + 2 * sizes[i]);
        free(body);
        body = take_body(message(V1_MSGPACK, OPCODE_BINARY, payload, sizes[i]), &len);
        assert_memory_equal(body + len - sizes[i], payload, sizes[i]);
        free(body);
        free(payload);
    }
}

/* Decodes a copy of exactly that size, so that the sanitizer sees a read past the end. It stays
 * until the next one: the payload of a SEND may stand in it. */
static enum status decode_as(enum v1_encoding form, enum opcode opcode, const void *data,
                             size_t len, struct v1_request *out, struct v1_mistake *mistake)
{
    static uint8_t *copy;
    free(copy);
    copy = malloc(len > 0 ? len : 1);
    assert_non_null(copy);
    memcpy(copy, data, len);
    return v1_decode(form, opcode, len > 0 ? copy : NULL, len, out, mistake);
}

static enum status decode(enum v1_encoding form, const void *data, size_t len,
                          struct v1_request *out, struct v1_mistake *mistake)
{
    return decode_as(form, form == V1_JSON ? OPCODE_TEXT : OPCODE_BINARY, data, len, out, mistake);
}

static void assert_send(enum v1_encoding form, const void *data, size_t len, uint64_t id,
                        enum opcode opcode, const void *payload, size_t payload_len)
{
    struct v1_request request;
    struct v1_mistake mistake = {.why = ""};
    if (decode(form, data, len, &request, &mistake) != STATUS_OK)
        fail_msg("refused: %s", mistake.why);
    assert_int_equal(request.type, V1_SEND);
    assert_true(request.id == id);
    assert_int_equal(request.opcode, opcode);
    assert_int_equal(request.len, payload_len);
    if (payload_len > 0)
        assert_memory_equal(request.payload, payload, payload_len);
    else
        assert_null(request.payload);
    v1_request_fini(&request);
}

static void assert_mistake(enum v1_encoding form, const void *data, size_t len, uint64_t id,
                           const char *code)
{
    struct v1_request untouched = {.id = 77};
    struct v1_mistake mistake = {0};
    assert_int_equal(decode(form, data, len, &untouched, &mistake), STATUS_INVALID);
    assert_true(untouched.id == 77);
    assert_non_null(mistake.code);
    assert_string_equal(mistake.code, code);
    assert_true(strlen(mistake.why) > 10);
    assert_int_equal(mistake.has_id, id != 0);
    assert_true(mistake.id == id);
}

static void a_send_in_json_is_read(void **state)
{
    (void)state;
    assert_send(V1_JSON, LITERAL("{\"type\":\"SEND\",\"id\":1,\"payload\":\"hi\"}"), 1, OPCODE_TEXT,
                LITERAL("hi"));
    assert_send(
        V1_JSON,
        LITERAL(
            " {\"payload\":\"\",\"id\":9007199254740992,\"type\":\"SEND\",\"encoding\":\"text\"} "),
        UINT64_C(9007199254740992), OPCODE_TEXT, NULL, 0);
    assert_send(V1_JSON,
                LITERAL("{\"type\":\"SEND\",\"id\":2,\"payload\":\"a\\u0000b\\ud83d\\ude97\"}"), 2,
                OPCODE_TEXT, LITERAL("a\0b\xf0\x9f\x9a\x97"));
    assert_send(
        V1_JSON,
        LITERAL("{\"type\":\"SEND\",\"id\":3,\"payload\":\"AP8Q\",\"encoding\":\"base64\"}"), 3,
        OPCODE_BINARY, LITERAL("\x00\xff\x10"));
    assert_send(V1_JSON,
                LITERAL("{\"type\":\"SEND\",\"id\":3,\"payload\":\"\",\"encoding\":\"base64\"}"), 3,
                OPCODE_BINARY, NULL, 0);
    assert_send(
        V1_JSON,
        LITERAL("{\"type\":\"SEND\",\"id\":4,\"payload\":\"x\",\"later\":[{\"a\":[1,2]},null]}"), 4,
        OPCODE_TEXT, LITERAL("x"));
}

#define SEND  "\x83\xa4type\xa4SEND"
#define SEND4 "\x84\xa4type\xa4SEND"

static void a_send_in_msgpack_is_read(void **state)
{
    (void)state;
    assert_send(V1_MSGPACK, LITERAL(SEND "\xa2id\x01\xa7payload\xa2hi"), 1, OPCODE_TEXT,
                LITERAL("hi"));
    assert_send(V1_MSGPACK,
                LITERAL(SEND "\xa2id\xcf\xff\xff\xff\xff\xff\xff\xff\xff\xa7payload\xa0"),
                UINT64_MAX, OPCODE_TEXT, NULL, 0);
    assert_send(V1_MSGPACK, LITERAL(SEND "\xa2id\xd1\x01\x00\xa7payload\xd9\x02\x00z"), 256,
                OPCODE_TEXT, LITERAL("\0z"));
    assert_send(V1_MSGPACK, LITERAL(SEND "\xa2id\xcd\x01\x00\xa7payload\xc4\x02\xff\x00"), 256,
                OPCODE_BINARY, LITERAL("\xff\0"));
    assert_send(V1_MSGPACK,
                LITERAL(SEND4 "\xa2id\x01\xa7payload\xc4\x01\xff\xa8"
                              "encoding\xa6"
                              "base64"),
                1, OPCODE_BINARY, LITERAL("\xff"));
    assert_send(V1_MSGPACK,
                LITERAL(SEND4 "\xa2id\x01\xa7payload\xa4"
                              "AP8Q\xa8"
                              "encoding\xa6"
                              "base64"),
                1, OPCODE_BINARY, LITERAL("\x00\xff\x10"));
    /* a map16, a str32, and a further field with nested values */
    assert_send(V1_MSGPACK,
                LITERAL("\xde\x00\x04\xa5later\x92\x81\xa1k\xc0\xdc\x00\x02\xcb"
                        "12345678\xd4\x01x\xa4type\xa4SEND\xa2"
                        "id\x05\xa7payload\xdb\x00\x00\x00\x01y"),
                5, OPCODE_TEXT, LITERAL("y"));
}

static void a_ping_is_read_in_both_forms(void **state)
{
    (void)state;
    struct v1_request request = {.id = 9, .len = 9};
    struct v1_mistake mistake;
    assert_int_equal(decode(V1_JSON, LITERAL("{\"type\":\"PING\"}"), &request, &mistake),
                     STATUS_OK);
    assert_int_equal(request.type, V1_PING);
    assert_null(request.payload);
    request.type = V1_SEND;
    assert_int_equal(decode(V1_MSGPACK, LITERAL("\x81\xa4type\xa4PING"), &request, &mistake),
                     STATUS_OK);
    assert_int_equal(request.type, V1_PING);
}

static void assert_refresh(enum v1_encoding form, const void *data, size_t len, uint64_t id,
                           const char *token)
{
    struct v1_request request;
    struct v1_mistake mistake = {.why = ""};
    if (decode(form, data, len, &request, &mistake) != STATUS_OK)
        fail_msg("refused: %s", mistake.why);
    assert_int_equal(request.type, V1_REFRESH);
    assert_true(request.id == id);
    assert_int_equal(request.len, strlen(token));
    assert_string_equal(request.payload, token);
    free(request.payload);
}

static void a_refresh_brings_a_token(void **state)
{
    (void)state;
    assert_refresh(V1_JSON, LITERAL("{\"type\":\"REFRESH\",\"id\":3,\"token\":\"a.b.c\"}"), 3,
                   "a.b.c");
    assert_refresh(V1_MSGPACK,
                   LITERAL("\x83\xa4type\xa7REFRESH\xa2id\x03\xa5token\xa5"
                           "a.b.c"),
                   3, "a.b.c");
    static const struct {
        const char *text;
        uint64_t id;
        const char *code;
    } cases[] = {
        {"{\"type\":\"REFRESH\",\"token\":\"a.b.c\"}", 0, "invalid_id"},
        {"{\"type\":\"REFRESH\",\"id\":0,\"token\":\"a.b.c\"}", 0, "invalid_id"},
        {"{\"type\":\"REFRESH\",\"id\":4}", 4, "unauthorized"},
        {"{\"type\":\"REFRESH\",\"id\":4,\"token\":\"\"}", 4, "unauthorized"},
        {"{\"type\":\"REFRESH\",\"id\":4,\"token\":null}", 4, "unauthorized"},
        {"{\"type\":\"REFRESH\",\"id\":4,\"token\":\"a\\u0000b\"}", 4, "unauthorized"},
        {"{\"type\":\"REFRESH\",\"id\":4,\"payload\":{\"token\":\"a.b.c\"}}", 4, "unauthorized"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        assert_mistake(V1_JSON, cases[i].text, strlen(cases[i].text), cases[i].id, cases[i].code);
    assert_mistake(V1_MSGPACK,
                   LITERAL("\x83\xa4type\xa7REFRESH\xa2id\x04\xa5token\xc4\x01"
                           "a"),
                   4, "unauthorized");
}

/* All that JSON knows stands in fields that have no meaning, and escapes in those that have one. */
static void any_json_is_gone_over(void **state)
{
    (void)state;
    static const char *const ignored[] = {
        "[]",
        "{}",
        "[[],{}]",
        "null",
        "true",
        "false",
        "0",
        "-0",
        "-0.5e+10",
        "1E-5",
        "1e999",
        "\"\"",
        "\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u0000\"",
        "{\"a\":[1,\"]\",{\"b\":\"}\"}],\"a\":2}",
        " \t\r\n[ 1 , 2 ] ",
        "9223372036854775807",
    };
    for (size_t i = 0; i < sizeof(ignored) / sizeof(ignored[0]); i++) {
        char text[256];
        int len = snprintf(text, sizeof(text),
                           "{\"k\":%s,\"\\u0074ype\":\"S\\u0045ND\","
                           "\"id\":3,\"payload\":\"{\\\"a\\\": \\\"\\u00e4\\u20ac\\/\\n\\\"}\"}",
                           ignored[i]);
        assert_send(V1_JSON, text, (size_t)len, 3, OPCODE_TEXT,
                    LITERAL("{\"a\": \"\u00e4\u20ac/\n\"}"));
    }
}

/* Writes down "name=text;", and "name;" for what is no text. */
static bool note_field(void *ctx, const struct json_field *field)
{
    char *notes = ctx;
    size_t len = strlen(notes);
    sprintf(notes + len, "%.*s%s%.*s;", (int)field->name_len, field->name, field->text ? "=" : "",
            (int)field->len, field->text ? field->text : "");
    return !strstr(notes, "stop");
}

static void the_fields_of_any_object_are_given(void **state)
{
    (void)state;
    static const char text[] =
        "{\"a\":\"x\",\"\\u0062\":\"\\\"y\\\"\",\"c\":[\"a\",{\"a\":1}],\"urls\":[\"u\"],"
        "\"d\":null,\"e\":\"\"} ";
    char notes[128] = "";
    assert_int_equal(json_fields(LITERAL(text), note_field, notes), STATUS_OK);
    assert_string_equal(notes, "a=x;b=\"y\";c;urls;d;e=;");
    static const char *const wrong[] = {"", "[]", "{\"a\":1", "{\"a\":1}}", "{\"stop\":1,\"a\":2}"};
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        notes[0] = '\0';
        assert_int_equal(json_fields(wrong[i], strlen(wrong[i]), note_field, notes),
                         STATUS_INVALID);
    }
}

/* A text of each length around the words that it is read by, with an escape at each place. */
static void an_escape_is_read_wherever_it_stands(void **state)
{
    (void)state;
    for (size_t len = 0; len < 20; len++) {
        for (size_t at = 0; at <= len; at++) {
            char text[128], wanted[32];
            int n = snprintf(text, sizeof(text),
                             "{\"type\":\"SEND\",\"id\":3,\"payload\":\"%.*s\\\"%.*s\"}", (int)at,
                             "abcdefghijklmnopqrst", (int)(len - at), "ABCDEFGHIJKLMNOPQRST");
            int size = snprintf(wanted, sizeof(wanted), "%.*s\"%.*s", (int)at,
                                "abcdefghijklmnopqrst", (int)(len - at), "ABCDEFGHIJKLMNOPQRST");
            assert_send(V1_JSON, text, (size_t)n, 3, OPCODE_TEXT, wanted, (size_t)size);
        }
    }
}

static void mistakes_in_json_are_named(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint64_t id;
        const char *code;
    } cases[] = {
        {"", 0, "malformed"},
        {"ping", 0, "malformed"},
        {"[1]", 0, "malformed"},
        {"\"SEND\"", 0, "malformed"},
        {"{\"type\":\"PING\"", 0, "malformed"},
        {"{\"type\":\"PING\"}{}", 0, "malformed"},
        {"{\"type\":\"PING\",\"type\":\"PING\"}", 0, "malformed"},
        {"{\"type\":\"SEND\",\"id\":1,\"payload\":\"\\ud800\"}", 0, "malformed"},
        {"{\"type\":\"SEND\",\"id\":1,\"payload\":\"\\ud800\\u0041\"}", 0, "malformed"},
        {"{\"type\":\"SEND\",\"id\":1,\"payload\":\"\\udc00\"}", 0, "malformed"},
        {"{\"type\":\"SEND\",\"id\":1,\"payload\":\"\\u00g0\"}", 0, "malformed"},
        {"{\"type\":\"SEND\",\"id\":1,\"payload\":\"\\u00\"}", 0, "malformed"},
        {"{\"type\":\"SEND\",\"id\":1,\"payload\":\"\\x\"}", 0, "malformed"},
        {"{\"type\":\"SEND\",\"id\":1,\"payload\":\"\\", 0, "malformed"},
        {"{\"type\":\"SEND\",\"id\":1,\"payload\":\"a\tb\"}", 0, "malformed"},
        {"{\"type\":\"SEND\",\"id\":1,\"payload\":\"long enough for a word", 0, "malformed"},
        {"{\"type\":\"PING\",}", 0, "malformed"},
        {"{\"type\":\"PING\" \"id\":1}", 0, "malformed"},
        {"{\"type\"\"PING\"}", 0, "malformed"},
        {"{\"type\":}", 0, "malformed"},
        {"{type:\"PING\"}", 0, "malformed"},
        {"{\"type\":\"PING\",\"k\":[1,]}", 0, "malformed"},
        {"{\"type\":\"PING\",\"k\":[1}", 0, "malformed"},
        {"{\"type\":\"PING\",\"k\":[", 0, "malformed"},
        {"{\"type\":\"PING\",\"k\":{\"a\":1", 0, "malformed"},
        {"{\"type\":\"PING\",\"k\":01}", 0, "malformed"},
        {"{\"type\":\"PING\",\"k\":-}", 0, "malformed"},
        {"{\"type\":\"PING\",\"k\":1.}", 0, "malformed"},
        {"{\"type\":\"PING\",\"k\":1e}", 0, "malformed"},
        {"{\"type\":\"PING\",\"k\":.5}", 0, "malformed"},
        {"{\"type\":\"PING\",\"k\":nul}", 0, "malformed"},
        {"{\"type\":\"PING\",\"k\":truely}", 0, "malformed"},
        {"{\"type\":\"PING\",\"k\":\v1}", 0, "malformed"},
        {"{\"type\":\"PING\",\"k\":-9223372036854775808}", 0, "malformed"},
        {"{\"type\":\"SEND\",\"id\":18446744073709551617,\"payload\":\"\"}", 0, "malformed"},
        {"{\"type\":\"PING\",\"\\u0074ype\":\"PING\"}", 0, "malformed"},
        {"{\"type\":\"SEND\",\"id\":99999999999999999999,\"payload\":\"\"}", 0, "malformed"},
        {"{}", 0, "unknown_type"},
        {"{\"type\":\"send\",\"id\":6}", 6, "unknown_type"},
        {"{\"type\":\"SEND \",\"id\":6}", 6, "unknown_type"},
        {"{\"type\":5}", 0, "unknown_type"},
        {"{\"type\":\"SEND\",\"payload\":\"\"}", 0, "invalid_id"},
        {"{\"type\":\"SEND\",\"id\":0,\"payload\":\"\"}", 0, "invalid_id"},
        {"{\"type\":\"SEND\",\"id\":-1,\"payload\":\"\"}", 0, "invalid_id"},
        {"{\"type\":\"SEND\",\"id\":1.0,\"payload\":\"\"}", 0, "invalid_id"},
        {"{\"type\":\"SEND\",\"id\":\"1\",\"payload\":\"\"}", 0, "invalid_id"},
        {"{\"type\":\"SEND\",\"id\":9007199254740993,\"payload\":\"\"}", 0, "invalid_id"},
        {"{\"type\":\"SEND\",\"id\":5}", 5, "invalid_payload"},
        {"{\"type\":\"SEND\",\"id\":5,\"payload\":{}}", 5, "invalid_payload"},
        {"{\"type\":\"SEND\",\"id\":5,\"payload\":null}", 5, "invalid_payload"},
        {"{\"type\":\"SEND\",\"id\":5,\"payload\":\"\",\"encoding\":\"hex\"}", 5,
         "invalid_encoding"},
        {"{\"type\":\"SEND\",\"id\":5,\"payload\":\"\",\"encoding\":null}", 5, "invalid_encoding"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        assert_mistake(V1_JSON, cases[i].text, strlen(cases[i].text), cases[i].id, cases[i].code);
}

static void base64_is_strict(void **state)
{
    (void)state;
    static const char *const wrong[] = {
        "A",       "AA",       "AAA",  "A===", "====", "AA=A",       "AP8Q=", "AP-_",
        "AP8Q\\n", "AA==AAAA", "AB==", "AAB=", " AP8", "AAA\\u0000", "AAAAA", "AP8=QQ=="};
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        char text[128];
        int len = snprintf(
            text, sizeof(text),
            "{\"type\":\"SEND\",\"id\":5,\"encoding\":\"base64\",\"payload\":\"%s\"}", wrong[i]);
        assert_mistake(V1_JSON, text, (size_t)len, 5, "invalid_payload");
    }
}

static void base64_survives_the_way_there_and_back(void **state)
{
    (void)state;
    uint8_t bytes[256];
    for (size_t i = 0; i < sizeof(bytes); i++)
        bytes[i] = (uint8_t)(i * 167 + 13);
    for (size_t len = 0; len <= sizeof(bytes); len++) {
        size_t body_len;
        char *body = (char *)take_body(message(V1_JSON, OPCODE_BINARY, bytes, len), &body_len);
        const char *payload = strstr(body, "\"payload\":");
        assert_non_null(payload);
        char text[600];
        int text_len = snprintf(text, sizeof(text),
                                "{\"type\":\"SEND\",\"id\":1,\"encoding\":\"base64\",%s", payload);
        assert_send(V1_JSON, text, (size_t)text_len, 1, OPCODE_BINARY, bytes, len);
        free(body);
    }
}

static void mistakes_in_msgpack_are_named(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        size_t len;
        uint64_t id;
        const char *code;
    } cases[] = {
        {LITERAL(""), 0, "malformed"},
        {LITERAL("\x90"), 0, "malformed"},
        {LITERAL("\x81\xa4type\xa4PIN"), 0, "malformed"},
        {LITERAL("\x81\xa4type\xa4PINGx"), 0, "malformed"},
        {LITERAL("\x82\xa4type\xa4PING\xa4type\xa4PING"), 0, "malformed"},
        {LITERAL("\x81\x01\x02"), 0, "malformed"},
        {LITERAL("\x81\xa1k\xc1"), 0, "malformed"},
        /* four billion elements claimed, and lengths past the end */
        {LITERAL("\xdf\xff\xff\xff\xff"), 0, "malformed"},
        {LITERAL("\x81\xa1k\xdd\xff\xff\xff\xff"), 0, "malformed"},
        {LITERAL("\x81\xa1k\xc6\xff\xff\xff\xff"), 0, "malformed"},
        {LITERAL("\x81\xa1k\xc9\xff\xff\xff\xff\x00"), 0, "malformed"},
        {LITERAL("\x80"), 0, "unknown_type"},
        {LITERAL("\x82\xa4type\xa4PONG\xa2id\x07"), 7, "unknown_type"},
        {LITERAL("\x81\xa4type\xc4\x04PING"), 0, "unknown_type"},
        {LITERAL(SEND "\xa2id\x00\xa7payload\xa0"), 0, "invalid_id"},
        {LITERAL(SEND "\xa2id\xff\xa7payload\xa0"), 0, "invalid_id"},
        {LITERAL(SEND "\xa2id\xd3\x80\x00\x00\x00\x00\x00\x00\x01\xa7payload\xa0"), 0,
         "invalid_id"},
        {LITERAL(SEND "\xa2id\xcb\x3f\xf0\x00\x00\x00\x00\x00\x00\xa7payload\xa0"), 0,
         "invalid_id"},
        {LITERAL(SEND "\xa2id\x05\xa7payload\xc0"), 5, "invalid_payload"},
        {LITERAL(SEND "\xa2id\x05\xa7payload\x91\xa0"), 5, "invalid_payload"},
        {LITERAL(SEND "\xa2id\x05\xa7payload\xa1\xff"), 5, "invalid_payload"},
        {LITERAL(SEND4 "\xa2id\x05\xa7payload\xa1"
                       "A\xa8"
                       "encoding\xa6"
                       "base64"),
         5, "invalid_payload"},
        {LITERAL(SEND4 "\xa2id\x05\xa7payload\xa0\xa8"
                       "encoding\xa3"
                       "hex"),
         5, "invalid_encoding"},
        {LITERAL(SEND4 "\xa2id\x05\xa7payload\xc4\x00\xa8"
                       "encoding\xa4text"),
         5, "invalid_encoding"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        assert_mistake(V1_MSGPACK, cases[i].bytes, cases[i].len, cases[i].id, cases[i].code);
}

static void a_message_with_the_other_opcode_is_refused(void **state)
{
    (void)state;
    struct v1_request request;
    struct v1_mistake mistake;
    assert_int_equal(
        decode_as(V1_JSON, OPCODE_BINARY, LITERAL("{\"type\":\"PING\"}"), &request, &mistake),
        STATUS_INVALID);
    assert_string_equal(mistake.code, "malformed");
    assert_int_equal(
        decode_as(V1_MSGPACK, OPCODE_TEXT, LITERAL("\x81\xa4type\xa4PING"), &request, &mistake),
        STATUS_INVALID);
    assert_string_equal(mistake.code, "malformed");
}

/* {"k":[[[...]]],"type":"PING"} with that many arrays. */
static enum status decode_nested(enum v1_encoding form, size_t arrays)
{
    char text[256];
    size_t len = 0;
    memcpy(text, form == V1_JSON ? "{\"k\":" : "\x82\xa1k", form == V1_JSON ? 5 : 3);
    len += form == V1_JSON ? 5 : 3;
    memset(text + len, form == V1_JSON ? '[' : '\x91', arrays);
    len += arrays;
    if (form == V1_JSON) {
        memset(text + len, ']', arrays);
        len += arrays;
        memcpy(text + len, LITERAL(",\"type\":\"PING\"}"));
        len += sizeof(",\"type\":\"PING\"}") - 1;
    } else {
        memcpy(text + len, LITERAL("\xc0\xa4type\xa4PING"));
        len += sizeof("\xc0\xa4type\xa4PING") - 1;
    }
    struct v1_request request;
    struct v1_mistake mistake;
    return decode(form, text, len, &request, &mistake);
}

static void nesting_and_values_are_bounded(void **state)
{
    (void)state;
    assert_int_equal(decode_nested(V1_JSON, 15), STATUS_OK);
    assert_int_equal(decode_nested(V1_JSON, 16), STATUS_INVALID);
    assert_int_equal(decode_nested(V1_MSGPACK, 15), STATUS_OK);
    assert_int_equal(decode_nested(V1_MSGPACK, 16), STATUS_INVALID);

    char text[2048] = "{\"type\":\"PING\",\"k\":[0";
    struct v1_request request;
    struct v1_mistake mistake;
    for (size_t i = 0; i < 300; i++)
        strcat(text, ",0");
    strcat(text, "]}");
    assert_int_equal(decode(V1_JSON, text, strlen(text), &request, &mistake), STATUS_INVALID);
    assert_non_null(strstr(mistake.why, "256 values"));

    /* As many pairs, in a map32, and as many in an array of one pair */
    uint8_t pairs[2048] = {0xdf, 0, 0, 1, 45}, *to = pairs + 5;
    for (size_t i = 0; i < 300; i++, to += 3)
        memcpy(to, "\xa1k\x01", 3);
    memcpy(to, LITERAL("\xa4type\xa4PING"));
    to += 10;
    assert_mistake(V1_MSGPACK, pairs, (size_t)(to - pairs), 0, "malformed");
    uint8_t array[512] = {0x82, 0xa1, 'k', 0xdc, 1, 44};
    memcpy(array + 6 + 300, LITERAL("\xa4type\xa4PING"));
    assert_mistake(V1_MSGPACK, array, 6 + 300 + 10, 0, "malformed");
    /* A claim alone costs nothing */
    assert_mistake(V1_MSGPACK, LITERAL("\x81\xa4urls\xdd\xff\xff\xff\xff"), 0, "malformed");
}

/* --- SUBSCRIBE, UNSUBSCRIBE, and what a SEND may say beside its payload --- */

static void assert_texts(enum v1_encoding form, const void *data, size_t len,
                         enum v1_request_type type, const char *const *wanted, size_t count)
{
    struct v1_request request;
    struct v1_mistake mistake = {.why = ""};
    struct v1_text text;
    size_t at = 0, n = 0;
    if (decode(form, data, len, &request, &mistake) != STATUS_OK)
        fail_msg("refused: %s", mistake.why);
    assert_int_equal(request.type, type);
    assert_true(request.id == 7);
    for (; v1_texts_next(request.payload, request.len, &at, &text); n++) {
        assert_true(n < count);
        assert_int_equal(text.len, strlen(wanted[n]));
        assert_string_equal(text.at, wanted[n]);
    }
    assert_int_equal(n, count);
    v1_request_fini(&request);
}

static void lists_of_urls_and_sessions_are_read(void **state)
{
    (void)state;
    static const char *const urls[] = {"/u/V1?s", "", "/u/\u00e4?s&replay=2"}, *const sessions[] = {
                                                                                   "s:V1"};
    assert_texts(V1_JSON,
                 LITERAL("{\"urls\":[\"/u/V1?s\" ,\"\", \"/u/\\u00e4?s&replay=2\"],"
                         "\"type\":\"SUBSCRIBE\",\"id\":7}"),
                 V1_SUBSCRIBE, urls, 3);
    assert_texts(V1_JSON, LITERAL("{\"type\":\"SUBSCRIBE\",\"id\":7,\"urls\":[]}"), V1_SUBSCRIBE,
                 NULL, 0);
    assert_texts(V1_JSON, LITERAL("{\"type\":\"UNSUBSCRIBE\",\"id\":7,\"sessions\":[\"s:V1\"]}"),
                 V1_UNSUBSCRIBE, sessions, 1);
    assert_texts(V1_MSGPACK,
                 LITERAL("\x83\xa4type\xa9SUBSCRIBE\xa2id\x07\xa4urls\x93\xa7/u/V1?s\xa0"
                         "\xb0/u/\xc3\xa4?s&replay=2"),
                 V1_SUBSCRIBE, urls, 3);
}

static void a_list_of_anything_else_is_a_mistake(void **state)
{
    (void)state;
    static const struct {
        const char *text, *code;
    } rows[] = {
        {"{\"type\":\"SUBSCRIBE\",\"id\":7}", "invalid_urls"},
        {"{\"type\":\"SUBSCRIBE\",\"id\":7,\"urls\":\"/u/V1?s\"}", "invalid_urls"},
        {"{\"type\":\"SUBSCRIBE\",\"id\":7,\"urls\":[\"/u/V1?s\",5]}", "invalid_urls"},
        {"{\"type\":\"SUBSCRIBE\",\"id\":7,\"urls\":[[\"/u/V1?s\"]]}", "invalid_urls"},
        {"{\"type\":\"SUBSCRIBE\",\"id\":7,\"urls\":{\"a\":\"/u/V1?s\"}}", "invalid_urls"},
        {"{\"type\":\"UNSUBSCRIBE\",\"id\":7,\"urls\":[\"s:V1\"]}", "invalid_sessions"},
        {"{\"type\":\"SEND\",\"id\":7,\"payload\":\"\",\"session\":5}", "invalid_session"},
        {"{\"type\":\"SEND\",\"id\":7,\"payload\":\"\",\"session\":\"a\\u0000b\"}",
         "invalid_session"},
        {"{\"type\":\"SEND\",\"id\":7,\"payload\":\"\",\"ttl\":0}", "invalid_ttl"},
        {"{\"type\":\"SEND\",\"id\":7,\"payload\":\"\",\"ttl\":-1}", "invalid_ttl"},
        {"{\"type\":\"SEND\",\"id\":7,\"payload\":\"\",\"ttl\":1.5}", "invalid_ttl"},
        {"{\"type\":\"SEND\",\"id\":7,\"payload\":\"\",\"ttl\":\"9\"}", "invalid_ttl"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        assert_mistake(V1_JSON, rows[i].text, strlen(rows[i].text), 7, rows[i].code);
    assert_mistake(V1_JSON, LITERAL("{\"type\":\"SUBSCRIBE\",\"urls\":[\"/u/V1?s\"]}"), 0,
                   "invalid_id");
    assert_mistake(V1_MSGPACK, LITERAL("\x83\xa4type\xa9SUBSCRIBE\xa2id\x07\xa4urls\x91\xc4\x01/"),
                   7, "invalid_urls");
    assert_mistake(V1_MSGPACK, LITERAL("\x83\xa4type\xa9SUBSCRIBE\xa2id\x07\xa4urls\x91\xa1\xff"),
                   7, "invalid_urls");
    assert_mistake(V1_MSGPACK, LITERAL("\x83\xa4type\xa9SUBSCRIBE\xa2id\x07\xa4urls\x92\xa1/"), 0,
                   "malformed");
}

static void a_send_names_its_session_and_its_time(void **state)
{
    (void)state;
    struct v1_request request;
    struct v1_mistake mistake;
    const char *text = "{\"type\":\"SEND\",\"id\":7,\"payload\":\"x\",\"session\":\"s:V1\","
                       "\"ttl\":1500}";
    assert_int_equal(decode(V1_JSON, text, strlen(text), &request, &mistake), STATUS_OK);
    assert_string_equal(request.session, "s:V1");
    assert_int_equal(request.ttl_ms, 1500);
    v1_request_fini(&request);
    text = "{\"type\":\"SEND\",\"id\":7,\"payload\":\"x\",\"ttl\":9007199254740992}";
    assert_int_equal(decode(V1_JSON, text, strlen(text), &request, &mistake), STATUS_OK);
    assert_null(request.session);
    assert_true(request.ttl_ms == UINT32_MAX);
    v1_request_fini(&request);
}

/* As many as there may be in one message, and one more. */
static void many_urls_are_bounded(void **state)
{
    (void)state;
    for (size_t count = V1_TEXTS_MAX; count <= V1_TEXTS_MAX + 2; count += 2) {
        char *text = malloc(count * 4 + 64);
        assert_non_null(text);
        size_t len = (size_t)sprintf(text, "{\"type\":\"SUBSCRIBE\",\"id\":7,\"urls\":[\"/\"");
        for (size_t i = 1; i < count; i++, len += 4)
            memcpy(text + len, ",\"/\"", 4);
        memcpy(text + len, "]}", 2);
        len += 2;
        struct v1_request request;
        struct v1_mistake mistake;
        enum status status = decode(V1_JSON, text, len, &request, &mistake);
        assert_int_equal(status, count == V1_TEXTS_MAX ? STATUS_OK : STATUS_INVALID);
        if (status == STATUS_OK)
            v1_request_fini(&request);
        free(text);
    }
}

static void answers_to_a_subscribe_name_its_url(void **state)
{
    (void)state;
    const struct v1_head head = {1, "s:V1"};
    const struct v1_welcome welcome = {.node = "n",
                                       .session = "s:V1",
                                       .client = "c",
                                       .at = {3, 4},
                                       .upstream = "down",
                                       .url = {"/u/V1?s\"x", 9},
                                       .id = 7};
    uint64_t id = 7;
    assert_json(v1_welcome(V1_JSON, &head, &welcome),
                "{\"timestamp\":1,\"version\":\"1.0\",\"type\":\"WELCOME\",\"id\":7,\"url\":\"/u/"
                "V1?s\\\"x\","
                "\"payload\":{\"node\":\"n\",\"session\":\"s:V1\",\"client\":\"c\",\"epoch\":3,"
                "\"offset\":4,"
                "\"resumed\":false,\"upstream\":\"down\"}}");
    assert_json(
        v1_error(V1_JSON, &(struct v1_head){1, NULL},
                 &(struct v1_error){.id = &id, .url = {"/x", 2}, .code = "full", .message = "m"}),
        "{\"timestamp\":1,\"version\":\"1.0\",\"type\":\"ERROR\",\"payload\":{\"id\":7,"
        "\"url\":\"/x\",\"code\":\"full\",\"message\":\"m\"}}");
    assert_json(v1_closed(V1_JSON, &(struct v1_head){1, NULL},
                          &(struct v1_closed){.session = "s:V1", .code = 1001, .reason = "r"}),
                "{\"timestamp\":1,\"version\":\"1.0\",\"type\":\"CLOSED\",\"payload\":{"
                "\"session\":\"s:V1\",\"code\":1001,\"reason\":\"r\"}}");
}

static void structure_inside_a_string_is_not_counted(void **state)
{
    (void)state;
    char payload[1024];
    memset(payload, '{', sizeof(payload));
    char text[1200];
    int len = snprintf(text, sizeof(text),
                       "{\"type\":\"SEND\",\"id\":1,\"payload\":\"%.*s\\\"[[[[\"}",
                       (int)sizeof(payload), payload);
    char expected[sizeof(payload) + 5];
    memcpy(expected, payload, sizeof(payload));
    memcpy(expected + sizeof(payload), "\"[[[[", 5);
    assert_send(V1_JSON, text, (size_t)len, 1, OPCODE_TEXT, expected, sizeof(expected));
}

/* Every prefix of a good message, and the same with one byte changed, is read without a fault. */
static void damaged_messages_are_survived(void **state)
{
    (void)state;
    static const struct {
        enum v1_encoding form;
        const char *bytes;
        size_t len;
    } good[] = {
        {V1_JSON,
         LITERAL("{\"type\":\"SEND\",\"id\":3,\"payload\":\"AP8Q\",\"encoding\":\"base64\"}")},
        {V1_MSGPACK, LITERAL("\x85\xa5later\x92\x81\xa1k\xc0\xcb"
                             "12345678\xa4type\xa4SEND\xa2id\xcd\x01\x05\xa7payload\xda\x00\x04"
                             "AP8Q\xa8"
                             "encoding\xa6"
                             "base64")},
    };
    struct v1_request request;
    struct v1_mistake mistake;
    for (size_t i = 0; i < 2; i++) {
        char text[128];
        memcpy(text, good[i].bytes, good[i].len);
        for (size_t len = 0; len < good[i].len; len++)
            assert_int_equal(decode(good[i].form, text, len, &request, &mistake), STATUS_INVALID);
        for (size_t at = 0; at < good[i].len; at++) {
            for (unsigned byte = 0; byte < 256; byte++) {
                text[at] = (char)byte;
                if (decode(good[i].form, text, good[i].len, &request, &mistake) == STATUS_OK)
                    v1_request_fini(&request);
            }
            text[at] = good[i].bytes[at];
        }
    }
}

static void a_resume_token_is_read(void **state)
{
    (void)state;
    struct position at;
    char client[V1_CLIENT_MAX + 1];
    assert_int_equal(v1_resume("1800000000000.42", &at, client), STATUS_OK);
    assert_true(at.epoch == 1800000000000 && at.offset == 42);
    assert_string_equal(client, "");
    assert_int_equal(v1_resume("0.0.0123456789abcdef0123456789abcdef", &at, client), STATUS_OK);
    assert_true(at.epoch == 0 && at.offset == 0);
    assert_string_equal(client, "0123456789abcdef0123456789abcdef");
    assert_int_equal(v1_resume("18446744073709551615.1.c", &at, client), STATUS_OK);
    assert_true(at.epoch == UINT64_MAX);
}

static void an_unreadable_resume_token_changes_nothing(void **state)
{
    (void)state;
    static const char *const wrong[] = {"",
                                        "1",
                                        "1.",
                                        ".1",
                                        "1.2.",
                                        "1..c",
                                        "-1.2",
                                        "+1.2",
                                        " 1.2",
                                        "1.2 ",
                                        "a.b",
                                        "1.2c",
                                        "0x1.2",
                                        "18446744073709551616.1",
                                        "1.99999999999999999999",
                                        "1.18446744073709551615",
                                        "1.2.0123456789abcdef0123456789abcdef0",
                                        "1.2.a b",
                                        "1.2.a/b"};
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        struct position at = {5, 6};
        char client[V1_CLIENT_MAX + 1] = "same";
        assert_int_equal(v1_resume(wrong[i], &at, client), STATUS_INVALID);
        assert_true(at.epoch == 5 && at.offset == 6);
        assert_string_equal(client, "same");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(server_messages_in_json_have_their_known_text),
        cmocka_unit_test(server_messages_in_msgpack_have_their_known_bytes),
        cmocka_unit_test(a_message_has_its_position_beside_the_type),
        cmocka_unit_test(escapes_are_those_of_json),
        cmocka_unit_test(text_survives_json_at_every_length),
        cmocka_unit_test(each_byte_alone_is_escaped_only_where_it_must_be),
        cmocka_unit_test(large_messages_are_whole),
        cmocka_unit_test(a_send_in_json_is_read),
        cmocka_unit_test(a_send_in_msgpack_is_read),
        cmocka_unit_test(a_ping_is_read_in_both_forms),
        cmocka_unit_test(a_refresh_brings_a_token),
        cmocka_unit_test(mistakes_in_json_are_named),
        cmocka_unit_test(base64_is_strict),
        cmocka_unit_test(base64_survives_the_way_there_and_back),
        cmocka_unit_test(mistakes_in_msgpack_are_named),
        cmocka_unit_test(a_message_with_the_other_opcode_is_refused),
        cmocka_unit_test(any_json_is_gone_over),
        cmocka_unit_test(the_fields_of_any_object_are_given),
        cmocka_unit_test(an_escape_is_read_wherever_it_stands),
        cmocka_unit_test(nesting_and_values_are_bounded),
        cmocka_unit_test(lists_of_urls_and_sessions_are_read),
        cmocka_unit_test(a_list_of_anything_else_is_a_mistake),
        cmocka_unit_test(a_send_names_its_session_and_its_time),
        cmocka_unit_test(many_urls_are_bounded),
        cmocka_unit_test(answers_to_a_subscribe_name_its_url),
        cmocka_unit_test(structure_inside_a_string_is_not_counted),
        cmocka_unit_test(damaged_messages_are_survived),
        cmocka_unit_test(a_resume_token_is_read),
        cmocka_unit_test(an_unreadable_resume_token_changes_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
