/*
 * A small front door whose messages are lines, to test what the core promises every door: each form
 * is made once for all clients, a client gets one write a turn however many sessions it follows,
 * and each session has its own position.
 */
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "bus/bus_memory.h"
#include "core/client/door.h"
#include "core/client/joining.h"
#include "core/forms.h"
#include "core/hub.h"

/* --- the door: one line for each message, "SESSION " before it where it is one of several --- */

static unsigned made; /* publications that were put into a line */
static struct position last_welcome;

PRINTF_LIKE(1, 2) static struct wire *line(const char *format, ...)
{
    char text[512];
    va_list args;
    va_start(args, format);
    size_t len = (size_t)vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    struct wire *wire = wire_new(len);
    memcpy(wire->bytes, text, len);
    return wire;
}

static const char *word(const char *session)
{
    return session ? session : "-";
}

static const struct encoding *line_publication(void *ctx, unsigned key,
                                               struct publication *publication, const char *session)
{
    (void)ctx;
    made++;
    return publication_encode(publication, key,
                              line("%s %u %.*s\n", word(session), (unsigned)publication->at.offset,
                                   (int)publication->len, (const char *)publication->payload));
}

static struct wire *line_gap(void *ctx, const struct v1_head *head, uint64_t epoch, uint64_t from,
                             uint64_t to)
{
    (void)ctx;
    (void)epoch;
    return line("%s gap %u-%u\n", word(head->session), (unsigned)from, (unsigned)to);
}

static struct wire *line_welcome(void *ctx, const struct v1_head *head,
                                 const struct v1_welcome *welcome)
{
    (void)ctx;
    last_welcome = welcome->at;
    return line("%s welcome %s%s\n", word(head->session), welcome->session,
                welcome->resumed ? " again" : "");
}

static struct wire *line_status(void *ctx, const struct v1_head *head, const char *upstream,
                                const char *reason)
{
    (void)ctx;
    (void)reason;
    return line("%s status %s\n", word(head->session), upstream);
}

static struct wire *line_pong(void *ctx, const struct v1_head *head)
{
    (void)ctx;
    (void)head;
    return line("pong\n");
}

static struct wire *line_ack(void *ctx, const struct v1_head *head, uint64_t id)
{
    (void)ctx;
    (void)head;
    return line("ack %llu\n", (unsigned long long)id);
}

static struct wire *line_error(void *ctx, const struct v1_head *head, const struct v1_error *error)
{
    (void)ctx;
    (void)head;
    return line("error %llu %s: %s\n", (unsigned long long)*error->id, error->code, error->message);
}

static enum status line_request(void *ctx, enum opcode opcode, const void *bytes, size_t len,
                                struct v1_request *out, struct v1_mistake *mistake)
{
    (void)ctx;
    (void)opcode;
    (void)mistake;
    *out = (struct v1_request){.type = V1_PING};
    if (len > 6 && memcmp(bytes, "token ", 6) == 0)
        *out = (struct v1_request){.type = V1_REFRESH,
                                   .id = 7,
                                   .payload = (uint8_t *)strndup((const char *)bytes + 6, len - 6),
                                   .len = len - 6};
    return STATUS_OK;
}

static const struct form line_form = {.name = "line",
                                      .follows = true,
                                      .publication = line_publication,
                                      .gap = line_gap,
                                      .welcome = line_welcome,
                                      .status = line_status,
                                      .ack = line_ack,
                                      .error = line_error,
                                      .pong = line_pong,
                                      .request = line_request};

/* --- a node between that door and backends that are always there --- */

#define VEHICLES 4

struct upstream {
    struct session *session;
    bool opened;
};

struct door_end {
    struct client client; /* first */
    bool busy, closed;
    unsigned writes, code;
    char text[4096];
    size_t len;
};

static struct hub *hub;
static struct bus *bus;
static struct conf *conf;
static uint64_t now_ms;
static struct upstream upstreams[VEHICLES];
static unsigned first_form, second_form;

static uint64_t boot_clock(void)
{
    return now_ms;
}

static uint64_t unix_clock(void)
{
    return 1700000000000 + now_ms;
}

static uint64_t hub_now(void *ctx)
{
    (void)ctx;
    return boot_clock();
}

