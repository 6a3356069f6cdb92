/*
 * Client messages on their way to the upstream: one bounded queue a session and node, in order,
 * each once at most.
 *
 * On the owner they go straight to the upstream's socket. On a member they are told to the owner's
 * inbox, numbered; the owner takes them in that order only and confirms, or hands back what it
 * can't send: the member then keeps that and all after it (go-back-N), so a client's messages never
 * overtake each other. When an owner is killed, what it had and did not confirm is dropped and
 * counted for raw clients (once at most) and sent again for SENDs (at least once).
 */
#ifndef VINHUB_CORE_COMMANDS_H
#define VINHUB_CORE_COMMANDS_H

#include "core/state.h"

/* A message of a local client; send_id 0 and sender "" for raw ones. payload is copied. May close
 * the client with 4004. */
void commands_add(struct subscription *from, uint64_t send_id, const char *sender,
                  enum opcode opcode, const void *payload, size_t len);
/* Sends what can be sent: owner's side to the upstream, member's side to the owner. */
void commands_pump(struct session *session);
void commands_from_gone(struct subscription *from);
/* Its SENDs that no owner has yet do not go any more: it has given way to a later connection. */
void commands_drop_untold(struct subscription *from);
uint64_t commands_confirmed(const struct session *session);

/* owner's side */
void commands_link_down(struct session *session);     /* what members gave goes back to them */
void commands_owner_changed(struct session *session); /* this node is the owner now */
void commands_member_gone(struct session *session, struct member *member);
void commands_flush(struct session *session); /* confirmations of this turn */
/* The old owner says that own messages up to the number went upstream. */
void commands_went_upstream(struct session *session, uint64_t number);
void commands_on_commands(struct hub *hub, struct session *session,
                          const struct envelope *envelope);

/* member's side */
void commands_owner_ready(struct session *session); /* joined, or its upstream is there */
void commands_owner_lost(struct session *session);  /* without a hand-over */
void commands_on_confirm(struct session *session, const struct envelope *envelope);
void commands_on_handback(struct session *session, const struct envelope *envelope);

void commands_fini(struct session *session);

#endif
