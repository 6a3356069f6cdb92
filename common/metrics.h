/*
 * Counters, gauges and histograms of the process, one table row each (metrics.c), printed as
 * Prometheus text.
 *
 * Counting is one addition. Gauges are set by whoever owns the number. Rows with a reason label
 * list their reasons in the enum below: the label's cardinality is fixed. Rows with a service label
 * have a slot a service, METRIC_SERVICES_MAX at most; all further services share one, "other".
 */
#ifndef VINHUB_COMMON_METRICS_H
#define VINHUB_COMMON_METRICS_H

#include <stddef.h>
#include <stdint.h>

enum metric {
    METRIC_CLIENTS,
    METRIC_SUBSCRIPTIONS,
    METRIC_SESSIONS,
    METRIC_UPSTREAMS,
    METRIC_OWNED,
    METRIC_BUS_CONNECTED,
    METRIC_LOOP_LAG_MS,
    METRIC_RSS_BYTES,
    METRIC_MESSAGES_IN,
    METRIC_MESSAGES_OUT,
    METRIC_BYTES_IN,
    METRIC_BYTES_OUT, /* from upstreams, to clients */
    METRIC_CLIENT_MESSAGES_IN,
    METRIC_UPSTREAM_MESSAGES_OUT, /* from clients, to upstreams */
    METRIC_ACCEPTED,
    METRIC_PREFLIGHTS,
    METRIC_UPSTREAM_CONNECTS,
    METRIC_UPSTREAM_FAILURES,
    METRIC_CLAIMS,
    METRIC_CLAIMS_REFUSED,
    METRIC_TAKEOVERS,
    METRIC_HANDOVERS,
    METRIC_FENCES,
    METRIC_SPLIT_OWNERS,
    METRIC_BUS_COMMANDS,
    METRIC_BUS_RECONNECTS,
    METRIC_BUS_PUBLISHED,
    METRIC_BUS_RECEIVED,
    METRIC_GAPS,
    METRIC_GAP_FILLS,
    METRIC_RESUMES,
    METRIC_REPLAYED,
    METRIC_CONFLATED,
    METRIC_HISTORY_REFUSED,
    METRIC_LOG_SUPPRESSED,
    METRIC_LOG_LINES_DROPPED,
    METRIC_COUNT
};

enum drop_reason {
    DROP_UPSTREAM_QUEUE, /* client message: the waiting queue is full, or wait ran out */
    DROP_OWNER_LOST,     /* client message: on its way when the owner was killed */
    DROP_CLIENT_GONE,    /* push: queued for a client that left */
    DROP_SLOW_CLIENT,    /* push: by the slow-client policy */
    DROP_GAP,            /* push: lost between nodes and not in the history */
    DROP_STALE_EPOCH,    /* push: from a node that no longer owns the session */
    DROP_DUPLICATE,      /* push or client message: seen before */
    DROP_FENCED,         /* push: received after the lease ran out */
    DROP_BUS_UNREADABLE, /* bus message that cannot be read */
    DROP_RATE,           /* client message: over the rate */
    DROP_MALFORMED,      /* ill-formed WebSocket data, either side */
    DROP_TOO_LARGE,      /* over a message limit, either side */
    DROP_EXPIRED,        /* client message: its ttl was over before it went upstream */
    DROP_NO_MEMORY,
    DROP_REASONS
};

enum refuse_reason {
    REFUSE_MALFORMED_URL,
    REFUSE_UNKNOWN_SERVICE,
    REFUSE_ORIGIN,
    REFUSE_FULL,
    REFUSE_DRAINING,
    REFUSE_PER_IP,
    REFUSE_NOT_UPGRADE,
    REFUSE_UNAUTHORIZED,
    REFUSE_PROXY_HEADER,
    REFUSE_TLS,        /* the TLS handshake failed; TLS on a plain port, plain HTTP on a TLS port */
    REFUSE_NOT_HTTP,   /* by its first bytes */
    REFUSE_TIMEOUT,    /* no whole request within the deadline */
    REFUSE_ABORTED,    /* the peer left in mid-handshake */
    REFUSE_SUBSCRIBED, /* SUBSCRIBE of a session that is subscribed */
    REFUSE_NOT_SUBSCRIBED, /* SEND or UNSUBSCRIBE of one that is not */
    REFUSE_REASONS
};

enum histogram {
    HISTOGRAM_PUSH_LATENCY,   /* us from upstream frame in to the flush that wrote it */
    HISTOGRAM_FANOUT,         /* clients a publication went to on this node */
    HISTOGRAM_CLIENT_QUEUE,   /* bytes in a client's queue, each time something has to wait in it */
    HISTOGRAM_UPSTREAM_QUEUE, /* the same for a session's client messages */
    HISTOGRAM_TURN,           /* processor time of a turn, us */
    HISTOGRAM_COUNT
};

/* One row each, one sample a service: "vinhub_service_clients{service="remoteWs"}". */
enum service_metric {
    SERVICE_CLIENTS,
    SERVICE_SESSIONS,
    SERVICE_UPSTREAMS, /* gauges to here */
    SERVICE_MESSAGES_IN,
    SERVICE_MESSAGES_OUT,
    SERVICE_CLIENT_MESSAGES_IN,
    SERVICE_UPSTREAM_FAILURES,
    SERVICE_METRICS
};

#define METRIC_SERVICES_MAX 64

void metric_add(enum metric metric, uint64_t n);
void metric_set(enum metric metric, uint64_t value);
uint64_t metric_get(enum metric metric);
void metric_drop(enum drop_reason reason, uint64_t n);
uint64_t metric_drops(enum drop_reason reason);
const char *metric_drop_name(enum drop_reason reason); /* the label: "slow_client" */
void metric_refuse(enum refuse_reason reason);
uint64_t metric_refusals(enum refuse_reason reason);
void metric_observe(enum histogram histogram, uint64_t value_us_or_count);
/* The slot of a service, which lives as long as the process: a service that is removed and comes
 * back counts on in the same slot. If all are taken, the slot of "other". */
unsigned metric_service(const char *name);
/* n may be below 0 for a gauge. */
void metric_service_add(unsigned slot, enum service_metric metric, int64_t n);
void metrics_reset(void); /* for tests */

/* Prometheus text exposition, names vinhub_*. Returns a malloc'd string of *len bytes; the caller
 * frees. */
char *metrics_print(size_t *len);

#endif
