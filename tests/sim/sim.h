/*
 * A cluster in one process on virtual time: nodes of the real core, a store that behaves like
 * Redis, links that delay, lose and break, backends and browsers. After every step the safety
 * properties of contract section 9 are checked.
 *
 * Everything random comes from one seed: a history replays exactly from it.
 */
#ifndef VINHUB_TESTS_SIM_H
#define VINHUB_TESTS_SIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bus/bus.h"
#include "bus/bus_memory_record.h"
#include "common/conf.h"
#include "common/rng.h"
#include "common/timer.h"
#include "core/hub.h"

#define NODES    3
#define SESSIONS 3
#define SESSIONS_MAX \
    1000 /* those of crowds behind them, each `svc:vN`; of them less is looked after */
#define CLIENTS 12
#define PAGES   3 /* of the clients, those with several sessions */
#define EPOCHS  4096

#define ROSTER_NAME 16
#define ROSTER_MAX  768
#define ROSTERS     16
#define SENDS       24 /* of a page, that are looked after */

#define ROLL_CALL_US 25000000u /* 20 leases, and what follows from it */

struct world;
struct sim_node;
struct sim_client;

typedef void event_fn(void *ctx);

/* A request of a node to the store, and its answer. */
enum request_kind {
    REQUEST_RENEW,
    REQUEST_SIGN_OFF,
    REQUEST_SUBSCRIBE,
    REQUEST_UNSUBSCRIBE,
    REQUEST_CLAIM,
    REQUEST_RELEASE,
    REQUEST_TRANSFER,
    REQUEST_ASSERT,
    REQUEST_PUBLISH,
    REQUEST_HISTORY,
    REQUEST_TELL,
    REQUEST_SHOUT,
    REQUEST_LIST,
    REQUEST_PROBE
};

struct sim_request {
    unsigned refs;
    enum request_kind kind;
    struct sim_node *node;
    unsigned link; /* generation of the command link it went over */
    char session[128];
    uint64_t tag, epoch, score;
    char other[CONF_NAME_MAX + 1]; /* dead owner, successor, addressee, `after` */
    uint64_t dead_epoch, seen_epoch;
    bool holds;
    unsigned how; /* of enum bus_publish */
    bool behind;  /* another session in the same call */
    struct publication **publications;
    size_t publications_len;
    uint32_t history_size;
    struct position after;
    size_t limit;
    uint8_t *bytes;
    size_t bytes_len;
    enum bus_listing listing;
    bus_rows_fn *rows;
    void *rows_ctx;
    /* answer */
    enum status status;
    char owner[CONF_NAME_MAX + 1];
    uint64_t answer_epoch;
    bool present, more;
    struct position oldest;
    struct bus_node nodes[NODES];
    char node_ids[NODES][CONF_NAME_MAX + 1];
    size_t nodes_len;
    struct sim_request *next;                /* unanswered, in order */
    struct sim_request *all_prev, *all_next; /* of the world */
};

struct record {
    struct memory_record own;
    struct memory_history history;
};

struct store {
    bool up;
    uint64_t started_us;
    struct record records[SESSIONS_MAX];
    struct {
        char id[CONF_NAME_MAX + 1];
        uint64_t score;
    } nodes[NODES];
    bool subscribed[NODES][SESSIONS_MAX];
    bool inbox[NODES];
};

struct sim_bus {
    struct bus bus;
    struct sim_node *node;
    struct sim_request *outgoing; /* of this turn */
    struct sim_request **outgoing_end;
    struct sim_request *unanswered;
    struct sim_request **unanswered_end;
    bool connected; /* command link, as the node believes */
    bool link_up;   /* as it is */
    unsigned generation;
    uint64_t to_store_us;   /* latest delivery: links keep order */
    uint64_t from_store_us; /* no answer comes before */
    /* Of the answers on each session, and of others, at their own pace */
    uint64_t answered_us[SESSIONS_MAX + 1];
    bool sub_up, deaf;
    unsigned sub_generation;
    uint64_t sub_us;
    bool wants[SESSIONS_MAX]; /* subscriptions the node asked for */
    uint64_t heard_ms;
};

struct waiting_event {
    event_fn *fn;
    void *ctx;
    unsigned life;
    struct waiting_event *next;
};

/* A roster that its owner told a node. */
struct heard_roster {
    uint64_t epoch, hash;
};

struct sim_node {
    struct world *world;
    int index;
    char id[16];
    bool alive, paused, stopping;
    unsigned life; /* counts crashes: events of an old life are void */
    struct hub *hub;
    struct sim_bus *bus;
    int64_t clock_offset_us;
    int64_t stops_us; /* for so long, when it next looks at the clock in the middle of a turn */
    int32_t drift_ppm;
    bool flush_due;
    unsigned work; /* of this turn (node_works) */
    struct timer wake;
    struct waiting_event *pile, **pile_end; /* what came while it was paused */
    bool cut;                               /* from the store, both links */
    bool unheard;                           /* no new connection for subscriptions for now */
    struct heard_roster rosters[SESSIONS][ROSTERS]; /* the last ones, in turn */
    uint64_t rosters_len[SESSIONS];
};

