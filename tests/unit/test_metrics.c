/* Counting, and the Prometheus text: one HELP and TYPE a name, every reason, cumulative buckets. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/metrics.h"

static int set_up(void **state)
{
    (void)state;
    metrics_reset();
    return 0;
}

static void assert_line(const char *line)
{
    size_t len;
    char *text = metrics_print(&len), wanted[256];
    assert_int_equal(len, strlen(text));
    snprintf(wanted, sizeof(wanted), "\n%s\n", line);
    if (!strstr(text, wanted))
        fail_msg("no line \"%s\" in:\n%s", line, text);
    free(text);
}

static void what_is_counted_is_printed(void **state)
{
    (void)state;
    metric_set(METRIC_CLIENTS, 7);
    metric_set(METRIC_SESSIONS, 3);
    metric_set(METRIC_SESSIONS, 2);
    metric_add(METRIC_MESSAGES_IN, 5);
    metric_add(METRIC_MESSAGES_IN, 6);
    metric_drop(DROP_SLOW_CLIENT, 4);
    metric_refuse(REFUSE_ORIGIN);
    metric_refuse(REFUSE_ORIGIN);

    assert_int_equal(metric_get(METRIC_MESSAGES_IN), 11);
    assert_int_equal(metric_drops(DROP_SLOW_CLIENT), 4);
    assert_int_equal(metric_refusals(REFUSE_ORIGIN), 2);
    assert_line("vinhub_clients 7");
    assert_line("vinhub_sessions 2");
    assert_line("vinhub_upstreams 0");
    assert_line("vinhub_messages_in_total 11");
    assert_line("vinhub_messages_out_total 0");
    assert_line("vinhub_dropped_total{reason=\"slow_client\"} 4");
    assert_line("vinhub_refused_total{reason=\"origin\"} 2");
    assert_line("# TYPE vinhub_clients gauge");
    assert_line("# TYPE vinhub_messages_in_total counter");
    assert_line("# TYPE vinhub_dropped_total counter");
}

static void every_reason_is_printed_even_at_zero(void **state)
{
    (void)state;
    size_t len, drops = 0, refusals = 0;
    char *text = metrics_print(&len);
    for (const char *at = text; (at = strstr(at, "\nvinhub_dropped_total{")) != NULL; at++)
        drops++;
    for (const char *at = text; (at = strstr(at, "\nvinhub_refused_total{")) != NULL; at++)
        refusals++;
    assert_int_equal(drops, DROP_REASONS);
    assert_int_equal(refusals, REFUSE_REASONS);
    assert_null(strstr(text, "(null)"));
    free(text);
}

/* The format's own rules: HELP, TYPE, then samples of that name; no name twice; a newline at the
 * end. */
static void each_line_is_of_the_exposition_format(void **state)
{
    (void)state;
    size_t len, families = 0;
    char *text = metrics_print(&len), family[128] = "";
    assert_int_equal(text[len - 1], '\n');
    for (char *rest = text, *line; (line = strsep(&rest, "\n")) && *line != '\0';) {
        char name[128], type[16];
        if (sscanf(line, "# HELP %127s", name) == 1) {
            assert_string_not_equal(name, family);
            strcpy(family, name);
            families++;
        } else if (sscanf(line, "# TYPE %127s %15s", name, type) == 2) {
            assert_string_equal(name, family);
        } else {
            assert_int_equal(strncmp(line, "vinhub_", 7), 0);
            assert_int_equal(strncmp(line, family, strlen(family)), 0);
            const char *value = strrchr(line, ' ');
            char *end;
            assert_non_null(value);
            strtod(value, &end);
            assert_true(end != value && *end == '\0');
        }
    }
    assert_int_equal(families, METRIC_COUNT + SERVICE_METRICS + HISTOGRAM_COUNT + 3);
    free(text);
}

