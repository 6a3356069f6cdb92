#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "app/app_private.h"
#include "common/log.h"
#include "common/metrics.h"
#include "common/redis_url.h"
#include "common/rng.h"
#include "common/version.h"

#define RANDOM_BYTES 2
#define RANDOM_TEXT  (2 * RANDOM_BYTES + 1)
#define SAMPLE_MS    1000

/* Appends name; characters that a node id must not contain become '-'. */
static void append_sanitised(char *out, size_t room, const char *name)
{
    static const char allowed[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-";
    size_t len = strlen(out);
    for (; *name && len + 1 < room; name++)
        out[len++] = *name;
    out[len] = '\0';
    for (char *at = out; *at; at++) {
        if (!strchr(allowed, *at))
            *at = '-';
    }
}

void app_name_node(struct app *app)
{
    if (gethostname(app->host, sizeof(app->host) - 1) != 0 || app->host[0] == '\0')
        (void)strcpy(app->host, "node");
    if (app->conf->node.id[0] != '\0') {
        (void)snprintf(app->node_id, sizeof(app->node_id), "%s", app->conf->node.id);
        return;
    }
    unsigned char random[RANDOM_BYTES];
    rng_secure(random, sizeof(random));
    append_sanitised(app->node_id, sizeof(app->node_id) - RANDOM_TEXT, app->host);
    size_t len = strlen(app->node_id);
    (void)snprintf(app->node_id + len, sizeof(app->node_id) - len, "-%02x%02x", random[0],
                   random[1]);
}

/* The second number of /proc/self/statm, in pages; 0: there is no /proc. */
static uint64_t resident_bytes(void)
{
    char line[128] = "";
    FILE *file = fopen("/proc/self/statm", "re");
    if (!file)
        return 0;
    const char *read = fgets(line, sizeof(line), file);
    (void)fclose(file);
    char *end = line;
    (void)strtoul(line, &end, 10);
    return read ? (uint64_t)strtoul(end, NULL, 10) * (uint64_t)sysconf(_SC_PAGESIZE) : 0;
}

void app_sample(struct app *app, uint64_t now_ms)
{
    if (app->sampled_ms && now_ms - app->sampled_ms < SAMPLE_MS)
        return;
    app->sampled_ms = now_ms;
    metric_set(METRIC_RSS_BYTES, resident_bytes());
    metric_set(METRIC_LOOP_LAG_MS, loop_lag_ms(app->loop));
}

void app_log_started(const struct app *app)
{
    const char *url = app->conf->redis.url;
    char *redis = url[0] ? redis_url_redact(url) : NULL;
    log_info("started", LOG_STR("version", version_full()),
             LOG_STR("listen", front_address(app->front)),
             LOG_STR("admin", admin_address(app->admin)),
             LOG_STR("redis", url[0] ? redis : "none, bus in memory"),
             LOG_U64("services", app->conf->services_len), LOG_U64("pid", getpid()));
    free(redis);
}
