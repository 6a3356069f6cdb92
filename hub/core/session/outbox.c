#include "core/session/outbox.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "common/metrics.h"
#include "core/session/last_sends.h"
#include "core/session/outbox_queue.h"

#define HANDED_BACK_MS 5000       /* the STATUS that the owner can send again may have been lost */
#define LOOK_MS        500        /* how often is looked for answers that do not come */
#define TELL_COUNT     1000       /* messages in one COMMANDS */
#define TELL_BYTES     (1u << 20) /* payload in it, but for a single larger one */
#define SENT_A_TURN    500        /* messages that go upstream in one turn */

enum outbox_flow {
    FLOW_OPEN,
    FLOW_CONGESTED,   /* the upstream takes nothing; until it is writable, or down */
    FLOW_HANDED_BACK, /* the owner can't send; until its STATUS, or HANDED_BACK_MS */
    FLOWS
};

static const char *const flow_names[FLOWS] = {"open", "congested", "handed_back"};

struct outbox {
    struct session *session;
    const struct outbox_events *events;
    struct outbox_queue queue;
    struct command *unsent; /* first that is not with the owner yet; NULL: all are */
    uint64_t last_number;
    enum outbox_flow flow;
    uint64_t told_number; /* of the last COMMANDS: a HANDBACK that has not seen it is out of date */
    uint64_t told_ms; /* when the owner was last told or last answered, while some are with it */
    bool pausing;     /* some clients are not read from */
    bool turned_away; /* a member's were handed back though the upstream is open */
    struct source *confirm_due;   /* members that are to be told what went upstream */
    struct expired_note *expired; /* members are to be told of */
    struct last_sends sends;
    uint64_t asked_again_ms; /* when all was told once more, since a CONFIRM had been lost */
    struct timer timer;
    struct timer ttl; /* of the first message whose time is over */
};

/* To be told to a member: a SEND of its clients has expired. */
struct expired_note {
    struct expired_note *prev, *next;
    const struct source *source;
    uint64_t id;
    uint64_t upto; /* what a CONFIRM with this one and those before it may confirm */
    char client[33];
};

static void on_expired(struct source *source);

void outbox_new(struct session *session, const struct outbox_events *events)
{
    struct outbox *out = calloc(1, sizeof(*out));
    if (!out)
        abort();
    out->session = session;
    out->events = events;
    out->last_number = session->hub->sessions->commands;
    outbox_queue_init(&out->queue, &session->hub->timers, on_expired, out);
    session->outbox = out;
}

/* Those for one member; source NULL: for all. */
static void forget_notes(struct outbox *out, const struct source *source)
{
    struct expired_note *note, *next;
    DL_FOREACH_SAFE (out->expired, note, next) {
        if (source && note->source != source)
            continue;
        DL_DELETE(out->expired, note);
        free(note);
    }
}

void outbox_free(struct session *session)
{
    struct outbox *out = session->outbox;
    timer_stop(&session->hub->timers, &out->timer);
    timer_stop(&session->hub->timers, &out->ttl);
    forget_notes(out, NULL);
    metric_drop(DROP_UPSTREAM_QUEUE, out->queue.len);
    outbox_queue_fini(&out->queue);
    last_sends_fini(&out->sends);
    free(out);
    session->outbox = NULL;
}

static void set_flow(struct outbox *out, enum outbox_flow flow)
{
    static const bool legal[FLOWS][FLOWS] = {
        /* to:               open congested handed_back */
        [FLOW_OPEN] = {true, true, true},
        [FLOW_CONGESTED] = {true, true, false},
        [FLOW_HANDED_BACK] = {true, false, true},
    };
    assert(legal[out->flow][flow]);
    if (out->flow != flow)
        log_debug("outbox", LOG_STR("session", out->session->id),
                  LOG_STR("flow", flow_names[flow]));
    out->flow = flow;
}

static void drop(struct outbox *out, struct command *command)
{
    if (out->unsent == command)
        out->unsent = command->next;
    outbox_queue_drop(&out->queue, command);
}

/* Returns how many. The source goes with its last message. */
static uint64_t drop_all_of(struct outbox *out, struct source *source)
{
    uint64_t n = source->len;
    for (uint64_t i = 0; i < n; i++)
        drop(out, source->first);
    return n;
}

