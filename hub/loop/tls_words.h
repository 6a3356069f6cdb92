/*
 * Messages for failures of TLS: the name in a certificate and the expected one, its issuer, its
 * validity, and the alert of the peer. tls_explain (loop/tls_context.h) is implemented here.
 */
#ifndef VINHUB_LOOP_TLS_WORDS_H
#define VINHUB_LOOP_TLS_WORDS_H

#include <openssl/ssl.h>
#include <stdbool.h>

/* Keeps in the context of a client what its messages name as advice: the CA file (copied), and the
 * settings (static texts; "": there is none). False: out of memory. */
bool tls_words_advise(SSL_CTX *ssl, const char *ca, const char *name_setting,
                      const char *cert_setting);
/* For SSL_CTX_set_verify: keeps a message for the first certificate that is not accepted. It does
 * not change the verdict. */
int tls_words_on_verify(int accepted, X509_STORE_CTX *store);

#endif
