#include "bus/bus_memory_record.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HISTORY_FIRST 8

/* --- whose it is --- */

static uint64_t next_epoch(uint64_t stored, uint64_t seen, uint64_t unix_ms)
{
    uint64_t known = stored > seen ? stored : seen;
    return known >= unix_ms ? known + 1 : unix_ms;
}

static void own(struct memory_record *record, const char *node, uint64_t epoch)
{
    record->there = true;
    record->epoch = epoch;
    record->late = false;
    snprintf(record->owner, sizeof(record->owner), "%s", node);
}

bool memory_record_owned(const struct memory_record *record, const char *node, uint64_t epoch)
{
    return record->there && record->epoch == epoch && !strcmp(record->owner, node);
}

static bool may_claim(const struct memory_record *record, const char *node,
                      const struct bus_claim *claim)
{
    return !record->there || !record->owner[0] || !strcmp(record->owner, node) ||
           (claim->dead_owner && memory_record_owned(record, claim->dead_owner, claim->dead_epoch));
}

enum status memory_record_release(struct memory_record *record, const char *node, uint64_t epoch)
{
    if (!memory_record_owned(record, node, epoch))
        return STATUS_REFUSED;
    record->owner[0] = '\0';
    record->late = false;
    return STATUS_OK;
}

enum status memory_record_transfer(struct memory_record *record, const char *node, uint64_t epoch,
                                   const char *to, uint64_t unix_ms)
{
    if (!memory_record_owned(record, node, epoch))
        return STATUS_REFUSED;
    own(record, to, next_epoch(epoch, 0, unix_ms));
    return STATUS_OK;
}

enum status memory_record_assert(struct memory_record *record, const char *node, uint64_t epoch,
                                 bool *displaced)
{
    *displaced = false;
    if (record->there && record->epoch >= epoch)
        return memory_record_owned(record, node, epoch) ? STATUS_OK : STATUS_REFUSED;
    *displaced = record->there && record->owner[0] && strcmp(record->owner, node) != 0;
    own(record, node, epoch);
    return STATUS_OK;
}

/* --- the history, and what needs both --- */

struct publication *memory_history_at(const struct memory_history *history, size_t index)
{
    assert(index < history->len);
    return history->ring[(history->start + index) % history->cap];
}

void memory_history_clear(struct memory_history *history)
{
    for (size_t i = 0; i < history->len; i++)
        publication_unref(memory_history_at(history, i));
    free(history->ring);
    *history = (struct memory_history){0};
}

static void drop_oldest(struct memory_history *history)
{
    publication_unref(memory_history_at(history, 0));
    history->start = (history->start + 1) % history->cap;
    history->len--;
}

static struct publication **list_new(size_t len)
{
    struct publication **list = calloc(len + 1, sizeof(*list));
    if (!list)
        abort();
    return list;
}

static void grow(struct memory_history *history)
{
    size_t cap = history->cap ? history->cap * 2 : HISTORY_FIRST;
    struct publication **ring = list_new(cap);
    for (size_t i = 0; i < history->len; i++)
        ring[i] = memory_history_at(history, i);
    free(history->ring);
    history->ring = ring;
    history->start = 0;
    history->cap = cap;
}

void memory_history_fence(struct memory_history *history, uint64_t epoch)
{
    if (history->len && history->fence < epoch)
        history->fence = epoch;
}

bool memory_history_append(struct memory_history *history, struct publication *publication,
                           uint32_t size)
{
    if (publication->at.epoch < history->fence)
        return false;
    if (history->len &&
        position_compare(memory_history_at(history, history->len - 1)->at, publication->at) >= 0)
        return false;
    while (history->len >= size)
        drop_oldest(history);
    if (history->len == history->cap)
        grow(history);
    history->ring[(history->start + history->len++) % history->cap] = publication_ref(publication);
    return true;
}

bool memory_record_is_torn(const struct memory_record *record, const struct bus_claim *claim)
{
    return record->there && record->late && record->owner[0] && !claim->holds;
}

static void note_lost_end(struct memory_history *history, uint64_t epoch)
{
    struct publication *note = publication_lost_end(epoch);
    if (!note)
        abort();
    memory_history_append(history, note, UINT32_MAX);
    publication_unref(note);
}

enum status memory_record_claim(struct memory_record *record, struct memory_history *history,
                                const char *node, const struct bus_claim *claim, uint64_t unix_ms,
                                bool young)
{
    if (!record->there && young && !claim->holds)
        return STATUS_AGAIN;
    if (!may_claim(record, node, claim))
        return STATUS_REFUSED;
    if (history->len && memory_record_is_torn(record, claim))
        note_lost_end(history, record->epoch);
    own(record, node, next_epoch(record->there ? record->epoch : 0, claim->seen_epoch, unix_ms));
    return STATUS_OK;
}

enum status memory_record_publish(struct memory_record *record, struct memory_history *history,
                                  const char *node, uint64_t epoch,
                                  struct publication *const *publications, size_t len,
                                  uint32_t size, unsigned how, bool *news)
{
    if (!memory_record_owned(record, node, epoch))
        return STATUS_REFUSED;
    if (how & (BUS_LATE | BUS_PROMPT))
        record->late = how & BUS_LATE;
    *news = !size;
    for (size_t i = 0; size && i < len; i++)
        *news = memory_history_append(history, publications[i], size) || *news;
    return STATUS_OK;
}

/* Index of the first entry after the position. */
static size_t first_after(const struct memory_history *history, struct position after)
{
    size_t low = 0, high = history->len;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (position_compare(memory_history_at(history, middle)->at, after) <= 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

struct publication **memory_history_read(const struct memory_history *history,
                                         struct position after, size_t limit, size_t *len,
                                         bool *more, struct position *oldest)
{
    size_t from = first_after(history, after), there = history->len - from;
    *oldest = history->len ? memory_history_at(history, 0)->at : (struct position){0};
    *more = there > limit;
    *len = *more ? limit : there;
    struct publication **list = list_new(*len);
    for (size_t i = 0; i < *len; i++)
        list[i] = publication_ref(memory_history_at(history, from + i));
    return list;
}

void memory_history_copy(struct memory_history *to, const struct memory_history *from)
{
    struct memory_history copy = {.until_ms = from->until_ms};
    for (size_t i = 0; i < from->len; i++)
        memory_history_append(&copy, memory_history_at(from, i), UINT32_MAX);
    copy.fence = from->fence;
    memory_history_clear(to);
    *to = copy;
}
