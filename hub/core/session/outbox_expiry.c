#include "core/session/outbox_expiry.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "common/metrics.h"

void outbox_expiry_init(struct outbox_expiry *expiry, struct session *session,
                        struct outbox_queue *queue, void (*on_due)(struct session *session))
{
    *expiry = (struct outbox_expiry){.session = session, .queue = queue, .on_due = on_due};
}

void outbox_expiry_fini(struct outbox_expiry *expiry)
{
    timer_stop(&expiry->session->hub->timers, &expiry->timer);
    last_sends_fini(&expiry->sends);
}

/* --- the time of messages --- */

static void on_timer(struct timer *timer, uint64_t now_ms)
{
    struct outbox_expiry *expiry = CONTAINER_OF(timer, struct outbox_expiry, timer);
    (void)now_ms;
    expiry->on_due(expiry->session);
}

void outbox_expiry_add(struct outbox_expiry *expiry, uint64_t ttl_at_ms)
{
    if (ttl_at_ms && (!timer_armed(&expiry->timer) || expiry->timer.at_ms > ttl_at_ms))
        timer_start(&expiry->session->hub->timers, &expiry->timer, ttl_at_ms, on_timer);
}

void outbox_expiry_look(struct outbox_expiry *expiry)
{
    outbox_expiry_add(expiry, expiry->session->hub->now_ms);
}

static bool went_before(const struct outbox_expiry *expiry, const struct outbox_item *item)
{
    return last_sends_covers(&expiry->sends, outbox_item_sender(item), item->send_id);
}

/* Its time is over before its turn. */
static void note_over(struct outbox_expiry *expiry, const struct outbox_item *item, bool reported)
{
    metric_drop(DROP_EXPIRED, 1);
    if (!went_before(expiry, item))
        last_sends_expire(&expiry->sends, expiry->session->hub->now_ms, outbox_item_sender(item),
                          (struct expired_row){item->send_id, item->send_id, reported});
}

void outbox_expiry_run(struct outbox_expiry *expiry, outbox_expired_fn *over,
                       outbox_expired_fn *again, void *ctx)
{
    struct outbox_item *item = expiry->queue->first, *next;
    uint64_t first_ms = 0;
    for (; item; item = next) {
        next = item->next;
        if (!item->ttl_at_ms || item->state != OUTBOX_ITEM_WAITING)
            continue;
        if (outbox_item_is_over(item, expiry->session->hub->now_ms)) {
            if (went_before(expiry, item) && !outbox_expiry_may_have(expiry, item)) {
                again(ctx, item);
                continue;
            }
            note_over(expiry, item, false);
            over(ctx, item);
        } else if (!first_ms || item->ttl_at_ms < first_ms) {
            first_ms = item->ttl_at_ms;
        }
    }
    outbox_expiry_add(expiry, first_ms);
}

/* --- what became of SENDs --- */

bool outbox_expiry_has(const struct outbox_expiry *expiry, const struct outbox_item *item)
{
    return item->send_id && expiry->sends.expired &&
           last_sends_expired(&expiry->sends, outbox_item_sender(item), item->send_id);
}

bool outbox_expiry_may_have(const struct outbox_expiry *expiry, const struct outbox_item *item)
{
    return item->send_id &&
           last_sends_may_have_expired(&expiry->sends, outbox_item_sender(item), item->send_id);
}

static bool is_waiting(const struct outbox_queue *queue, const char *client, uint64_t id)
{
    const struct outbox_item *item = queue->first;
    while (item && (item->send_id != id || item->state == OUTBOX_ITEM_EXPIRED ||
                    strcmp(outbox_item_sender(item), client) != 0))
        item = item->next;
    return item;
}

bool outbox_expiry_refuses(const struct outbox_expiry *expiry, const char *client, uint64_t id)
{
    return last_sends_expired(&expiry->sends, client, id) ||
           (last_sends_may_have_expired(&expiry->sends, client, id) &&
            !is_waiting(expiry->queue, client, id));
}

bool outbox_expiry_refuses_entry(const struct outbox_expiry *expiry,
                                 const struct command_entry *entry)
{
    char client[33] = {0};
    if (!entry->send_id || !entry->sender.len || entry->sender.len > 32)
        return false;
    memcpy(client, entry->sender.at, entry->sender.len);
    return outbox_expiry_refuses(expiry, client, entry->send_id);
}

bool outbox_expiry_settles(const struct outbox_expiry *expiry, const char *client, uint64_t id)
{
    return last_sends_covers(&expiry->sends, client, id) ||
           last_sends_may_have_expired(&expiry->sends, client, id);
}

bool outbox_expiry_went(const struct outbox_expiry *expiry, const char *client, uint64_t id)
{
    return last_sends_went_from_here(&expiry->sends, client, id) &&
           !last_sends_may_have_expired(&expiry->sends, client, id) &&
           !is_waiting(expiry->queue, client, id);
}

void outbox_expiry_went_from_here(struct outbox_expiry *expiry, const char *client, uint64_t id)
{
    last_sends_begin_here(&expiry->sends, client, id);
}

enum outbox_verdict outbox_expiry_verdict(struct outbox_expiry *expiry,
                                          const struct outbox_item *item)
{
    const char *sender = outbox_item_sender(item);
    if (item->state == OUTBOX_ITEM_EXPIRED || outbox_expiry_has(expiry, item))
        return VERDICT_EXPIRED;
    if (item->send_id && last_sends_covers(&expiry->sends, sender, item->send_id))
        /* It comes again: it went before, or it did not and is not listed any more */
        return outbox_expiry_may_have(expiry, item) ? VERDICT_EXPIRED : VERDICT_SENT;
    if (!outbox_item_is_over(item, expiry->session->hub->now_ms))
        return VERDICT_SEND;
    note_over(expiry, item, true);
    return VERDICT_EXPIRED;
}

