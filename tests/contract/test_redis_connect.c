/* How the bus finds its server and authenticates: names, addresses, databases, users, TLS. */
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "bus/bus_redis.h"
#include "loop/loop.h"
#include "rig_redis.h"

#define LEASE_MS 1000

static struct redis_rig r;

static int set_up(void **state)
{
    (void)state;
    r = (struct redis_rig){0};
    redis_rig_start(&r, LEASE_MS);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    redis_rig_stop(&r);
    return 0;
}

static void set_url(const char *format)
{
    snprintf(r.url, sizeof(r.url), format, r.server.port);
}

static void works(struct rig_peer *peer)
{
    peer->bus->ops->renew(peer->bus, 1);
    assert_int_equal(rig_wait(peer, SEEN_RENEWED, 1)->status, STATUS_OK);
    peer_subscribe(peer, "s:k");
    rig_settle(peer);
}

/* Waits for several attempts, none of which may succeed. */
static void assert_never_connects(void)
{
    struct rig_peer *a = rig_peer_unconnected(&r.rig, "a");
    redis_rig_pass(&r, 500);
    assert_null(rig_find(a, SEEN_CONNECTED, 0));
    a->bus->ops->renew(a->bus, 1);
    assert_int_equal(rig_wait(a, SEEN_RENEWED, 1)->status, STATUS_IO);
    rig_remove(&r.rig, a);
}

static void a_name_is_resolved_and_its_addresses_are_tried_in_turn(void **state)
{
    (void)state;
    set_url("redis://localhost:%u"); /* ::1 may be one of its addresses, where nobody listens */
    works(rig_peer(&r.rig, "a"));
}

static void a_name_without_an_address_is_asked_for_again(void **state)
{
    (void)state;
    set_url("redis://no-such-host.invalid:%u");
    assert_never_connects();
}

static void the_database_of_the_url_is_used(void **state)
{
    (void)state;
    set_url("redis://127.0.0.1:%u/3");
    works(rig_peer(&r.rig, "a"));
    assert_non_null(strstr(redis_server_ask(&r.server, "INFO keyspace"), "db3:keys=1"));
    assert_null(strstr(redis_server_ask(&r.server, "INFO keyspace"), "db0:"));
}

/* Redis' databases separate keys but not channels. The same node and session ids in both databases.
 */
static void two_clusters_in_two_databases_do_not_hear_each_other(void **state)
{
    (void)state;
    redis_server_await_age(&r.server, 2);
    struct envelope hello = {.type = ENVELOPE_HELLO, .number = 5}, close = {.type = ENVELOPE_CLOSE};
    set_url("redis://127.0.0.1:%u");
    struct rig_peer *zero = rig_peer(&r.rig, "a");
    set_url("redis://127.0.0.1:%u/1");
    struct rig_peer *one = rig_peer(&r.rig, "a"), *other = rig_peer(&r.rig, "b");
    struct rig_peer *const listeners[] = {zero, one, other};
    for (size_t i = 0; i < 3; i++) {
        peer_subscribe(listeners[i], "s:k");
        rig_settle(listeners[i]);
        rig_forget_events(listeners[i]);
    }

    uint64_t epoch = peer_claim(one, "s:k");
    assert_int_equal(peer_publish(one, "s:k", epoch, 1, "x", 10, true), STATUS_OK);
    one->bus->ops->transfer(one->bus, "s:k", 8, epoch, "b");
    uint64_t moved = rig_wait(one, SEEN_TRANSFERRED, 8)->epoch;
    other->bus->ops->assert_owner(other->bus, "s:k", 9, moved + 5, "u");
    assert_int_equal(rig_wait(other, SEEN_ASSERTED, 9)->status, STATUS_OK);
    one->bus->ops->assert_owner(one->bus, "s:k", 10, moved + 9, "u");
    assert_int_equal(rig_wait(one, SEEN_ASSERTED, 10)->status, STATUS_OK);
    other->bus->ops->broadcast(other->bus, "s:k", &close);
    other->bus->ops->send(other->bus, "a", &hello, 11);
    assert_int_equal(rig_wait(other, SEEN_TOLD, 11)->status, STATUS_OK);

    rig_wait(one, SEEN_INBOX, ENVELOPE_HELLO);
    for (size_t i = 0; i < 3;
         i++) /* a claim, a transfer, an assertion over another node's record */
        assert_int_equal(
            rig_wait(other, SEEN_PUSH, i == 1 ? ENVELOPE_PUSH : ENVELOPE_GRANT)->status, 0);
    rig_wait(other, SEEN_PUSH, ENVELOPE_GRANT);
    rig_wait(other, SEEN_PUSH, ENVELOPE_CLOSE);
    rig_settle(zero);
    assert_null(rig_find(zero, SEEN_PUSH, 0));
    assert_null(rig_find(zero, SEEN_INBOX, ENVELOPE_HELLO));
    assert_string_equal(
        redis_server_ask(&r.server, "PUBSUB NUMSUB test:push:{s:k} test@1:push:{s:k}"),
        "test:push:{s:k}\n1\ntest@1:push:{s:k}\n2\n");
}

