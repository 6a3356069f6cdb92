#include "bus/redis_topology.h"

#include <hiredis/hiredis.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bus/redis_cluster.h"
#include "bus/redis_link.h"
#include "common/log.h"

/*
 * --- Sentinels ---
 *
 * Asks the Sentinels for the address of the primary, once a second and after each failure.
 *
 * Two Sentinels must name the same primary: a single one may be cut off from the others, or may not
 * know of the latest fail-over. The Sentinels of the URL are asked, and those that they name. The
 * answer of one is enough only if it is the only known one; known are those of the URL, and others
 * that have answered once.
 */

/* Called with the primary each time the Sentinels agree. */
typedef void sentinel_primary_fn(void *ctx, const char *host, uint16_t port);

#define ASK_EVERY_MS 1000
#define ASKED_MAX    (2 * REDIS_HOSTS_MAX) /* those of the URL and those that they name */
/* Failed attempts to connect, then a Sentinel that is not of the URL is given up: other Sentinels
 * may know it by an address of another network. */
#define ATTEMPTS_MAX 3

/* The questions of each round, answered in this order. */
enum topology_question { ASK_PRIMARY, ASK_OTHERS, ASK_ID, QUESTIONS };

/* One Sentinel, and its latest answer. */
struct topology_answer {
    struct redis_sentinel *all;
    struct redis_link *link;
    struct loop_timer *timer;    /* the next round, or the deadline of this one */
    bool configured;             /* the URL names it */
    unsigned failures;           /* failed attempts before its first answer */
    bool answered;               /* a whole round, at least once */
    bool waiting;                /* for the answers of a round */
    enum topology_question next; /* the question whose answer comes next */
    char id[64];                 /* its own id, or "host:port" if it does not report one */
    char host[256];              /* the primary that it names; "": none, or it is not connected */
    uint16_t port;
};

struct redis_sentinel {
    struct redis_link_options link; /* options of each link */
    struct redis_url own;           /* user and password of the Sentinels, no database */
    const struct redis_url *url;
    sentinel_primary_fn *on_primary;
    void *ctx;
    struct topology_answer asked[ASKED_MAX];
    size_t len;
    char host[256]; /* the primary that was agreed upon; "": none yet */
    uint16_t port;
    bool settled; /* that primary is connected */
    struct redis_fault fault;
};

/* --- what they say together --- */

/* One Sentinel may be known under several addresses: only the first with its id counts. */
static bool is_first_of_its_id(const struct redis_sentinel *s, const struct topology_answer *asked)
{
    for (const struct topology_answer *a = s->asked; a < asked; a++) {
        if (a->answered && strcmp(a->id, asked->id) == 0 && a->host[0] != '\0')
            return false;
    }
    return true;
}

static bool names(const struct topology_answer *asked, const char *host, uint16_t port)
{
    return asked->host[0] != '\0' && asked->port == port && strcmp(asked->host, host) == 0;
}

static size_t votes_for(const struct redis_sentinel *s, const char *host, uint16_t port)
{
    size_t votes = 0;
    for (size_t i = 0; i < s->len; i++)
        votes += names(&s->asked[i], host, port) && is_first_of_its_id(s, &s->asked[i]);
    return votes;
}

/* How many Sentinels are known. pending: one of them has neither answered nor failed yet. */
static size_t count_known(const struct redis_sentinel *s, bool *pending)
{
    size_t known = 0;
    *pending = false;
    for (size_t i = 0; i < s->len; i++) {
        const struct topology_answer *a = &s->asked[i];
        bool same = false;
        for (size_t other = 0; other < i && a->answered; other++)
            same = same || (s->asked[other].answered && strcmp(s->asked[other].id, a->id) == 0);
        known += (a->configured || a->answered) && !same;
        *pending = *pending || (!a->answered && a->failures == 0);
    }
    return known;
}

static void doubt(struct redis_sentinel *s, size_t known)
{
    char text[REDIS_WHY_BYTES] = "";
    const struct topology_answer *said = NULL;
    for (size_t i = 0; i < s->len && !said; i++) {
        if (s->asked[i].host[0] != '\0')
            said = &s->asked[i];
        else if (text[0] == '\0')
            snprintf(text, sizeof(text), "%s", redis_link_why(s->asked[i].link));
    }
    if (said) {
        snprintf(text, sizeof(text),
                 "only Sentinel %.60s:%u names %.60s:%u as the primary, expected two of %zu",
                 redis_link_host(said->link), redis_link_port(said->link), said->host, said->port,
                 known);
        log_warn_cause("sentinels_disagree", LOG_STR("reason", text));
    }
    if (!s->settled && text[0] != '\0')
        redis_fault_set(s->link.trouble, &s->fault, text);
}

