/*
 * The files of keys, certificates and secrets: read, and found fit, before anything starts.
 */
#include "common/conf_loader.h"
#include "common/key_set.h"

#include <errno.h>
#include <openssl/bio.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <stdlib.h>
#include <string.h>

#define KEY_FILE_MAX (1U << 20) /* a bundle of all authorities of a system is a quarter of it */
#define RSA_BITS_MIN 2048       /* RFC 7518 section 3.3 */

static void refuse(struct conf_loader *loader, struct conf_where where, const char *key,
                   const char *wanted, const char *path, const char *why)
{
    conf_mistake(loader, where, key, "expected %s, got \"%.200s\": %s", wanted, path, why);
}

/* The file's content, terminated; NULL after a mistake. The caller frees. */
static char *read_file(struct conf_loader *loader, struct conf_where where, const char *key,
                       const char *path)
{
    FILE *file = fopen(path, "re");
    char *content = file ? malloc(KEY_FILE_MAX + 1) : NULL;
    size_t len = content ? fread(content, 1, KEY_FILE_MAX + 1, file) : 0;
    const char *why = NULL;

    if (!content || ferror(file))
        why = strerror(errno);
    else if (len > KEY_FILE_MAX)
        why = "larger than 1 MiB";
    else if (memchr(content, '\0', len))
        why = "it holds a NUL byte";
    else
        content[len] = '\0';
    if (file)
        fclose(file);
    if (!why)
        return content;
    refuse(loader, where, key, "a readable file", path, why);
    free(content);
    return NULL;
}

static BIO *open_text(const char *text)
{
    BIO *bio = BIO_new_mem_buf(text, -1);
    if (!bio)
        abort();
    return bio;
}

/* A key behind a pass phrase is refused, not asked for at a terminal. */
static int no_pass_phrase(char *buffer, int size, int writing, void *context)
{
    (void)buffer, (void)size, (void)writing, (void)context;
    return -1;
}

static X509 *parse_certificate(const char *text)
{
    BIO *bio = open_text(text);
    X509 *certificate = PEM_read_bio_X509(bio, NULL, no_pass_phrase, NULL);
    BIO_free(bio);
    return certificate;
}

/* Whether all certificates of the text can be read, where the first one can. */
static bool chain_is_whole(const char *text)
{
    BIO *bio = open_text(text);
    X509 *certificate;
    ERR_clear_error();
    while ((certificate = PEM_read_bio_X509(bio, NULL, no_pass_phrase, NULL)) != NULL)
        X509_free(certificate);
    BIO_free(bio);
    bool at_end = ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE;
    ERR_clear_error();
    return at_end;
}

static EVP_PKEY *parse_private_key(const char *text)
{
    BIO *bio = open_text(text);
    EVP_PKEY *key = PEM_read_bio_PrivateKey(bio, NULL, no_pass_phrase, NULL);
    BIO_free(bio);
    return key;
}

static EVP_PKEY *parse_public_key(const char *text)
{
    BIO *bio = open_text(text);
    EVP_PKEY *key = PEM_read_bio_PUBKEY(bio, NULL, no_pass_phrase, NULL);
    BIO_free(bio);
    return key;
}

/* ---- certificates ---- */

/* Of one text, or of two one after the other. */
static void digest(const char *text, const char *more, struct conf_digest *out)
{
    EVP_MD_CTX *md = EVP_MD_CTX_new();
    if (!md || EVP_DigestInit_ex(md, EVP_sha256(), NULL) != 1 ||
        EVP_DigestUpdate(md, text, strlen(text)) != 1 ||
        EVP_DigestUpdate(md, more, strlen(more)) != 1 ||
        EVP_DigestFinal_ex(md, out->sha256, NULL) != 1)
        abort();
    EVP_MD_CTX_free(md);
}

/* out may be NULL. */
static void check_authorities(struct conf_loader *loader, struct conf_where where, const char *key,
                              const char *path, struct conf_digest *out)
{
    if (*path == '\0')
        return;
    char *text = read_file(loader, where, key, path);
    if (!text)
        return;
    X509 *certificate = parse_certificate(text);
    if (!certificate)
        refuse(loader, where, key, "a PEM file with certificates", path, "it holds none");
    X509_free(certificate);
    if (out)
        digest(text, "", out);
    free(text);
}

/* A certificate and its key, as two rows name them. */
struct pem_pair {
    const char *cert_row, *key_row;
    const char *cert_path, *key_path;
};