static void a_server_that_comes_later_is_found(void **state)
{
    (void)state;
    redis_server_kill(&r.server);
    struct rig_peer *a = rig_peer_unconnected(&r.rig, "a");
    redis_rig_pass(&r, 300);
    assert_null(a->first);
    redis_server_start(&r.server);
    rig_wait(a, SEEN_CONNECTED, 0);
    assert_null(rig_find(a, SEEN_DISCONNECTED, 0));
}

static void a_user_needs_only_the_hubs_keys_and_channels(void **state)
{
    (void)state;
    redis_server_await_age(&r.server, 2);
    assert_string_equal(
        redis_server_ask(&r.server,
                         "ACL SETUSER hub on >se:cret ~test:* resetchannels &test:* +@all "
                         "-@dangerous +info"),
        "OK");
    assert_string_equal(
        redis_server_ask(&r.server,
                         "ACL SETUSER default resetpass resetkeys resetchannels -@all +ping +info"),
        "OK");
    set_url("redis://hub:se%%3Acret@127.0.0.1:%u");
    struct rig_peer *a = rig_peer(&r.rig, "a");
    works(a);
    uint64_t epoch = peer_claim(a, "s:k");
    assert_int_equal(peer_publish(a, "s:k", epoch, 1, "x", 10, true), STATUS_OK);
}

static void a_wrong_password_does_not_connect_until_it_is_right(void **state)
{
    (void)state;
    assert_string_equal(redis_server_ask(&r.server, "ACL SETUSER hub on >right ~* &* +@all"), "OK");
    set_url("redis://hub:wrong@127.0.0.1:%u");
    assert_never_connects();
    assert_string_equal(redis_server_ask(&r.server, "ACL SETUSER hub >wrong"), "OK");
    works(rig_peer(&r.rig, "a"));
}

static void a_replica_is_no_server_until_it_is_promoted(void **state)
{
    (void)state;
    redis_server_ask(&r.server, "REPLICAOF 127.0.0.1 1");
    struct rig_peer *a = rig_peer_unconnected(&r.rig, "a");
    redis_rig_pass(&r, 300);
    assert_null(rig_find(a, SEEN_CONNECTED, 0));
    redis_server_ask(&r.server, "REPLICAOF NO ONE");
    rig_wait(a, SEEN_CONNECTED, 0);
}

static void a_server_that_becomes_a_replica_is_left(void **state)
{
    (void)state;
    struct rig_peer *a = rig_peer(&r.rig, "a");
    redis_server_ask(&r.server, "REPLICAOF 127.0.0.1 1");
    a->bus->ops->renew(a->bus, 1);
    assert_int_equal(rig_wait(a, SEEN_RENEWED, 1)->status, STATUS_IO);
    rig_wait(a, SEEN_DISCONNECTED, 0);
}

/* --- servers that are not Redis --- */

#define CALLERS_MAX 64

/* Accepts connections and sends its text to each, then nothing. */
struct stranger {
    int listener;
    struct loop_watch *watch;
    const char *text;
    int callers[CALLERS_MAX];
    size_t len;
};

static void on_caller(void *ctx)
{
    struct stranger *stranger = ctx;
    int fd = accept(stranger->listener, NULL, NULL);
    if (fd < 0 || stranger->len == CALLERS_MAX) {
        close(fd);
        return;
    }
    stranger->callers[stranger->len++] = fd;
    if (send(fd, stranger->text, strlen(stranger->text), MSG_NOSIGNAL) < 0)
        fail_msg("the caller was gone at once");
}

static bool was_called_again(void *ctx)
{
    return ((const struct stranger *)ctx)->len >= 4;
}

