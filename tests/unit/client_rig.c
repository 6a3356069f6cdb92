#include "client_rig.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "box.h"
#include "bus/bus_memory.h"
#include "core/client/joining.h"

struct client_rig client_rig;

/* --- backends --- */

struct upstream {
    struct session *session;
    bool opened, closing;
};

static struct upstream vehicles[RIG_VEHICLES];

static struct upstream *vehicle_open(void *ctx, struct session *session, struct service *service,
                                     const char *url)
{
    (void)ctx, (void)service;
    const char *vin = strstr(url, "/v");
    unsigned number = vin ? (unsigned)atoi(vin + 2) : 0;
    assert(number < RIG_VEHICLES);
    vehicles[number] = (struct upstream){.session = session};
    client_rig.upstreams++;
    return &vehicles[number];
}

static enum status vehicle_send(void *ctx, struct upstream *upstream, enum opcode opcode,
                                const void *payload, size_t len)
{
    (void)ctx, (void)upstream, (void)opcode;
    snprintf(client_rig.last_sent, sizeof(client_rig.last_sent), "%.*s", (int)len,
             (const char *)payload);
    client_rig.sent++;
    return STATUS_OK;
}

static void vehicle_close(void *ctx, struct upstream *upstream, unsigned code, const char *reason)
{
    (void)ctx, (void)code, (void)reason;
    upstream->closing = true;
}

static void vehicle_reset(void *ctx, struct upstream *upstream)
{
    (void)ctx;
    *upstream = (struct upstream){0};
}

static const struct upstream_ops upstream_ops = {vehicle_open, vehicle_send, vehicle_close,
                                                 vehicle_reset};

/* --- browsers --- */

static void write_down(struct browser *browser, const void *bytes, size_t len)
{
    while (browser->len + len + 2 > browser->cap) {
        browser->cap = browser->cap ? browser->cap * 2 : 4096;
        browser->text = realloc(browser->text, browser->cap);
        if (!browser->text)
            abort();
    }
    memcpy(browser->text + browser->len, bytes, len);
    browser->len += len;
    browser->text[browser->len++] = '\n';
    browser->text[browser->len] = '\0';
}

static enum status browser_write(void *ctx, struct client *client, const uint8_t *bytes, size_t len)
{
    (void)ctx;
    struct browser *browser = (struct browser *)(void *)client;
    struct box box;
    assert(!browser->closed);
    if (browser->busy)
        return STATUS_AGAIN;
    browser->writes++;
    while (box_next(&bytes, &len, &box))
        write_down(browser, box.bytes, box.len);
    assert(len == 0);
    return STATUS_OK;
}

static void browser_close(void *ctx, struct client *client, unsigned code, const char *reason)
{
    (void)ctx, (void)reason;
    struct browser *browser = (struct browser *)(void *)client;
    assert(!browser->closed);
    browser->closed = true;
    browser->code = code;
}

static void browser_pause(void *ctx, struct client *client, bool paused)
{
    (void)ctx;
    struct browser *browser = (struct browser *)(void *)client;
    assert(browser->paused != paused);
    browser->paused = paused;
}

static enum refresh_verdict browser_refresh(void *ctx, struct client *client, const char *token,
                                            const char **why)
{
    (void)ctx, (void)client, (void)token;
    *why = NULL;
    return REFRESH_TAKEN;
}

static const char *browser_covers(void *ctx, struct client *client, const struct target *target)
{
    (void)ctx, (void)client;
    bool covered = !client_rig.uncovered || !target->vin ||
                   strcmp(target->vin, client_rig.uncovered) != 0;
    return covered ? NULL : "token does not cover this vin";
}

static const struct client_ops client_ops = {.write = browser_write,
                                             .close = browser_close,
                                             .pause = browser_pause,
                                             .refresh = browser_refresh,
                                             .covers = browser_covers};

/* --- the node --- */

static uint64_t boot_clock(void)
{
    return client_rig.now_ms;
}

static uint64_t unix_clock(void)
{
    return 1700000000000u + client_rig.now_ms;
}

static uint64_t hub_now(void *ctx)
{
    (void)ctx;
    return boot_clock();
}

static uint64_t hub_unix(void *ctx)
{
    (void)ctx;
    return unix_clock();
}