enum sim_upstream_state { SIM_OPENING, SIM_OPEN, SIM_CLOSING, SIM_OVER };

struct upstream {
    struct world *world;
    struct sim_node *node;
    unsigned life;
    struct session *session;
    int backend;
    enum sim_upstream_state state;
    uint64_t number; /* of pushes over it */
    uint64_t order_us;
    struct upstream *next;
};

/* A SEND of a page. */
struct sim_send {
    uint64_t id; /* 0: none */
    int session;
    uint32_t ttl_ms;     /* 0: none */
    uint64_t said_us;    /* last */
    bool asked;          /* on this connection, and not answered yet */
    bool lost;           /* with a connection, before it was answered */
    bool acked, expired; /* how it was answered, on that connection */
    unsigned connection;
    const struct upstream *went; /* the last upstream that took it; NULL: none */
};

struct sim_client {
    struct client client; /* first: the core's pointer is ours */
    struct world *world;
    struct sim_node *node;
    int session;
    bool open, protocol, closing;
    bool one_way;    /* an event stream */
    int page;        /* it follows several sessions: pages.c; 0: it does not */
    bool alone;      /* a page that came without a session of its own */
    bool asked;      /* what a page follows: it has asked for it on this connection, */
    bool leaving;    /* and now to leave it */
    unsigned rate;   /* it asks for so many MESSAGEs a second; 0: all */
    uint64_t got_us; /* when it got the last, with a rate; 0: none yet */
    unsigned life, connection;
    bool busy; /* its socket takes nothing for now */
    bool welcomed, resumed;
    uint64_t welcomed_us;
    struct position at;
    bool has_token;
    struct position token;
    char id[40];             /* as WELCOME says */
    uint64_t acked, expired; /* the last SEND of which that was told; and how often the latter */
    unsigned expirations;
    unsigned replay;       /* it asks for so many, where it has no position to resume at */
    struct position begun; /* WELCOME's */
    unsigned got;          /* MESSAGEs on this connection */
    bool down;             /* the last STATUS says so */
    unsigned closed_with;  /* the code, where the hub has closed it */
    /* Messages of this connection: sent; the last number that the backend got; how many it got */
    uint64_t said, heard, arrived;
    char last_marker[32];
    struct sim_send sends[SENDS]; /* of a page, by their ids in turn */
    uint64_t sends_len;
    bool late; /* what it gets next may have waited for its socket */
    /* Who watches, as it was told last, when, and the newest epoch of such a word */
    char roster[ROSTER_MAX];
    uint64_t roster_us, roster_epoch;
};

/* What a broken connection still carried, per node: a beginning of it arrives, in order. */
struct late {
    unsigned life, generation;
    uint64_t at_us;
    bool lost;
};

/* Of an epoch: the highest offset that the store took, and that some client got; and whether its
 * owner ended while it wrote late. */
struct truth {
    uint64_t epoch, offset, seen;
    bool torn;
};

struct world {
    struct late late[NODES];
    uint64_t seed, now_us;
    struct rng rng;
    struct timers events; /* virtual microseconds */
    struct store store;
    struct sim_node nodes[NODES];
    struct sim_client clients[CLIENTS + PAGES * SESSIONS]; /* behind them what pages follow */
    struct sim_client *crowd; /* further clients, in scripts of volume */
    size_t crowd_len;
    int sessions; /* SESSIONS and those of the crowd */
    struct conf *conf;
    struct upstream *upstreams;
    bool backend_up[SESSIONS_MAX];
    /* what the store accepted, for "no silent loss": highest offset published in each epoch, per
     * session */
    struct truth truth[SESSIONS][EPOCHS];
    size_t truth_len[SESSIONS];
    struct {
        uint64_t epoch;
        char owner[16];
        unsigned life; /* of the owner */
        uint64_t at_us;
        bool deserted; /* the owner's last client has left it: it may have forgotten the session */
        uint64_t delivered; /* the highest offset that it gave a client of its own */
    } granted[SESSIONS][EPOCHS];
    size_t granted_len[SESSIONS];
    bool faults;
    bool deserted;      /* all browsers have gone for good */
    bool quiet;         /* browsers say nothing more: what they said must arrive */
    bool hushed;        /* nor do backends */
    bool frozen;        /* browsers stay as they are */
    bool calm;          /* a script: nothing breaks by chance */
    bool lied_to;       /* nothing is promised any more, but that no node crashes */
    bool arrives_late;  /* in a calm world: what a broken connection still carried */
    bool closes_slowly; /* backends, in a calm world */
    bool has_sends;     /* pages send */
    bool has_presence;  /* pages are told who watches */
    bool joins_calls;   /* a turn's publications leave in one call, as to one server */
    /* In a script: each client comes with a URL of its own, "/cN/v0", and the backend answers those
     * named here with 401. What it was asked for last, and how often at all */
    bool own_urls;
    bool refuses[CLIENTS];
    int asked_last;
    unsigned asked;
    uint64_t turn_us;     /* that a node waits for more before it flushes; 0: by chance */
    uint64_t set_back_us; /* by which clocks are wrong when a node starts */
    /* A script looks at each request before it goes out; it may hold up the link of its node. */
    void (*spy)(struct world *world, struct sim_request *request);
    struct record before[SESSIONS];
    bool rolls_back; /* this history has fail-overs that lose acknowledged writes */
    uint64_t rolled_back_us;
    bool loses_data; /* this history has restarts of the store without data */
    struct sim_request *requests;
    uint64_t steps, deliveries, gaps, takeovers, commands, expired;
    unsigned most_work; /* of a turn, in tenths */
    bool verbose;
    const char *failure;
    char failure_text[512];
    uint64_t marker;
    uint64_t highest_epoch[SESSIONS];
};

