/* Contract section 4 in tables: what a request names, the upstream URL, what is refused and why. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/rng.h"
#include "common/text.h"
#include "common/url.h"
#include "common/url_parts.h"

#define LEN(array) (sizeof(array) / sizeof((array)[0]))

/* Services made by hand: only text work is tested here. */
#define TEXT(literal) ((char[]){literal}) /* the members are not const */
static struct service plain = {.refs = 1,
                               .name = TEXT("remoteWs"),
                               .upstream = TEXT("ws://car:28088/carmonitor/remotews"),
                               .session = TEXT("")};
static struct service other = {.refs = 1,
                               .name = TEXT("other"),
                               .upstream = TEXT("wss://o/x{path}{query}"),
                               .session = TEXT("{path}")};
static struct service by_user = {.refs = 1,
                                 .name = TEXT("by_user"),
                                 .upstream = TEXT("ws://b/"),
                                 .session = TEXT("{user}:{vin}")};
static struct service *services[] = {&plain, &other, &by_user};
static char no_service[] = "", other_service[] = "other";
static struct conf conf = {
    .services = services, .services_len = LEN(services), .default_service = no_service};
static const struct url_options no_options,
    take_both = {.take_token = true, .protocol_client = true};

static enum status parse(const char *request, struct target *out, const char **why)
{
    return url_parse(&conf, request, strlen(request), &no_options, out, why);
}

static void assert_same(const char *got, const char *wanted)
{
    if (!wanted)
        assert_null(got);
    else
        assert_string_equal(got, wanted);
}

static int with_default_service(void **state)
{
    (void)state;
    conf.default_service = other_service;
    return 0;
}

static int without_default_service(void **state)
{
    (void)state;
    conf.default_service = no_service;
    return 0;
}

struct url_form {
    const char *request, *service, *user, *vin, *path, *query, *id;
};

static void check_form(const struct url_form *form)
{
    struct target target;
    const char *why = "";
    enum status status = parse(form->request, &target, &why);
    if (status != STATUS_OK)
        fail_msg("%s: %s (%s)", form->request, status_name(status), why);
    assert_string_equal(target.service->name, form->service);
    assert_same(target.user, form->user);
    assert_same(target.vin, form->vin);
    assert_string_equal(target.path, form->path);
    assert_string_equal(target.query, form->query);
    assert_string_equal(target.session_id, form->id);
    assert_null(target.token);
    assert_null(target.resume);
    target_fini(&target);
}

