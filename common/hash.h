/*
 * uthash, with a hash of its own: keys that peers choose (session ids, client ids, addresses) must
 * not be made to meet in one bucket, so each process hashes with a key that is drawn by chance. The
 * order in which a table is walked does not depend on it: uthash keeps that of insertion.
 *
 * To be included in the place of <uthash.h>, everywhere: a table is only found with the function it
 * was filled with. uthash aborts the process where it can't allocate: only small objects are in
 * these maps.
 */
#ifndef VINHUB_COMMON_HASH_H
#define VINHUB_COMMON_HASH_H

#include <stddef.h>
#include <stdint.h>

/* SipHash-1-3 (Aumasson and Bernstein) under the process's key, folded to 32 bits. */
uint32_t hash_bytes(const void *bytes, size_t len);
/* The same under a given key, whole: for the test with published values. */
uint64_t hash_keyed(const uint64_t key[2], unsigned rounds, unsigned final_rounds,
                    const void *bytes, size_t len);

#ifdef UTHASH_H
#error "include common/hash.h, never <uthash.h>"
#endif
#define HASH_FUNCTION(at, len, hash) ((hash) = hash_bytes((at), (len)))
#include <uthash.h>

#endif