void outbox_expiry_note_sent(struct outbox_expiry *expiry, const char *client, uint64_t id)
{
    last_sends_note(&expiry->sends, expiry->session->hub->now_ms, client, id);
}

void outbox_expiry_note_item(struct outbox_expiry *expiry, const struct envelope_item *item)
{
    struct send_entry send;
    struct expired_entry expired;
    char client[33] = {0};
    if (!item->name.len || item->name.len > 32)
        return;
    memcpy(client, item->name.at, item->name.len);
    if (send_entry_of(item, &send))
        outbox_expiry_note_sent(expiry, client, send.send_id);
    if (!expired_entry_of(item, &expired) || !expired.send_id)
        return;
    const struct expired_row row = {expired.send_id, expired.upto, true};
    (expired.some ? last_sends_doubt
                  : last_sends_expire)(&expiry->sends, expiry->session->hub->now_ms, client, row);
}

/* --- the owner's word --- */

static int compare_expired(const void *a, const void *b)
{
    const struct expired_entry *left = a, *right = b;
    if (left->send_id != right->send_id)
        return left->send_id < right->send_id ? -1 : 1;
    if (left->client.len != right->client.len)
        return left->client.len < right->client.len ? -1 : 1;
    return memcmp(left->client.at, right->client.at, left->client.len);
}

/* Notes those that expired. Returns how many are in entries then, in order. */
static size_t note_all(struct outbox_expiry *expiry, const struct message_items *expired,
                       struct expired_entry *entries)
{
    size_t n = 0;
    for (size_t i = 0; i < expired->len; i++) {
        outbox_expiry_note_item(expiry, &expired->at[i]);
        n += expired_entry_of(&expired->at[i], &entries[n]);
    }
    qsort(entries, n, sizeof(*entries), compare_expired);
    return n;
}

/* The owner says so: it does not wait for those before it. They may be more than are remembered, so
 * its word is looked at, and not what is remembered. */
void outbox_expiry_confirmed(struct outbox_expiry *expiry, const struct message_items *expired,
                             outbox_expired_fn *over, void *ctx)
{
    struct expired_entry *entries = expired->len ? calloc(expired->len, sizeof(*entries)) : NULL;
    if (expired->len && !entries)
        abort();
    size_t n = entries ? note_all(expiry, expired, entries) : 0;
    struct outbox_item *item = n ? expiry->queue->first : NULL, *next;
    for (; item; item = next) {
        next = item->next;
        const struct expired_entry key = {.client = slice_of(outbox_item_sender(item)),
                                          .send_id = item->send_id};
        if (outbox_item_is_own(item) && item->send_id &&
            bsearch(&key, entries, n, sizeof(key), compare_expired))
            over(ctx, item);
    }
    free(entries);
}

/* --- reports to other nodes --- */

bool outbox_expiry_has_report(const struct outbox_expiry *expiry)
{
    return expiry->sends.unreported != 0;
}

void outbox_expiry_report_again(struct outbox_expiry *expiry)
{
    last_sends_report_again(&expiry->sends);
}

static struct envelope_item row_item(const struct last_send *send, const struct expired_row *row)
{
    return expired_item(&(struct expired_entry){.client = slice_of(send->client),
                                                .send_id = row->from,
                                                .upto = row->upto,
                                                .some = row == &send->unlisted});
}

size_t outbox_expiry_report(struct outbox_expiry *expiry, struct envelope_item *items, size_t max)
{
    size_t n = 0;
    struct last_send *send = expiry->sends.unreported ? expiry->sends.by_client : NULL;
    for (; send && n < max; send = send->hh.next) {
        for (size_t i = 0; i <= send->expired_len && n < max; i++) {
            struct expired_row *row = i ? &send->expired[i - 1] : &send->unlisted;
            if (!row->upto || row->reported)
                continue;
            row->reported = true;
            expiry->sends.unreported--;
            items[n++] = row_item(send, row);
        }
    }
    return n;
}

size_t outbox_expiry_list(const struct outbox_expiry *expiry, uint64_t younger_ms,
                          struct envelope_item *items, size_t max)
{
    const struct hub *hub = expiry->session->hub;
    size_t len = last_sends_len(&expiry->sends), skip = len > max ? len - max : 0, n = 0;
    uint64_t unix_ms = node_unix_ms(hub);
    const struct last_send *send = expiry->sends.by_client;
    for (; send; send = send->hh.next) {
        uint64_t age_ms = hub->now_ms - send->at_ms;
        size_t rows = send->expired_len + (send->unlisted.upto != 0);
        /* All of a client or nothing: who knows of its last id alone acknowledges what expired */
        if (skip || age_ms >= younger_ms) {
            skip -= skip < rows + 1 ? skip : rows + 1;
            continue;
        }
        if (send->unlisted.upto)
            items[n++] = row_item(send, &send->unlisted);
        for (size_t i = 0; i < send->expired_len; i++)
            items[n++] = row_item(send, &send->expired[i]);
        if (send->id)
            items[n++] = send_item(
                &(struct send_entry){slice_of(send->client), send->id, unix_ms - age_ms});
    }
    return n;
}

void outbox_expiry_check(const struct outbox_expiry *expiry)
{
    const struct outbox_item *item;
    assert(expiry->sends.unreported <= expiry->sends.expired);
    DL_FOREACH (expiry->queue->first, item)
        assert(!item->ttl_at_ms || item->state != OUTBOX_ITEM_WAITING ||
               timer_armed(&expiry->timer));
}