static void each_form_names_user_vin_query_and_session(void **state)
{
    (void)state;
    static const struct url_form forms[] = {
        {"/admin/VIN123?remoteWs", "remoteWs", "admin", "VIN123", "/admin/VIN123", "",
         "remoteWs:VIN123"},
        {"/admin/VIN123?remoteWs&k=v", "remoteWs", "admin", "VIN123", "/admin/VIN123", "?k=v",
         "remoteWs:VIN123"},
        {"/admin/VIN123?a=b&remoteWs&c", "remoteWs", "admin", "VIN123", "/admin/VIN123", "?a=b&c",
         "remoteWs:VIN123"},
        {"/admin?remoteWs", "remoteWs", "admin", NULL, "/admin", "", "remoteWs:/admin"},
        {"/admin?remoteWs&k=v", "remoteWs", "admin", NULL, "/admin", "?k=v", "remoteWs:/admin?k=v"},
        {"/ws?remoteWs&vin=V1&k=v", "remoteWs", NULL, "V1", "/ws", "?vin=V1&k=v", "remoteWs:V1"},
        {"/ws?vin=V1&remoteWs", "remoteWs", NULL, "V1", "/ws", "?vin=V1", "remoteWs:V1"},
        {"/ws?remoteWs", "remoteWs", NULL, NULL, "/ws", "", "remoteWs:/ws"},
        {"/ws?remoteWs&k=v", "remoteWs", NULL, NULL, "/ws", "?k=v", "remoteWs:/ws?k=v"},
        {"/t1;alice?remoteWs", "remoteWs", "alice", NULL, "/t1;alice", "", "remoteWs:/t1;alice"},
        /* odd ones, as url.h decides them */
        {"/ws/V1?remoteWs", "remoteWs", "ws", "V1", "/ws/V1", "", "remoteWs:V1"},
        {"/%77s?remoteWs&vin=V1", "remoteWs", NULL, "V1", "/%77s", "?vin=V1", "remoteWs:V1"},
        {"/t1;a;b?remoteWs", "remoteWs", "a;b", NULL, "/t1;a;b", "", "remoteWs:/t1;a;b"},
        {"/t1%3Balice?remoteWs", "remoteWs", "t1;alice", NULL, "/t1%3Balice", "",
         "remoteWs:/t1%253Balice"},
        {"/t1;u/V1?remoteWs", "remoteWs", "t1;u", "V1", "/t1;u/V1", "", "remoteWs:V1"},
        {"/alice?remoteWs&vin=V1", "remoteWs", "alice", "V1", "/alice", "?vin=V1", "remoteWs:V1"},
        {"/alice?remoteWs&v%69n=V1", "remoteWs", "alice", "V1", "/alice", "?vin=V1", "remoteWs:V1"},
        {"/a/V?remote%57s", "remoteWs", "a", "V", "/a/V", "", "remoteWs:V"},
        {"/a/V?remoteWs=", "remoteWs", "a", "V", "/a/V", "", "remoteWs:V"},
        {"/a/V?k=&remoteWs=&z", "remoteWs", "a", "V", "/a/V", "?k=&z", "remoteWs:V"},
        {"/ws?remote%57s=&vin=V1", "remoteWs", NULL, "V1", "/ws", "?vin=V1", "remoteWs:V1"},
        {"/a/V?remoteWs=&other=", "remoteWs", "a", "V", "/a/V", "?other=", "remoteWs:V"},
        /* '+' is a space in the query; the upstream reads the same vin, whatever it decodes with */
        {"/ws?remoteWs&vin=A+B", "remoteWs", NULL, "A B", "/ws", "?vin=A%20B", "remoteWs:A%20B"},
        {"/ws?remoteWs&vin=A%20B", "remoteWs", NULL, "A B", "/ws", "?vin=A%20B", "remoteWs:A%20B"},
        {"/ws?remoteWs&vin=A%2BB", "remoteWs", NULL, "A+B", "/ws", "?vin=A%2BB", "remoteWs:A%2BB"},
        {"/ws?remoteWs&vin=A%2bB%3d", "remoteWs", NULL, "A+B=", "/ws", "?vin=A%2bB%3d",
         "remoteWs:A%2BB="},
        {"/ws?remoteWs&%76%69%6E=A;B", "remoteWs", NULL, "A;B", "/ws", "?vin=A%3BB",
         "remoteWs:A;B"},
        {"/ws?remoteWs&vin=A=B", "remoteWs", NULL, "A=B", "/ws", "?vin=A=B", "remoteWs:A=B"},
        {"/a/V?remoteWs&vinyl=1&xvin=2&v=vin&avin=3", "remoteWs", "a", "V", "/a/V",
         "?vinyl=1&xvin=2&v=vin&avin=3", "remoteWs:V"},
        {"/a/V?remoteWs&k=1;2&l;m=3", "remoteWs", "a", "V", "/a/V", "?k=1;2&l;m=3", "remoteWs:V"},
        {"/a/V?remoteWs&&k=v&", "remoteWs", "a", "V", "/a/V", "?k=v", "remoteWs:V"},
        {"/a/V?remoteWs&remoteWs", "remoteWs", "a", "V", "/a/V", "?remoteWs", "remoteWs:V"},
        {"/a/V?remoteWs&other", "remoteWs", "a", "V", "/a/V", "?other", "remoteWs:V"},
        {"/a/V?other=1&remoteWs", "remoteWs", "a", "V", "/a/V", "?other=1", "remoteWs:V"},
        {"/a/V?remoteWs&x=%zz&y=100%", "remoteWs", "a", "V", "/a/V", "?x=%zz&y=100%", "remoteWs:V"},
        {"/a/V?remoteWs&a=b+c", "remoteWs", "a", "V", "/a/V", "?a=b+c", "remoteWs:V"},
        {"/a/V?remoteWs&q=a?b", "remoteWs", "a", "V", "/a/V", "?q=a?b", "remoteWs:V"},
        {"/a/V?remoteWs&token=t&resume=1.2", "remoteWs", "a", "V", "/a/V", "?token=t&resume=1.2",
         "remoteWs:V"},
        {"/a+b/V+1?remoteWs", "remoteWs", "a+b", "V+1", "/a+b/V+1", "", "remoteWs:V%2B1"},
        {"/a.b/...?remoteWs", "remoteWs", "a.b", "...", "/a.b/...", "", "remoteWs:..."},
        {"/a/V?by_user", "by_user", "a", "V", "/a/V", "", "by_user:a%3AV"},
        {"/ws?by_user&vin=V", "by_user", NULL, "V", "/ws", "?vin=V", "by_user:/ws?vin=V"},
        {"/a?by_user&k=1", "by_user", "a", NULL, "/a", "?k=1", "by_user:/a?k=1"},
        {"/a/V?other&k=1", "other", "a", "V", "/a/V", "?k=1", "other:/a/V"},
        {"/\xc3\xa4/V?remoteWs", "remoteWs", "\xc3\xa4", "V", "/\xc3\xa4/V", "", "remoteWs:V"},
    };
    for (size_t i = 0; i < LEN(forms); i++)
        check_form(&forms[i]);
}

