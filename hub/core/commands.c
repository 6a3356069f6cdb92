#include "core/commands.h"

#include <string.h>

#include "common/log.h"
#include "common/metrics.h"
#include "core/client/client.h"
#include "core/client/protocol.h"
#include "core/command_queue.h"
#include "core/last_sends.h"
#include "core/lease.h"
#include "core/membership.h"
#include "core/ownership.h"
#include "core/session.h"

#define HANDED_BACK_MS 5000 /* the STATUS that the owner can send again may have been lost */
#define LOOK_MS        500 /* how often the queue is looked at anyway: for answers that do not come */
#define LOOK_LEAST_MS  20         /* how exactly `wait` is kept */
#define TELL_COUNT     1000       /* commands in one message to the owner */
#define TELL_BYTES     (1u << 20) /* payload in it, but for a single larger one */

static void on_timer(struct timer *timer, uint64_t now_ms);

/* Looks at the queue when something in it expires (0: nothing does), or before that. */
static void arm(struct session *session, uint64_t expires_ms)
{
    struct timer *timer = &session->out.timer;
    uint64_t now_ms = session->hub->now_ms, at_ms = now_ms + LOOK_MS;
    if (expires_ms && expires_ms < at_ms)
        at_ms = expires_ms > now_ms + LOOK_LEAST_MS ? expires_ms : now_ms + LOOK_LEAST_MS;
    if (!timer_armed(timer) || timer->at_ms > at_ms)
        timer_start(&session->hub->timers, timer, at_ms, on_timer);
}

uint64_t commands_confirmed(const struct session *session)
{
    const struct command *command;
    DL_FOREACH (session->out.list, command)
        if (!command->member)
            return command->number - 1;
    return session->out.last_number;
}

/* Reading stops for clients that fill the queue of an upstream (or owner) that takes nothing, and
 * goes on at half of that. */
static void pause_reading(struct subscription *from, bool paused)
{
    if (from->paused == paused || !client_takes(from->client))
        return;
    from->session->paused_len += paused ? 1 : (uint32_t)-1;
    client_pause(from, paused);
}

static void resume_clients(struct session *session)
{
    struct subscription *subscription;
    if (!session->paused_len || session->out.bytes > session->service->to_upstream.queue_bytes / 4)
        return;
    DL_FOREACH (session->subscriptions, subscription)
        pause_reading(subscription, false);
}

/* Its place is gone: the client can't be kept in order any more. */
static void refuse(struct session *session, struct subscription *from, const char *why)
{
    metric_drop(DROP_UPSTREAM_QUEUE, 1);
    log_info_cause("command_dropped", LOG_STR("session", session->id), LOG_STR("reason", why));
    if (from)
        client_close(from->client, CLOSE_QUEUE_FULL, "upstream queue full");
}

/* What a member tells while its lease is not valid its owner may have forgotten by the time it asks
 * for an answer. */
static bool may_tell(const struct session *session)
{
    return session->state == SESSION_MEMBER && session->owner && session->hub->bus_connected &&
           lease_valid(session->hub) && !session->out.handed_back;
}

static void append(struct session *session, struct command *command)
{
    command_queue_add(session, command);
    arm(session, command->expires_ms);
}

/* Sends the one message without queueing it, where nothing waits before it. */
static bool send_straight(struct session *session, enum opcode opcode, const void *payload,
                          size_t len)
{
    struct hub *hub = session->hub;
    if (session->out.list || session->state != SESSION_OWNER || session->link != LINK_OPEN ||
        session->out.congested || !hub_may_write(hub))
        return false;
    if (hub->setup.upstream_ops->send(hub->setup.upstream_ctx, session->upstream, opcode, payload,
                                      len) != STATUS_OK) {
        session->out.congested = true;
        return false;
    }
    metric_add(METRIC_UPSTREAM_MESSAGES_OUT, 1);
    return true;
}

