#include "common/node_messages.h"

static struct message_items items_of(const struct envelope *envelope)
{
    return (struct message_items){envelope->items, envelope->items_len};
}

/* --- from a member --- */

struct envelope join_encode(const struct join_message *m)
{
    return (struct envelope){.type = ENVELOPE_JOIN,
                             .number = m->number,
                             .count = m->clients,
                             .epoch = m->seen_epoch,
                             .status = m->named_epoch,
                             .offset = m->confirmed,
                             .items = m->requests.at,
                             .items_len = m->requests.len};
}

struct join_message join_decode(const struct envelope *e)
{
    return (struct join_message){.number = e->number,
                                 .clients = e->count,
                                 .seen_epoch = e->epoch,
                                 .named_epoch = e->status,
                                 .confirmed = e->offset,
                                 .requests = items_of(e)};
}

struct envelope leave_encode(const struct leave_message *m)
{
    return (struct envelope){.type = ENVELOPE_LEAVE, .number = m->number, .epoch = m->epoch};
}

struct leave_message leave_decode(const struct envelope *e)
{
    return (struct leave_message){.number = e->number, .epoch = e->epoch};
}

struct envelope commands_encode(const struct commands_message *m)
{
    return (struct envelope){.type = ENVELOPE_COMMANDS,
                             .epoch = m->epoch,
                             .number = m->number,
                             .offset = m->joined_number,
                             .count = m->joined_ago_ms,
                             .items = m->commands.at,
                             .items_len = m->commands.len};
}

struct commands_message commands_decode(const struct envelope *e)
{
    return (struct commands_message){.epoch = e->epoch,
                                     .number = e->number,
                                     .joined_number = e->offset,
                                     .joined_ago_ms = e->count,
                                     .commands = items_of(e)};
}

/* --- from the owner --- */

struct envelope status_encode(const struct status_message *m)
{
    return (struct envelope){
        .type = ENVELOPE_STATUS, .epoch = m->epoch, .status = m->status, .text = m->reason};
}

struct status_message status_decode(const struct envelope *e)
{
    return (struct status_message){.epoch = e->epoch, .status = e->status, .reason = e->text};
}

struct envelope joined_encode(const struct joined_message *m)
{
    return (struct envelope){.type = ENVELOPE_JOINED,
                             .number = m->number,
                             .epoch = m->at.epoch,
                             .offset = m->at.offset,
                             .count = m->on_the_way,
                             .status = m->status,
                             .text = m->reason,
                             .url = m->url,
                             .items = m->requests.at,
                             .items_len = m->requests.len};
}

struct joined_message joined_decode(const struct envelope *e)
{
    return (struct joined_message){.number = e->number,
                                   .at = {e->epoch, e->offset},
                                   .on_the_way = e->count,
                                   .status = e->status,
                                   .reason = e->text,
                                   .url = e->url,
                                   .requests = items_of(e)};
}

struct envelope ended_encode(const struct ended_message *m)
{
    return (struct envelope){
        .type = ENVELOPE_ENDED, .epoch = m->last.epoch, .offset = m->last.offset};
}

struct ended_message ended_decode(const struct envelope *e)
{
    return (struct ended_message){.last = {e->epoch, e->offset}};
}

struct envelope left_encode(const struct left_message *m)
{
    return (struct envelope){.type = ENVELOPE_LEFT, .number = m->number};
}

struct left_message left_decode(const struct envelope *e)
{
    return (struct left_message){.number = e->number};
}

struct envelope not_owner_encode(const struct not_owner_message *m)
{
    return (struct envelope){.type = ENVELOPE_NOT_OWNER, .epoch = m->epoch};
}

struct not_owner_message not_owner_decode(const struct envelope *e)
{
    return (struct not_owner_message){.epoch = e->epoch};
}

struct envelope confirm_encode(const struct confirm_message *m)
{
    return (struct envelope){.type = ENVELOPE_CONFIRM,
                             .epoch = m->epoch,
                             .number = m->upto,
                             .offset = m->from,
                             .items = m->expired.at,
                             .items_len = m->expired.len};
}

struct confirm_message confirm_decode(const struct envelope *e)
{
    return (struct confirm_message){
        .epoch = e->epoch, .upto = e->number, .from = e->offset, .expired = items_of(e)};
}

struct envelope handback_encode(const struct handback_message *m)
{
    return (struct envelope){
        .type = ENVELOPE_HANDBACK, .epoch = m->epoch, .number = m->from, .offset = m->seen_number};
}

struct handback_message handback_decode(const struct envelope *e)
{
    return (struct handback_message){
        .epoch = e->epoch, .from = e->number, .seen_number = e->offset};
}

/* --- ids of clients --- */

struct envelope take_id_encode(const struct take_id_message *m)
{
    return (struct envelope){
        .type = ENVELOPE_TAKE_ID, .epoch = m->epoch, .items = m->ids.at, .items_len = m->ids.len};
}