static void on_timer(struct timer *timer, uint64_t now_ms);

static void look_within(struct outbox *out, uint64_t after_ms)
{
    uint64_t at_ms = out->session->hub->now_ms + after_ms;
    if (!timer_armed(&out->timer) || out->timer.at_ms > at_ms)
        timer_start(&out->session->hub->timers, &out->timer, at_ms, on_timer);
}

static void on_ttl(struct timer *timer, uint64_t now_ms);

static void expire_at(struct outbox *out, uint64_t at_ms)
{
    if (at_ms && (!timer_armed(&out->ttl) || out->ttl.at_ms > at_ms))
        timer_start(&out->session->hub->timers, &out->ttl, at_ms, on_ttl);
}

static void append(struct outbox *out, struct source *source, struct command *command)
{
    outbox_queue_add(&out->queue, source, command);
    metric_observe(HISTOGRAM_UPSTREAM_QUEUE, out->queue.bytes);
    if (!out->unsent)
        out->unsent = command;
    look_within(out, LOOK_MS);
    expire_at(out, command->ttl_at_ms);
}

/* Nothing that a source has here goes upstream any more: its place in the order is gone. */
static void refuse_source(struct outbox *out, struct subscription *from, struct source *source,
                          uint64_t dropped, const char *why)
{
    struct session *session = out->session;
    if (source)
        dropped += drop_all_of(out, source);
    metric_drop(DROP_UPSTREAM_QUEUE, dropped);
    log_info_cause("command_dropped", LOG_STR("session", session->id), LOG_STR("reason", why));
    if (from)
        out->events->refused(session, from);
}

static void on_expired(struct source *source)
{
    struct outbox *out = source->queue->ctx;
    refuse_source(out, source->from, source, 0, "waited too long");
    if (!out->queue.first)
        out->events->emptied(out->session);
}

/* --- from a client --- */

/* Sends the one message without queueing it, where nothing waits before it. */
static bool send_straight(struct outbox *out, const struct outbox_message *message)
{
    struct session *session = out->session;
    if (out->queue.first || out->flow != FLOW_OPEN ||
        out->events->way(session) != OUTBOX_UPSTREAM || !node_may_write(session->hub))
        return false;
    if (out->events->send(session, message->opcode, message->payload, message->len) == STATUS_OK)
        return true;
    set_flow(out, FLOW_CONGESTED);
    return false;
}

static void maybe_pause(struct outbox *out, struct subscription *from, bool may_pause)
{
    const struct session *session = out->session;
    if (!may_pause || out->queue.bytes <= session->service->to_upstream.queue_bytes / 2)
        return;
    out->pausing = true;
    out->events->paused(out->session, from);
}

/* Reading goes on at half of the bytes at which it stopped. */
static void maybe_resume(struct outbox *out)
{
    const struct session *session = out->session;
    if (!out->pausing || out->queue.bytes > session->service->to_upstream.queue_bytes / 4)
        return;
    out->pausing = false;
    out->events->resumed(out->session);
}

static bool is_waiting(const struct outbox *out, const char *client, uint64_t id)
{
    const struct command *command = out->queue.first;
    while (command && (command->send_id != id || command->expired ||
                       strcmp(command_sender(command), client) != 0))
        command = command->next;
    return command;
}

/* Of a SEND that has come, perhaps again. */
static bool never_goes(const struct outbox *out, const char *client, uint64_t id)
{
    return last_sends_expired(&out->sends, client, id) ||
           (last_sends_may_have_expired(&out->sends, client, id) && !is_waiting(out, client, id));
}