static void histograms_are_cumulative_and_in_seconds(void **state)
{
    (void)state;
    metric_observe(HISTOGRAM_PUSH_LATENCY, 10); /* on a bound: within it */
    metric_observe(HISTOGRAM_PUSH_LATENCY, 11);
    metric_observe(HISTOGRAM_PUSH_LATENCY, 200);
    metric_observe(HISTOGRAM_PUSH_LATENCY, 5000000);
    assert_line("# TYPE vinhub_push_latency_seconds histogram");
    assert_line("vinhub_push_latency_seconds_bucket{le=\"1e-05\"} 1");
    assert_line("vinhub_push_latency_seconds_bucket{le=\"2.5e-05\"} 2");
    assert_line("vinhub_push_latency_seconds_bucket{le=\"0.0001\"} 2");
    assert_line("vinhub_push_latency_seconds_bucket{le=\"0.00025\"} 3");
    assert_line("vinhub_push_latency_seconds_bucket{le=\"1\"} 3");
    assert_line("vinhub_push_latency_seconds_bucket{le=\"+Inf\"} 4");
    assert_line("vinhub_push_latency_seconds_count 4");
    assert_line("vinhub_push_latency_seconds_sum 5.000221");

    metric_observe(HISTOGRAM_FANOUT, 0);
    metric_observe(HISTOGRAM_FANOUT, 10001);
    assert_line("vinhub_fanout_clients_bucket{le=\"1\"} 1");
    assert_line("vinhub_fanout_clients_bucket{le=\"10000\"} 1");
    assert_line("vinhub_fanout_clients_bucket{le=\"+Inf\"} 2");
    assert_line("vinhub_fanout_clients_sum 10001");
}

static void services_are_counted_apart(void **state)
{
    (void)state;
    unsigned car = metric_service("car"), bus = metric_service("bus");
    assert_int_equal(metric_service("car"), car);
    assert_int_not_equal(car, bus);
    metric_service_add(car, SERVICE_CLIENTS, 3);
    metric_service_add(car, SERVICE_CLIENTS, -1);
    metric_service_add(bus, SERVICE_MESSAGES_OUT, 7);
    assert_line("vinhub_service_clients{service=\"car\"} 2");
    assert_line("vinhub_service_clients{service=\"bus\"} 0");
    assert_line("vinhub_service_messages_out_total{service=\"bus\"} 7");
    assert_line("# TYPE vinhub_service_messages_out_total counter");
}

static size_t count_of(const char *part)
{
    size_t len, count = 0;
    char *text = metrics_print(&len);
    for (const char *at = text; (at = strstr(at, part)) != NULL; at++)
        count++;
    free(text);
    return count;
}

static void services_beyond_the_bound_share_one_row(void **state)
{
    (void)state;
    char name[16];
    for (int i = 0; i < METRIC_SERVICES_MAX; i++) {
        snprintf(name, sizeof(name), "s%d", i);
        metric_service_add(metric_service(name), SERVICE_SESSIONS, 1);
    }
    assert_int_equal(count_of("\nvinhub_service_sessions{"), METRIC_SERVICES_MAX);
    for (int i = 0; i < 1000; i++) {
        snprintf(name, sizeof(name), "late%d", i);
        metric_service_add(metric_service(name), SERVICE_SESSIONS, 1);
    }
    assert_int_equal(count_of("\nvinhub_service_sessions{"), METRIC_SERVICES_MAX + 1);
    assert_line("vinhub_service_sessions{service=\"other\"} 1000");
    assert_line("vinhub_service_sessions{service=\"s63\"} 1");
}

static void a_service_called_other_is_one_of_the_others(void **state)
{
    (void)state;
    metric_service_add(metric_service("other"), SERVICE_CLIENTS, 2);
    assert_int_equal(count_of("\nvinhub_service_clients{"), 1);
    assert_line("vinhub_service_clients{service=\"other\"} 2");
}

static void queues_are_observed_in_bytes(void **state)
{
    (void)state;
    metric_observe(HISTOGRAM_CLIENT_QUEUE, 300);
    metric_observe(HISTOGRAM_UPSTREAM_QUEUE, 1 << 30);
    assert_line("vinhub_client_queue_bytes_bucket{le=\"256\"} 0");
    assert_line("vinhub_client_queue_bytes_bucket{le=\"1024\"} 1");
    assert_line("vinhub_upstream_queue_bytes_bucket{le=\"16777216\"} 0");
    assert_line("vinhub_upstream_queue_bytes_bucket{le=\"+Inf\"} 1");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(what_is_counted_is_printed, set_up),
        cmocka_unit_test_setup(every_reason_is_printed_even_at_zero, set_up),
        cmocka_unit_test_setup(each_line_is_of_the_exposition_format, set_up),
        cmocka_unit_test_setup(histograms_are_cumulative_and_in_seconds, set_up),
        cmocka_unit_test_setup(services_are_counted_apart, set_up),
        cmocka_unit_test_setup(services_beyond_the_bound_share_one_row, set_up),
        cmocka_unit_test_setup(a_service_called_other_is_one_of_the_others, set_up),
        cmocka_unit_test_setup(queues_are_observed_in_bytes, set_up),
    };
    return cmocka_run_group_tests_name("metrics", tests, NULL, NULL);
}
