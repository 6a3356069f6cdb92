/*
 * A front door for tests. Each message is a box: a kind and a length in five bytes, then the
 * payload as it is (raw) or in vinhub.v1. The core does not know what a WebSocket frame is.
 */
#ifndef VINHUB_TESTS_DOOR_BOX_H
#define VINHUB_TESTS_DOOR_BOX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/publication.h"

struct hub;

/* Ids of its forms, if it is the first door that a hub gets. */
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
