/*
 * Sets of keys: made from a JWK Set, a secret or a public key, and asked for the key of a token.
 */
#include "common/key_set.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/bio.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/key_set_private.h"
#include "common/text.h"

#define KID_SHOWN 64 /* bytes of a kid in a message */

struct key_set {
    unsigned refs;
    bool single; /* not of a JWK Set: every kid names its one key */
    struct file_stamp stamp;
    unsigned char digest[32]; /* SHA-256 of what it was made of */
    size_t len;
    struct token_key keys[KEY_SET_KEYS_MAX];
};

/* --- files --- */

static void fill_stamp(const struct stat *file, struct file_stamp *out)
{
    *out = (struct file_stamp){.device = file->st_dev,
                               .inode = file->st_ino,
                               .size = file->st_size,
                               .modified_at = file->st_mtim,
                               .changed_at = file->st_ctim};
}

void file_stamp_of(const char *path, struct file_stamp *out)
{
    struct stat file;
    *out = (struct file_stamp){0};
    if (stat(path, &file) == 0)
        fill_stamp(&file, out);
}

static bool same_time(const struct timespec *a, const struct timespec *b)
{
    return a->tv_sec == b->tv_sec && a->tv_nsec == b->tv_nsec;
}

bool file_stamp_same(const struct file_stamp *a, const struct file_stamp *b)
{
    return a->device == b->device && a->inode == b->inode && a->size == b->size &&
           same_time(&a->modified_at, &b->modified_at) && same_time(&a->changed_at, &b->changed_at);
}

/* --- life --- */

static struct key_set *set_new(const char *text, size_t len)
{
    struct key_set *set = calloc(1, sizeof(*set));
    if (!set || EVP_Digest(text, len, set->digest, NULL, EVP_sha256(), NULL) != 1)
        abort(); /* a few kilobytes */
    set->refs = 1;
    return set;
}

struct key_set *key_set_ref(struct key_set *set)
{
    assert(set->refs > 0);
    set->refs++;
    return set;
}

void token_key_fini(struct token_key *key)
{
    EVP_PKEY_free(key->public_key);
    if (key->secret)
        OPENSSL_cleanse(key->secret, key->secret_len);
    free(key->secret);
    free(key->kid);
}

void key_set_unref(struct key_set *set)
{
    if (!set)
        return;
    assert(set->refs > 0);
    if (--set->refs > 0)
        return;
    for (size_t i = 0; i < set->len; i++)
        token_key_fini(&set->keys[i]);
    free(set);
}

/* --- a JWK Set --- */

/* The state of reading one set. */
struct set_reader {
    struct key_set *set;
    key_set_note *note;
    void *ctx;
    char *why;             /* of KEY_SET_WHY_BYTES */
    const char *first_why; /* why the first of them was passed over */
};

/* "key 2 (kid "abc")": a kid that can't be shown is left out. */
static void print_place(size_t index, const json_t *jwk, char *out, size_t len)
{
    const json_t *kid = json_object_get(jwk, "kid");
    const char *text = json_string_value(kid);
    if (text && text_is_name(text, strlen(text)) && strlen(text) <= KID_SHOWN)
        snprintf(out, len, "key %zu (kid \"%s\")", index + 1, text);
    else
        snprintf(out, len, "key %zu", index + 1);
}

static void take_note(struct set_reader *reader, size_t index, const json_t *jwk, const char *what,
                      const char *text)
{
    char place[KID_SHOWN + 48], line[KEY_SET_WHY_BYTES];
    if (!reader->note)
        return;
    print_place(index, jwk, place, sizeof(place));
    snprintf(line, sizeof(line), "%s%s: %s", place, what, text);
    reader->note(reader->ctx, line);
}

