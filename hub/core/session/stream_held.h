/*
 * Live publications that are held while what is missing before them is read: a bound in true
 * memory, beyond which the oldest go and are read later.
 */
#ifndef VINHUB_CORE_SESSION_STREAM_HELD_H
#define VINHUB_CORE_SESSION_STREAM_HELD_H

#include "core/pubs.h"

/* Zeroed, it is empty. */
struct stream_held {
    struct pubs pubs;
    size_t bytes;
};

/* Keeps a reference of its own. */
void stream_held_add(struct stream_held *held, struct publication *publication);
/* All of them, oldest first; the caller's. */
struct pubs stream_held_take(struct stream_held *held);
void stream_held_clear(struct stream_held *held);
/* Asserts what must hold. */
void stream_held_check(const struct stream_held *held);

#endif
