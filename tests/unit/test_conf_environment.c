/* Each key from the environment: its name, its value, what overrides what, and what is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/conf.h"
#include "common/conf_rows.h"
#include "conf_rig.h"

#define TWO_SERVICES                                                                   \
    "services: [{name: remoteWs, upstream: \"h:1/x\"}, {name: fault-ws.v2, upstream: " \
    "\"h:2/x\"}]\n"

/* One variable is set, the text loads, and the value arrives. */
static char *value_with(const char *text, const char *name, const char *value, const char *key)
{
    setenv(name, value, 1);
    struct conf *conf = load_good(text, NULL);
    unsetenv(name);
    const struct conf_row *row = conf_row_find(conf_rows, key);
    const struct conf_row *service_row = conf_row_find(conf_service_rows, key);
    assert_true(row || service_row);
    char *shown = row ? conf_value_text(row, conf, true)
                      : conf_value_text(service_row, conf->services[0], true);
    conf_unref(conf);
    return shown;
}

static void assert_value(const char *name, const char *value, const char *key, const char *wanted)
{
    char *got = value_with(TWO_SERVICES, name, value, key);
    assert_string_equal(got, wanted);
    free(got);
}

static void assert_refused(const char *name, const char *value, const char *wanted)
{
    setenv(name, value, 1);
    assert_mistake(TWO_SERVICES, wanted);
    unsetenv(name);
}

static void values_of_every_kind_arrive(void **state)
{
    (void)state;
    assert_value("VINHUB__NODE__LEASE", "5s", "node.lease", "5s");
    assert_value("VINHUB__NODE__ID", "n-1", "node.id", "\"n-1\"");
    assert_value("VINHUB__LISTEN__PROXY_PROTOCOL", "true", "listen.proxy_protocol", "true");
    assert_value("VINHUB__CLIENTS__MAX_MESSAGE", "2MiB", "clients.max_message", "2MiB");
    assert_value("VINHUB__CLIENTS__RATE__BURST", "7", "clients.rate.burst", "7");
    assert_value("VINHUB__REDIS__ON_LOSS", "serve", "redis.on_loss", "serve");
    assert_value("VINHUB__DEFAULT_SERVICE", "remoteWs", "default_service", "\"remoteWs\"");
    assert_value("VINHUB__ORIGINS", "a.example,b.example", "origins",
                 "[\"a.example\", \"b.example\"]");
    assert_value("VINHUB__ORIGINS", " a.example ,\t*.b.example", "origins",
                 "[\"a.example\", \"*.b.example\"]");
    assert_value("VINHUB__CLIENTS__REPLIES", "{\"a\": \"b\", \"\\u00e4,\": \"\"}",
                 "clients.replies", "{\"a\": \"b\", \"\xc3\xa4,\": \"\"}");
    assert_value("VINHUB__SERVICES__REMOTEWS__HISTORY__SIZE", "0", "history.size", "0");
    assert_value("VINHUB__SERVICES__REMOTEWS__UPSTREAM", "h:9/y", "upstream", "\"ws://h:9/y\"");
    assert_value("VINHUB__SERVICES__REMOTEWS__SLOW_CLIENT__POLICY", "latest", "slow_client.policy",
                 "latest");
    setenv("VINHUB_TEST_TOKEN", "t0p", 1);
    assert_value("VINHUB__SERVICES__REMOTEWS__HEADERS",
                 "{\"Authorization\": \"Bearer ${VINHUB_TEST_TOKEN}\"}", "headers",
                 "{\"Authorization\": \"Bearer t0p\"}");
}

static void an_empty_variable_is_the_empty_value(void **state)
{
    (void)state;
    assert_value("VINHUB__CLIENTS__REPLIES", "", "clients.replies", "{}");
    assert_value("VINHUB__REDIS__TLS_CA", "", "redis.tls_ca", "\"\"");
    char *got = value_with("origins: [a.b]\n" ONE_SERVICE, "VINHUB__ORIGINS", "", "origins");
    assert_string_equal(got, "[]");
    free(got);
    got = value_with("node: {id: a}\n" ONE_SERVICE, "VINHUB__NODE__ID", "", "node.id");
    assert_string_equal(got, "\"\"");
    free(got);
    assert_refused("VINHUB__NODE__LEASE", "", "VINHUB__NODE__LEASE: node.lease: ");
    assert_refused("VINHUB__REDIS__PREFIX", "", "VINHUB__REDIS__PREFIX: redis.prefix: ");
    assert_refused("VINHUB__LISTEN__PROXY_PROTOCOL", "",
                   ": listen.proxy_protocol: expected true or false");
}

