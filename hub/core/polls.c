#include "core/polls.h"

#include <stdio.h>
#include <stdlib.h>

#include "core/node/node.h"
#include "core/node/peers.h"

#define NODES_MAX 1000u

struct polled {
    char node[CONF_NAME_MAX + 1];
    uint64_t tag; /* of the call that sent it the question */
    bool over;    /* it has answered, or does not listen */
    bool missing;
};

struct poll {
    struct hub *hub;
    uint64_t number;
    const struct poll_events *events;
    void *ctx;
    struct timer timer;
    uint8_t *question; /* encoded, until it is asked; then NULL */
    size_t question_len;
    size_t waiting, len;
    struct polled *nodes;
    struct poll *next;
};

bool polls_have_room(const struct hub *hub)
{
    size_t len = 0;
    for (const struct poll *poll = hub->polls; poll; poll = poll->next)
        len++;
    return len < POLLS_MAX;
}

static void take_out(struct poll *poll)
{
    struct poll **at = &poll->hub->polls;
    while (*at != poll)
        at = &(*at)->next;
    *at = poll->next;
    timer_stop(&poll->hub->timers, &poll->timer);
}

/* Those that were asked and did not answer; where the time was up before anybody could be asked,
 * all that are known. */
static size_t missing_of(const struct poll *poll, const char **out)
{
    size_t len = 0;
    if (poll->question)
        return peers_alive(poll->hub, out, peers_alive(poll->hub, NULL, 0));
    for (size_t i = 0; i < poll->len; i++)
        if (!poll->nodes[i].over || poll->nodes[i].missing)
            out[len++] = poll->nodes[i].node;
    return len;
}

static void end(struct poll *poll)
{
    take_out(poll);
    size_t most = poll->len + peers_alive(poll->hub, NULL, 0);
    const char **missing = calloc(most + 1, sizeof(*missing));
    if (!missing)
        abort();
    size_t len = missing_of(poll, missing);
    poll->events->on_over(poll->ctx, missing, len);
    free(missing);
    free(poll->nodes);
    free(poll->question);
    free(poll);
}

static void on_timer(struct timer *timer, uint64_t now_ms)
{
    (void)now_ms;
    end(CONTAINER_OF(timer, struct poll, timer));
}

/* The end is reported in a later turn: the caller may still be asking, or be in the middle of a
 * walk. */
static void end_where_all_are_over(struct poll *poll)
{
    if (!poll->waiting)
        timer_start(&poll->hub->timers, &poll->timer, poll->hub->now_ms, on_timer);
}

static void ask_one(struct poll *poll, const char *node, const struct envelope *question)
{
    struct hub *hub = poll->hub;
    if (!peer_is_name(slice_of(node)) || node_is_self(hub, slice_of(node)))
        return;
    struct polled *polled = &poll->nodes[poll->len++];
    snprintf(polled->node, sizeof(polled->node), "%s", node);
    polled->tag = hub_tag(hub);
    poll->waiting++;
    hub->bus->ops->send(hub->bus, node, question, polled->tag);
}

static void ask(struct poll *poll, const char *const *nodes, size_t len)
{
    struct envelope question;
    struct envelope_item *items = NULL;
    if (envelope_decode(poll->question, poll->question_len, &question, &items) != STATUS_OK)
        abort(); /* it was encoded here */
    poll->nodes = calloc(len + 1, sizeof(*poll->nodes));
    if (!poll->nodes)
        abort();
    for (size_t i = 0; i < len; i++)
        ask_one(poll, nodes[i], &question);
    free(items);
    free(poll->question);
    poll->question = NULL;
    end_where_all_are_over(poll);
}

/* A node without a record is dead, or has not registered yet. */
static size_t listed(const struct bus_row *rows, size_t len, const char **nodes)
{
    size_t n = 0;
    for (size_t i = 0; i < len; i++)
        if (rows[i].fields_len > 1)
            nodes[n++] = rows[i].id;
    return n;
}

/* This list serves everybody who waits for one: it is a moment old at most. */
static void on_nodes(void *ctx, enum status status, const struct bus_row *rows, size_t len,
                     const char *next)
{
    struct hub *hub = ctx;
    (void)next;
    if (!hub->polls)
        return;
    size_t most = status == STATUS_OK ? len : peers_alive(hub, NULL, 0);
    const char **nodes = calloc(most + 1, sizeof(*nodes));
    if (!nodes)
        abort();
    size_t n = status == STATUS_OK ? listed(rows, len, nodes) : peers_alive(hub, nodes, most);
    for (struct poll *poll = hub->polls; poll; poll = poll->next)
        if (poll->question)
            ask(poll, nodes, n);
    free(nodes);
}

void poll_start(struct hub *hub, struct envelope *question, uint64_t timeout_ms,
                const struct poll_events *events, void *ctx)
{
    struct poll *poll = calloc(1, sizeof(*poll));
    if (!poll)
        abort();
    poll->hub = hub;
    poll->number = question->number = hub_tag(hub);
    poll->events = events;
    poll->ctx = ctx;
    poll->next = hub->polls;
    hub->polls = poll;
    timer_start(&hub->timers, &poll->timer, hub->now_ms + timeout_ms, on_timer);
    question->node = slice_of(hub->id);
    question->life = hub->setup.life;
    if (!hub->bus->shared) {
        end_where_all_are_over(poll);
        return;
    }
    if (envelope_encode(question, &poll->question, &poll->question_len) != STATUS_OK)
        abort();
    hub->bus->ops->list(hub->bus, BUS_LIST_NODES, NULL, NODES_MAX, on_nodes, hub);
}

void polls_on_answer(struct hub *hub, const struct envelope *answer)
{
    struct poll *poll = hub->polls;
    while (poll && poll->number != answer->number)
        poll = poll->next;
    for (size_t i = 0; poll && i < poll->len; i++) {
        struct polled *polled = &poll->nodes[i];
        if (polled->over || !slice_equals(slice_of(polled->node), answer->node))
            continue;
        polled->over = true;
        poll->waiting--;
        if (poll->events->on_answer)
            poll->events->on_answer(poll->ctx, answer->node, answer);
        end_where_all_are_over(poll);
        return;
    }
}

void polls_on_sent(struct hub *hub, uint64_t tag, enum status status)
{
    for (struct poll *poll = hub->polls; poll && status != STATUS_OK; poll = poll->next) {
        for (size_t i = 0; i < poll->len; i++) {
            struct polled *polled = &poll->nodes[i];
            if (polled->tag != tag || polled->over)
                continue;
            polled->over = polled->missing = true;
            poll->waiting--;
            end_where_all_are_over(poll);
            return;
        }
    }
}

void polls_free_all(struct hub *hub)
{
    while (hub->polls)
        end(hub->polls);
}
