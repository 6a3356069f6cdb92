#include "bus/redis_slots.h"

#include <hiredis/hiredis.h>
#include <stdlib.h>
#include <string.h>

static uint16_t crc16(const char *bytes, size_t len)
{
    uint16_t crc = 0;
    for (size_t i = 0; i < len; i++) {
        crc = (uint16_t)(crc ^ (uint16_t)((uint8_t)bytes[i] << 8));
        for (unsigned bit = 0; bit < 8; bit++)
            crc = (uint16_t)((crc & 0x8000U) != 0 ? crc << 1 ^ 0x1021 : crc << 1);
    }
    return crc;
}

uint16_t redis_slot_of(const char *key)
{
    const char *open = strchr(key, '{');
    const char *close = open != NULL ? strchr(open + 1, '}') : NULL;
    if (close != NULL && close > open + 1)
        return crc16(open + 1, (size_t)(close - open - 1)) % REDIS_SLOTS;
    return crc16(key, strlen(key)) % REDIS_SLOTS;
}

static bool read_integer(const struct redisReply *reply, long long max, uint16_t *out)
{
    if (reply->type != REDIS_REPLY_INTEGER || reply->integer < 0 || reply->integer > max)
        return false;
    *out = (uint16_t)reply->integer;
    return true;
}

/* [first, last, [host, port, ...] of the primary, those of replicas ...] */
static bool read_range(const struct redisReply *range, const char *fallback,
                       redis_slot_range_fn *fn, void *ctx)
{
    uint16_t first, last, port;
    if (range->type != REDIS_REPLY_ARRAY || range->elements < 3)
        return false;
    const struct redisReply *primary = range->element[2];
    if (!read_integer(range->element[0], REDIS_SLOTS - 1, &first) ||
        !read_integer(range->element[1], REDIS_SLOTS - 1, &last) ||
        primary->type != REDIS_REPLY_ARRAY || primary->elements < 2 ||
        !read_integer(primary->element[1], UINT16_MAX, &port))
        return false;
    const struct redisReply *host = primary->element[0];
    bool known = host->type == REDIS_REPLY_STRING && host->len > 0 && strcmp(host->str, "?") != 0;
    fn(ctx, first, last, known ? host->str : fallback, port);
    return true;
}

bool redis_slots_read(const struct redisReply *reply, const char *fallback, redis_slot_range_fn *fn,
                      void *ctx)
{
    if (reply->type != REDIS_REPLY_ARRAY)
        return false;
    for (size_t i = 0; i < reply->elements; i++) {
        if (!read_range(reply->element[i], fallback, fn, ctx))
            return false;
    }
    return true;
}

bool redis_redirect_read(const char *error, char *host, size_t size, uint16_t *port)
{
    const char *place = strrchr(error, ' '), *colon = strrchr(error, ':');
    if (place == NULL || colon == NULL || colon < place || (size_t)(colon - place) > size)
        return false;
    unsigned long number = strtoul(colon + 1, NULL, 10);
    if (number == 0 || number > UINT16_MAX)
        return false;
    size_t len = (size_t)(colon - place - 1);
    memcpy(host, place + 1, len);
    host[len] = '\0';
    *port = (uint16_t)number;
    return true;
}
