/*
 * Between the loop and its lws adapter, for this folder alone.
 */
#ifndef VINHUB_LOOP_LOOP_PRIVATE_H
#define VINHUB_LOOP_LOOP_PRIVATE_H

struct loop;
struct lws_adapter;
struct lws_context;
struct lws_vhost;
struct resolver;

/* The vhost of all sockets, made when the first is opened; NULL where lws refuses. Goes with the
 * context. */
struct lws_vhost *loop_socket_vhost(struct loop *loop);
struct lws_vhost *socket_vhost_new(struct lws_context *context);

void loop_set_lws(struct loop *loop, struct lws_adapter *adapter);
struct lws_adapter *loop_lws_adapter(struct loop *loop);

/* The set of sockets that are served first (urgent.h). */
int loop_urgent(const struct loop *loop);

/* The resolver of the process, made with the first query (resolve.c); loop_free frees it. */
struct resolver *loop_resolver(struct loop *loop);
void loop_set_resolver(struct loop *loop, struct resolver *resolver);
void resolver_free(struct resolver *resolver);

/* Runs lws's due timers, serves what it holds in buffers, and arms the one timer for what is next.
 */
void lws_adapter_end_turn(struct lws_adapter *adapter);
/* From now on input of fd is urgent (urgent.h). */
void lws_adapter_set_urgent(struct lws_adapter *adapter, int fd);
/* Makes the loop come back at once. */
void lws_adapter_wake(struct lws_adapter *adapter);

#endif
