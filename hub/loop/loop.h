/*
 * The event loop: libevent's base, its clock, timers and signals, the hooks around a turn, and lws
 * on top of it.
 *
 *   turn:  epoll_wait -> start hooks -> callbacks -> end hooks -> due timers of lws
 *
 * A turn handles the events of one epoll_wait, or as many of them as fit in 10 ms; then the next
 * turn begins with urgent sockets (urgent.h) and goes on with the rest. The clock is read at the
 * start of each callback, since the callback before it may have taken long. The end hooks run in
 * the order in which they were added: they write the output that the callbacks have queued.
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

/* Each callback and hook has a name, a static text. If a turn takes over 50 ms of processor time, a
 * slow_turn line in the log names the callback that took longest. */
typedef void loop_fn(void *ctx);
/* Adds a hook that runs before the first callback of each turn, or after the last one. At most 8 of
 * each. */
void loop_at_turn_start(struct loop *loop, const char *name, loop_fn *fn, void *ctx);
void loop_at_turn_end(struct loop *loop, const char *name, loop_fn *fn, void *ctx);
/* To be called first in every callback that comes from lws, hiredis, evhttp, a timer or a signal.
 * It runs the start hooks once a turn and makes sure that the end hooks run. A start hook may free
 * the object that the callback is for, so the caller must check that afterwards; the timers and
 * watches of this module do so themselves. */
void loop_enter(struct loop *loop, const char *name);

/* Calls fn while fd is readable (or writable). The caller owns fd, and frees the watch before it
 * closes fd. NULL: out of memory. */
struct loop_watch;
enum loop_ready { LOOP_READABLE, LOOP_WRITABLE };
struct loop_watch *loop_watch_new(struct loop *loop, const char *name, int fd,
                                  enum loop_ready ready, loop_fn *fn, void *ctx);
void loop_watch_free(struct loop_watch *watch);
/* Makes the watch urgent: after a turn that left work behind, the next turn serves it first. To be
 * called once, on a watch for LOOP_READABLE. */
void loop_watch_set_urgent(struct loop_watch *watch);

/* A timer of the loop. */
struct loop_timer;
struct loop_timer *loop_timer_new(struct loop *loop, const char *name, loop_fn *fn, void *ctx);
void loop_timer_free(struct loop_timer *timer);
/* Fires once, after_ms from now; starting an armed timer again replaces its time. */
void loop_timer_start(struct loop_timer *timer, uint64_t after_ms);
void loop_timer_stop(struct loop_timer *timer);

/* fn runs in the loop, never in signal context. */
MUST_USE enum status loop_on_signal(struct loop *loop, int signal_number, loop_fn *fn, void *ctx);

/* Runs due timers of the set for about 5 ms; the others stay due (common/timer.h). */
struct timers;
void loop_run_timers(struct timers *timers);

/* How late a timer's callback came at most, in this second or the last one, in ms. */
uint64_t loop_lag_ms(const struct loop *loop);

/*
 * The lws context that front and upstream share, without a vhost of its own; made at the first
 * call, NULL where lws refuses. loop_free destroys it. lws's log goes to ours, one level down.
 */
struct lws_context *loop_lws(struct loop *loop);

/* For a program that needs an lws context with other settings (tests/tools): creates it on this
 * loop and fills the event library members of info. The caller destroys it with loop_lws_destroy,
 * before loop_free. A loop has one context. Returns NULL if lws refuses. */
struct lws_context *loop_lws_create(struct loop *loop, struct lws_context_creation_info *info);
void loop_lws_destroy(struct loop *loop, struct lws_context *context);

#endif