/* Takes the primary that most Sentinels name; on a tie the present one stays. */
static void judge(struct redis_sentinel *s)
{
    bool pending;
    size_t known = count_known(s, &pending), best_votes = votes_for(s, s->host, s->port);
    const struct topology_answer *best = NULL;
    for (size_t i = 0; i < s->len; i++) {
        size_t votes = votes_for(s, s->asked[i].host, s->asked[i].port);
        if (votes <= best_votes)
            continue;
        best = &s->asked[i];
        best_votes = votes;
    }
    size_t needed = known > 1 ? 2 : 1;
    if (best_votes < needed || (needed == 1 && pending)) {
        if (!pending)
            doubt(s, known);
        return;
    }
    if (best) {
        snprintf(s->host, sizeof(s->host), "%s", best->host);
        s->port = best->port;
    }
    redis_fault_clear(s->link.trouble, &s->fault);
    s->on_primary(s->ctx, s->host, s->port);
}

/* --- one Sentinel --- */

static void ask(struct topology_answer *a)
{
    static const char *const words[QUESTIONS] = {"GET-MASTER-ADDR-BY-NAME", "SENTINELS", "MYID"};
    struct redis_request request = {0};
    if (a->waiting || !redis_link_up(a->link))
        return;
    for (enum topology_question question = ASK_PRIMARY; question < QUESTIONS; question++) {
        redis_request_begin(&request, question == ASK_ID ? 2 : 3);
        redis_request_text(&request, "SENTINEL");
        redis_request_text(&request, words[question]);
        if (question != ASK_ID)
            redis_request_text(&request, a->all->url->master);
    }
    redis_output_append(redis_link_output(a->link), &request);
    redis_request_fini(&request);
    a->waiting = true;
    a->next = ASK_PRIMARY;
    loop_timer_start(a->timer, a->all->link.deadline_ms);
    redis_link_flush(a->link);
}

static void on_timer(void *ctx)
{
    struct topology_answer *a = ctx;
    if (a->waiting)
        redis_link_cut(a->link, "no answer in time");
    else
        ask(a);
}

static void on_up(void *ctx)
{
    ask(ctx);
}

static void on_down(void *ctx)
{
    struct topology_answer *a = ctx;
    a->waiting = false;
    a->host[0] = '\0';
    loop_timer_stop(a->timer);
}

static void on_failed(void *ctx)
{
    struct topology_answer *a = ctx;
    if (!a->answered && ++a->failures >= ATTEMPTS_MAX && !a->configured)
        redis_link_stop(a->link);
    judge(a->all);
}

static const char *text_at(const struct redisReply *list, size_t index)
{
    bool there = list->type == REDIS_REPLY_ARRAY && index < list->elements &&
                 list->element[index]->type == REDIS_REPLY_STRING;
    return there ? list->element[index]->str : "";
}

static uint16_t port_of(const char *text)
{
    unsigned long port = strtoul(text, NULL, 10);
    return port <= UINT16_MAX ? (uint16_t)port : 0;
}

static void add(struct redis_sentinel *s, const char *host, uint16_t port, bool configured);

/* A list of Sentinels, each a list of names and values. */
static void learn(struct redis_sentinel *s, const struct redisReply *others)
{
    for (size_t i = 0; others->type == REDIS_REPLY_ARRAY && i < others->elements; i++) {
        const struct redisReply *one = others->element[i];
        const char *host = "";
        uint16_t port = 0;
        for (size_t at = 0; one->type == REDIS_REPLY_ARRAY && at + 1 < one->elements; at += 2) {
            if (strcmp(text_at(one, at), "ip") == 0)
                host = text_at(one, at + 1);
            else if (strcmp(text_at(one, at), "port") == 0)
                port = port_of(text_at(one, at + 1));
        }
        if (host[0] != '\0' && port > 0)
            add(s, host, port, false);
    }
}

static void take_primary(struct topology_answer *a, const struct redisReply *reply)
{
    a->port = port_of(text_at(reply, 1));
    snprintf(a->host, sizeof(a->host), "%s", a->port > 0 ? text_at(reply, 0) : "");
}

