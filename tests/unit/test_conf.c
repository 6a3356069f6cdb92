/* The configuration: what is accepted, what is refused with which line and message, and what is
 * printed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/conf.h"
#include "common/conf_rows.h"
#include "common/redis_url.h"
#include "conf_pem.h"
#include "conf_rig.h"

/* ---- what is accepted ---- */

static void one_service_on_the_command_line_is_a_configuration(void **state)
{
    (void)state;
    const char *services[] = {"remoteWs=127.0.0.1:28088/carmonitor/remotews"};
    struct conf_overrides overrides = {.services = services, .services_len = 1};
    struct conf *conf = load_good(NULL, &overrides);
    assert_string_equal(conf->listen.address, "0.0.0.0:8080");
    assert_string_equal(conf->admin.address, "127.0.0.1:9600");
    assert_string_equal(conf->redis.url, "");
    assert_string_equal(conf->redis.prefix, "vinhub");
    assert_int_equal(conf->redis.on_loss, ON_LOSS_FENCE);
    assert_int_equal(conf->node.lease_ms, 3000);
    assert_int_equal(conf->node.drain_ms, 10000);
    assert_int_equal(conf->clients.replies_len, 3);
    assert_string_equal(conf->clients.replies[2].name, "{\"type\":\"PING\"}");
    assert_string_equal(conf->clients.replies[2].value, "{\"type\":\"PONG\"}");
    assert_int_equal(conf->clients.max_message_bytes, 1 << 20);
    assert_int_equal(conf->log.level, LOG_LEVEL_INFO);
    assert_int_equal(conf->auth.mode, AUTH_NONE);

    struct service *service = conf_service(conf, "remoteWs!", 8);
    assert_non_null(service);
    assert_string_equal(service->upstream, "ws://127.0.0.1:28088/carmonitor/remotews");
    assert_int_equal(service->heartbeat.every_ms, 5000);
    assert_int_equal(service->heartbeat.timeout_ms, 15000);
    assert_int_equal(service->reconnect.min_ms, 500);
    assert_int_equal(service->history.ttl_ms, 300000);
    assert_int_equal(service->history.every_ms, 250);
    assert_int_equal(service->to_upstream.queue_bytes, 256 << 10);
    assert_int_equal(service->slow_client.policy, SLOW_CLOSE);
    assert_int_equal(service->upstream_max_message_bytes, 4 << 20);
    assert_null(conf_service(conf, "remoteW", 7));
    assert_null(conf_service(conf, "", 0));
    conf_unref(conf);
}

static const char full[] =
    "node: {id: n-1, lease: 500ms, drain: 0}\n"
    "listen: {address: \"[::1]:0\", proxy_protocol: true, trusted_proxies: [10.0.0.0/8, \"::1\"]}\n"
    "admin: {address: localhost:9601, token: s3cret, allow_open: true}\n"
    "redis: {url: \"rediss://u:p%40@r.example:6380/3\", prefix: p, tls_name: redis.internal,\n"
    "  replicas: 1, on_loss: serve}\n"
    "services:\n"
    "- name: remoteWs\n"
    "  upstream: car:28088/carmonitor/remotews{path}\n"
    "  session: \"{user}:{vin}\"\n"
    "  headers: {Authorization: \"Bearer ${VINHUB_TEST_TOKEN}\", X-A: b}\n"
    "  heartbeat: {text: hi, reply: ho, every: 0, timeout: 1m}\n"
    "  reconnect: {min: 1s, max: 2s, timeout: 3s}\n"
    "  linger: 0\n"
    "  history: {size: 7, ttl: 1h}\n"
    "  replay: 3\n"
    "  to_upstream: {queue: 0, wait: 1s}\n"
    "  slow_client: {queue: 1KiB, policy: latest}\n"
    "  upstream_max_message: 2000\n"
    "- {name: b, upstream: \"wss://h/{vin}\"}\n"
    "default_service: b\n"
    "clients:\n"
    "  replies: {a: b}\n"
    "  ping: {every: 1m, timeout: 5s}\n"
    "  max_message: 2MiB\n"
    "  rate: {messages: 0, per: 2s, burst: 0}\n"
    "  max: 10\n"
    "  max_per_ip: 2\n"
    "  compression: true\n"
    "origins: [example.com, \"*.example.com\", \"https://a.b:8443\", \"null\", "
    "\"http://[::1]:80\"]\n"
    "auth: {mode: none, algorithm: ES256, audience: aud, issuer: iss}\n"
    "log: {level: debug, format: json, audit: true}\n";

static void every_key_of_the_file_arrives(void **state)
{
    (void)state;
    setenv("VINHUB_TEST_TOKEN", "t0p", 1);
    struct conf *conf = load_good(full, NULL);
    assert_string_equal(conf->node.id, "n-1");
    assert_int_equal(conf->node.lease_ms, 500);
    assert_int_equal(conf->node.drain_ms, 0);
    assert_string_equal(conf->listen.address, "[::1]:0");
    assert_true(conf->listen.proxy_protocol);
    assert_int_equal(conf->listen.trusted_proxies_len, 2);
    assert_string_equal(conf->listen.trusted_proxies[1], "::1");
    assert_string_equal(conf->admin.token, "s3cret");
    assert_true(conf->admin.allow_open);
    assert_string_equal(conf->redis.url, "rediss://u:p%40@r.example:6380/3");
    assert_string_equal(conf->redis.tls_name, "redis.internal");
    assert_int_equal(conf->redis.replicas, 1);
    assert_int_equal(conf->redis.on_loss, ON_LOSS_SERVE);
    assert_int_equal(conf->services_len, 2);
    const struct service *service = conf->services[0];
    assert_string_equal(service->upstream, "ws://car:28088/carmonitor/remotews{path}");
    assert_string_equal(service->session, "{user}:{vin}");
    assert_int_equal(service->headers_len, 2);
    assert_string_equal(service->headers[0].name, "Authorization");
    assert_string_equal(service->headers[0].value, "Bearer t0p");
    assert_string_equal(service->heartbeat.text, "hi");
    assert_string_equal(service->heartbeat.reply, "ho");
    assert_int_equal(service->heartbeat.every_ms, 0);
    assert_int_equal(service->heartbeat.timeout_ms, 60000);
    assert_int_equal(service->reconnect.max_ms, 2000);
    assert_int_equal(service->reconnect.timeout_ms, 3000);
    assert_int_equal(service->linger_ms, 0);
    assert_int_equal(service->history.size, 7);
    assert_int_equal(service->replay, 3);
    assert_int_equal(service->to_upstream.queue_bytes, 0);
    assert_int_equal(service->to_upstream.wait_ms, 1000);
    assert_int_equal(service->slow_client.queue_bytes, 1024);
    assert_int_equal(service->slow_client.policy, SLOW_LATEST);
    assert_int_equal(service->upstream_max_message_bytes, 2000);
    assert_string_equal(conf->services[1]->upstream, "wss://h/{vin}");
    assert_int_equal(conf->services[1]->linger_ms, 5000);
    assert_string_equal(conf->default_service, "b");
    assert_int_equal(conf->clients.replies_len, 1);
    assert_int_equal(conf->clients.ping_every_ms, 60000);
    assert_int_equal(conf->clients.rate_messages, 0);
    assert_int_equal(conf->clients.rate_per_ms, 2000);
    assert_int_equal(conf->clients.max, 10);
    assert_true(conf->clients.compression);
    assert_int_equal(conf->origins_len, 5);
    assert_string_equal(conf->auth.algorithm, "ES256");
    assert_string_equal(conf->auth.issuer, "iss");
    assert_int_equal(conf->log.level, LOG_LEVEL_DEBUG);
    assert_int_equal(conf->log.format, LOG_FORMAT_JSON);
    assert_true(conf->log.audit);
    conf_unref(conf);
}

