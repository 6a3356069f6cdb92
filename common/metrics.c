#include "common/metrics.h"

#include <assert.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"

struct metric_row {
    const char *name; /* counters end in _total; units are base units (seconds, bytes) */
    const char *type;
    const char *help;
    double scale; /* printed value = kept value * scale; 0: as it is */
};

#define GAUGE(id, name, help)   [id] = {"vinhub_" name, "gauge", help, 0}
#define COUNTER(id, name, help) [id] = {"vinhub_" name "_total", "counter", help, 0}

static const struct metric_row metric_rows[METRIC_COUNT] = {
    GAUGE(METRIC_CLIENTS, "clients", "Browser sockets open on this node."),
    GAUGE(METRIC_SUBSCRIPTIONS, "subscriptions",
          "Sessions that clients of this node follow beside their own."),
    GAUGE(METRIC_SESSIONS, "sessions", "Sessions with clients or an upstream on this node."),
    GAUGE(METRIC_UPSTREAMS, "upstreams", "Upstream sockets open on this node."),
    GAUGE(METRIC_OWNED, "owned_sessions", "Sessions this node owns."),
    GAUGE(METRIC_BUS_CONNECTED, "bus_connected",
          "1 while commands and subscriptions reach Redis (or the bus is in memory)."),
    [METRIC_LOOP_LAG_MS] = {"vinhub_loop_lag_seconds", "gauge",
                            "The latest that a timer of the event loop ran within the last second.",
                            1e-3},
    GAUGE(METRIC_RSS_BYTES, "resident_memory_bytes", "Resident memory of the process."),
    COUNTER(METRIC_MESSAGES_IN, "messages_in", "Messages received from upstreams."),
    COUNTER(METRIC_MESSAGES_OUT, "messages_out", "Messages written to clients."),
    COUNTER(METRIC_BYTES_IN, "bytes_in", "Payload bytes received from upstreams."),
    COUNTER(METRIC_BYTES_OUT, "bytes_out", "Bytes written to clients, frame headers included."),
    COUNTER(METRIC_CLIENT_MESSAGES_IN, "client_messages_in", "Messages received from clients."),
    COUNTER(METRIC_UPSTREAM_MESSAGES_OUT, "upstream_messages_out",
            "Client messages written to upstreams."),
    COUNTER(METRIC_ACCEPTED, "accepted", "Client handshakes that succeeded."),
    COUNTER(METRIC_PREFLIGHTS, "preflights",
            "OPTIONS requests of pages that may read event streams."),
    COUNTER(METRIC_UPSTREAM_CONNECTS, "upstream_connects", "Upstream handshakes that succeeded."),
    COUNTER(METRIC_UPSTREAM_FAILURES, "upstream_failures",
            "Upstream handshakes that failed and upstreams that were lost."),
    COUNTER(METRIC_CLAIMS, "claims", "Sessions claimed by this node."),
    COUNTER(METRIC_CLAIMS_REFUSED, "claims_refused",
            "Claims that another owner or the store refused."),
    COUNTER(METRIC_TAKEOVERS, "takeovers", "Sessions taken over from a dead owner."),
    COUNTER(METRIC_HANDOVERS, "handovers", "Sessions handed to another node."),
    COUNTER(METRIC_FENCES, "fences", "Times this node's lease ran out and it reset its upstreams."),
    COUNTER(METRIC_SPLIT_OWNERS, "split_owners", "Times a second owner of a session was found."),
    COUNTER(METRIC_BUS_COMMANDS, "bus_commands", "Commands sent to Redis."),
    COUNTER(METRIC_BUS_RECONNECTS, "bus_reconnects", "Times a connection to Redis was made again."),
    COUNTER(METRIC_BUS_PUBLISHED, "bus_published", "Publications given to the bus."),
    COUNTER(METRIC_BUS_RECEIVED, "bus_received", "Messages received from the bus."),
    COUNTER(METRIC_GAPS, "gaps", "Gaps found in what the bus delivered."),
    COUNTER(METRIC_GAP_FILLS, "gap_fills", "Gaps filled from the history."),
    COUNTER(METRIC_RESUMES, "resumes", "Clients that resumed at a known position."),
    COUNTER(METRIC_REPLAYED, "replayed", "Past publications sent to clients on connect or resume."),
    COUNTER(METRIC_CONFLATED, "conflated",
            "Publications that a newer one replaced for a client that asked for a rate."),
    COUNTER(METRIC_HISTORY_REFUSED, "history_refused", "Publications Redis had no memory to keep."),
    COUNTER(METRIC_LOG_SUPPRESSED, "log_suppressed",
            "Log lines held back because their cause was logged within the last minute."),
    COUNTER(METRIC_LOG_LINES_DROPPED, "log_lines_dropped",
            "Log lines lost because standard error did not take them."),
};

