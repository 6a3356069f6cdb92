/*
 * Two further inputs from outside: the PROXY header, and deflated messages. The first byte chooses.
 * A second reader of each must agree.
 */
#include <arpa/inet.h>
#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "front/front_private.h"
#include "fuzz.h"

/* --- the PROXY header --- */

/* The client's address in a header of version 1; false: it has none. */
static bool told_in_words(const uint8_t *data, size_t used, char address[64], unsigned *port)
{
    char line[128] = "", family[8] = "", to[64] = "";
    struct in6_addr ignored;
    unsigned to_port, spaces = 0;
    assert(used < sizeof(line) && data[used - 2] == '\r' && data[used - 1] == '\n');
    memcpy(line, data, used - 2);
    for (const char *at = line; *at != '\0'; at++)
        spaces += *at == ' ';
    if (strncmp(line, "PROXY UNKNOWN", 13) == 0)
        return false;
    assert(spaces == 5);
    assert(sscanf(line, "PROXY %7s %63s %63s %u %u", family, address, to, port, &to_port) == 5);
    assert(strcmp(family, "TCP4") == 0 || strcmp(family, "TCP6") == 0);
    int kind = family[3] == '4' ? AF_INET : AF_INET6;
    assert(inet_pton(kind, address, &ignored) == 1 && inet_pton(kind, to, &ignored) == 1);
    assert(*port <= 65535 && to_port <= 65535 && !strpbrk(line, "+-"));
    assert(strlen(line) == used - 2);
    return true;
}

/* The same of version 2. */
static bool told_in_bytes(const uint8_t *data, size_t used, char address[64], unsigned *port)
{
    size_t len = data[14] * 256U + data[15];
    assert(used == 16 + len && (data[12] == 0x20 || data[12] == 0x21));
    bool v4 = data[13] == 0x11, v6 = data[13] == 0x21;
    if (data[12] == 0x20 || !(v4 || v6))
        return false;
    assert(len >= (v4 ? 12U : 36U));
    inet_ntop(v4 ? AF_INET : AF_INET6, data + 16, address, 64);
    *port = v4 ? data[24] * 256U + data[25] : data[48] * 256U + data[49];
    return true;
}

static void check_source(const uint8_t *data, size_t used, const struct proxy_source *source)
{
    char address[64];
    unsigned port;
    bool known = data[0] == 'P' ? told_in_words(data, used, address, &port)
                                : told_in_bytes(data, used, address, &port);
    assert(known == source->known);
    if (!known)
        return;
    char mapped[80];
    struct in6_addr told;
    snprintf(mapped, sizeof(mapped), "%s%s", !strchr(address, ':') ? "::ffff:" : "", address);
    assert(inet_pton(AF_INET6, mapped, &told) == 1);
    assert(memcmp(&told, &source->address, sizeof(told)) == 0 && port == source->port);
}

static void proxy(const uint8_t *data, size_t len)
{
    struct proxy_source source;
    size_t used = 0;
    enum status whole = proxy_parse(data, len, &source, &used);
    if (whole != STATUS_OK)
        return;
    const size_t addresses = 16 + 36; /* of version 2; what follows need not be here */
    assert(used > 0 && (used <= len || len >= addresses));
    check_source(data, used, &source);
    size_t needed = data[0] == '\r' && used > addresses ? addresses : used;
    for (size_t cut = 0; cut < needed; cut++) {
        size_t ignored;
        assert(proxy_parse(data, cut, &source, &ignored) == STATUS_AGAIN);
    }
}

/* --- deflated messages --- */

/* With an inflater of its own, in one go: the status, and in *plain a buffer for the caller to
 * free. Behind a final block another stream may follow (RFC 7692 section 7.2.3.4). */
static enum status inflate_again(const uint8_t *data, size_t len, size_t max, uint8_t **plain,
                                 size_t *plain_len)
{
    z_stream in = {0};
    uint8_t *bytes = calloc(1, len + 4);
    if (len > 0)
        memcpy(bytes, data, len);
    memcpy(bytes + len, "\x00\x00\xff\xff", 4);
    *plain = malloc(max + 1);
    assert(inflateInit2(&in, -15) == Z_OK);
    in.next_in = bytes;
    in.avail_in = (uInt)len + 4;
    in.next_out = *plain;
    in.avail_out = (uInt)max + 1;
    int result = Z_OK;
    while (result == Z_OK && in.avail_out > 0 && in.avail_in > 0) {
        result = inflate(&in, Z_SYNC_FLUSH);
        if (result == Z_STREAM_END && in.avail_in != 4)
            result = inflateReset(&in);
    }
    *plain_len = max + 1 - in.avail_out;
    bool whole = result == Z_STREAM_END || ((in.data_type & 128) != 0 && in.avail_in == 0);
    inflateEnd(&in);
    free(bytes);
    if (*plain_len > max)
        return STATUS_LIMIT;
    return (result == Z_OK || result == Z_STREAM_END) && whole ? STATUS_OK : STATUS_INVALID;
}

static void inflate_any(struct deflater *deflater, const uint8_t *data, size_t len, size_t max)
{
    const uint8_t *plain = NULL;
    uint8_t *again;
    size_t plain_len = 0, again_len;
    enum status status = inflate_message(deflater, data, len, max, &plain, &plain_len);
    assert(inflate_again(data, len, max, &again, &again_len) == status || len == 0);
    if (status == STATUS_OK && len > 0)
        assert(plain_len == again_len && memcmp(plain, again, plain_len) == 0);
    assert(len > 0 || (status == STATUS_OK && plain_len == 0));
    free(again);
    inflate_done(deflater);
}

/* A deflated message inflates to the same bytes. */
static void round_trip(struct deflater *deflater, const uint8_t *data, size_t len)
{
    struct wire *wire = deflate_message(deflater, 2, data, len);
    if (!wire)
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
    if (!deflater)
        deflater = deflater_new();
    if (len < 1)
        return 0;
    if (data[0] % 3 == 0)
        proxy(data + 1, len - 1);
    else if (data[0] % 3 == 1)
        inflate_any(deflater, data + 1, len - 1, data[0] < 128 ? 1000 : 100000);
    else
        round_trip(deflater, data + 1, len - 1);
    return 0;
}