void commands_add(struct subscription *from, uint64_t send_id, const char *sender,
                  enum opcode opcode, const void *payload, size_t len)
{
    struct session *session = from->session;
    struct hub *hub = session->hub;
    metric_add(METRIC_CLIENT_MESSAGES_IN, 1);
    metric_service_add(session->metrics, SERVICE_CLIENT_MESSAGES_IN, 1);
    if (!send_id && send_straight(session, opcode, payload, len)) {
        client_audit(from, len);
        return;
    }
    /* While the upstream takes messages, a full queue stops the reading; what was read until then
     * is still taken. */
    bool room = command_queue_has_room(session, len) ||
                (session->status == UPSTREAM_CONNECTED && !from->paused);
    struct command *command = room ? command_new(payload, len) : NULL;
    if (!command) {
        refuse(session, from, "queue full");
        return;
    }
    command->from = from;
    from->pending++;
    command->send_id = send_id;
    memcpy(command->sender, sender, strlen(sender) + 1);
    command->opcode = opcode;
    command->number = ++session->out.last_number;
    uint32_t wait_ms = session->service->to_upstream.wait_ms;
    command->expires_ms = hub->now_ms + wait_ms + rng_below(&hub->rng, wait_ms / 2 + 1);
    append(session, command);
    if (!send_id || !last_sends_covers(session, sender, send_id))
        client_audit(from, len);
    if (session->status == UPSTREAM_CONNECTED &&
        session->out.bytes > session->service->to_upstream.queue_bytes / 2)
        pause_reading(from, true);
    commands_pump(session);
}

static bool went_before(const struct session *session, const struct command *command)
{
    return command->send_id && last_sends_covers(session, command->sender, command->send_id);
}

static void done(struct session *session, struct command *command)
{
    if (command->member) {
        command->member->sent = command->number;
        command->member->confirm_due = true;
        session->confirm_due = true;
        hub_mark_dirty(session);
    } else if (command->send_id && command->from) {
        protocol_ack(command->from, command->send_id);
    }
    command_queue_drop(session, command);
}

static void pump_upstream(struct session *session)
{
    struct hub *hub = session->hub;
    struct command *command;
    while ((command = session->out.list) && session->link == LINK_OPEN && !session->out.congested) {
        if (!hub_may_write(hub))
            return;
        if (!went_before(session, command)) {
            if (hub->setup.upstream_ops->send(hub->setup.upstream_ctx, session->upstream,
                                              command->opcode, command->payload,
                                              command->len) != STATUS_OK) {
                session->out.congested = true;
                return;
            }
            metric_add(METRIC_UPSTREAM_MESSAGES_OUT, 1);
            if (command->send_id)
                last_sends_note(session, command->sender, command->send_id);
        }
        done(session, command);
    }
    resume_clients(session);
    if (!session->out.list && session->turned_away) {
        session->turned_away = false;
        membership_tell_status(session); /* there is room again */
    }
}

/* Member: one message to the owner with as many as fit. */
static void tell_owner(struct session *session)
{
    struct commands *out = &session->out;
    struct envelope_item items[TELL_COUNT];
    size_t n = 0, bytes = 0;
    struct command *command = out->unsent;
    for (; command && n < TELL_COUNT && (!n || bytes + command->len <= TELL_BYTES);
         command = command->next, n++) {
        bytes += command->len;
        command->told = true;
        items[n] = (struct envelope_item){
            .kind = ITEM_COMMAND,
            .number = command->number,
            .after = command == out->list ? 0 : command->prev->number,
            .id = command->send_id,
            .opcode = (unsigned)command->opcode,
            .name = slice_of(command->sender),
            .bytes = {(const char *)command->payload, command->len},
        };
    }
    out->unsent = command;
    out->told_ms = session->hub->now_ms;
    out->told_number = ++session->hub->numbers;
    struct envelope envelope = {
        .type = ENVELOPE_COMMANDS,
        .session = slice_of(session->id),
        .number = out->told_number,
        .epoch = session->epoch,
        .offset = session->joined_number,
        .items = items,
        .items_len = n,
    };
    membership_tell(session->hub, slice_of(session->owner->id), &envelope);
}

void commands_pump(struct session *session)
{
    struct commands *out = &session->out;
    if (session->state == SESSION_OWNER) {
        pump_upstream(session);
    } else if (out->unsent && may_tell(session)) {
        hub_mark_dirty(session); /* told at the end of the turn, all in one message */
    }
}

