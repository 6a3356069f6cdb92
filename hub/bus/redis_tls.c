#include "bus/redis_tls.h"

#include <arpa/inet.h>
#include <hiredis/hiredis.h>
#include <hiredis/hiredis_ssl.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509_vfy.h>
#include <stdbool.h>
#include <stdlib.h>

struct redis_tls {
    SSL_CTX *context;
};

enum status redis_tls_new(const char *ca_file, struct redis_tls **out)
{
    SSL_CTX *context = SSL_CTX_new(TLS_client_method());
    if (context == NULL)
        return STATUS_NO_MEMORY;
    SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION);
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER, NULL);
    int loaded = ca_file[0] != '\0' ? SSL_CTX_load_verify_locations(context, ca_file, NULL)
                                    : SSL_CTX_set_default_verify_paths(context);
    struct redis_tls *tls = loaded == 1 ? malloc(sizeof(*tls)) : NULL;
    if (tls == NULL) {
        SSL_CTX_free(context);
        return STATUS_INVALID;
    }
    tls->context = context;
    *out = tls;
    return STATUS_OK;
}

void redis_tls_free(struct redis_tls *tls)
{
    if (tls == NULL)
        return;
    SSL_CTX_free(tls->context);
    free(tls);
}

static bool is_address(const char *host)
{
    struct in6_addr scratch;
    return inet_pton(AF_INET, host, &scratch) == 1 || inet_pton(AF_INET6, host, &scratch) == 1;
}

/* Names are asked for and checked as names, addresses as addresses (RFC 6125, RFC 6066 section 3).
 */
static bool expect_host(SSL *ssl, const char *host)
{
    if (is_address(host))
        return X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), host) == 1;
    return SSL_set1_host(ssl, host) == 1 && SSL_set_tlsext_host_name(ssl, host) == 1;
}

enum status redis_tls_start(struct redis_tls *tls, struct redisContext *context, const char *host,
                            struct ssl_st **out)
{
    SSL *ssl = SSL_new(tls->context);
    if (ssl == NULL)
        return STATUS_NO_MEMORY;
    if (!expect_host(ssl, host) || redisInitiateSSL(context, ssl) != REDIS_OK) {
        SSL_free(ssl);
        return STATUS_IO;
    }
    *out = ssl;
    return STATUS_OK;
}

enum redis_tls_progress redis_tls_handshake(struct ssl_st *ssl, const char **why)
{
    ERR_clear_error();
    int result = SSL_do_handshake(ssl);
    if (result == 1)
        return REDIS_TLS_DONE;
    switch (SSL_get_error(ssl, result)) {
    case SSL_ERROR_WANT_READ: return REDIS_TLS_WANTS_READ;
    case SSL_ERROR_WANT_WRITE: return REDIS_TLS_WANTS_WRITE;
    default: break;
    }
    long verified = SSL_get_verify_result(ssl);
    const char *reason = ERR_reason_error_string(ERR_peek_last_error());
    if (verified != X509_V_OK)
        reason = X509_verify_cert_error_string(verified);
    *why = reason != NULL ? reason : "TLS handshake failed";
    return REDIS_TLS_FAILED;
}