static void empty_maps_and_values_are_defaults_or_empty(void **state)
{
    (void)state;
    struct conf *conf = load_good(
        "node:\nlisten: {}\nadmin: {token: }\norigins:\nclients: {replies: {}, ping: ~}\n"
        "redis: {url: null}\n" ONE_SERVICE,
        NULL);
    assert_int_equal(conf->node.lease_ms, 3000);
    assert_string_equal(conf->admin.token, "");
    assert_string_equal(conf->redis.url, "");
    assert_int_equal(conf->clients.replies_len, 0);
    assert_int_equal(conf->clients.ping_every_ms, 25000);
    conf_unref(conf);
}

static void later_sources_go_before_earlier_ones(void **state)
{
    (void)state;
    static const char file[] =
        "listen: {address: \"1.1.1.1:1\"}\nadmin: {address: \"127.0.0.1:1\"}\nnode: {id: file}\n"
        "services: [{name: a, upstream: \"h:1/x\", linger: 9s}]\n";
    setenv("VINHUB_LISTEN", "2.2.2.2:2", 1);
    setenv("VINHUB_ADMIN", "127.0.0.1:2", 1);
    setenv("VINHUB_NODE_ID", "", 1); /* counts as not set */
    setenv("VINHUB_REDIS_URL", "redis://127.0.0.1", 1);
    setenv("VINHUB_LOG_LEVEL", "warn", 1);
    setenv("VINHUB_ADMIN_TOKEN", "t", 1);
    setenv("VINHUB_SERVICES", "b=h:2/y,c=wss://z,", 1);
    const char *services[] = {"a=new:1/x?k=v", "d=h:4/z"};
    struct conf_overrides overrides = {
        .listen = "3.3.3.3:3", .redis_url = "", .services = services, .services_len = 2};
    struct conf *conf = load_good(file, &overrides);
    assert_string_equal(conf->listen.address, "3.3.3.3:3");
    assert_string_equal(conf->admin.address, "127.0.0.1:2");
    assert_string_equal(conf->node.id, "file");
    assert_string_equal(conf->redis.url, "");
    assert_string_equal(conf->admin.token, "t");
    assert_int_equal(conf->log.level, LOG_LEVEL_WARN);
    assert_int_equal(conf->services_len, 4);
    assert_string_equal(conf->services[0]->upstream, "ws://new:1/x?k=v");
    assert_int_equal(conf->services[0]->linger_ms, 9000);
    assert_string_equal(conf->services[1]->upstream, "ws://h:2/y");
    assert_string_equal(conf->services[2]->upstream, "wss://z");
    assert_string_equal(conf->services[3]->name, "d");
    conf_unref(conf);
}

/* ---- what is refused ---- */

static void a_mistake_names_file_line_key_and_what_is_allowed(void **state)
{
    (void)state;
    static const struct {
        const char *text, *wanted;
    } cases[] = {
        {"\nnode:\n  lease: 3\n" ONE_SERVICE, "vinhub.yaml:3: node.lease: expected a duration with "
                                              "unit (ms s m h) from 500ms to 1h, got \"3\""},
        {"node: {lease: 499ms}\n" ONE_SERVICE, ":1: node.lease: "},
        {"node: {lease: soon}\n" ONE_SERVICE, "got \"soon\""},
        {"node: {lease: 2h}\n" ONE_SERVICE, ":1: node.lease: "},
        {"node: {lease: [1s]}\n" ONE_SERVICE, ":1: node.lease: "},
        {"node: {id: \"a b\"}\n" ONE_SERVICE, ":1: node.id: expected a name of"},
        {"node: {laese: 3s}\n" ONE_SERVICE,
         ":1: node.laese: unknown key, expected one of: id, lease, drain (did you mean lease?)"},
        {"nodes: {}\n" ONE_SERVICE,
         ":1: nodes: unknown key, expected one of: services, node, listen"},
        {"nodes: {}\n" ONE_SERVICE, "(did you mean node?)"},
        {"node.lease: 3s\n" ONE_SERVICE, ":1: node.lease: unknown key"},
        {"node: 3s\n" ONE_SERVICE, ":1: node: expected a map"},
        {"- a\n", ":1: expected a map of settings"},
        {"node: {lease: 3s,\n  lease: 4s}\n" ONE_SERVICE,
         ":2: node.lease: duplicate key, first defined on line 1"},
        {ONE_SERVICE "log: {level: info}\nlog: {level: warn}\n", ":3: log: duplicate key"},
        {"listen: {address: 8080}\n" ONE_SERVICE, ":1: listen.address: expected ADDRESS:PORT"},
        {"listen: {address: \"0.0.0.0:65536\"}\n" ONE_SERVICE, ":1: listen.address: "},
        {"listen: {address: \"1.2.3.4.5:80\"}\n" ONE_SERVICE, ":1: listen.address: "},
        {"listen: {address: \"::1:80\"}\n" ONE_SERVICE, ":1: listen.address: "},
        {"listen: {address: \"[::1\"}\n" ONE_SERVICE, ":1: listen.address: "},
        {"listen: {proxy_protocol: maybe}\n" ONE_SERVICE,
         ":1: listen.proxy_protocol: expected true or false"},
        {"listen: {trusted_proxies: 10.0.0.0/8}\n" ONE_SERVICE,
         ":1: listen.trusted_proxies: expected a list"},
        {"listen:\n  trusted_proxies:\n  - ::1\n  - 10.0.0.0/33\n" ONE_SERVICE,
         ":4: listen.trusted_proxies: expected an address or CIDR"},
        {"redis: {tls_key: /x}\n" ONE_SERVICE,
         ":1: redis.tls_key: expected tls_cert and tls_key, or neither, got tls_key alone"},
        {"redis: {tls_name: \"a b\"}\n" ONE_SERVICE,
         ":1: redis.tls_name: expected a host name or an address"},
        {"redis: {sentinel_user: u}\n" ONE_SERVICE,
         ":1: redis.sentinel_user: expected redis.sentinel_password beside it"},
        {"listen: {tls_cert: /x}\n" ONE_SERVICE,
         ":1: listen.tls_cert: expected tls_cert and tls_key, or neither, got tls_cert alone"},
        {"admin:\n  address: 0.0.0.0:9600\n" ONE_SERVICE,
         ":2: admin.address: expected a loopback address"},
        {"redis: {url: \"http://h\"}\n" ONE_SERVICE, ":1: redis.url: expected redis://"},
        {"redis: {replicas: -1}\n" ONE_SERVICE,
         ":1: redis.replicas: expected a whole number from 0 to 16"},
        {"redis: {replicas: 1s}\n" ONE_SERVICE, ":1: redis.replicas: "},
        {"redis: {on_loss: panic}\n" ONE_SERVICE,
         ":1: redis.on_loss: expected one of fence, serve, got \"panic\""},
        {"redis: {prefix: \"\"}\n" ONE_SERVICE, ":1: redis.prefix: expected a name"},
        {"clients: {max_message: 1MB}\n" ONE_SERVICE,
         ":1: clients.max_message: expected a size in bytes, KiB, MiB or GiB"},
        {"clients: {max_message: 0}\n" ONE_SERVICE, ":1: clients.max_message: "},
        {"clients: {max_message: 2GiB}\n" ONE_SERVICE, ":1: clients.max_message: "},
        {"clients: {rate: {messages: 1, burst: 0}}\n" ONE_SERVICE,
         ":1: clients.rate.burst: expected at least 1"},
        {"clients: {rate: {mesages: 1}}\n" ONE_SERVICE,
         ":1: clients.rate.mesages: unknown key, expected one of: messages, per, burst (did you "
         "mean "
         "messages?)"},
        {"clients: {replies: [ping]}\n" ONE_SERVICE, ":1: clients.replies: expected a map"},
        {"clients: {replies: {a: [b]}}\n" ONE_SERVICE,
         ":1: clients.replies: expected a name and a text"},
        {"clients: {replies: {a: b,\n a: c}}\n" ONE_SERVICE,
         ":2: clients.replies.a: duplicate key"},
        {"origins: [\"https://\"]\n" ONE_SERVICE, ":1: origins: expected a host"},
        {"origins: [\"*\"]\n" ONE_SERVICE, ":1: origins: "},
        {"origins: [\"HTTPS://a/\"]\n" ONE_SERVICE, ":1: origins: "},
        {"origins: [\"file:// x\"]\n" ONE_SERVICE, ":1: origins: "},
        {"origins: [\"://a\"]\n" ONE_SERVICE, ":1: origins: "},
        {"origins: [\"https://a/b\"]\n" ONE_SERVICE, ":1: origins: "},
        {"auth: {mode: basic}\n" ONE_SERVICE, ":1: auth.mode: expected one of none, jwt"},
        {"auth: {algorithm: none}\n" ONE_SERVICE,
         ":1: auth.algorithm: expected one of HS256, HS384, HS512, RS256, ES256, EdDSA"},
        {"log: {level: loud}\n" ONE_SERVICE,
         ":1: log.level: expected one of debug, info, warn, error"},
        {"default_service: zz\n" ONE_SERVICE,
         ":1: default_service: expected the name of a configured service, got \"zz\""},
        {"", "services: expected at least one: \"- name: NAME\" with \"upstream: URL\" below, or "
             "--service NAME=URL"},
        {"services: []\n", "services: expected at least one"},
        {"node: \"a\n", "invalid YAML"},
        {"node: {lease: 3s\n", "invalid YAML"},
        {"\tnode: 1\n", ":1: invalid YAML"},
        {ONE_SERVICE "\nnode:\n  id: a\xff\n", ":4: invalid YAML"},
        {ONE_SERVICE "---\nnode: {}\n", ":3: expected one YAML document, got a second one"},
        {"node: {id: \"a\\0b\"}\n" ONE_SERVICE, ":1: node.id: "},
    };
    for (size_t i = 0; i < LEN(cases); i++)
        assert_mistake(cases[i].text, cases[i].wanted);
}

