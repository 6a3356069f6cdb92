#include "core/chains.h"

#include <assert.h>
#include <stdlib.h>

#define CHAINS_MIN 64u

/* The index of the chain that a hash belongs to, where there are len chains (linear hashing). */
static size_t place_of(uint64_t hash, size_t len)
{
    size_t mask = CHAINS_MIN * 2 - 1;
    while (mask < len - 1)
        mask = mask * 2 + 1;
    size_t place = (size_t)hash & mask;
    return place < len ? place : place & mask >> 1;
}

static void put(struct chains *chains, struct chain_link *link)
{
    struct chain_link **head = &chains->heads[place_of(link->hash, chains->len)];
    link->prev = NULL;
    link->next = *head;
    if (link->next)
        link->next->prev = link;
    *head = link;
}

/* Adds one chain, and moves to it what belongs there: all of that is in one other chain. */
static void grow(struct chains *chains)
{
    if (chains->len == chains->cap) {
        size_t cap = chains->cap ? chains->cap * 2 : CHAINS_MIN;
        struct chain_link **heads = realloc(chains->heads, cap * sizeof(*heads));
        if (!heads)
            abort(); /* eight bytes for each link */
        chains->heads = heads;
        chains->cap = cap;
    }
    if (!chains->len) {
        for (; chains->len < CHAINS_MIN; chains->len++)
            chains->heads[chains->len] = NULL;
        return;
    }
    size_t half = CHAINS_MIN;
    while (half * 2 <= chains->len)
        half *= 2;
    size_t from = chains->len - half;
    struct chain_link *link = chains->heads[from], *next;
    chains->heads[from] = chains->heads[chains->len] = NULL;
    chains->len++;
    for (; link; link = next) {
        next = link->next;
        put(chains, link);
    }
}

void chains_add(struct chains *chains, struct chain_link *link, uint64_t hash)
{
    if (chains->links >= chains->len)
        grow(chains);
    link->hash = hash;
    chains->links++;
    put(chains, link);
}

void chains_remove(struct chains *chains, struct chain_link *link)
{
    struct chain_link **head = &chains->heads[place_of(link->hash, chains->len)];
    assert(link->prev || *head == link);
    if (link->prev)
        link->prev->next = link->next;
    else
        *head = link->next;
    if (link->next)
        link->next->prev = link->prev;
    link->next = link->prev = NULL;
    chains->links--;
}

static struct chain_link *with_hash(struct chain_link *link, uint64_t hash)
{
    while (link && link->hash != hash)
        link = link->next;
    return link;
}

struct chain_link *chains_find(const struct chains *chains, uint64_t hash)
{
    return chains->len ? with_hash(chains->heads[place_of(hash, chains->len)], hash) : NULL;
}

struct chain_link *chains_next(const struct chain_link *link)
{
    return with_hash(link->next, link->hash);
}

void chains_fini(struct chains *chains)
{
    free(chains->heads);
    *chains = (struct chains){0};
}