struct take_id_message take_id_decode(const struct envelope *e)
{
    return (struct take_id_message){.epoch = e->epoch, .ids = items_of(e)};
}

struct envelope id_taken_encode(const struct id_taken_message *m)
{
    return (struct envelope){.type = ENVELOPE_ID_TAKEN,
                             .epoch = m->epoch,
                             .text = m->by,
                             .items = m->ids.at,
                             .items_len = m->ids.len};
}

struct id_taken_message id_taken_decode(const struct envelope *e)
{
    return (struct id_taken_message){.epoch = e->epoch, .by = e->text, .ids = items_of(e)};
}

/* --- hand-over --- */

struct envelope offer_encode(const struct offer_message *m)
{
    return (struct envelope){.type = ENVELOPE_OFFER, .epoch = m->epoch, .url = m->url};
}

struct offer_message offer_decode(const struct envelope *e)
{
    return (struct offer_message){.epoch = e->epoch, .url = e->url};
}

struct envelope answer_encode(const struct answer_message *m)
{
    return (struct envelope){.type = m->accepts ? ENVELOPE_ACCEPT : ENVELOPE_DECLINE,
                             .epoch = m->epoch};
}

struct answer_message answer_decode(const struct envelope *e)
{
    return (struct answer_message){.accepts = e->type == ENVELOPE_ACCEPT, .epoch = e->epoch};
}

struct envelope take_encode(const struct take_message *m)
{
    return (struct envelope){.type = ENVELOPE_TAKE,
                             .epoch = m->epoch,
                             .url = m->url,
                             .items = m->items.at,
                             .items_len = m->items.len};
}

struct take_message take_decode(const struct envelope *e)
{
    return (struct take_message){.epoch = e->epoch, .url = e->url, .items = items_of(e)};
}

struct envelope taken_encode(const struct taken_message *m)
{
    return (struct envelope){.type = ENVELOPE_TAKEN, .epoch = m->epoch};
}

struct taken_message taken_decode(const struct envelope *e)
{
    return (struct taken_message){.epoch = e->epoch};
}

/* --- presence --- */

struct envelope roster_encode(const struct roster_message *m)
{
    return (struct envelope){.type = ENVELOPE_ROSTER,
                             .epoch = m->epoch,
                             .number = m->number,
                             .offset = m->seen,
                             .status = m->wants_word,
                             .count = m->more,
                             .items = m->watchers.at,
                             .items_len = m->watchers.len};
}

struct roster_message roster_decode(const struct envelope *e)
{
    return (struct roster_message){.epoch = e->epoch,
                                   .number = e->number,
                                   .seen = e->offset,
                                   .wants_word = e->status == 1,
                                   .more = e->count,
                                   .watchers = items_of(e)};
}

struct envelope presence_encode(const struct presence_message *m)
{
    return (struct envelope){.type = ENVELOPE_PRESENCE,
                             .epoch = m->epoch,
                             .number = m->number,
                             .offset = m->heard,
                             .count = m->more,
                             .items = m->watchers.at,
                             .items_len = m->watchers.len};
}

struct presence_message presence_decode(const struct envelope *e)
{
    return (struct presence_message){.epoch = e->epoch,
                                     .number = e->number,
                                     .heard = e->offset,
                                     .more = e->count,
                                     .watchers = items_of(e)};
}

/* --- to all --- */

struct envelope sends_encode(const struct sends_message *m)
{
    return (struct envelope){
        .type = ENVELOPE_SENDS, .items = m->sends.at, .items_len = m->sends.len};
}

struct sends_message sends_decode(const struct envelope *e)
{
    return (struct sends_message){.sends = items_of(e)};
}

struct envelope hello_encode(const struct hello_message *m)
{
    return (struct envelope){.type = ENVELOPE_HELLO, .number = m->process};
}

struct hello_message hello_decode(const struct envelope *e)
{
    return (struct hello_message){.process = e->number};
}

struct envelope probe_encode(const struct probe_message *m)
{
    return (struct envelope){.type = ENVELOPE_PROBE, .number = m->sent_ms};
}

struct probe_message probe_decode(const struct envelope *e)
{
    return (struct probe_message){.sent_ms = e->number};
}

/* --- operators --- */

struct envelope publish_encode(const struct publish_message *m)
{
    return (struct envelope){.type = ENVELOPE_PUBLISH,
                             .number = m->number,
                             .items = m->publications.at,
                             .items_len = m->publications.len};
}

struct publish_message publish_decode(const struct envelope *e)
{
    return (struct publish_message){.number = e->number, .publications = items_of(e)};
}

struct envelope published_encode(const struct published_message *m)
{
    return (struct envelope){.type = ENVELOPE_PUBLISHED,
                             .number = m->number,
                             .epoch = m->at.epoch,
                             .offset = m->at.offset,
                             .status = m->http_status};
}

