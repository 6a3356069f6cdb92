/* When Redis refuses: the cause is reported in Redis' words, affects as little as possible, and is
 * withdrawn when it ends. */
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

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

static const char *trouble(const struct rig_peer *peer)
{
    const char *why = peer->bus->ops->trouble(peer->bus);
    return why ? why : "";
}

struct trouble_words {
    const struct rig_peer *peer;
    const char *words; /* "": no trouble at all */
};

static bool says(void *ctx)
{
    const struct trouble_words *wanted = ctx;
    const char *why = trouble(wanted->peer);
    return wanted->words[0] != '\0' ? strstr(why, wanted->words) != NULL : why[0] == '\0';
}

static void assert_says(const struct rig_peer *peer, const char *words)
{
    struct trouble_words wanted = {peer, words};
    rig_until(&r.rig, says, &wanted);
}

static void renew(struct rig_peer *peer, enum status wanted)
{
    static uint64_t tag = 100;
    peer->bus->ops->renew(peer->bus, ++tag);
    assert_int_equal(rig_wait(peer, SEEN_RENEWED, tag)->status, wanted);
}

static void assert_refused(struct rig_peer *peer, const char *session)
{
    const struct seen *seen;
    do
        seen = rig_wait(peer, SEEN_REFUSED, 0);
    while (strcmp(seen->session, session) != 0);
    assert_non_null(strstr(seen->text, "NOPERM"));
    assert_non_null(strstr(seen->text, session));
    assert_true(seen->flag);
}

/* --- the right to channels --- */

#define HUB "ACL SETUSER hub on >pw resetchannels ~test:* +@all &test:inbox:* &test:push:{good:*"

static void as_hub(const char *acl)
{
    assert_string_equal(redis_server_ask(&r.server, acl), "OK");
    snprintf(r.url, sizeof(r.url), "redis://hub:pw@127.0.0.1:%u", r.server.port);
}

static void the_missing_right_to_one_channel_costs_that_session_only(void **state)
{
    (void)state;
    redis_server_await_age(&r.server, 2);
    as_hub(HUB);
    struct rig_peer *a = rig_peer(&r.rig, "a");
    static const char *const sessions[] = {"good:1", "bad:1", "good:2", "bad:2", "good:3"};
    for (size_t i = 0; i < 5; i++) /* in one turn: one request */
        a->bus->ops->subscribe(a->bus, sessions[i]);
    for (size_t i = 0; i < 3; i++)
        assert_memory_equal(rig_wait(a, SEEN_SUBSCRIBED, 0)->session, "good", 4);
    assert_refused(a, "bad:1");
    assert_refused(a, "bad:2");
    uint64_t epoch = peer_claim(a, "good:1");
    assert_int_equal(peer_publish(a, "good:1", epoch, 1, "x", 10, true), STATUS_OK);
    rig_wait(a, SEEN_PUSH, ENVELOPE_PUSH);
    renew(a, STATUS_OK);
    assert_string_equal(trouble(a), "");
    assert_null(rig_find(a, SEEN_DISCONNECTED, 0));

    assert_string_equal(redis_server_ask(&r.server, "ACL SETUSER hub &test:push:*"), "OK");
    for (size_t i = 0; i < 2; i++)
        assert_memory_equal(rig_wait(a, SEEN_SUBSCRIBED, 0)->session, "bad", 3);
}

/* Redis ends the connection of a subscriber that has lost the right to its channel. */
static void a_right_that_is_taken_away_costs_that_session_only(void **state)
{
    (void)state;
    as_hub(HUB " &test:push:{bad:*");
    struct rig_peer *a = rig_peer(&r.rig, "a");
    peer_subscribe(a, "good:1");
    peer_subscribe(a, "bad:1");
    assert_string_equal(redis_server_ask(&r.server, HUB), "OK");
    assert_refused(a, "bad:1");
    assert_string_equal(rig_wait(a, SEEN_SUBSCRIBED, 0)->session, "good:1");
    rig_settle(a);
    assert_null(rig_find(a, SEEN_DISCONNECTED, 0));
}

