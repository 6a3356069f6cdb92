/*
 * All clients of this node: each in a slot of its own, where it stays until it is gone, and by its
 * user.
 *
 * A walk over the slots can stop at any of them and go on later: who is there throughout is met
 * once. Who comes meanwhile may get a slot that was passed already.
 */
#ifndef VINHUB_CORE_CLIENT_DIRECTORY_H
#define VINHUB_CORE_CLIENT_DIRECTORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/chains.h"

struct client;
struct hub;
struct target;

/* Starts zeroed. */
struct directory {
    uintptr_t *slots; /* an entry, or 2 n + 1 with n the number of the next free slot */
    uint32_t len, cap;
    uint32_t first_free; /* its number + 1; 0: none */
    struct chains by_user;
};

/* What a client has in it: who it is. */
struct directory_entry {
    struct client *client;
    struct chain_link by_user; /* of one that has a user */
    uint32_t slot;
    bool has_user, has_vin; /* of its URL */
    char texts[];           /* user, then vin */
};

/* For a client with that URL, which is in the directory from now on. NULL: no memory. */
struct directory_entry *directory_add(struct client *client, const struct target *target);
void directory_remove(struct directory_entry *entry);
/* NULL: its URL has none. */
const char *directory_user(const struct directory_entry *entry);
const char *directory_vin(const struct directory_entry *entry);
/* The client in that slot; NULL: nobody, or there is no such slot. */
struct client *directory_at(const struct hub *hub, uint32_t slot);
/* The clients with that user, one after the other; NULL: no more. */
struct client *directory_first(const struct hub *hub, const char *user);
struct client *directory_next(const struct client *client);
void directory_free(struct hub *hub);

#endif