static void take_id(struct topology_answer *a, const struct redisReply *reply)
{
    /* Sentinels before 6.2 do not know MYID: the id stays "host:port". */
    if (reply->type == REDIS_REPLY_STRING && reply->str[0] != '\0')
        snprintf(a->id, sizeof(a->id), "%s", reply->str);
    a->waiting = false;
    a->answered = true;
    loop_timer_start(a->timer, ASK_EVERY_MS);
    if (a->host[0] != '\0')
        judge(a->all);
}

/* Whether the reply says why this Sentinel is of no use. */
static bool is_refusal(const struct topology_answer *a, const struct redisReply *reply, char *why)
{
    if (a->next != ASK_PRIMARY)
        return false;
    if (reply->type == REDIS_REPLY_ERROR)
        redis_quote(&a->all->own, reply->str, why);
    else if (text_at(reply, 1)[0] == '\0')
        snprintf(why, REDIS_WHY_BYTES, "this Sentinel does not know a primary named %.100s",
                 a->all->url->master);
    return why[0] != '\0';
}

static void on_reply(void *ctx, struct redisReply *reply)
{
    struct topology_answer *a = ctx;
    char why[REDIS_WHY_BYTES] = "";
    if (!a->waiting || is_refusal(a, reply, why)) {
        redis_link_cut(a->link, a->waiting ? why : "unexpected reply: no command waits for one");
    } else {
        switch (a->next++) {
        case ASK_PRIMARY: take_primary(a, reply); break;
        case ASK_OTHERS: learn(a->all, reply); break;
        case ASK_ID: take_id(a, reply); break;
        case QUESTIONS: break;
        }
    }
    freeReplyObject(reply);
}

static const struct redis_link_events sentinel_events = {
    .on_up = on_up, .on_down = on_down, .on_reply = on_reply, .on_failed = on_failed};

static void add(struct redis_sentinel *s, const char *host, uint16_t port, bool configured)
{
    for (size_t i = 0; i < s->len; i++) {
        if (redis_link_port(s->asked[i].link) == port &&
            strcmp(redis_link_host(s->asked[i].link), host) == 0)
            return;
    }
    if (s->len == ASKED_MAX)
        return;
    struct topology_answer *a = &s->asked[s->len++];
    struct redis_link_options options = s->link;
    options.trouble = NULL; /* trouble with one Sentinel is no reason why Redis can't be used */
    a->all = s;
    a->configured = configured;
    snprintf(a->id, sizeof(a->id), "%.55s:%u", host, port);
    a->link = redis_link_new(&options, &sentinel_events, a);
    a->timer = loop_timer_new(s->link.loop, "redis_topology", on_timer, a);
    redis_link_target(a->link, host, port);
    redis_link_start(a->link);
}

/* link has loop, url, tls, deadline and trouble. own: user and password of the Sentinels; if it has
 * none, a Sentinel that requires a password gets those of the URL. Starts at once. */
static struct redis_sentinel *sentinel_new(const struct redis_link_options *link,
                                           const struct redis_url *own,
                                           sentinel_primary_fn *on_primary, void *ctx)
{
    struct redis_sentinel *s = redis_claim_memory(1, sizeof(*s));
    s->url = link->url;
    s->own = *own;
    s->on_primary = on_primary;
    s->ctx = ctx;
    s->link = *link;
    s->link.url = &s->own;
    s->link.fallback = own->password[0] == '\0' ? link->url : NULL;
    s->link.name = "sentinel";
    for (size_t i = 0; i < s->url->hosts_len; i++)
        add(s, s->url->hosts[i].name, s->url->hosts[i].port, true);
    return s;
}

static void sentinel_free(struct redis_sentinel *s)
{
    if (!s)
        return;
    redis_fault_clear(s->link.trouble, &s->fault);
    for (size_t i = 0; i < s->len; i++) {
        redis_link_free(s->asked[i].link);
        loop_timer_free(s->asked[i].timer);
    }
    free(s);
}

/* The primary does not answer: asks now instead of at the next interval. */
static void sentinel_ask(struct redis_sentinel *s)
{
    s->settled = false;
    for (size_t i = 0; i < s->len; i++)
        ask(&s->asked[i]);
}

/* The primary is connected: trouble with Sentinels does not matter now. */
static void sentinel_settle(struct redis_sentinel *s)
{
    s->settled = true;
    redis_fault_clear(s->link.trouble, &s->fault);
}