static uint64_t hub_unix(void *ctx)
{
    (void)ctx;
    return unix_clock();
}

static struct upstream *upstream_open(void *ctx, struct session *session, struct service *service,
                                      const char *url)
{
    (void)ctx;
    (void)service;
    struct upstream *upstream = &upstreams[url[strlen(url) - 1] - '0'];
    upstream->session = session;
    return upstream;
}

static enum status upstream_send(void *ctx, struct upstream *upstream, enum opcode opcode,
                                 const void *payload, size_t len)
{
    (void)ctx;
    (void)upstream;
    (void)opcode;
    (void)payload;
    (void)len;
    return STATUS_OK;
}

static void upstream_close(void *ctx, struct upstream *upstream, unsigned code, const char *reason)
{
    (void)ctx;
    (void)upstream;
    (void)code;
    (void)reason;
}

static void upstream_reset(void *ctx, struct upstream *upstream)
{
    (void)ctx;
    upstream->session = NULL;
}

static const struct upstream_ops upstream_ops = {upstream_open, upstream_send, upstream_close,
                                                 upstream_reset};

static enum status end_write(void *ctx, struct client *client, const uint8_t *bytes, size_t len)
{
    (void)ctx;
    struct door_end *end = (struct door_end *)(void *)client;
    assert_false(end->closed);
    if (end->busy)
        return STATUS_AGAIN;
    assert_true(len > 0 && end->len + len < sizeof(end->text));
    memcpy(end->text + end->len, bytes, len);
    end->len += len;
    end->text[end->len] = '\0';
    end->writes++;
    return STATUS_OK;
}

static void end_close(void *ctx, struct client *client, unsigned code, const char *reason)
{
    (void)ctx;
    (void)reason;
    struct door_end *end = (struct door_end *)(void *)client;
    assert_false(end->closed);
    end->closed = true;
    end->code = code;
}

static void end_pause(void *ctx, struct client *client, bool paused)
{
    (void)ctx;
    (void)client;
    (void)paused;
}

static unsigned checks; /* of tokens */

static enum refresh_verdict end_refresh(void *ctx, struct client *client, const char *token,
                                        const char **why)
{
    (void)ctx;
    (void)client;
    checks++;
    *why = strcmp(token, "good") == 0 ? NULL : "no good";
    return strcmp(token, "good") == 0     ? REFRESH_TAKEN
           : strcmp(token, "narrow") == 0 ? REFRESH_NOT_COVERED
                                          : REFRESH_REFUSED;
}

static const struct client_ops client_ops = {
    .write = end_write, .close = end_close, .pause = end_pause, .refresh = end_refresh};

static void turn_begin(void)
{
    now_ms += 10;
    hub_enter(hub, now_ms);
}

static void turns(unsigned n)
{
    while (n--) {
        turn_begin();
        hub_flush(hub);
    }
}

static int start(void **state)
{
    (void)state;
    const char *services[] = {"svc=ws://backend:80/s{path}"};
    const struct conf_overrides overrides = {
        .services = services, .services_len = 1, .redis_url = ""};
    struct conf_findings findings = {0};
    if (conf_load(NULL, &overrides, &findings, &conf) != STATUS_OK)
        return -1;
    conf_findings_fini(&findings);
    now_ms = 1000;
    bus = bus_memory_new(NULL, "n1", boot_clock, unix_clock);
    const struct hub_setup setup = {.conf = conf,
                                    .node_id = "n1",
                                    .life = 1,
                                    .seed = 1,
                                    .host = "host",
                                    .version = "1",
                                    .bus = bus,
                                    .upstream_ops = &upstream_ops,
                                    .client_ops = &client_ops,
                                    .now_ms = hub_now,
                                    .unix_ms = hub_unix};
    hub = hub_new(&setup);
    first_form = form_add(hub, &line_form, NULL);
    second_form = form_add(hub, &line_form, NULL);
    hub_start(hub);
    turns(10);
    return hub_ready(hub) ? 0 : -1;
}

static int stop(void **state)
{
    (void)state;
    hub_free(hub);
    bus->ops->free(bus);
    conf_unref(conf);
    memset(upstreams, 0, sizeof(upstreams));
    return 0;
}