static void read_key(struct set_reader *reader, size_t index, const json_t *jwk)
{
    struct token_key *key = &reader->set->keys[reader->set->len];
    struct jwk_words words;
    const json_t *kid = json_object_get(jwk, "kid");
    enum jwk_verdict verdict = jwk_read(jwk, key, &words);
    if (verdict == JWK_TAKEN && kid && !json_is_string(kid)) {
        token_key_fini(key);
        *key = (struct token_key){0};
        verdict = JWK_FLAWED;
        words.why = "kid is not a string";
    }
    if (verdict == JWK_FLAWED)
        take_note(reader, index, jwk, " is passed over", words.why);
    if (verdict != JWK_TAKEN) {
        reader->first_why = reader->first_why ? reader->first_why : words.why;
        return;
    }
    if (words.warning)
        take_note(reader, index, jwk, "", words.warning);
    if (kid) {
        key->kid = strdup(json_string_value(kid));
        if (!key->kid)
            abort();
    }
    reader->set->len++;
}

/* Keys that are passed over count, too: a kid that is there twice is a mistake in any case. */
static bool has_kid_twice(const json_t *list, char *why)
{
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *kid = json_string_value(json_object_get(json_array_get(list, i), "kid"));
        for (size_t j = 0; kid && j < i; j++) {
            const json_t *before = json_array_get(list, j);
            const char *other = json_string_value(json_object_get(before, "kid"));
            if (!other || strcmp(kid, other) != 0)
                continue;
            char place[KID_SHOWN + 48];
            print_place(i, json_array_get(list, i), place, sizeof(place));
            snprintf(why, KEY_SET_WHY_BYTES,
                     "expected each kid once, got one twice: %s has that of key %zu", place, j + 1);
            return true;
        }
    }
    return false;
}

static enum status read_list(struct set_reader *reader, const json_t *list)
{
    size_t len = json_array_size(list), index;
    json_t *jwk;
    if (!json_is_array(list)) {
        snprintf(reader->why, KEY_SET_WHY_BYTES,
                 "expected a JWK Set, an object with a list \"keys\"; got none");
        return STATUS_INVALID;
    }
    if (len > KEY_SET_KEYS_MAX) {
        snprintf(reader->why, KEY_SET_WHY_BYTES, "expected at most %u keys, got %zu",
                 KEY_SET_KEYS_MAX, len);
        return STATUS_INVALID;
    }
    if (has_kid_twice(list, reader->why))
        return STATUS_INVALID;
    json_array_foreach(list, index, jwk) read_key(reader, index, jwk);
    if (reader->set->len > 0)
        return STATUS_OK;
    snprintf(reader->why, KEY_SET_WHY_BYTES,
             "expected a key that can verify tokens, got %zu keys and none of them does%s%s", len,
             reader->first_why ? "; the first: " : "", reader->first_why ? reader->first_why : "");
    return STATUS_INVALID;
}

enum status key_set_parse(const char *text, size_t len, key_set_note *note, void *ctx,
                          struct key_set **out, char why[KEY_SET_WHY_BYTES])
{
    json_error_t error = {0};
    json_t *root = json_loadb(text, len, JSON_REJECT_DUPLICATES, &error);
    if (!root) {
        /* jansson's error text would quote the content. */
        snprintf(why, KEY_SET_WHY_BYTES,
                 "expected a JWK Set in JSON, got text that is not JSON at line %d, column %d",
                 error.line, error.column);
        return STATUS_INVALID;
    }
    struct set_reader reader = {
        .set = set_new(text, len), .note = note, .ctx = ctx, .why = why, .first_why = NULL};
    enum status status = read_list(&reader, json_object_get(root, "keys"));
    json_decref(root);
    if (status == STATUS_OK)
        *out = reader.set;
    else
        key_set_unref(reader.set);
    return status;
}

