/* The lines of the log: form, escaping, bounds, and the limit per event. Standard error goes to a
 * file meanwhile. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <jansson.h>
#include <regex.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/log.h"
#include "common/metrics.h"

static int real_stderr, capture;
static char captured[1 << 20];

static void capture_start(void)
{
    char path[] = "/tmp/test_log.XXXXXX";
    capture = mkstemp(path);
    assert_true(capture >= 0);
    unlink(path);
    real_stderr = dup(STDERR_FILENO);
    dup2(capture, STDERR_FILENO);
}

/* What was written since capture_start. */
static const char *capture_stop(void)
{
    dup2(real_stderr, STDERR_FILENO);
    close(real_stderr);
    ssize_t len = pread(capture, captured, sizeof(captured) - 1, 0);
    close(capture);
    assert_true(len >= 0);
    captured[len] = '\0';
    return captured;
}

static void assert_matches(const char *text, const char *pattern)
{
    regex_t regex;
    assert_int_equal(regcomp(&regex, pattern, REG_EXTENDED | REG_NOSUB), 0);
    int found = regexec(&regex, text, 0, NULL, 0);
    regfree(&regex);
    if (found != 0)
        fail_msg("\"%s\" does not match \"%s\"", text, pattern);
}

#define TIME "^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\\.[0-9]{3}Z "

static void text_lines_have_time_level_event_and_fields(void **state)
{
    (void)state;
    log_configure(LOG_LEVEL_INFO, LOG_FORMAT_TEXT, "n1");
    capture_start();
    log_info("text_one", LOG_STR("session", "remoteWs:V1"), LOG_U64("code", 1000),
             LOG_I64("delta", -5), LOG_STR("absent", NULL), LOG_STR("reason", "two words"),
             LOG_STR("empty", ""));
    assert_matches(capture_stop(),
                   TIME "info text_one node=n1 session=remoteWs:V1 code=1000 delta=-5 "
                        "reason=\"two words\" empty=\"\"\n$");
}

static void an_event_may_have_no_fields_and_no_node(void **state)
{
    (void)state;
    log_configure(LOG_LEVEL_DEBUG, LOG_FORMAT_TEXT, NULL);
    capture_start();
    log_debug("bare");
    assert_matches(capture_stop(), TIME "debug bare\n$");
}

static void lower_levels_are_not_written(void **state)
{
    (void)state;
    log_configure(LOG_LEVEL_WARN, LOG_FORMAT_TEXT, "n1");
    assert_false(log_enabled(LOG_LEVEL_INFO));
    assert_true(log_enabled(LOG_LEVEL_WARN));
    capture_start();
    log_info("level_info");
    log_write(LOG_LEVEL_INFO, "level_info", &LOG_END);
    log_warn("level_warn");
    log_error("level_error");
    const char *text = capture_stop();
    assert_null(strstr(text, "level_info"));
    assert_non_null(strstr(text, " warn level_warn "));
    assert_non_null(strstr(text, " error level_error "));
}

static json_t *read_line(const char *text)
{
    const char *newline = strchr(text, '\n');
    assert_non_null(newline);
    assert_int_equal(newline[1], '\0'); /* one line */
    json_error_t error;
    json_t *line = json_loads(text, 0, &error);
    if (line == NULL)
        fail_msg("%s in %s", error.text, text);
    return line;
}

static void json_lines_can_be_read_back(void **state)
{
    (void)state;
    log_configure(LOG_LEVEL_INFO, LOG_FORMAT_JSON, "n1");
    capture_start();
    log_info("json_one", LOG_STR("session", "a\"b\\c\n\x01\x7f\xc3\xa4"),
             LOG_U64("big", UINT32_MAX), LOG_I64("delta", -5));
    json_t *line = read_line(capture_stop());
    assert_matches(json_string_value(json_object_get(line, "timestamp")),
                   "^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\\.[0-9]{3}Z$");
    assert_string_equal(json_string_value(json_object_get(line, "level")), "info");
    assert_string_equal(json_string_value(json_object_get(line, "event")), "json_one");
    assert_string_equal(json_string_value(json_object_get(line, "node")), "n1");
    assert_string_equal(json_string_value(json_object_get(line, "session")),
                        "a\"b\\c\n\x01\x7f\xc3\xa4");
    assert_int_equal(json_integer_value(json_object_get(line, "big")), UINT32_MAX);
    assert_int_equal(json_integer_value(json_object_get(line, "delta")), -5);
    json_decref(line);
}

