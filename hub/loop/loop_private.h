/*
 * Between the loop and its lws adapter, for this folder alone.
 */
#ifndef VINHUB_LOOP_LOOP_PRIVATE_H
#define VINHUB_LOOP_LOOP_PRIVATE_H

struct loop;
struct lws_adapter;

void loop_set_lws(struct loop *loop, struct lws_adapter *adapter);
struct lws_adapter *loop_lws_adapter(struct loop *loop);

/* Runs lws's due timers, serves what it holds in buffers, and arms the one timer for what is next.
 */
void lws_adapter_end_turn(struct lws_adapter *adapter);
/* Makes the loop come back at once. */
void lws_adapter_wake(struct lws_adapter *adapter);

#endif
