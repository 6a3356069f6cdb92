#include "core/session/messages.h"

#include "core/session/handover.h"
#include "core/session/membership.h"
#include "core/session/messages_private.h"

bool messages_on_channel(struct session *session, const struct envelope *envelope)
{
    switch (envelope->type) {
    case ENVELOPE_PUSH: messages_on_push(session, envelope); return true;
    case ENVELOPE_GRANT: messages_on_grant(session, envelope); return true;
    case ENVELOPE_ENDED: messages_on_ended(session, envelope); return true;
    default: return false;
    }
}

/* Messages for which the session must be there; false: it is none of those. */
static bool on_session_message(struct session *session, const struct envelope *envelope)
{
    switch (envelope->type) {
    case ENVELOPE_JOINED: messages_on_joined(session, envelope); return true;
    case ENVELOPE_ENDED: messages_on_ended(session, envelope); return true;
    case ENVELOPE_LEFT: messages_on_left(session, envelope); return true;
    case ENVELOPE_NOT_OWNER: messages_on_not_owner(session, envelope); return true;
    case ENVELOPE_STATUS: messages_on_status(session, envelope); return true;
    case ENVELOPE_CONFIRM: messages_on_confirm(session, envelope); return true;
    case ENVELOPE_HANDBACK: messages_on_handback(session, envelope); return true;
    case ENVELOPE_ACCEPT:
    case ENVELOPE_DECLINE: messages_on_offer_answer(session, envelope); return true;
    default: return false;
    }
}

bool messages_on_inbox(struct hub *hub, struct session *session, const struct envelope *envelope)
{
    switch (envelope->type) {
    case ENVELOPE_JOIN: messages_on_join(hub, session, envelope); return true;
    case ENVELOPE_LEAVE: messages_on_leave(hub, session, envelope); return true;
    case ENVELOPE_COMMANDS: messages_on_commands(hub, session, envelope); return true;
    case ENVELOPE_OFFER: messages_on_offer(hub, session, envelope); return true;
    case ENVELOPE_TAKE: messages_on_take(hub, session, envelope); return true;
    case ENVELOPE_TAKEN:
        handover_on_taken(hub, envelope->session, taken_decode(envelope).epoch);
        return true;
    case ENVELOPE_SENDS: messages_on_sends(hub, session, envelope); return true;
    default: break;
    }
    if (session)
        return on_session_message(session, envelope);
    if (envelope->type == ENVELOPE_JOINED || envelope->type == ENVELOPE_STATUS)
        membership_send_stray(hub, envelope);
    return true;
}