static void the_default_service_serves_urls_that_name_none(void **state)
{
    (void)state;
    static const struct url_form forms[] = {
        {"/t1;alice", "other", "alice", NULL, "/t1;alice", "", "other:/t1;alice"},
        {"/a/V", "other", "a", "V", "/a/V", "", "other:/a/V"},
        {"/a/V?", "other", "a", "V", "/a/V", "", "other:/a/V"},
        {"/a/V?remoteWs=", "remoteWs", "a", "V", "/a/V", "", "remoteWs:V"},
        {"/a/V?remoteWs=1", "other", "a", "V", "/a/V", "?remoteWs=1", "other:/a/V"},
        {"/a/V?unknown&k", "other", "a", "V", "/a/V", "?unknown&k", "other:/a/V"},
        {"/a/V?remoteWs", "remoteWs", "a", "V", "/a/V", "", "remoteWs:V"},
    };
    for (size_t i = 0; i < LEN(forms); i++)
        check_form(&forms[i]);
}

static void a_vin_in_other_escapes_is_the_same_session(void **state)
{
    (void)state;
    static const char *const requests[] = {"/a/LSVAA4182E2?remoteWs", "/b/%4CSVAA4182E2?remoteWs",
                                           "/b/LSVAA41%382%45%32?remoteWs",
                                           "/ws?remoteWs&vin=LSV%41A4182E2"};
    for (size_t i = 0; i < LEN(requests); i++) {
        struct target target;
        const char *why;
        assert_int_equal(parse(requests[i], &target, &why), STATUS_OK);
        assert_string_equal(target.session_id, "remoteWs:LSVAA4182E2");
        target_fini(&target);
    }
}

static void bytes_outside_the_set_are_escaped_in_the_id(void **state)
{
    (void)state;
    struct target target;
    const char *why;
    assert_int_equal(parse("/a/%20!%22%7B%7D:@%C3%A4~-_.;%3F=&%25?remoteWs", &target, &why),
                     STATUS_OK);
    assert_string_equal(target.session_id, "remoteWs:%20%21%22%7B%7D%3A%40%C3%A4~-_.;?=&%25");
    target_fini(&target);
}

static void malformed_urls_are_refused_with_a_reason(void **state)
{
    (void)state;
    static const char *const requests[] = {
        "",
        "a/V?remoteWs",
        "?remoteWs",
        "http://h/a/V?remoteWs",
        "*",
        "/?remoteWs",
        "//?remoteWs",
        "//V?remoteWs",
        "/a/?remoteWs",
        "/a//V?remoteWs",
        "/a/V/?remoteWs",
        "/a/V/x?remoteWs",
        "/.?remoteWs",
        "/..?remoteWs",
        "/a/..?remoteWs",
        "/../V?remoteWs",
        "/a/.?remoteWs",
        "/%2e%2E/V?remoteWs",
        "/a/.%2e?remoteWs",
        "/..;x/V?remoteWs",
        "/a/..;x?remoteWs",
        "/a/x;..?remoteWs",
        "/..;b?remoteWs",
        "/a;..?remoteWs",
        "/a;.;b?remoteWs",
        "/a/..%3Bx?remoteWs",
        "/;alice?remoteWs",
        "/t1;?remoteWs",
        "/;?remoteWs",
        "/a%2Fb/V?remoteWs",
        "/a/V%2f1?remoteWs",
        "/a%5Cb/V?remoteWs",
        "/a\\b/V?remoteWs",
        "/t%2F;a?remoteWs",
        "/a/V%00?remoteWs",
        "/a/V%0a?remoteWs",
        "/a%7f/V?remoteWs",
        "/a/V\n?remoteWs",
        "/a b/V?remoteWs",
        "/a/V?remoteWs&x=a b",
        "/a/V?remoteWs&x=\r\ny",
        "/a/V?remoteWs#x",
        "/a/V\x7f?remoteWs",
        "/a%/V?remoteWs",
        "/a/%4?remoteWs",
        "/a/%zz?remoteWs",
        "/ws?remoteWs&vin=%4",
        "/a/%C3?remoteWs",
        "/a/%ff?remoteWs",
        "/%ED%A0%80/V?remoteWs",
        "/a/\xff?remoteWs",
        "/a/V?remoteWs&x=\xff",
        "/ws?remoteWs&vin=%C0%80",
        "/ws?remoteWs&vin=V&vin=V",
        "/ws?remoteWs&vin=V&v%69n=W",
        "/a/V?remoteWs&vin=V",
        "/a/V?remoteWs&%76in=V",
        "/ws?remoteWs&vin=",
        "/ws?remoteWs&vin",
        "/ws?remoteWs&vin=..",
        "/ws?remoteWs&vin=A%00",
        "/ws?remoteWs&vin=V&vin=",
        "/ws?remoteWs&vin=V&vin",
        "/ws?remoteWs&+vin=V",
        "/ws?remoteWs&vin=V&%20vin=W",
        "/ws?remoteWs&vin=V&vin[]=W",
        "/ws?remoteWs&VIN=W",
        "/ws?remoteWs&vin=V&Vin=W",
        "/admin/V?remoteWs&v%49n=W",
        "/ws?remoteWs&vin=V&v%69n%5b0]=W",
        "/ws?remoteWs&vin=V&vin%00x=W",
        "/ws?remoteWs&vin=V&vin+=W",
        "/ws?remoteWs&k=1;vin=W&vin=V",
        "/a/V?remoteWs&k=1;vin=W",
        "/a/V?remoteWs&k;%76in=W",
        "/a/V?remoteWs&;vin=W",
        "/a/V?remoteWs&vin;k=W",
        "/a/V?remoteWs;vin=W",
        "/ws?remoteWs&vin=a%2Fb",
        "/ws?remoteWs&vin=a/b",
        "/ws?remoteWs&vin=a%5Cb",
        "/a/V?remoteWs&replay=",
        "/a/V?remoteWs&replay",
        "/a/V?remoteWs&replay=-1",
        "/a/V?remoteWs&replay=1x",
        "/a/V?remoteWs&replay=+1",
        "/a/V?remoteWs&replay=4294967296",
        "/a/V?remoteWs&replay=99999999999999999999",
        "/a/V?remoteWs&replay=1&replay=1",
    };
    for (size_t i = 0; i < LEN(requests); i++) {
        struct target target;
        const char *why = "";
        memset(&target, 0x5a, sizeof(target));
        struct target before = target;
        enum status status = parse(requests[i], &target, &why);
        if (status != STATUS_INVALID)
            fail_msg("\"%s\" is %s", requests[i], status_name(status));
        assert_true(strlen(why) > 0);
        assert_null(strchr(why, '\n'));
        assert_memory_equal(&target, &before, sizeof(target));
    }
}

