/*
 * What else comes from outside before it is checked: the PROXY header, and deflated messages. The
 * first byte says which.
 */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "front/front_private.h"
#include "fuzz.h"

static void proxy(const uint8_t *data, size_t len)
{
    struct proxy_source source;
    size_t used = 0;
    enum status whole = proxy_parse(data, len, &source, &used);
    if (whole != STATUS_OK)
        return;
    assert(used > 0 && used <= len);
    for (size_t cut = 0; cut < used; cut++) {
        size_t ignored;
        assert(proxy_parse(data, cut, &source, &ignored) == STATUS_AGAIN);
    }
}

static void inflate_any(struct deflater *deflater, const uint8_t *data, size_t len, size_t max)
{
    const uint8_t *plain;
    size_t plain_len;
    if (inflate_message(deflater, data, len, max, &plain, &plain_len) == STATUS_OK)
        assert(plain_len <= max);
    inflate_done(deflater);
}

/* What is deflated comes back. */
static void round_trip(struct deflater *deflater, const uint8_t *data, size_t len)
{
    struct wire *wire = deflate_message(deflater, 2, data, len);
    if (wire == NULL)
        return;
    size_t head = wire->bytes[1] < 126 ? 2 : wire->bytes[1] == 126 ? 4 : 10;
    const uint8_t *plain;
    size_t plain_len;
    assert(inflate_message(deflater, wire->bytes + head, wire->len - head, len, &plain,
                           &plain_len) == STATUS_OK);
    assert(plain_len == len && memcmp(plain, data, len) == 0);
    inflate_done(deflater);
    wire_unref(wire);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static struct deflater *deflater;
    if (deflater == NULL)
        deflater = deflater_new();
    if (len < 1)
        return 0;
    if (data[0] % 3 == 0)
        proxy(data + 1, len - 1);
    else if (data[0] % 3 == 1)
        inflate_any(deflater, data + 1, len - 1, data[0] < 128 ? 1000 : 1048576);
    else
        round_trip(deflater, data + 1, len - 1);
    return 0;
}
