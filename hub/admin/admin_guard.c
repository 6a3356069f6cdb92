/*
 * Access to the admin port. The checks of Host and Origin protect against pages of other sites in
 * an operator's browser (DNS rebinding, cross-site requests), the token against everybody else.
 */
#include <arpa/inet.h>
#include <event2/bufferevent.h>
#include <netinet/in.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include "admin/admin_address.h"
#include "admin/admin_private.h"

static const char *header_of(struct evhttp_request *req, const char *name)
{
    return evhttp_find_header(evhttp_request_get_input_headers(req), name);
}

/* Whether host is the local address of this connection. */
static bool is_local_address(struct evhttp_request *req, const char *host)
{
    struct evhttp_connection *http = evhttp_request_get_connection(req);
    struct bufferevent *bev = http ? evhttp_connection_get_bufferevent(http) : NULL;
    struct sockaddr_storage address = {0};
    socklen_t len = sizeof(address);
    if (!bev || getsockname(bufferevent_getfd(bev), (struct sockaddr *)&address, &len) != 0)
        return false;
    char text[INET6_ADDRSTRLEN] = "";
    if (address.ss_family == AF_INET)
        (void)inet_ntop(AF_INET, &((struct sockaddr_in *)&address)->sin_addr, text, sizeof(text));
    else if (address.ss_family == AF_INET6)
        (void)inet_ntop(AF_INET6, &((struct sockaddr_in6 *)&address)->sin6_addr, text,
                        sizeof(text));
    const char *plain = strncmp(text, "::ffff:", 7) == 0 && strchr(text, '.') ? text + 7 : text;
    return strcmp(plain, host) == 0;
}

static bool is_own_name(const struct admin *admin, const char *host)
{
    char name[256];
    char configured[256];
    if (gethostname(name, sizeof(name)) == 0 && strcasecmp(name, host) == 0)
        return true;
    return admin_address_host(admin->conf->admin.address, configured, sizeof(configured)) &&
           strcasecmp(configured, host) == 0;
}

bool admin_guard_host(const struct admin *admin, struct evhttp_request *req)
{
    if (admin->conf->admin.token[0] != '\0')
        return true;
    char host[256];
    const char *header = header_of(req, "Host");
    if (header && admin_address_host(header, host, sizeof(host)) &&
        (admin_host_is_loopback(host) || is_local_address(req, host) || is_own_name(admin, host)))
        return true;
    admin_reply_error(
        req, 403,
        "Host: expected a loopback name or this node's own address; another name needs "
        "admin.token");
    return false;
}

bool admin_guard_origin(struct evhttp_request *req)
{
    const char *origin = header_of(req, "Origin");
    if (!origin)
        return true;
    const char *host = header_of(req, "Host");
    const char *authority = strstr(origin, "://");
    if (host && authority && strncasecmp(origin, "http", 4) == 0 &&
        strcasecmp(authority + 3, host) == 0)
        return true;
    admin_reply_error(req, 403, "Origin: expected this admin port, got another site");
    return false;
}

/* The time that this takes does not depend on where the first difference is. */
static bool same_secret(const char *a, const char *secret)
{
    size_t a_len = strlen(a);
    size_t secret_len = strlen(secret);
    volatile unsigned char difference = a_len != secret_len;
    for (size_t i = 0; i < a_len; i++)
        difference |= (unsigned char)(a[i] ^ secret[secret_len ? i % secret_len : 0]);
    return difference == 0;
}

bool admin_guard_token(const struct admin *admin, struct evhttp_request *req)
{
    const char *token = admin->conf->admin.token;
    if (token[0] == '\0')
        return true;
    const char *header = header_of(req, "Authorization");
    if (header && strncasecmp(header, "Bearer ", 7) == 0 && same_secret(header + 7, token))
        return true;
    (void)evhttp_add_header(evhttp_request_get_output_headers(req), "WWW-Authenticate", "Bearer");
    admin_reply_error(req, 401,
                      header ? "Authorization: expected Bearer and the admin token, got another one"
                             : "expected the header Authorization: Bearer TOKEN");
    return false;
}