struct published_message published_decode(const struct envelope *e)
{
    return (struct published_message){
        .number = e->number, .at = {e->epoch, e->offset}, .http_status = e->status};
}

struct envelope close_encode(void)
{
    return (struct envelope){.type = ENVELOPE_CLOSE};
}

struct envelope drain_encode(void)
{
    return (struct envelope){.type = ENVELOPE_DRAIN};
}

struct envelope revoke_encode(const struct revoke_message *m)
{
    return (struct envelope){.type = ENVELOPE_REVOKE,
                             .number = m->number,
                             .text = m->name,
                             .count = m->until_s,
                             .offset = m->issued_before_s};
}

struct revoke_message revoke_decode(const struct envelope *e)
{
    return (struct revoke_message){
        .number = e->number, .name = e->text, .until_s = e->count, .issued_before_s = e->offset};
}

struct envelope counted_encode(const struct counted_message *m)
{
    return (struct envelope){.type = ENVELOPE_COUNTED, .number = m->number, .count = m->closed};
}

struct counted_message counted_decode(const struct envelope *e)
{
    return (struct counted_message){.number = e->number, .closed = e->count};
}

struct envelope clients_encode(const struct clients_message *m)
{
    return (struct envelope){.type = ENVELOPE_CLIENTS,
                             .number = m->number,
                             .count = m->limit,
                             .text = m->from_node,
                             .offset = m->from_slot,
                             .url = m->reason,
                             .items = m->filters.at,
                             .items_len = m->filters.len};
}

struct clients_message clients_decode(const struct envelope *e)
{
    return (struct clients_message){.number = e->number,
                                    .limit = e->count,
                                    .from_node = e->text,
                                    .from_slot = e->offset,
                                    .reason = e->url,
                                    .filters = items_of(e)};
}

struct envelope client_rows_encode(const struct client_rows_message *m)
{
    return (struct envelope){.type = ENVELOPE_CLIENT_ROWS,
                             .number = m->number,
                             .status = m->more,
                             .offset = m->next_slot,
                             .items = m->rows.at,
                             .items_len = m->rows.len};
}

struct client_rows_message client_rows_decode(const struct envelope *e)
{
    return (struct client_rows_message){
        .number = e->number, .more = e->status == 1, .next_slot = e->offset, .rows = items_of(e)};
}

/* --- push channel --- */

struct envelope grant_encode(const struct grant_message *m)
{
    return (struct envelope){.type = ENVELOPE_GRANT, .epoch = m->epoch, .number = m->from_epoch};
}

struct grant_message grant_decode(const struct envelope *e)
{
    return (struct grant_message){.epoch = e->epoch, .from_epoch = e->number};
}

struct envelope push_encode(const struct push_message *m)
{
    return (struct envelope){.type = ENVELOPE_PUSH,
                             .epoch = m->epoch,
                             .items = m->publications.at,
                             .items_len = m->publications.len};
}

struct push_message push_decode(const struct envelope *e)
{
    return (struct push_message){.epoch = e->epoch, .publications = items_of(e)};
}

/* --- items --- */

static enum opcode opcode_of(const struct envelope_item *item)
{
    return item->opcode == OPCODE_BINARY ? OPCODE_BINARY : OPCODE_TEXT;
}

struct envelope_item publication_item(const struct publication_entry *entry)
{
    return (struct envelope_item){.kind = ITEM_PUBLICATION,
                                  .number = entry->offset,
                                  .time_ms = entry->time_ms,
                                  .opcode = (unsigned)entry->opcode,
                                  .bytes = entry->payload};
}

struct envelope_item publication_as_item(const struct publication *publication)
{
    const struct publication_entry entry = {
        .offset = publication->at.offset,
        .time_ms = publication->time_ms,
        .opcode = publication->opcode,
        .payload = {publication->len ? (const char *)publication->payload : NULL,
                    publication->len}};
    return publication_item(&entry);
}

bool publication_entry_of(const struct envelope_item *item, struct publication_entry *out)
{
    *out = (struct publication_entry){.offset = item->number,
                                      .time_ms = item->time_ms,
                                      .opcode = opcode_of(item),
                                      .payload = item->bytes};
    return item->kind == ITEM_PUBLICATION;
}

struct envelope_item command_item(const struct command_entry *entry)
{
    return (struct envelope_item){.kind = ITEM_COMMAND,
                                  .number = entry->number,
                                  .after = entry->after,
                                  .id = entry->send_id,
                                  .name = entry->sender,
                                  .opcode = (unsigned)entry->opcode,
                                  .bytes = entry->payload,
                                  .ttl_ms = entry->ttl_ms};
}

