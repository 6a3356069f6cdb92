/*
 * Why TLS has failed, in words: whom a certificate is for and who was expected, who has signed it,
 * when it was valid, and the peer's alert. tls_explain of loop/tls_context.h tells them.
 */
#ifndef VINHUB_LOOP_TLS_WORDS_H
#define VINHUB_LOOP_TLS_WORDS_H

#include <openssl/ssl.h>
#include <stdbool.h>

/* Keeps with a client's context what its words advise: the file of authorities (copied), and the
 * names of the settings (static; "": there is none). False: no memory.
 */
bool tls_words_advise(SSL_CTX *ssl, const char *ca, const char *name_setting,
                      const char *cert_setting);
/* For SSL_CTX_set_verify: changes no verdict, and keeps the words for the first bad one. */
int tls_words_on_verify(int accepted, X509_STORE_CTX *store);

#endif