/* Each variable in the table of hub/docs/configuration.md is known. */
static void each_key_has_its_variable(void **state)
{
    (void)state;
    for (size_t i = 0; i < conf_rows_len + conf_service_rows_len; i++) {
        bool of_service = i >= conf_rows_len;
        const struct conf_row *row = of_service ? &conf_service_rows[i - conf_rows_len]
                                                : &conf_rows[i];
        char variable[CONF_VARIABLE_MAX], name[2 * CONF_VARIABLE_MAX];
        conf_row_variable(row, variable);
        snprintf(name, sizeof(name), "VINHUB__%s%s", of_service ? "SERVICES__A__" : "", variable);
        assert_null(strpbrk(name, ".abcdefghijklmnopqrstuvwxyz"));
        setenv(name, "\xff", 1); /* refused for its value, with its key */
        char wanted[512];
        snprintf(wanted, sizeof(wanted), "%s: %s%s: expected UTF-8 text", name,
                 of_service ? "services.a." : "", row->key);
        assert_mistake(ONE_SERVICE, wanted);
        unsetenv(name);
    }
}

static void later_sources_go_before_earlier_ones(void **state)
{
    (void)state;
    struct conf_overrides overrides = {.node_id = "flag"};
    setenv("VINHUB__NODE__ID", "long", 1);
    struct conf *conf = load_good("node: {id: file, lease: 4s}\n" ONE_SERVICE, NULL);
    assert_string_equal(conf->node.id, "long");
    assert_int_equal(conf->node.lease_ms, 4000);
    conf_unref(conf);
    setenv("VINHUB_NODE_ID", "short", 1);
    conf = load_good("node: {id: file}\n" ONE_SERVICE, NULL);
    assert_string_equal(conf->node.id, "short");
    conf_unref(conf);
    setenv("VINHUB_NODE_ID", "", 1); /* an empty short variable is ignored */
    conf = load_good("node: {id: file}\n" ONE_SERVICE, NULL);
    assert_string_equal(conf->node.id, "long");
    conf_unref(conf);
    conf = load_good("node: {id: file}\n" ONE_SERVICE, &overrides);
    assert_string_equal(conf->node.id, "flag");
    conf_unref(conf);
}

static void a_variable_changes_a_service_from_wherever_it_comes(void **state)
{
    (void)state;
    const char *services[] = {"flag-1=h:3/x"};
    struct conf_overrides overrides = {.services = services, .services_len = 1};
    setenv("VINHUB_SERVICES", "short=h:2/x", 1);
    setenv("VINHUB__SERVICES__A__LINGER", "1s", 1);
    setenv("VINHUB__SERVICES__SHORT__LINGER", "2s", 1);
    setenv("VINHUB__SERVICES__FLAG_1__LINGER", "3s", 1);
    setenv("VINHUB__SERVICES__SHORT__UPSTREAM", "h:9/x", 1);
    setenv("VINHUB__SERVICES__FLAG_1__UPSTREAM", "h:9/x", 1);
    struct conf *conf = load_good(ONE_SERVICE, &overrides);
    assert_int_equal(conf->services_len, 3);
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(conf->services[i]->linger_ms, 1000 * (i + 1));
    assert_string_equal(conf->services[1]->upstream, "ws://h:2/x");
    assert_string_equal(conf->services[2]->upstream, "ws://h:3/x");
    conf_unref(conf);
}

