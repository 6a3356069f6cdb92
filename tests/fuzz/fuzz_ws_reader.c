/*
 * WebSocket frames of a hostile peer: the same bytes in one piece, cut up, and read by a second,
 * plain reader must give the same messages and end in the same way. The first byte chooses the
 * rules, the second is the seed of where they are cut.
 */
#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/text.h"
#include "fuzz.h"
#include "loop/ws_reader.h"

#define ITEMS_MAX 4096

/* What a reader made of the input; payloads are joined. */
struct outcome {
    struct ws_item items[ITEMS_MAX];
    size_t len;
    uint8_t *payloads;
    size_t payloads_len;
};

static bool note(struct outcome *outcome, const struct ws_item *item, const struct ws_rules *rules)
{
    if (item->kind == WS_ITEM_MESSAGE)
        assert(item->len <= rules->message_max + rules->deflated_more &&
               (item->opcode == WS_TEXT || item->opcode == WS_BINARY));
    if (item->kind == WS_ITEM_PING || item->kind == WS_ITEM_PONG || item->kind == WS_ITEM_CLOSE)
        assert(item->len <= WS_CONTROL_MAX);
    if (item->kind == WS_ITEM_MESSAGE && item->opcode == WS_TEXT && !item->compressed)
        assert(text_is_utf8(item->payload, item->len));
    if (item->kind != WS_ITEM_BAD && item->len > 0) {
        memcpy(outcome->payloads + outcome->payloads_len, item->payload, item->len);
        outcome->payloads_len += item->len;
    }
    outcome->items[outcome->len++] = *item;
    return item->kind != WS_ITEM_BAD && item->kind != WS_ITEM_CLOSE && outcome->len < ITEMS_MAX;
}

/* step 0: in one piece. */
static void read_all(const uint8_t *data, size_t len, const struct ws_rules *rules, unsigned step,
                     struct outcome *out)
{
    uint8_t *copy = malloc(len + 1);
    memcpy(copy, data, len);
    out->len = out->payloads_len = 0;
    out->payloads = malloc(len + 1);
    struct ws_reader reader = {0};
    bool going = true;
    for (size_t at = 0; going && at < len;) {
        size_t n = step == 0 ? len : 1 + (step = step * 75 % 65537) % 9;
        if (n > len - at)
            n = len - at;
        uint8_t *bytes = copy + at;
        at += n;
        struct ws_item item;
        while (going && ws_next(&reader, rules, &bytes, &n, &item))
            going = note(out, &item, rules);
    }
    ws_reader_fini(&reader);
    free(copy);
}

/* --- the plain reader: all bytes are there, one frame after the other --- */

struct book {
    const uint8_t *at;
    size_t len;
    const struct ws_rules *rules;
    struct outcome *out;
    uint8_t opcode; /* of the message under way; 0: none */
    bool compressed;
    uint8_t *message;
    size_t message_len;
};

static bool book_bad(struct book *book, unsigned code)
{
    return note(book->out, &(struct ws_item){.kind = WS_ITEM_BAD, .code = code}, book->rules);
}

/* 1: UTF-8, 0: the beginning of it, -1: not that either (RFC 3629 section 4). */
static int utf8(const uint8_t *at, size_t len)
{
    for (size_t i = 0; i < len;) {
        uint8_t lead = at[i++];
        unsigned more = lead >= 0xf0 ? 3 : lead >= 0xe0 ? 2 : lead >= 0x80 ? 1 : 0;
        if ((lead >= 0x80 && lead < 0xc2) || lead > 0xf4)
            return -1;
        for (unsigned j = 0; j < more; j++, i++) {
            uint8_t low = j > 0 ? 0x80 : lead == 0xe0 ? 0xa0 : lead == 0xf0 ? 0x90 : 0x80;
            uint8_t high = j > 0 ? 0xbf : lead == 0xed ? 0x9f : lead == 0xf4 ? 0x8f : 0xbf;
            if (i == len)
                return 0;
            if (at[i] < low || at[i] > high)
                return -1;
        }
    }
    return 1;
}

static bool book_close(struct book *book, uint8_t *payload, size_t len)
{
    static const unsigned reserved[] = {1004, 1005, 1006};
    unsigned code = len >= 2 ? payload[0] * 256U + payload[1] : 1005;
    bool bad = len == 1 ||
               (len >= 2 && (code < 1000 || (code > 1014 && code < 3000) || code > 4999));
    for (size_t i = 0; i < 3; i++)
        bad = bad || (len >= 2 && code == reserved[i]);
    if (bad)
        return book_bad(book, 1002);
    size_t from = len >= 2 ? 2 : 0;
    if (utf8(payload + from, len - from) != 1)
        return book_bad(book, 1007);
    return note(
        book->out,
        &(struct ws_item){
            .kind = WS_ITEM_CLOSE, .code = code, .payload = payload + from, .len = len - from},
        book->rules);
}

