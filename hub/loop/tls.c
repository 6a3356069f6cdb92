#include "loop/tls.h"

#include <openssl/buffer.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct tls {
    SSL *ssl;
    BIO *in, *out;          /* of the SSL object */
    bool in_lean, out_lean; /* the memory that the handshake needed was freed */
    bool ended;
    bool failed; /* the TLS connection has failed: nothing more is sent to the peer */
    char *why;   /* NULL: nothing has gone wrong, or memory ran out */
};

/* A memory BIO never shrinks by itself. An empty buffer that is larger than KEEP_BYTES is replaced
 * by a new one; after the handshake one that is larger than LEAN_BYTES, once, which saves 2 KiB for
 * each idle client. */
#define KEEP_BYTES 4096
#define LEAN_BYTES 256

static bool is_swollen(BIO *bio, size_t keep)
{
    BUF_MEM *memory = NULL;
    BIO_get_mem_ptr(bio, &memory);
    return memory && memory->max > keep && BIO_pending(bio) == 0;
}

static BIO *memory_new(void)
{
    BIO *bio = BIO_new(BIO_s_mem());
    if (bio)
        BIO_set_mem_eof_return(bio, -1); /* an empty buffer is not the end of the stream */
    return bio;
}

struct tls *tls_new(struct tls_context *context, const char *host)
{
    struct tls *tls = calloc(1, sizeof(*tls));
    if (!tls)
        return NULL;
    tls->ssl = tls_context_ssl(context, host);
    tls->in = memory_new();
    tls->out = memory_new();
    if (!tls->ssl || !tls->in || !tls->out) {
        SSL_free(tls->ssl);
        BIO_free(tls->in);
        BIO_free(tls->out);
        free(tls);
        return NULL;
    }
    SSL_set_bio(tls->ssl, tls->in, tls->out);
    if (!host) {
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
    if (!tls)
        return;
    SSL_free(tls->ssl);
    free(tls->why);
    free(tls);
}

bool tls_ready(const struct tls *tls)
{
    return SSL_is_init_finished(tls->ssl) == 1;
}

const char *tls_why(const struct tls *tls)
{
    return tls->why ? tls->why : "";
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

static void note_end(struct tls *tls, int result)
{
    tls->ended = true;
    tls->failed = SSL_get_error(tls->ssl, result) != SSL_ERROR_ZERO_RETURN;
    if (!tls->failed || tls->why)
        return;
    char why[TLS_WHY_BYTES];
    tls_explain(tls->ssl, why, sizeof(why));
    tls->why = strdup(why);
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
    note_end(tls, result);
    return STATUS_IO;
}

/* Shrinks the input buffer if it is empty; an incomplete record stays in it. */
static void shrink_in(struct tls *tls)
{
    BIO *fresh = is_swollen(tls->in, tls->in_lean ? KEEP_BYTES : LEAN_BYTES) ? memory_new() : NULL;
    tls->in_lean = true; /* this function is called only after the handshake */
    if (!fresh)
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
        note_end(tls, result);
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
    if (!tls_ready(tls) || tls->failed || (SSL_get_shutdown(tls->ssl) & SSL_SENT_SHUTDOWN))
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
    if (!fresh)
        return;
    SSL_set0_wbio(tls->ssl, fresh);
    tls->out = fresh;
}