static void an_embedded_nul_is_refused_and_the_length_counts(void **state)
{
    (void)state;
    static const char nul[] = "/a/V\0X?remoteWs", cut[] = "/a/V?remoteWs/and/more";
    struct target target;
    const char *why;
    assert_int_equal(url_parse(&conf, nul, sizeof(nul) - 1, &no_options, &target, &why),
                     STATUS_INVALID);
    assert_int_equal(url_parse(&conf, cut, strlen("/a/V?remoteWs"), &no_options, &target, &why),
                     STATUS_OK);
    target_fini(&target);
}

static void urls_without_a_known_service_are_not_found(void **state)
{
    (void)state;
    static const char *const requests[] = {
        "/a/V",          "/a/V?",          "/a/V?unknown", "/a/V?remoteWs=1", "/a/V?remotews",
        "/a/V?unknown=", "/a/V?=remoteWs", "/t;u",         "/a/V?remoteWsX",  "/a/V?remoteW"};
    for (size_t i = 0; i < LEN(requests); i++) {
        struct target target;
        const char *why = "";
        assert_int_equal(parse(requests[i], &target, &why), STATUS_NOT_FOUND);
        assert_true(strlen(why) > 0);
    }
}

static void the_hubs_own_parameters_never_reach_the_upstream(void **state)
{
    (void)state;
    static const char request[] =
        "/a/V?k=1&token=a%2Eb&remoteWs&replay=20&resume=5.7.c%41&resume=9&z";
    struct target target;
    const char *why;
    assert_int_equal(url_parse(&conf, request, strlen(request), &take_both, &target, &why),
                     STATUS_OK);
    assert_string_equal(target.query, "?k=1&z");
    assert_string_equal(target.token, "a.b");
    assert_string_equal(target.resume, "5.7.cA");
    assert_true(target.has_replay);
    assert_int_equal(target.replay, 20);
    target_fini(&target);

    assert_int_equal(parse("/a/V?remoteWs&replay=4294967295", &target, &why), STATUS_OK);
    assert_int_equal(target.replay, UINT32_MAX);
    assert_string_equal(target.query, "");
    target_fini(&target);
}

static void an_unreadable_resume_is_no_error(void **state)
{
    (void)state;
    struct target target;
    const char *why;
    static const char resume[] = "/a/V?remoteWs&resume=%zz";
    assert_int_equal(url_parse(&conf, resume, strlen(resume), &take_both, &target, &why),
                     STATUS_OK);
    assert_string_equal(target.resume, "");
    target_fini(&target);
}

