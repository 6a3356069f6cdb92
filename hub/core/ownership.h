/*
 * Ownership of a session: claim, grant, loss, release; what follows from the store's answers
 * (design section 4, Ownership).
 */
#ifndef VINHUB_CORE_OWNERSHIP_H
#define VINHUB_CORE_OWNERSHIP_H

#include "core/state.h"

/* A new session: subscribe first, then claim. */
void ownership_start(struct session *session);
/* Asks the store for the session, naming a dead owner where there is one. Waits while the lease is
 * not valid. */
void ownership_claim(struct session *session);
/* It is this node's, at that epoch. */
void ownership_take(struct session *session, uint64_t epoch);
/* It is another's: the upstream is cut, the session joins (owner NULL: claims), or ends without
 * clients. */
void ownership_lost(struct session *session, struct peer *owner, uint64_t epoch);
/* Clients or members are there (again) / the last local client has left. */
void ownership_wanted(struct session *session);
void ownership_unwanted(struct session *session);
/* Closes the upstream, then empties the record. */
void ownership_release(struct session *session);
void ownership_send_release(struct session *session);
/* The upstream of a RELEASING session is closed to the end. */
void ownership_upstream_gone(struct session *session);
void ownership_owner_died(struct session *session);
/* Another node says, or the announcement: owner holds it at epoch. Older ones are ignored. from:
 * the epoch it was handed over from, 0: not by a hand-over, or not known. */
void ownership_announced(struct session *session, struct slice owner, uint64_t epoch,
                         uint64_t from);
/* An owner takes an epoch above seen. */
void ownership_outbid(struct session *session, uint64_t seen_epoch);

void ownership_fence_all(struct hub *hub);
/* Whatever happens about the upstreams: others may take this node for dead now and forget what they
 * had of it. */
void ownership_lease_lapsed(struct hub *hub);
void ownership_lease_back(struct hub *hub);
void ownership_on_connected(struct hub *hub);

void ownership_on_subscribed(struct session *session);
/* Its push channel is forbidden: it is given up until the channel is heard again (deaf), or its
 * clients are told why nothing goes on. */
void ownership_on_refused(struct session *session, const char *why, bool deaf);
/* session is NULL where it is gone meanwhile. */
void ownership_on_claimed(struct hub *hub, struct session *session, const char *id, uint64_t tag,
                          enum status status, const char *owner, uint64_t epoch);
void ownership_on_released(struct session *session, uint64_t tag, enum status status);

#endif