static void target_of(unsigned vehicle, const char *rest, struct target *out)
{
    char url[128];
    const char *why;
    snprintf(url, sizeof(url), "/u/v%u?svc%s", vehicle, rest);
    const struct url_options options = {.protocol_client = true};
    assert_int_equal(url_parse(conf, url, strlen(url), &options, out, &why), STATUS_OK);
}

static void come(struct door_end *end, unsigned vehicle, const char *rest, unsigned form)
{
    struct target target;
    *end = (struct door_end){0};
    target_of(vehicle, rest, &target);
    assert_int_equal(door_open(hub, &end->client, &target, &in6addr_loopback, form), STATUS_OK);
    target_fini(&target);
}

static struct subscription *subscribe(struct door_end *end, unsigned vehicle, const char *rest)
{
    struct target target;
    target_of(vehicle, rest, &target);
    struct subscription *subscription = joining_subscribe(&end->client, &target);
    target_fini(&target);
    return subscription;
}

/* The vehicles' upstreams that were asked for are open. */
static void settle(void)
{
    turns(10);
    turn_begin();
    for (size_t i = 0; i < VEHICLES; i++) {
        struct upstream *upstream = &upstreams[i];
        if (upstream->session && !upstream->opened)
            hub_upstream_opened(upstream->session, upstream);
        upstream->opened = upstream->session != NULL;
    }
    hub_flush(hub);
    turns(2);
}

static void push(unsigned vehicle, const char *text)
{
    hub_upstream_message(upstreams[vehicle].session, &upstreams[vehicle],
                         publication_copy(OPCODE_TEXT, text, strlen(text)));
}

static void forget_text(struct door_end *end)
{
    end->len = end->writes = 0;
    end->text[0] = '\0';
}

static void leave(struct door_end *end)
{
    door_gone(&end->client, 1000, "");
}

static void a_client_is_welcomed_and_gets_what_comes(void **state)
{
    (void)state;
    struct door_end end;
    come(&end, 0, "", first_form);
    settle();
    assert_non_null(strstr(end.text, "- welcome svc:v0\n"));
    assert_non_null(strstr(end.text, "- status connected\n"));
    forget_text(&end);
    turn_begin();
    push(0, "one");
    push(0, "two");
    hub_flush(hub);
    assert_string_equal(end.text, "- 1 one\n- 2 two\n");
    assert_int_equal(end.writes, 1);
    client_check(&end.client);
    leave(&end);
}

static void a_form_is_made_once_for_all_its_clients(void **state)
{
    (void)state;
    static struct door_end ends[20];
    for (size_t i = 0; i < 20; i++)
        come(&ends[i], 0, "", i % 4 ? first_form : second_form);
    settle();
    for (size_t pushes = 1; pushes <= 3; pushes++) {
        made = 0;
        turn_begin();
        for (size_t i = 0; i < pushes; i++)
            push(0, "push");
        hub_flush(hub);
        assert_int_equal(made, 2 * pushes);
    }
    for (size_t i = 0; i < 20; i++) {
        assert_non_null(strstr(ends[i].text, "- 6 push\n"));
        leave(&ends[i]);
    }
}

static void all_that_is_due_leaves_in_one_write(void **state)
{
    (void)state;
    struct door_end end;
    come(&end, 0, "", first_form);
    for (unsigned i = 1; i < VEHICLES; i++)
        assert_non_null(subscribe(&end, i, ""));
    settle();
    assert_non_null(strstr(end.text, "svc:v2 welcome svc:v2\n"));
    forget_text(&end);
    turn_begin();
    push(1, "x");
    door_message(&end.client, OPCODE_TEXT, "ping", 4);
    push(0, "y");
    push(3, "z");
    push(1, "w");
    hub_flush(hub);
    assert_int_equal(end.writes, 1);
    assert_non_null(strstr(end.text, "svc:v1 1 x\nsvc:v1 2 w\n"));
    assert_non_null(strstr(end.text, "- 1 y\n"));
    assert_non_null(strstr(end.text, "svc:v3 1 z\n"));
    assert_non_null(strstr(end.text, "pong\n"));
    turns(3);
    assert_int_equal(end.writes, 1);
    leave(&end);
}