bool command_entry_of(const struct envelope_item *item, struct command_entry *out)
{
    *out = (struct command_entry){.number = item->number,
                                  .after = item->after,
                                  .send_id = item->id,
                                  .sender = item->name,
                                  .opcode = opcode_of(item),
                                  .payload = item->bytes,
                                  .ttl_ms = item->ttl_ms};
    return item->kind == ITEM_COMMAND;
}

struct envelope_item member_item(const struct member_entry *entry)
{
    return (struct envelope_item){.kind = ITEM_MEMBER,
                                  .name = entry->node,
                                  .id = entry->life,
                                  .number = entry->join_number,
                                  .after = entry->sent};
}

bool member_entry_of(const struct envelope_item *item, struct member_entry *out)
{
    *out = (struct member_entry){
        .node = item->name, .life = item->id, .join_number = item->number, .sent = item->after};
    return item->kind == ITEM_MEMBER;
}

struct envelope_item send_item(const struct send_entry *entry)
{
    return (struct envelope_item){
        .kind = ITEM_SEND, .name = entry->client, .id = entry->send_id, .time_ms = entry->unix_ms};
}

bool send_entry_of(const struct envelope_item *item, struct send_entry *out)
{
    *out = (struct send_entry){.client = item->name, .send_id = item->id, .unix_ms = item->time_ms};
    return item->kind == ITEM_SEND;
}

struct envelope_item expired_item(const struct expired_entry *entry)
{
    return (struct envelope_item){.kind = ITEM_EXPIRED,
                                  .name = entry->client,
                                  .id = entry->send_id,
                                  .number = entry->upto > entry->send_id ? entry->upto : 0,
                                  .opcode = entry->some};
}

bool expired_entry_of(const struct envelope_item *item, struct expired_entry *out)
{
    *out = (struct expired_entry){.client = item->name,
                                  .send_id = item->id,
                                  .upto = item->number > item->id ? item->number : item->id,
                                  .some = item->opcode != 0};
    return item->kind == ITEM_EXPIRED && item->name.len && item->name.len <= 32;
}

struct envelope_item client_id_item(const struct client_id_entry *entry)
{
    return (struct envelope_item){
        .kind = ITEM_CLIENT_ID, .name = entry->client, .number = entry->number};
}

bool client_id_entry_of(const struct envelope_item *item, struct client_id_entry *out)
{
    *out = (struct client_id_entry){.client = item->name, .number = item->number};
    return item->kind == ITEM_CLIENT_ID;
}

struct envelope_item watcher_item(const struct watcher_entry *entry)
{
    return (struct envelope_item){
        .kind = ITEM_WATCHER, .name = entry->user, .number = entry->clients};
}

bool watcher_entry_of(const struct envelope_item *item, struct watcher_entry *out)
{
    *out = (struct watcher_entry){.user = item->name, .clients = item->number};
    return item->kind == ITEM_WATCHER;
}

struct envelope_item filter_item(const struct filter_entry *entry)
{
    return (struct envelope_item){.kind = ITEM_FILTER, .name = entry->name, .bytes = entry->value};
}

bool filter_entry_of(const struct envelope_item *item, struct filter_entry *out)
{
    *out = (struct filter_entry){.name = item->name, .value = item->bytes};
    return item->kind == ITEM_FILTER;
}

void client_items(const struct client_entry *entry, struct envelope_item out[2])
{
    out[0] = (struct envelope_item){.kind = ITEM_CLIENT,
                                    .name = entry->id,
                                    .bytes = entry->user,
                                    .number = entry->received,
                                    .id = entry->sent,
                                    .time_ms = entry->since_ms};
    out[1] = (struct envelope_item){.kind = ITEM_CLIENT_MORE,
                                    .name = entry->session,
                                    .bytes = entry->place,
                                    .number = entry->queued_bytes,
                                    .id = entry->subscriptions,
                                    .after = entry->slot};
}

bool client_entry_of(const struct envelope_item items[2], struct client_entry *out)
{
    *out = (struct client_entry){.id = items[0].name,
                                 .user = items[0].bytes,
                                 .session = items[1].name,
                                 .place = items[1].bytes,
                                 .since_ms = items[0].time_ms,
                                 .subscriptions = items[1].id,
                                 .received = items[0].number,
                                 .sent = items[0].id,
                                 .queued_bytes = items[1].number,
                                 .slot = items[1].after};
    return items[0].kind == ITEM_CLIENT && items[1].kind == ITEM_CLIENT_MORE;
}

struct envelope_item request_item(const struct request_entry *entry)
{
    return (struct envelope_item){
        .kind = ITEM_REQUEST, .bytes = entry->text, .number = entry->attended};
}

bool request_entry_of(const struct envelope_item *item, struct request_entry *out)
{
    *out = (struct request_entry){.text = item->bytes, .attended = item->number != 0};
    return item->kind == ITEM_REQUEST;
}
