/*
 * POST /api/revoke: a token by its jti, or those of a sub that were issued before a time.
 */
#include <stdlib.h>
#include <string.h>

#include "admin/admin_private.h"
#include "common/clock.h"
#include "common/log.h"
#include "core/revoked.h"

/* A time that is further ahead than this is taken for a mistake: it may be in milliseconds. */
#define AHEAD_MAX_S (24 * 3600)

const char *admin_revoke_body(const json_t *body, struct token_choice *out)
{
    const json_t *jti = json_object_get(body, "jti"), *sub = json_object_get(body, "sub");
    const json_t *before = json_object_get(body, "before"), *name = jti ? jti : sub;
    size_t known = (size_t)(jti != NULL) + (sub != NULL) + (before != NULL);
    uint64_t now_s = clock_unix_ms() / 1000;
    if (!jti == !sub || json_object_size(body) != known)
        return "expected {\"jti\"} or {\"sub\", \"before\"}: exactly one of jti and sub";
    size_t len = json_string_length(name);
    if (!json_is_string(name) || !len || len > REVOKED_NAME_MAX ||
        strlen(json_string_value(name)) != len)
        return "jti, sub: expected a text of 1 to 1024 bytes";
    if (before && jti)
        return "before: expected only with sub; a jti is revoked whenever it was issued";
    if (before && (!json_is_number(before) || json_number_value(before) < 0 ||
                   json_number_value(before) > (double)(now_s + AHEAD_MAX_S)))
        return "before: expected a Unix time in seconds, at most a day ahead";
    /* Most issuers write whole seconds: without `before`, tokens of the present second are
     * included. */
    *out = (struct token_choice){.sub = sub != NULL,
                                 .name = json_string_value(name),
                                 .issued_before_s = before ? json_number_value(before)
                                                           : (double)(now_s + 1)};
    return NULL;
}

static void on_revoked(void *ctx, enum status status, uint64_t closed, const char *const *missing,
                       size_t missing_len)
{
    struct admin_call *call = ctx;
    if (call->req && status == STATUS_OK)
        admin_reply_json(call->req, 200, admin_closed_json(closed, missing, missing_len));
    else if (call->req)
        admin_reply_error(call->req, 503,
                          "Redis does not answer: the nodes that were reached refuse the token, "
                          "and go on trying to store the revocation");
    admin_call_end(call);
}

void admin_post_revoke(struct admin *admin, struct evhttp_request *req, const char *rest)
{
    (void)rest;
    json_t *body = admin_body_object(req);
    if (!body)
        return;
    struct token_choice choice;
    const char *why = admin_revoke_body(body, &choice);
    if (why) {
        admin_reply_error(req, 400, why);
    } else {
        admin_audit(req, "revoke", body);
        struct admin_call *call = admin_call_new(admin, req, sizeof(*call));
        if (hub_revoke(admin->setup.hub, &choice, on_revoked, call) != STATUS_OK) {
            admin_call_end(call);
            admin_reply_error(req, 503,
                              "too many requests are under way, or too many tokens are revoked: "
                              "try again");
        }
    }
    json_decref(body);
}
