#include "lines.h"

#include <stdlib.h>
#include <string.h>

#define TEXT_MAX (64 << 20)

bool text_add(struct ctl_text *text, const char *data, size_t len)
{
    if (len > TEXT_MAX - text->len)
        return false;
    if (text->len + len > text->cap) {
        text->cap = (text->len + len) * 2;
        text->at = realloc(text->at, text->cap);
        if (!text->at)
            abort();
    }
    memcpy(text->at + text->len, data, len);
    text->len += len;
    return true;
}

bool lines_add(struct ctl_text *rest, const char *data, size_t len, line_fn *fn, void *ctx)
{
    while (len > 0) {
        const char *end = memchr(data, '\n', len);
        size_t part = end ? (size_t)(end - data) : len;
        if (!text_add(rest, data, part))
            return false;
        if (!end)
            return true;
        if (rest->len > 0 && rest->at[rest->len - 1] == '\r')
            rest->len--;
        if (!text_add(rest, "", 1))
            return false;
        size_t line_len = rest->len - 1;
        rest->len = 0;
        if (!fn(ctx, rest->at, line_len))
            return false;
        data += part + 1;
        len -= part + 1;
    }
    return true;
}
