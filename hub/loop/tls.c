#include "loop/tls.h"

#include <arpa/inet.h>
#include <openssl/buffer.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct tls_context {
    SSL_CTX *ssl;
};

struct tls {
    SSL *ssl;
    BIO *in, *out;          /* of the SSL object */
    bool in_lean, out_lean; /* what the handshake needed was given back */
    bool ended;
    char why[160];
};

/* What a connection may keep of a buffer once it is empty; a memory BIO never shrinks by itself.
 * What the handshake has grown it to is given back in any case: an idle client is 2 KiB smaller by
 * that. */
#define KEEP_BYTES 4096
#define LEAN_BYTES 256

/* --- contexts --- */

static const char *last_error(void)
{
    unsigned long code = ERR_peek_last_error();
    const char *reason = code == 0 ? NULL : ERR_reason_error_string(code);
    return reason == NULL ? "unknown error" : reason;
}

static SSL_CTX *ssl_new(const SSL_METHOD *method)
{
    SSL_CTX *ssl = SSL_CTX_new(method);
    if (ssl == NULL)
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

static enum status wrap(SSL_CTX *ssl, struct tls_context **out)
{
    struct tls_context *context = malloc(sizeof(*context));
    if (context == NULL) {
        SSL_CTX_free(ssl);
        return STATUS_NO_MEMORY;
    }
    context->ssl = ssl;
    *out = context;
    return STATUS_OK;
}

enum status tls_context_server(const char *cert, const char *key, struct tls_context **out,
                               char *why, size_t why_len)
{
    ERR_clear_error();
    SSL_CTX *ssl = ssl_new(TLS_server_method());
    const char *wrong = NULL;
    if (ssl == NULL || SSL_CTX_use_certificate_chain_file(ssl, cert) != 1)
        wrong = cert;
    else if (SSL_CTX_use_PrivateKey_file(ssl, key, SSL_FILETYPE_PEM) != 1 ||
             SSL_CTX_check_private_key(ssl) != 1)
        wrong = key;
    if (wrong == NULL)
        return wrap(ssl, out);
    snprintf(why, why_len, "%s: %s", wrong, last_error());
    SSL_CTX_free(ssl);
    return STATUS_INVALID;
}

enum status tls_context_client(const char *ca, struct tls_context **out, char *why, size_t why_len)
{
    ERR_clear_error();
    SSL_CTX *ssl = ssl_new(TLS_client_method());
    bool given = ca != NULL && ca[0] != '\0';
    int loaded = 0;
    if (ssl != NULL)
        loaded = given ? SSL_CTX_load_verify_locations(ssl, ca, NULL)
                       : SSL_CTX_set_default_verify_paths(ssl);
    if (loaded != 1) {
        snprintf(why, why_len, "%s: %s", given ? ca : "the system's certificates", last_error());
        SSL_CTX_free(ssl);
        return STATUS_INVALID;
    }
    SSL_CTX_set_verify(ssl, SSL_VERIFY_PEER, NULL);
    return wrap(ssl, out);
}

void tls_context_free(struct tls_context *context)
{
    if (context == NULL)
        return;
    SSL_CTX_free(context->ssl); /* connections hold a reference each */
    free(context);
}

/* --- connections --- */

static bool is_swollen(BIO *bio, size_t keep)
{
    BUF_MEM *memory = NULL;
    BIO_get_mem_ptr(bio, &memory);
    return memory != NULL && memory->max > keep && BIO_pending(bio) == 0;
}

static BIO *memory_new(void)
{
    BIO *bio = BIO_new(BIO_s_mem());
    if (bio != NULL)
        BIO_set_mem_eof_return(bio, -1); /* empty is not the end */
    return bio;
}

/* The certificate must be for this host; a name also goes into the hello (SNI), an address must not
 * (RFC 6066). */
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

struct tls *tls_new(struct tls_context *context, const char *host)
{
    struct tls *tls = calloc(1, sizeof(*tls));
    if (tls == NULL)
        return NULL;
    tls->ssl = SSL_new(context->ssl);
    tls->in = memory_new();
    tls->out = memory_new();
    if (tls->ssl == NULL || tls->in == NULL || tls->out == NULL ||
        (host != NULL && !expect_host(tls->ssl, host))) {
        SSL_free(tls->ssl);
        BIO_free(tls->in);
        BIO_free(tls->out);
        free(tls);
        return NULL;
    }
    SSL_set_bio(tls->ssl, tls->in, tls->out);
    if (host == NULL) {
        SSL_set_accept_state(tls->ssl);
    } else {
        SSL_set_connect_state(tls->ssl);
        ERR_clear_error();
        SSL_do_handshake(tls->ssl); /* writes the hello */
    }
    return tls;
}

void tls_free(struct tls *tls)
{
    if (tls == NULL)
        return;
    SSL_free(tls->ssl);
    free(tls);
}

bool tls_ready(const struct tls *tls)
{
    return SSL_is_init_finished(tls->ssl) == 1;
}

const char *tls_why(const struct tls *tls)
{
    return tls->why;
}

bool tls_ended(const struct tls *tls)
{
    return tls->ended;
}

static bool wants_more(const struct tls *tls, int result)
{
    int error = SSL_get_error(tls->ssl, result);
    return error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE;
}

static void note_failure(struct tls *tls)
{
    long verify = SSL_get_verify_result(tls->ssl);
    snprintf(tls->why, sizeof(tls->why), "%s",
             verify != X509_V_OK ? X509_verify_cert_error_string(verify) : last_error());
    tls->ended = true;
}

enum status tls_feed(struct tls *tls, const uint8_t *bytes, size_t len)
{
    ERR_clear_error();
    if (BIO_write(tls->in, bytes, (int)len) != (int)len)
        return STATUS_NO_MEMORY;
    if (tls_ready(tls))
        return STATUS_OK;
    int result = SSL_do_handshake(tls->ssl);
    if (result == 1 || wants_more(tls, result))
        return STATUS_OK;
    note_failure(tls);
    return STATUS_IO;
}

/* Where a record was cut off, it stays. */
static void shrink_in(struct tls *tls)
{
    BIO *fresh = is_swollen(tls->in, tls->in_lean ? KEEP_BYTES : LEAN_BYTES) ? memory_new() : NULL;
    tls->in_lean = true; /* only asked once the handshake is done */
    if (fresh == NULL)
        return;
    SSL_set0_rbio(tls->ssl, fresh);
    tls->in = fresh;
}

size_t tls_read(struct tls *tls, uint8_t *out, size_t cap)
{
    if (!tls_ready(tls) || tls->ended)
        return 0;
    ERR_clear_error();
    size_t n = 0;
    int result = SSL_read_ex(tls->ssl, out, cap, &n);
    if (result == 1)
        return n;
    if (wants_more(tls, result))
        shrink_in(tls);
    else
        note_failure(tls);
    return 0;
}

enum status tls_write(struct tls *tls, const void *bytes, size_t len)
{
    if (!tls_ready(tls) || tls->ended)
        return STATUS_IO;
    ERR_clear_error();
    size_t n = 0;
    return SSL_write_ex(tls->ssl, bytes, len, &n) == 1 && n == len ? STATUS_OK : STATUS_IO;
}

void tls_shut(struct tls *tls)
{
    if (!tls_ready(tls) || tls->ended || (SSL_get_shutdown(tls->ssl) & SSL_SENT_SHUTDOWN))
        return;
    ERR_clear_error();
    SSL_shutdown(tls->ssl);
}

size_t tls_pending(struct tls *tls, const uint8_t **bytes)
{
    char *at = NULL;
    long len = BIO_get_mem_data(tls->out, &at);
    *bytes = (const uint8_t *)at;
    return len > 0 ? (size_t)len : 0;
}

void tls_sent(struct tls *tls)
{
    BIO_reset(tls->out);
    bool done = tls_ready(tls);
    BIO *fresh = is_swollen(tls->out, done && !tls->out_lean ? LEAN_BYTES : KEEP_BYTES)
                     ? memory_new()
                     : NULL;
    tls->out_lean = done;
    if (fresh == NULL)
        return;
    SSL_set0_wbio(tls->ssl, fresh);
    tls->out = fresh;
}
