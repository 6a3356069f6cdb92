#include "loop/tls_context.h"

#include <arpa/inet.h>
#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/log.h"
#include "loop/tls_words.h"

enum { FILE_CA, FILE_CERT, FILE_KEY, FILES };

struct tls_context {
    SSL_CTX *ssl;
    char *files[FILES]; /* paths, for a client only; "": there is no such file */
    char *name;
    const char *name_setting, *cert_setting; /* "": no such setting */
    struct tls_file_stamp {
        struct timespec changed_at;
        dev_t device;
        ino_t inode;
    } stamps[FILES]; /* of the files when they were read last */
};

static const char *text_or_none(const char *text)
{
    return text ? text : "";
}

/* --- files --- */

/* Refuses to ask for a pass phrase: without this callback OpenSSL asks at the terminal. */
static int refuse_to_ask(char *out, int size, int writing, void *asked)
{
    (void)out, (void)size, (void)writing;
    *(bool *)asked = true;
    return -1;
}

static bool can_be_read(const char *path, char *why, size_t why_len)
{
    FILE *file = fopen(path, "re");
    if (file) {
        fclose(file);
        return true;
    }
    snprintf(why, why_len, "%s: %s", path, strerror(errno));
    return false;
}

static bool load_chain(SSL_CTX *ssl, const char *path, char *why, size_t why_len)
{
    if (!can_be_read(path, why, why_len))
        return false;
    if (SSL_CTX_use_certificate_chain_file(ssl, path) == 1)
        return true;
    const char *reason = ERR_reason_error_string(ERR_peek_error());
    snprintf(why, why_len, "%s: expected a PEM file with a certificate chain: %s", path,
             reason ? reason : "the file holds no certificate");
    return false;
}

static bool load_key(SSL_CTX *ssl, const char *path, const char *cert, char *why, size_t why_len)
{
    bool asked = false;
    if (!can_be_read(path, why, why_len))
        return false;
    SSL_CTX_set_default_passwd_cb(ssl, refuse_to_ask);
    SSL_CTX_set_default_passwd_cb_userdata(ssl, &asked);
    bool loaded = SSL_CTX_use_PrivateKey_file(ssl, path, SSL_FILETYPE_PEM) == 1;
    SSL_CTX_set_default_passwd_cb_userdata(ssl, NULL);
    SSL_CTX_set_default_passwd_cb(ssl, NULL);
    if (loaded && SSL_CTX_check_private_key(ssl) == 1)
        return true;
    unsigned long code = ERR_peek_last_error();
    if (asked)
        snprintf(why, why_len, "%s: expected a private key without pass phrase, this one has one",
                 path);
    else if (loaded || ERR_GET_REASON(code) == X509_R_KEY_VALUES_MISMATCH)
        snprintf(why, why_len, "%s: the private key does not match the certificate in %s", path,
                 cert);
    else
        snprintf(why, why_len, "%s: expected a PEM file with a private key, it holds none", path);
    return false;
}

static bool load_authorities(SSL_CTX *ssl, const char *path, char *why, size_t why_len)
{
    if (path[0] == '\0') {
        if (SSL_CTX_set_default_verify_paths(ssl) == 1)
            return true;
        snprintf(why, why_len, "the system's authorities can't be read");
        return false;
    }
    if (!can_be_read(path, why, why_len))
        return false;
    if (SSL_CTX_load_verify_locations(ssl, path, NULL) != 1) {
        snprintf(why, why_len, "%s: expected a PEM file with certificates, it holds none", path);
        return false;
    }
    /* An intermediate or the server's own certificate in the file is a trust anchor, too. */
    X509_VERIFY_PARAM_set_flags(SSL_CTX_get0_param(ssl), X509_V_FLAG_PARTIAL_CHAIN);
    return true;
}

/* --- contexts --- */

