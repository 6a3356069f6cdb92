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

#define NODES        3
#define SESSIONS     3
#define SESSIONS_MAX 1000 /* with those of crowds, each `svc:vN`, which are checked less */
#define CLIENTS      12
#define PAGES        3 /* so many of the clients follow several sessions */
#define EPOCHS       4096

#define ROSTER_NAME 16
#define ROSTER_MAX  768
#define ROSTERS     16
#define SENDS       24 /* SENDs of a page that are checked */

#define ROLL_CALL_US 25000000u /* 20 leases, and the time until its effects */

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
    char other[CONF_NAME_MAX + 1]; /* dead owner, successor, receiver, `after` */
    uint64_t dead_epoch, seen_epoch;
    bool holds;
    unsigned how; /* of enum bus_publish */
    bool behind;  /* another session in the same call */
    bool announced;
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
    bool connected; /* the command link, as the node believes */
    bool link_up;   /* as it really is */
    unsigned generation;
    uint64_t to_store_us;   /* latest delivery: links keep order */
    uint64_t behind_us;     /* the store has half a request of this link until then */
    uint64_t from_store_us; /* no answer comes before */
    /* The last answer on each session, and of the others, if each has its own pace */
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
    int64_t stops_us; /* how long it stops when it next reads the clock within a turn */
    int32_t drift_ppm;
    bool flush_due;
    uint64_t held_up_us; /* paused within a turn, whose output waits since then; 0: it is not */
    unsigned work;       /* done in this turn (node_works) */
    struct timer wake;
    struct waiting_event *pile, **pile_end; /* what came while it was paused */
    bool cut;                               /* from the store, both links */
    bool unheard;                           /* no new connection for subscriptions for now */
    struct heard_roster rosters[SESSIONS][ROSTERS]; /* the last ones, as a ring */
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
    bool asked;          /* sent on this connection, no answer yet */
    bool lost;           /* with a connection, before it was answered */
    bool acked, expired; /* its answer on that connection */
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
    bool alone;      /* a page without a session of its own */
    bool asked;      /* a page's part: it has sent SUBSCRIBE on this connection */
    bool leaving;    /* a page's part: it has sent UNSUBSCRIBE */
    unsigned rate;   /* it asks for so many MESSAGEs a second; 0: all */
    uint64_t got_us; /* with a rate: when it got the last MESSAGE; 0: none yet */
    unsigned life, connection;
    bool busy; /* its socket takes nothing for now */
    bool welcomed, resumed;
    uint64_t welcomed_us;
    struct position at;
    bool has_token;
    struct position token;
    char id[40];             /* as WELCOME says */
    uint64_t acked, expired; /* the last SEND acknowledged; how many expired */
    unsigned expirations;
    unsigned replay;       /* the replay it asks for without a position */
    struct position begun; /* WELCOME's */
    unsigned got;          /* MESSAGEs on this connection */
    bool down;             /* the last STATUS was down */
    unsigned closed_with;  /* the close code, if the hub closed it */
    /* Of this connection: messages sent; the last number the backend got; how many it got */
    uint64_t said, heard, arrived;
    char last_marker[32];
    struct sim_send sends[SENDS]; /* of a page, as a ring by their ids */
    uint64_t sends_len;
    bool late; /* its next messages may have waited for its socket */
    /* The last roster it got, when, and the newest epoch of its rosters */
    char roster[ROSTER_MAX];
    uint64_t roster_us, roster_epoch;
};

/* For each node, what a broken connection still carried: a first part of it arrives, in order. */
struct late {
    unsigned life, generation;
    uint64_t at_us;
    bool lost;
};

