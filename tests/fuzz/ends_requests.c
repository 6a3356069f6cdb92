#include "ends_requests.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#define URLS_MAX 4u

/* Text of limited room, which is never full. */
struct pen {
    char *text;
    size_t size, len;
};

PRINTF_LIKE(2, 3) static void add(struct pen *pen, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int len = vsnprintf(pen->text + pen->len, pen->size - pen->len, format, args);
    va_end(args);
    if (len > 0 && pen->len + (size_t)len < pen->size)
        pen->len += (size_t)len;
    else
        pen->text[pen->len] = '\0';
}

static void add_url(struct pen *pen, struct fuzz_input *input,
                    const struct position at[END_SESSIONS])
{
    unsigned what = fuzz_byte(input), vin = what & 1;
    switch (what >> 1 & 15) {
    case 0: add(pen, "\"/u/v%u?none\"", vin); break;
    case 1: add(pen, "\"v%u\"", vin); break;
    case 2: add(pen, "\"/u?subscribe\""); break;
    case 3: add(pen, "\"/w/v%u?svc&token=x\"", vin); break;
    case 4:
    case 5: add(pen, "\"/u/v%u?svc&rate=%u\"", vin, what >> 5 ? 100u : 1u); break;
    case 6: add(pen, "\"/u/v%u?svc&replay=%u\"", vin, what >> 5); break;
    case 7: add(pen, "\"/u/v%u?svc&resume=%" PRIu64 ".1\"", vin, fuzz_number(input)); break;
    case 8:
    case 9:
    case 10:
        add(pen, "\"/u/v%u?svc&resume=%" PRIu64 ".%" PRIu64 "\"", vin, at[vin].epoch,
            at[vin].offset);
        break;
    default: add(pen, "\"/u/v%u?svc\"", vin); break;
    }
}

static void subscribe(struct pen *pen, struct fuzz_input *input,
                      const struct position at[END_SESSIONS], uint64_t id)
{
    unsigned n = 1 + fuzz_below(input, URLS_MAX);
    add(pen, "{\"type\":\"SUBSCRIBE\",\"id\":%" PRIu64 ",\"urls\":[", id);
    while (n--) {
        add_url(pen, input, at);
        add(pen, n ? "," : "]}");
    }
}

static void send_one(struct pen *pen, struct fuzz_input *input, uint64_t id)
{
    static const unsigned ttls_ms[] = {1, 20, 200, 3000};
    unsigned how = fuzz_byte(input);
    add(pen, "{\"type\":\"SEND\",\"id\":%" PRIu64 ",\"payload\":\"x%u\"",
        how & 0x40 ? id / 2 + 1 : id, how);
    if (how & 1)
        add(pen, ",\"ttl\":%u", ttls_ms[how >> 1 & 3]);
    if (how & 8)
        add(pen, ",\"session\":\"%s\"",
            (how & 0x30) == 0x30 ? "svc:v9" : end_session_ids[how >> 4 & 1]);
    add(pen, "}");
}

size_t ends_request(struct fuzz_input *input, const struct position at[END_SESSIONS], uint64_t *id,
                    char *text, size_t size)
{
    struct pen pen = {text, size, 0};
    unsigned what = fuzz_byte(input);
    ++*id;
    switch (what % 6) {
    case 0:
    case 1: subscribe(&pen, input, at, *id); break;
    case 2:
        add(&pen, "{\"type\":\"UNSUBSCRIBE\",\"id\":%" PRIu64 ",\"sessions\":[\"%s\"]}", *id,
            end_session_ids[what >> 4 & 1]);
        break;
    case 3:
        add(&pen, "{\"type\":\"REFRESH\",\"id\":%" PRIu64 ",\"token\":\"%c\"}", *id,
            "abcx"[what >> 4 & 3]);
        break;
    default: send_one(&pen, input, *id); break;
    }
    return pen.len;
}
