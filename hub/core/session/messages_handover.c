#include "core/session/messages_private.h"

#include "core/node/peers.h"
#include "core/session/course_member.h"
#include "core/session/course_owner.h"
#include "core/session/handover.h"
#include "core/session/kept_sends.h"
#include "core/session/outbox.h"
#include "core/session/ownership.h"
#include "core/session/roster.h"
#include "core/session/session.h"

void messages_on_offer(struct hub *hub, struct session *session, const struct envelope *envelope)
{
    const struct offer_message offer = offer_decode(envelope);
    bool accept = session && session_is_member(session) && session->facts.clients &&
                  hub->state == NODE_UP && node_has_lease(hub) &&
                  messages_is_of_owner(session, envelope) && offer.epoch == session->epoch;
    if (accept)
        handover_accept(session, offer.epoch);
    const struct answer_message message = {accept, offer.epoch};
    struct envelope answer = answer_encode(&message);
    answer.session = envelope->session;
    node_send(hub, envelope->node, &answer);
}

void messages_on_offer_answer(struct session *session, const struct envelope *envelope)
{
    const struct answer_message answer = answer_decode(envelope);
    if (handover_accepted(session, envelope->node, &answer))
        course_move(session);
}

static void learn_member(struct session *session, const struct member_entry *known, bool current)
{
    if (node_is_self(session->hub, known->node)) {
        outbox_went_upstream(session, known->sent);
        return;
    }
    if (!peer_is_name(known->node))
        return;
    struct member *member = roster_find(session, known->node);
    if (!member && current && !peers_outlived(session->hub, known->node, known->life))
        member = roster_add(session, known->node, known->life, 0);
    if (member && member->watch.life == known->life)
        outbox_member_confirmed(session, member, known->sent);
}

/*
 * What the old owner knew: members with their last commands, last SEND ids. Own commands up to the
 * mark went upstream. Of a hand-over that is not the last one, who was a member then does not
 * count.
 */
static void learn(struct session *session, const struct take_message *take)
{
    bool current = take->epoch == session->epoch;
    struct member_entry member;
    for (size_t i = 0; i < take->items.len; i++)
        outbox_note(session, &take->items.at[i]);
    /* What expired is known by now: it is not taken for what went */
    for (size_t i = 0; i < take->items.len; i++)
        if (member_entry_of(&take->items.at[i], &member))
            learn_member(session, &member, current);
}

static void answer_taken(struct hub *hub, const struct envelope *envelope)
{
    const struct taken_message message = {take_decode(envelope).epoch};
    struct envelope taken = taken_encode(&message);
    taken.session = envelope->session;
    node_send(hub, envelope->node, &taken);
}

static void give_back(struct hub *hub, const struct envelope *envelope)
{
    char id[SESSION_ID_MAX];
    if (!messages_id_of(envelope->session, id))
        return;
    ownership_refuse_grant(hub, id, take_decode(envelope).epoch);
    answer_taken(hub, envelope);
}

void messages_on_take(struct hub *hub, struct session *session, const struct envelope *envelope)
{
    if (!session || session->state == SESSION_LEAVING) {
        give_back(hub, envelope);
        if (session)
            session_end(session);
        return;
    }
    const struct take_message take = take_decode(envelope);
    if (session_is_owned(session) || take.epoch < session->epoch) {
        if (session_is_owned(session))
            learn(session, &take);
        answer_taken(hub, envelope);
        return;
    }
    bool waits = session_is_member(session) ||
                 (session->state == SESSION_CLAIMING && ownership_is_settled(session));
    if (!waits || !node_has_lease(hub))
        return; /* it is sent again */
    if (!handover_awaited(session, take.epoch)) {
        /* The lease lapsed since: only the store can say whose it is by now */
        course_claim(session);
        return;
    }
    course_take(session, take.epoch);
    learn(session, &take);
    roster_expect(session);
    answer_taken(hub, envelope);
}

/* --- what is remembered of released sessions --- */

void messages_on_sends(struct hub *hub, struct session *session, const struct envelope *envelope)
{
    if (!envelope->session.len || envelope->session.len >= SESSION_ID_MAX)
        return;
    kept_sends_keep(hub, envelope->session, sends_decode(envelope).sends);
    if (session) /* it was faster than this message */
        kept_sends_take(hub, envelope->session, outbox_note, session);
}