static void a_refused_announcement_is_reported(void **state)
{
    (void)state;
    redis_server_await_age(&r.server, 2);
    as_hub(HUB);
    struct rig_peer *a = rig_peer(&r.rig, "a");
    const struct bus_claim claim = {.upstream = "u"};
    a->bus->ops->claim(a->bus, "bad:1", 7, &claim);
    assert_int_equal(rig_wait(a, SEEN_CLAIMED, 7)->status, STATUS_IO);
    const struct seen *seen = rig_wait(a, SEEN_REFUSED, 0);
    assert_string_equal(seen->session, "bad:1");
    assert_non_null(strstr(seen->text, "channel"));
    assert_false(seen->flag);
}

static void publish_on(struct rig_peer *peer, const char *session, uint64_t epoch, uint64_t offset)
{
    struct publication *publication = publication_copy(OPCODE_TEXT, "x", 1);
    publication->at = (struct position){epoch, offset};
    peer->bus->ops->publish(peer->bus, session, offset, epoch, &publication, 1, 10, 60000,
                            BUS_ANNOUNCE);
    publication_unref(publication);
}

/* Three publications in one call. Waits for the second one's answer with this status. */
static void publish_on_three(struct rig_peer *peer, const uint64_t epochs[3], uint64_t offset,
                             enum status good, enum status bad)
{
    static const char *const sessions[] = {"good:1", "bad:1", "good:2"};
    for (size_t i = 0; i < 3; i++)
        publish_on(peer, sessions[i], epochs[i], offset);
    for (size_t i = 0; i < 3; i++) {
        const struct seen *seen = rig_wait(peer, SEEN_PUBLISHED, offset);
        bool is_bad = strcmp(seen->session, "bad:1") == 0;
        assert_int_equal(seen->status, is_bad ? bad : good);
    }
}

static void a_right_that_is_missing_in_a_call_costs_that_session_only(void **state)
{
    (void)state;
    redis_server_await_age(&r.server, 2);
    as_hub("ACL SETUSER hub on >pw ~test:* &test:* +@all");
    struct rig_peer *a = rig_peer(&r.rig, "a");
    const uint64_t epochs[] = {peer_claim(a, "good:1"), peer_claim(a, "bad:1"),
                               peer_claim(a, "good:2")};
    publish_on_three(a, epochs, 1, STATUS_OK, STATUS_OK);
    as_hub(HUB);
    publish_on_three(a, epochs, 2, STATUS_OK, STATUS_IO);
    assert_string_equal(rig_wait(a, SEEN_REFUSED, 0)->session, "bad:1");
    /* Redis refuses the whole call for one session's keys: sessions get calls of their own then */
    as_hub("ACL SETUSER hub on >pw resetkeys ~test:nodes ~test:node:* ~test:sessions "
           "~test:*:{good:* &test:* +@all");
    publish_on_three(a, epochs, 3, STATUS_IO, STATUS_IO);
    publish_on_three(a, epochs, 3, STATUS_OK, STATUS_IO);
    publish_on_three(a, epochs, 4, STATUS_OK, STATUS_IO);
    as_hub("ACL SETUSER hub on >pw ~test:* &test:* +@all");
    publish_on_three(a, epochs, 5, STATUS_OK, STATUS_OK);
    assert_null(rig_find(a, SEEN_DISCONNECTED, 0));
}

static void the_missing_right_to_the_own_inbox_is_named(void **state)
{
    (void)state;
    as_hub("ACL SETUSER hub on >pw resetchannels ~test:* +@all &test:push:*");
    struct rig_peer *a = rig_peer_unconnected(&r.rig, "a");
    assert_says(a, "channel test:inbox:a: NOPERM");
    assert_int_equal(a->bus->ops->heard_ms(a->bus), 0);
    assert_string_equal(redis_server_ask(&r.server, "ACL SETUSER hub &test:inbox:*"), "OK");
    rig_hear(a);
    assert_says(a, "");
}