bool outbox_add(struct session *session, struct subscription *from, bool may_pause,
                const struct outbox_message *message)
{
    struct outbox *out = session->outbox;
    struct hub *hub = session->hub;
    uint32_t wait_ms = session->service->to_upstream.wait_ms;
    if (!message->send_id && send_straight(out, message))
        return true;
    if (message->send_id && never_goes(out, message->sender, message->send_id)) {
        out->events->expired(session, from, message->send_id);
        return true;
    }
    struct source *source = outbox_queue_find(&out->queue, from);
    /* While the upstream takes messages, a full queue stops the reading; what was read until then
     * is still taken. */
    bool room = may_pause || outbox_queue_has_room(&out->queue, message,
                                                   session->service->to_upstream.queue_bytes);
    struct command *command = room ? command_new(message) : NULL;
    if (!command) {
        refuse_source(out, from, source, 1, "queue full");
        return false;
    }
    if (!source)
        source = outbox_queue_client(&out->queue, from, rng_below(&hub->rng, wait_ms / 2 + 1));
    command->number = ++out->last_number;
    command->expires_ms = hub->now_ms + wait_ms + source->spread_ms;
    command->ttl_at_ms = message->ttl_ms ? hub->now_ms + message->ttl_ms : 0;
    append(out, source, command);
    maybe_pause(out, from, may_pause);
    outbox_pump(session);
    return true;
}

void outbox_from_gone(struct session *session, struct subscription *from)
{
    struct source *source = outbox_queue_find(&session->outbox->queue, from);
    if (source)
        outbox_queue_orphan(&session->outbox->queue, source);
}

void outbox_drop_untold(struct session *session, struct subscription *from)
{
    struct outbox *out = session->outbox;
    struct source *source = outbox_queue_find(&out->queue, from);
    struct command *command = source ? source->first : NULL, *next;
    for (; command; command = next) {
        next = command->next_of;
        if (!command->send_id || command->told)
            continue;
        metric_drop(DROP_DUPLICATE, 1);
        drop(out, command);
    }
}

bool outbox_is_empty(const struct session *session)
{
    return !session->outbox->queue.first;
}

size_t outbox_bytes(const struct session *session)
{
    return session->outbox->queue.bytes;
}

uint64_t outbox_last_number(const struct session *session)
{
    return session->outbox->last_number;
}

uint64_t outbox_confirmed(const struct session *session)
{
    const struct command *command = session->outbox->queue.first;
    while (command && command->source->member)
        command = command->next;
    return command ? command->number - 1 : session->outbox->last_number;
}

/* --- to the upstream --- */

static void want_confirm(struct outbox *out, struct source *source)
{
    if (!source->confirm_due) {
        source->confirm_due = true;
        source->next_due = out->confirm_due;
        out->confirm_due = source;
    }
    session_mark_dirty(out->session);
}

static bool has_expired(const struct outbox *out, const struct command *command)
{
    return command->send_id && out->sends.expired &&
           last_sends_expired(&out->sends, command_sender(command), command->send_id);
}

/* Whose it is hears that it never goes. */
static void tell_expired(struct outbox *out, struct source *source, const char *sender,
                         uint64_t send_id)
{
    if (!source->member) {
        if (source->from)
            out->events->expired(out->session, source->from, send_id);
        return;
    }
    struct expired_note *note = calloc(1, sizeof(*note));
    if (!note)
        abort();
    note->source = source;
    note->id = send_id;
    note->upto = source->sent;
    memcpy(note->client, sender, strlen(sender));
    DL_APPEND(out->expired, note);
    want_confirm(out, source);
}

/* It has had its turn: it went upstream, or it expired and never will. */
static void went(struct outbox *out, struct command *command, bool expired)
{
    struct source *source = command->source;
    if (source->member) {
        source->sent = command->number;
        want_confirm(out, source);
    }
    if (expired)
        tell_expired(out, source, command_sender(command), command->send_id);
    else if (!source->member && command->send_id && source->from)
        out->events->acked(out->session, source->from, command->send_id);
    drop(out, command);
}

static bool is_over(const struct outbox *out, const struct command *command)
{
    return command->ttl_at_ms && command->ttl_at_ms <= out->session->hub->now_ms;
}

static void note_expired(struct outbox *out, const char *client, uint64_t id, bool told)
{
    last_sends_expire(&out->sends, out->session->hub->now_ms, client, id, told);
}

/* Its time is over. Of a client that has several before it these stay. */
static void expire(struct outbox *out, struct command *command)
{
    struct source *source = command->source;
    metric_drop(DROP_EXPIRED, 1);
    if (!last_sends_covers(&out->sends, command_sender(command), command->send_id))
        note_expired(out, command_sender(command), command->send_id, false);
    if (source->first == command) {
        went(out, command, has_expired(out, command));
        return;
    }
    tell_expired(out, source, command_sender(command), command->send_id);
    if (source->member) /* its turn is told once more: this word of it may be lost */
        outbox_queue_expire(&out->queue, command);
    else
        drop(out, command);
}