/* cases_*.c: histories that are written down, step by step; cases.c: seeds that once broke
 * something. */
struct sim_case {
    const char *name;
    void (*script)(struct world *world); /* NULL: the history of a seed */
    uint32_t history;                    /* size; of a script only */
    uint64_t seed;
};
struct sim_cases {
    const struct sim_case *list;
    size_t len;
};
extern const struct sim_cases owner_cases, member_cases, client_cases, late_cases, presence_cases,
    send_cases, volume_cases, seed_cases;

/* world.c */
/* late: histories are written late. */
void world_run(struct world *world, uint64_t seed, bool late, bool verbose);
/* Nothing breaks, and nobody comes, goes or speaks, but by the script. */
void world_script(struct world *world, void (*script)(struct world *world), uint32_t history,
                  uint64_t seed, bool verbose);
/* Presence or not; with it two of the clients are event streams. */
void world_presence(struct world *world, bool has);
/* Some node has some session. */
bool world_keeps(const struct world *world);
/* faults.c: what happens by chance, from now on; ctx is the world. */
void world_beats(void *ctx);
/* Time passes; the checks run after every step. Ends early where one fails. */
void world_pass(struct world *world, uint64_t for_us);
void world_fail(struct world *world, const char *format, ...) PRINTF_LIKE(2, 3);
void world_say(struct world *world, const char *format, ...) PRINTF_LIKE(2, 3);
void at_us(struct world *world, uint64_t when_us, event_fn *fn, void *ctx);
uint64_t between(struct world *world, uint64_t low, uint64_t high);
bool chance(struct world *world, unsigned percent);
/* Answers on each session come at their own pace, as of a Redis Cluster or with replicas; else all
 * in one order, as of one server. */
extern bool sim_own_pace;
/* Of a session id; with SESSIONS_MAX sessions there are no others. */
int session_index(const char *id);
const char *session_name(int index);

/* node.c */
void node_start(struct world *world, int index);
void node_crash(struct sim_node *node);
void node_pause(struct sim_node *node);
void node_resume(struct sim_node *node);
void node_drain(struct sim_node *node);
uint64_t node_now_ms(const struct sim_node *node);
/*
 * The node has done so much in this turn: 1 for each call of the store, message that goes upstream,
 * and upstream that is opened, closed or reset; half of that for a client that is closed; a tenth
 * for each publication in a call and write to a client. However much waits, comes or goes at once,
 * the turn has a bound: it stands for 50 ms (contract section 9).
 */
#define WORK_TENTHS_A_TURN 9000
#define CLOSE_TENTHS       5
void node_works(struct sim_node *node, unsigned tenths);
/* Runs fn as an event of the node's loop, or piles it up while it is paused; void where the life is
 * over. */
void node_event(struct sim_node *node, unsigned life, event_fn *fn, void *ctx);

/* store.c */
void store_stop(struct world *world, bool lose_data);
void store_start(struct world *world);
void store_clear(struct store *store);
void store_remember(struct world *world);  /* what a replica has */
void store_roll_back(struct world *world); /* a fail-over to that replica */

/* NULL: there are too many. */
struct truth *truth_of(struct world *world, int session, uint64_t epoch);

/* store_channels.c */
/* Somebody else who can write to the store says that to a node, and maybe to all who follow the
 * session. */