#define SERVICE(rest) "services:\n- name: a\n  upstream: h:1/x\n  " rest "\n"

static void a_service_is_checked_like_all_else(void **state)
{
    (void)state;
    static const struct {
        const char *text, *wanted;
    } cases[] = {
        {"services:\n- upstream: h:1/x\n", ":2: services[0].name: expected a name"},
        {"services:\n- name: a\n", ":2: services.a.upstream: expected the URL of the backend"},
        {"services:\n- name: \"\"\n  upstream: h:1/x\n",
         ":2: services[0].name: expected a name of"},
        {"services:\n- name: a b\n  upstream: h:1/x\n", ":2: services[0].name: expected a name of"},
        {"services:\n- {name: a, upstream: \"h:1/x\"}\n- {name: a, upstream: \"h:2/x\"}\n",
         ":3: services.a.name: duplicate name"},
        {"services: {a: {}}\n", "services: expected a list"},
        {"services:\n- a\n", ":2: services[0]: expected a map with name and upstream"},
        {ONE_SERVICE "services: []\n", ":2: services: duplicate key"},
        {"services: [{name: a, upstream: h}]\n",
         ":1: services[0].upstream: expected host:port/path"},
        {"services: [{name: a, upstream: \"http://h/\"}]\n", ":1: services[0].upstream: "},
        {"services: [{name: a, upstream: \"ws://h/{key\"}]\n", ":1: services[0].upstream: "},
        {"services: [{name: a, upstream: \"ws://h/{bad}\"}]\n", ":1: services[0].upstream: "},
        {"services: [{name: a, upstream: \"ws://{vin}/\"}]\n", ":1: services[0].upstream: "},
        {"services: [{name: a, upstream: \"ws://h{vin}/\"}]\n", ":1: services[0].upstream: "},
        {"services: [{name: a, upstream: \"ws://h:{vin}/\"}]\n", ":1: services[0].upstream: "},
        {"services: [{name: a, upstream: \"ws://h/#f\"}]\n", ":1: services[0].upstream: "},
        {"services: [{name: a, upstream: \"ws://h/a b\"}]\n", ":1: services[0].upstream: "},
        {SERVICE("session: \"{key}\""), ":4: services[0].session: expected text with {path}"},
        {SERVICE("session: \"{vin\""), ":4: services[0].session: "},
        {SERVICE("linger: 25h"),
         ":4: services[0].linger: expected a duration with unit (ms s m h) from 0 to 24h"},
        {SERVICE("heartbeat: {every: 5}"), ":4: services[0].heartbeat.every: "},
        {SERVICE("heartbeat: {text: \"\"}"),
         ":4: services[0].heartbeat.text: expected text that is not empty"},
        {SERVICE("reconnect: {min: 11s}"),
         ":4: services.a.reconnect.min: expected at most reconnect.max"},
        {SERVICE("history: {size: 100001}"),
         ":4: services[0].history.size: expected a whole number from 0 to 100000"},
        {SERVICE("slow_client: {policy: drop}"),
         ":4: services[0].slow_client.policy: expected one of close, drop_oldest, latest"},
        {SERVICE("slow_client: {quue: 1}"), ":4: services[0].slow_client.quue: unknown key, "
                                            "expected one of: queue, policy (did you mean queue?)"},
        {SERVICE("headers: {A: \"${VINHUB_TEST_UNSET}\"}"),
         ":4: services[0].headers: expected the environment variable VINHUB_TEST_UNSET, which is "
         "not set"},
        {SERVICE("headers: {A: \"${\"}"),
         ":4: services[0].headers: expected a variable as ${NAME}"},
        {SERVICE("headers: {A: \"x\\r\\ny: z\"}"), ":4: services[0].headers: expected a header"},
        {SERVICE("headers: {\"A B\": x}"), ":4: services[0].headers: expected a header"},
        {SERVICE("headers: {Host: x}"), ":4: services[0].headers: expected a header"},
        {SERVICE("headers: {sec-websocket-key: x}"), ":4: services[0].headers: expected a header"},
        {SERVICE("headers: {connection: x}"), ":4: services[0].headers: expected a header"},
        {SERVICE("headers: {A: x, a: y}"), ":4: services[0].headers: duplicate header a"},
        {SERVICE("tls_ca: /nowhere"),
         ":4: services.a.tls_ca: expected a readable file, got \"/nowhere\": No such file"},
    };
    unsetenv("VINHUB_TEST_UNSET");
    for (size_t i = 0; i < LEN(cases); i++)
        assert_mistake(cases[i].text, cases[i].wanted);
}

