/*
 * The keys that tokens are verified with: one secret, one public key, or a JWK Set (RFC 7517).
 *
 * Each key is for exactly one algorithm, which is decided when the key is read and never by a
 * token. A set does not change once it is made; when its file changes, a new set is made. Messages
 * name a key by its place and its kid and show nothing else of it.
 */
#ifndef VINHUB_COMMON_KEY_SET_H
#define VINHUB_COMMON_KEY_SET_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>
#include <time.h>

#include "common/status.h"

#define KEY_SET_KEYS_MAX   64U        /* in a JWK Set, those that are passed over included */
#define KEY_SET_FILE_BYTES (1U << 20) /* of its file */
#define KEY_SET_WHY_BYTES  320        /* enough for each of the texts below */

struct key_set;
struct token_key;

/* What differs when a file was replaced, also by a rename or behind a symbolic link (as Kubernetes
 * does). Zeros: the file can't be examined. */
struct file_stamp {
    dev_t device;
    ino_t inode;
    off_t size;
    struct timespec modified_at, changed_at;
};
void file_stamp_of(const char *path, struct file_stamp *out);
bool file_stamp_same(const struct file_stamp *a, const struct file_stamp *b);

/* Called for each thing that is worth a warning; text is valid during the call. */
typedef void key_set_note(void *ctx, const char *text);

/*
 * Reads a JWK Set. Keys of another kind, use or algorithm are passed over; keys that are flawed are
 * passed over with a warning. Of a private key the public half is taken, with a warning. The caller
 * owns the reference. STATUS_INVALID, and *out is untouched: why says what was expected and what
 * came (not JSON, too many keys, a kid that is there twice, no key that can be used).
 */
MUST_USE enum status key_set_parse(const char *text, size_t len, key_set_note *note, void *ctx,
                                   struct key_set **out, char why[KEY_SET_WHY_BYTES]);
/* The same of a file, whose stamp the set then has. STATUS_IO: it can't be read. */
MUST_USE enum status key_set_read(const char *path, key_set_note *note, void *ctx,
                                  struct key_set **out, char why[KEY_SET_WHY_BYTES]);
/* A set of one key, which every kid names. algorithm: HS256, HS384 or HS512. */
struct key_set *key_set_of_secret(const char *algorithm, const char *secret);
/* The same of a public key; algorithm: RS256, ES256 or EdDSA; the caller checks that the key is
 * of that kind. NULL: the text holds no public key. */
struct key_set *key_set_of_pem(const char *algorithm, const char *pem);

struct key_set *key_set_ref(struct key_set *set);
void key_set_unref(struct key_set *set); /* NULL is allowed */

size_t key_set_len(const struct key_set *set);
/* Of the file as it was read. Zeros for a set without a file. */
const struct file_stamp *key_set_stamp(const struct key_set *set);
/* Whether they were made of the same bytes. NULL is equal to NULL alone. */
bool key_set_same(const struct key_set *a, const struct key_set *b);
/* Whether the set is one key that every kid names; tokens need no kid then. */
bool key_set_is_single(const struct key_set *set);

/* The key that a token names, which lives as long as the set. kid NULL: the token names none; then
 * the only key of the set is returned. Returns NULL if there is no such key; why is then a static
 * text. */
const struct token_key *key_set_find(const struct key_set *set, const char *kid, const char **why);
/* HS256, HS384, HS512, RS256, ES256 or EdDSA. */
const char *token_key_algorithm(const struct token_key *key);
/* Whether that is the signature of the text, as RFC 7515 and RFC 8037 have it. */
bool token_key_verifies(const struct token_key *key, const void *text, size_t len,
                        const unsigned char *signature, size_t signature_len);

#endif