/* Reads an open file, at most one byte more than is allowed. Returns the length; -1 sets errno. */
static ssize_t read_all(int fd, char *out)
{
    size_t len = 0;
    while (len <= KEY_SET_FILE_BYTES) {
        ssize_t n = read(fd, out + len, KEY_SET_FILE_BYTES + 1 - len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? -1 : (ssize_t)len;
        len += (size_t)n;
    }
    return (ssize_t)len;
}

static enum status read_open(int fd, char *text, key_set_note *note, void *ctx,
                             struct key_set **out, char *why)
{
    struct stat file;
    if (fstat(fd, &file) != 0 || !S_ISREG(file.st_mode)) {
        snprintf(why, KEY_SET_WHY_BYTES, "expected a regular file, got something else");
        return STATUS_IO;
    }
    ssize_t len = read_all(fd, text);
    if (len < 0) {
        snprintf(why, KEY_SET_WHY_BYTES, "expected a readable file: %s", strerror(errno));
        return STATUS_IO;
    }
    if ((size_t)len > KEY_SET_FILE_BYTES) {
        snprintf(why, KEY_SET_WHY_BYTES, "expected at most 1 MiB, got more");
        return STATUS_INVALID;
    }
    enum status status = key_set_parse(text, (size_t)len, note, ctx, out, why);
    if (status == STATUS_OK)
        fill_stamp(&file, &(*out)->stamp); /* from before the read: a later change shows */
    OPENSSL_cleanse(text, (size_t)len);
    return status;
}

enum status key_set_read(const char *path, key_set_note *note, void *ctx, struct key_set **out,
                         char why[KEY_SET_WHY_BYTES])
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* opening a pipe must not block */
    if (fd < 0) {
        snprintf(why, KEY_SET_WHY_BYTES, "expected a readable file: %s", strerror(errno));
        return STATUS_IO;
    }
    char *text = malloc(KEY_SET_FILE_BYTES + 1);
    enum status status = STATUS_NO_MEMORY;
    if (text)
        status = read_open(fd, text, note, ctx, out, why);
    else
        snprintf(why, KEY_SET_WHY_BYTES, "out of memory");
    free(text);
    close(fd);
    return status;
}

/* --- sets of one --- */

static const char *static_algorithm(const char *algorithm)
{
    static const char *const names[] = {"HS256", "HS384", "HS512", "RS256", "ES256", "EdDSA"};
    for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
        if (strcmp(names[i], algorithm) == 0)
            return names[i];
    }
    abort(); /* the row of auth.algorithm allows no other */
}

struct key_set *key_set_of_secret(const char *algorithm, const char *secret)
{
    size_t len = strlen(secret);
    struct key_set *set = set_new(secret, len);
    unsigned char *copy = malloc(len + 1);
    if (!copy)
        abort();
    memcpy(copy, secret, len + 1);
    set->single = true;
    set->keys[set->len++] = (struct token_key){
        .algorithm = static_algorithm(algorithm), .secret = copy, .secret_len = len};
    return set;
}

struct key_set *key_set_of_pem(const char *algorithm, const char *pem)
{
    BIO *bio = BIO_new_mem_buf(pem, -1);
    EVP_PKEY *key = bio ? PEM_read_bio_PUBKEY(bio, NULL, NULL, NULL) : NULL;
    BIO_free(bio);
    if (!key)
        return NULL;
    struct key_set *set = set_new(pem, strlen(pem));
    set->single = true;
    set->keys[set->len++] = (struct token_key){.algorithm = static_algorithm(algorithm),
                                               .public_key = key};
    return set;
}

/* --- asking --- */

size_t key_set_len(const struct key_set *set)
{
    return set->len;
}

const struct file_stamp *key_set_stamp(const struct key_set *set)
{
    return &set->stamp;
}

bool key_set_same(const struct key_set *a, const struct key_set *b)
{
    return a && b ? memcmp(a->digest, b->digest, sizeof(a->digest)) == 0 : a == b;
}

bool key_set_is_single(const struct key_set *set)
{
    return set->single;
}

const struct token_key *key_set_find(const struct key_set *set, const char *kid, const char **why)
{
    if (set->single || (!kid && set->len == 1))
        return &set->keys[0];
    *why = kid ? "token invalid: its kid names no key"
               : "token invalid: it has no kid, and there are several keys";
    for (size_t i = 0; kid && i < set->len; i++) {
        if (set->keys[i].kid && strcmp(set->keys[i].kid, kid) == 0)
            return &set->keys[i];
    }
    return NULL;
}

const char *token_key_algorithm(const struct token_key *key)
{
    return key->algorithm;
}