void store_lie(struct world *world, int node, const struct envelope *envelope);
/* A store that lies: a push of an epoch that is over. */
void store_repeat_stale(struct world *world, int session);

/* store_bus.c */
struct sim_bus *sim_bus_new(struct sim_node *node);
void sim_bus_free(struct sim_bus *bus);
void requests_free(struct world *world); /* those still on their way when all is over */

/* store_links.c */
void link_cut(struct sim_node *node);   /* both links break; noticed some time later */
void link_blink(struct sim_node *node); /* the command link alone, noticed at once */
void link_heal(struct sim_node *node);
void link_stall(struct sim_node *node, uint64_t for_us);
void sub_cut(struct sim_node *node, bool deaf);

/* pages.c */
/* What the next history of a seed has: pages, presence, SENDs of pages. Of those that are kept as
 * cases none has any. */
extern bool sim_pages, sim_presence, sim_sends;
void pages_begin(struct world *world);
/* The client that stands for a page's part in a session; the page itself where that is its own. */
struct sim_client *page_part(struct sim_client *client, int session);
void page_started(struct sim_client *client);
/* In a turn of its node. */
void page_subscribe(struct sim_client *client);
void page_unsubscribe(struct sim_client *client);
/* Whom of a page a message concerns; NULL: it has been looked at. */
struct sim_client *page_reads(struct sim_client *client, const char *text);
void page_check_marker(struct sim_client *client, const char *marker);
/* It subscribes to all, leaves one of them, or sends. */
enum page_act { PAGE_LEAVES, PAGE_SUBSCRIBES, PAGE_SENDS, PAGE_SENDS_AGAIN };
void page_acts(struct sim_client *client, enum page_act act);

/* upstreams.c */
extern const struct upstream_ops sim_upstream_ops;
/* marker NULL: a message without content. */
void backend_push(struct world *world, int session, const char *marker);
void backend_stop(struct world *world, int session);
void upstreams_of_node_die(struct sim_node *node);
void upstreams_free(struct world *world);
/* Held open by live, unpaused nodes; and of each session but those of crowds. */
int upstreams_held(const struct world *world, int session);
void upstreams_count(const struct world *world, int held[SESSIONS]);

/* browsers.c */
/* Where no client follows the session at its owner any more, that is noted. */
void note_deserted(struct world *world, int session);
extern const struct client_ops sim_client_ops;
void client_start(struct world *world, int index, int node);
void client_leave(struct sim_client *client, unsigned code);
void client_says(struct sim_client *client);
/* A protocol client sends that SEND, maybe once more. ttl_ms 0: none. */
void client_sends(struct sim_client *client, uint64_t id, unsigned ttl_ms);
/* Further clients in a script, in turn at sessions from `session` on; each third is raw, others
 * follow. */
void crowd_comes(struct world *world, size_t n, int node, int session, int sessions);
/* How many of the crowd are open, and closed by the hub with that code. */
size_t crowd_open(const struct world *world);
size_t crowd_closed_with(const struct world *world, unsigned code);
void crowd_free(struct world *world);
/* By which messages name it. */
int client_index(const struct sim_client *client);
struct sim_client *client_at(struct world *world, unsigned index);
/* It will come with the client id of that one; NULL: with one that nobody has been given. */
void client_takes_id(struct sim_client *client, const struct sim_client *from);
void clients_of_node_die(struct sim_node *node);

/* sends.c: SENDs of pages. In a turn of the page's node: one that was lost with a connection, one
 * more, or one that was answered. */
void page_sends(struct sim_client *page);
/* All that were lost with a connection. */
void page_says_all_again(struct sim_client *page);
/* No answer comes any more: its connection, or that session (-1: all) is gone. */
void sends_lost(struct sim_client *page, int session);
void send_arrives(struct world *world, const struct upstream *upstream, int page, uint64_t id);
/* Returns whether the text is an answer to a SEND. */
bool send_answered(struct sim_client *page, const char *text);
/* All have been answered. */
void sends_check(struct world *world);

/* rosters.c: who watches. */
/* The user in the client's URL. */
void roster_user(const struct sim_client *client, char name[ROSTER_NAME]);
/* A node hears that of an owner. */
void roster_heard(struct sim_node *node, int session, const struct envelope *envelope);
/* A client is told that of a session; part: what it has of it (page_part). */
void roster_read(struct sim_client *client, struct sim_client *part, const char *text);
void roster_forget(struct sim_client *part);
/* What everybody was told last is true, or becomes so within that time. */
void rosters_check(struct world *world, uint64_t within_us, const char *when);
/* At the end of a history with presence: some leave, a node dies. */
void rosters_end(struct world *world);

/* reads.c */
/* The client gets those boxes: what must hold for them is checked. */
void client_reads(struct sim_client *client, const uint8_t *bytes, size_t len);

#endif
