#include "resp.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

void resp_add(struct resp *out, const void *bytes, size_t len)
{
    size_t room = sizeof(out->bytes) - out->len;
    if (len > room)
        len = room;
    if (len > 0)
        memcpy(out->bytes + out->len, bytes, len);
    out->len += len;
}

void resp_line(struct resp *out, char type, uint64_t number)
{
    char line[32];
    int len = snprintf(line, sizeof(line), "%c%" PRIu64 "\r\n", type, number);
    resp_add(out, line, (size_t)len);
}

void resp_bulk(struct resp *out, struct slice text)
{
    resp_line(out, '$', text.len);
    resp_add(out, text.at, text.len);
    resp_add(out, "\r\n", 2);
}

void resp_text(struct resp *out, const char *text)
{
    resp_bulk(out, slice_of(text));
}

void resp_number_text(struct resp *out, uint64_t number)
{
    char text[24];
    snprintf(text, sizeof(text), "%" PRIu64, number);
    resp_text(out, text);
}

void resp_any_error(struct resp *out, struct fuzz_input *input)
{
    static const char *const errors[] = {"NOSCRIPT No matching script",
                                         "MOVED 1 h:7000",
                                         "MOVED 16383 :7001",
                                         "ASK 5 h:7000",
                                         "READONLY You can't",
                                         "LOADING Redis is loading",
                                         "MASTERDOWN Link",
                                         "NOAUTH Authentication",
                                         "OOM command not allowed",
                                         "ERR Error running script -OOM",
                                         "CLUSTERDOWN Hash slot",
                                         "TRYAGAIN Multiple keys",
                                         "MOVED",
                                         "MOVED 1 h:99999",
                                         ""};
    unsigned which = fuzz_below(input, 17);
    struct slice text = which < 15 ? slice_of(errors[which]) : fuzz_slice(input);
    resp_add(out, "-", 1);
    resp_add(out, text.at, text.len);
    resp_add(out, "\r\n", 2);
}

static void any_scalar(struct resp *out, struct fuzz_input *input, unsigned kind)
{
    static const char *const odd[] = {"$-1\r\n",
                                      "*-1\r\n",
                                      "_\r\n",
                                      ",1.5\r\n",
                                      "#t\r\n",
                                      ",inf\r\n",
                                      "*0\r\n",
                                      "$0\r\n\r\n",
                                      "+OK\r\n",
                                      ":-1\r\n",
                                      "(123456789012345678901234567890\r\n",
                                      "=7\r\ntxt:abc\r\n"};
    switch (kind) {
    case 0: resp_line(out, ':', fuzz_number(input)); break;
    case 1:
    case 2: resp_bulk(out, fuzz_slice(input)); break;
    case 3: resp_number_text(out, fuzz_number(input)); break;
    case 4: resp_any_error(out, input); break;
    default: {
        const char *text = odd[fuzz_below(input, sizeof(odd) / sizeof(*odd))];
        resp_add(out, text, strlen(text));
    }
    }
}

void resp_any(struct resp *out, struct fuzz_input *input, unsigned depth)
{
    static const char lists[] = {'*', '*', '*', '>', '~', '%'};
    unsigned kind = fuzz_below(input, 12);
    if (kind < 6 || depth == 0) {
        any_scalar(out, input, kind % 6);
        return;
    }
    char type = lists[kind - 6];
    unsigned len = fuzz_below(input, 7);
    resp_line(out, type, len);
    for (unsigned i = 0; i < (type == '%' ? 2 * len : len); i++)
        resp_any(out, input, depth - 1);
}

void resp_spoil(struct resp *out, struct fuzz_input *input)
{
    for (unsigned changes = 1 + fuzz_below(input, 4); changes > 0 && out->len > 0; changes--) {
        size_t at = fuzz_number(input) % out->len;
        out->bytes[at] = (char)fuzz_byte(input);
    }
}