/* What an owner has is that owner's to say. */
static void on_ttl(struct timer *timer, uint64_t now_ms)
{
    struct outbox *out = CONTAINER_OF(timer, struct outbox, ttl);
    struct command *command = out->queue.first, *next;
    uint64_t first_ms = 0;
    (void)now_ms;
    for (; command; command = next) {
        next = command->next;
        if (!command->ttl_at_ms || command->told)
            continue;
        if (is_over(out, command))
            expire(out, command);
        else if (!first_ms || command->ttl_at_ms < first_ms)
            first_ms = command->ttl_at_ms;
    }
    expire_at(out, first_ms);
    session_mark_dirty(out->session); /* the owner is told */
    maybe_resume(out);
    if (!out->queue.first)
        out->events->emptied(out->session);
}

/* Messages are this node's again: those whose time is over since do not go any more. */
static void look_at_ttl(struct outbox *out)
{
    expire_at(out, out->session->hub->now_ms);
}

/* Returns false where it has to wait. */
static bool send_one(struct outbox *out, struct command *command, bool *expired)
{
    struct session *session = out->session;
    const char *sender = command_sender(command);
    *expired = command->expired || has_expired(out, command);
    if (*expired)
        return true;
    if (command->send_id && last_sends_covers(&out->sends, sender, command->send_id)) {
        /* It comes again: it went before, or it did not and is not listed any more */
        *expired = last_sends_may_have_expired(&out->sends, sender, command->send_id);
        return true;
    }
    if (is_over(out, command)) {
        metric_drop(DROP_EXPIRED, 1);
        note_expired(out, sender, command->send_id, true);
        *expired = true;
        return true;
    }
    if (out->events->send(session, command->opcode, command_payload(command), command->len) !=
        STATUS_OK) {
        set_flow(out, FLOW_CONGESTED);
        return false;
    }
    if (command->send_id)
        last_sends_note(&out->sends, session->hub->now_ms, sender, command->send_id);
    return true;
}

static void pump_upstream(struct outbox *out)
{
    struct session *session = out->session;
    size_t sent = 0;
    bool expired;
    for (; out->queue.first && out->flow == FLOW_OPEN && sent < SENT_A_TURN; sent++) {
        if (!node_may_write(session->hub) || !send_one(out, out->queue.first, &expired))
            break;
        went(out, out->queue.first, expired);
    }
    if (sent == SENT_A_TURN && out->queue.first)
        look_within(out, 0);
    maybe_resume(out);
    if (!out->queue.first && out->turned_away) {
        out->turned_away = false;
        out->events->room_again(session);
    }
}

void outbox_pump(struct session *session)
{
    struct outbox *out = session->outbox;
    switch (out->events->way(session)) {
    case OUTBOX_UPSTREAM: pump_upstream(out); break;
    case OUTBOX_OWNER:
        if (out->unsent && out->flow == FLOW_OPEN)
            session_mark_dirty(session); /* told at the end of the turn, all in one message */
        break;
    case OUTBOX_NOWHERE: break;
    }
}

/* --- to the owner --- */

/* SENDs that the owner does not know to have expired. Returns how many. */
static size_t expired_items(struct outbox *out, struct envelope_item *items, size_t max)
{
    size_t n = 0;
    struct last_send *send = out->sends.untold ? out->sends.by_client : NULL;
    for (; send && n < max; send = send->hh.next) {
        for (size_t i = 0; i < send->expired_len && n < max; i++) {
            if (send->expired[i].told)
                continue;
            send->expired[i].told = true;
            out->sends.untold--;
            items[n++] = expired_item(
                &(struct expired_entry){slice_of(send->client), send->expired[i].id});
        }
    }
    return n;
}

static uint64_t ttl_left(const struct outbox *out, const struct command *command)
{
    if (!command->ttl_at_ms)
        return 0;
    return is_over(out, command) ? 1 : command->ttl_at_ms - out->session->hub->now_ms;
}

