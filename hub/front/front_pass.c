/*
 * The token of an open connection: when it ends, and the one that takes its place (REFRESH).
 *
 * A pass is made with the connection and freed with it. What the next token is compared with is
 * kept for protocol clients alone: others can't bring one.
 */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "core/client/door.h"
#include "core/client/tokens.h"
#include "core/revoked.h"
#include "front/front_private.h"

/* Each check costs a signature, a tenth of a millisecond: so many at once, then five a second. */
#define CHECKS_AT_ONCE 20U
#define CHECK_EVERY_MS 200U

struct pass {
    struct timer timer; /* first: of its end */
    struct conn *conn;
    struct service *service; /* of the URL, as the next two; NULL for raw clients, and where it
                                names none */
    char *user, *vin;
    struct grant grant;        /* of a protocol client's token */
    struct client_token token; /* by which it is found when it is revoked */
    uint64_t checks_ms;        /* a bucket of checks, as the time that is left in it */
    uint64_t checked_at_ms;
};

static void on_expired(struct timer *timer, uint64_t now_ms)
{
    (void)now_ms;
    struct conn *conn = ((struct pass *)timer)->conn;
    if (conn->gone_due)
        client_close(&conn->client, CLOSE_UNAUTHORIZED, "token expired");
}

static void set_end(struct pass *pass, uint64_t at_ms)
{
    struct front *front = pass->conn->front;
    if (at_ms == UINT64_MAX) {
        timer_stop(&front->expiries, &pass->timer);
        return;
    }
    timer_start(&front->expiries, &pass->timer, at_ms, on_expired);
    sweep_arm(front);
}

static bool copy_text(const char *text, char **out)
{
    *out = text ? strdup(text) : NULL;
    return !text || *out;
}

/* False: out of memory. */
static bool keep_target(struct pass *pass, const struct target *target)
{
    if (target->service)
        pass->service = service_ref(target->service);
    return copy_text(target->user, &pass->user) && copy_text(target->vin, &pass->vin);
}

/* Points into the grant. */
static struct token_facts facts_of(const struct grant *grant)
{
    return (struct token_facts){.jti = json_string_value(grant->id),
                                .sub = json_string_value(grant->subject),
                                .has_iat = grant->has_iat,
                                .issued_s = grant->issued_s};
}

static bool is_revoked(const struct front *front, const struct grant *grant)
{
    const struct token_facts facts = facts_of(grant);
    return hub_token_revoked(front->hub, &facts);
}

enum grant_verdict conn_check_token(struct front *front, const struct http_head *head,
                                    const struct target *target, struct grant *out,
                                    const char **why)
{
    enum grant_verdict verdict = auth_check(front->conf, front->keys, head, target, out, why);
    if (verdict != GRANT_GIVEN || !is_revoked(front, out))
        return verdict;
    grant_fini(out);
    *why = "token revoked";
    return GRANT_REFUSED;
}

void conn_take_pass(struct conn *conn, const struct target *target, struct grant *grant)
{
    struct pass *pass = calloc(1, sizeof(*pass));
    conn->pass = pass;
    if (pass) {
        pass->conn = conn;
        pass->checks_ms = CHECKS_AT_ONCE * CHECK_EVERY_MS;
        pass->checked_at_ms = clock_boot_ms();
    }
    if (!pass || (conn->client.follows && !keep_target(pass, target))) {
        client_close(&conn->client, CLOSE_TRY_LATER, "try again later");
        return;
    }
    const struct token_facts facts = facts_of(grant);
    token_take(&pass->token, &conn->client, &facts);
    if (conn->client.follows) {
        pass->grant = *grant;
        *grant = (struct grant){.ends_ms = grant->ends_ms};
    }
    set_end(pass, grant->ends_ms);
}

