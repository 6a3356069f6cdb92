/*
 * Publications of owners that the store has not confirmed: of each session in order, and of all
 * sessions of a node by age, with one bound in true memory.
 *
 *   placed -> kept -> confirmed by the store, and freed
 *              |`---> dropped: the oldest of the node, beyond its bound
 *              `----> discarded with its session's, and freed some turns later
 *
 * The cursor of a session stands at the first that is to be sent (again). It moves on by itself
 * when that one goes.
 */
#ifndef VINHUB_CORE_SESSION_BACKLOG_ITEMS_H
#define VINHUB_CORE_SESSION_BACKLOG_ITEMS_H

#include "core/pubs.h"
#include "core/session/backlog_credit.h"
#include "core/session/state.h"

struct backlog_item {
    struct publication *publication;
    struct backlog_items *items;
    struct backlog_item *next_here;   /* of the same session, younger */
    struct backlog_item *prev, *next; /* of all sessions, by age */
};

/* Of all sessions of a node. */
struct backlog_store {
    struct hub *hub;
    struct backlog_item *items; /* oldest first */
    size_t bytes;               /* what they cost */
    struct backlog_item *discarded;
    struct timer discard; /* armed while there are some */
};

/* Of a session. */
struct backlog_items {
    struct backlog_store *store;
    struct backlog_item *first, *last; /* oldest first */
    size_t len;
    struct backlog_item *cursor;  /* NULL: all have been sent */
    struct backlog_credit credit; /* for what is sent again */
};

void backlog_store_init(struct backlog_store *store, struct hub *hub);
/* All sessions' are gone. */
void backlog_store_fini(struct backlog_store *store);
/* Beyond the bound of the node the oldest are dropped and counted, whosever they are. */
void backlog_store_bound(struct backlog_store *store);

void backlog_items_init(struct backlog_items *items, struct backlog_store *store,
                        size_t *in_flight);
void backlog_items_fini(struct backlog_items *items);
/* What it costs, in true memory. */
size_t backlog_item_cost(const struct publication *publication);
/* Keeps a reference of its own. Does not move the cursor. */
struct backlog_item *backlog_items_add(struct backlog_items *items,
                                       struct publication *publication);
void backlog_items_drop_first(struct backlog_items *items);
/* Takes all of them from the node, and leaves it to be freed in portions: what a node keeps for all
 * its sessions, 64 MiB, goes with one fence. Returns how many. */
size_t backlog_items_discard(struct backlog_items *items);
/* The next portion from the cursor on, which moves behind it: at most max, and max_bytes but for
 * one larger. Takes credit for it. */
size_t backlog_items_take(struct backlog_items *items, struct publication **out, size_t max,
                          size_t max_bytes, size_t *bytes);
/* Asserts what must hold. */
void backlog_items_check(const struct backlog_items *items);

#endif