/* One message with as many as fit. */
static void tell_owner(struct outbox *out)
{
    struct session *session = out->session;
    struct envelope_item items[TELL_COUNT];
    size_t n = expired_items(out, items, TELL_COUNT / 2), bytes = 0;
    struct command *command = out->unsent;
    for (; command && n < TELL_COUNT && (!n || bytes + command->len <= TELL_BYTES);
         command = command->next, n++) {
        bytes += command->len;
        command->told = true;
        const struct command_entry entry = {
            .number = command->number,
            .after = command == out->queue.first ? 0 : command->prev->number,
            .send_id = command->send_id,
            .opcode = command->opcode,
            .sender = slice_of(command_sender(command)),
            .payload = {(const char *)command_payload(command), command->len},
            .ttl_ms = ttl_left(out, command),
        };
        items[n] = command_item(&entry);
    }
    out->unsent = command;
    out->told_ms = session->hub->now_ms;
    out->told_number = ++session->hub->numbers;
    struct commands_message commands = {
        .number = out->told_number, .epoch = session->epoch, .commands = {items, n}};
    out->events->tell_owner(session, &commands);
}

/* Puts all that is with the owner back in line. */
static void take_back(struct outbox *out)
{
    out->unsent = out->queue.first;
}

static void on_timer(struct timer *timer, uint64_t now_ms)
{
    struct outbox *out = CONTAINER_OF(timer, struct outbox, timer);
    struct session *session = out->session;
    /* Nothing came back for a second: the message or its answer was lost, or nobody listens. The
     * owner drops doubles by number. */
    uint64_t again_ms = out->flow == FLOW_HANDED_BACK ? HANDED_BACK_MS : ASK_AGAIN_MS;
    if (session->state == SESSION_MEMBER && out->queue.first && now_ms - out->told_ms >= again_ms) {
        set_flow(out, FLOW_OPEN);
        take_back(out);
    }
    outbox_pump(session);
    if (out->queue.first)
        look_within(out, LOOK_MS);
}

void outbox_owner_ready(struct session *session)
{
    struct outbox *out = session->outbox;
    last_sends_untell(&out->sends);
    if (out->sends.untold)
        session_mark_dirty(session);
    set_flow(out, FLOW_OPEN);
    take_back(out);
    outbox_pump(session);
}

void outbox_owner_lost(struct session *session)
{
    struct outbox *out = session->outbox;
    struct command *command = out->queue.first, *next;
    for (; command; command = next) {
        next = command->next;
        if (!command->told || command->source->member)
            continue;
        command->told = false;
        if (!command->send_id) { /* once at most: nobody can say whether it went */
            metric_drop(DROP_OWNER_LOST, 1);
            drop(out, command);
        }
    }
    set_flow(out, FLOW_OPEN);
    take_back(out);
    look_at_ttl(out);
}

void outbox_went_upstream(struct session *session, uint64_t number)
{
    struct outbox *out = session->outbox;
    struct command *command;
    while ((command = out->queue.first) && !command->source->member && command->number <= number)
        went(out, command,
             command->send_id && last_sends_may_have_expired(&out->sends, command_sender(command),
                                                             command->send_id));
}

/* The owner says what went, and which of those after `from` did not. Returns false at the first
 * SEND of which it said so in a message that has not come. */
static bool went_after(struct outbox *out, uint64_t from, uint64_t upto)
{
    struct command *command;
    while ((command = out->queue.first) && !command->source->member && command->number <= upto) {
        if (command->send_id && command->number <= from)
            return false;
        went(out, command, has_expired(out, command));
    }
    return true;
}

/* The owner answers each of those that it has had before. */
static void ask_again(struct outbox *out)
{
    uint64_t now_ms = out->session->hub->now_ms;
    if (out->asked_again_ms && now_ms - out->asked_again_ms < ASK_AGAIN_MS)
        return;
    out->asked_again_ms = now_ms;
    take_back(out);
    outbox_pump(out->session);
}

static int compare_expired(const void *a, const void *b)
{
    const struct expired_entry *left = a, *right = b;
    if (left->send_id != right->send_id)
        return left->send_id < right->send_id ? -1 : 1;
    if (left->client.len != right->client.len)
        return left->client.len < right->client.len ? -1 : 1;
    return memcmp(left->client.at, right->client.at, left->client.len);
}