static SSL_CTX *ssl_new(const SSL_METHOD *method)
{
    SSL_CTX *ssl = SSL_CTX_new(method);
    if (!ssl)
        return NULL;
    SSL_CTX_set_min_proto_version(ssl, TLS1_2_VERSION);
    /* A renegotiation is of no use here and costs the server. Buffers of idle connections are given
     * back. */
    SSL_CTX_set_options(ssl, SSL_OP_NO_RENEGOTIATION | SSL_OP_CIPHER_SERVER_PREFERENCE |
                                 SSL_OP_NO_COMPRESSION | SSL_OP_IGNORE_UNEXPECTED_EOF);
    SSL_CTX_set_mode(ssl, SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_session_cache_mode(ssl,
                                   SSL_SESS_CACHE_OFF); /* tickets resume without memory of ours */
    return ssl;
}

static struct tls_context *wrap(SSL_CTX *ssl)
{
    struct tls_context *context = calloc(1, sizeof(*context));
    if (!context)
        abort(); /* some hundred bytes */
    context->ssl = ssl;
    return context;
}

enum status tls_context_server(const char *cert, const char *key, struct tls_context **out,
                               char *why, size_t why_len)
{
    ERR_clear_error();
    SSL_CTX *ssl = ssl_new(TLS_server_method());
    if (!ssl)
        return STATUS_NO_MEMORY;
    if (!load_chain(ssl, cert, why, why_len) || !load_key(ssl, key, cert, why, why_len)) {
        SSL_CTX_free(ssl);
        return STATUS_INVALID;
    }
    *out = wrap(ssl);
    return STATUS_OK;
}

/* Reads the files. NULL: why has the name of the file and what is wrong with it. */
static SSL_CTX *read_client(const struct tls_context *context, char *why, size_t why_len)
{
    ERR_clear_error();
    SSL_CTX *ssl = ssl_new(TLS_client_method());
    if (!ssl || !tls_words_advise(ssl, context->files[FILE_CA], context->name_setting,
                                  context->cert_setting))
        abort();
    SSL_CTX_set_verify(ssl, SSL_VERIFY_PEER, tls_words_on_verify);
    const char *cert = context->files[FILE_CERT], *key = context->files[FILE_KEY];
    bool fit = load_authorities(ssl, context->files[FILE_CA], why, why_len);
    if (fit && (cert[0] != '\0') != (key[0] != '\0')) {
        snprintf(why, why_len, "%s: a certificate and its key are expected together",
                 cert[0] != '\0' ? cert : key);
        fit = false;
    } else if (fit && cert[0] != '\0') {
        fit = load_chain(ssl, cert, why, why_len) && load_key(ssl, key, cert, why, why_len);
    }
    if (fit)
        return ssl;
    SSL_CTX_free(ssl);
    return NULL;
}

/* Takes stamps of the files. stat follows links, so a file is seen as changed when Kubernetes
 * replaces the symbolic link to the folder. */
static void note_changes(const struct tls_context *context, struct tls_file_stamp stamps[FILES])
{
    memset(stamps, 0, FILES * sizeof(*stamps)); /* compared as bytes */
    for (size_t i = 0; i < FILES; i++) {
        struct stat file;
        if (context->files[i][0] == '\0' || stat(context->files[i], &file) != 0)
            continue;
        stamps[i].changed_at = file.st_mtim;
        stamps[i].device = file.st_dev;
        stamps[i].inode = file.st_ino;
    }
}

/* Reads changed files again. While only one file of a pair is replaced, the pair does not match: it
 * is read again when the other file has changed, too. */
static void freshen(struct tls_context *context)
{
    struct tls_file_stamp stamps[FILES];
    note_changes(context, stamps);
    if (memcmp(stamps, context->stamps, sizeof(stamps)) == 0)
        return;
    memcpy(context->stamps, stamps, sizeof(stamps));
    char why[TLS_WHY_BYTES];
    SSL_CTX *ssl = read_client(context, why, sizeof(why));
    if (!ssl) {
        log_warn("tls_files", LOG_STR("reason", why),
                 LOG_STR("advice", "what was read before goes on"));
        return;
    }
    SSL_CTX_free(context->ssl);
    context->ssl = ssl;
}

static char *copy_text(const char *text)
{
    char *copy = strdup(text_or_none(text));
    if (!copy)
        abort();
    return copy;
}

enum status tls_context_client(const struct tls_client *client, struct tls_context **out, char *why,
                               size_t why_len)
{
    struct tls_context *context = wrap(NULL);
    context->files[FILE_CA] = copy_text(client->ca);
    context->files[FILE_CERT] = copy_text(client->cert);
    context->files[FILE_KEY] = copy_text(client->key);
    context->name = copy_text(client->name);
    context->name_setting = text_or_none(client->name_setting);
    context->cert_setting = text_or_none(client->cert_setting);
    note_changes(context, context->stamps);
    context->ssl = read_client(context, why, why_len);
    if (!context->ssl) {
        tls_context_free(context);
        return STATUS_INVALID;
    }
    *out = context;
    return STATUS_OK;
}

void tls_context_free(struct tls_context *context)
{
    if (!context)
        return;
    SSL_CTX_free(context->ssl); /* connections hold a reference each */
    for (size_t i = 0; i < FILES; i++)
        free(context->files[i]);
    free(context->name);
    free(context);
}

/* --- connections --- */

/* The certificate must be for this host; a name also goes into the hello (SNI), an address must not
 * (RFC 6066 section 3). */
static bool expect_host(SSL *ssl, const char *host)
{
    uint8_t address[16];
    X509_VERIFY_PARAM *param = SSL_get0_param(ssl);
    if (inet_pton(AF_INET, host, address) == 1 || inet_pton(AF_INET6, host, address) == 1)
        return X509_VERIFY_PARAM_set1_ip_asc(param, host) == 1;
    X509_VERIFY_PARAM_set_hostflags(param, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    return SSL_set_tlsext_host_name(ssl, host) == 1 &&
           X509_VERIFY_PARAM_set1_host(param, host, 0) == 1;
}

struct ssl_st *tls_context_ssl(struct tls_context *context, const char *host)
{
    if (!host)
        return SSL_new(context->ssl);
    freshen(context);
    SSL *ssl = SSL_new(context->ssl);
    char expected[256];
    snprintf(expected, sizeof(expected), "%s", context->name[0] != '\0' ? context->name : host);
    size_t len = strlen(expected);
    if (len > 1 && expected[len - 1] == '.')
        expected[len - 1] = '\0'; /* the final dot is for the resolver only */
    if (ssl && expect_host(ssl, expected))
        return ssl;
    SSL_free(ssl);
    return NULL;
}
