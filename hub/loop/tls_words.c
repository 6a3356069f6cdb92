#include "loop/tls_words.h"

#include <arpa/inet.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "loop/tls_context.h"

/* TLS alerts (RFC 8446 section 6). All but ALERT_VERSION may mean that the server requires a
 * certificate of ours. */
enum { ALERT_HANDSHAKE = 40, ALERT_BAD_CERTIFICATE = 42, ALERT_VERSION = 70, ALERT_REQUIRED = 116 };

/* Attached to an SSL_CTX, which may live longer than the tls_context. */
struct advice {
    char *ca;
    const char *name_setting, *cert_setting;
};

static void free_text(void *parent, void *value, CRYPTO_EX_DATA *data, int index, long number,
                      void *pointer)
{
    (void)parent, (void)data, (void)index, (void)number, (void)pointer;
    free(value);
}

static void free_advice(void *parent, void *value, CRYPTO_EX_DATA *data, int index, long number,
                        void *pointer)
{
    struct advice *advice = value;
    if (advice)
        free(advice->ca);
    free_text(parent, advice, data, index, number, pointer);
}

/* The ex_data index under which an SSL object keeps the message of tls_words_on_verify. */
static int verdict_index(void)
{
    static int index = -1;
    if (index < 0)
        index = SSL_get_ex_new_index(0, NULL, NULL, NULL, free_text);
    return index;
}

static int advice_index(void)
{
    static int index = -1;
    if (index < 0)
        index = SSL_CTX_get_ex_new_index(0, NULL, NULL, NULL, free_advice);
    return index;
}

static const struct advice *advice_of(SSL *ssl)
{
    return SSL_CTX_get_ex_data(SSL_get_SSL_CTX(ssl), advice_index());
}

bool tls_words_advise(SSL_CTX *ssl, const char *ca, const char *name_setting,
                      const char *cert_setting)
{
    struct advice *advice = calloc(1, sizeof(*advice));
    if (!advice)
        abort();
    *advice = (struct advice){
        .ca = strdup(ca), .name_setting = name_setting, .cert_setting = cert_setting};
    return SSL_CTX_set_ex_data(ssl, advice_index(), advice) == 1;
}

static void print_name(const X509_NAME *name, char *out, size_t len)
{
    BIO *memory = BIO_new(BIO_s_mem());
    out[0] = '\0';
    if (!memory)
        return;
    X509_NAME_print_ex(memory, name, 0, XN_FLAG_RFC2253 & ~(unsigned long)ASN1_STRFLGS_ESC_MSB);
    int n = BIO_read(memory, out, (int)len - 1);
    out[n > 0 ? n : 0] = '\0';
    BIO_free(memory);
}

static void print_alternative(const GENERAL_NAME *name, char *out, size_t len)
{
    int type;
    const ASN1_STRING *value = GENERAL_NAME_get0_value(name, &type);
    out[0] = '\0';
    if (type == GEN_DNS) {
        snprintf(out, len, "%.*s", ASN1_STRING_length(value),
                 (const char *)ASN1_STRING_get0_data(value));
    } else if (type == GEN_IPADD) {
        int bytes = ASN1_STRING_length(value);
        if (bytes == 4 || bytes == 16)
            inet_ntop(bytes == 4 ? AF_INET : AF_INET6, ASN1_STRING_get0_data(value), out,
                      (socklen_t)len);
    }
}

/* The names and addresses of a certificate: "a.example, *.b.example, 10.0.0.1". */
static void print_subjects(X509 *certificate, char *out, size_t len)
{
    GENERAL_NAMES *names = X509_get_ext_d2i(certificate, NID_subject_alt_name, NULL, NULL);
    size_t used = 0;
    for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
        char one[128];
        print_alternative(sk_GENERAL_NAME_value(names, i), one, sizeof(one));
        if (one[0] == '\0')
            continue;
        int n = snprintf(out + used, len - used, "%s%s", used > 0 ? ", " : "", one);
        if (n < 0 || (size_t)n >= len - used)
            break;
        used += (size_t)n;
    }
    GENERAL_NAMES_free(names);
    if (used == 0)
        print_name(X509_get_subject_name(certificate), out, len);
}

static void print_time(const ASN1_TIME *at, char *out, size_t len)
{
    struct tm time;
    if (ASN1_TIME_to_tm(at, &time) != 1 || strftime(out, len, "%Y-%m-%d %H:%M UTC", &time) == 0)
        snprintf(out, len, "an unreadable time");
}

static void print_expected(SSL *ssl, char *out, size_t len)
{
    X509_VERIFY_PARAM *param = SSL_get0_param(ssl);
    const char *name = X509_VERIFY_PARAM_get0_host(param, 0);
    char *address = name ? NULL : X509_VERIFY_PARAM_get1_ip_asc(param);
    snprintf(out, len, "%s", name ? name : address ? address : "");
    OPENSSL_free(address);
}

