/*
 * A backend's answer to the hub's handshake: any bytes, or the right answer with some lines
 * changed. The first byte chooses, the second is the seed of where it is cut.
 *
 * A second reader, made of regular expressions, says whether an answer opens a WebSocket, refuses
 * or is neither. The hub's reader must agree, in one piece and in many, and must leave the bytes
 * after the head alone.
 */
#include <assert.h>
#include <regex.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"
#include "upstream/answer.h"

#define ACCEPT      "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
#define ACCEPT_LINE "Sec-WebSocket-Accept: " ACCEPT
#define BYTES_MAX   (128 * 1024)
#define MORE_MAX    300

/* --- what it sends --- */

struct answer_text {
    char bytes[BYTES_MAX];
    size_t len;
};

static void add(struct answer_text *out, const char *bytes, size_t len)
{
    size_t space = sizeof(out->bytes) - out->len;
    len = len < space ? len : space;
    if (len > 0)
        memcpy(out->bytes + out->len, bytes, len);
    out->len += len;
}

static void add_slice(struct answer_text *out, struct fuzz_input *input)
{
    struct slice bytes = fuzz_slice(input);
    add(out, bytes.at, bytes.len);
}

static void add_filler(struct answer_text *out, struct fuzz_input *input)
{
    static char filler[256];
    memset(filler, 'x', sizeof(filler));
    add(out, "X-Long: ", 8);
    for (unsigned left = fuzz_byte(input); left > 0; left--)
        add(out, filler, sizeof(filler));
}

/* A line of the right answer, or what becomes of it. */
static void add_line(struct answer_text *out, struct fuzz_input *input, const char *line)
{
    const char *colon = strchr(line, ':');
    size_t name_len = colon ? (size_t)(colon - line) + 1 : strlen(line);
    switch (fuzz_below(input, 8)) {
    case 0: return;
    case 1: add_slice(out, input); break;
    case 2:
        add(out, line, name_len);
        add_slice(out, input);
        break;
    case 3:
        add(out, line, strlen(line));
        add_slice(out, input);
        break;
    case 4:
        add(out, line, name_len);
        add_slice(out, input);
        add(out, line + name_len, strlen(line) - name_len);
        break;
    default: add(out, line, strlen(line)); break;
    }
    add(out, "\r\n", 2);
}

static void add_more(struct answer_text *out, struct fuzz_input *input)
{
    unsigned count = fuzz_below(input, 4);
    if (count == 3 && fuzz_below(input, 8) == 0)
        count = MORE_MAX;
    for (; count > 0 && count < MORE_MAX; count--) {
        if (fuzz_below(input, 8) == 0)
            add_filler(out, input);
        else
            add_slice(out, input);
        add(out, "\r\n", 2);
    }
    for (; count > 0; count -= 2)
        add(out, "X: y\r\n", 6);
}

/* interim: how many such answers stand before it. */
static void make_answer(struct answer_text *out, struct fuzz_input *input, unsigned interim)
{
    static const char *const lines[] = {"HTTP/1.1 101 Switching Protocols", "Upgrade: websocket",
                                        "Connection: Upgrade", ACCEPT_LINE,
                                        "Sec-WebSocket-Extensions:"};
    static const char hints[] = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n";
    for (; interim > 0; interim--)
        add(out, hints, sizeof(hints) - 1);
    for (size_t i = 0; i < sizeof(lines) / sizeof(*lines); i++)
        add_line(out, input, lines[i]);
    add_more(out, input);
    add(out, "\r\n", 2);
    struct slice frames = fuzz_rest(input);
    add(out, frames.at, frames.len);
}

/* --- the second reader --- */

#define TOKEN   "[-A-Za-z0-9!#$%&'*+.^_`|~]+"
#define NO_CTRL "[^\x01-\x08\x0a-\x1f\x7f]*"
#define LISTS   ":(" NO_CTRL ",)?[ \t]*"
#define NO_MORE "[ \t]*(," NO_CTRL ")?$"

enum answer_pattern { START, FIELD, UPGRADE, CONNECTION, ACCEPTS, OFFERS, PATTERNS };

static bool matches(enum answer_pattern pattern, const char *line)
{
    static const char *const patterns[PATTERNS] = {
        [START] = "^HTTP/1[.][0-9] [0-9]{3}( " NO_CTRL ")?$",
        [FIELD] = "^" TOKEN ":" NO_CTRL "$",
        [UPGRADE] = "^upgrade" LISTS "websocket" NO_MORE,
        [CONNECTION] = "^connection" LISTS "upgrade" NO_MORE,
        [ACCEPTS] = "^sec-websocket-accept:",
        [OFFERS] = "^sec-websocket-(extensions|protocol):[ \t]*[^ \t]",
    };
    static regex_t made[PATTERNS];
    static bool is_made[PATTERNS];
    int flags = REG_EXTENDED | REG_NOSUB | (pattern > FIELD ? REG_ICASE : 0);
    if (!is_made[pattern] && regcomp(&made[pattern], patterns[pattern], flags) != 0)
        abort();
    is_made[pattern] = true;
    return regexec(&made[pattern], line, 0, NULL, 0) == 0;
}

