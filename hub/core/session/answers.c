#include "core/session/answers.h"

#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "common/metrics.h"
#include "common/node_messages.h"
#include "core/session/backlog.h"
#include "core/session/course_member.h"
#include "core/session/course_owner.h"
#include "core/session/handover.h"
#include "core/session/link.h"
#include "core/session/outbox.h"
#include "core/session/ownership.h"
#include "core/session/roster.h"
#include "core/session/session.h"
#include "core/session/stream.h"

#define CLAIM_AGAIN_MS 250 /* the store is too young, or did not answer */

/* --- a claim --- */

static void join_or_claim(struct session *session, struct slice owner, uint64_t epoch)
{
    if (epoch > session->epoch)
        session->epoch = epoch;
    if (!owner.len || node_is_self(session->hub, owner)) {
        ownership_set_nobody(session);
        session_step_after(session, CLAIM_AGAIN_MS);
        return;
    }
    ownership_set_owner(session, owner, epoch);
    course_join(session); /* should it be dead, the next reading of the nodes says so */
}

static void on_claim_answer(struct session *session, enum status status, struct slice owner,
                            uint64_t epoch)
{
    if (status == STATUS_OK) {
        /* A claim comes without a TAKE: commands sent to the last owner may have gone upstream */
        outbox_owner_lost(session);
        course_take(session, epoch);
    } else if (status == STATUS_REFUSED) {
        metric_add(METRIC_CLAIMS_REFUSED, 1);
        join_or_claim(session, owner, epoch);
    } else {
        session_step_after(session, CLAIM_AGAIN_MS);
    }
}

/* --- a claim of a higher epoch of this node's own --- */

static void on_outbid_answer(struct session *session, enum status status, struct slice owner,
                             uint64_t epoch)
{
    if (status == STATUS_REFUSED && owner.len) {
        course_lose(session, owner, epoch);
        return;
    }
    if (status == STATUS_OK) {
        session_flush(session);
        session->epoch = epoch;
        backlog_begin_epoch(session);
        stream_owner_epoch(session);
    }
    course_place_aside(session);
}

void answers_on_claimed(struct hub *hub, struct session *session, const char *id, uint64_t tag,
                        enum status status, const char *owner, uint64_t epoch)
{
    enum ownership_step step = session ? ownership_answered(session, tag) : OWNERSHIP_SETTLED;
    if (step == OWNERSHIP_OUTBIDDING && session->state == SESSION_OWNER) {
        on_outbid_answer(session, status, slice_of(owner), epoch);
        return;
    }
    bool wanted = step == OWNERSHIP_CLAIMING && session->state == SESSION_CLAIMING;
    bool taken = wanted && session_is_wanted(session) && stream_is_subscribed(session) &&
                 node_has_lease(hub);
    if (status == STATUS_OK && !taken &&
        (!session || !session_is_owned(session) || session->epoch != epoch))
        ownership_refuse_grant(hub, id, epoch);
    if (step != OWNERSHIP_SETTLED && session->state == SESSION_RELEASING)
        session_event(session,
                      COURSE_LINK_CLOSED); /* an outbidding was under way when the last one left */
    if (!wanted)
        return;
    if (status == STATUS_OK && !taken)
        course_claim(session); /* ends it, or waits for the lease */
    else
        on_claim_answer(session, status, slice_of(owner), epoch);
}

/* --- a release --- */

void answers_on_released(struct session *session, uint64_t tag, enum status status)
{
    if (ownership_answered(session, tag) != OWNERSHIP_RELEASING)
        return;
    if (status == STATUS_IO) {
        session_step_after(session, CLAIM_AGAIN_MS);
        return;
    }
    roster_clear(session, true);
    course_drop_owner_part(session);
    course_claim(session); /* ends it where no client has come meanwhile */
}

/* --- an assertion, a publication --- */

void answers_on_asserted(struct session *session, uint64_t tag, enum status status,
                         const char *owner, uint64_t epoch)
{
    if (ownership_answered(session, tag) != OWNERSHIP_ASSERTING)
        return;
    if (session->state == SESSION_RELEASING)
        session_event(session, COURSE_LINK_CLOSED);
    if (session->state != SESSION_OWNER)
        return;
    if (status == STATUS_OK) {
        ownership_asserted(session);
        session_flush(session);
        backlog_resume(session, LOST_WRITES_MS, roster_len(session) != 0);
    } else if (status == STATUS_IO) {
        ownership_lost_answer(session);
    } else if (status == STATUS_REFUSED) {
        struct slice named = slice_of(owner);
        metric_add(METRIC_SPLIT_OWNERS, 1);
        if (node_is_self(session->hub, named))
            named = (struct slice){0};
        course_lose(session, named, epoch);
    }
}

/* The record may be another's, or just gone: data deleted by hand break no connection. Only the
 * first takes the session away. */
static void on_refusal(struct session *session)
{
    if (session->state != SESSION_OWNER || !ownership_is_settled(session))
        return;
    backlog_append_all(session);
    session_event(session, COURSE_CONNECTED);
}

void answers_on_published(struct session *session, uint64_t tag, enum status status)
{
    enum status doubt = tag ? backlog_on_published(session, tag, status) : STATUS_OK;
    if (doubt == STATUS_IO)
        ownership_lost_answer(session); /* sent again once the record is asserted */
    else if (doubt == STATUS_REFUSED)
        on_refusal(session); /* it waits: the assertion says whether it goes out again */
}

/* --- a transfer --- */

/* Sends the successor what this node knows: members with their last commands, last SEND ids. */
static void part(struct session *session, uint64_t epoch)
{
    size_t sends = outbox_sends_len(session), n = 0;
    struct envelope_item *items = calloc(roster_len(session) + sends + 1, sizeof(*items));
    if (!items)
        abort();
    const struct member *member;
    DL_FOREACH (roster_first(session), member)
        items[n++] = member_item(&(struct member_entry){
            .node = member_node(member),
            .life = member->watch.life,
            .join_number = member->number,
            .sent = outbox_member_sent(session, member),
        });
    n += outbox_sends(session, UINT64_MAX, items + n, sends);
    handover_send_take(session, epoch, link_url(session), items, n);
    free(items);
}

void answers_on_transferred(struct session *session, uint64_t tag, enum status status,
                            uint64_t epoch)
{
    if (ownership_answered(session, tag) != OWNERSHIP_TRANSFERRING)
        return;
    if (status != STATUS_OK) { /* lost, or not known: the store says who has it */
        course_lose(session, (struct slice){0}, session->epoch);
        return;
    }
    char to[CONF_NAME_MAX + 1];
    memcpy(to, handover_to(session), sizeof(to));
    metric_add(METRIC_HANDOVERS, 1);
    log_info("session_moved", LOG_STR("session", session->id), LOG_STR("to", to),
             LOG_U64("epoch", epoch));
    part(session, epoch);
    course_lose(session, slice_of(to), epoch);
}