static void what_a_socket_does_not_take_leaves_together_later(void **state)
{
    (void)state;
    struct door_end end;
    come(&end, 0, "", first_form);
    assert_non_null(subscribe(&end, 1, ""));
    settle();
    forget_text(&end);
    end.busy = true;
    for (int i = 0; i < 3; i++) {
        turn_begin();
        push(0, "a");
        push(1, "b");
        hub_flush(hub);
        client_check(&end.client);
    }
    end.busy = false;
    turns(2);
    assert_int_equal(end.writes, 0); /* the door has not said that the socket takes bytes again */
    turn_begin();
    door_writable(&end.client);
    hub_flush(hub);
    assert_int_equal(end.writes, 1);
    assert_int_equal(end.len, 3 * strlen("- 1 a\n") + 3 * strlen("svc:v1 1 b\n"));
    assert_int_equal(client_queue_bytes(&end.client), 0);
    leave(&end);
}

static void a_session_is_left_alone(void **state)
{
    (void)state;
    struct door_end end;
    come(&end, 0, "", first_form);
    struct subscription *first = subscribe(&end, 1, ""), *second = subscribe(&end, 2, "");
    settle();
    forget_text(&end);
    end.busy = true;
    turn_begin();
    push(1, "gone");
    push(2, "stays");
    hub_flush(hub);
    turn_begin();
    joining_unsubscribe(first);
    push(1, "gone");
    end.busy = false;
    door_writable(&end.client);
    hub_flush(hub);
    assert_string_equal(end.text, "svc:v2 1 stays\n");
    subscription_check(second);
    assert_non_null(subscribe(&end, 1, ""));
    leave(&end);
    turns(1);
}

/* Vehicle 1 pushes m1 to m4. rest: the resume token of a client that has the first had of them. */
static void push_four(struct door_end *watcher, unsigned had, char rest[64])
{
    come(watcher, 1, "", first_form);
    settle();
    turn_begin();
    push(1, "m1");
    push(1, "m2");
    push(1, "m3");
    push(1, "m4");
    hub_flush(hub);
    snprintf(rest, 64, "&resume=%" PRIu64 ".%" PRIu64, last_welcome.epoch,
             last_welcome.offset + had);
}

static void what_was_missed_comes_first_and_once(void **state)
{
    (void)state;
    struct door_end watcher, end;
    char rest[64];
    push_four(&watcher, 2, rest);
    turn_begin();
    come(&end, 1, rest, first_form);
    push(1, "m5");
    hub_flush(hub);
    turn_begin();
    push(1, "m6");
    hub_flush(hub);
    assert_string_equal(end.text, "- welcome svc:v1 again\n- 3 m3\n- 4 m4\n- 5 m5\n- 6 m6\n");
    assert_int_equal(end.client.sent, 4);
    client_check(&end.client);
    subscription_check(&end.client.own);
    leave(&end);
    leave(&watcher);
}

static void a_place_that_was_never_given_out_is_no_resume(void **state)
{
    (void)state;
    static const char *const tokens[] = {"&resume=1.1", "&resume=1700000000001.7",
                                         "&resume=9700000000000.1", "&resume=x",
                                         "&resume=0.0.name"};
    struct door_end watcher, end;
    char rest[64];
    push_four(&watcher, 2, rest);
    for (size_t i = 0; i < sizeof(tokens) / sizeof(tokens[0]); i++) {
        come(&end, 1, tokens[i], first_form);
        turns(300); /* one ahead of the stream waits for it a while */
        turn_begin();
        push(1, "live");
        hub_flush(hub);
        /* The first epoch is one that the history may have had: what followed is not kept */
        if (i == 1)
            assert_non_null(strstr(end.text, " again\n- gap "));
        else
            assert_non_null(strstr(end.text, "- welcome svc:v1\n"));
        assert_non_null(strstr(end.text, " live\n"));
        if (i != 1)
            assert_null(strstr(end.text, "m4"));
        leave(&end);
    }
    leave(&watcher);
}

