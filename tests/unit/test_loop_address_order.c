/* The order of a name's addresses: RFC 6724 section 6, with the examples of its section 10.2. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <string.h>

#include "loop/address_order.h"

#define ADDRESSES_MAX 4

/* A destination, and the source address for it; NULL: it can't be reached. */
struct way {
    const char *to, *from;
};

static const struct way *ways;

static union resolve_address address_of(const char *text)
{
    union resolve_address address;
    memset(&address, 0, sizeof(address));
    if (strchr(text, ':')) {
        address.v6.sin6_family = AF_INET6;
        assert_int_equal(inet_pton(AF_INET6, text, &address.v6.sin6_addr), 1);
    } else {
        address.v4.sin_family = AF_INET;
        assert_int_equal(inet_pton(AF_INET, text, &address.v4.sin_addr), 1);
    }
    return address;
}

static const char *text_of(const union resolve_address *address, char out[INET6_ADDRSTRLEN])
{
    if (address->any.sa_family == AF_INET6)
        return inet_ntop(AF_INET6, &address->v6.sin6_addr, out, INET6_ADDRSTRLEN);
    return inet_ntop(AF_INET, &address->v4.sin_addr, out, INET6_ADDRSTRLEN);
}

static bool source(const union resolve_address *to, union resolve_address *from)
{
    char text[INET6_ADDRSTRLEN];
    text_of(to, text);
    const struct way *way = ways;
    while (strcmp(way->to, text) != 0)
        way++;
    if (way->from)
        *from = address_of(way->from);
    return way->from != NULL;
}

/* The ways stand in the order that is expected. They are sorted from that order and from the
 * reverse. */
static void assert_order(const struct way *expected, size_t len)
{
    ways = expected;
    for (int reverse = 0; reverse < 2; reverse++) {
        union resolve_address addresses[ADDRESSES_MAX];
        for (size_t i = 0; i < len; i++)
            addresses[i] = address_of(expected[reverse ? len - 1 - i : i].to);
        address_order_by(addresses, len, source);
        for (size_t i = 0; i < len; i++) {
            char text[INET6_ADDRSTRLEN];
            assert_string_equal(text_of(&addresses[i], text), expected[i].to);
        }
    }
}
#define ASSERT_ORDER(...)                                               \
    do {                                                                \
        const struct way expected[] = {__VA_ARGS__};                    \
        assert_order(expected, sizeof(expected) / sizeof(expected[0])); \
    } while (0)

static void what_can_not_be_reached_goes_last(void **state)
{
    (void)state;
    ASSERT_ORDER({"192.0.2.1", "192.0.2.9"}, {"2001:db8:1::1", NULL});
    ASSERT_ORDER({"2001:db8:1::1", "2001:db8:1::2"}, {"192.0.2.1", NULL});
    ASSERT_ORDER({"fc00::1", "fc00::2"}, {"::1", NULL}, {"127.0.0.1", NULL});
}

static void source_and_destination_of_one_scope_go_first(void **state)
{
    (void)state;
    ASSERT_ORDER({"2001:db8:1::1", "2001:db8:1::2"}, {"198.51.100.121", "169.254.13.78"});
    ASSERT_ORDER({"198.51.100.121", "198.51.100.117"}, {"2001:db8:1::1", "fe80::1"});
}

static void source_and_destination_of_one_label_go_first(void **state)
{
    (void)state;
    ASSERT_ORDER({"2002:c633:6401::1", "2002:c633:6401::2"},
                 {"2001:db8:1::1", "2002:c633:6401::2"});
    /* With a local IPv6 address (fd00::/8) alone a machine can't reach the Internet by IPv6. */
    ASSERT_ORDER({"192.0.2.1", "192.0.2.9"}, {"2001:db8:1::1", "fd00::2"});
}

static void the_higher_precedence_goes_first(void **state)
{
    (void)state;
    ASSERT_ORDER({"2001:db8:1::1", "2001:db8:1::2"}, {"10.1.2.3", "10.1.2.4"});
    ASSERT_ORDER({"2001:db8:1::1", "2001:db8:1::2"}, {"2002:c633:6401::1", "2002:c633:6401::2"});
    ASSERT_ORDER({"192.0.2.1", "192.0.2.9"}, {"2001::1", "2001::2"}, {"fd00::1", "fd00::2"});
    ASSERT_ORDER({"::1", "::1"}, {"127.0.0.1", "127.0.0.1"});
}

static void the_smaller_scope_goes_first(void **state)
{
    (void)state;
    ASSERT_ORDER({"fe80::1", "fe80::2"}, {"2001:db8:1::1", "2001:db8:1::2"});
    ASSERT_ORDER({"127.0.0.1", "127.0.0.1"}, {"192.0.2.1", "192.0.2.9"});
}

static void the_longer_common_prefix_goes_first_but_for_ipv4(void **state)
{
    (void)state;
    ASSERT_ORDER({"2001:db8:1::1", "2001:db8:1::2"}, {"2001:db8:3ffe::1", "2001:db8:3f44::2"});

    static const struct way by_server[] = {{"198.51.100.9", "10.0.0.1"}, {"10.0.0.2", "10.0.0.1"}};
    ways = by_server;
    union resolve_address addresses[] = {address_of("198.51.100.9"), address_of("10.0.0.2")};
    char text[INET6_ADDRSTRLEN];
    address_order_by(addresses, 2, source);
    assert_string_equal(text_of(&addresses[0], text), "198.51.100.9");
}

static void what_is_equal_keeps_its_order(void **state)
{
    (void)state;
    static const struct way equal[] = {
        {"192.0.2.3", "192.0.2.9"}, {"192.0.2.1", "192.0.2.9"}, {"192.0.2.2", "192.0.2.9"}};
    ways = equal;
    union resolve_address addresses[3];
    for (size_t i = 0; i < 3; i++)
        addresses[i] = address_of(equal[i].to);
    address_order_by(addresses, 3, source);
    for (size_t i = 0; i < 3; i++) {
        char text[INET6_ADDRSTRLEN];
        assert_string_equal(text_of(&addresses[i], text), equal[i].to);
    }
    address_order_by(addresses, 0, source);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_can_not_be_reached_goes_last),
        cmocka_unit_test(source_and_destination_of_one_scope_go_first),
        cmocka_unit_test(source_and_destination_of_one_label_go_first),
        cmocka_unit_test(the_higher_precedence_goes_first),
        cmocka_unit_test(the_smaller_scope_goes_first),
        cmocka_unit_test(the_longer_common_prefix_goes_first_but_for_ipv4),
        cmocka_unit_test(what_is_equal_keeps_its_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
