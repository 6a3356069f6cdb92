/* The head of a request or an answer: its end, its parts, and what is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "loop/http_head.h"

static struct http_head head;

static enum status parse(const char *text)
{
    return http_head_parse(text, strlen(text), &head);
}

static void finds_the_end_wherever_it_is_cut(void **state)
{
    (void)state;
    static const char text[] = "GET / HTTP/1.1\r\nA: b\r\n\r\nrest";
    size_t end = strlen(text) - 4;
    for (size_t cut = 0; cut < end; cut++) {
        assert_int_equal(http_head_end(text, cut, 0), 0);
        assert_int_equal(http_head_end(text, strlen(text), cut), end);
    }
}

static void takes_a_request_apart(void **state)
{
    (void)state;
    assert_int_equal(
        parse("GET /a%2Fb//c?d HTTP/1.1\r\nHost: x\r\nA:\t b c \r\nEmpty:\r\na: d\r\n\r\n"),
        STATUS_OK);
    assert_true(http_text_is(head.start[0], "GET"));
    assert_true(http_text_is(head.start[1], "/a%2Fb//c?d"));
    assert_true(http_text_is(head.start[2], "HTTP/1.1"));

    struct http_text value;
    size_t index = 0;
    assert_true(http_head_next(&head, "A", &index, &value) && http_text_is(value, "b c"));
    assert_true(http_head_next(&head, "A", &index, &value) && http_text_is(value, "d"));
    assert_false(http_head_next(&head, "A", &index, &value));
    assert_false(http_head_one(&head, "a", &value));
    assert_true(http_head_one(&head, "EMPTY", &value) && value.len == 0);
    assert_true(http_head_one(&head, "host", &value) && http_text_is(value, "x"));
    assert_false(http_head_one(&head, "missing", &value));
}

static void takes_an_answer_apart(void **state)
{
    (void)state;
    assert_int_equal(parse("HTTP/1.1 101 Switching Protocols\r\n\r\n"), STATUS_OK);
    assert_true(http_text_is(head.start[1], "101"));
    assert_true(http_text_is(head.start[2], "Switching Protocols"));
    assert_int_equal(parse("HTTP/1.1 200\r\n\r\n"), STATUS_OK);
    assert_int_equal(head.start[2].len, 0);
}

static void refuses_what_is_malformed(void **state)
{
    (void)state;
    static const char *const wrong[] = {
        "\r\n\r\n",
        "GET\r\n\r\n",
        "GET / HTTP/1.1\r\nno colon\r\n\r\n",
        "GET / HTTP/1.1\r\nA : b\r\n\r\n",
        "GET / HTTP/1.1\r\n folded: b\r\n\r\n",
        "GET / HTTP/1.1\r\n: b\r\n\r\n",
        "GET / HTTP/1.1\r\nA: \x01\r\n\r\n",
        "GET /\x7f HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\nA: b\r\n\r\n",
    };
    for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++)
        assert_int_equal(parse(wrong[i]), STATUS_INVALID);

    char many[HTTP_FIELDS_MAX * 6 + 64] = "GET / HTTP/1.1\r\n";
    for (size_t i = 0; i <= HTTP_FIELDS_MAX; i++)
        strcat(many, "A:b\r\n");
    strcat(many, "\r\n");
    assert_int_equal(parse(many), STATUS_LIMIT);
}

static void reads_lists(void **state)
{
    (void)state;
    assert_int_equal(
        parse("GET / HTTP/1.1\r\nConnection: keep-alive,\r\nConnection: , Upgrade\r\n\r\n"),
        STATUS_OK);
    assert_true(http_head_lists(&head, "connection", "upgrade"));
    assert_true(http_head_lists(&head, "connection", "Keep-Alive"));
    assert_false(http_head_lists(&head, "connection", "up"));
    assert_true(http_text_is_token((struct http_text){"a.b-c~1", 7}));
    assert_false(http_text_is_token((struct http_text){"a b", 3}));
    assert_false(http_text_is_token((struct http_text){"", 0}));
}

/* The example of RFC 6455 section 1.3. */
static void answers_a_key(void **state)
{
    (void)state;
    char accept[WS_ACCEPT_SIZE];
    ws_accept_key((struct http_text){"dGhlIHNhbXBsZSBub25jZQ==", 24}, accept);
    assert_string_equal(accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(finds_the_end_wherever_it_is_cut),
        cmocka_unit_test(takes_a_request_apart),
        cmocka_unit_test(takes_an_answer_apart),
        cmocka_unit_test(refuses_what_is_malformed),
        cmocka_unit_test(reads_lists),
        cmocka_unit_test(answers_a_key),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
