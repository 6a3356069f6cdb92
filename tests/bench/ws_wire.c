#include "ws_wire.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <openssl/evp.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define KEY    "dGhlIHNhbXBsZSBub25jZQ=="
#define ACCEPT "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
#define GUID   "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* --- stamps --- */

static void hex_write(uint8_t *out, uint64_t value, unsigned digits)
{
    while (digits-- > 0) {
        out[digits] = (uint8_t) "0123456789abcdef"[value & 15];
        value >>= 4;
    }
}

static bool hex_read(const uint8_t *in, unsigned digits, uint64_t *value)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < digits; i++) {
        unsigned c = in[i];
        unsigned digit = c - '0' < 10u ? c - '0' : c - 'a' < 6u ? c - 'a' + 10u : 16u;
        if (digit > 15)
            return false;
        sum = sum << 4 | digit;
    }
    *value = sum;
    return true;
}

void stamp_write(uint8_t *payload, const struct sent_stamp *stamp)
{
    hex_write(payload, stamp->id, 8);
    hex_write(payload + 8, stamp->number, 16);
    hex_write(payload + 24, stamp->at_ns, 16);
}

bool stamp_read(const uint8_t *payload, size_t len, struct sent_stamp *stamp)
{
    uint64_t id;
    if (len < STAMP_BYTES || !hex_read(payload, 8, &id) ||
        !hex_read(payload + 8, 16, &stamp->number) || !hex_read(payload + 24, 16, &stamp->at_ns))
        return false;
    stamp->id = (uint32_t)id;
    return true;
}

void padding_write(uint8_t *payload, size_t len, uint32_t seed)
{
    char piece[128];
    for (size_t at = STAMP_BYTES; at < len;) {
        seed = seed * 1664525u + 1013904223u;
        int n = snprintf(piece, sizeof(piece),
                         "{\"lat\":%u.%06u,\"lon\":%u.%06u,\"speed\":%u,\"soc\":%u},",
                         30u + (seed >> 28), (seed >> 4) % 1000000u, 100u + (seed >> 27),
                         (seed >> 7) % 1000000u, (seed >> 20) % 180u, (seed >> 13) % 100u);
        size_t take = (size_t)n < len - at ? (size_t)n : len - at;
        memcpy(payload + at, piece, take);
        at += take;
    }
}

/* --- frames --- */

size_t frame_head(uint8_t out[WIRE_HEAD_MAX], unsigned opcode, bool masked, size_t len)
{
    size_t at = 2;
    out[0] = (uint8_t)(0x80u | opcode);
    if (len < 126) {
        out[1] = (uint8_t)len;
    } else if (len < 65536) {
        out[1] = 126;
        out[at++] = (uint8_t)(len >> 8);
        out[at++] = (uint8_t)len;
    } else {
        out[1] = 127;
        for (int shift = 56; shift >= 0; shift -= 8)
            out[at++] = (uint8_t)(len >> shift);
    }
    if (masked) {
        out[1] |= 0x80;
        memset(out + at, 0, 4);
        at += 4;
    }
    return at;
}

static void unmask(uint8_t *payload, size_t len, const uint8_t mask[4])
{
    if ((mask[0] | mask[1] | mask[2] | mask[3]) == 0)
        return;
    for (size_t i = 0; i < len; i++)
        payload[i] ^= mask[i & 3];
}

int frame_parse(uint8_t *bytes, size_t len, struct frame *frame)
{
    if (len < 2)
        return 0;
    size_t head = 2, payload = bytes[1] & 0x7f;
    bool masked = (bytes[1] & 0x80) != 0;
    size_t extra = payload == 126 ? 2 : payload == 127 ? 8 : 0;
    if ((bytes[0] & 0xb0) != 0x80 || (bytes[0] & 0x0f) == 0)
        return -1; /* a fragment, or a bit nobody agreed upon */
    if (len < head + extra + (masked ? 4 : 0))
        return 0;
    if (extra != 0) {
        payload = 0;
        for (size_t i = 0; i < extra; i++)
            payload = payload << 8 | bytes[head++];
    }
    uint8_t *mask = bytes + head;
    head += masked ? 4 : 0;
    if (payload > 64u << 20)
        return -1;
    if (len - head < payload)
        return 0;
    *frame = (struct frame){.opcode = bytes[0] & 0x0f,
                            .rsv1 = (bytes[0] & 0x40) != 0,
                            .payload = bytes + head,
                            .len = payload,
                            .total = head + payload};
    if (masked)
        unmask(frame->payload, payload, mask);
    return 1;
}

