#include "common/conf_syntax.h"

#include <arpa/inet.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/redis_url.h"
#include "common/text.h"
#include "common/url.h"
#include "common/url_template.h"

static bool is_alphanumeric(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

bool conf_is_name(const char *text)
{
    return text_is_name(text, strlen(text));
}

bool conf_is_printable(const char *text)
{
    for (const char *c = text; *c != '\0'; c++) {
        if (*c <= ' ' || *c > '~')
            return false;
    }
    return true;
}

static bool is_ip4(const char *text)
{
    struct in_addr address;
    return inet_pton(AF_INET, text, &address) == 1;
}

static bool is_ip6(const char *text)
{
    struct in6_addr address;
    return inet_pton(AF_INET6, text, &address) == 1;
}

/* A host name, or an IPv4 address: what is all digits and dots has to be a right one. */
static bool is_host(const char *text)
{
    size_t len = strlen(text);
    if (len == 0 || len > 253 || text[0] == '.' || text[0] == '-')
        return false;
    for (size_t i = 0; i < len; i++) {
        if (!is_alphanumeric(text[i]) && text[i] != '.' && text[i] != '-' && text[i] != '_')
            return false;
    }
    return strspn(text, "0123456789.") < len || is_ip4(text);
}

bool conf_is_host(const char *text)
{
    return is_host(text) || is_ip6(text);
}

static bool is_port(const char *text)
{
    size_t digits = strspn(text, "0123456789");
    return digits > 0 && digits <= 5 && text[digits] == '\0' &&
           strtoul(text, NULL, 10) <= UINT16_MAX;
}

/* Cuts "host:port" or "[v6]:port" in place at the last colon; false where it has none. */
static bool cut_port(char *text, char **host, char **port)
{
    char *colon = strrchr(text, ':');
    if (colon == NULL)
        return false;
    *colon = '\0';
    *host = text;
    *port = colon + 1;
    return true;
}

/* Takes the brackets off in place; false where there are none or they hold no IPv6 address. */
static bool cut_brackets(char **host)
{
    size_t len = strlen(*host);
    if (len < 2 || (*host)[0] != '[' || (*host)[len - 1] != ']')
        return false;
    (*host)[len - 1] = '\0';
    (*host)++;
    return is_ip6(*host);
}

static bool copy_into(const char *text, char out[320])
{
    size_t len = strlen(text);
    if (len >= 320)
        return false;
    memcpy(out, text, len + 1);
    return true;
}

bool conf_is_address(const char *text)
{
    char copy[320], *host, *port;
    if (!copy_into(text, copy) || !cut_port(copy, &host, &port) || !is_port(port))
        return false;
    return cut_brackets(&host) || is_host(host);
}

bool conf_is_loopback_host(const char *host, size_t len)
{
    char text[INET6_ADDRSTRLEN];
    if (len == 9 && strncasecmp(host, "localhost", len) == 0)
        return true;
    if (len >= sizeof(text))
        return false;
    memcpy(text, host, len);
    text[len] = '\0';
    struct in_addr four;
    struct in6_addr six;
    if (inet_pton(AF_INET, text, &four) == 1)
        return ntohl(four.s_addr) >> 24 == 127;
    return inet_pton(AF_INET6, text, &six) == 1 &&
           memcmp(&six, &in6addr_loopback, sizeof(six)) == 0;
}

bool conf_is_loopback(const char *text)
{
    char copy[320], *host, *port;
    if (!copy_into(text, copy) || !cut_port(copy, &host, &port))
        return false;
    cut_brackets(&host);
    return conf_is_loopback_host(host, strlen(host));
}

bool conf_is_network(const char *text)
{
    char copy[320];
    if (!copy_into(text, copy))
        return false;
    char *slash = strchr(copy, '/');
    if (slash == NULL)
        return is_ip4(copy) || is_ip6(copy);
    *slash = '\0';
    const char *bits = slash + 1;
    size_t digits = strspn(bits, "0123456789");
    if (digits == 0 || digits > 3 || bits[digits] != '\0')
        return false;
    return (is_ip4(copy) && strtoul(bits, NULL, 10) <= 32) ||
           (is_ip6(copy) && strtoul(bits, NULL, 10) <= 128);
}

static bool is_scheme(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (!is_alphanumeric(text[i]) && strchr("+-.", text[i]) == NULL)
            return false;
    }
    return len > 0;
}

bool conf_is_origin_rule(const char *text)
{
    char copy[320], *host = copy, *port;
    const char *scheme_end = strstr(text, "://");
    if (scheme_end != NULL && !is_scheme(text, (size_t)(scheme_end - text)))
        return false;
    if (!copy_into(scheme_end == NULL ? text : scheme_end + 3, copy))
        return false;

    size_t len = strlen(copy);
    bool ends_in_bracket = len > 0 && copy[len - 1] == ']';
    if (!ends_in_bracket && cut_port(copy, &host, &port) && !is_port(port))
        return false;
    if (host[0] == '[')
        return cut_brackets(&host);
    if (strncmp(host, "*.", 2) == 0)
        host += 2;
    return is_host(host);
}

/* What else clients send: apps and opened files have origins of their own ("file://",
 * "capacitor://localhost"). Of http and ws only what is an origin: a path would never match. */
