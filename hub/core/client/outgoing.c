#include "core/client/outgoing.h"

#include "common/metrics.h"
#include "core/client/client_ids.h"
#include "core/session/link.h"
#include "core/session/outbox.h"

void outgoing_send(struct subscription *from, const struct outbox_message *message)
{
    struct session *session = from->session;
    metric_add(METRIC_CLIENT_MESSAGES_IN, 1);
    metric_service_add(session->facts.metrics, SERVICE_CLIENT_MESSAGES_IN, 1);
    bool again = message->send_id && outbox_settled(session, message->sender, message->send_id);
    if (again && outbox_went(session, message->sender, message->send_id)) {
        session->hub->sessions->audience->acked(from, message->send_id);
        return;
    }
    bool may_pause = link_status(session) == UPSTREAM_CONNECTED && !from->paused;
    if (outbox_add(session, from, may_pause, message) && !again)
        client_audit(from, message->len);
}