/* --- handshakes --- */

size_t request_write(char out[WIRE_REQUEST_MAX], const char *host, const char *path,
                     const char *lines)
{
    int n = snprintf(out, WIRE_REQUEST_MAX,
                     "GET %s HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\n"
                     "Connection: Upgrade\r\nSec-WebSocket-Key: " KEY "\r\n"
                     "Sec-WebSocket-Version: 13\r\n%s\r\n",
                     path, host, lines);
    return (size_t)n;
}

int answer_check(const char *bytes, size_t len)
{
    const char *end = memmem(bytes, len, "\r\n\r\n", 4);
    if (!end)
        return len < WIRE_REQUEST_MAX ? 0 : -1;
    size_t head = (size_t)(end - bytes) + 4;
    bool ok = len > 12 && memcmp(bytes, "HTTP/1.1 101", 12) == 0 &&
              memmem(bytes, head, ACCEPT, sizeof(ACCEPT) - 1);
    return ok ? (int)head : -1;
}

size_t answer_write(char out[WIRE_REQUEST_MAX], char *request, char **path)
{
    static const char name[] = "\r\nSec-WebSocket-Key:";
    unsigned char text[64 + sizeof(GUID)], digest[SHA_DIGEST_LENGTH], accept[32];
    if (strncmp(request, "GET ", 4) != 0)
        return 0;
    char *key = strcasestr(request, name), *space = strchr(request + 4, ' ');
    if (!key || !space)
        return 0;
    key += sizeof(name) - 1;
    key += strspn(key, " ");
    size_t key_len = strcspn(key, " \r\n");
    if (key_len > 64)
        return 0;
    memcpy(text, key, key_len);
    memcpy(text + key_len, GUID, sizeof(GUID) - 1);
    SHA1(text, key_len + sizeof(GUID) - 1, digest);
    EVP_EncodeBlock(accept, digest, sizeof(digest));
    *space = '\0';
    *path = request + 4;
    return (size_t)snprintf(out, WIRE_REQUEST_MAX,
                            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                            "Connection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n",
                            (char *)accept);
}

uint32_t vin_of_path(const char *path)
{
    uint64_t vin = 0;
    for (const char *at = strchr(path, 'V'); at; at = strchr(at + 1, 'V'))
        if (strlen(at) > 8 && hex_read((const uint8_t *)at + 1, 8, &vin))
            return (uint32_t)vin;
    return 0;
}

/* --- sockets --- */

struct sockaddr_in address_of(const char *text)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    char host[64];
    const char *colon = strrchr(text, ':');
    size_t len = colon ? (size_t)(colon - text) : sizeof(host);
    if (len < sizeof(host)) {
        memcpy(host, text, len);
        host[len] = '\0';
        address.sin_port = htons((uint16_t)strtoul(colon + 1, NULL, 10));
    }
    if (len >= sizeof(host) || inet_pton(AF_INET, host, &address.sin_addr) != 1) {
        fprintf(stderr, "not an address and port: %s\n", text);
        exit(2);
    }
    return address;
}

static void set_option(int fd, int level, int name, int value)
{
    setsockopt(fd, level, name, &value, sizeof(value));
}

int listen_on(const struct sockaddr_in *address, bool shared_port)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    set_option(fd, SOL_SOCKET, SO_REUSEADDR, 1);
    if (shared_port)
        set_option(fd, SOL_SOCKET, SO_REUSEPORT, 1);
    if (bind(fd, (const struct sockaddr *)address, sizeof(*address)) != 0 ||
        listen(fd, 4096) != 0) {
        int error = errno;
        close(fd);
        errno = error;
        return -1;
    }
    return fd;
}

int connect_to(const struct sockaddr_in *address, in_addr_t source, int receive_bytes)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
    if (receive_bytes > 0)
        set_option(fd, SOL_SOCKET, SO_RCVBUF, receive_bytes);
    if (source != 0) {
        struct sockaddr_in from = {.sin_family = AF_INET, .sin_addr.s_addr = source};
        set_option(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1);
        if (bind(fd, (struct sockaddr *)&from, sizeof(from)) != 0) {
            close(fd);
            return -1;
        }
    }
    if (connect(fd, (const struct sockaddr *)address, sizeof(*address)) != 0 &&
        errno != EINPROGRESS) {
        int error = errno;
        close(fd);
        errno = error;
        return -1;
    }
    return fd;
}

void close_hard(int fd)
{
    struct linger reset = {.l_onoff = 1, .l_linger = 0};
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
    close(fd);
}