int client_rig_start(void **state)
{
    (void)state;
    const char *services[] = {"svc=ws://backend:80/s{path}", "other=ws://backend:80/o{path}"};
    const struct conf_overrides overrides = {
        .services = services, .services_len = 2, .redis_url = ""};
    struct conf_findings findings = {0};
    client_rig = (struct client_rig){.now_ms = 1000};
    memset(vehicles, 0, sizeof(vehicles));
    if (conf_load(NULL, &overrides, &findings, &client_rig.conf) != STATUS_OK)
        return -1;
    conf_findings_fini(&findings);
    client_rig.conf->services[1]->history.size = 0;
    client_rig.bus = bus_memory_new(NULL, "n1", boot_clock, unix_clock);
    const struct hub_setup setup = {.conf = client_rig.conf,
                                    .node_id = "n1",
                                    .life = 1,
                                    .seed = 1,
                                    .host = "host",
                                    .version = "1",
                                    .bus = client_rig.bus,
                                    .upstream_ops = &upstream_ops,
                                    .client_ops = &client_ops,
                                    .now_ms = hub_now,
                                    .unix_ms = hub_unix};
    client_rig.hub = hub_new(&setup);
    box_register(client_rig.hub);
    hub_start(client_rig.hub);
    rig_turns(10);
    return hub_ready(client_rig.hub) ? 0 : -1;
}

int client_rig_stop(void **state)
{
    (void)state;
    hub_free(client_rig.hub);
    client_rig.bus->ops->free(client_rig.bus);
    conf_unref(client_rig.conf);
    return 0;
}

static void open_vehicles(void)
{
    const struct upstream_end away = {.kind = UPSTREAM_END_NO_TCP, .reason = "away"},
                              asked = {.kind = UPSTREAM_END_ASKED, .reason = "asked"};
    for (size_t i = 0; i < RIG_VEHICLES; i++) {
        struct upstream *upstream = &vehicles[i];
        struct session *session = upstream->session;
        if (!session || (upstream->opened && !upstream->closing))
            continue;
        if (client_rig.backends_away || upstream->closing) {
            bool closing = upstream->closing;
            *upstream = (struct upstream){0};
            client_rig.upstreams--;
            hub_upstream_closed(session, upstream, closing ? &asked : &away);
        } else {
            upstream->opened = true;
            hub_upstream_opened(upstream->session, upstream);
        }
    }
}

void rig_turn_begin(void)
{
    client_rig.now_ms += 10;
    hub_enter(client_rig.hub, client_rig.now_ms);
}

void rig_turn_end(void)
{
    hub_flush(client_rig.hub);
    hub_check(client_rig.hub);
}

void rig_turns(unsigned n)
{
    while (n--) {
        rig_turn_begin();
        open_vehicles();
        rig_turn_end();
    }
}

void browser_come(struct browser *browser, const char *url)
{
    struct target target;
    const char *why;
    const struct url_options options = {.protocol_client = true, .may_subscribe = true};
    *browser = (struct browser){0};
    write_down(browser, "", 0);
    if (url_parse(client_rig.conf, url, strlen(url), &options, &target, &why) != STATUS_OK ||
        door_open(client_rig.hub, &browser->client, &target, &in6addr_loopback, BOX_JSON) !=
            STATUS_OK)
        abort();
    target_fini(&target);
}

void browser_leave(struct browser *browser)
{
    door_gone(&browser->client, browser->closed ? browser->code : 1000, "");
    free(browser->text);
    browser->text = NULL;
}

void browser_say(struct browser *browser, const char *format, ...)
{
    va_list args;
    char *text;
    va_start(args, format);
    int len = vasprintf(&text, format, args);
    va_end(args);
    assert(len >= 0);
    rig_turn_begin();
    door_message(&browser->client, OPCODE_TEXT, text, (size_t)len);
    rig_turn_end();
    client_check(&browser->client);
    joining_check(&browser->client);
    free(text);
}

void browser_forget(struct browser *browser)
{
    browser->len = browser->writes = 0;
    browser->text[0] = '\0';
}

bool browser_heard(const struct browser *browser, const char *part)
{
    return strstr(browser->text, part) != NULL;
}

size_t browser_count(const struct browser *browser, const char *part)
{
    size_t n = 0;
    for (const char *at = browser->text; (at = strstr(at, part)); at += strlen(part))
        n++;
    return n;
}

void rig_push(unsigned vehicle, const char *text)
{
    assert(vehicles[vehicle].opened);
    hub_upstream_message(vehicles[vehicle].session, &vehicles[vehicle],
                         publication_copy(OPCODE_TEXT, text, strlen(text)));
}
