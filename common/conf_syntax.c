#include "common/conf_syntax.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/address.h"
#include "common/redis_url.h"
#include "common/text.h"
#include "common/url.h"
#include "common/url_parts.h"
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

static bool is_scheme(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (!is_alphanumeric(text[i]) && !strchr("+-.", text[i]))
            return false;
    }
    return len > 0;
}

bool conf_is_origin_rule(const char *text)
{
    char copy[320], *host = copy, *port;
    const char *scheme_end = strstr(text, "://");
    if (scheme_end && !is_scheme(text, (size_t)(scheme_end - text)))
        return false;
    const char *authority = scheme_end ? scheme_end + 3 : text;
    size_t len = strlen(authority);
    if (len >= sizeof(copy))
        return false;
    memcpy(copy, authority, len + 1);

    bool ends_in_bracket = len > 0 && copy[len - 1] == ']';
    if (!ends_in_bracket && address_cut_port(copy, &host, &port) && !address_is_port(port))
        return false;
    if (host[0] == '[')
        return address_cut_brackets(&host);
    if (strncmp(host, "*.", 2) == 0)
        host += 2;
    return address_is_name(host);
}

/* What else clients send: apps and opened files have origins of their own ("file://",
 * "capacitor://localhost"). Of http and ws only what is an origin: a path would never match. */
static bool is_literal_origin(const char *text)
{
    static const char *const web[] = {"http:", "https:", "ws:", "wss:"};
    const char *colon = strchr(text, ':');
    if (!colon || !is_scheme(text, (size_t)(colon - text)))
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
        if (!is_alphanumeric(text[i]) && (text[i] == '\0' || !strchr("!#$%&'*+-.^_`|~", text[i])))
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
    if (!colon || !is_token(text, (size_t)(colon - text)) ||
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
    const char *from = scheme_end ? scheme_end + 3 : url;
    size_t authority = strcspn(from, "/?#{");
    while (authority > 0 && from[authority - 1] != '@')
        authority--;
    *len = authority > 0 ? authority - 1 : 0;
    return authority > 0 ? from : NULL;
}

static size_t user_len_of(const char *credentials, size_t len)
{
    const char *colon = memchr(credentials, ':', len);
    return colon ? (size_t)(colon - credentials) : len;
}

/* What Basic authorization can carry (RFC 7617): escapes that are whole, no control bytes, no colon
 * in the user's name. */
static bool are_credentials(const char *text, size_t len)
{
    char decoded[CREDENTIALS_MAX + 1];
    size_t decoded_len, user_len = user_len_of(text, len);
    if (len > CREDENTIALS_MAX ||
        text_percent_decode(text, user_len, decoded, &decoded_len) != STATUS_OK ||
        decoded_len == 0 || memchr(decoded, ':', decoded_len) ||
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
    if (credentials && !are_credentials(credentials, credentials_len))
        return false;
    if (credentials)
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
    if (strlen(text) > 4096 || !conf_is_printable(text) || strchr(text, '#'))
        return false;
    if (url_template_check(text, &why) != STATUS_OK)
        return false;
    if (strstr(text, "://"))
        return has_fixed_authority(text);

    char url[4096 + 6] = "ws://";
    memcpy(url + 5, text, strlen(text) + 1);
    const char *slash = strpbrk(text, "/{");
    size_t credentials_len;
    const char *credentials = conf_url_credentials(text, &credentials_len);
    const char *colon = strchr(credentials ? text + credentials_len : text, ':');
    bool has_port = colon && (!slash || colon < slash);
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

/* ---- the usual mistakes, for messages ---- */

static const char *upstream_flaw(const char *text)
{
    const char *why;
    const char *host = strstr(text, "://");
    if (host && strncmp(text, "ws://", 5) != 0 && strncmp(text, "wss://", 6) != 0)
        return "a WebSocket URL begins with ws:// or wss://";
    if (!conf_is_printable(text))
        return "it has a space or a byte that is not ASCII: write it as %XX";
    if (strchr(text, '#'))
        return "it has a \"#\", which ends a URL: write it as %23";
    if (url_template_check(text, &why) != STATUS_OK)
        return why;
    if (!host && text[strcspn(text, ":/{")] != ':')
        return "without ws:// it needs a port";
    return NULL;
}

static const char *session_key_flaw(const char *text)
{
    const char *why;
    if (strlen(text) > SESSION_KEY_MAX)
        return "it is too long";
    if (template_names(text, "key"))
        return "{key} is the session key itself";
    return url_template_check(text, &why) == STATUS_OK ? NULL : why;
}

const char *conf_flaw(bool (*check)(const char *text), const char *text)
{
    if (check == conf_is_upstream)
        return upstream_flaw(text);
    if (check == conf_is_session_key)
        return session_key_flaw(text);
    if (check == conf_is_redis_url)
        return redis_url_flaw(text);
    return NULL;
}