static const struct {
    const char *url, *upstream, *authorization; /* NULL: refused */
} with_credentials[] = {
    {"ws://user:p%40ss@h/x", "ws://h/x", "Basic dXNlcjpwQHNz"},
    {"wss://u:@h:1/{path}", "wss://h:1/{path}", "Basic dTo="},
    {"ws://u@h", "ws://h", "Basic dTo="},
    {"u:p@h:1/x", "ws://h:1/x", "Basic dTpw"},
    {"ws://u:hush:hush@[::1]:1/x@y", "ws://[::1]:1/x@y", "Basic dTpodXNoOmh1c2g="},
    {"ws://u:hush@hush@h/x", "ws://h/x", "Basic dTpodXNoQGh1c2g="},
    {"ws://u%20%C3%A4:%7B%7D@h/x", "ws://h/x", "Basic dSDDpDp7fQ=="},
    {"ws://h/x@y:z", "ws://h/x@y:z", NULL},
    {"ws://:hush@h/x", NULL, NULL},
    {"ws://@h/x", NULL, NULL},
    {"ws://u%3A:hush@h/x", NULL, NULL},
    {"ws://u:hush%0A@h/x", NULL, NULL},
    {"ws://u:hush%4@h/x", NULL, NULL},
    {"ws://u:hush%@h/x", NULL, NULL},
    {"ws://u:hu/sh@h/x", NULL, NULL},
    {"ws://u:{vin}@h/hush", NULL, NULL},
    {"ws://u:hush@{vin}/x", NULL, NULL},
    {"ws://u:hush@/x", NULL, NULL},
    {"u:hush@h/x", NULL, NULL},
};

static void assert_is_silent(const char *text)
{
    assert_null(strstr(text, "hush"));
    assert_null(strstr(text, "p%40ss"));
    assert_null(strstr(text, "p@ss"));
}

static void credentials_in_an_upstream_become_a_header_and_never_show(void **state)
{
    (void)state;
    for (size_t i = 0; i < LEN(with_credentials); i++) {
        char text[256];
        snprintf(text, sizeof(text), "services: [{name: a, upstream: \"%s\"}]\n",
                 with_credentials[i].url);
        if (!with_credentials[i].upstream) {
            load_bad(text, NULL, 1);
            assert_finding("services[0].upstream: ");
            for (size_t n = 0; n < findings.len; n++)
                assert_is_silent(findings.lines[n]);
            conf_findings_fini(&findings);
            continue;
        }
        struct conf *conf = load_good(text, NULL);
        const struct service *service = conf->services[0];
        char *printed = conf_print(conf);
        assert_is_silent(printed);
        assert_string_equal(service->upstream, with_credentials[i].upstream);
        assert_int_equal(service->headers_len, with_credentials[i].authorization != NULL);
        if (service->headers_len > 0) {
            assert_string_equal(service->headers[0].name, "Authorization");
            assert_string_equal(service->headers[0].value, with_credentials[i].authorization);
        }
        free(printed);
        conf_unref(conf);
    }
}

static void credentials_stand_in_one_place(void **state)
{
    (void)state;
    assert_mistake(
        "services: [{name: a, upstream: \"ws://u:hush@h/\", headers: {authorization: "
        "x}}]\n",
        ":1: services.a.upstream: expected user and password in the URL, or Authorization "
        "in headers, got both");
    const char *services[] = {"a=ws://u:hush@h/"}, *bad[] = {"ws://u:hush@h/"};
    struct conf_overrides overrides = {.services = services, .services_len = 1};
    struct conf *conf = load_good(NULL, &overrides);
    assert_string_equal(conf->services[0]->headers[0].value, "Basic dTpodXNo");
    assert_string_equal(conf->services[0]->upstream, "ws://h/");
    conf_unref(conf);
    overrides.services = bad;
    load_bad(NULL, &overrides, 1);
    for (size_t n = 0; n < findings.len; n++)
        assert_is_silent(findings.lines[n]);
    conf_findings_fini(&findings);
}

static void all_mistakes_are_reported_at_once_without_secrets(void **state)
{
    (void)state;
    load_bad("node: {lease: 1}\nlog: {level: x}\nadmin: {token: \"se cret\"}\nredis: {url: "
             "\"redis://u:hush@:\"}\n"
             "services: [{name: a, upstream: \"h:1/x\", headers: {A: \"hush\\n\"}}]\n",
             NULL, 5);
    assert_finding("node.lease");
    assert_finding("log.level");
    assert_finding("admin.token");
    assert_false(has_finding("se cret"));
    assert_false(has_finding("hush"));
    conf_findings_fini(&findings);
}

static void a_file_that_cannot_be_read_is_a_mistake(void **state)
{
    (void)state;
    struct conf *conf = NULL;
    assert_int_equal(conf_load("/nowhere/vinhub.yaml", NULL, &findings, &conf), STATUS_INVALID);
    assert_int_equal(findings.errors, 1);
    assert_string_equal(findings.lines[0],
                        "/nowhere/vinhub.yaml: the file can't be read: No such file or directory");
    conf_findings_fini(&findings);
    assert_int_equal(conf_load("/tmp", NULL, &findings, &conf), STATUS_INVALID);
    conf_findings_fini(&findings);
}

