/*
 * WebSocket frames of a hostile peer: the same bytes in one piece and cut up must make the same
 * messages, and end in the same way. The first byte picks the rules, the second seeds where it is
 * cut.
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
        assert(item->len <= rules->message_max &&
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

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    if (len < 2)
        return 0;
    struct ws_rules rules = {.masked = (data[0] & 1) != 0,
                             .rsv1 = (data[0] & 2) != 0,
                             .message_max = (data[0] & 4) != 0 ? 100 : 100000,
                             .too_large = 4003};
    static struct outcome whole, cut;
    read_all(data + 2, len - 2, &rules, 0, &whole);
    read_all(data + 2, len - 2, &rules, 1U + data[1], &cut);

    assert(whole.len == cut.len && whole.payloads_len == cut.payloads_len);
    for (size_t i = 0; i < whole.len; i++) {
        const struct ws_item *a = &whole.items[i], *b = &cut.items[i];
        assert(a->kind == b->kind && a->code == b->code && a->opcode == b->opcode &&
               a->len == b->len && a->compressed == b->compressed);
    }
    assert(memcmp(whole.payloads, cut.payloads, whole.payloads_len) == 0);
    free(whole.payloads);
    free(cut.payloads);
    return 0;
}
