/*
 * A table of chains for what is looked up by a key and embeds its link: clients by their user,
 * tokens by their id.
 *
 * Several of a kind may have one key. Adding and removing cost the same whatever is in the table:
 * it grows by one chain at a time (linear hashing, Litwin 1980), so that no turn moves a million
 * links. It keeps hashes, not keys: who looks compares.
 */
#ifndef VINHUB_CORE_CHAINS_H
#define VINHUB_CORE_CHAINS_H

#include <stddef.h>
#include <stdint.h>

struct chain_link {
    struct chain_link *next, *prev; /* prev NULL: the first of its chain */
    uint64_t hash;
};

/* Starts zeroed. */
struct chains {
    struct chain_link **heads;
    size_t len, cap; /* chains */
    size_t links;
};

void chains_add(struct chains *chains, struct chain_link *link, uint64_t hash);
void chains_remove(struct chains *chains, struct chain_link *link);
/* The first link with that hash; NULL: there is none. */
struct chain_link *chains_find(const struct chains *chains, uint64_t hash);
/* The next one with the same hash. */
struct chain_link *chains_next(const struct chain_link *link);
/* What is still linked is not touched. */
void chains_fini(struct chains *chains);

#endif