/* For an epoch: the highest offset that the store took, the highest that a client got, and whether
 * its owner ended while it wrote late. */
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
    struct sim_client clients[CLIENTS + PAGES * SESSIONS]; /* then the further sessions of pages */
    struct sim_client *crowd;                              /* further clients, for cases_volume.c */
    size_t crowd_len;
    int sessions; /* SESSIONS, and those of the crowd */
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
        bool deserted; /* the owner's last client has left: it may have forgotten the session */
        uint64_t delivered; /* the highest offset that a client of the owner itself got */
    } granted[SESSIONS][EPOCHS];
    size_t granted_len[SESSIONS];
    bool faults;
    bool deserted;           /* all browsers have gone for good */
    bool quiet;              /* browsers send nothing more; what they sent must arrive */
    bool hushed;             /* backends push nothing more */
    bool frozen;             /* browsers neither come nor leave */
    bool calm;               /* a script: nothing breaks by chance */
    bool lied_to;            /* false messages were sent: only that no node crashes is checked */
    bool arrives_late;       /* in a calm world: messages of a broken connection still arrive */
    bool closes_slowly;      /* in a calm world: backends do */
    bool has_sends;          /* pages send */
    bool has_presence;       /* pages are told who watches */
    bool joins_calls;        /* a turn's publications leave in one call, as to one server */
    bool publishes_plainly;  /* under load, publications go to the store without the script, */
    uint64_t keeps_after_us; /* which keeps them so long after it has announced them */
    /* In a script: each client has its own URL, "/cN/v0", and the backend answers those with
     * refuses[N] with 401. asked_last: the N of the last request; asked: how many there were */
    bool own_urls;
    bool refuses[CLIENTS];
    int asked_last;
    unsigned asked;
    uint64_t turn_us;     /* how long a turn collects events before it flushes; 0: random */
    uint64_t set_back_us; /* how far a node's clock is behind when it starts */
    /* A script sees each request before it leaves, and may delay the link of its node. */
    void (*spy)(struct world *world, struct sim_request *request);
    struct record before[SESSIONS];
    bool rolls_back; /* this history has fail-overs that lose acknowledged writes */
    uint64_t rolled_back_us;
    bool loses_data; /* this history has restarts of the store without data */
    struct sim_request *requests;
    uint64_t steps, deliveries, gaps, takeovers, commands, expired;
    unsigned most_work; /* the most work of a turn, in tenths */
    bool verbose;
    const char *failure;
    char failure_text[512];
    uint64_t marker;
    uint64_t highest_epoch[SESSIONS];
};

/* cases_*.c: written histories; cases.c: seeds that once failed. */
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
/* late: owners write histories late. */
void world_run(struct world *world, uint64_t seed, bool late, bool verbose);
/* Faults and browsers come from the script alone. */
void world_script(struct world *world, void (*script)(struct world *world), uint32_t history,
                  uint64_t seed, bool verbose);
/* Turns presence on or off; with it two of the clients are event streams. */
void world_presence(struct world *world, bool has);
/* Whether any node has a session. */
bool world_keeps(const struct world *world);
/* faults.c: random events, from now on; ctx is the world. */
void world_beats(void *ctx);
/* Time passes; the checks run after every step. Ends early where one fails. */
void world_pass(struct world *world, uint64_t for_us);
void world_fail(struct world *world, const char *format, ...) PRINTF_LIKE(2, 3);
void world_say(struct world *world, const char *format, ...) PRINTF_LIKE(2, 3);
void at_us(struct world *world, uint64_t when_us, event_fn *fn, void *ctx);
uint64_t between(struct world *world, uint64_t low, uint64_t high);
bool chance(struct world *world, unsigned percent);
/* Answers on each session come at their own pace, as from a Redis Cluster or with replicas.
 * Otherwise all come in one order, as from one server. */
extern bool sim_own_pace;
/* The number of a session, from its id. */
int session_index(const char *id);
const char *session_name(int index);

/* sim_node.c */
void node_start(struct world *world, int index);
void node_crash(struct sim_node *node);
void node_pause(struct sim_node *node);
void node_resume(struct sim_node *node);
void node_drain(struct sim_node *node);
uint64_t node_now_ms(const struct sim_node *node);
/*
 * Counts work of the node in this turn: 1 for each call of the store, message that goes upstream,
 * and upstream that is opened, closed or reset; half of that for a client that is closed; a tenth
 * for each publication in a call and write to a client. A turn has a bound, however much waits,
 * comes or goes at once; it stands for 50 ms (contract section 9).
 */
#define WORK_TENTHS_A_TURN 9000
#define CLOSE_TENTHS       5
void node_works(struct sim_node *node, unsigned tenths);
/* Runs fn as an event of the node's loop, or keeps it while the node is paused. No effect if that
 * life has ended. */
void node_event(struct sim_node *node, unsigned life, event_fn *fn, void *ctx);

/* store.c */
void store_stop(struct world *world, bool lose_data);
void store_start(struct world *world);
void store_clear(struct store *store);
void store_remember(struct world *world);  /* the data of a replica */
void store_roll_back(struct world *world); /* a fail-over to that replica */

/* NULL: there are too many epochs. */
struct truth *truth_of(struct world *world, int session, uint64_t epoch);

/* store_channels.c */
/* An attacker who can write to the store sends this to a node, and maybe to all nodes of the
 * session. */
void store_lie(struct world *world, int node, const struct envelope *envelope);
/* A faulty store repeats a push of an epoch that is over. */
void store_repeat_stale(struct world *world, int session);