static void check_contents(struct conf_loader *loader, const struct pem_pair *pair,
                           const char *cert_text, const char *key_text)
{
    struct conf_where cert_where = conf_origin(loader, pair->cert_row),
                      key_where = conf_origin(loader, pair->key_row);
    X509 *certificate = parse_certificate(cert_text);
    EVP_PKEY *key = parse_private_key(key_text);
    if (!certificate)
        refuse(loader, cert_where, pair->cert_row, "a PEM file with a certificate", pair->cert_path,
               "it holds none");
    else if (!chain_is_whole(cert_text))
        refuse(loader, cert_where, pair->cert_row, "a PEM file with a chain of certificates",
               pair->cert_path, "one of them can't be read");
    else if (X509_cmp_current_time(X509_get0_notAfter(certificate)) < 0)
        conf_warning(loader, cert_where, pair->cert_row, "the certificate has expired");
    if (!key)
        refuse(loader, key_where, pair->key_row,
               "a PEM file with a private key without pass phrase", pair->key_path,
               "it holds none");
    if (certificate && key && X509_check_private_key(certificate, key) != 1)
        conf_mistake(loader, key_where, pair->key_row,
                     "the private key \"%.200s\" does not match the certificate of %s",
                     pair->key_path, pair->cert_row);
    X509_free(certificate);
    EVP_PKEY_free(key);
}

/* Both files or none. out (may be NULL) gets the digest of what they hold. */
static void check_pair(struct conf_loader *loader, const struct pem_pair *pair,
                       struct conf_digest *out)
{
    bool has_cert = *pair->cert_path != '\0', has_key = *pair->key_path != '\0';
    if (!has_cert && !has_key)
        return;
    if (has_cert != has_key) {
        const char *given = has_cert ? pair->cert_row : pair->key_row;
        conf_mistake(loader, conf_origin(loader, given), given,
                     "expected tls_cert and tls_key, or neither, got %s alone",
                     has_cert ? "tls_cert" : "tls_key");
        return;
    }
    char *cert = read_file(loader, conf_origin(loader, pair->cert_row), pair->cert_row,
                           pair->cert_path);
    char *key = read_file(loader, conf_origin(loader, pair->key_row), pair->key_row,
                          pair->key_path);
    if (cert && key) {
        check_contents(loader, pair, cert, key);
        if (out)
            digest(cert, key, out);
    }
    if (key)
        OPENSSL_cleanse(key, strlen(key));
    free(cert);
    free(key);
}

static void check_pairs(struct conf_loader *loader)
{
    struct conf *conf = loader->conf;
    const struct pem_pair listen = {"listen.tls_cert", "listen.tls_key", conf->listen.tls_cert,
                                    conf->listen.tls_key};
    const struct pem_pair redis = {"redis.tls_cert", "redis.tls_key", conf->redis.tls_cert,
                                   conf->redis.tls_key};
    check_pair(loader, &listen, &conf->listen.tls_digest);
    check_pair(loader, &redis, NULL);
}

/* ---- tokens ---- */

static void load_secret(struct conf_loader *loader)
{
    struct conf *conf = loader->conf;
    struct conf_where where = conf_origin(loader, "auth.secret_file");
    const char *key = "auth.secret_file";
    const char *variable = getenv("VINHUB_JWT_SECRET");
    if (variable && *variable != '\0') {
        where = (struct conf_where){"VINHUB_JWT_SECRET", 0};
        key = "auth";
        conf->auth.secret = strdup(variable);
        if (!conf->auth.secret)
            abort();
    } else if (*conf->auth.secret_file == '\0') {
        conf_mistake(loader, conf_origin(loader, "auth.mode"), key,
                     "expected a file with the secret for %s (or VINHUB_JWT_SECRET), got none",
                     conf->auth.algorithm);
        return;
    } else {
        conf->auth.secret = read_file(loader, where, key, conf->auth.secret_file);
        if (!conf->auth.secret)
            return;
        size_t len = strlen(conf->auth.secret);
        while (len > 0 && strchr("\r\n", conf->auth.secret[len - 1]))
            conf->auth.secret[--len] = '\0';
    }
    size_t bytes = strtoul(conf->auth.algorithm + 2, NULL, 10) / 8; /* of the hash: HS256 has 32 */
    if (*conf->auth.secret == '\0')
        conf_mistake(loader, where, key, "expected a secret, got an empty one");
    else if (strlen(conf->auth.secret) < bytes)
        conf_warning(loader, where, key,
                     "the secret is shorter than the %zu bytes that %s should have (RFC 7518)",
                     bytes, conf->auth.algorithm);
    conf->auth.keys = key_set_of_secret(conf->auth.algorithm, conf->auth.secret);
}