/* Notes those that expired, and returns how many are in entries then, in order. */
static size_t note_all_expired(struct outbox *out, const struct message_items *expired,
                               struct expired_entry *entries)
{
    size_t n = 0;
    for (size_t i = 0; i < expired->len; i++) {
        char client[33] = {0};
        if (!expired_entry_of(&expired->at[i], &entries[n]))
            continue;
        memcpy(client, entries[n].client.at, entries[n].client.len);
        note_expired(out, client, entries[n].send_id, true);
        n++;
    }
    qsort(entries, n, sizeof(*entries), compare_expired);
    return n;
}

/* The owner says so: it does not wait for those before it. They may be more than are remembered, so
 * its word is looked at, and not what is remembered. */
static void drop_expired(struct outbox *out, const struct message_items *expired)
{
    struct expired_entry *entries = expired->len ? calloc(expired->len, sizeof(*entries)) : NULL;
    if (expired->len && !entries)
        abort();
    size_t n = entries ? note_all_expired(out, expired, entries) : 0;
    struct command *command = n ? out->queue.first : NULL, *next;
    for (; command; command = next) {
        next = command->next;
        const struct expired_entry key = {slice_of(command_sender(command)), command->send_id};
        if (command->source->member || !command->send_id ||
            !bsearch(&key, entries, n, sizeof(key), compare_expired))
            continue;
        tell_expired(out, command->source, command_sender(command), command->send_id);
        drop(out, command);
    }
    free(entries);
}

void outbox_on_confirm(struct session *session, const struct confirm_message *confirm)
{
    struct outbox *out = session->outbox;
    out->told_ms = session->hub->now_ms;
    drop_expired(out, &confirm->expired);
    if (!went_after(out, confirm->from, confirm->upto))
        ask_again(out);
    maybe_resume(out);
    if (!out->queue.first)
        out->events->emptied(session);
}

void outbox_on_handback(struct session *session, uint64_t from, uint64_t seen_number)
{
    struct outbox *out = session->outbox;
    if (seen_number && seen_number < out->told_number)
        return; /* what was told since is answered, too, and may go upstream */
    out->told_ms = session->hub->now_ms;
    set_flow(out, FLOW_HANDED_BACK);
    struct command *command = out->queue.first;
    while (command && command->number < from)
        command = command->next;
    out->unsent = command;
    for (; command; command = command->next)
        command->told = false;
    look_at_ttl(out);
}

/* --- from members --- */

void outbox_member_came(struct session *session, const void *member, const char *node)
{
    struct outbox *out = session->outbox;
    outbox_member_gone(session, member);
    outbox_queue_member(&out->queue, member, node);
}

static void forget_confirm(struct outbox *out, const struct source *source)
{
    struct source **at = &out->confirm_due;
    while (*at && *at != source)
        at = &(*at)->next_due;
    if (*at)
        *at = source->next_due;
}

void outbox_member_gone(struct session *session, const void *member)
{
    struct outbox *out = session->outbox;
    struct source *source = outbox_queue_find(&out->queue, member);
    if (!source)
        return;
    forget_confirm(out, source);
    forget_notes(out, source);
    drop_all_of(out, source);
    outbox_queue_forget(&out->queue, source);
}

void outbox_member_confirmed(struct session *session, const void *member, uint64_t number)
{
    struct source *source = outbox_queue_find(&session->outbox->queue, member);
    if (number > source->taken)
        source->taken = source->sent = source->reported = number;
}

uint64_t outbox_member_sent(const struct session *session, const void *member)
{
    return outbox_queue_find(&session->outbox->queue, member)->sent;
}

static void hand_back(struct outbox *out, struct source *source, uint64_t from)
{
    struct session *session = out->session;
    const struct handback_message message = {
        .epoch = session->epoch, .from = from, .seen_number = source->seen};
    struct envelope envelope = handback_encode(&message);
    envelope.session = slice_of(session->id);
    source->taken = from - 1;
    node_tell(session->hub, slice_of(source->node), &envelope);
}

