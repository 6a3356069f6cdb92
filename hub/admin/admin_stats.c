/*
 * Information about this node: health, readiness, metrics and /websocket-stats; and the files of
 * the console.
 */
#include <malloc.h>
#include <stdlib.h>
#include <string.h>

#include "admin/admin_private.h"
#include "common/clock.h"
#include "common/metrics.h"
#include "common/version.h"
#include "web_assets.h"

void admin_get_health(struct admin *admin, struct evhttp_request *req, const char *rest)
{
    (void)rest;
    admin_reply_json(
        req, 200, json_pack("{s:s, s:s}", "status", "ok", "node", hub_node_id(admin->setup.hub)));
}

/* silence_ms: how long the connection of a healthy client may be silent. The idle timeout of a load
 * balancer must be longer. */
void admin_get_ready(struct admin *admin, struct evhttp_request *req, const char *rest)
{
    (void)rest;
    const struct hub *hub = admin->setup.hub;
    bool ready = hub_ready(hub);
    json_int_t silence_ms = (json_int_t)admin->conf->clients.ping_every_ms +
                            (json_int_t)admin->conf->clients.ping_timeout_ms;
    json_t *json = json_pack("{s:s, s:I}", "state", node_state_name(hub_state(hub)), "silence_ms",
                             silence_ms);
    if (!ready) {
        char why[HUB_WHY_BYTES];
        hub_why_not_ready(hub, why);
        (void)json_object_set_new(json, "error", json_string(why));
    }
    admin_reply_json(req, ready ? 200 : 503, json);
}

/* Appends a metric whose label says why the node is out of service. Takes over the text. */
static char *add_cause(const struct hub *hub, char *text, size_t *len)
{
    char why[HUB_WHY_BYTES], label[2 * HUB_WHY_BYTES];
    size_t at = 0;
    hub_why_not_ready(hub, why);
    for (const char *c = why; *c; c++) {
        if (*c == '"' || *c == '\\')
            label[at++] = '\\';
        label[at++] = *c;
    }
    label[at] = '\0';
    char *all = NULL;
    int all_len = asprintf(&all,
                           "%s# HELP vinhub_out_of_service Whether the node takes no clients, and "
                           "why.\n# TYPE vinhub_out_of_service gauge\n"
                           "vinhub_out_of_service{cause=\"%s\"} %d\n",
                           text, label, why[0] != '\0');
    if (all_len < 0)
        abort();
    free(text);
    *len = (size_t)all_len;
    return all;
}

void admin_get_metrics(struct admin *admin, struct evhttp_request *req, const char *rest)
{
    (void)rest;
    struct hub_counts counts;
    hub_count(admin->setup.hub, &counts);
    metric_set(METRIC_CLIENTS, counts.clients);
    metric_set(METRIC_SESSIONS, counts.sessions);
    metric_set(METRIC_UPSTREAMS, counts.upstreams);
    metric_set(METRIC_OWNED, counts.owned);
    size_t len = 0;
    char *text = metrics_print(&len);
    if (!text) {
        admin_reply_error(req, 500, "out of memory");
        return;
    }
    text = add_cause(admin->setup.hub, text, &len);
    admin_reply_bytes(req, 200, "text/plain; version=0.0.4; charset=utf-8", text, len);
    free(text);
}

static uint64_t all_drops(void)
{
    uint64_t sum = 0;
    for (int reason = 0; reason < DROP_REASONS; reason++)
        sum += metric_drops((enum drop_reason)reason);
    return sum;
}

static uint64_t all_refusals(void)
{
    uint64_t sum = 0;
    for (int reason = 0; reason < REFUSE_REASONS; reason++)
        sum += metric_refusals((enum refuse_reason)reason);
    return sum;
}

/* The same fields as Node's process.memoryUsage(): monitoring of the Node relay reads them. */
static json_t *memory_usage(void)
{
    struct mallinfo2 info = mallinfo2();
    return json_pack("{s:I, s:I, s:I, s:I, s:I}", "rss", (json_int_t)metric_get(METRIC_RSS_BYTES),
                     "heapTotal", (json_int_t)info.arena + (json_int_t)info.hblkhd, "heapUsed",
                     (json_int_t)info.uordblks + (json_int_t)info.hblkhd, "external", (json_int_t)0,
                     "arrayBuffers", (json_int_t)0);
}

void admin_get_stats(struct admin *admin, struct evhttp_request *req, const char *rest)
{
    (void)rest;
    const struct hub *hub = admin->setup.hub;
    struct hub_counts counts;
    hub_count(hub, &counts);
    uint64_t from_clients = metric_get(METRIC_CLIENT_MESSAGES_IN);
    json_t *json = json_pack(
        "{s:s, s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:o, s:f}", "node",
        hub_node_id(hub), "version", version_number(), "state", node_state_name(hub_state(hub)),
        "connections", (json_int_t)counts.clients, "sessions", (json_int_t)counts.sessions, "owned",
        (json_int_t)counts.owned, "upstreams", (json_int_t)counts.upstreams, "messages",
        (json_int_t)counts.messages_in + (json_int_t)from_clients, "messagesIn",
        (json_int_t)counts.messages_in, "messagesOut", (json_int_t)counts.messages_out,
        "clientMessages", (json_int_t)from_clients, "errors",
        (json_int_t)all_drops() + (json_int_t)metric_get(METRIC_UPSTREAM_FAILURES), "refused",
        (json_int_t)all_refusals(), "loopLagMs", (json_int_t)loop_lag_ms(admin->setup.loop),
        "memoryUsage", memory_usage(), "uptime",
        (double)(clock_unix_ms() - admin->setup.started_ms) / 1000.0);
    admin_reply_json(req, 200, json);
}

static const struct web_asset *asset_of(const char *file)
{
    static const char folder[] = "/console/";
    for (size_t i = 0; i < web_assets_count; i++) {
        const char *path = web_assets[i].path;
        if (strncmp(path, folder, sizeof(folder) - 1) == 0 &&
            strcmp(path + sizeof(folder) - 1, file) == 0)
            return &web_assets[i];
    }
    return NULL;
}

void admin_get_asset(struct admin *admin, struct evhttp_request *req, const char *rest)
{
    (void)admin;
    /* The page refers to its files relative to "/", so that it works behind a proxy with a path
     * prefix. So it is served at "/" only. */
    const char *page = "index.html";
    const struct web_asset *asset = !rest                     ? asset_of(page)
                                    : strcmp(rest, page) != 0 ? asset_of(rest)
                                                              : NULL;
    if (!asset) {
        admin_reply_error(req, 404, "no such file");
        return;
    }
    struct evkeyvalq *headers = evhttp_request_get_output_headers(req);
    /* The page loads nothing from other sites and can't be framed by them. */
    (void)evhttp_add_header(
        headers, "Content-Security-Policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'");
    (void)evhttp_add_header(headers, "Referrer-Policy", "no-referrer");
    (void)evhttp_add_header(headers, "Cache-Control", "no-cache");
    admin_reply_bytes(req, 200, asset->mime, asset->data, asset->len);
}