/* Puts all that is with the owner back in line. */
static void take_back(struct session *session)
{
    session->out.unsent = session->out.list;
}

/* Returns when the next one will; 0: none. */
static uint64_t expire(struct session *session)
{
    struct command *command, *next;
    uint64_t next_ms = 0;
    DL_FOREACH_SAFE (session->out.list, command, next) {
        if (command->member)
            continue;
        if (command->expires_ms > session->hub->now_ms) {
            next_ms = !next_ms || command->expires_ms < next_ms ? command->expires_ms : next_ms;
            continue;
        }
        struct subscription *from = command->from;
        command_queue_drop(session, command);
        refuse(session, from, "waited too long");
    }
    if (!session->out.list)
        ownership_unwanted(session);
    return next_ms;
}

static void on_timer(struct timer *timer, uint64_t now_ms)
{
    struct session *session = CONTAINER_OF(timer, struct session, out.timer);
    struct commands *out = &session->out;
    uint64_t next_ms = expire(session);
    if (session->state == SESSION_ENDED)
        return;
    /* Nothing came back for a second: the message or its answer was lost, or nobody listens. The
     * owner drops doubles by number. */
    uint64_t again_ms = out->handed_back ? HANDED_BACK_MS : ASK_AGAIN_MS;
    if (session->state == SESSION_MEMBER && out->list && now_ms - out->told_ms >= again_ms) {
        out->handed_back = false;
        take_back(session);
        commands_pump(session);
    }
    if (out->list)
        arm(session, next_ms);
}

void commands_from_gone(struct subscription *from)
{
    struct command *command;
    if (from->paused)
        from->session->paused_len--;
    client_pause(from, false);
    if (!from->pending)
        return;
    DL_FOREACH (from->session->out.list, command)
        if (command->from == from)
            command->from = NULL;
    from->pending = 0;
}

void commands_drop_untold(struct subscription *from)
{
    struct command *command, *next;
    if (!from->pending)
        return;
    DL_FOREACH_SAFE (from->session->out.list, command, next) {
        if (command->from != from || !command->send_id || command->told)
            continue;
        metric_drop(DROP_DUPLICATE, 1);
        command_queue_drop(from->session, command);
    }
}

/* Owner's side. */

static void hand_back(struct session *session, struct member *member, uint64_t from)
{
    struct envelope envelope = {.type = ENVELOPE_HANDBACK,
                                .session = slice_of(session->id),
                                .number = from,
                                .epoch = session->epoch,
                                .offset = member->number};
    member->taken = from - 1;
    membership_tell(session->hub, slice_of(member->peer->id), &envelope);
}

void commands_link_down(struct session *session)
{
    struct member *member;
    session->out.congested = false;
    DL_FOREACH (session->members, member) {
        uint64_t first = command_queue_drop_of(session, member);
        if (first)
            hand_back(session, member, first);
    }
}

void commands_member_gone(struct session *session, struct member *member)
{
    command_queue_drop_of(session, member);
}

void commands_owner_changed(struct session *session)
{
    struct command *command;
    DL_FOREACH (session->out.list, command)
        command->told = false;
    session->out.handed_back = false;
    session->out.congested = false;
    session->out.unsent = session->out.list;
}

static bool take(struct session *session, struct member *member, const struct envelope_item *item)
{
    if (session->link != LINK_OPEN || !command_queue_has_room(session, item->bytes.len) ||
        item->name.len > 32)
        return false;
    struct command *command = command_new(item->bytes.at, item->bytes.len);
    if (!command)
        return false;
    command->member = member;
    command->number = item->number;
    command->send_id = item->id;
    command->opcode = item->opcode == OPCODE_BINARY ? OPCODE_BINARY : OPCODE_TEXT;
    if (item->name.len)
        memcpy(command->sender, item->name.at, item->name.len);
    member->taken = item->number;
    append(session, command);
    return true;
}

