/*
 * SIGHUP: the configuration is read again from the same file, environment and command line. What is
 * wrong in it changes nothing.
 */
#include "app/app_private.h"
#include "common/log.h"

static void log_findings(const struct conf_findings *findings, enum log_level level,
                         const char *event)
{
    for (size_t i = 0; i < findings->len; i++)
        LOG_EVENT(level, event, LOG_STR("text", findings->lines[i]));
}

static void log_changes(const struct conf *before, const struct conf *after)
{
    struct conf_findings changes = {0};
    conf_diff(before, after, &changes);
    log_findings(&changes, LOG_LEVEL_INFO, "reload_change");
    log_info("reloaded", LOG_U64("changes", changes.len));
    conf_findings_fini(&changes);
}

/* The front comes first: it alone can still refuse (certificates, keys). Takes over the reference.
 */
static void apply(struct app *app, struct conf *after)
{
    char why[512] = "";
    if (front_reload(app->front, after, why, sizeof why) != STATUS_OK) {
        log_error("reload_refused", LOG_STR("text", why));
        conf_unref(after);
        return;
    }
    hub_reload(app->hub, after);
    admin_reload(app->admin, after);
    log_configure(after->log.level, after->log.format, app->node_id);
    log_changes(app->conf, after);
    conf_unref(app->conf);
    app->conf = after;
}

void app_on_reload_signal(void *ctx)
{
    struct app *app = ctx;
    struct conf_findings findings = {0};
    struct conf *after = NULL;
    enum status status = conf_load(app->inputs->file, &app->inputs->overrides, &findings, &after);
    log_findings(&findings, status == STATUS_OK ? LOG_LEVEL_WARN : LOG_LEVEL_ERROR,
                 status == STATUS_OK ? "reload_warning" : "reload_refused");
    conf_findings_fini(&findings);
    if (status == STATUS_OK)
        apply(app, after);
}