/* --- the right to commands --- */

static void without_info_it_works_and_a_young_store_grants_nothing(void **state)
{
    (void)state;
    as_hub("ACL SETUSER hub on >pw ~test:* &test:* +@all -@dangerous -info");
    struct rig_peer *a = rig_peer(&r.rig, "a");
    renew(a, STATUS_OK);
    const struct bus_claim claim = {.upstream = "u"};
    a->bus->ops->claim(a->bus, "s:k", 1, &claim);
    assert_int_equal(rig_wait(a, SEEN_CLAIMED, 1)->status, STATUS_AGAIN);
    redis_rig_pass(&r, LEASE_MS);
    a->bus->ops->claim(a->bus, "s:k", 2, &claim);
    assert_int_equal(rig_wait(a, SEEN_CLAIMED, 2)->status, STATUS_OK);
}

static void the_rights_of_the_manual_are_enough(void **state)
{
    (void)state;
    redis_server_await_age(&r.server, 2);
    as_hub("ACL SETUSER hub on >pw ~test:* resetchannels &test:* &test@* -@all +@connection +@read "
           "+@write +@pubsub +@scripting -@dangerous +info +role +time");
    struct rig_peer *a = rig_peer(&r.rig, "a");
    renew(a, STATUS_OK);
    peer_subscribe(a, "s:k");
    uint64_t epoch = peer_claim(a, "s:k");
    assert_int_equal(peer_publish(a, "s:k", epoch, 1, "x", 10, true), STATUS_OK);
    rig_wait(a, SEEN_PUSH, ENVELOPE_PUSH);
    a->bus->ops->list(a->bus, BUS_LIST_SESSIONS, "", 10, peer_on_rows, a);
    assert_int_equal(rig_wait(a, SEEN_ROWS, 0)->status, STATUS_OK);
    assert_string_equal(trouble(a), "");
}

/* --- what a server reports about itself --- */

static void a_write_that_is_refused_is_named_until_it_is_not(void **state)
{
    (void)state;
    struct rig_peer *a = rig_peer(&r.rig, "a");
    renew(a, STATUS_OK);
    assert_string_equal(trouble(a), "");
    redis_server_ask(&r.server, "CONFIG SET min-replicas-to-write 1");
    renew(a, STATUS_IO);
    assert_says(a, "can't be renewed: NOREPLICAS Not enough good replicas to write");
    assert_null(strstr(trouble(a), "script"));
    redis_server_ask(&r.server, "CONFIG SET min-replicas-to-write 0");
    renew(a, STATUS_OK);
    assert_string_equal(trouble(a), "");
}

static void replicas_that_do_not_get_the_write_are_named(void **state)
{
    (void)state;
    r.conf.redis.replicas = 1;
    struct rig_peer *a = rig_peer(&r.rig, "a");
    renew(a, STATUS_IO);
    assert_says(a, "0 of 1 replicas");
}

static void a_password_that_is_wrong_or_missing_is_named_and_never_shown(void **state)
{
    (void)state;
    assert_string_equal(redis_server_ask(&r.server, "ACL SETUSER hub on >right ~* &* +@all"), "OK");
    snprintf(r.url, sizeof(r.url), "redis://hub:NotTheRightOne@127.0.0.1:%u", r.server.port);
    struct rig_peer *a = rig_peer_unconnected(&r.rig, "a");
    assert_says(a, "WRONGPASS");
    assert_null(strstr(trouble(a), "NotTheRightOne"));
    assert_string_equal(redis_server_ask(&r.server, "ACL SETUSER hub >NotTheRightOne"), "OK");
    rig_hear(a);
    assert_says(a, "");

    assert_string_equal(redis_server_ask(&r.server, "CONFIG SET requirepass needed"), "OK");
    snprintf(r.url, sizeof(r.url), "redis://127.0.0.1:%u", r.server.port);
    assert_says(rig_peer_unconnected(&r.rig, "b"), "NOAUTH");
}