void conn_forget_pass(struct conn *conn)
{
    struct pass *pass = conn->pass;
    if (!pass)
        return;
    timer_stop(&conn->front->expiries, &pass->timer);
    token_forget(&pass->token);
    if (pass->service)
        service_unref(pass->service);
    free(pass->user);
    free(pass->vin);
    grant_fini(&pass->grant);
    free(pass);
    conn->pass = NULL;
}

/* --- the next token --- */

static bool may_check(struct pass *pass)
{
    uint64_t now_ms = clock_boot_ms();
    pass->checks_ms += now_ms - pass->checked_at_ms;
    pass->checked_at_ms = now_ms;
    if (pass->checks_ms > CHECKS_AT_ONCE * CHECK_EVERY_MS)
        pass->checks_ms = CHECKS_AT_ONCE * CHECK_EVERY_MS;
    if (pass->checks_ms < CHECK_EVERY_MS)
        return false;
    pass->checks_ms -= CHECK_EVERY_MS;
    return true;
}

static bool same_subject(const json_t *a, const json_t *b)
{
    return !a || !b ? a == b : json_equal(a, b) == 1;
}

static enum refresh_verdict refresh_verdict_of(enum grant_verdict verdict)
{
    switch (verdict) {
    case GRANT_GIVEN: return REFRESH_TAKEN;
    case GRANT_REFUSED:
    case GRANT_OTHER_USER: return REFRESH_REFUSED;
    case GRANT_NOT_COVERED: return REFRESH_NOT_COVERED;
    }
    return REFRESH_REFUSED;
}

static enum refresh_verdict check(struct pass *pass, const char *token, const char **why)
{
    const struct front *front = pass->conn->front;
    const struct target target = {.service = pass->service, .user = pass->user, .vin = pass->vin};
    struct grant grant = {.ends_ms = UINT64_MAX};
    enum grant_verdict verdict = auth_token(front->conf, front->keys, token, &target, &grant, why);
    if (verdict == GRANT_REFUSED || verdict == GRANT_OTHER_USER)
        return REFRESH_REFUSED;
    if (!same_subject(pass->grant.subject, grant.subject)) {
        *why = "token of another user";
        verdict = GRANT_REFUSED;
    } else if (is_revoked(front, &grant)) {
        *why = "token revoked";
        verdict = GRANT_REFUSED;
    } else if (verdict == GRANT_GIVEN) {
        const struct token_facts facts = facts_of(&grant);
        token_take(&pass->token, &pass->conn->client, &facts);
        set_end(pass, grant.ends_ms);
    }
    if (verdict == GRANT_GIVEN) { /* this covers its subscriptions, too */
        grant_fini(&pass->grant);
        pass->grant = grant;
    } else {
        grant_fini(&grant);
    }
    return refresh_verdict_of(verdict);
}

enum refresh_verdict conn_refresh(void *ctx, struct client *client, const char *token,
                                  const char **why)
{
    (void)ctx;
    struct conn *conn = (struct conn *)client;
    struct pass *pass = conn->pass;
    *why = NULL;
    /* As at a handshake: where tokens are not asked for, none is looked at, and none ends. */
    if (conn->front->conf->auth.mode == AUTH_NONE) {
        if (pass)
            set_end(pass, UINT64_MAX);
        return REFRESH_TAKEN;
    }
    if (!pass)
        *why = "this connection came in without a token: connect again";
    else if (strlen(token) > HANDSHAKE_HEAD_MAX)
        *why = "expected a token of at most 16 KiB";
    else if (!may_check(pass))
        *why = "too many REFRESH: at most 20 at once and five a second";
    else
        return check(pass, token, why);
    return REFRESH_REFUSED;
}

const char *conn_covers(void *ctx, struct client *client, const struct target *target)
{
    (void)ctx;
    const struct conn *conn = (const struct conn *)client;
    if (conn->front->conf->auth.mode == AUTH_NONE)
        return NULL;
    if (!conn->pass)
        return "this connection came in without a token: connect again";
    return grant_covers(&conn->pass->grant, target);
}
