/* The head of a request of a hostile peer: its end is found wherever it is cut, and its parts lie
 * within it. */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "front/front_private.h"
#include "loop/http_head.h"

static void within(struct http_text text, const char *bytes, size_t len)
{
    assert(text.at >= bytes && text.at + text.len <= bytes + len);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    char *bytes = malloc(len + 1); /* no terminator: reading past the end shows */
    memcpy(bytes, data, len);
    size_t end = http_head_end(bytes, len, 0);
    for (size_t from = 0; from < len && from < 64; from++) {
        size_t first = http_head_end(bytes, from, 0);
        assert(first == 0 || first == end);
        if (first == 0)
            assert(http_head_end(bytes, len, from) == end);
    }

    static struct http_head head;
    if (end > 0 && http_head_parse(bytes, end, &head) == STATUS_OK) {
        for (size_t i = 0; i < 3; i++)
            within(head.start[i], bytes, end);
        for (size_t i = 0; i < head.len; i++) {
            within(head.names[i], bytes, end);
            within(head.values[i], bytes, end);
            struct http_text rest = head.values[i], item;
            while (http_list_next(&rest, &item))
                within(item, bytes, end);
        }
        struct deflate_terms terms;
        if (deflate_negotiate(&head, &terms) == STATUS_OK)
            assert(terms.window_bits <= DEFLATE_BITS_MAX);
    }
    free(bytes);
    return 0;
}
