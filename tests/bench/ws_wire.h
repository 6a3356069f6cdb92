/*
 * WebSocket as far as the bench needs it, on bare sockets and without any library: frames,
 * handshakes, sockets, and the stamp that each push carries.
 *
 * Masking is done with a mask of zero, so a masked frame's payload stands in it as it is; what
 * comes in may have any mask. Messages are never fragmented.
 */
#ifndef BENCH_WIRE_H
#define BENCH_WIRE_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WIRE_HEAD_MAX    14
#define WIRE_REQUEST_MAX 2048
#define STAMP_BYTES      40

enum { OP_TEXT = 1, OP_BINARY = 2, OP_CLOSE = 8, OP_PING = 9, OP_PONG = 10 };

struct frame {
    unsigned opcode;
    bool rsv1;
    uint8_t *payload; /* within the parsed bytes, unmasked */
    size_t len, total;
};

/* Who sent a message, its number, and when it was sent (monotonic). It is the first STAMP_BYTES of
 * a payload, in hexadecimal digits. */
struct sent_stamp {
    uint32_t id;
    uint64_t number, at_ns;
};

uint64_t now_ns(void);

void stamp_write(uint8_t *payload, const struct sent_stamp *stamp);
/* False where the payload does not begin with a stamp. */
bool stamp_read(const uint8_t *payload, size_t len, struct sent_stamp *stamp);

/* Fills what comes after the stamp with text that looks, and compresses, like telemetry. */
void padding_write(uint8_t *payload, size_t len, uint32_t seed);

/* Returns the length of the header written to out. */
size_t frame_head(uint8_t out[WIRE_HEAD_MAX], unsigned opcode, bool masked, size_t len);

/* 1: a whole frame; 0: more bytes are needed; -1: not a frame the bench knows. Unmasks in place. */
int frame_parse(uint8_t *bytes, size_t len, struct frame *frame);

/* Header lines that a client may add to its request. */
#define WIRE_DEFLATE                                 \
    "Sec-WebSocket-Extensions: permessage-deflate; " \
    "client_no_context_takeover; server_no_context_takeover\r\n"
#define WIRE_V1 "Sec-WebSocket-Protocol: vinhub.v1\r\n"

/* A client's request, with such lines or none (""); returns its length. The key is always the same.
 */
size_t request_write(char out[WIRE_REQUEST_MAX], const char *host, const char *path,
                     const char *lines);

/* The length of the answer's head when it is whole, 0 where more is needed, -1 where it refuses or
 * is wrong. */
int answer_check(const char *bytes, size_t len);

/* The answer to a whole request; returns its length, 0 where it is no handshake. The path of the
 * request is cut out in place. */
size_t answer_write(char out[WIRE_REQUEST_MAX], char *request, char **path);

/* 1-based number in a path that contains V and eight hexadecimal digits; 0 where there is none. */
uint32_t vin_of_path(const char *path);

/* Parses A.B.C.D:PORT, ends the program where it is something else. */
struct sockaddr_in address_of(const char *text);

/* Non-blocking; -1 with errno. */
int listen_on(const struct sockaddr_in *address, bool shared_port);
/* Begins to connect, from `source` unless that is 0 (network order). receive_bytes 0: the default.
 */
int connect_to(const struct sockaddr_in *address, in_addr_t source, int receive_bytes);
/* Closes with a reset, which leaves nothing behind in the kernel. */
void close_hard(int fd);

#endif
