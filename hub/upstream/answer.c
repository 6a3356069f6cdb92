#include "upstream/answer.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

static struct answer wrong(const char *why)
{
    return (struct answer){.verdict = ANSWER_WRONG, .why = why};
}

/* False if a field of that name has a value that is not empty. */
static bool is_silent_on(const struct http_head *head, const char *name)
{
    size_t index = 0;
    struct http_text value;
    while (http_head_next(head, name, &index, &value)) {
        if (value.len > 0)
            return false;
    }
    return true;
}

/* Returns what is wrong with a 101 answer; NULL: it opens the WebSocket. */
static const char *upgrade_wrong(const struct http_head *head, const char *expected)
{
    struct http_text accept;
    if (!http_head_lists(head, "upgrade", "websocket") ||
        !http_head_lists(head, "connection", "upgrade"))
        return "expected an answer with Upgrade: websocket and Connection: Upgrade";
    if (!http_head_one(head, "sec-websocket-accept", &accept) || !http_text_is(accept, expected))
        return "Sec-WebSocket-Accept is missing or does not match the key";
    if (!is_silent_on(head, "sec-websocket-extensions"))
        return "the answer names an extension, but none was offered";
    if (!is_silent_on(head, "sec-websocket-protocol"))
        return "the answer names a subprotocol, but none was offered";
    return NULL;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* The HTTP status; 0: this is not an answer of HTTP/1. */
static unsigned answer_status(const struct http_head *head)
{
    struct http_text version = head->start[0], status = head->start[1];
    if (version.len != 8 || memcmp(version.at, "HTTP/1.", 7) != 0 || !is_digit(version.at[7]) ||
        status.len != 3)
        return 0;
    unsigned number = 0;
    for (size_t i = 0; i < 3; i++) {
        if (!is_digit(status.at[i]))
            return 0;
        number = number * 10 + (unsigned)(status.at[i] - '0');
    }
    return number;
}

static struct answer judge(const char *bytes, size_t len, const char *accept)
{
    struct http_head head;
    unsigned status = http_head_parse(bytes, len, &head) == STATUS_OK ? answer_status(&head) : 0;
    if (status == 0)
        return wrong("answer is not HTTP");
    if (status != 101)
        return (struct answer){.verdict = ANSWER_REFUSES, .http_status = status};
    const char *why = upgrade_wrong(&head, accept);
    return why ? wrong(why) : (struct answer){.verdict = ANSWER_OPENS};
}

static bool keep(struct answer_reader *reader, const uint8_t *bytes, size_t len)
{
    if (reader->len + len > reader->cap) {
        size_t cap = (reader->len + len) * 2;
        char *grown = realloc(reader->head, cap);
        if (!grown)
            return false;
        reader->head = grown;
        reader->cap = cap;
    }
    memcpy(reader->head + reader->len, bytes, len);
    reader->len += len;
    return true;
}

/* 1xx is followed by another answer; 101 alone ends the handshake. */
static bool is_interim(const struct answer *answer)
{
    return answer->verdict == ANSWER_REFUSES && answer->http_status >= 100 &&
           answer->http_status < 200;
}

/* Drops the interim answer that ends at end; the bytes after it belong to the next answer. */
static void pass_over(struct answer_reader *reader, size_t end)
{
    reader->len -= end;
    memmove(reader->head, reader->head + end, reader->len);
    reader->passed += end;
    reader->interim++;
}

/* Whether the first bytes can be HTTP; if not, the answer is refused before its head is complete.
 */
static bool may_be_http(const struct answer_reader *reader)
{
    static const char start[] = "HTTP/1.";
    size_t len = reader->len < strlen(start) ? reader->len : strlen(start);
    return memcmp(reader->head, start, len) == 0;
}

struct answer answer_take(struct answer_reader *reader, const uint8_t *bytes, size_t len)
{
    size_t before = reader->len;
    if (!keep(reader, bytes, len))
        return wrong("out of memory");
    for (;;) {
        if (!may_be_http(reader))
            return wrong("answer is not HTTP");
        size_t end = http_head_end(reader->head, reader->len, before);
        if (reader->passed + (end > 0 ? end : reader->len) > ANSWER_MAX)
            return wrong("answer is too large");
        if (end == 0)
            return (struct answer){.verdict = ANSWER_MORE};
        struct answer answer = judge(reader->head, end, reader->accept);
        if (!is_interim(&answer)) {
            answer.used = len - (reader->len - end);
            return answer;
        }
        if (reader->interim == ANSWER_INTERIM_MAX)
            return wrong("too many interim answers");
        pass_over(reader, end);
        before = 0;
    }
}

void answer_reader_fini(struct answer_reader *reader)
{
    free(reader->head);
}
