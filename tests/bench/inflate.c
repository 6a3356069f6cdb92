#include "inflate.h"

#include <stdio.h>
#include <stdlib.h>
#include <zlib.h>

#define PLAIN_MAX (1u << 20)

static z_stream stream;
static uint8_t *plain;

/* One for the whole process, made when it is first needed. */
static void prepare(void)
{
    plain = malloc(PLAIN_MAX);
    if (!plain || inflateInit2(&stream, -15) != Z_OK) {
        fprintf(stderr, "inflate: no memory\n");
        exit(1);
    }
}

static int feed(const uint8_t *bytes, size_t len)
{
    stream.next_in = (Bytef *)(uintptr_t)bytes;
    stream.avail_in = (uInt)len;
    return inflate(&stream, Z_SYNC_FLUSH);
}

bool inflate_message(uint8_t **bytes, size_t *len)
{
    static const uint8_t tail[4] = {0, 0, 0xff, 0xff}; /* the bytes that the sender left out */
    if (!plain)
        prepare();
    inflateReset(&stream);
    stream.next_out = plain;
    stream.avail_out = PLAIN_MAX;
    int status = feed(*bytes, *len);
    if (status == Z_OK || status == Z_BUF_ERROR)
        status = feed(tail, sizeof(tail));
    if (status != Z_OK && status != Z_BUF_ERROR && status != Z_STREAM_END)
        return false;
    *bytes = plain;
    *len = PLAIN_MAX - stream.avail_out;
    return true;
}
