/* Log lines: form, escaping, bounds, causes that stay, and a reader that does not read. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <regex.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
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

static uint64_t clock_ahead_ms;

/* The clock of the log is the test's own, so that minutes pass at once. */
static uint64_t read_us(clockid_t id)
{
    struct timespec ts;
    assert_int_equal(clock_gettime(id, &ts), 0);
    return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

uint64_t clock_boot_us(void)
{
    return read_us(CLOCK_BOOTTIME) + clock_ahead_ms * 1000;
}

uint64_t clock_boot_ms(void)
{
    return clock_boot_us() / 1000;
}

uint64_t clock_unix_ms(void)
{
    return read_us(CLOCK_REALTIME) / 1000;
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
    if (!line)
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

static void a_cause_that_stays_is_logged_once_and_each_new_one(void **state)
{
    (void)state;
    metrics_reset();
    log_configure(LOG_LEVEL_INFO, LOG_FORMAT_TEXT, "n1");
    capture_start();
    for (int i = 0; i < 300; i++) {
        char address[32];
        snprintf(address, sizeof(address), "10.0.0.%d", i);
        log_warn_cause("cause_one", LOG_STR("reason", "first"), LOG_U64("number", i),
                       LOG_DETAIL("address", address));
        log_info_cause("cause_two", LOG_STR("reason", "first"));
    }
    log_warn_cause("cause_one", LOG_STR("reason", "second"));
    log_warn_cause("cause_one", LOG_STR("reason", "sec"), LOG_STR("more", "ond"));
    const char *text = capture_stop();
    assert_int_equal(count(text, "cause_one"), 3);
    assert_int_equal(count(text, "address=10.0.0.0\n"), 1);
    assert_int_equal(count(text, "cause_two"), 1);
    assert_int_equal(metric_get(METRIC_LOG_SUPPRESSED), 2 * 299);
}

static void a_cause_that_stays_is_logged_each_minute_with_a_count(void **state)
{
    (void)state;
    log_configure(LOG_LEVEL_INFO, LOG_FORMAT_TEXT, "n1");
    capture_start();
    for (int i = 0; i < 5; i++)
        log_warn_cause("cause_minute", LOG_STR("reason", "stays"));
    clock_ahead_ms += 59000;
    log_warn_cause("cause_minute", LOG_STR("reason", "stays"));
    clock_ahead_ms += 1000;
    log_warn_cause("cause_minute", LOG_STR("reason", "stays"));
    log_warn_cause("cause_minute", LOG_STR("reason", "stays"));
    clock_ahead_ms += 60000;
    log_warn_cause("cause_minute", LOG_STR("reason", "stays"));
    const char *text = capture_stop();
    assert_int_equal(count(text, "cause_minute"), 3);
    assert_int_equal(count(text, "cause_minute node=n1 repeated=5 reason=stays"), 1);
    assert_int_equal(count(text, "cause_minute node=n1 repeated=1 reason=stays"), 1);
}

/* A peer that chooses the text of a cause neither floods the log nor hides what others cause. */
static void causes_without_number_are_bounded_for_each_event(void **state)
{
    (void)state;
    log_configure(LOG_LEVEL_INFO, LOG_FORMAT_TEXT, "n1");
    capture_start();
    for (int i = 0; i < 5000; i++) {
        char reason[32];
        snprintf(reason, sizeof(reason), "chosen %d", i);
        log_warn_cause("cause_chosen", LOG_STR("reason", reason));
    }
    log_warn_cause("cause_other", LOG_STR("reason", "true"));
    const char *text = capture_stop();
    assert_in_range(count(text, "cause_chosen"), 100, 130);
    assert_int_equal(count(text, "cause_other"), 1);
}

static void lines_without_a_cause_are_never_held_back(void **state)
{
    (void)state;
    log_configure(LOG_LEVEL_DEBUG, LOG_FORMAT_TEXT, "n1");
    capture_start();
    for (int i = 0; i < 300; i++) {
        log_error("free_error");
        log_debug("free_debug");
        log_info("client_closed");
    }
    const char *text = capture_stop();
    assert_int_equal(count(text, "free_error"), 300);
    assert_int_equal(count(text, "free_debug"), 300);
    assert_int_equal(count(text, "client_closed"), 300);
}

/* --- a reader that does not read --- */

#define LINES 4000 /* of some 100 bytes: more than a pipe and the log's buffer hold */

struct log_reader {
    int fd; /* its end */
    int saved;
};

static void reader_start(struct log_reader *reader, int ends[2])
{
    reader->fd = ends[0];
    reader->saved = dup(STDERR_FILENO);
    dup2(ends[1], STDERR_FILENO);
    close(ends[1]);
    metrics_reset();
    log_configure(LOG_LEVEL_INFO, LOG_FORMAT_TEXT, "n1");
}

/* Reads all that comes until the log has nothing left, and gives standard error back. */
static const char *reader_drain(const struct log_reader *reader)
{
    size_t len = 0;
    ssize_t got;
    fcntl(reader->fd, F_SETFL, O_NONBLOCK);
    for (bool flushed = false; !flushed;) {
        flushed = log_flush();
        while ((got = read(reader->fd, captured + len, sizeof(captured) - 1 - len)) > 0)
            len += (size_t)got;
    }
    captured[len] = '\0';
    dup2(reader->saved, STDERR_FILENO);
    close(reader->saved);
    close(reader->fd);
    return captured;
}

/* If a write blocked, the alarm would end the test. */
static void assert_lines_are_kept_dropped_and_reported(int ends[2])
{
    struct log_reader reader;
    reader_start(&reader, ends);
    alarm(30);
    for (int i = 0; i < LINES; i++)
        log_info(
            "stalled", LOG_U64("number", i),
            LOG_STR("reason", "a line of an ordinary length, as the end of a client makes it"));
    alarm(0);
    uint64_t dropped = metric_get(METRIC_LOG_LINES_DROPPED);
    assert_in_range(dropped, 1, LINES - 2000);
    reader_drain(&reader);
    assert_int_equal(count(captured, " stalled "), LINES - dropped);
    size_t whole = 0;
    for (char *line = strtok(captured, "\n"); line; line = strtok(NULL, "\n"))
        whole += strstr(line, "as the end of a client makes it\"") != NULL;
    assert_int_equal(whole, LINES - dropped);
}

static void a_pipe_nobody_reads_holds_nothing_up(void **state)
{
    (void)state;
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    assert_lines_are_kept_dropped_and_reported(ends);
}

static void a_socket_nobody_reads_holds_nothing_up(void **state)
{
    (void)state;
    int ends[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
    setsockopt(ends[1], SOL_SOCKET, SO_SNDBUF, &(int){4096}, sizeof(int));
    assert_lines_are_kept_dropped_and_reported(ends);
}

static void the_number_of_missing_lines_stands_in_their_place(void **state)
{
    (void)state;
    int ends[2];
    struct log_reader reader;
    assert_int_equal(pipe(ends), 0);
    reader_start(&reader, ends);
    alarm(30);
    for (int i = 0; i < LINES; i++)
        log_info("before", LOG_STR("reason", "a line of an ordinary length, as any other of them"));
    uint64_t dropped = metric_get(METRIC_LOG_LINES_DROPPED);
    size_t len = 0;
    ssize_t got;
    fcntl(reader.fd, F_SETFL, O_NONBLOCK);
    while ((got = read(reader.fd, captured + len, sizeof(captured) - 1 - len)) > 0)
        len += (size_t)got;
    captured[len] = '\0';
    assert_null(strstr(captured, "log_lines_dropped"));
    reader_drain(&reader);
    char told[64];
    snprintf(told, sizeof(told), "log_lines_dropped node=n1 count=%" PRIu64 " ", dropped);
    assert_true(dropped > 0);
    assert_non_null(strstr(captured, told));
    alarm(0);
}

/* Another process may share the description, and its writes must not begin to fail. */
static void the_flags_of_standard_error_stay_as_they_are(void **state)
{
    (void)state;
    int ends[2];
    struct log_reader reader;
    assert_int_equal(pipe(ends), 0);
    reader_start(&reader, ends);
    log_info("flags");
    int flags = fcntl(STDERR_FILENO, F_GETFL);
    reader_drain(&reader);
    assert_int_equal(flags & O_NONBLOCK, 0);
    assert_non_null(strstr(captured, " flags "));
}

static void the_end_waits_a_little_and_not_longer(void **state)
{
    (void)state;
    int ends[2];
    struct log_reader reader;
    assert_int_equal(pipe(ends), 0);
    reader_start(&reader, ends);
    alarm(30);
    for (int i = 0; i < LINES; i++)
        log_info("at_the_end", LOG_STR("reason", "a line of an ordinary length"));
    uint64_t from_ms = clock_boot_ms();
    log_finish();
    assert_in_range(clock_boot_ms() - from_ms, 150, 5000);
    alarm(0);
    reader_drain(&reader);
}

static void a_reader_that_is_gone_is_no_fault(void **state)
{
    (void)state;
    int ends[2];
    struct log_reader reader;
    signal(SIGPIPE, SIG_IGN);
    assert_int_equal(pipe(ends), 0);
    reader_start(&reader, ends);
    close(reader.fd);
    for (int i = 0; i < LINES; i++)
        log_info("to_nobody",
                 LOG_STR("reason", "a line of an ordinary length, as any other of them"));
    assert_true(metric_get(METRIC_LOG_LINES_DROPPED) > 0);
    dup2(reader.saved, STDERR_FILENO);
    close(reader.saved);
    capture_start();
    log_flush();
    log_info("again");
    assert_non_null(strstr(capture_stop(), " again "));
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
        cmocka_unit_test(a_cause_that_stays_is_logged_once_and_each_new_one),
        cmocka_unit_test(a_cause_that_stays_is_logged_each_minute_with_a_count),
        cmocka_unit_test(causes_without_number_are_bounded_for_each_event),
        cmocka_unit_test(lines_without_a_cause_are_never_held_back),
        cmocka_unit_test(a_pipe_nobody_reads_holds_nothing_up),
        cmocka_unit_test(a_socket_nobody_reads_holds_nothing_up),
        cmocka_unit_test(the_number_of_missing_lines_stands_in_their_place),
        cmocka_unit_test(the_flags_of_standard_error_stay_as_they_are),
        cmocka_unit_test(the_end_waits_a_little_and_not_longer),
        cmocka_unit_test(a_reader_that_is_gone_is_no_fault),
    };
    return cmocka_run_group_tests_name("log", tests, NULL, NULL);
}
