/*
 * The part of vinhub.v1 (JSON) that the bench uses: SUBSCRIBE, its answers, and MESSAGE. The load's
 * clients read what the hub writes, and the floor writes the same bytes.
 */
#ifndef BENCH_FLEET_H
#define BENCH_FLEET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ws_wire.h"

#define FLEET_ASKED_AT_ONCE 100 /* urls of one SUBSCRIBE */
#define FLEET_REQUEST_MAX   (64u + FLEET_ASKED_AT_ONCE * 64u)
#define FLEET_WELCOME_MAX   64

/* --- the load's side --- */

/* Writes the masked frame of a SUBSCRIBE to these vehicles; rate 0: to all of their pushes. Returns
 * its length. */
size_t fleet_subscribe(uint8_t out[FLEET_REQUEST_MAX], const uint32_t *vins, unsigned len,
                       double rate);

enum fleet_kind {
    FLEET_PUSH,       /* a MESSAGE; its stamp is filled in */
    FLEET_SUBSCRIBED, /* the WELCOME of a further session */
    FLEET_OTHER,      /* the connection's own WELCOME, or a STATUS */
    FLEET_WRONG,      /* an ERROR, a GAP, a CLOSED, or nothing of vinhub.v1 */
};
enum fleet_kind fleet_read(const uint8_t *message, size_t len, struct sent_stamp *stamp);

/* --- the floor's side --- */

/* Calls add for each vehicle that a SUBSCRIBE names; returns how many there are. */
unsigned fleet_asked(const uint8_t *message, size_t len, void (*add)(void *ctx, uint32_t vin),
                     void *ctx);
/* Writes the frame of such a WELCOME, as short as fleet_read understands it. Returns its length. */
size_t fleet_welcome(uint8_t out[FLEET_WELCOME_MAX], uint32_t vin);
/* Writes the frame of a MESSAGE with all that the hub puts into it. Returns its length; 0 where
 * size is too small. */
size_t fleet_message(uint8_t *out, size_t size, uint32_t vin, uint64_t offset,
                     const uint8_t *payload, size_t len);

/* The socket follows a vehicle; it follows none any more. */
void fleet_follow(int fd, uint32_t vin);
void fleet_leave(int fd);
/* The frame goes to all that follow the vehicle: with one send() each at once, or, where `a_turn`,
 * with the next fleet_flush, which does one send() a socket. A socket that does not take all of it
 * is shut down. */
void fleet_deliver(uint32_t vin, const uint8_t *frame, size_t len, bool a_turn);
void fleet_flush(void);

#endif
