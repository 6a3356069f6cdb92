/*
 * Letting go: on SIGTERM sessions are handed over first, then clients are closed with 1012, spread
 * over node.drain.
 */
#ifndef VINHUB_CORE_DRAIN_H
#define VINHUB_CORE_DRAIN_H

#include "core/state.h"

void drain_start(struct hub *hub);

#endif
