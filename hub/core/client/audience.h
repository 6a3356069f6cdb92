/*
 * Those who follow a session, as the session knows them: what it tells its subscriptions.
 */
#ifndef VINHUB_CORE_CLIENT_AUDIENCE_H
#define VINHUB_CORE_CLIENT_AUDIENCE_H

#include "core/session/state.h"

extern const struct audience_events audience_events;

#endif