static const char *const drop_names[DROP_REASONS] = {
    [DROP_UPSTREAM_QUEUE] = "upstream_queue",
    [DROP_OWNER_LOST] = "owner_lost",
    [DROP_CLIENT_GONE] = "client_gone",
    [DROP_SLOW_CLIENT] = "slow_client",
    [DROP_GAP] = "gap",
    [DROP_STALE_EPOCH] = "stale_epoch",
    [DROP_DUPLICATE] = "duplicate",
    [DROP_FENCED] = "fenced",
    [DROP_BUS_UNREADABLE] = "bus_unreadable",
    [DROP_RATE] = "rate",
    [DROP_MALFORMED] = "malformed",
    [DROP_TOO_LARGE] = "too_large",
    [DROP_EXPIRED] = "expired",
    [DROP_NO_MEMORY] = "no_memory",
};

static const char *const refuse_names[REFUSE_REASONS] = {
    [REFUSE_MALFORMED_URL] = "malformed_url",
    [REFUSE_UNKNOWN_SERVICE] = "unknown_service",
    [REFUSE_ORIGIN] = "origin",
    [REFUSE_FULL] = "full",
    [REFUSE_DRAINING] = "draining",
    [REFUSE_PER_IP] = "per_ip",
    [REFUSE_NOT_UPGRADE] = "not_upgrade",
    [REFUSE_UNAUTHORIZED] = "unauthorized",
    [REFUSE_PROXY_HEADER] = "proxy_header",
    [REFUSE_TLS] = "tls",
    [REFUSE_NOT_HTTP] = "not_http",
    [REFUSE_TIMEOUT] = "timeout",
    [REFUSE_ABORTED] = "aborted",
    [REFUSE_SUBSCRIBED] = "subscribed",
    [REFUSE_NOT_SUBSCRIBED] = "not_subscribed",
};

#define BUCKETS_MAX 16

struct histogram_row {
    const char *name;
    const char *help;
    double scale;                 /* printed value = observed value * scale */
    uint64_t bounds[BUCKETS_MAX]; /* rising; a 0 ends them */
};

static const struct histogram_row histogram_rows[HISTOGRAM_COUNT] = {
    [HISTOGRAM_PUSH_LATENCY] = {"vinhub_push_latency_seconds",
                                "From an upstream's frame in to the flush that wrote it.",
                                1e-6,
                                {10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000, 25000, 50000,
                                 100000, 250000, 1000000}},
    [HISTOGRAM_FANOUT] = {"vinhub_fanout_clients",
                          "Clients of this node that a publication went to.",
                          1,
                          {1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000}},
    [HISTOGRAM_CLIENT_QUEUE] = {"vinhub_client_queue_bytes",
                                "Bytes in a client's queue, seen whenever something has to wait.",
                                1,
                                {256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304,
                                 16777216}},
    [HISTOGRAM_UPSTREAM_QUEUE] = {"vinhub_upstream_queue_bytes",
                                  "Bytes in a session's queue of client messages, seen whenever "
                                  "one has to wait.",
                                  1,
                                  {256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304,
                                   16777216}},
    [HISTOGRAM_TURN] = {"vinhub_turn_seconds",
                        "Processor time of one turn of the event loop.",
                        1e-6,
                        {100, 250, 500, 1000, 2500, 5000, 10000, 20000, 35000, 50000, 75000, 100000,
                         250000, 500000, 1000000}},
};