static void a_service_is_known_by_its_name_in_capitals(void **state)
{
    (void)state;
    setenv("VINHUB__SERVICES__FAULT_WS_V2__REPLAY", "3", 1);
    struct conf *conf = load_good(TWO_SERVICES, NULL);
    assert_int_equal(conf->services[0]->replay, 0);
    assert_int_equal(conf->services[1]->replay, 3);
    conf_unref(conf);
    unsetenv("VINHUB__SERVICES__FAULT_WS_V2__REPLAY");

    /* "__" in a service's name: the rest of the variable decides which service it is. */
    setenv("VINHUB__SERVICES__A__HISTORY__SIZE", "7", 1);
    setenv("VINHUB__SERVICES__A__HISTORY__LINGER", "7s", 1);
    conf = load_good("services: [{name: a, upstream: \"h:1/x\"}, {name: a.-history, upstream: "
                     "\"h:1/x\"}]\n",
                     NULL);
    assert_int_equal(conf->services[0]->history.size, 7);
    assert_int_equal(conf->services[1]->history.size, 100);
    assert_int_equal(conf->services[0]->linger_ms, 5000);
    assert_int_equal(conf->services[1]->linger_ms, 7000);
    conf_unref(conf);
}

static void a_service_may_get_another_name(void **state)
{
    (void)state;
    setenv("VINHUB__SERVICES__A__NAME", "b", 1);
    setenv("VINHUB__SERVICES__A__LINGER", "1s", 1);
    setenv("VINHUB__SERVICES__A__REPLAY", "2", 1);
    struct conf *conf = load_good(ONE_SERVICE, NULL);
    assert_string_equal(conf->services[0]->name, "b");
    assert_int_equal(conf->services[0]->linger_ms, 1000);
    assert_int_equal(conf->services[0]->replay, 2);
    conf_unref(conf);
}

static void a_name_that_fits_none_or_several_is_a_mistake(void **state)
{
    (void)state;
    assert_refused(
        "VINHUB__SERVICES__OTHER__REPLAY", "1",
        "VINHUB__SERVICES__OTHER__REPLAY: services: expected VINHUB__SERVICES__NAME__KEY "
        "with the NAME of a service that exists: REMOTEWS for remoteWs, FAULT_WS_V2 for "
        "fault-ws.v2");
    assert_refused("VINHUB__SERVICES__remoteWs__REPLAY", "1", "expected a name in capitals");
    assert_refused("VINHUB__SERVICES__REMOTEWS", "1", "with the NAME of a service that exists");
    assert_refused("VINHUB__SERVICES", "a=h:1/x", "with the NAME of a service that exists");
    setenv("VINHUB__SERVICES__A_B__REPLAY", "1", 1);
    assert_mistake(
        "services: [{name: a-b, upstream: \"h:1/x\"}, {name: A.b, upstream: \"h:1/x\"}]\n",
        "VINHUB__SERVICES__A_B__REPLAY: services: fits more than one service: a-b and "
        "A.b; set the key in the file");
}

static void an_unknown_variable_is_a_mistake(void **state)
{
    (void)state;
    static const struct {
        const char *name, *wanted;
    } cases[] = {
        {"VINHUB__NODE__LAESE",
         "VINHUB__NODE__LAESE: node.laese: unknown key, expected one of: id, "
         "lease, drain (did you mean lease?)"},
        {"VINHUB__NODE",
         "VINHUB__NODE: node: unknown key, expected one of: services, node, listen"},
        {"VINHUB__NODE__", ": node__: unknown key, expected one of: services, node"},
        {"VINHUB__", "VINHUB__: : unknown key, expected one of: services, node"},
        {"VINHUB__NODE_LEASE", ": node_lease: unknown key"},
        {"VINHUB__NODE__LEASE__MS",
         ": node.lease.ms: unknown key, expected one of: id, lease, drain"},
        {"VINHUB__CLIENTS__PING__EVRY", ": clients.ping.evry: unknown key, expected one of: every, "
                                        "timeout (did you mean every?)"},
        {"VINHUB__node__lease", "VINHUB__node__lease: expected a name in capitals"},
        {"VINHUB__SERVICES__REMOTEWS__HISTORY__SISE",
         ": services.remoteWs.history.sise: unknown key, expected one of: size, ttl, every "
         "(did you mean size?)"},
        {"VINHUB__SERVICES__REMOTEWS__",
         ": services.remoteWs.: unknown key, expected one of: name, "},
    };
    for (size_t i = 0; i < LEN(cases); i++)
        assert_refused(cases[i].name, "1", cases[i].wanted);
    char name[1200] = "VINHUB__SERVICES__REMOTEWS__";
    memset(name + strlen(name), 'X', 1000);
    assert_refused(name, "1", "unknown key");
}

