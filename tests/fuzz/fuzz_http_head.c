/*
 * The head of a request of a hostile peer: its end is found wherever it is cut, its parts lie
 * within it, and what is read out of them (the client's address, the Origin, the offers of
 * extensions) keeps to its rules.
 */
#include <arpa/inet.h>
#include <assert.h>
#include <regex.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/address.h"
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
    assert(admit);
    return admit;
}

static struct in6_addr v4(uint32_t address)
{
    struct in6_addr out = {.s6_addr = {[10] = 0xff, [11] = 0xff}};
    address = htonl(address);
    memcpy(out.s6_addr + 12, &address, sizeof(address));
    return out;
}

/* Only a trusted proxy is believed, and only the address that it appended itself. */
static void check_address(const struct admit *admit, const struct http_head *head)
{
    const struct in6_addr stranger = v4(0xc0000201), proxy = v4(0x7f000001),
                          true_one = v4(0xc000024d);
    struct in6_addr client = admit_client(admit, &stranger, head);
    assert(memcmp(&client, &stranger, sizeof(client)) == 0);
    client = admit_client(admit, &proxy, head);
    char text[INET6_ADDRSTRLEN];
    address_print(&client, text);
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

/* Whether the rules of make_admit allow the origin; a rule's own text is always allowed. */
static bool fits_a_rule(const char *origin)
{
    static const char *const patterns[] = {"^https://app\\.example(:[0-9]+)?$",
                                           "^[-a-z0-9+.]+://[^/:@]+\\.below\\.example(:[0-9]+)?$",
                                           "^http://port\\.example:0*8080$"};
    static regex_t made[3];
    static bool is_made;
    bool fits = strcmp(origin, "*.below.example") == 0;
    for (size_t i = 0; i < 3; i++) {
        if (!is_made && regcomp(&made[i], patterns[i], REG_EXTENDED | REG_NOSUB | REG_ICASE) != 0)
            abort();
        fits = fits || regexec(&made[i], origin, 0, NULL, 0) == 0;
    }
    is_made = true;
    return fits;
}

static void check_origin(const struct admit *admit, const struct http_head *head)
{
    size_t index = 0;
    struct http_text origin;
    while (http_head_next(head, "origin", &index, &origin)) {
        char *text = strndup(origin.at, origin.len);
        if (admit_origin(admit, &origin))
            assert(strlen(text) == origin.len && fits_a_rule(text));
        free(text);
    }
}

/* --- offers of extensions, by regular expressions --- */

#define TOKEN "[-A-Za-z0-9!#$%&'*+.^_`|~]+"
#define AND   "[ \t]*;[ \t]*"
#define IS    "[ \t]*=[ \t]*"
#define BITS  "(8|9|1[0-5]|\"8\"|\"9\"|\"1[0-5]\")"

enum head_pattern { EXTENSION, FITTING, PATTERNS };

static bool matches(enum head_pattern pattern, const char *text)
{
    static const char *const patterns[PATTERNS] = {
        [EXTENSION] = "^" TOKEN "(" AND TOKEN "(" IS "(" TOKEN "|\"" TOKEN "\"))?)*$",
        [FITTING] = "^permessage-deflate(" AND
                    "(server_no_context_takeover|client_no_context_takeover|"
                    "server_max_window_bits" IS BITS "|client_max_window_bits(" IS BITS ")?))*$",
    };
    static regex_t made[PATTERNS];
    static bool is_made[PATTERNS];
    if (!is_made[pattern] &&
        regcomp(&made[pattern], patterns[pattern], REG_EXTENDED | REG_NOSUB | REG_ICASE) != 0)
        abort();
    is_made[pattern] = true;
    return regexec(&made[pattern], text, 0, NULL, 0) == 0;
}

/* Each parameter at most once. */
static bool is_once(const char *offer)
{
    static const char *const names[] = {"server_no", "client_no", "server_max", "client_max"};
    for (size_t i = 0; i < 4; i++) {
        const char *at = strcasestr(offer, names[i]);
        if (at && strcasestr(at + 1, names[i]))
            return false;
    }
    return true;
}

struct agreed {
    bool malformed, named;
    unsigned bits;
};

static void hear_extension(struct agreed *agreed, char *text)
{
    text += strspn(text, " \t");
    for (size_t len = strlen(text); len > 0 && strchr(" \t", text[len - 1]); len--)
        text[len - 1] = '\0';
    if (*text == '\0')
        return;
    agreed->malformed = agreed->malformed || !matches(EXTENSION, text);
    if (agreed->bits != 0 || !matches(FITTING, text) || !is_once(text))
        return;
    const char *bits = strcasestr(text, "server_max_window_bits");
    agreed->named = bits != NULL;
    agreed->bits = bits ? (unsigned)strtoul(bits + strcspn(bits, "0123456789"), NULL, 10) : 15;
}

/* The first offer that fits is agreed on, with the window that it asks for. */
static void check_offers(const struct http_head *head)
{
    struct agreed agreed = {0};
    struct http_text value;
    for (size_t index = 0; http_head_next(head, "sec-websocket-extensions", &index, &value);) {
        char *list = strndup(value.at, value.len), *rest = list, *item;
        while ((item = strsep(&rest, ",")) != NULL)
            hear_extension(&agreed, item);
        free(list);
    }
    struct deflate_terms terms;
    enum status status = deflate_negotiate(head, &terms);
    assert(status == (agreed.malformed ? STATUS_INVALID : STATUS_OK));
    if (status != STATUS_OK)
        return;
    char answer[160] = "", bits[40] = "";
    if (agreed.named)
        snprintf(bits, sizeof(bits), "; server_max_window_bits=%u", agreed.bits);
    if (agreed.bits != 0)
        snprintf(answer, sizeof(answer),
                 "permessage-deflate; server_no_context_takeover; client_no_context_takeover%s",
                 bits);
    assert(terms.window_bits == agreed.bits && strcmp(terms.answer, answer) == 0);
}

static void check_parts(const struct http_head *head)
{
    static struct admit *admit;
    if (!admit)
        admit = make_admit();
    check_address(admit, head);
    check_origin(admit, head);
    check_offers(head);
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