/* store_bus.c */
struct sim_bus *sim_bus_new(struct sim_node *node);
void sim_bus_free(struct sim_bus *bus);
void requests_free(struct world *world); /* those on their way at the end of a history */

/* store_links.c */
void link_cut(struct sim_node *node);   /* both links break; the node notices some time later */
void link_blink(struct sim_node *node); /* the command link breaks; the node notices at once */
void link_heal(struct sim_node *node);
void link_stall(struct sim_node *node, uint64_t for_us);
void sub_cut(struct sim_node *node, bool deaf);

/* pages.c */
/* Whether the next seeded history has pages, presence, SENDs of pages. Kept seeds have none. */
extern bool sim_pages, sim_presence, sim_sends;
void pages_begin(struct world *world);
/* The client that stands for a session of a page; the page itself for its own session. */
struct sim_client *page_part(struct sim_client *client, int session);
void page_started(struct sim_client *client);
/* To be called in a turn of its node. */
void page_subscribe(struct sim_client *client);
void page_unsubscribe(struct sim_client *client);
/* The part of a page that a message concerns; NULL: the message has been dealt with. */
struct sim_client *page_reads(struct sim_client *client, const char *text);
void page_check_marker(struct sim_client *client, const char *marker);
/* The page subscribes to all, leaves one, or sends. */
enum page_act { PAGE_LEAVES, PAGE_SUBSCRIBES, PAGE_SENDS, PAGE_SENDS_AGAIN };
void page_acts(struct sim_client *client, enum page_act act);

/* upstreams.c */
extern const struct upstream_ops sim_upstream_ops;
/* marker NULL: a message without content. */
void backend_push(struct world *world, int session, const char *marker);
void backend_stop(struct world *world, int session);
void upstreams_of_node_die(struct sim_node *node);
void upstreams_free(struct world *world);
/* How many upstreams live, unpaused nodes hold open for a session; and for each of SESSIONS. */
int upstreams_held(const struct world *world, int session);
void upstreams_count(const struct world *world, int held[SESSIONS]);

/* browsers.c */
/* Notes if no client at the owner follows the session any more. */
void note_deserted(struct world *world, int session);
extern const struct client_ops sim_client_ops;
void client_start(struct world *world, int index, int node);
void client_leave(struct sim_client *client, unsigned code);
void client_says(struct sim_client *client);
/* A protocol client sends or repeats this SEND. ttl_ms 0: none. */
void client_sends(struct sim_client *client, uint64_t id, unsigned ttl_ms);
/* Further clients in a script, in turn at sessions from `session` on; each third is raw, others
 * follow. */
void crowd_comes(struct world *world, size_t n, int node, int session, int sessions);
/* How many of the crowd are open, and closed by the hub with that code. */
size_t crowd_open(const struct world *world);
size_t crowd_closed_with(const struct world *world, unsigned code);
void crowd_free(struct world *world);
/* The number by which messages name it. */
int client_index(const struct sim_client *client);
struct sim_client *client_at(struct world *world, unsigned index);
/* It will connect with the client id of from; NULL: with an id that no client was given. */
void client_takes_id(struct sim_client *client, const struct sim_client *from);
void clients_of_node_die(struct sim_node *node);

/* sends.c: SENDs of pages. In a turn of its node the page repeats a SEND that was lost with a
 * connection, sends a new one, or repeats an answered one. */
void page_sends(struct sim_client *page);
/* Repeats all that were lost with a connection. */
void page_says_all_again(struct sim_client *page);
/* No more answers come: the connection or that session (-1: all) is gone. */
void sends_lost(struct sim_client *page, int session);
void send_arrives(struct world *world, const struct upstream *upstream, int page, uint64_t id);
/* Returns whether the text is an answer to a SEND. */
bool send_answered(struct sim_client *page, const char *text);
/* Checks that all have been answered. */
void sends_check(struct world *world);

/* rosters.c: who watches. */
/* The user in the client's URL. */
void roster_user(const struct sim_client *client, char name[ROSTER_NAME]);
/* A node gets a roster of an owner. */
void roster_heard(struct sim_node *node, int session, const struct envelope *envelope);
/* A client gets a roster; part: its part in that session (page_part). */
void roster_read(struct sim_client *client, struct sim_client *part, const char *text);
void roster_forget(struct sim_client *part);
/* Checks that each client's last roster is true, or becomes true within that time. */
void rosters_check(struct world *world, uint64_t within_us, const char *when);
/* At the end of a history with presence: some leave, a node dies. */
void rosters_end(struct world *world);

/* reads.c */
/* The client gets these boxes, which are checked. */
void client_reads(struct sim_client *client, const uint8_t *bytes, size_t len);

#endif
