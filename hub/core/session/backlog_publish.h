/*
 * The owner's publications as calls of the store: in runs within bounds, with tags by which answers
 * are known, the history's time to live, and what the record says of this epoch.
 *
 *   NONE -> ASKED -> SET -> NONE        does the owner write late?
 *      '-> UNSURE -> ASKED              after a broken link nobody knows
 *
 * Before the first publication is written late the store has confirmed the mark (BUS_LATE): so who
 * takes the session over from a dead owner knows that the end of the epoch may be missing.
 */
#ifndef VINHUB_CORE_SESSION_BACKLOG_PUBLISH_H
#define VINHUB_CORE_SESSION_BACKLOG_PUBLISH_H

#include "core/session/state.h"

#define PUBLISH_COUNT 500        /* publications in one call of the script */
#define PUBLISH_BYTES (1u << 20) /* payload in one call, but for a single larger one */

enum backlog_mark {
    MARK_NONE,
    MARK_UNSURE, /* the mark may not have reached the store, or be lost there */
    MARK_ASKED,  /* the mark is under way, with the publication of mark_tag */
    MARK_SET,
    MARKS
};

struct backlog_publish {
    struct session *session;
    enum backlog_mark mark;
    uint64_t mark_tag;
    uint64_t until_ms;      /* to the bus in any case until then */
    uint64_t lives_from_ms; /* when the history's time to live was set; 0: not in this epoch */
    struct position handed; /* the newest that the bus was given to announce */
};

void backlog_publish_init(struct backlog_publish *publish, struct session *session);
void backlog_publish_begin_epoch(struct backlog_publish *publish);
/* This node owns the session no more. */
void backlog_publish_end(struct backlog_publish *publish);
/* The last mark may not have reached the store. */
void backlog_publish_doubt(struct backlog_publish *publish);

/* The bus gets what is placed now; others: members elsewhere wait for it. */
bool backlog_publish_is_wanted(const struct backlog_publish *publish, bool others);
/* Nobody but the history waits for it, or is on its way: members that a new owner does not know of
 * yet have some time. */
bool backlog_publish_may_be_late(const struct backlog_publish *publish, bool others);
/* When what is placed now is to be written, where that may be late. In steps, so that many sessions
 * are due in one turn; not later than history.every. */
uint64_t backlog_publish_late_due_ms(const struct backlog_publish *publish);

/* Hands them to the bus, to be announced. late: what follows may be written late. */
void backlog_publish_announce(struct backlog_publish *publish, struct publication *const *items,
                              size_t len, bool late);
/* To be appended to the history only: they were announced before. */
void backlog_publish_append(struct backlog_publish *publish, struct publication *const *items,
                            size_t len);
/* Nothing is written late from here on: a mark says so, if the last one said otherwise. */
void backlog_publish_prompt(struct backlog_publish *publish);
/* An answer with that tag has come. */
void backlog_publish_answered(struct backlog_publish *publish, uint64_t tag);
/* The tag is that of what was announced, up to this offset; 0: it was only appended. */
uint64_t backlog_publish_announced(uint64_t tag);

#endif