static void variables_and_flags_are_named_in_mistakes(void **state)
{
    (void)state;
    static const struct {
        const char *name, *value, *wanted;
    } variables[] = {
        {"VINHUB_LISTEN", "80", "VINHUB_LISTEN: listen.address: expected ADDRESS:PORT"},
        {"VINHUB_ADMIN", "1.2.3.4:1", "VINHUB_ADMIN: admin.address: expected a loopback address"},
        {"VINHUB_REDIS_URL", "x", "VINHUB_REDIS_URL: redis.url: "},
        {"VINHUB_NODE_ID", "a b", "VINHUB_NODE_ID: node.id: "},
        {"VINHUB_LOG_LEVEL", "x", "VINHUB_LOG_LEVEL: log.level: "},
        {"VINHUB_SERVICES", "b", "VINHUB_SERVICES: services: expected NAME=URL, got \"b\""},
        {"VINHUB_SERVICES", "b=c", "VINHUB_SERVICES: services.b.upstream: "},
    };
    for (size_t i = 0; i < LEN(variables); i++) {
        setenv(variables[i].name, variables[i].value, 1);
        assert_mistake(ONE_SERVICE, variables[i].wanted);
        unsetenv(variables[i].name);
    }
    const char *services[] = {"=x"};
    struct conf_overrides overrides = {.listen = "a",
                                       .admin = "0.0.0.0:1",
                                       .redis_url = "b",
                                       .node_id = "?",
                                       .log_level = "d",
                                       .services = services,
                                       .services_len = 1};
    load_bad(ONE_SERVICE, &overrides, 6);
    assert_finding("--listen: listen.address: ");
    assert_finding("--admin: admin.address: ");
    assert_finding("--redis: redis.url: ");
    assert_finding("--node-id: node.id: ");
    assert_finding("--log-level: log.level: ");
    assert_finding("--service: services: expected NAME=URL");
    conf_findings_fini(&findings);
}

static void what_is_odd_but_allowed_is_a_warning(void **state)
{
    (void)state;
    static const struct {
        const char *text, *wanted; /* NULL: none */
    } cases[] = {
        {ONE_SERVICE, NULL},
        {"redis: {url: \"redis://r.example\"}\n" ONE_SERVICE,
         ":1: redis.url: warning: neither a password nor TLS"},
        {"redis: {url: \"redis://:p@r.example\"}\n" ONE_SERVICE, NULL},
        {"redis: {url: \"rediss://r.example\"}\n" ONE_SERVICE, NULL},
        {"redis: {url: \"redis://localhost:1/2\"}\n" ONE_SERVICE, NULL},
        {"redis: {url: \"redis-cluster://127.0.0.1:1,10.0.0.1:2\"}\n" ONE_SERVICE,
         "warning: neither"},
        {SERVICE("heartbeat: {every: 5s, timeout: 5s}"),
         ":4: services.a.heartbeat.timeout: warning: "},
        {SERVICE("replay: 101"), ":4: services.a.replay: warning: more than history.size"},
    };
    for (size_t i = 0; i < LEN(cases); i++) {
        struct conf *conf = NULL;
        assert_int_equal(load(cases[i].text, NULL, &conf), STATUS_OK);
        assert_int_equal(findings.errors, 0);
        assert_int_equal(findings.len, cases[i].wanted ? 1 : 0);
        if (cases[i].wanted)
            assert_finding(cases[i].wanted);
        conf_findings_fini(&findings);
        conf_unref(conf);
    }
}

/* ---- keys ---- */

#define LONG_SECRET "0123456789abcdef0123456789abcdef"

static struct conf *load_auth(const char *algorithm, const char *key, const char *path)
{
    char text[512];
    snprintf(text, sizeof(text),
             "auth: {mode: jwt, algorithm: %s, %s: %s}\nservices: [{name: a, upstream: "
             "\"ws://h/{vin}\"}]\n",
             algorithm, key, path);
    struct conf *conf = NULL;
    (void)!load(text, NULL, &conf);
    return conf;
}

static void a_secret_comes_from_its_file_or_the_environment(void **state)
{
    (void)state;
    struct conf *conf = load_auth("HS256", "secret_file",
                                  write_file("secret", LONG_SECRET "\nx\r\n"));
    assert_non_null(conf);
    assert_int_equal(findings.len, 0);
    assert_string_equal(conf->auth.secret, LONG_SECRET "\nx"); /* only the end is trimmed */
    conf_unref(conf);

    conf = load_auth("HS512", "secret_file", write_file("secret", LONG_SECRET));
    assert_finding("warning: the secret is shorter than the 64 bytes that HS512");
    conf_findings_fini(&findings);
    conf_unref(conf);

    assert_null(load_auth("HS256", "secret_file", write_file("secret", "\n")));
    assert_finding(":1: auth.secret_file: expected a secret, got an empty one");
    conf_findings_fini(&findings);
    assert_null(load_auth("HS256", "secret_file", "/nowhere"));
    assert_finding(
        ":1: auth.secret_file: expected a readable file, got \"/nowhere\": No such file");
    conf_findings_fini(&findings);
    assert_null(load_auth("HS256", "issuer", "x"));
    assert_finding(
        ":1: auth.secret_file: expected a file with the secret for HS256 (or VINHUB_JWT_SECRET)");
    conf_findings_fini(&findings);

    setenv("VINHUB_JWT_SECRET", LONG_SECRET "!", 1);
    conf = load_auth("HS256", "secret_file", "/nowhere");
    assert_non_null(conf);
    assert_string_equal(conf->auth.secret, LONG_SECRET "!");
    conf_unref(conf);
    setenv("VINHUB_JWT_SECRET", "short", 1);
    conf = load_auth("HS256", "issuer", "x");
    assert_finding("VINHUB_JWT_SECRET: auth: warning: the secret is shorter");
    assert_false(has_finding("short,"));
    conf_findings_fini(&findings);
    conf_unref(conf);
}

static void a_public_key_fits_its_algorithm(void **state)
{
    (void)state;
    static const struct {
        const char *algorithm, *pem, *flaw; /* NULL: fits */
    } cases[] = {
        {"RS256", pem_rsa_2048, NULL},
        {"ES256", pem_p256, NULL},
        {"RS256", pem_rsa_1024, "it has less than 2048 bits"},
        {"RS256", pem_p256, "it is not an RSA key"},
        {"ES256", pem_rsa_2048, "it is not an EC key"},
        {"ES256", pem_p384, "it is not on P-256"},
        {"ES256", pem_key, "it holds none"},
        {"EdDSA", pem_ed25519, NULL},
        {"EdDSA", pem_p256, "it is not an Ed25519 or Ed448 key"},
        {"ES256", pem_ed25519, "it is not an EC key"},
        {"RS256", "garbage", "it holds none"},
        {"RS256", "", "it holds none"},
    };
    for (size_t i = 0; i < LEN(cases); i++) {
        struct conf *conf = load_auth(cases[i].algorithm, "public_key_file",
                                      write_file("public.pem", cases[i].pem));
        if (!cases[i].flaw) {
            assert_non_null(conf);
            assert_string_equal(conf->auth.public_key, cases[i].pem);
            conf_unref(conf);
        } else {
            assert_null(conf);
            assert_finding(cases[i].flaw);
        }
        conf_findings_fini(&findings);
    }
    assert_null(load_auth("ES256", "secret_file", "/nowhere"));
    assert_finding(":1: auth.public_key_file: expected a PEM file with the public key for ES256");
    conf_findings_fini(&findings);
}

static void auth_with_shared_upstreams_that_name_the_user_is_a_warning(void **state)
{
    (void)state;
    setenv("VINHUB_JWT_SECRET", LONG_SECRET, 1);
    struct conf *conf = NULL;
    assert_int_equal(load("auth: {mode: jwt}\n" ONE_SERVICE, NULL, &conf), STATUS_OK);
    assert_int_equal(findings.len, 1);
    assert_finding(":2: services.a.session: warning: the upstream URL names the user but the "
                   "session key does not");
    conf_findings_fini(&findings);
    conf_unref(conf);
    conf = load_good("auth: {mode: jwt}\nservices: [{name: a, upstream: \"h:1/x\", session: "
                     "\"{user}:{vin}\"}]\n",
                     NULL);
    conf_unref(conf);
}

