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

enum { FILE_CA, FILE_CERT, FILE_KEY, FILES };

/* TLS alerts (RFC 8446 section 6) that a server sends which misses a certificate of ours. */
enum { ALERT_HANDSHAKE = 40, ALERT_BAD_CERTIFICATE = 42, ALERT_VERSION = 70, ALERT_REQUIRED = 116 };

struct tls_context {
    SSL_CTX *ssl;
    char *files[FILES]; /* of a client; "" where there is none */
    char *name;
    const char *name_setting, *cert_setting; /* "": there is none */
    struct stamp {
        struct timespec changed_at;
        dev_t device;
        ino_t inode;
    } stamps[FILES]; /* of what was read last */
};

/* Hangs on an SSL_CTX, which may outlive the context. */
struct advice {
    char *ca;
    const char *name_setting, *cert_setting;
};

static const char *text_or_none(const char *text)
{
    return text ? text : "";
}

/* --- the words --- */

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

/* Where an SSL has the words for a certificate that was not accepted. */
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

/* "a.example, *.b.example, 10.0.0.1": whom a certificate is for. */
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
    snprintf(out, len, "%s", name ? name : text_or_none(address));
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

/* The certificate is at hand only here: a failed handshake forgets it. */
static int on_verify(int accepted, X509_STORE_CTX *store)
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

/* --- files --- */

/* Without it OpenSSL asks the terminal. */
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
             reason ? reason : "there is none in it");
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
        snprintf(why, why_len, "%s: expected a PEM file with a private key: there is none in it",
                 path);
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
        snprintf(why, why_len, "%s: expected a PEM file with certificates: there is none in it",
                 path);
        return false;
    }
    /* Who names an intermediate, or the server's own certificate, trusts just that. */
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

static bool set_advice(SSL_CTX *ssl, const struct tls_context *context)
{
    struct advice *advice = calloc(1, sizeof(*advice));
    if (!advice)
        abort();
    *advice = (struct advice){.ca = strdup(context->files[FILE_CA]),
                              .name_setting = context->name_setting,
                              .cert_setting = context->cert_setting};
    return SSL_CTX_set_ex_data(ssl, advice_index(), advice) == 1;
}

/* Reads the files. NULL: why says which one, and what is wrong with it. */
static SSL_CTX *read_client(const struct tls_context *context, char *why, size_t why_len)
{
    ERR_clear_error();
    SSL_CTX *ssl = ssl_new(TLS_client_method());
    if (!ssl || !set_advice(ssl, context))
        abort();
    SSL_CTX_set_verify(ssl, SSL_VERIFY_PEER, on_verify);
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

/* What shows that a file is another one: Kubernetes swaps a link to the folder of all of them. */
static void note_changes(const struct tls_context *context, struct stamp stamps[FILES])
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

/* A pair that is replaced file by file does not fit for a moment: it is read again when the other
 * one has changed, too. */
static void freshen(struct tls_context *context)
{
    struct stamp stamps[FILES];
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
        expected[len - 1] = '\0'; /* it is for the resolver only */
    if (ssl && expect_host(ssl, expected))
        return ssl;
    SSL_free(ssl);
    return NULL;
}
