#include "common/address.h"

#include <arpa/inet.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static bool is_alphanumeric(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
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

bool address_is_name(const char *text)
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

bool address_is_host(const char *text)
{
    return address_is_name(text) || is_ip6(text);
}

bool address_is_port(const char *text)
{
    size_t digits = strspn(text, "0123456789");
    return digits > 0 && digits <= 5 && text[digits] == '\0' &&
           strtoul(text, NULL, 10) <= UINT16_MAX;
}

bool address_cut_port(char *text, char **host, char **port)
{
    char *colon = strrchr(text, ':');
    if (!colon)
        return false;
    *colon = '\0';
    *host = text;
    *port = colon + 1;
    return true;
}

bool address_cut_brackets(char **host)
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

bool address_is_host_and_port(const char *text)
{
    char copy[320], *host, *port;
    if (!copy_into(text, copy) || !address_cut_port(copy, &host, &port) || !address_is_port(port))
        return false;
    return address_cut_brackets(&host) || address_is_name(host);
}

bool address_is_loopback_host(const char *host, size_t len)
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

bool address_is_loopback(const char *text)
{
    char copy[320], *host, *port;
    if (!copy_into(text, copy) || !address_cut_port(copy, &host, &port))
        return false;
    address_cut_brackets(&host);
    return address_is_loopback_host(host, strlen(host));
}

bool address_is_network(const char *text)
{
    char copy[320];
    if (!copy_into(text, copy))
        return false;
    char *slash = strchr(copy, '/');
    if (!slash)
        return is_ip4(copy) || is_ip6(copy);
    *slash = '\0';
    const char *bits = slash + 1;
    size_t digits = strspn(bits, "0123456789");
    if (digits == 0 || digits > 3 || bits[digits] != '\0')
        return false;
    return (is_ip4(copy) && strtoul(bits, NULL, 10) <= 32) ||
           (is_ip6(copy) && strtoul(bits, NULL, 10) <= 128);
}

bool address_parse(const char *text, struct in6_addr *out)
{
    struct in_addr v4;
    if (inet_pton(AF_INET, text, &v4) != 1)
        return inet_pton(AF_INET6, text, out) == 1;
    memset(out, 0, sizeof(*out));
    out->s6_addr[10] = out->s6_addr[11] = 0xff;
    memcpy(out->s6_addr + 12, &v4, sizeof(v4));
    return true;
}

void address_print(const struct in6_addr *address, char out[INET6_ADDRSTRLEN])
{
    if (IN6_IS_ADDR_V4MAPPED(address))
        inet_ntop(AF_INET, address->s6_addr + 12, out, INET6_ADDRSTRLEN);
    else
        inet_ntop(AF_INET6, address, out, INET6_ADDRSTRLEN);
}
