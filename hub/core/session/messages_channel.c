#include "core/session/messages_private.h"

#include "common/metrics.h"
#include "core/session/course.h"
#include "core/session/course_member.h"
#include "core/session/messages.h"
#include "core/session/ownership.h"
#include "core/session/stream.h"

void messages_on_subscribed(struct session *session)
{
    stream_subscribed(session);
    session_event(session, COURSE_SUBSCRIBED);
}

/* The owner says soon where the stream stands, for what came had been there before. */
static void doubt_position(struct session *session)
{
    if (session->state == SESSION_MEMBER)
        course_join_soon(session);
}

static struct publication *publication_of(uint64_t epoch, const struct publication_entry *entry)
{
    struct publication *publication = publication_copy(entry->opcode, entry->payload.at,
                                                       entry->payload.len);
    if (!publication)
        return NULL;
    publication->at = (struct position){epoch, entry->offset};
    publication->time_ms = entry->time_ms;
    return publication;
}

/* Returns whether it had been there before. A hole is shown by the next one. */
static bool receive(struct session *session, uint64_t epoch, const struct envelope_item *item,
                    bool late)
{
    struct publication_entry entry;
    bool readable = publication_entry_of(item, &entry) && entry.offset;
    struct publication *publication = readable ? publication_of(epoch, &entry) : NULL;
    if (!publication) {
        metric_drop(readable ? DROP_NO_MEMORY : DROP_BUS_UNREADABLE, 1);
        return false;
    }
    bool again = position_compare(publication->at, stream_at(session)) <= 0;
    (late ? stream_late : stream_receive)(session, publication);
    publication_unref(publication);
    return again;
}

void messages_on_push(struct session *session, const struct envelope *envelope)
{
    /* Not subscribed yet: of an earlier subscription, and nobody heard what came after it. */
    if (session->state == SESSION_ENDED || !stream_is_subscribed(session))
        return;
    /* The channel is in the order of the store, but answers and inbox may run ahead of it: what
     * counts is where the stream stands. */
    const struct push_message push = push_decode(envelope);
    uint64_t stands = stream_is_known(session) ? stream_at(session).epoch : session->epoch;
    if (push.epoch < stands) {
        metric_drop(DROP_STALE_EPOCH, push.publications.len);
        doubt_position(session);
        return;
    }
    course_announced(session, &(struct owner_news){envelope->node, push.epoch, 0});
    bool late = session_is_owned(session) && push.epoch < session->epoch;
    if (session->state == SESSION_ENDED || (session_is_owned(session) && !late))
        return; /* the own publications come back to their owner */
    metric_add(METRIC_BUS_RECEIVED, push.publications.len);
    bool again = false;
    for (size_t i = 0; i < push.publications.len; i++)
        again = receive(session, push.epoch, &push.publications.at[i], late) || again;
    if (again)
        doubt_position(session);
}

void messages_on_grant(struct session *session, const struct envelope *envelope)
{
    const struct grant_message grant = grant_decode(envelope);
    stream_epoch_begins(session, grant.epoch, ownership_is_from_owner(session, envelope->node));
    course_announced(session, &(struct owner_news){envelope->node, grant.epoch, grant.from_epoch});
}

void messages_on_ended(struct session *session, const struct envelope *envelope)
{
    stream_ended(session, ended_decode(envelope).last);
}
