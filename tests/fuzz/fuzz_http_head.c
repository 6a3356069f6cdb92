/*
 * The head of a request of a hostile peer: its end is found wherever it is cut, its parts lie
 * within it, and what is read out of them (the client's address, the Origin, the offers of
 * extensions) keeps to its rules.
 */
#include <arpa/inet.h>
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "front/front_private.h"
#include "fuzz.h"

static void within(struct http_text text, const char *bytes, size_t len)
{
    assert(text.at >= bytes && text.at + text.len <= bytes + len);
}

static struct admit *make_admit(void)
{
    static char texts[][32] = {"127.0.0.0/8",     "10.0.0.0/9",
                               "2001:db8::/33",   "https://app.example",
                               "*.below.example", "http://port.example:8080"};
    static char *proxies[] = {texts[0], texts[1], texts[2]},
                *origins[] = {texts[3], texts[4], texts[5]};
    struct conf conf = {.origins = origins, .origins_len = 3};
    conf.listen.trusted_proxies = proxies;
    conf.listen.trusted_proxies_len = 3;
    char why[128];
    struct admit *admit = admit_new(&conf, why, sizeof(why));
    assert(admit != NULL);
    return admit;
}

static struct in6_addr v4(uint32_t address)
{
    struct in6_addr out = {.s6_addr = {[10] = 0xff, [11] = 0xff}};
    address = htonl(address);
    memcpy(out.s6_addr + 12, &address, sizeof(address));
    return out;
}

/* Nobody but a trusted proxy is believed, and what that one says itself counts, whatever stands
 * before it. */
static void check_address(const struct admit *admit, const struct http_head *head)
{
    const struct in6_addr stranger = v4(0xc0000201), proxy = v4(0x7f000001),
                          true_one = v4(0xc000024d);
    struct in6_addr client = admit_client(admit, &stranger, head);
    assert(memcmp(&client, &stranger, sizeof(client)) == 0);
    client = admit_client(admit, &proxy, head);
    char text[INET6_ADDRSTRLEN];
    admit_print(&client, text);
    assert(text[0] != '\0');
    static struct http_head more;
    if (head->len == HTTP_FIELDS_MAX)
        return;
    more = *head;
    more.names[more.len] = (struct http_text){"X-Forwarded-For", 15};
    more.values[more.len++] = (struct http_text){"192.0.2.77", 10};
    client = admit_client(admit, &proxy, &more);
    assert(memcmp(&client, &true_one, sizeof(client)) == 0);
}

static bool ends_with(struct http_text text, const char *end)
{
    size_t len = strlen(end);
    return text.len >= len && strncasecmp(text.at + text.len - len, end, len) == 0;
}

static void check_origin(const struct admit *admit, const struct http_head *head)
{
    size_t index = 0;
    struct http_text origin;
    while (http_head_next(head, "origin", &index, &origin)) {
        if (!admit_origin(admit, &origin))
            continue;
        const char *slashes = memmem(origin.at, origin.len, "://", 3);
        struct http_text host = origin;
        if (slashes != NULL)
            host = (struct http_text){slashes + 3, origin.len - (size_t)(slashes + 3 - origin.at)};
        const char *bracket = memchr(host.at, ']', host.len),
                   *from = bracket == NULL ? host.at : bracket,
                   *colon = memchr(from, ':', host.len - (size_t)(from - host.at));
        if (colon != NULL)
            host.len = (size_t)(colon - host.at);
        assert(ends_with(host, "app.example") || ends_with(host, ".below.example") ||
               ends_with(host, "port.example"));
    }
}

static void check_parts(const struct http_head *head)
{
    static struct admit *admit;
    if (admit == NULL)
        admit = make_admit();
    check_address(admit, head);
    check_origin(admit, head);
    struct deflate_terms terms;
    if (deflate_negotiate(head, &terms) == STATUS_OK)
        assert(terms.window_bits == 0
                   ? terms.answer[0] == '\0'
                   : terms.window_bits >= 8 && terms.window_bits <= DEFLATE_BITS_MAX &&
                         strstr(terms.answer, "permessage-deflate") == terms.answer);
    http_head_lists(head, "connection", "upgrade");
    struct http_text key;
    char accept[WS_ACCEPT_SIZE];
    if (http_head_one(head, "sec-websocket-key", &key)) {
        ws_accept_key(key, accept);
        assert(strlen(accept) == WS_ACCEPT_SIZE - 1);
    }
}

static void check_end(const char *bytes, size_t len, size_t end)
{
    for (size_t from = 0; from < len && from < 64; from++) {
        size_t first = http_head_end(bytes, from, 0);
        assert(first == 0 || first == end);
        if (first == 0)
            assert(http_head_end(bytes, len, from) == end);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    char *bytes = fuzz_copy((struct slice){(const char *)data, len});
    size_t end = http_head_end(bytes, len, 0);
    check_end(bytes, len, end);

    static struct http_head head;
    if (end > 0 && http_head_parse(bytes, end, &head) == STATUS_OK) {
        for (size_t i = 0; i < 3; i++)
            within(head.start[i], bytes, end);
        for (size_t i = 0; i < head.len; i++) {
            within(head.names[i], bytes, end);
            within(head.values[i], bytes, end);
            struct http_text rest = head.values[i], item;
            while (http_list_next(&rest, &item))
                within(item, bytes, end);
        }
        check_parts(&head);
    }
    free(bytes);
    return 0;
}