static const struct metric_row service_rows[SERVICE_METRICS] = {
    GAUGE(SERVICE_CLIENTS, "service_clients", "Browser sockets open on this node, by service."),
    GAUGE(SERVICE_SESSIONS, "service_sessions", "Sessions on this node, by service."),
    GAUGE(SERVICE_UPSTREAMS, "service_upstreams",
          "Upstream sockets open on this node, by service."),
    COUNTER(SERVICE_MESSAGES_IN, "service_messages_in",
            "Messages received from upstreams, by service."),
    COUNTER(SERVICE_MESSAGES_OUT, "service_messages_out",
            "Messages written to clients, by service."),
    COUNTER(SERVICE_CLIENT_MESSAGES_IN, "service_client_messages_in",
            "Messages received from clients, by service."),
    COUNTER(SERVICE_UPSTREAM_FAILURES, "service_upstream_failures",
            "Upstream handshakes that failed and upstreams that were lost, by service."),
};

struct histogram_counts {
    uint64_t buckets[BUCKETS_MAX + 1]; /* not cumulative; the one after the last bound is +Inf */
    uint64_t sum;
};

static uint64_t values[METRIC_COUNT];
static uint64_t drops[DROP_REASONS];
static uint64_t refusals[REFUSE_REASONS];
static struct histogram_counts histograms[HISTOGRAM_COUNT];

/* Slot 0 is shared by all services that have no slot of their own. */
struct service_counts {
    char name[65]; /* of a service: at most 64 bytes (contract section 1) */
    int64_t values[SERVICE_METRICS];
};
static struct service_counts services[METRIC_SERVICES_MAX + 1] = {{.name = "other"}};
static unsigned services_len = 1;
static bool others_counted; /* slot 0 was given out */

void metric_add(enum metric metric, uint64_t n)
{
    assert(metric < METRIC_COUNT);
    values[metric] += n;
}

void metric_set(enum metric metric, uint64_t value)
{
    assert(metric < METRIC_COUNT);
    values[metric] = value;
}

uint64_t metric_get(enum metric metric)
{
    assert(metric < METRIC_COUNT);
    return values[metric];
}

void metric_drop(enum drop_reason reason, uint64_t n)
{
    assert(reason < DROP_REASONS);
    drops[reason] += n;
}

uint64_t metric_drops(enum drop_reason reason)
{
    assert(reason < DROP_REASONS);
    return drops[reason];
}

void metric_refuse(enum refuse_reason reason)
{
    assert(reason < REFUSE_REASONS);
    refusals[reason]++;
}

uint64_t metric_refusals(enum refuse_reason reason)
{
    assert(reason < REFUSE_REASONS);
    return refusals[reason];
}

const char *metric_drop_name(enum drop_reason reason)
{
    assert(reason < DROP_REASONS);
    return drop_names[reason];
}

void metric_observe(enum histogram histogram, uint64_t value_us_or_count)
{
    assert(histogram < HISTOGRAM_COUNT);
    const uint64_t *bounds = histogram_rows[histogram].bounds;
    size_t i = 0;
    while (i < BUCKETS_MAX && bounds[i] != 0 && value_us_or_count > bounds[i])
        i++;
    histograms[histogram].buckets[i]++;
    histograms[histogram].sum += value_us_or_count;
}

unsigned metric_service(const char *name)
{
    for (unsigned slot = 1; slot < services_len; slot++)
        if (strcmp(services[slot].name, name) == 0)
            return slot;
    if (services_len > METRIC_SERVICES_MAX || strcmp(services[0].name, name) == 0) {
        others_counted = true;
        return 0;
    }
    struct service_counts *fresh = &services[services_len];
    int len = snprintf(fresh->name, sizeof(fresh->name), "%s", name);
    assert(len < (int)sizeof(fresh->name));
    return services_len++;
}