/* NULL where the key fits the algorithm, else why not. */
static const char *key_flaw(EVP_PKEY *key, const char *algorithm)
{
    char curve[64];
    if (!key)
        return "it holds none";
    if (strcmp(algorithm, "RS256") == 0) {
        if (EVP_PKEY_base_id(key) != EVP_PKEY_RSA)
            return "it is not an RSA key";
        return EVP_PKEY_bits(key) < RSA_BITS_MIN ? "it has less than 2048 bits" : NULL;
    }
    if (strcmp(algorithm, "EdDSA") == 0) {
        int kind = EVP_PKEY_base_id(key);
        return kind == EVP_PKEY_ED25519 || kind == EVP_PKEY_ED448
                   ? NULL
                   : "it is not an Ed25519 or Ed448 key";
    }
    if (EVP_PKEY_base_id(key) != EVP_PKEY_EC ||
        EVP_PKEY_get_group_name(key, curve, sizeof(curve), NULL) != 1)
        return "it is not an EC key";
    return strcmp(curve, "prime256v1") == 0 || strcmp(curve, "P-256") == 0 ? NULL
                                                                           : "it is not on P-256";
}

static void load_public_key(struct conf_loader *loader)
{
    struct conf *conf = loader->conf;
    struct conf_where where = conf_origin(loader, "auth.public_key_file");
    const char *path = conf->auth.public_key_file;
    if (*path == '\0') {
        conf_mistake(loader, conf_origin(loader, "auth.mode"), "auth.public_key_file",
                     "expected a PEM file with the public key for %s, got none",
                     conf->auth.algorithm);
        return;
    }
    conf->auth.public_key = read_file(loader, where, "auth.public_key_file", path);
    if (!conf->auth.public_key)
        return;
    EVP_PKEY *key = parse_public_key(conf->auth.public_key);
    const char *flaw = key_flaw(key, conf->auth.algorithm);
    if (flaw)
        refuse(loader, where, "auth.public_key_file",
               "a PEM file with a public key that fits auth.algorithm", path, flaw);
    else
        conf->auth.keys = key_set_of_pem(conf->auth.algorithm, conf->auth.public_key);
    EVP_PKEY_free(key);
}

static void on_key_note(void *ctx, const char *text)
{
    struct conf_loader *loader = ctx;
    conf_warning(loader, conf_origin(loader, "auth.keys_file"), "auth.keys_file", "\"%.200s\": %s",
                 loader->conf->auth.keys_file, text);
}

static void load_key_set(struct conf_loader *loader)
{
    struct conf *conf = loader->conf;
    struct conf_where where = conf_origin(loader, "auth.keys_file");
    const char *variable = getenv("VINHUB_JWT_SECRET");
    char why[KEY_SET_WHY_BYTES];
    if (key_set_read(conf->auth.keys_file, on_key_note, loader, &conf->auth.keys, why) != STATUS_OK)
        conf_mistake(loader, where, "auth.keys_file", "\"%.200s\": %s", conf->auth.keys_file, why);
    if (variable && *variable != '\0')
        conf_warning(loader, (struct conf_where){"VINHUB_JWT_SECRET", 0}, "auth",
                     "not used: auth.keys_file has the keys");
    if (strcmp(conf->auth.algorithm, "HS256") != 0) /* not the default */
        conf_warning(loader, conf_origin(loader, "auth.algorithm"), "auth.algorithm",
                     "not used: each key of auth.keys_file says its algorithm");
}

/* The rows that name a file with keys, of which one is allowed. */
static bool names_one_file(struct conf_loader *loader)
{
    const struct conf *conf = loader->conf;
    const struct {
        const char *row, *path;
    } files[] = {{"auth.secret_file", conf->auth.secret_file},
                 {"auth.public_key_file", conf->auth.public_key_file},
                 {"auth.keys_file", conf->auth.keys_file}};
    const char *first = NULL;
    for (size_t i = 0; i < sizeof(files) / sizeof(*files); i++) {
        if (*files[i].path == '\0')
            continue;
        if (first) {
            conf_mistake(loader, conf_origin(loader, files[i].row), files[i].row,
                         "expected one of auth.secret_file, auth.public_key_file and "
                         "auth.keys_file, got %s, too",
                         first);
            return false;
        }
        first = files[i].row;
    }
    return true;
}

void conf_check_keys(struct conf_loader *loader)
{
    const struct conf *conf = loader->conf;
    check_pairs(loader);
    check_authorities(loader, conf_origin(loader, "redis.tls_ca"), "redis.tls_ca",
                      conf->redis.tls_ca, NULL);
    for (size_t i = 0; i < conf->services_len; i++) {
        char key[CONF_SERVICE_KEY_MAX];
        check_authorities(loader, conf_service_origin(loader, i, "tls_ca"),
                          conf_service_key(loader, i, "tls_ca", key), conf->services[i]->tls_ca,
                          &conf->services[i]->tls_ca_digest);
    }

    if (conf->auth.mode == AUTH_NONE || !names_one_file(loader))
        return;
    if (*conf->auth.keys_file != '\0')
        load_key_set(loader);
    else if (strncmp(conf->auth.algorithm, "HS", 2) == 0)
        load_secret(loader);
    else
        load_public_key(loader);
}
