/*
 * What became of the SENDs of each protocol client in a session: which was the last that went
 * upstream, and which never will since their time was over. By that one that comes again is
 * acknowledged, or refused as before, and not sent twice (contract section 6). Bounded in time and
 * number; a hand-over takes it along.
 */
#ifndef VINHUB_CORE_SESSION_LAST_SENDS_H
#define VINHUB_CORE_SESSION_LAST_SENDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/hash.h"

/* How long a last SEND id is remembered (contract section 6) */
#define SEND_MEMORY_MS (5 * 60 * 1000u)
/* Rows of ids, one after the other, of SENDs of one client that expired and are listed. Of more the
 * lowest are not listed any more: then it is not known which ids from the lowest to the highest of
 * those expired. */
#define EXPIRED_MAX 64u

struct expired_row {
    uint64_t from, upto; /* upto 0: none */
    bool reported;       /* the owner knows, where that is another node */
};

struct last_send {
    char client[33];
    uint64_t id;                 /* of the last that went; 0: none */
    uint64_t here_from;          /* lowest that went of its connection to this node; 0: none */
    uint64_t at_ms;              /* when this node learned of it: clocks of others do not count */
    struct expired_row unlisted; /* among these are those not listed any more */
    uint32_t expired_len, expired_cap;
    struct expired_row *expired; /* in the order of their ids; no two that could be one */
    UT_hash_handle hh;
};

/* Zeroed, it is empty. */
struct last_sends {
    struct last_send *by_client; /* in the order of last use */
    size_t expired;              /* rows of all clients, those of unlisted ones among them */
    size_t unreported;           /* of those */
};

/* That SEND, or one after it, went upstream. client: its id. */
bool last_sends_covers(const struct last_sends *sends, const char *client, uint64_t id);
/* The same of one that was said on the client's connection to this node. */
bool last_sends_went_from_here(const struct last_sends *sends, const char *client, uint64_t id);
/* What is said on that connection goes upstream from that id on; 0: the connection is gone. */
void last_sends_begin_here(struct last_sends *sends, const char *client, uint64_t id);
/* One has just gone upstream; or another owner says that one went. client has at most 32 bytes. */
void last_sends_note(struct last_sends *sends, uint64_t now_ms, const char *client, uint64_t id);
/* That SEND is listed as expired. Only this may be asked of one that still waits: one that has not
 * expired may stand between others that are not listed any more. */
bool last_sends_expired(const struct last_sends *sends, const char *client, uint64_t id);
/* It is listed, or may be one that is not listed any more. This is to be asked of one that comes
 * again: nothing may be acknowledged that did not go. */
bool last_sends_may_have_expired(const struct last_sends *sends, const char *client, uint64_t id);
/* Their time was over before they went. The row is of one at least. */
void last_sends_expire(struct last_sends *sends, uint64_t now_ms, const char *client,
                       struct expired_row row);
/* The same of some of them; which is not known. */
void last_sends_doubt(struct last_sends *sends, uint64_t now_ms, const char *client,
                      struct expired_row row);
/* There is another owner, which may know of none: all are to be reported. */
void last_sends_report_again(struct last_sends *sends);
/* Clients and rows. */
size_t last_sends_len(const struct last_sends *sends);
void last_sends_fini(struct last_sends *sends);

#endif