static bool take_one(struct outbox *out, struct source *source, const struct command_entry *told)
{
    struct session *session = out->session;
    char sender[33] = {0};
    if (told->sender.len > 32)
        return false;
    if (told->sender.len)
        memcpy(sender, told->sender.at, told->sender.len);
    struct outbox_message message = {
        .send_id = told->send_id,
        .sender = sender,
        .opcode = told->opcode,
        .payload = told->payload.at,
        .len = told->payload.len,
    };
    if (out->events->way(session) != OUTBOX_UPSTREAM ||
        !outbox_queue_has_room(&out->queue, &message, session->service->to_upstream.queue_bytes))
        return false;
    struct command *command = command_new(&message);
    if (!command)
        return false;
    command->number = source->taken = told->number;
    command->ttl_at_ms = told->ttl_ms ? session->hub->now_ms + told->ttl_ms : 0;
    append(out, source, command);
    return true;
}

static void take_expired(struct outbox *out, const struct envelope_item *item)
{
    struct expired_entry expired;
    char client[33] = {0};
    if (!expired_entry_of(item, &expired))
        return;
    memcpy(client, expired.client.at, expired.client.len);
    note_expired(out, client, expired.send_id, true);
}

/* Of this node's epoch. */
static void send_confirm(const struct outbox *out, const struct source *source,
                         const struct confirm_message *message)
{
    struct confirm_message current = *message;
    current.epoch = out->session->epoch;
    struct envelope confirm = confirm_encode(&current);
    confirm.session = slice_of(out->session->id);
    node_tell(out->session->hub, slice_of(source->node), &confirm);
}

/* What is said of messages that have come before: their confirmation was lost or is still to come.
 */
struct repeat {
    uint64_t from, upto;
    size_t n;
    struct envelope_item expired[TELL_COUNT];
};

static void confirm_repeat(const struct outbox *out, const struct source *source,
                           struct repeat *repeat)
{
    if (!repeat->upto)
        return;
    send_confirm(out, source,
                 &(struct confirm_message){
                     .from = repeat->from,
                     .upto = repeat->upto < source->sent ? repeat->upto : source->sent,
                     .expired = {repeat->expired, repeat->n},
                 });
    repeat->from = repeat->upto;
    repeat->upto = 0;
    repeat->n = 0;
}

static void note_repeat(const struct outbox *out, const struct source *source,
                        struct repeat *repeat, const struct command_entry *told)
{
    char client[33] = {0};
    metric_drop(DROP_DUPLICATE, 1);
    if (!repeat->upto)
        repeat->from = told->number - 1;
    repeat->upto = told->number;
    if (!told->send_id || !told->sender.len || told->sender.len > 32)
        return;
    memcpy(client, told->sender.at, told->sender.len);
    if (never_goes(out, client, told->send_id))
        repeat->expired[repeat->n++] = expired_item(
            &(struct expired_entry){told->sender, told->send_id});
    if (repeat->n == TELL_COUNT)
        confirm_repeat(out, source, repeat);
}

void outbox_take(struct session *session, const void *member, uint64_t seen,
                 const struct message_items *commands)
{
    struct outbox *out = session->outbox;
    struct source *source = outbox_queue_find(&out->queue, member);
    struct repeat repeat = {0};
    source->seen = seen;
    for (size_t i = 0; i < commands->len; i++) {
        struct command_entry told;
        take_expired(out, &commands->at[i]);
        if (!command_entry_of(&commands->at[i], &told))
            continue;
        if (told.number <= source->taken) {
            note_repeat(out, source, &repeat, &told);
            continue;
        }
        if (told.after > source->taken || !take_one(out, source, &told)) {
            hand_back(out, source, source->taken + 1);
            out->turned_away = true;
            break;
        }
    }
    confirm_repeat(out, source, &repeat);
    session_mark_dirty(session);
    outbox_pump(session);
}

void outbox_owner_changed(struct session *session)
{
    struct outbox *out = session->outbox;
    struct command *command;
    for (command = out->queue.first; command; command = command->next)
        command->told = false;
    set_flow(out, FLOW_OPEN);
    take_back(out);
    look_at_ttl(out);
}

void outbox_link_writable(struct session *session)
{
    set_flow(session->outbox, FLOW_OPEN);
    outbox_pump(session);
}