static bool is_literal_origin(const char *text)
{
    static const char *const web[] = {"http:", "https:", "ws:", "wss:"};
    const char *colon = strchr(text, ':');
    if (colon == NULL || !is_scheme(text, (size_t)(colon - text)))
        return false;
    for (size_t i = 0; i < sizeof(web) / sizeof(web[0]); i++) {
        if (strncasecmp(text, web[i], strlen(web[i])) == 0)
            return false;
    }
    for (const char *c = text; *c != '\0'; c++) {
        if ((unsigned char)*c <= ' ' || *c == 0x7f)
            return false;
    }
    return true;
}

bool conf_is_origin(const char *text)
{
    return strcmp(text, "null") == 0 || conf_is_origin_rule(text) || is_literal_origin(text);
}

#define CREDENTIALS_MAX 512 /* of user and password in a URL, as written */

/* RFC 9110 section 5.6.2: token. */
static bool is_token(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (!is_alphanumeric(text[i]) &&
            (text[i] == '\0' || strchr("!#$%&'*+-.^_`|~", text[i]) == NULL))
            return false;
    }
    return len > 0;
}

/* What the handshake sets itself, and what speaks of one hop only (RFC 9110 section 7.6.1). */
static bool is_own_header(const char *name, size_t len)
{
    static const char *const own[] = {
        "host", "connection", "upgrade",    "content-length",   "transfer-encoding",
        "te",   "trailer",    "keep-alive", "proxy-connection", "proxy-authorization"};
    for (size_t i = 0; i < sizeof(own) / sizeof(own[0]); i++) {
        if (strlen(own[i]) == len && strncasecmp(own[i], name, len) == 0)
            return true;
    }
    return strncasecmp(name, "sec-websocket-", 14) == 0;
}

bool conf_is_header(const char *text)
{
    const char *colon = strstr(text, ": ");
    if (colon == NULL || !is_token(text, (size_t)(colon - text)) ||
        is_own_header(text, (size_t)(colon - text)))
        return false;
    for (const char *c = colon + 2; *c != '\0'; c++) {
        if (((unsigned char)*c < ' ' && *c != '\t') || *c == 0x7f)
            return false;
    }
    return true;
}

const char *conf_url_credentials(const char *url, size_t *len)
{
    const char *scheme_end = strstr(url, "://");
    const char *from = scheme_end == NULL ? url : scheme_end + 3;
    size_t authority = strcspn(from, "/?#{");
    while (authority > 0 && from[authority - 1] != '@')
        authority--;
    *len = authority > 0 ? authority - 1 : 0;
    return authority > 0 ? from : NULL;
}

static size_t user_len_of(const char *credentials, size_t len)
{
    const char *colon = memchr(credentials, ':', len);
    return colon == NULL ? len : (size_t)(colon - credentials);
}

/* What Basic authorization can carry (RFC 7617): escapes that are whole, no control bytes, no colon
 * in the user's name. */
static bool are_credentials(const char *text, size_t len)
{
    char decoded[CREDENTIALS_MAX + 1];
    size_t decoded_len, user_len = user_len_of(text, len);
    if (len > CREDENTIALS_MAX ||
        text_percent_decode(text, user_len, decoded, &decoded_len) != STATUS_OK ||
        decoded_len == 0 || memchr(decoded, ':', decoded_len) != NULL ||
        text_percent_decode(text, len, decoded, &decoded_len) != STATUS_OK)
        return false;
    for (size_t i = 0; i < decoded_len; i++) {
        if ((unsigned char)decoded[i] < ' ' || decoded[i] == 0x7f)
            return false;
    }
    return true;
}

/* The authority must stand in the template as it is: what a browser sends may not choose the host.
 */
static bool has_fixed_authority(const char *text)
{
    const char *from = strstr(text, "://") + 3;
    char authority[320];
    size_t credentials_len, scheme_len = (size_t)(from - text);
    const char *credentials = conf_url_credentials(text, &credentials_len);
    if (credentials != NULL && !are_credentials(credentials, credentials_len))
        return false;
    if (credentials != NULL)
        from += credentials_len + 1;
    size_t host_len = strcspn(from, "/?#{"), len = scheme_len + host_len;
    if (len >= sizeof(authority))
        return false;
    memcpy(authority, text, scheme_len);
    memcpy(authority + scheme_len, from, host_len);
    authority[len] = '\0';

    struct url_parts parts;
    if (url_split(authority, &parts) != STATUS_OK)
        return false;
    const char *rest = from + host_len;
    return *rest == '\0' || *rest == '/' || strncmp(rest, "{path}", 6) == 0;
}

bool conf_is_upstream(const char *text)
{
    const char *why;
    if (strlen(text) > 4096 || !conf_is_printable(text) || strchr(text, '#') != NULL)
        return false;
    if (url_template_check(text, &why) != STATUS_OK)
        return false;
    if (strstr(text, "://") != NULL)
        return has_fixed_authority(text);

    char url[4096 + 6] = "ws://";
    memcpy(url + 5, text, strlen(text) + 1);
    const char *slash = strpbrk(text, "/{");
    size_t credentials_len;
    const char *credentials = conf_url_credentials(text, &credentials_len);
    const char *colon = strchr(credentials == NULL ? text : text + credentials_len, ':');
    bool has_port = colon != NULL && (slash == NULL || colon < slash);
    return has_port && has_fixed_authority(url);
}

bool conf_is_session_key(const char *text)
{
    const char *why;
    if (strlen(text) > SESSION_KEY_MAX || url_template_check(text, &why) != STATUS_OK)
        return false;
    return !template_names(text, "key");
}

bool conf_is_redis_url(const char *text)
{
    struct redis_url url;
    return redis_url_parse(text, &url) == STATUS_OK;
}