static void print_mismatch(SSL *ssl, X509 *certificate, char *out, size_t len)
{
    char expected[256], got[256];
    const struct advice *advice = advice_of(ssl);
    print_expected(ssl, expected, sizeof(expected));
    print_subjects(certificate, got, sizeof(got));
    bool settings = advice && advice->name_setting[0] != '\0';
    snprintf(out, len, "expected a certificate for %s, got one for %s%s%s%s", expected, got,
             settings ? " (" : "", settings ? advice->name_setting : "",
             settings ? " sets another name to expect)" : "");
}

static void print_stranger(SSL *ssl, X509 *certificate, char *out, size_t len)
{
    char issuer[160];
    const struct advice *advice = advice_of(ssl);
    bool own = advice && advice->ca[0] != '\0';
    print_name(X509_get_issuer_name(certificate), issuer, sizeof(issuer));
    snprintf(out, len, "the certificate is signed by \"%s\", which is none of the authorities %s%s",
             issuer, own ? "in " : "of this system", own ? advice->ca : "");
}

static void print_period(X509 *certificate, bool over, char *out, size_t len)
{
    char subject[160], at[32];
    print_name(X509_get_subject_name(certificate), subject, sizeof(subject));
    print_time(over ? X509_get0_notAfter(certificate) : X509_get0_notBefore(certificate), at,
               sizeof(at));
    snprintf(out, len,
             over ? "the certificate \"%s\" has expired: it was valid until %s"
                  : "the certificate \"%s\" is not valid before %s",
             subject, at);
}

static void print_verdict(SSL *ssl, X509 *certificate, int error, char *out, size_t len)
{
    switch (error) {
    case X509_V_ERR_HOSTNAME_MISMATCH:
    case X509_V_ERR_IP_ADDRESS_MISMATCH: print_mismatch(ssl, certificate, out, len); break;
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
    case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
    case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
    case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN: print_stranger(ssl, certificate, out, len); break;
    case X509_V_ERR_CERT_HAS_EXPIRED: print_period(certificate, true, out, len); break;
    case X509_V_ERR_CERT_NOT_YET_VALID: print_period(certificate, false, out, len); break;
    default: snprintf(out, len, "%s", X509_verify_cert_error_string(error)); break;
    }
}

/* The message is made here because OpenSSL drops the certificate when the handshake fails. */
int tls_words_on_verify(int accepted, X509_STORE_CTX *store)
{
    SSL *ssl = X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx());
    X509 *certificate = X509_STORE_CTX_get_current_cert(store);
    if (accepted || !certificate || SSL_get_ex_data(ssl, verdict_index()))
        return accepted;
    char verdict[TLS_WHY_BYTES];
    print_verdict(ssl, certificate, X509_STORE_CTX_get_error(store), verdict, sizeof(verdict));
    char *copy = strdup(verdict);
    if (copy && SSL_set_ex_data(ssl, verdict_index(), copy) != 1)
        free(copy);
    return accepted;
}

static void print_alert(SSL *ssl, int alert, char *why, size_t len)
{
    const struct advice *advice = advice_of(ssl);
    bool wants_ours = !SSL_is_server(ssl) && !SSL_get_certificate(ssl) &&
                      (alert == ALERT_REQUIRED || alert == ALERT_HANDSHAKE ||
                       alert == ALERT_BAD_CERTIFICATE);
    bool settings = wants_ours && advice && advice->cert_setting[0] != '\0';
    if (alert == ALERT_VERSION)
        snprintf(why, len, "no TLS version in common: 1.2 or later is expected");
    else
        snprintf(why, len, "the other side has ended TLS with the alert \"%s\"%s%s%s",
                 SSL_alert_desc_string_long(alert),
                 wants_ours ? "; it may expect a certificate of ours" : "", settings ? ": " : "",
                 settings ? advice->cert_setting : "");
}

void tls_explain(struct ssl_st *ssl, char *why, size_t why_len)
{
    const char *verdict = SSL_get_ex_data(ssl, verdict_index());
    unsigned long code = ERR_peek_error();
    int reason = ERR_GET_REASON(code);
    bool of_ssl = code != 0 && ERR_GET_LIB(code) == ERR_LIB_SSL;
    const char *text = code != 0 ? ERR_reason_error_string(code) : NULL;
    if (verdict && SSL_get_verify_result(ssl) != X509_V_OK)
        snprintf(why, why_len, "%s", verdict);
    else if (SSL_get_verify_result(ssl) != X509_V_OK)
        snprintf(why, why_len, "%s", X509_verify_cert_error_string(SSL_get_verify_result(ssl)));
    else if (of_ssl && reason > SSL_AD_REASON_OFFSET)
        print_alert(ssl, reason - SSL_AD_REASON_OFFSET, why, why_len);
    else if (of_ssl && (reason == SSL_R_WRONG_VERSION_NUMBER || reason == SSL_R_HTTP_REQUEST))
        snprintf(why, why_len, "TLS is expected, and the other side speaks something else");
    else if (of_ssl && reason == SSL_R_UNSUPPORTED_PROTOCOL)
        snprintf(why, why_len, "no TLS version in common: 1.2 or later is expected");
    else if (text)
        snprintf(why, why_len, "TLS: %s", text);
    else
        snprintf(why, why_len, "the connection was closed");
}