/* --- topology --- */

struct redis_topology {
    const struct redis_setup *setup;
    const struct redis_topology_events *events;
    void *ctx;
    struct redis_cluster *cluster;   /* NULL: there is one primary */
    struct redis_primary *primary;   /* NULL: a cluster */
    struct redis_sentinel *sentinel; /* NULL: the URL names the primary itself */
};

static void on_primary_open(void *ctx, struct redis_primary *primary)
{
    (void)primary;
    struct redis_topology *t = ctx;
    if (t->sentinel)
        sentinel_settle(t->sentinel);
    t->events->on_open(t->ctx);
}

static void on_primary_closed(void *ctx, struct redis_primary *primary)
{
    (void)primary;
    struct redis_topology *t = ctx;
    t->events->on_closed(t->ctx);
}

static void on_primary_failed(void *ctx, struct redis_primary *primary)
{
    (void)primary;
    struct redis_topology *t = ctx;
    if (t->sentinel)
        sentinel_ask(t->sentinel);
}

static const struct redis_primary_events primary_events = {
    .on_open = on_primary_open, .on_closed = on_primary_closed, .on_failed = on_primary_failed};

static void on_primary(void *ctx, const char *host, uint16_t port)
{
    struct redis_topology *t = ctx;
    redis_primary_place(t->primary, host, port);
}

static void start(struct redis_topology *t)
{
    const struct redis_setup *setup = t->setup;
    const struct redis_link_options link = {.loop = setup->loop,
                                            .url = setup->url,
                                            .tls = setup->tls,
                                            .deadline_ms = setup->deadline_ms,
                                            .trouble = setup->trouble};
    if (setup->url->shape == REDIS_SENTINEL)
        t->sentinel = sentinel_new(&link, setup->sentinel, on_primary, t);
    else
        redis_primary_place(t->primary, setup->url->hosts[0].name, setup->url->hosts[0].port);
}

struct redis_topology *redis_topology_new(const struct redis_setup *setup, const char *inbox,
                                          const struct redis_topology_events *events, void *ctx)
{
    struct redis_topology *t = redis_claim_memory(1, sizeof(*t));
    t->setup = setup;
    t->events = events;
    t->ctx = ctx;
    if (setup->url->shape == REDIS_CLUSTER) {
        t->cluster = redis_cluster_new(setup, inbox, events, ctx);
        return t;
    }
    t->primary = redis_primary_new(setup, &primary_events, t);
    redis_primary_probe(t->primary, inbox);
    start(t);
    return t;
}

void redis_topology_free(struct redis_topology *t)
{
    sentinel_free(t->sentinel);
    if (t->cluster)
        redis_cluster_free(t->cluster);
    else
        redis_primary_free(t->primary);
    free(t);
}

void redis_topology_send(struct redis_topology *t, struct redis_op *op, const char *key)
{
    if (t->cluster)
        redis_cluster_send(t->cluster, op, key);
    else
        redis_primary_send(t->primary, op);
}

bool redis_topology_keeps_order(const struct redis_topology *t)
{
    return !t->cluster && redis_primary_is_sole(t->primary);
}

size_t redis_topology_credit(struct redis_topology *t, const char *key)
{
    return t->cluster ? redis_cluster_credit(t->cluster, key) : redis_primary_credit(t->primary);
}

bool redis_topology_has_credit_again(struct redis_topology *t)
{
    return t->cluster ? redis_cluster_has_credit_again(t->cluster)
                      : redis_primary_has_credit_again(t->primary);
}

void redis_topology_subscribe(struct redis_topology *t, const char *channel)
{
    if (t->cluster)
        redis_cluster_subscribe(t->cluster, channel);
    else
        redis_primary_subscribe(t->primary, channel);
}

void redis_topology_unsubscribe(struct redis_topology *t, const char *channel)
{
    if (t->cluster)
        redis_cluster_unsubscribe(t->cluster, channel);
    else
        redis_primary_unsubscribe(t->primary, channel);
}

uint64_t redis_topology_heard_ms(const struct redis_topology *t)
{
    return t->cluster ? redis_cluster_heard_ms(t->cluster) : redis_primary_heard_ms(t->primary);
}

void redis_topology_flush(struct redis_topology *t)
{
    if (t->cluster)
        redis_cluster_flush(t->cluster);
    else
        redis_primary_flush(t->primary);
}