/* The result of the lines so far. */
struct heard {
    size_t fields, accepts;
    unsigned status;
    bool malformed, upgrade, connection, right, offers;
};

static void hear_line(struct heard *heard, const char *line, bool first)
{
    heard->malformed = heard->malformed || !matches(first ? START : FIELD, line);
    if (first) {
        heard->status = heard->malformed ? 0 : (unsigned)strtoul(line + 9, NULL, 10);
        return;
    }
    heard->fields++;
    heard->upgrade = heard->upgrade || matches(UPGRADE, line);
    heard->connection = heard->connection || matches(CONNECTION, line);
    heard->offers = heard->offers || matches(OFFERS, line);
    if (matches(ACCEPTS, line)) {
        const char *value = strchr(line, ':') + 1;
        value += strspn(value, " \t");
        heard->accepts++;
        heard->right = strncmp(value, ACCEPT, strlen(ACCEPT)) == 0 &&
                       value[strlen(ACCEPT) + strspn(value + strlen(ACCEPT), " \t")] == '\0';
    }
}

static struct heard hear(const char *head, size_t len)
{
    struct heard heard = {0};
    for (size_t at = 0; at < len;) {
        const char *end = memmem(head + at, len - at, "\r\n", 2);
        size_t line_len = (size_t)(end - head) - at;
        char *line = strndup(head + at, line_len);
        heard.malformed = heard.malformed || strlen(line) != line_len;
        hear_line(&heard, line, at == 0);
        free(line);
        at += line_len + 2;
    }
    heard.malformed = heard.malformed || heard.fields > HTTP_FIELDS_MAX;
    return heard;
}

static struct answer judge(struct heard heard, size_t used)
{
    if (heard.malformed || heard.status == 0)
        return (struct answer){.verdict = ANSWER_WRONG};
    if (heard.status != 101)
        return (struct answer){.verdict = ANSWER_REFUSES, .http_status = heard.status};
    bool opens = heard.upgrade && heard.connection && heard.accepts == 1 && heard.right &&
                 !heard.offers;
    return (struct answer){.verdict = opens ? ANSWER_OPENS : ANSWER_WRONG, .used = used};
}

/* One head after another, each of which is HTTP by its first bytes, until one is no interim answer.
 */
static struct answer expect(const char *bytes, size_t len)
{
    unsigned interim = 0;
    for (size_t at = 0;;) {
        if (memcmp(bytes + at, "HTTP/1.", len - at < 7 ? len - at : 7) != 0)
            return (struct answer){.verdict = ANSWER_WRONG}; /* known by its first bytes */
        const char *end = memmem(bytes + at, len - at, "\r\n\r\n", 4);
        size_t head_end = end ? (size_t)(end - bytes) + 4 : len;
        if (head_end > ANSWER_MAX)
            return (struct answer){.verdict = ANSWER_WRONG};
        if (!end)
            return (struct answer){.verdict = ANSWER_MORE};
        struct answer answer = judge(hear(bytes + at, head_end - 2 - at), head_end);
        if (answer.verdict != ANSWER_REFUSES || answer.http_status < 100 ||
            answer.http_status > 199)
            return answer;
        if (interim++ == ANSWER_INTERIM_MAX)
            return (struct answer){.verdict = ANSWER_WRONG};
        at = head_end;
    }
}

/* --- the hub's --- */

/* cuts 0: in one piece. used counts from the first byte on. */
static struct answer take(const char *bytes, size_t len, unsigned cuts)
{
    struct answer_reader reader = {.accept = ACCEPT};
    struct answer answer = {.verdict = ANSWER_MORE};
    for (size_t at = 0; answer.verdict == ANSWER_MORE && at < len;) {
        size_t n = len - at;
        cuts = cuts * 75 % 65537;
        if (cuts > 0 && n > 1 + cuts % (at < 1000 ? 9 : 5000))
            n = 1 + cuts % (at < 1000 ? 9 : 5000);
        void *piece = fuzz_copy((struct slice){bytes + at, n});
        answer = answer_take(&reader, piece, n);
        assert(answer.verdict != ANSWER_OPENS || answer.used <= n);
        answer.used += at;
        free(piece);
        at += n;
    }
    answer_reader_fini(&reader);
    return answer;
}

static void check(struct answer is, struct answer should)
{
    assert(is.verdict == should.verdict);
    assert(is.verdict != ANSWER_OPENS || is.used == should.used);
    assert(is.verdict != ANSWER_REFUSES || is.http_status == should.http_status);
    assert((is.why != NULL) == (is.verdict == ANSWER_WRONG));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static struct answer_text text;
    struct fuzz_input input = {data, len};
    bool made = fuzz_below(&input, 2) == 1;
    unsigned cuts = 1U + fuzz_byte(&input);
    text.len = 0;
    if (made)
        make_answer(&text, &input, cuts % 8 == 7 ? cuts / 8 : 0); /* also more than are taken */
    else
        add(&text, (const char *)input.at, input.len);

    struct answer should = expect(text.bytes, text.len);
    struct answer whole = take(text.bytes, text.len, 0), cut = take(text.bytes, text.len, cuts);
    check(whole, should);
    check(cut, should);
    assert(whole.why == cut.why);
    return 0;
}
