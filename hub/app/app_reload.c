/*
 * SIGHUP: the configuration is read again from the same file, environment and command line. If
 * there is a mistake in it, nothing changes.
 */
#include "app/app_private.h"
#include "common/log.h"

static void log_changes(const struct conf_findings *changes)
{
    for (size_t i = 0; i < changes->len; i++)
        log_info("reload_change", LOG_STR("text", changes->lines[i]));
    log_info("reloaded", LOG_U64("changes", changes->len));
}

/* Logs the changes, at the old or the new log level, whichever shows more lines. */
static void take_log_level(const struct app *app, const struct conf *after,
                           const struct conf_findings *changes)
{
    if (after->log.level < app->conf->log.level)
        log_configure(after->log.level, after->log.format, app->node_id);
    log_changes(changes);
    log_configure(after->log.level, after->log.format, app->node_id);
}

/* Takes over the reference. The front is first, since only it can still refuse the configuration
 * (certificates, keys); then nothing has changed yet. */
static void apply(struct app *app, struct conf *after)
{
    char why[512] = "admin.token: expected a token, got none: the admin port is off loopback, and "
                    "only a restart "
                    "moves it";
    struct conf_findings changes;
    conf_diff(app->conf, after, &changes);
    conf_keep_fixed(app->conf, after);
    if (admin_may_listen(after) && front_reload(app->front, after, why, sizeof(why)) == STATUS_OK) {
        hub_reload(app->hub, after);
        upstreams_reload(app->upstreams);
        admin_reload(app->admin, after);
        take_log_level(app, after, &changes);
        conf_unref(app->conf);
        app->conf = after;
    } else {
        log_error("reload_refused", LOG_STR("text", why));
        conf_unref(after);
    }
    conf_findings_fini(&changes);
}

/* The findings are errors first, then warnings. */
static void log_findings(const struct conf_findings *findings)
{
    for (size_t i = 0; i < findings->len; i++) {
        if (i < findings->errors)
            log_error("reload_refused", LOG_STR("text", findings->lines[i]));
        else
            log_warn("reload_warning", LOG_STR("text", findings->lines[i]));
    }
}

void app_on_reload_signal(void *ctx)
{
    struct app *app = ctx;
    struct conf_findings findings = {0};
    struct conf *after = NULL;
    enum status status = conf_load(app->inputs->file, &app->inputs->overrides, &findings, &after);
    log_findings(&findings);
    conf_findings_fini(&findings);
    if (status == STATUS_OK)
        apply(app, after);
}