void metric_service_add(unsigned slot, enum service_metric metric, int64_t n)
{
    assert(slot < services_len && metric < SERVICE_METRICS);
    services[slot].values[metric] += n;
}

void metrics_reset(void)
{
    memset(&services[1], 0, sizeof(services) - sizeof(services[0]));
    memset(services[0].values, 0, sizeof(services[0].values));
    services_len = 1;
    others_counted = false;
    memset(values, 0, sizeof(values));
    memset(drops, 0, sizeof(drops));
    memset(refusals, 0, sizeof(refusals));
    memset(histograms, 0, sizeof(histograms));
}

static void print_head(FILE *out, const char *name, const char *type, const char *help)
{
    fprintf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void print_reasons(FILE *out, const char *name, const char *help, const char *const *reasons,
                          const uint64_t *counts, size_t len)
{
    print_head(out, name, "counter", help);
    for (size_t i = 0; i < len; i++)
        fprintf(out, "%s{reason=\"%s\"} %" PRIu64 "\n", name, reasons[i], counts[i]);
}

/* "other" comes with the first service that has no slot of its own. */
static void print_service_row(FILE *out, enum service_metric metric)
{
    const struct metric_row *row = &service_rows[metric];
    print_head(out, row->name, row->type, row->help);
    for (unsigned slot = others_counted ? 0 : 1; slot < services_len; slot++)
        fprintf(out, "%s{service=\"%s\"} %" PRId64 "\n", row->name, services[slot].name,
                services[slot].values[metric]);
}

static void print_histogram(FILE *out, const struct histogram_row *row,
                            const struct histogram_counts *counts)
{
    uint64_t total = 0;
    size_t i = 0;

    print_head(out, row->name, "histogram", row->help);
    for (; i < BUCKETS_MAX && row->bounds[i] != 0; i++) {
        total += counts->buckets[i];
        fprintf(out, "%s_bucket{le=\"%.10g\"} %" PRIu64 "\n", row->name,
                (double)row->bounds[i] * row->scale, total);
    }
    total += counts->buckets[i];
    fprintf(out, "%s_bucket{le=\"+Inf\"} %" PRIu64 "\n", row->name, total);
    fprintf(out, "%s_sum %.15g\n", row->name, (double)counts->sum * row->scale);
    fprintf(out, "%s_count %" PRIu64 "\n", row->name, total);
}

static double start_s;

/* Runs before main: the start time is the process's, not that of the first print. */
__attribute__((constructor)) static void note_start(void)
{
    start_s = (double)clock_unix_ms() / 1000;
}

char *metrics_print(size_t *len)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    if (!out)
        abort();

    for (size_t i = 0; i < METRIC_COUNT; i++) {
        print_head(out, metric_rows[i].name, metric_rows[i].type, metric_rows[i].help);
        if (metric_rows[i].scale != 0)
            fprintf(out, "%s %.15g\n", metric_rows[i].name,
                    (double)values[i] * metric_rows[i].scale);
        else
            fprintf(out, "%s %" PRIu64 "\n", metric_rows[i].name, values[i]);
    }
    print_reasons(out, "vinhub_dropped_total", "Messages dropped, by reason.", drop_names, drops,
                  DROP_REASONS);
    print_reasons(out, "vinhub_refused_total", "Handshakes refused, by reason.", refuse_names,
                  refusals, REFUSE_REASONS);
    for (int i = 0; i < SERVICE_METRICS; i++)
        print_service_row(out, (enum service_metric)i);
    for (size_t i = 0; i < HISTOGRAM_COUNT; i++)
        print_histogram(out, &histogram_rows[i], &histograms[i]);
    print_head(out, "vinhub_start_time_seconds", "gauge", "When the process started, Unix time.");
    fprintf(out, "vinhub_start_time_seconds %.3f\n", start_s);

    if (fclose(out) != 0)
        abort();
    *len = size;
    return text;
}
