#include "core/session/stream_step.h"

#include "core/pubs.h"

bool stream_follows(struct position before, struct position at)
{
    return at.epoch == before.epoch ? at.offset == before.offset + 1
                                    : at.epoch > before.epoch && at.offset == 1;
}

/* Is the end of at's epoch certainly in the history, where that begins at oldest? */
static bool keeps_end(struct position at, struct position oldest)
{
    return oldest.epoch && (position_compare(oldest, at) <= 0 ||
                            (oldest.epoch == at.epoch && oldest.offset == at.offset + 1));
}

void stream_step(struct position *at, struct position oldest, struct publication *publication,
                 const struct stream_sink *sink)
{
    struct position to = publication->at;
    if (position_compare(to, *at) <= 0)
        return;
    if (is_gap_note(publication)) { /* the end of that epoch may be missing */
        stream_close(at, oldest, to, sink);
        return;
    }
    if (!stream_follows(*at, to) || (to.epoch != at->epoch && !keeps_end(*at, oldest)))
        stream_close(at, oldest, (struct position){to.epoch, to.offset - 1}, sink);
    *at = to;
    sink->publication(sink->ctx, publication);
}

void stream_close(struct position *at, struct position oldest, struct position to,
                  const struct stream_sink *sink)
{
    if (position_compare(*at, to) >= 0)
        return;
    uint64_t from = at->offset + 1;
    if (at->epoch != to.epoch) {
        if (at->offset != OFFSET_END && !keeps_end(*at, oldest))
            sink->gap(sink->ctx, at->epoch, from, 0);
        from = 1;
    }
    if (from <= to.offset)
        sink->gap(sink->ctx, to.epoch, from, to.offset == OFFSET_END ? 0 : to.offset);
    *at = to;
}
