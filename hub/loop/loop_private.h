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

/* The vhost of all sockets, made when the first socket is opened; lws frees it with the context.
 * NULL: lws refuses. */
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

/* Runs the due timers of lws, serves input that it has in buffers, and arms its timer. */
void lws_adapter_end_turn(struct lws_adapter *adapter);
/* Makes the input of fd urgent (urgent.h). */
void lws_adapter_set_urgent(struct lws_adapter *adapter, int fd);
/* Makes the next turn begin at once. */
void lws_adapter_wake(struct lws_adapter *adapter);

#endif
