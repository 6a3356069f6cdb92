/*
 * Input that was read, but can't be taken yet: the core paused the connection in the middle, or its
 * share of the turn was used up (front_share.c).
 *
 * Few connections have some, so its object is made with the first bytes. It is freed once there are
 * none and the connection waits for no share.
 */
#include <stdlib.h>
#include <string.h>

#include "front/front_private.h"

bool held_add(struct conn *conn, const uint8_t *bytes, size_t len)
{
    if (!conn->held)
        conn->held = calloc(1, sizeof(*conn->held));
    struct held_input *held = conn->held;
    uint8_t *longer = held ? realloc(held->bytes, held->len + len) : NULL;
    if (!longer)
        return false;
    memcpy(longer + held->len, bytes, len);
    held->conn = conn;
    held->bytes = longer;
    held->len += (uint32_t)len;
    return true;
}

uint8_t *held_take(struct conn *conn, size_t *len)
{
    struct held_input *held = conn->held;
    uint8_t *bytes = held->bytes;
    *len = held->len;
    held->bytes = NULL;
    held->len = 0;
    return bytes;
}

void held_settle(struct conn *conn)
{
    struct held_input *held = conn->held;
    if (!held || held->bytes || held->waits)
        return;
    conn->held = NULL;
    free(held);
}

void held_drop(struct conn *conn)
{
    if (!conn->held)
        return;
    share_forget(conn);
    free(conn->held->bytes);
    conn->held->bytes = NULL;
    held_settle(conn);
}