void commands_on_commands(struct hub *hub, struct session *session, const struct envelope *envelope)
{
    bool owner = session && session->state == SESSION_OWNER && envelope->epoch == session->epoch;
    struct member *member = owner ? membership_find(session, envelope->node) : NULL;
    if (!member || member->life != envelope->life) {
        if (session && session_is_owned(session))
            return; /* its JOIN comes, or a new owner: it asks again */
        struct envelope no = {
            .type = ENVELOPE_NOT_OWNER, .session = envelope->session, .epoch = envelope->epoch};
        membership_tell(hub, envelope->node, &no);
        return;
    }
    /* Told before this membership began: what went upstream of the one before is not known here. */
    if (envelope->offset && envelope->offset < member->since) {
        membership_answer_joined(session, envelope->node, member->since);
        return;
    }
    /* What comes late, over a connection that is none any more, may have been handed back since. */
    if (envelope->number && envelope->number < member->number)
        return;
    if (envelope->number)
        member->number = envelope->number;
    for (size_t i = 0; i < envelope->items_len; i++) {
        const struct envelope_item *item = &envelope->items[i];
        if (item->kind != ITEM_COMMAND)
            continue;
        if (item->number <= member->taken) {
            /* Seen: its confirmation was lost or is still to come */
            metric_drop(DROP_DUPLICATE, 1);
            member->confirm_due = session->confirm_due = true;
            continue;
        }
        if (item->after > member->taken || !take(session, member, item)) {
            hand_back(session, member, member->taken + 1);
            session->turned_away = true;
            break;
        }
    }
    hub_mark_dirty(session);
    pump_upstream(session);
}

void commands_flush(struct session *session)
{
    while (session->out.unsent && may_tell(session))
        tell_owner(session);
    if (!session->confirm_due)
        return;
    session->confirm_due = false;
    struct member *member;
    DL_FOREACH (session->members, member) {
        if (!member->confirm_due)
            continue;
        member->confirm_due = false;
        struct envelope confirm = {.type = ENVELOPE_CONFIRM,
                                   .session = slice_of(session->id),
                                   .epoch = session->epoch,
                                   .number = member->sent};
        membership_tell(session->hub, slice_of(member->peer->id), &confirm);
    }
}

/* Member's side. */

void commands_owner_ready(struct session *session)
{
    session->out.handed_back = false;
    take_back(session);
    commands_pump(session);
}

void commands_owner_lost(struct session *session)
{
    struct commands *out = &session->out;
    struct command *command, *next;
    DL_FOREACH_SAFE (out->list, command, next) {
        if (!command->told || command->member)
            continue;
        command->told = false;
        if (!command->send_id) { /* once at most: nobody can say whether it went */
            metric_drop(DROP_OWNER_LOST, 1);
            command_queue_drop(session, command);
        }
    }
    out->handed_back = false;
    take_back(session);
}

void commands_went_upstream(struct session *session, uint64_t number)
{
    struct command *command;
    while ((command = session->out.list) && !command->member && command->number <= number) {
        if (command->send_id && command->from)
            protocol_ack(command->from, command->send_id);
        command_queue_drop(session, command);
    }
}

void commands_on_confirm(struct session *session, const struct envelope *envelope)
{
    if (!membership_from_owner(session, envelope) || envelope->epoch != session->epoch ||
        session->state == SESSION_OWNER)
        return;
    session->out.told_ms = session->hub->now_ms;
    commands_went_upstream(session, envelope->number);
    resume_clients(session);
    if (!session->out.list)
        ownership_unwanted(session);
}

void commands_on_handback(struct session *session, const struct envelope *envelope)
{
    if (!membership_from_owner(session, envelope) || envelope->epoch != session->epoch ||
        session->state == SESSION_OWNER)
        return;
    if (envelope->offset && envelope->offset < session->out.told_number)
        return; /* what was told since is answered, too, and may go upstream */
    session->out.told_ms = session->hub->now_ms;
    session->out.handed_back = true;
    struct command *command;
    DL_FOREACH (session->out.list, command)
        if (command->number >= envelope->number)
            break;
    session->out.unsent = command;
    for (; command; command = command->next)
        command->told = false;
}

void commands_fini(struct session *session)
{
    timer_stop(&session->hub->timers, &session->out.timer);
    while (session->out.list) {
        metric_drop(DROP_UPSTREAM_QUEUE, 1);
        command_queue_drop(session, session->out.list);
    }
    last_sends_free(session);
}
