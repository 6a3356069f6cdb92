/*
 * A key, and how one is read from a JWK. For key_set*.c alone.
 */
#ifndef VINHUB_COMMON_KEY_SET_PRIVATE_H
#define VINHUB_COMMON_KEY_SET_PRIVATE_H

#include <jansson.h>
#include <openssl/types.h>

#include "common/key_set.h"

struct token_key {
    char *kid;             /* NULL: it has none */
    const char *algorithm; /* static */
    EVP_PKEY *public_key;  /* NULL for HS algorithms */
    unsigned char *secret; /* of HS algorithms */
    size_t secret_len;
};

enum jwk_verdict {
    JWK_TAKEN,
    JWK_FOREIGN, /* not for verifying tokens, or of an algorithm that is not supported */
    JWK_FLAWED,  /* the JWK contradicts itself or is incomplete */
};

/* What a message says about a key: static texts, or NULL. */
struct jwk_words {
    const char *why;     /* why the key is not taken */
    const char *warning; /* about a key that is taken */
};

/* Reads one key. JWK_TAKEN: *out is filled but for kid, token_key_fini frees; else it is untouched.
 */
enum jwk_verdict jwk_read(const json_t *jwk, struct token_key *out, struct jwk_words *words);

void token_key_fini(struct token_key *key);

#endif