static void a_wrong_value_is_named_with_its_variable(void **state)
{
    (void)state;
    assert_refused(
        "VINHUB__NODE__LEASE", "5",
        "VINHUB__NODE__LEASE: node.lease: expected a duration with unit (ms s m h) from 500ms");
    assert_refused("VINHUB__ORIGINS", "a.example,", "VINHUB__ORIGINS: origins: expected a host");
    assert_refused("VINHUB__ORIGINS", "a.example,https://b/c", "got \"https://b/c\"");
    assert_refused("VINHUB__CLIENTS__REPLIES", "ping=pong",
                   "clients.replies: expected a JSON object of texts, as {\"name\": \"value\"}: it "
                   "is not JSON");
    assert_refused("VINHUB__CLIENTS__REPLIES", "[\"ping\"]", "it is not an object");
    assert_refused("VINHUB__CLIENTS__REPLIES", "{\"a\":\"b\",\"a\":\"c\"}", "duplicate name");
    assert_refused("VINHUB__CLIENTS__REPLIES", "{\"a\":1}", "the value of \"a\" is not a text");
    assert_refused("VINHUB__SERVICES__REMOTEWS__HEADERS", "{\"Host\":\"x\"}",
                   "services.remoteWs.headers: expected a header of the handshake");
    assert_refused("VINHUB__SERVICES__REMOTEWS__HEADERS", "{\"A\":\"x\",\"a\":\"y\"}",
                   "duplicate header a");
    assert_refused("VINHUB__SERVICES__REMOTEWS__UPSTREAM", "", "services.remoteWs.upstream: ");
}

static void nothing_secret_is_in_a_message(void **state)
{
    (void)state;
    static const struct {
        const char *name, *value;
    } cases[] = {
        {"VINHUB__ADMIN__TOKEN", "hush hush"},
        {"VINHUB__REDIS__URL", "redis://u:hush@:x"},
        {"VINHUB__REDIS__SENTINEL_PASSWORD", "hush\xff"},
        {"VINHUB__SERVICES__REMOTEWS__UPSTREAM", "ws://u:hush@h:x/"},
        {"VINHUB__SERVICES__REMOTEWS__UPSTREAM", "u:hush@h:x/"},
        {"VINHUB__SERVICES__REMOTEWS__HEADERS", "{\"Authorization\": \"hush"},
        {"VINHUB__SERVICES__REMOTEWS__HEADERS", "{\"Authorization\": \"hush\\n\"}"},
        {"VINHUB__SERVICES__REMOTEWS__HEADERS", "hush"},
        {"VINHUB_SERVICES", "remoteWs=ws://u:hush@h:x/"},
        {"VINHUB_SERVICES", "ws://u:hush@h:x/"},
    };
    for (size_t i = 0; i < LEN(cases); i++) {
        setenv(cases[i].name, cases[i].value, 1);
        load_bad(TWO_SERVICES, NULL, 1);
        assert_false(has_finding("hush"));
        conf_findings_fini(&findings);
        unsetenv(cases[i].name);
    }
}

#define CASE(name) cmocka_unit_test_setup(name, clear_environment)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(values_of_every_kind_arrive),
        CASE(an_empty_variable_is_the_empty_value),
        CASE(each_key_has_its_variable),
        CASE(later_sources_go_before_earlier_ones),
        CASE(a_variable_changes_a_service_from_wherever_it_comes),
        CASE(a_service_is_known_by_its_name_in_capitals),
        CASE(a_service_may_get_another_name),
        CASE(a_name_that_fits_none_or_several_is_a_mistake),
        CASE(an_unknown_variable_is_a_mistake),
        CASE(a_wrong_value_is_named_with_its_variable),
        CASE(nothing_secret_is_in_a_message),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