static void certificate_and_key_belong_together(void **state)
{
    (void)state;
    static const struct {
        const char *cert, *key, *wanted; /* NULL: fits */
    } cases[] = {
        {pem_certificate, pem_key, NULL},
        {pem_certificate, pem_other_key, ".tls_key: the private key \""},
        {pem_certificate, pem_encrypted_key,
         ".tls_key: expected a PEM file with a private key without pass phrase"},
        {pem_certificate, "garbage", ".tls_key: expected a PEM file with a private key"},
        {pem_key, pem_key, ".tls_cert: expected a PEM file with a certificate"},
    };
    static const char *const owners[] = {"listen: {", "redis: {url: \"rediss://r:1\", "};
    for (size_t i = 0; i < LEN(cases) * LEN(owners); i++) {
        size_t n = i / LEN(owners);
        char text[512];
        snprintf(text, sizeof(text), "%stls_cert: %s, tls_key: %s}\n" ONE_SERVICE,
                 owners[i % LEN(owners)], write_file("cert.pem", cases[n].cert),
                 write_file("key.pem", cases[n].key));
        if (!cases[n].wanted)
            conf_unref(load_good(text, NULL));
        else
            assert_mistake(text, cases[n].wanted);
    }
    char text[512];
    snprintf(text, sizeof(text), SERVICE("tls_ca: %s"), write_file("ca.pem", pem_certificate));
    conf_unref(load_good(text, NULL));
    snprintf(text, sizeof(text), SERVICE("tls_ca: %s"), write_file("ca.pem", pem_key));
    assert_mistake(text, "services.a.tls_ca: expected a PEM file with certificates");
}

static void what_the_redis_url_has_no_use_for_is_a_warning(void **state)
{
    (void)state;
    static const struct {
        const char *redis, *wanted; /* NULL: nothing to say */
    } cases[] = {
        {"url: \"redis://localhost:1\", tls_name: r.example",
         "redis.tls_name: warning: not used: redis.url is not a rediss:// URL"},
        {"url: \"redis://localhost:1\", sentinel_password: hush",
         "redis.sentinel_password: warning: not used: redis.url is not a redis-sentinel:// URL"},
        {"url: \"rediss-sentinel://r:1/m\", tls_name: r.example, sentinel_password: hush", NULL},
        {"url: \"redis-sentinel://localhost:1/m\", sentinel_user: u, sentinel_password: hush",
         NULL},
    };
    for (size_t i = 0; i < LEN(cases); i++) {
        char text[512];
        struct conf *conf = NULL;
        snprintf(text, sizeof(text), "redis: {%s}\n" ONE_SERVICE, cases[i].redis);
        assert_int_equal(load(text, NULL, &conf), STATUS_OK);
        assert_int_equal(findings.len, cases[i].wanted != NULL);
        if (cases[i].wanted)
            assert_finding(cases[i].wanted);
        assert_false(has_finding("hush"));
        conf_findings_fini(&findings);
        char *printed = conf_print(conf);
        assert_null(strstr(printed, "hush"));
        free(printed);
        conf_unref(conf);
    }
}

/* ---- what is printed ---- */

static void what_is_printed_reads_back_to_the_same_but_for_secrets(void **state)
{
    (void)state;
    setenv("VINHUB_TEST_TOKEN", "t0p", 1);
    struct conf *conf = load_good(full, NULL);
    char *printed = conf_print(conf);
    assert_null(strstr(printed, "s3cret"));
    assert_null(strstr(printed, "t0p"));
    assert_null(strstr(printed, "p%40"));
    assert_non_null(strstr(printed, "url: \"rediss://u:***@r.example:6380/3\""));
    assert_non_null(
        strstr(printed, "    upstream: \"ws://car:28088/carmonitor/remotews{path}\"\n"));

    struct conf *again = load_good(printed, NULL);
    char *printed_again = conf_print(again);
    assert_string_equal(printed_again, printed);
    struct conf_findings changes;
    conf_diff(conf, again, &changes);
    assert_int_equal(changes.len, 3); /* the token, the URL's password, the headers */
    for (size_t i = 0; i < changes.len; i++)
        assert_non_null(strstr(changes.lines[i], ": changed"));
    conf_findings_fini(&changes);
    free(printed_again);
    free(printed);
    conf_unref(again);
    conf_unref(conf);
}

