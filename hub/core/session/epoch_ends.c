#include "core/session/epoch_ends.h"

#include <string.h>

static void remove_first(struct epoch_ends *ends)
{
    ends->len--;
    memmove(&ends->at[0], &ends->at[1], ends->len * sizeof(ends->at[0]));
}

static void unlist(struct epoch_ends *ends, uint64_t epoch)
{
    if (epoch > ends->unlisted)
        ends->unlisted = epoch;
    while (ends->len && ends->at[0].epoch <= ends->unlisted)
        remove_first(ends);
}

void epoch_ends_add(struct epoch_ends *ends, struct position last)
{
    if (last.epoch <= ends->unlisted)
        return;
    if (last.offset == OFFSET_END) {
        unlist(ends, last.epoch);
        return;
    }
    unsigned k = 0;
    while (k < ends->len && ends->at[k].epoch < last.epoch)
        k++;
    if (k < ends->len && ends->at[k].epoch == last.epoch) {
        if (ends->at[k].offset < last.offset)
            ends->at[k] = last;
        return;
    }
    if (ends->len == EPOCH_ENDS) {
        unlist(ends, ends->at[0].epoch < last.epoch ? ends->at[0].epoch : last.epoch);
        epoch_ends_add(ends, last);
        return;
    }
    memmove(&ends->at[k + 1], &ends->at[k], (ends->len - k) * sizeof(ends->at[0]));
    ends->at[k] = last;
    ends->len++;
}

uint64_t epoch_ends_last(const struct epoch_ends *ends)
{
    return ends->len ? ends->at[ends->len - 1].epoch : ends->unlisted;
}

/* The position is in an epoch of which nobody knows how far it got. */
static bool is_unlisted(const struct epoch_ends *ends, struct position at, uint64_t epoch)
{
    return at.epoch && at.epoch <= ends->unlisted && at.epoch < epoch && at.offset != OFFSET_END;
}

bool epoch_ends_lack(const struct epoch_ends *ends, struct position at, uint64_t epoch)
{
    for (unsigned i = 0; i < ends->len && ends->at[i].epoch < epoch; i++)
        if (position_compare(at, ends->at[i]) < 0)
            return true;
    return is_unlisted(ends, at, epoch);
}

void epoch_ends_leave(const struct epoch_ends *ends, struct position *at, struct position oldest,
                      uint64_t epoch, const struct stream_sink *sink)
{
    if (is_unlisted(ends, *at, epoch))
        stream_close(at, oldest, (struct position){at->epoch, OFFSET_END}, sink);
    for (unsigned i = 0; i < ends->len && ends->at[i].epoch < epoch; i++) {
        /* Of the one before nothing more is missing */
        if (i && !position_compare(*at, ends->at[i - 1]))
            at->offset = OFFSET_END;
        stream_close(at, oldest, ends->at[i], sink);
    }
}

void epoch_ends_each(const struct epoch_ends *ends, void (*each)(void *ctx, struct position last),
                     void *ctx)
{
    if (ends->unlisted)
        each(ctx, (struct position){ends->unlisted, OFFSET_END});
    for (unsigned i = 0; i < ends->len; i++)
        each(ctx, ends->at[i]);
}
