/*
 * The other nodes: who is alive, judged by this node's own clock alone.
 *
 * A node is dead to this one when its score in `nodes` has stayed unchanged for the longer of both
 * leases, on this node's clock, this node having been able to read all the while, and once more at
 * the deadline (design section 4, Nodes).
 */
#ifndef VINHUB_CORE_PEERS_H
#define VINHUB_CORE_PEERS_H

#include "core/state.h"

/* What a message calls a node may be anything. */
bool peer_is_name(struct slice name);
/* The peer of that id, made when it is not known yet; then it is watched from now on. Never NULL,
 * never this node. */
struct peer *peer_get(struct hub *hub, const char *id, size_t len);
struct peer *peer_find(struct hub *hub, const char *id, size_t len);

/* Takes a reading of `nodes` that was asked for at sent_ms. Tells the sessions of nodes found dead.
 */
void peers_read(struct hub *hub, uint64_t sent_ms, const struct bus_node *nodes, size_t len);
/* A message of that node came: what another life under its id was a member of is left. A node that
 * starts again under its id within a lease may never be seen dead. */
void peers_heard(struct hub *hub, const struct envelope *envelope);
/* The message is late: another life under that id has spoken since. */
bool peers_outlived(struct hub *hub, struct slice node, uint64_t life);
/* Readings were interrupted: all watching starts anew. */
void peers_restart(struct hub *hub);
/* When the next node can be found dead by a reading; UINT64_MAX: none. */
uint64_t peers_next_deadline(const struct hub *hub);
/* Frees those nobody refers to; with all set, every one. */
void peers_trim(struct hub *hub, bool all);

/* A session's owner is that peer (NULL: none): keeps the peer's list. */
void peer_set_owner(struct session *session, struct peer *peer);

#endif
