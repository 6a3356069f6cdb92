/* The answer to a handshake with a backend: interim answers, however the bytes are cut. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "upstream/answer.h"

#define ACCEPT "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
#define OPENS                                                                \
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: " \
    "Upgrade\r\nSec-WebSocket-Accept: " ACCEPT "\r\n\r\n"
#define CONTINUE "HTTP/1.1 100 Continue\r\n\r\n"
#define HINTS    "HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n"

/* Reads the text in pieces of that size. *used: the bytes up to the end of the head. */
static struct answer take(const char *text, size_t len, size_t piece, size_t *used)
{
    struct answer_reader reader = {0};
    struct answer answer = {.verdict = ANSWER_MORE};
    memcpy(reader.accept, ACCEPT, sizeof(ACCEPT));
    size_t at = 0;
    while (at < len && answer.verdict == ANSWER_MORE) {
        size_t n = len - at < piece ? len - at : piece;
        answer = answer_take(&reader, (const uint8_t *)text + at, n);
        *used = at + answer.used;
        at += n;
    }
    answer_reader_fini(&reader);
    return answer;
}

static void assert_opens(const char *before, const char *behind)
{
    char text[1024];
    int head = snprintf(text, sizeof(text), "%s%s", before, OPENS);
    int len = snprintf(text + head, sizeof(text) - (size_t)head, "%s", behind) + head;
    for (size_t piece = 1; piece <= (size_t)len; piece++) {
        size_t used;
        struct answer answer = take(text, (size_t)len, piece, &used);
        assert_int_equal(answer.verdict, ANSWER_OPENS);
        assert_int_equal(used, head);
    }
}

static void interim_answers_are_passed_over_however_they_are_cut(void **state)
{
    (void)state;
    assert_opens("", "");
    assert_opens("", "frames");
    assert_opens(CONTINUE, "");
    assert_opens(HINTS, "frames");
    assert_opens(CONTINUE HINTS "HTTP/1.0 102 Processing\r\n\r\nHTTP/1.1 199\r\n\r\n", "frames");
}

/* Answers that gateways and frameworks were reported to send, and other clients failed on. */
static void a_101_with_odd_fields_opens(void **state)
{
    (void)state;
    static const char *const fields[] = {
        "upgrade: WebSocket\r\nconnection: keep-alive, upgrade\r\n",
        "UPGRADE: websocket\r\nCONNECTION: Keep-Alive\r\nConnection:Upgrade\r\n",
        "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Protocol:\r\n"
        "Sec-WebSocket-Extensions: \r\n",
        "Upgrade: websocket\r\nConnection: Upgrade\r\nTransfer-Encoding: chunked\r\n"
        "Content-Length: 0\r\nContent-Type: text/plain\r\n",
    };
    for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
        char text[1024];
        int head = snprintf(text, sizeof(text),
                            "HTTP/1.1 101\r\n%sSec-WebSocket-Accept: " ACCEPT "\r\n\r\n",
                            fields[i]);
        strcpy(text + head, "frames");
        for (size_t piece = 1; piece <= strlen(text); piece++) {
            size_t used;
            assert_int_equal(take(text, strlen(text), piece, &used).verdict, ANSWER_OPENS);
            assert_int_equal(used, head);
        }
    }
}

static void a_101_that_says_otherwise_is_wrong(void **state)
{
    (void)state;
    static const char *const fields[] = {
        "Upgrade: h2c\r\nConnection: Upgrade\r\n",
        "Connection: Upgrade\r\n",
        "Upgrade: websocket\r\nConnection: close\r\n",
        "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Protocol: a\r\n",
        "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Extensions:\r\n "
        "permessage-deflate\r\n",
        "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: " ACCEPT "\r\n",
        "Upgrade : websocket\r\nConnection: Upgrade\r\n",
        "X: y\r\n Upgrade: websocket\r\nConnection: Upgrade\r\n",
        "Upgrade: websocket\r\nConnection: Upgrade\r\nSet-Cookie: a=\x01\r\n",
    };
    for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
        char text[1024];
        size_t used;
        snprintf(text, sizeof(text), "HTTP/1.1 101 x\r\n%sSec-WebSocket-Accept: " ACCEPT "\r\n\r\n",
                 fields[i]);
        assert_int_equal(take(text, strlen(text), 5, &used).verdict, ANSWER_WRONG);
    }
}

static void what_follows_an_interim_answer_is_judged(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        enum answer_verdict verdict;
        unsigned status;
    } cases[] = {
        {CONTINUE "HTTP/1.1 401 No\r\n\r\n", ANSWER_REFUSES, 401},
        {HINTS "HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n", ANSWER_REFUSES, 503},
        {CONTINUE "HTTP/1.1 200 OK\r\n\r\n", ANSWER_REFUSES, 200},
        {CONTINUE "SSH-2.0\r\n\r\n", ANSWER_WRONG, 0},
        {CONTINUE "HTTP/1.1 101 x\r\n\r\n", ANSWER_WRONG, 0},
        {"SSH-2.0", ANSWER_WRONG, 0},
        {"\x15\x03\x01", ANSWER_WRONG, 0},
        {"HTTP/2.0 200", ANSWER_WRONG, 0},
        {CONTINUE "\r\n", ANSWER_WRONG, 0},
        {"HTTP/1", ANSWER_MORE, 0},
        {CONTINUE, ANSWER_MORE, 0},
        {CONTINUE CONTINUE "HTTP/1.1", ANSWER_MORE, 0},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        for (size_t piece = 1; piece <= strlen(cases[i].text); piece++) {
            size_t used;
            struct answer answer = take(cases[i].text, strlen(cases[i].text), piece, &used);
            assert_int_equal(answer.verdict, cases[i].verdict);
            assert_int_equal(answer.http_status, cases[i].status);
        }
    }
}

static void interim_answers_are_bounded_in_number_and_size(void **state)
{
    (void)state;
    char *text = calloc(1, 2 * ANSWER_MAX + sizeof(OPENS) + 64);
    size_t used;
    for (unsigned i = 0; i < ANSWER_INTERIM_MAX; i++)
        strcat(text, CONTINUE);
    strcat(text, OPENS);
    assert_int_equal(take(text, strlen(text), 7, &used).verdict, ANSWER_OPENS);
    *text = '\0';
    for (unsigned i = 0; i <= ANSWER_INTERIM_MAX; i++)
        strcat(text, CONTINUE);
    assert_int_equal(take(text, strlen(text), strlen(text), &used).verdict, ANSWER_WRONG);
    assert_int_equal(take(text, strlen(text), 1, &used).verdict, ANSWER_WRONG);

    char *long_hint = text + sprintf(text, "HTTP/1.1 103 x\r\nLink: ");
    memset(long_hint, 'x', ANSWER_MAX * 2 / 3);
    strcpy(long_hint + ANSWER_MAX * 2 / 3, "\r\n\r\n");
    size_t len = strlen(text);
    strcpy(text + len, OPENS);
    assert_int_equal(take(text, strlen(text), 1000, &used).verdict, ANSWER_OPENS);
    memmove(text + len, text, len); /* twice is more than an answer may have */
    strcpy(text + 2 * len, OPENS);
    assert_int_equal(take(text, strlen(text), 1000, &used).verdict, ANSWER_WRONG);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(interim_answers_are_passed_over_however_they_are_cut),
        cmocka_unit_test(a_101_with_odd_fields_opens),
        cmocka_unit_test(a_101_that_says_otherwise_is_wrong),
        cmocka_unit_test(what_follows_an_interim_answer_is_judged),
        cmocka_unit_test(interim_answers_are_bounded_in_number_and_size),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