static void assert_left_and_tried_again(const char *text)
{
    struct stranger stranger = {.text = text};
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(address);
    stranger.listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    assert_int_equal(bind(stranger.listener, (struct sockaddr *)&address, len), 0);
    assert_int_equal(listen(stranger.listener, CALLERS_MAX), 0);
    assert_int_equal(getsockname(stranger.listener, (struct sockaddr *)&address, &len), 0);
    stranger.watch = loop_watch_new(r.loop, "stranger", stranger.listener, LOOP_READABLE, on_caller,
                                    &stranger);

    snprintf(r.url, sizeof(r.url), "redis://127.0.0.1:%u", ntohs(address.sin_port));
    struct rig_peer *a = rig_peer_unconnected(&r.rig, "a");
    rig_until(&r.rig, was_called_again, &stranger);
    assert_null(rig_find(a, SEEN_CONNECTED, 0));
    rig_remove(&r.rig, a);
    loop_watch_free(stranger.watch);
    for (size_t i = 0; i < stranger.len; i++)
        close(stranger.callers[i]);
    close(stranger.listener);
}

static void a_server_that_is_no_redis_is_left_and_tried_again(void **state)
{
    (void)state;
    assert_left_and_tried_again("HTTP/1.1 400 Bad Request\r\n\r\n");
    assert_left_and_tried_again("$-7\r\n");
    assert_left_and_tried_again("*99999999999\r\n");
    assert_left_and_tried_again("+PONG\r\n+OK\r\n+what\r\n");
    assert_left_and_tried_again(
        "*2\r\n*2\r\n*2\r\n*2\r\n*2\r\n*2\r\n*2\r\n*2\r\n*2\r\n*2\r\n*2\r\n*2\r\n");
}

static void a_server_that_accepts_and_is_silent_is_left_and_tried_again(void **state)
{
    (void)state;
    r.conf.node.lease_ms = 500;
    assert_left_and_tried_again("");
    assert_left_and_tried_again("+PONG\r\n");
    assert_left_and_tried_again("$5\r\nab");
}

/* --- TLS --- */

struct certificate {
    char folder[64], ca[96], other[96], cert[96], key[96];
};

static void run(const char *format, const char *folder)
{
    char command[1024];
    snprintf(command, sizeof(command), format, folder);
    assert_int_equal(system(command), 0);
}

/* A self-signed certificate for one address. */
static void make_certificates(struct certificate *c)
{
    snprintf(c->folder, sizeof(c->folder), "/tmp/vinhub-tls-XXXXXX");
    assert_non_null(mkdtemp(c->folder));
    run("cd %s && for name in server other; do openssl req -x509 -newkey ec -pkeyopt "
        "ec_paramgen_curve:P-256 -nodes -days 2 "
        "-keyout $name.key -out $name.crt -subj /CN=$name -addext subjectAltName=IP:127.0.0.1 "
        "2>/dev/null || exit 1; done",
        c->folder);
    snprintf(c->cert, sizeof(c->cert), "%s/server.crt", c->folder);
    snprintf(c->key, sizeof(c->key), "%s/server.key", c->folder);
    snprintf(c->ca, sizeof(c->ca), "%s", c->cert);
    snprintf(c->other, sizeof(c->other), "%s/other.crt", c->folder);
}

static void start_tls(const struct certificate *c, const char *auth_clients, char port[8])
{
    redis_server_kill(&r.server);
    snprintf(port, 8, "%u", redis_server_free_port());
    const char *const extra[] = {"--tls-port",         port,        "--tls-cert-file",    c->cert,
                                 "--tls-key-file",     c->key,      "--tls-ca-cert-file", c->ca,
                                 "--tls-auth-clients", auth_clients};
    memcpy(r.server.extra, extra, sizeof(extra));
    redis_server_start(&r.server);
}

