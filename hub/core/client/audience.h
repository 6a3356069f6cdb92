/*
 * The subscriptions of a session, as the session sees them: what it sends to all of them.
 */
#ifndef VINHUB_CORE_CLIENT_AUDIENCE_H
#define VINHUB_CORE_CLIENT_AUDIENCE_H

#include "core/session/state.h"

extern const struct audience_events audience_events;

#endif