/* A handshake is not refused for its token: a page could not read why. */
static void the_first_token_that_is_not_empty_counts(void **state)
{
    (void)state;
    static const struct {
        const char *query, *token;
        bool flawed;
    } cases[] = {
        {"token=a", "a", false},   {"token=a%2Eb", "a.b", false},  {"token", NULL, false},
        {"token=", NULL, false},   {"token=&token=a", "a", false}, {"token=a&token=", "a", false},
        {"tok%65n=a", "a", false}, {"token=a&token=b", "a", true}, {"token=a&token=a", "a", true},
        {"token=a%0", NULL, true}, {"token=a%00", NULL, true},     {"token=%zz&token=b", "b", true},
    };
    for (size_t i = 0; i < LEN(cases); i++) {
        struct target target;
        const char *why;
        char request[128];
        int len = snprintf(request, sizeof(request), "/a/V?remoteWs&%s&k=1", cases[i].query);
        assert_int_equal(url_parse(&conf, request, (size_t)len, &take_both, &target, &why),
                         STATUS_OK);
        assert_same(target.token, cases[i].token);
        assert_int_equal(target.token_flaw != NULL, cases[i].flawed);
        assert_string_equal(target.query, "?k=1");
        target_fini(&target);
    }
}

static void a_rate_is_a_number_of_protocol_clients_only(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint32_t milli; /* 0: malformed */
    } cases[] = {
        {"0.1", 100},      {"2", 2000},   {"2.5", 2500},     {"100", 100000}, {"100.0", 100000},
        {"0.125", 125},    {"%32", 2000}, {"1.99999", 1999}, {"", 0},         {"0", 0},
        {"0.09", 0},       {"100.1", 0},  {"101", 0},        {"-1", 0},       {"+1", 0},
        {"1e1", 0},        {"1.", 0},     {".5", 0},         {"NaN", 0},      {"1&rate=1", 0},
        {"9999999999", 0}, {"1%00", 0},
    };
    for (size_t i = 0; i < LEN(cases); i++) {
        struct target target;
        const char *why;
        char request[128];
        int len = snprintf(request, sizeof(request), "/a/V?remoteWs&rate=%s", cases[i].text);
        enum status status = url_parse(&conf, request, (size_t)len, &take_both, &target, &why);
        if (status != (cases[i].milli > 0 ? STATUS_OK : STATUS_INVALID))
            fail_msg("rate=%s is %s", cases[i].text, status_name(status));
        if (status != STATUS_OK)
            continue;
        assert_int_equal(target.rate_milli, cases[i].milli);
        assert_string_equal(target.query, "");
        target_fini(&target);
    }
    struct target target;
    const char *why;
    assert_int_equal(parse("/a/V?remoteWs&rate=x", &target, &why), STATUS_OK);
    assert_string_equal(target.query, "?rate=x");
    target_fini(&target);
}

/* Session ids stand in logs, Redis keys and the console. */
static void a_session_id_never_holds_a_credential(void **state)
{
    (void)state;
    static const char *const secret[] = {
        "/a?remoteWs&access_token=hunter2",
        "/ws?remoteWs&k=v&TOKEN=hunter2",
        "/ws?remoteWs&ticket=hunter2&k",
        "/ws?remoteWs&%74icket=hunter2",
        "/a?remoteWs&x=eyJhunter2.eyJhunter2.sig",
        "/a?remoteWs&eyJhunter2.eyJhunter2.sig",
        "/a?remoteWs&sid=hunter2",
    };
    for (size_t i = 0; i < LEN(secret); i++) {
        struct target target, again, differing;
        char different[128];
        const char *why;
        assert_int_equal(parse(secret[i], &target, &why), STATUS_OK);
        assert_null(strstr(target.session_id, "hunter2"));
        assert_non_null(strstr(target.query, "hunter2")); /* the backend gets it */
        assert_int_equal(parse(secret[i], &again, &why), STATUS_OK);
        assert_string_equal(target.session_id, again.session_id);
        snprintf(different, sizeof(different), "%s", secret[i]);
        strstr(different, "hunter2")[0] = 'H';
        assert_int_equal(parse(different, &differing, &why), STATUS_OK);
        assert_string_not_equal(target.session_id, differing.session_id);
        target_fini(&target);
        target_fini(&again);
        target_fini(&differing);
    }
    struct target target;
    const char *why;
    assert_int_equal(parse("/ws?remoteWs&k=v&token=a", &target, &why), STATUS_OK);
    assert_string_equal(target.session_id,
                        "remoteWs:/ws?k=v&token=~ca978112ca1bbdcafac231b39a23dc4d");
    target_fini(&target);
}

static enum status parse_vin_of(size_t len, const char *piece, struct target *target)
{
    static char request[URL_REQUEST_MAX + 64];
    const char *why;
    strcpy(request, "/a/");
    for (size_t i = 0; i < len; i++)
        strcat(request, piece);
    strcat(request, "?remoteWs");
    return parse(request, target, &why);
}

