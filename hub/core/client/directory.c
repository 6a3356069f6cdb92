#include "core/client/directory.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "common/hash.h"
#include "common/url.h"
#include "core/client/client.h"
#include "core/node/node.h"

#define SLOTS_MIN 64u

static uint64_t hash_of(const char *user)
{
    return hash_bytes(user, strlen(user));
}

static uint32_t new_slot(struct directory *directory)
{
    if (directory->len == directory->cap) {
        uint32_t cap = directory->cap ? directory->cap * 2 : SLOTS_MIN;
        uintptr_t *slots = realloc(directory->slots, cap * sizeof(*slots));
        if (!slots)
            abort(); /* eight bytes a client */
        directory->slots = slots;
        directory->cap = cap;
    }
    return directory->len++;
}

static uint32_t take_slot(struct directory *directory)
{
    if (!directory->first_free)
        return new_slot(directory);
    uint32_t slot = directory->first_free - 1;
    directory->first_free = (uint32_t)(directory->slots[slot] / 2);
    return slot;
}

const char *directory_user(const struct directory_entry *entry)
{
    return entry->has_user ? entry->texts : NULL;
}

const char *directory_vin(const struct directory_entry *entry)
{
    return entry->has_vin ? entry->texts + strlen(entry->texts) + 1 : NULL;
}

struct directory_entry *directory_add(struct client *client, const struct target *target)
{
    struct directory *directory = &client->hub->directory;
    size_t user_len = target->user ? strlen(target->user) : 0;
    size_t vin_len = target->vin ? strlen(target->vin) : 0;
    struct directory_entry *entry = calloc(1, sizeof(*entry) + user_len + vin_len + 2);
    if (!entry)
        return NULL;
    entry->client = client;
    entry->has_user = target->user != NULL;
    entry->has_vin = target->vin != NULL;
    if (user_len)
        memcpy(entry->texts, target->user, user_len);
    if (vin_len)
        memcpy(entry->texts + user_len + 1, target->vin, vin_len);
    entry->slot = take_slot(directory);
    directory->slots[entry->slot] = (uintptr_t)entry;
    if (entry->has_user)
        chains_add(&directory->by_user, &entry->by_user, hash_of(entry->texts));
    return entry;
}

void directory_remove(struct directory_entry *entry)
{
    struct directory *directory = &entry->client->hub->directory;
    uint32_t slot = entry->slot;
    assert(directory->slots[slot] == (uintptr_t)entry);
    directory->slots[slot] = (uintptr_t)directory->first_free * 2 + 1;
    directory->first_free = slot + 1;
    if (entry->has_user)
        chains_remove(&directory->by_user, &entry->by_user);
    free(entry);
}

struct client *directory_at(const struct hub *hub, uint32_t slot)
{
    const struct directory *directory = &hub->directory;
    if (slot >= directory->len || directory->slots[slot] % 2)
        return NULL;
    /* NOLINTNEXTLINE(performance-no-int-to-ptr) */
    return ((struct directory_entry *)directory->slots[slot])->client;
}

/* Two users may have one hash. */
static struct client *with_user(struct chain_link *link, const char *user)
{
    for (; link; link = chains_next(link)) {
        const struct directory_entry *entry = CONTAINER_OF(link, struct directory_entry, by_user);
        if (!strcmp(entry->texts, user))
            return entry->client;
    }
    return NULL;
}

struct client *directory_first(const struct hub *hub, const char *user)
{
    return with_user(chains_find(&hub->directory.by_user, hash_of(user)), user);
}

struct client *directory_next(const struct client *client)
{
    return with_user(chains_next(&client->entry->by_user), client->entry->texts);
}

void directory_free(struct hub *hub)
{
    free(hub->directory.slots);
    chains_fini(&hub->directory.by_user);
}
