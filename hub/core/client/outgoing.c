#include "core/client/outgoing.h"

#include "common/metrics.h"
#include "core/client/client_ids.h"
#include "core/session/link.h"
#include "core/session/outbox.h"

void outgoing_send(struct subscription *from, uint64_t send_id, enum opcode opcode,
                   const void *payload, size_t len)
{
    struct session *session = from->session;
    struct outbox_message message = {
        .send_id = send_id,
        .sender = send_id ? from->client->id->text : "",
        .opcode = opcode,
        .payload = payload,
        .len = len,
    };
    metric_add(METRIC_CLIENT_MESSAGES_IN, 1);
    metric_service_add(session->facts.metrics, SERVICE_CLIENT_MESSAGES_IN, 1);
    bool again = send_id && outbox_went(session, message.sender, send_id);
    bool may_pause = link_status(session) == UPSTREAM_CONNECTED && !from->paused;
    if (outbox_add(session, from, may_pause, &message) && !again)
        client_audit(from, len);
}