static void what_is_no_utf8_or_a_control_never_reaches_a_terminal(void **state)
{
    (void)state;
    static const char hostile[] = "\x1b[31m\x7f\r\n\xff\xc2\x9b"
                                  "31m\xe2\x82";
    for (int format = LOG_FORMAT_TEXT; format <= LOG_FORMAT_JSON; format++) {
        log_configure(LOG_LEVEL_INFO, (enum log_format)format, "n1");
        capture_start();
        log_error("hostile", LOG_STR("value", hostile));
        const char *text = capture_stop();
        assert_non_null(
            strstr(text, "\"\\u001b[31m\\u007f\\u000d\\u000a\\ufffd\\u009b31m\\ufffd\\ufffd\""));
        assert_ptr_equal(strchr(text, '\n'), text + strlen(text) - 1);
        assert_null(strchr(text, 0x1b));
    }
}

static void a_long_value_is_cut_and_what_does_not_fit_is_left_out_whole(void **state)
{
    (void)state;
    static char bell[5000];
    memset(bell, 7, sizeof(bell) - 1); /* six bytes each when escaped */
    log_configure(LOG_LEVEL_INFO, LOG_FORMAT_JSON, "n1");
    capture_start();
    log_error("too_long", LOG_STR("a", bell), LOG_STR("b", bell), LOG_U64("last", 1));
    json_t *line = read_line(capture_stop());
    assert_int_equal(json_string_length(json_object_get(line, "a")), 1024 + 3);
    assert_null(json_object_get(line, "b"));
    assert_int_equal(json_integer_value(json_object_get(line, "last")), 1);
    json_decref(line);
}

static size_t count(const char *text, const char *word)
{
    size_t n = 0;
    for (; (text = strstr(text, word)) != NULL; text++)
        n++;
    return n;
}

/* Lines of one event until its second changed once, so that held back ones have been told of. */
static void flood(const char *event, uint64_t *lines)
{
    uint64_t first = clock_boot_ms() / 1000, now;
    do {
        now = clock_boot_ms() / 1000;
        log_warn(event);
        ++*lines;
    } while (now == first || *lines < 200);
}

static void a_flood_of_one_event_is_limited_and_told_of(void **state)
{
    (void)state;
    uint64_t lines = 0;
    metrics_reset();
    log_configure(LOG_LEVEL_INFO, LOG_FORMAT_TEXT, "n1");
    capture_start();
    flood("flood_one", &lines);
    log_warn("flood_two");
    const char *text = capture_stop();

    size_t written = count(text, "flood_one");
    assert_in_range(written, 51, 3 * 50);
    assert_int_equal(written + metric_get(METRIC_LOG_SUPPRESSED), lines);
    assert_int_equal(count(text, "flood_two"), 1);
    const char *told = strstr(text, "flood_one node=n1 suppressed=");
    assert_non_null(told);
    assert_true(strtoull(strstr(told, "suppressed=") + 11, NULL, 10) > 0);
}

static void errors_debug_lines_and_audits_are_never_held_back(void **state)
{
    (void)state;
    log_configure(LOG_LEVEL_DEBUG, LOG_FORMAT_TEXT, "n1");
    capture_start();
    for (int i = 0; i < 300; i++) {
        log_error("free_error");
        log_debug("free_debug");
        log_info("audit_upstream");
    }
    const char *text = capture_stop();
    assert_int_equal(count(text, "free_error"), 300);
    assert_int_equal(count(text, "free_debug"), 300);
    assert_int_equal(count(text, "audit_upstream"), 300);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_lines_have_time_level_event_and_fields),
        cmocka_unit_test(an_event_may_have_no_fields_and_no_node),
        cmocka_unit_test(lower_levels_are_not_written),
        cmocka_unit_test(json_lines_can_be_read_back),
        cmocka_unit_test(what_is_no_utf8_or_a_control_never_reaches_a_terminal),
        cmocka_unit_test(a_long_value_is_cut_and_what_does_not_fit_is_left_out_whole),
        cmocka_unit_test(a_flood_of_one_event_is_limited_and_told_of),
        cmocka_unit_test(errors_debug_lines_and_audits_are_never_held_back),
    };
    return cmocka_run_group_tests_name("log", tests, NULL, NULL);
}
