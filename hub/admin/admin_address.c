#include "admin/admin_address.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#define BACKLOG 128

/* The end of the host: what follows is ":port", "]" or nothing. NULL: malformed brackets. */
static const char *host_end(const char *address)
{
    if (address[0] != '[')
        return address + strcspn(address, ":");
    const char *bracket = strchr(address, ']');
    return bracket && (bracket[1] == ':' || bracket[1] == '\0') ? bracket : NULL;
}

static const char *port_of(const char *address)
{
    const char *end = host_end(address);
    if (end && *end == ']')
        end++;
    return end && *end == ':' ? end + 1 : NULL;
}

bool admin_address_host(const char *address, char *out, size_t size)
{
    const char *end = host_end(address);
    const char *start = address[0] == '[' ? address + 1 : address;
    const char *port = port_of(address);
    if (!end || (size_t)(end - start) >= size || (port && port[strspn(port, "0123456789")] != '\0'))
        return false;
    memcpy(out, start, (size_t)(end - start));
    out[end - start] = '\0';
    return true;
}

bool admin_host_is_loopback(const char *host)
{
    struct in_addr v4;
    struct in6_addr v6;
    if (strcasecmp(host, "localhost") == 0)
        return true;
    if (inet_pton(AF_INET, host, &v4) == 1)
        return (ntohl(v4.s_addr) >> 24) == 127;
    return inet_pton(AF_INET6, host, &v6) == 1 && IN6_IS_ADDR_LOOPBACK(&v6);
}

static enum status listen_on(const struct addrinfo *info, int *out_fd)
{
    int fd = socket(info->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return STATUS_IO;
    int on = 1;
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (bind(fd, info->ai_addr, info->ai_addrlen) == 0 && listen(fd, BACKLOG) == 0) {
        *out_fd = fd;
        return STATUS_OK;
    }
    int why = errno;
    (void)close(fd);
    errno = why;
    return STATUS_IO;
}

enum status admin_address_listen(const char *address, int *out_fd)
{
    char host[256];
    const char *port = port_of(address);
    if (!port || *port == '\0' || !admin_address_host(address, host, sizeof(host)))
        return STATUS_INVALID;
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    struct addrinfo *found = NULL;
    if (getaddrinfo(host[0] != '\0' ? host : NULL, port, &hints, &found) != 0)
        return STATUS_INVALID;
    enum status status = listen_on(found, out_fd);
    int why = errno;
    freeaddrinfo(found);
    errno = why;
    return status;
}

void admin_address_bound(int fd, char *out, size_t size)
{
    struct sockaddr_storage address = {0};
    socklen_t len = sizeof(address);
    char host[INET6_ADDRSTRLEN] = "?";
    char port[8] = "0";
    if (getsockname(fd, (struct sockaddr *)&address, &len) == 0)
        (void)getnameinfo((struct sockaddr *)&address, len, host, sizeof(host), port, sizeof(port),
                          NI_NUMERICHOST | NI_NUMERICSERV);
    (void)snprintf(out, size, address.ss_family == AF_INET6 ? "[%s]:%s" : "%s:%s", host, port);
}