static void a_key_has_at_most_256_bytes(void **state)
{
    (void)state;
    struct target target;
    assert_int_equal(parse_vin_of(256, "x", &target), STATUS_OK);
    target_fini(&target);
    assert_int_equal(parse_vin_of(257, "x", &target), STATUS_INVALID);
    assert_int_equal(parse_vin_of(256, "%20", &target), STATUS_OK); /* decoded bytes count */
    assert_int_equal(strlen(target.session_id), strlen("remoteWs:") + 3 * 256);
    target_fini(&target);
    assert_int_equal(parse_vin_of(257, "%20", &target), STATUS_INVALID);
}

static void a_request_has_at_most_8_kib(void **state)
{
    (void)state;
    static char request[URL_REQUEST_MAX + 2];
    struct target target;
    const char *why;
    int len = snprintf(request, sizeof(request), "/a/V?remoteWs&x=");
    /* The last byte stays 0: the sanitizer's string checks read up to it. */
    memset(request + len, 'y', sizeof(request) - 1 - (size_t)len);
    assert_int_equal(url_parse(&conf, request, URL_REQUEST_MAX, &no_options, &target, &why),
                     STATUS_OK);
    target_fini(&target);
    assert_int_equal(url_parse(&conf, request, URL_REQUEST_MAX + 1, &no_options, &target, &why),
                     STATUS_INVALID);
}

static void upstream_urls_follow_their_template(void **state)
{
    (void)state;
    static const struct {
        const char *template, *request, *url;
    } cases[] = {
        {"ws://car:28088/carmonitor/remotews", "/admin/VIN123?remoteWs",
         "ws://car:28088/carmonitor/remotews/admin/VIN123"},
        {"ws://car/x", "/admin?remoteWs", "ws://car/x/admin"},
        {"ws://car/x", "/ws?remoteWs&vin=V&k=v", "ws://car/x/ws?vin=V&k=v"},
        {"ws://car/x", "/t;u?remoteWs&k=v", "ws://car/x/t;u?k=v"},
        {"ws://car/x", "/%61dmin/V%2B1?remoteWs", "ws://car/x/%61dmin/V%2B1"},
        {"ws://car/x/", "/a/V?remoteWs", "ws://car/x/a/V"},
        {"ws://car", "/a/V?remoteWs&k", "ws://car/a/V?k"},
        {"ws://car/x?fixed=1", "/a/V?remoteWs&k=v", "ws://car/x/a/V?fixed=1&k=v"},
        {"ws://car/x{path}", "/a/V?remoteWs&k=v", "ws://car/x/a/V"},
        {"ws://car/{vin}{query}", "/a/V?remoteWs&k=v", "ws://car/V?k=v"},
        {"ws://car/v?vin={vin}{query}", "/a/V?remoteWs&k=v", "ws://car/v?vin=V&k=v"},
        {"ws://car/v?vin={vin}{query}", "/a/V?remoteWs", "ws://car/v?vin=V"},
        {"ws://car/{user}/{vin}", "/a%20b/V%26%3D%3F?remoteWs", "ws://car/a%20b/V%26%3D%3F"},
        {"ws://car/{user}/{vin}", "/%C3%A4/V+%7B?remoteWs", "ws://car/%C3%A4/V%2B%7B"},
        {"ws://car/u{user}/{vin}", "/ws?remoteWs&vin=V", "ws://car/u/V"},
        {"ws://car/{service}/{key}", "/a/V%20?remoteWs", "ws://car/remoteWs/V%20"},
        {"ws://car/{key}", "/a?remoteWs&k=v", "ws://car/%2Fa%3Fk%3Dv"},
        {"ws://car/{vin}{vin}", "/a/%7Buser%7D?remoteWs", "ws://car/%7Buser%7D%7Buser%7D"},
    };
    char *configured = plain.upstream;
    for (size_t i = 0; i < LEN(cases); i++) {
        struct target target;
        const char *why;
        char template[128];
        strcpy(template, cases[i].template);
        plain.upstream = template;
        assert_int_equal(parse(cases[i].request, &target, &why), STATUS_OK);
        char *url = url_upstream(&target);
        assert_string_equal(url, cases[i].url);
        free(url);
        target_fini(&target);
    }
    plain.upstream = configured;
}

static void query_values_are_hidden_in_records(void **state)
{
    (void)state;
    static const struct {
        const char *url, *redacted;
    } cases[] = {
        {"ws://h/p", "ws://h/p"},
        {"ws://h/p?vin=V&x=secret", "ws://h/p?vin=\u2026&x=\u2026"},
        {"ws://h/p?bare&x=a=b?c", "ws://h/p?bare&x=\u2026"},
        {"ws://h/p?x=", "ws://h/p?x=\u2026"},
        {"ws://h/a=b?", "ws://h/a=b?"},
        {"", ""},
    };
    for (size_t i = 0; i < LEN(cases); i++) {
        char *redacted = url_redact(cases[i].url);
        assert_string_equal(redacted, cases[i].redacted);
        free(redacted);
    }
}

