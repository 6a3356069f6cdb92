#include "core/session/stream_accept.h"

#include "common/metrics.h"
#include "core/session/stream.h"

void stream_accept(struct session *session, struct publication *publication)
{
    pubs_add(stream_batch(session), publication);
    session->facts.messages_in++;
    session_mark_dirty(session);
}

void stream_accept_gap(struct session *session, uint64_t epoch, uint64_t from, uint64_t to)
{
    struct publication *note = gap_note_new(epoch, from, to);
    pubs_add(stream_batch(session), note);
    publication_unref(note);
    session_mark_dirty(session);
}

static void on_publication(void *ctx, struct publication *publication)
{
    stream_accept(ctx, publication);
}

static void on_gap(void *ctx, uint64_t epoch, uint64_t from, uint64_t to)
{
    metric_add(METRIC_GAPS, 1);
    metric_drop(DROP_GAP, to ? to - from + 1 : 1);
    stream_accept_gap(ctx, epoch, from, to);
}

struct stream_sink stream_accept_sink(struct session *session)
{
    return (struct stream_sink){on_publication, on_gap, session};
}