static void values_of_an_upstream_query_are_not_shown(void **state)
{
    (void)state;
    static const struct {
        const char *upstream, *shown;
    } cases[] = {
        {"ws://h/x?token=hush", "ws://h/x?token=***"},
        {"ws://h/x?vin={vin}&k=hush&who={user}", "ws://h/x?vin={vin}&k=***&who={user}"},
        {"ws://h/x?k=hush{vin}", "ws://h/x?k=***"},
        {"ws://h/x?k={vin}hush", "ws://h/x?k=***"},
        {"ws://h/x?k={vin}hush{user}", "ws://h/x?k=***"},
        {"ws://h/x?a=&hush=hush=hush", "ws://h/x?a=&hush=***"},
        {"ws://h/x{query}", "ws://h/x{query}"},
        {"ws://h/x?flag&{key}", "ws://h/x?flag&{key}"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        char text[256], wanted[256];
        snprintf(text, sizeof(text), "services: [{name: a, upstream: \"%s\"}]\n",
                 cases[i].upstream);
        struct conf *conf = load_good(text, NULL);
        char *printed = conf_print(conf);
        snprintf(wanted, sizeof(wanted), "    upstream: \"%s\"\n", cases[i].shown);
        assert_non_null(strstr(printed, wanted));
        conf_unref(load_good(printed, NULL));
        free(printed);
        conf_unref(conf);
    }
}

static void a_changed_credential_in_an_upstream_is_named_but_not_shown(void **state)
{
    (void)state;
    struct conf *before = load_good("services: [{name: a, upstream: \"ws://h/x?k=hush1\"}]\n",
                                    NULL);
    struct conf *after = load_good("services: [{name: a, upstream: \"ws://h/x?k=hush2\"}]\n", NULL);
    conf_diff(before, after, &findings);
    assert_int_equal(findings.len, 1);
    assert_finding("services.a.upstream: changed");
    conf_findings_fini(&findings);
    conf_unref(before);
    conf_unref(after);
    static const char *const refused[] = {"h:99999/x?k=hush", "ws://h/{no}?k=hush",
                                          "http://h/x?k=hush", "ws://h?k=hush", "ws://h/?k=hush#a"};
    for (size_t i = 0; i < sizeof(refused) / sizeof(*refused); i++) {
        char text[256];
        struct conf *conf = NULL;
        snprintf(text, sizeof(text), "services: [{name: a, upstream: \"%s\"}]\n", refused[i]);
        assert_int_not_equal(load(text, NULL, &conf), STATUS_OK);
        assert_false(has_finding("hush"));
        conf_findings_fini(&findings);
    }
}

static void texts_of_any_kind_survive_printing(void **state)
{
    (void)state;
    struct conf *conf = load_good("clients: {replies: {\"a\\\"b\\\\\": \"\\t\\n\\x7f\\x01 # : {x} "
                                  "\\u00e4\", 'null': \"\", 'yes': '~'}}\n" ONE_SERVICE,
                                  NULL);
    char *printed = conf_print(conf);
    struct conf *again = load_good(printed, NULL);
    assert_int_equal(again->clients.replies_len, 3);
    for (size_t i = 0; i < 3; i++) {
        assert_string_equal(again->clients.replies[i].name, conf->clients.replies[i].name);
        assert_string_equal(again->clients.replies[i].value, conf->clients.replies[i].value);
    }
    free(printed);
    conf_unref(again);
    conf_unref(conf);
}

static void a_reload_says_what_changed_and_what_needs_a_restart(void **state)
{
    (void)state;
    struct conf *before = load_good("admin: {token: one}\n" ONE_SERVICE "", NULL);
    struct conf *same = load_good("node: {lease: 3000ms}\nadmin: {token: one}\n" ONE_SERVICE, NULL);
    struct conf *after = load_good("admin: {token: two}\nnode: {lease: 4s}\nlog: {level: "
                                   "debug}\nclients: {rate: {burst: 5}}\norigins: [a.b]\n"
                                   "services: [{name: a, upstream: \"h:1/x\", linger: 1m, headers: "
                                   "{A: hush}}, {name: b, upstream: \"h:2/x\"}]\n",
                                   NULL);
    struct conf_findings changes;
    conf_diff(before, same, &changes);
    assert_int_equal(changes.len, 0);
    conf_findings_fini(&changes);

    conf_diff(before, after, &findings);
    assert_int_equal(findings.len, 8);
    assert_finding("admin.token: changed");
    assert_false(has_finding("admin.token: changed (needs"));
    assert_finding("node.lease: 3s -> 4s (needs a restart)");
    assert_finding("log.level: info -> debug");
    assert_finding("clients.rate.burst: 1000 -> 5");
    assert_finding("origins: [] -> [\"a.b\"]");
    assert_finding("services.a.linger: 5s -> 1m");
    assert_finding("services.a.headers: {} -> {\"A\": \"***\"}");
    assert_finding("services.b: added");
    assert_false(has_finding("debug (needs"));
    conf_findings_fini(&findings);
    conf_diff(after, before, &findings);
    assert_finding("services.b: removed");
    conf_findings_fini(&findings);
    conf_unref(before);
    conf_unref(same);
    conf_unref(after);
}

static void what_needs_a_restart_stays_as_it_is_in_force(void **state)
{
    (void)state;
    struct conf *before = load_good("node: {id: one}\nadmin: {token: one, allow_open: true}\n"
                                    "listen: {trusted_proxies: [10.0.0.0/8]}\n" ONE_SERVICE,
                                    NULL);
    struct conf *after = load_good("node: {id: two, lease: 4s}\nredis: {on_loss: serve, replicas: "
                                   "2}\nlog: {format: json, audit: true}\nclients: {max: 7}\n"
                                   "listen: {trusted_proxies: [\"::1\"]}\n" ONE_SERVICE,
                                   NULL);
    conf_keep_fixed(before, after);
    assert_string_equal(after->node.id, "one");
    assert_int_equal(after->node.lease_ms, 3000);
    assert_string_equal(after->admin.token, ""); /* SIGHUP applies it */
    assert_true(after->admin.allow_open);
    assert_int_equal(after->redis.on_loss, ON_LOSS_FENCE);
    assert_int_equal(after->redis.replicas, 0);
    assert_int_equal(after->log.format, LOG_FORMAT_TEXT);
    assert_false(after->log.audit);
    assert_int_equal(after->clients.max, 7);
    assert_string_equal(after->listen.trusted_proxies[0], "::1");
    conf_diff(before, after, &findings);
    assert_int_equal(findings.len, 3); /* the next reload compares with what is in force */
    conf_findings_fini(&findings);
    conf_unref(before);
    conf_unref(after);
}

static void a_file_that_holds_another_certificate_is_a_change(void **state)
{
    (void)state;
    char text[512];
    snprintf(text, sizeof(text),
             "listen: {tls_cert: %s, tls_key: %s}\n"
             "services: [{name: a, upstream: \"wss://h:1/x\", tls_ca: %s}]\n",
             write_file("cert.pem", pem_certificate), write_file("key.pem", pem_key),
             write_file("ca.pem", pem_certificate));
    struct conf *before = load_good(text, NULL), *same = load_good(text, NULL);
    conf_diff(before, same, &findings);
    assert_int_equal(findings.len, 0);
    conf_findings_fini(&findings);

    char more[4096];
    snprintf(more, sizeof(more), "%s# renewed\n", pem_certificate);
    write_file("cert.pem", more);
    write_file("ca.pem", more);
    struct conf *after = load_good(text, NULL);
    conf_diff(before, after, &findings);
    assert_int_equal(findings.len, 2);
    assert_finding("listen.tls_cert: the certificate or its key changed");
    assert_finding("services.a.tls_ca: the authorities changed");
    conf_findings_fini(&findings);
    conf_unref(before);
    conf_unref(same);
    conf_unref(after);
}

static void a_service_is_named_once_by_each_who_names_services(void **state)
{
    (void)state;
    const char *services[] = {"a=h:1/x", "b=h:2/x", "a=h:3/x"};
    struct conf_overrides overrides = {.services = services, .services_len = LEN(services)};
    load_bad(NULL, &overrides, 1);
    assert_finding("--service: services.a.upstream: duplicate service");
    conf_findings_fini(&findings);

    overrides.services_len = 2;
    setenv("VINHUB_SERVICES", "a=h:4/x", 1);
    struct conf *conf = load_good(ONE_SERVICE, &overrides);
    assert_string_equal(conf_service(conf, "a", 1)->upstream, "ws://h:1/x");
    conf_unref(conf);
}

static void a_changed_secret_is_reported_without_its_value(void **state)
{
    (void)state;
    setenv("VINHUB_JWT_SECRET", LONG_SECRET "1", 1);
    struct conf *before = load_auth("HS256", "issuer", "x");
    setenv("VINHUB_JWT_SECRET", LONG_SECRET "2", 1);
    struct conf *after = load_auth("HS256", "issuer", "x");
    conf_diff(before, after, &findings);
    assert_int_equal(findings.len, 1);
    assert_string_equal(findings.lines[0], "auth: the secret changed");
    conf_findings_fini(&findings);
    conf_unref(before);
    conf_unref(after);
}

static void the_table_for_people_has_a_row_for_each_key(void **state)
{
    (void)state;
    char *table = conf_markdown();
    size_t lines = 0;
    for (const char *c = table; *c != '\0'; c++)
        lines += *c == '\n';
    assert_int_equal(lines, 2 + conf_rows_len + conf_service_rows_len);
    assert_non_null(
        strstr(table, "| `clients.max_message` | `VINHUB__CLIENTS__MAX_MESSAGE` | `1MiB` | "));
    assert_non_null(
        strstr(table, "| `services[].name` | `VINHUB__SERVICES__NAME__NAME` | required | "));
    free(table);
    for (const struct conf_row *row = conf_rows; row->key; row++)
        assert_non_null(row->meaning);
    for (const struct conf_row *row = conf_service_rows; row->key; row++)
        assert_non_null(row->meaning);
}

static void sessions_keep_their_service_over_a_reload(void **state)
{
    (void)state;
    struct conf *conf = load_good(ONE_SERVICE, NULL);
    struct service *service = service_ref(conf_service(conf, "a", 1));
    assert_ptr_equal(conf_ref(conf), conf);
    conf_unref(conf);
    conf_unref(conf);
    assert_string_equal(service->upstream, "ws://h:1/x");
    service_unref(service);
}

/* ---- redis.url ---- */

static void redis_urls_name_hosts_and_credentials(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        enum redis_shape shape;
        bool tls;
        const char *user, *password, *master;
        uint32_t db;
        size_t hosts;
        const char *last_host;
        uint16_t last_port;
    } good[] = {
        {"redis://h", REDIS_SINGLE, false, "", "", "", 0, 1, "h", 6379},
        {"redis://h:1/", REDIS_SINGLE, false, "", "", "", 0, 1, "h", 1},
        {"redis://127.0.0.1:6380/15", REDIS_SINGLE, false, "", "", "", 15, 1, "127.0.0.1", 6380},
        {"rediss://u:p%40%2F@[::1]:7/2", REDIS_SINGLE, true, "u", "p@/", "", 2, 1, "::1", 7},
        {"redis://:p:q@h", REDIS_SINGLE, false, "", "p:q", "", 0, 1, "h", 6379},
        {"redis://pw@h", REDIS_SINGLE, false, "", "pw", "", 0, 1, "h", 6379},
        {"redis-sentinel://a:1,b/mymaster/3", REDIS_SENTINEL, false, "", "", "mymaster", 3, 2, "b",
         26379},
        {"rediss-sentinel://u:p@a/m", REDIS_SENTINEL, true, "u", "p", "m", 0, 1, "a", 26379},
        {"redis-cluster://a:1,b:2,[::1]", REDIS_CLUSTER, false, "", "", "", 0, 3, "::1", 6379},
        {"rediss-cluster://a/0", REDIS_CLUSTER, true, "", "", "", 0, 1, "a", 6379},
    };
    for (size_t i = 0; i < LEN(good); i++) {
        struct redis_url url;
        if (redis_url_parse(good[i].text, &url) != STATUS_OK)
            fail_msg("%s was refused", good[i].text);
        assert_int_equal(url.shape, good[i].shape);
        assert_int_equal(url.tls, good[i].tls);
        assert_string_equal(url.user, good[i].user);
        assert_string_equal(url.password, good[i].password);
        assert_string_equal(url.master, good[i].master);
        assert_int_equal(url.db, good[i].db);
        assert_int_equal(url.hosts_len, good[i].hosts);
        assert_string_equal(url.hosts[url.hosts_len - 1].name, good[i].last_host);
        assert_int_equal(url.hosts[url.hosts_len - 1].port, good[i].last_port);
    }
    static const char *const bad[] = {"",
                                      "h",
                                      "redis:",
                                      "redis://",
                                      "redis:///0",
                                      "http://h",
                                      "redis://h:0",
                                      "redis://h:65536",
                                      "redis://h:x",
                                      "redis://h/x",
                                      "redis://h/-1",
                                      "redis://h/1/2",
                                      "redis://h?x",
                                      "redis://a,b",
                                      "redis://u:p%@h",
                                      "redis://u:%00@h",
                                      "redis-sentinel://a",
                                      "redis-sentinel://a/",
                                      "redis-sentinel://a//1",
                                      "redis-cluster://a/1",
                                      "redis-cluster://a,,b",
                                      "redis-cluster://a,",
                                      "redis://[::1",
                                      "redis://[x]",
                                      "redis://a b",
                                      "redis://1.2.3"};
    for (size_t i = 0; i < LEN(bad); i++) {
        struct redis_url url;
        if (redis_url_parse(bad[i], &url) != STATUS_INVALID)
            fail_msg("\"%s\" was taken", bad[i]);
    }
}

