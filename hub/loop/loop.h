/*
 * The one event loop: libevent's base, its clock, its timers and signals, the hooks around a turn,
 * and lws on top of it.
 *
 * A turn is what one epoll_wait brings, or as much of it as is done in 10 ms; what is urgent goes
 * first in the next one then. The clock is read at the start of each callback, never trusted across
 * a write that may have been interrupted for long. At the end of each turn the hooks run in the
 * order in which they were added: that is where producers' output is written.
 */
#ifndef VINHUB_LOOP_LOOP_H
#define VINHUB_LOOP_LOOP_H

#include <stdbool.h>
#include <stdint.h>

#include "common/status.h"

struct event_base;
struct lws_context;
struct lws_context_creation_info;
struct loop;

MUST_USE enum status loop_new(struct loop **out);
void loop_free(struct loop *loop);

/* Runs until loop_stop. */
void loop_run(struct loop *loop);
void loop_stop(struct loop *loop);

struct event_base *loop_base(struct loop *loop);

/* What runs in a turn has a name, a text that outlives the process: a turn that takes over 50 ms of
 * processor time is logged as slow_turn with the name of what took longest. */
typedef void loop_fn(void *ctx);
/* Runs fn before the first callback of each turn, and after the last. At most 8 of each. */
void loop_at_turn_start(struct loop *loop, const char *name, loop_fn *fn, void *ctx);
void loop_at_turn_end(struct loop *loop, const char *name, loop_fn *fn, void *ctx);
/* Every callback that an adapter (lws, hiredis, evhttp, a timer, a signal) brings in calls this
 * first: it runs the start hooks once a turn and makes sure that the end hooks run. The hooks may
 * end what the callback is for: who calls it looks again afterwards (timers and watches do). */
void loop_enter(struct loop *loop, const char *name);

/* Calls fn while fd is readable (or writable). fd stays the caller's, who stops watching before
 * closing it. NULL: out of memory. */
struct loop_watch;
enum loop_ready { LOOP_READABLE, LOOP_WRITABLE };
struct loop_watch *loop_watch_new(struct loop *loop, const char *name, int fd,
                                  enum loop_ready ready, loop_fn *fn, void *ctx);
void loop_watch_free(struct loop_watch *watch);
/* Makes the watch urgent: a turn after one that left work behind serves it first. Call it once, for
 * a watch of readability. */
void loop_watch_set_urgent(struct loop_watch *watch);

/* A timer of the loop. */
struct loop_timer;
struct loop_timer *loop_timer_new(struct loop *loop, const char *name, loop_fn *fn, void *ctx);
void loop_timer_free(struct loop_timer *timer);
/* Fires once, after_ms from now; re-arming replaces. */
void loop_timer_start(struct loop_timer *timer, uint64_t after_ms);
void loop_timer_stop(struct loop_timer *timer);

/* fn runs in the loop, never in signal context. */
MUST_USE enum status loop_on_signal(struct loop *loop, int signal_number, loop_fn *fn, void *ctx);

/* Runs due timers of the set for as long as a turn may take, or a little longer; the others stay
 * due (common/timer.h). */
struct timers;
void loop_run_timers(struct timers *timers);

/* The longest time between asking for a timer and its callback within the last second, ms. */
uint64_t loop_lag_ms(const struct loop *loop);

/*
 * The lws context that front and upstream share, without a vhost of its own; made at the first
 * call, NULL where lws refuses. loop_free destroys it. lws's log goes to ours, one level down.
 */
struct lws_context *loop_lws(struct loop *loop);

/* For a program that wants a context of its own kind: creates it on this loop through
 * event_lib_custom: fills the event library members of info. The context is destroyed with
 * loop_lws_destroy, before loop_free. One context a loop. Returns NULL where lws refuses. */
struct lws_context *loop_lws_create(struct loop *loop, struct lws_context_creation_info *info);
void loop_lws_destroy(struct loop *loop, struct lws_context *context);

#endif