static void urls_are_split_or_refused(void **state)
{
    (void)state;
    static const struct {
        const char *url;
        bool tls;
        const char *host;
        uint16_t port;
        const char *path;
    } good[] = {
        {"ws://car", false, "car", 80, "/"},
        {"wss://car", true, "car", 443, "/"},
        {"WSS://Car.example:8443/x?y=z", true, "Car.example", 8443, "/x?y=z"},
        {"ws://127.0.0.1:28088/a/b", false, "127.0.0.1", 28088, "/a/b"},
        {"ws://[::1]:9/x", false, "::1", 9, "/x"},
        {"ws://[fe80::1]", false, "fe80::1", 80, "/"},
        {"ws://h_1:65535/", false, "h_1", 65535, "/"},
    };
    for (size_t i = 0; i < LEN(good); i++) {
        struct url_parts parts;
        assert_int_equal(url_split(good[i].url, &parts), STATUS_OK);
        assert_int_equal(parts.tls, good[i].tls);
        assert_string_equal(parts.host, good[i].host);
        assert_int_equal(parts.port, good[i].port);
        assert_string_equal(parts.path, good[i].path);
    }
    static const char *const bad[] = {"",
                                      "car",
                                      "http://car",
                                      "ws:/car",
                                      "ws://",
                                      "ws:///x",
                                      "ws://:80/",
                                      "ws://h:/x",
                                      "ws://h:0",
                                      "ws://h:65536",
                                      "ws://h:99999999",
                                      "ws://h:8a",
                                      "ws://u:p@h/",
                                      "ws://u@h/",
                                      "ws://h?x=1",
                                      "ws://h/#f",
                                      "ws://h#f",
                                      "ws://[::1",
                                      "ws://[::1]x",
                                      "ws://[zz]",
                                      "ws://[]:1",
                                      "ws://::1/",
                                      "ws://h h/",
                                      "ws://h\\x/",
                                      "wss//h",
                                      "ws://[1.2.3.4]/"};
    for (size_t i = 0; i < LEN(bad); i++) {
        struct url_parts parts;
        if (url_split(bad[i], &parts) != STATUS_INVALID)
            fail_msg("\"%s\" was taken", bad[i]);
    }
    char long_host[300] = "ws://";
    struct url_parts parts;
    memset(long_host + 5, 'h', 256);
    assert_int_equal(url_split(long_host, &parts), STATUS_INVALID);
    long_host[5 + 255] = '\0';
    assert_int_equal(url_split(long_host, &parts), STATUS_OK);
}

static void templates_are_checked(void **state)
{
    (void)state;
    static const char *const good[] = {"", "ws://h/x", "{vin}",
                                       "{path}{user}{vin}{query}{service}{key}", "a{vin}b"};
    static const char *const bad[] = {"{",    "}",      "{}",      "{vin",   "vin}", "{Vin}",
                                      "{vi}", "{vin }", "{{vin}}", "{vin}}", "a{b",  "{unknown}"};
    const char *why;
    for (size_t i = 0; i < LEN(good); i++)
        assert_int_equal(url_template_check(good[i], &why), STATUS_OK);
    for (size_t i = 0; i < LEN(bad); i++) {
        why = NULL;
        assert_int_equal(url_template_check(bad[i], &why), STATUS_INVALID);
        assert_non_null(why);
    }
}

static void a_url_that_names_the_user_needs_a_key_that_does(void **state)
{
    (void)state;
    static const struct {
        const char *upstream, *session;
        bool leaks;
    } cases[] = {
        {"ws://h/x", "", true},
        {"ws://h/x", "{vin}", true},
        {"ws://h/x{path}", "{vin}", true},
        {"ws://h/{user}", "{vin}", true},
        {"ws://h/{vin}", "{vin}", false},
        {"ws://h/{vin}{query}", "", false},
        {"ws://h/x", "{path}", false},
        {"ws://h/x", "{user}:{vin}", false},
        {"ws://h/{key}", "{vin}", false},
    };
    for (size_t i = 0; i < LEN(cases); i++) {
        char upstream[64], session[64];
        strcpy(upstream, cases[i].upstream);
        strcpy(session, cases[i].session);
        struct service service = {.upstream = upstream, .session = session};
        assert_int_equal(url_template_leaks_user(&service), cases[i].leaks);
    }
}

/* Path and query alone give the same target as the whole request. */
static void check_reread(const struct target *target, const char *url)
{
    struct target again;
    char *text = malloc(strlen(target->path) + strlen(target->query) + 1);
    sprintf(text, "%s%s", target->path, target->query);
    assert_int_equal(url_reread(target->service, text, strlen(text), &again), STATUS_OK);
    assert_string_equal(again.session_id, target->session_id);
    assert_string_equal(again.query, target->query);
    char *same = url_upstream(&again);
    assert_string_equal(same, url);
    free(same);
    free(text);
    target_fini(&again);
}

