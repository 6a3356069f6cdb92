#include "bus/redis_tls.h"

#include <hiredis/hiredis.h>
#include <hiredis/hiredis_ssl.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdio.h>

#include "loop/tls_context.h"

static void explain_handshake(struct ssl_st *ssl, char *why, size_t why_len)
{
    if (ERR_peek_error() == 0 && SSL_get_verify_result(ssl) == X509_V_OK)
        snprintf(why, why_len, "connection closed during the TLS handshake");
    else
        tls_explain(ssl, why, why_len);
}

enum status redis_tls_start(struct tls_context *tls, struct redisContext *context, const char *host,
                            struct ssl_st **out, char *why, size_t why_len)
{
    SSL *ssl = tls_context_ssl(tls, host);
    if (!ssl) {
        snprintf(why, why_len, "out of memory for TLS");
        return STATUS_NO_MEMORY;
    }
    if (redisInitiateSSL(context, ssl) != REDIS_OK) {
        explain_handshake(ssl, why, why_len);
        SSL_free(ssl);
        return STATUS_IO;
    }
    *out = ssl;
    return STATUS_OK;
}

enum redis_tls_progress redis_tls_handshake(struct ssl_st *ssl, char *why, size_t why_len)
{
    ERR_clear_error();
    int result = SSL_do_handshake(ssl);
    if (result == 1)
        return REDIS_TLS_DONE;
    switch (SSL_get_error(ssl, result)) {
    case SSL_ERROR_WANT_READ: return REDIS_TLS_WANTS_READ;
    case SSL_ERROR_WANT_WRITE: return REDIS_TLS_WANTS_WRITE;
    default: explain_handshake(ssl, why, why_len); return REDIS_TLS_FAILED;
    }
}

void redis_tls_prepare(struct ssl_st *ssl)
{
    if (ssl)
        ERR_clear_error();
}

void redis_tls_explain(struct ssl_st *ssl, char *why, size_t why_len)
{
    if (ssl && ERR_peek_error() != 0)
        tls_explain(ssl, why, why_len);
}

void redis_tls_end(struct ssl_st *ssl)
{
    if (!ssl || !SSL_is_init_finished(ssl))
        return;
    ERR_clear_error();
    SSL_shutdown(ssl); /* called once: the other side's close_notify is not awaited */
    ERR_clear_error();
}