static void redis_urls_are_shown_without_password(void **state)
{
    (void)state;
    static const struct {
        const char *url, *redacted;
    } cases[] = {
        {"redis://h:1/2", "redis://h:1/2"},
        {"redis://u:p@h/2", "redis://u:***@h/2"},
        {"redis://:p@h", "redis://:***@h"},
        {"redis://p@h", "redis://***@h"},
        {"redis://u:p@q@h", "redis://u:***@h"},
        {"rediss-cluster://u:p@a,b", "rediss-cluster://u:***@a,b"},
    };
    for (size_t i = 0; i < LEN(cases); i++) {
        char *redacted = redis_url_redact(cases[i].url);
        assert_string_equal(redacted, cases[i].redacted);
        free(redacted);
    }
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup(name, clear_environment)
    const struct CMUnitTest tests[] = {
        CASE(one_service_on_the_command_line_is_a_configuration),
        CASE(every_key_of_the_file_arrives),
        CASE(empty_maps_and_values_are_defaults_or_empty),
        CASE(later_sources_go_before_earlier_ones),
        CASE(a_mistake_names_file_line_key_and_what_is_allowed),
        CASE(a_service_is_checked_like_all_else),
        CASE(credentials_in_an_upstream_become_a_header_and_never_show),
        CASE(credentials_stand_in_one_place),
        CASE(all_mistakes_are_reported_at_once_without_secrets),
        CASE(a_file_that_cannot_be_read_is_a_mistake),
        CASE(variables_and_flags_are_named_in_mistakes),
        CASE(what_is_odd_but_allowed_is_a_warning),
        CASE(a_secret_comes_from_its_file_or_the_environment),
        CASE(a_public_key_fits_its_algorithm),
        CASE(auth_with_shared_upstreams_that_name_the_user_is_a_warning),
        CASE(certificate_and_key_belong_together),
        CASE(what_the_redis_url_has_no_use_for_is_a_warning),
        CASE(what_is_printed_reads_back_to_the_same_but_for_secrets),
        CASE(values_of_an_upstream_query_are_not_shown),
        CASE(a_changed_credential_in_an_upstream_is_named_but_not_shown),
        CASE(texts_of_any_kind_survive_printing),
        CASE(a_reload_says_what_changed_and_what_needs_a_restart),
        CASE(what_needs_a_restart_stays_as_it_is_in_force),
        CASE(a_file_that_holds_another_certificate_is_a_change),
        CASE(a_service_is_named_once_by_each_who_names_services),
        CASE(a_changed_secret_is_reported_without_its_value),
        CASE(the_table_for_people_has_a_row_for_each_key),
        CASE(sessions_keep_their_service_over_a_reload),
        CASE(redis_urls_name_hosts_and_credentials),
        CASE(redis_urls_are_shown_without_password),
    };
    return cmocka_run_group_tests_name("conf", tests, make_folder, remove_folder);
}
