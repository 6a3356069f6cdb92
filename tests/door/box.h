/*
 * A front door of tests: each message is put in a box of five bytes, its kind and its length, then
 * what it says, as it is (raw) or by vinhub.v1. What a WebSocket frame is the core does not know.
 */
#ifndef VINHUB_TESTS_DOOR_BOX_H
#define VINHUB_TESTS_DOOR_BOX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/publication.h"

struct hub;

/* Ids of its forms: those of the first door that a hub is told of. */
enum box_form { BOX_RAW = 1, BOX_JSON, BOX_MSGPACK, BOX_ONE_WAY };

void box_register(struct hub *hub);

struct box {
    unsigned opcode;
    const uint8_t *bytes;
    size_t len;
};
/* Takes the next whole box from *len bytes. Returns false where there is none. */
bool box_next(const uint8_t **bytes, size_t *len, struct box *out);

#endif