static void tls_requires_the_authority_and_the_host(void **state)
{
    (void)state;
    struct certificate c;
    char port[8];
    make_certificates(&c);
    start_tls(&c, "no", port);
    snprintf(r.url, sizeof(r.url), "rediss://127.0.0.1:%s", port);
    r.conf.redis.tls_ca = c.other;
    assert_never_connects();
    r.conf.redis.tls_ca = c.ca;
    snprintf(r.url, sizeof(r.url), "rediss://localhost:%s", port);
    assert_never_connects();
    snprintf(r.url, sizeof(r.url), "redis://127.0.0.1:%s", port);
    assert_never_connects();

    snprintf(r.url, sizeof(r.url), "rediss://127.0.0.1:%s", port);
    r.conf.node.lease_ms = 10000; /* megabytes may take a while on a busy machine */
    struct rig_peer *a = rig_peer(&r.rig, "a");
    works(a);
    /* More than a TLS record, a socket buffer or a chunk holds, in both directions. */
    static char large[4 << 20];
    memset(large, 'y', sizeof(large) - 1);
    const uint64_t epoch = 7;
    a->bus->ops->assert_owner(a->bus, "s:k", 2, epoch, "u");
    assert_int_equal(rig_wait(a, SEEN_ASSERTED, 2)->status, STATUS_OK);
    assert_int_equal(peer_publish(a, "s:k", epoch, 1, large, 10, true), STATUS_OK);
    const struct seen *seen = rig_wait(a, SEEN_PUSH, ENVELOPE_PUSH);
    assert_int_equal(seen->items[0].id_len, sizeof(large) - 1);
    assert_memory_equal(seen->items[0].id, large, sizeof(large) - 1);
    run("rm -r %s", c.folder);
}

static void tls_shows_our_certificate_where_the_server_asks_for_one(void **state)
{
    (void)state;
    struct certificate c;
    char port[8];
    make_certificates(&c);
    start_tls(&c, "yes", port);
    snprintf(r.url, sizeof(r.url), "rediss://127.0.0.1:%s", port);
    r.conf.redis.tls_ca = c.ca;
    assert_never_connects();
    r.conf.redis.tls_cert = c.cert;
    r.conf.redis.tls_key = c.key;
    r.conf.node.lease_ms = 10000;
    works(rig_peer(&r.rig, "a"));
    run("rm -r %s", c.folder);
}

static void tls_expects_the_name_that_is_set(void **state)
{
    (void)state;
    struct certificate c;
    char port[8];
    make_certificates(&c);
    start_tls(&c, "no", port);
    snprintf(r.url, sizeof(r.url), "rediss://localhost.:%s", port);
    r.conf.redis.tls_ca = c.ca;
    r.conf.redis.tls_name = (char *)"redis.test";
    assert_never_connects();
    r.conf.redis.tls_name = (char *)"127.0.0.1";
    r.conf.node.lease_ms = 10000;
    works(rig_peer(&r.rig, "a"));
    run("rm -r %s", c.folder);
}

static void assert_refused(const char *expected)
{
    struct bus *bus = NULL;
    char why[512] = "";
    assert_int_equal(bus_redis_new(r.loop, &r.conf, "a", 1, &bus, why, sizeof(why)),
                     STATUS_INVALID);
    if (!strstr(why, expected))
        fail_msg("expected \"%s\", got \"%s\"", expected, why);
    assert_null(bus);
}

static void what_can_not_be_used_is_said_at_the_start(void **state)
{
    (void)state;
    set_url("http://127.0.0.1:%u");
    assert_refused("redis.url");
    set_url("rediss://127.0.0.1:%u");
    r.conf.redis.tls_ca = (char *)"/nowhere/ca.crt";
    assert_refused("/nowhere/ca.crt: No such file");
}

int main(void)
{
#define CONNECT(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        CONNECT(a_name_is_resolved_and_its_addresses_are_tried_in_turn),
        CONNECT(a_name_without_an_address_is_asked_for_again),
        CONNECT(the_database_of_the_url_is_used),
        CONNECT(two_clusters_in_two_databases_do_not_hear_each_other),
        CONNECT(a_server_that_comes_later_is_found),
        CONNECT(a_user_needs_only_the_hubs_keys_and_channels),
        CONNECT(a_wrong_password_does_not_connect_until_it_is_right),
        CONNECT(a_replica_is_no_server_until_it_is_promoted),
        CONNECT(a_server_that_becomes_a_replica_is_left),
        CONNECT(a_server_that_is_no_redis_is_left_and_tried_again),
        CONNECT(a_server_that_accepts_and_is_silent_is_left_and_tried_again),
        CONNECT(tls_requires_the_authority_and_the_host),
        CONNECT(tls_shows_our_certificate_where_the_server_asks_for_one),
        CONNECT(tls_expects_the_name_that_is_set),
        CONNECT(what_can_not_be_used_is_said_at_the_start),
    };
    return cmocka_run_group_tests_name("bus_redis_connect", tests, NULL, NULL);
}