static void what_is_no_request_is_not_read_again(void **state)
{
    (void)state;
    static const char *const bad[] = {"",       "x",     "/a b", "/a/../b",
                                      "/a/b/c", "/a%0a", "//",   "/a?x=\x01 "};
    struct target target;
    for (size_t i = 0; i < LEN(bad); i++)
        assert_int_equal(url_reread(&plain, bad[i], strlen(bad[i]), &target), STATUS_INVALID);
    assert_int_equal(url_reread(&plain, "/a\0b", 4, &target), STATUS_INVALID);
    assert_int_equal(url_reread(&plain, NULL, 0, &target), STATUS_INVALID);
}

/* An accepted URL has a session id of allowed bytes only, and an upstream URL without control
 * bytes. */
static void check_accepted(struct target *target)
{
    const char *key = strchr(target->session_id, ':') + 1;
    static const char allowed[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._~-/;?=&%";
    assert_int_equal(strspn(key, allowed), strlen(key));
    char *url = url_upstream(target);
    struct url_parts parts;
    assert_int_equal(url_split(url, &parts), STATUS_OK);
    for (const char *c = url; *c != '\0'; c++)
        assert_true((unsigned char)*c > ' ' && *c != 0x7f);
    assert_true(text_is_utf8(url, strlen(url)));
    check_reread(target, url);
    free(url);
}

static void random_requests_are_taken_whole_or_refused(void **state)
{
    (void)state;
    static const char *const pieces[] = {
        "/",      "/a", "/ws",      "V1",   "?",   "&",        "=",       ";",   ".",      "..",
        "%",      "%2", "%2F",      "%00",  "%41", "remoteWs", "by_user", "vin", "replay", "token",
        "resume", "1",  "\xc3\xa4", "\xff", " ",   "{vin}",    "{",       "#",   "\\",     "+"};
    const char *given = getenv("VINHUB_TEST_SEED");
    uint64_t seed = given ? strtoull(given, NULL, 10) : clock_unix_ms();
    print_message("# VINHUB_TEST_SEED=%llu\n", (unsigned long long)seed);
    struct rng rng;
    rng_seed(&rng, seed);
    size_t accepted = 0;
    for (int i = 0; i < 50000; i++) {
        char text[256] = "/u";
        for (uint64_t n = rng_below(&rng, 10); n > 0; n--)
            strcat(text, pieces[rng_below(&rng, LEN(pieces))]);
        size_t len = strlen(text);
        char *exact = malloc(len); /* no terminator: a read past the end is seen by the sanitizer */
        memcpy(exact, text, len);
        struct target target;
        const char *why;
        if (url_parse(&conf, exact, len, rng_below(&rng, 2) ? &take_both : &no_options, &target,
                      &why) == STATUS_OK) {
            check_accepted(&target);
            target_fini(&target);
            accepted++;
        }
        free(exact);
    }
    assert_true(accepted > 100);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_form_names_user_vin_query_and_session),
        cmocka_unit_test_setup_teardown(the_default_service_serves_urls_that_name_none,
                                        with_default_service, without_default_service),
        cmocka_unit_test(a_vin_in_other_escapes_is_the_same_session),
        cmocka_unit_test(bytes_outside_the_set_are_escaped_in_the_id),
        cmocka_unit_test(malformed_urls_are_refused_with_a_reason),
        cmocka_unit_test(an_embedded_nul_is_refused_and_the_length_counts),
        cmocka_unit_test(urls_without_a_known_service_are_not_found),
        cmocka_unit_test(the_hubs_own_parameters_never_reach_the_upstream),
        cmocka_unit_test(an_unreadable_resume_is_no_error),
        cmocka_unit_test(the_first_token_that_is_not_empty_counts),
        cmocka_unit_test(a_rate_is_a_number_of_protocol_clients_only),
        cmocka_unit_test(a_session_id_never_holds_a_credential),
        cmocka_unit_test(a_key_has_at_most_256_bytes),
        cmocka_unit_test(a_request_has_at_most_8_kib),
        cmocka_unit_test(upstream_urls_follow_their_template),
        cmocka_unit_test(query_values_are_hidden_in_records),
        cmocka_unit_test(urls_are_split_or_refused),
        cmocka_unit_test(templates_are_checked),
        cmocka_unit_test(a_url_that_names_the_user_needs_a_key_that_does),
        cmocka_unit_test(what_is_no_request_is_not_read_again),
        cmocka_unit_test_setup_teardown(random_requests_are_taken_whole_or_refused,
                                        with_default_service, without_default_service),
    };
    return cmocka_run_group_tests_name("url", tests, NULL, NULL);
}