static void a_server_that_is_full_is_named(void **state)
{
    (void)state;
    struct rig_peer *a = rig_peer(&r.rig, "a");
    redis_server_ask(&r.server, "CONFIG SET maxclients 2");
    struct rig_peer *b = rig_peer_unconnected(&r.rig, "b");
    assert_says(b, "max number of clients reached");
    redis_rig_pass(&r, 1);
    rig_remove(&r.rig, a);
    rig_hear(b);
    assert_says(b, "");
}

/* --- a fake server that sends one text --- */

struct speaker {
    int listener;
    struct loop_watch *watch;
    const char *text;
};

static void on_caller(void *ctx)
{
    const struct speaker *speaker = ctx;
    int fd = accept(speaker->listener, NULL, NULL);
    if (fd < 0)
        return;
    assert_true(send(fd, speaker->text, strlen(speaker->text), MSG_NOSIGNAL) >= 0);
    shutdown(fd, SHUT_WR);
    close(fd);
}

static void assert_words(const char *text, const char *wanted, const char *absent)
{
    struct speaker speaker = {.text = text};
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(address);
    speaker.listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    assert_int_equal(bind(speaker.listener, (struct sockaddr *)&address, len), 0);
    assert_int_equal(listen(speaker.listener, 16), 0);
    assert_int_equal(getsockname(speaker.listener, (struct sockaddr *)&address, &len), 0);
    speaker.watch = loop_watch_new(r.loop, "speaker", speaker.listener, LOOP_READABLE, on_caller,
                                   &speaker);
    snprintf(r.url, sizeof(r.url), "redis://me:s3cret-word@127.0.0.1:%u", ntohs(address.sin_port));
    struct rig_peer *a = rig_peer_unconnected(&r.rig, "a");
    assert_says(a, wanted);
    assert_null(strstr(trouble(a), absent));
    rig_remove(&r.rig, a);
    loop_watch_free(speaker.watch);
    close(speaker.listener);
}

static void a_server_that_repeats_the_password_is_quoted_without_it(void **state)
{
    (void)state;
    assert_words("-ERR unknown command 'AUTH', with args beginning with: 'me' 's3cret-word' \r\n",
                 "ERR unknown command 'AUTH'", "s3cret-word");
    assert_words("-ERR no such user: me:s3cret-word\r\n", "ERR no such user: me:*", "s3cret-word");
    assert_words("+OK\r\n-LOADING Redis is loading the dataset in memory\r\n",
                 "LOADING Redis is loading the dataset in memory", "s3cret-word");
    assert_words("HTTP/1.1 400 Bad Request\r\n\r\n", "Protocol error", "s3cret-word");
}

int main(void)
{
#define TROUBLE(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TROUBLE(the_missing_right_to_one_channel_costs_that_session_only),
        TROUBLE(a_right_that_is_taken_away_costs_that_session_only),
        TROUBLE(a_refused_announcement_is_reported),
        TROUBLE(a_right_that_is_missing_in_a_call_costs_that_session_only),
        TROUBLE(the_missing_right_to_the_own_inbox_is_named),
        TROUBLE(without_info_it_works_and_a_young_store_grants_nothing),
        TROUBLE(the_rights_of_the_manual_are_enough),
        TROUBLE(a_write_that_is_refused_is_named_until_it_is_not),
        TROUBLE(replicas_that_do_not_get_the_write_are_named),
        TROUBLE(a_password_that_is_wrong_or_missing_is_named_and_never_shown),
        TROUBLE(a_server_that_is_full_is_named),
        TROUBLE(a_server_that_repeats_the_password_is_quoted_without_it),
    };
    return cmocka_run_group_tests_name("bus_redis_trouble", tests, NULL, NULL);
}