static void one_that_resumes_does_not_hold_up_the_others(void **state)
{
    (void)state;
    struct door_end watcher, end;
    char rest[64];
    push_four(&watcher, 1, rest);
    come(&end, 0, "", first_form);
    settle();
    forget_text(&end);
    turn_begin();
    assert_non_null(subscribe(&end, 1, rest));
    push(0, "own");
    push(1, "m5");
    hub_flush(hub);
    turns(2);
    assert_non_null(strstr(end.text, "- 1 own\n"));
    assert_non_null(strstr(end.text, "svc:v1 welcome svc:v1 again\n"));
    assert_non_null(strstr(end.text, "svc:v1 2 m2\nsvc:v1 3 m3\nsvc:v1 4 m4\nsvc:v1 5 m5\n"));
    leave(&end);
    leave(&watcher);
}

static void what_it_was_answered_leaves_before_it_is_closed(void **state)
{
    (void)state;
    struct door_end end;
    come(&end, 0, "", first_form);
    settle();
    forget_text(&end);
    turn_begin();
    door_message(&end.client, OPCODE_TEXT, "ping", 4);
    client_close(&end.client, CLOSE_BY_OPERATOR, "closed");
    assert_string_equal(end.text, "pong\n");
    assert_int_equal(end.code, CLOSE_BY_OPERATOR);
    client_close(&end.client, CLOSE_RATE, "once only");
    push(0, "not for it");
    hub_flush(hub);
    assert_string_equal(end.text, "pong\n");
    client_check(&end.client);
    leave(&end);
}

static void refresh(struct door_end *end, const char *message)
{
    turn_begin();
    door_message(&end->client, OPCODE_TEXT, message, strlen(message));
    hub_flush(hub);
}

static void a_token_that_is_refused_changes_nothing(void **state)
{
    (void)state;
    struct door_end end;
    come(&end, 0, "", first_form);
    settle();
    forget_text(&end);
    refresh(&end, "token good");
    refresh(&end, "token bad");
    assert_string_equal(end.text, "ack 7\nerror 7 unauthorized: no good\n");
    refresh(&end, "token narrow");
    turns(1);
    assert_true(end.closed);
    assert_int_equal(end.code, CLOSE_UNAUTHORIZED);
    leave(&end);
}

/* Each costs the door the check of a signature. */
static void tokens_count_as_messages(void **state)
{
    (void)state;
    struct door_end end;
    come(&end, 0, "", first_form);
    settle();
    checks = 0;
    for (unsigned i = 0; i < 2 * conf->clients.rate_burst && client_takes(&end.client); i++) {
        hub_enter(hub, now_ms); /* no time passes, so no more are allowed */
        door_message(&end.client, OPCODE_TEXT, "token bad", 9);
        hub_flush(hub);
        forget_text(&end);
    }
    assert_int_equal(checks, conf->clients.rate_burst);
    assert_false(client_takes(&end.client));
    door_gone(&end.client, CLOSE_RATE, "");
    hub_flush(hub);
}

static void clients_and_subscriptions_are_small(void **state)
{
    (void)state;
    /* A place among the client's further ones, and what malloc adds */
    assert_true(sizeof(struct subscription) + 2 * sizeof(void *) + 16 <= 200);
    assert_true(sizeof(struct client) <= 160);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_client_is_welcomed_and_gets_what_comes, start, stop),
        cmocka_unit_test_setup_teardown(a_form_is_made_once_for_all_its_clients, start, stop),
        cmocka_unit_test_setup_teardown(all_that_is_due_leaves_in_one_write, start, stop),
        cmocka_unit_test_setup_teardown(what_a_socket_does_not_take_leaves_together_later, start,
                                        stop),
        cmocka_unit_test_setup_teardown(a_session_is_left_alone, start, stop),
        cmocka_unit_test_setup_teardown(what_was_missed_comes_first_and_once, start, stop),
        cmocka_unit_test_setup_teardown(a_place_that_was_never_given_out_is_no_resume, start, stop),
        cmocka_unit_test_setup_teardown(one_that_resumes_does_not_hold_up_the_others, start, stop),
        cmocka_unit_test_setup_teardown(what_it_was_answered_leaves_before_it_is_closed, start,
                                        stop),
        cmocka_unit_test_setup_teardown(a_token_that_is_refused_changes_nothing, start, stop),
        cmocka_unit_test_setup_teardown(tokens_count_as_messages, start, stop),
        cmocka_unit_test(clients_and_subscriptions_are_small),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