static bool book_control(struct book *book, uint8_t opcode, uint8_t *payload, size_t len)
{
    if (opcode == 8)
        return book_close(book, payload, len);
    struct ws_item item = {
        .kind = opcode == 9 ? WS_ITEM_PING : WS_ITEM_PONG, .payload = payload, .len = len};
    return note(book->out, &item, book->rules);
}

/* The frame's part of the message is there; whole: all of it. */
static bool book_data(struct book *book, bool final, bool whole)
{
    bool text = book->opcode == 1 && !book->compressed;
    int so_far = text ? utf8(book->message, book->message_len) : 1;
    if (so_far < 0 || (final && whole && so_far == 0))
        return book_bad(book, 1007);
    if (!final || !whole)
        return whole;
    struct ws_item item = {.kind = WS_ITEM_MESSAGE,
                           .opcode = book->opcode,
                           .compressed = book->compressed,
                           .payload = book->message,
                           .len = book->message_len};
    book->opcode = 0;
    book->message_len = 0;
    return note(book->out, &item, book->rules);
}

static bool head_breaks_a_rule(const struct book *book)
{
    unsigned opcode = book->at[0] & 15;
    bool first = opcode == 1 || opcode == 2, control = opcode >= 8;
    return (book->at[0] & 0x30) != 0 ||
           ((book->at[0] & 0x40) != 0 && !(first && book->rules->rsv1)) ||
           (book->at[1] >= 128) != book->rules->masked || (opcode > 2 && opcode < 8) ||
           opcode > 10 || (control && (book->at[0] < 128 || (book->at[1] & 127) > 125)) ||
           (first && book->opcode != 0) || (opcode == 0 && book->opcode == 0);
}

/* False: there is no further one. */
static bool book_frame(struct book *book)
{
    if (book->len < 2)
        return false;
    if (head_breaks_a_rule(book))
        return book_bad(book, 1002);
    const uint8_t *at = book->at;
    uint8_t opcode = at[0] & 15, form = at[1] & 127;
    size_t bytes = form == 126 ? 2 : form == 127 ? 8 : 0, head = 2 + bytes + (at[1] >> 7) * 4U;
    if (book->len < head)
        return false;
    uint64_t size = bytes == 0 ? form : 0;
    for (size_t i = 0; i < bytes; i++)
        size = size * 256 + at[2 + i];
    if ((form == 126 && size < 126) || (form == 127 && size < 65536) || size > INT64_MAX)
        return book_bad(book, 1002);
    if (opcode == 1 || opcode == 2) {
        book->opcode = opcode;
        book->compressed = (at[0] & 0x40) != 0;
    }
    size_t more = book->compressed ? book->rules->deflated_more : 0;
    if (opcode < 8 && book->message_len + size > book->rules->message_max + more)
        return book_bad(book, book->rules->too_large);

    size_t there = size < book->len - head ? (size_t)size : book->len - head;
    uint8_t control[125], *into = opcode < 8 ? book->message + book->message_len : control;
    for (size_t i = 0; i < there; i++)
        into[i] = at[head + i] ^ (at[1] >= 128 ? at[head - 4 + i % 4] : 0);
    book->at += head + there;
    book->len -= head + there;
    if (opcode >= 8)
        return there == size && book_control(book, opcode, control, there);
    book->message_len += there;
    return book_data(book, at[0] >= 128, there == size);
}

static void read_by_the_book(const uint8_t *data, size_t len, const struct ws_rules *rules,
                             struct outcome *out)
{
    struct book book = {.at = data, .len = len, .rules = rules, .out = out};
    book.message = malloc(len + 1);
    out->len = out->payloads_len = 0;
    out->payloads = malloc(len + 1);
    while (book_frame(&book))
        ;
    free(book.message);
}

static void same(const struct outcome *a, const struct outcome *b)
{
    assert(a->len == b->len && a->payloads_len == b->payloads_len);
    for (size_t i = 0; i < a->len; i++) {
        const struct ws_item *x = &a->items[i], *y = &b->items[i];
        assert(x->kind == y->kind && x->code == y->code && x->opcode == y->opcode &&
               x->len == y->len && x->compressed == y->compressed);
    }
    assert(memcmp(a->payloads, b->payloads, a->payloads_len) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    if (len < 2)
        return 0;
    struct ws_rules rules = {.masked = (data[0] & 1) != 0,
                             .rsv1 = (data[0] & 2) != 0,
                             .message_max = (data[0] & 4) != 0 ? 100 : 100000,
                             .deflated_more = (data[0] & 8) != 0 ? 50 : 0,
                             .too_large = 4003};
    static struct outcome whole, cut, book;
    read_all(data + 2, len - 2, &rules, 0, &whole);
    read_all(data + 2, len - 2, &rules, 1U + data[1], &cut);
    read_by_the_book(data + 2, len - 2, &rules, &book);
    same(&whole, &cut);
    same(&whole, &book);
    free(whole.payloads);
    free(cut.payloads);
    free(book.payloads);
    return 0;
}