void outbox_link_down(struct session *session)
{
    struct outbox *out = session->outbox;
    struct source *source, *next;
    set_flow(out, FLOW_OPEN);
    HASH_ITER (hh, out->queue.sources, source, next) {
        if (!source->member || !source->first)
            continue;
        uint64_t first = source->first->number;
        drop_all_of(out, source);
        hand_back(out, source, first);
    }
}

/* Goes on from the last report. */
static void report(const struct outbox *out, struct source *source, uint64_t upto,
                   const struct envelope_item *items, size_t n)
{
    const struct confirm_message message = {
        .from = source->reported, .upto = upto, .expired = {items, n}};
    send_confirm(out, source, &message);
    source->reported = upto;
}

/* Where it stands, and its SENDs that expired. Where one message does not hold them all, each goes
 * as far as it names them: what the member hears to have gone but for those, it acknowledges. */
static void tell_confirm(struct outbox *out, struct source *source)
{
    struct envelope_item items[TELL_COUNT];
    struct expired_note *note;
    uint64_t upto = 0;
    size_t n = 0;
    DL_FOREACH (out->expired, note) {
        if (note->source != source)
            continue;
        if (n == TELL_COUNT) {
            report(out, source, upto, items, n);
            n = 0;
        }
        upto = note->upto;
        items[n++] = expired_item(&(struct expired_entry){slice_of(note->client), note->id});
    }
    report(out, source, source->sent, items, n);
    forget_notes(out, source);
}

void outbox_flush(struct session *session)
{
    struct outbox *out = session->outbox;
    if (out->sends.untold && out->events->way(session) == OUTBOX_OWNER &&
        !(out->unsent && out->flow == FLOW_OPEN)) {
        struct command *unsent = out->unsent;
        out->unsent = NULL;
        tell_owner(out);
        out->unsent = unsent;
    }
    while (out->unsent && out->flow == FLOW_OPEN && out->events->way(session) == OUTBOX_OWNER)
        tell_owner(out);
    while (out->confirm_due) {
        struct source *source = out->confirm_due;
        out->confirm_due = source->next_due;
        source->confirm_due = false;
        tell_confirm(out, source);
    }
}

/* --- last SENDs --- */

bool outbox_settled(const struct session *session, const char *client, uint64_t id)
{
    const struct last_sends *sends = &session->outbox->sends;
    return last_sends_covers(sends, client, id) || last_sends_may_have_expired(sends, client, id);
}

void outbox_note_send(struct session *session, const char *client, uint64_t id)
{
    last_sends_note(&session->outbox->sends, session->hub->now_ms, client, id);
}

size_t outbox_sends_len(const struct session *session)
{
    return last_sends_len(&session->outbox->sends);
}

void outbox_note_expired(struct session *session, const char *client, uint64_t id)
{
    note_expired(session->outbox, client, id, true);
}

size_t outbox_sends(const struct session *session, uint64_t younger_ms, struct envelope_item *items,
                    size_t max)
{
    const struct hub *hub = session->hub;
    size_t len = outbox_sends_len(session), skip = len > max ? len - max : 0, n = 0;
    uint64_t unix_ms = node_unix_ms(hub);
    const struct last_send *send = session->outbox->sends.by_client;
    for (; send; send = send->hh.next) {
        uint64_t age_ms = hub->now_ms - send->at_ms;
        const struct slice client = slice_of(send->client);
        for (size_t i = 0; i <= send->expired_len; i++) {
            if (skip)
                skip--;
            else if (age_ms >= younger_ms)
                break;
            else if (i < send->expired_len)
                items[n++] = expired_item(&(struct expired_entry){client, send->expired[i].id});
            else if (send->id)
                items[n++] = send_item(&(struct send_entry){client, send->id, unix_ms - age_ms});
        }
    }
    return n;
}

void outbox_check(const struct session *session)
{
    const struct outbox *out = session->outbox;
    outbox_queue_check(&out->queue);
    bool unsent = false;
    for (const struct command *command = out->queue.first; command; command = command->next)
        unsent = unsent || command == out->unsent;
    assert(unsent == (out->unsent != NULL));
    assert(!out->queue.first || timer_armed(&out->timer));
    assert(out->sends.untold <= out->sends.expired);
}
