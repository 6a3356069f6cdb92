/*
 * The connections of the admin port: how many there may be and how long each may take.
 *
 * evhttp 2.1 has no limit of connections, and its timeouts count only inactivity: a client that
 * sends a byte now and then never reaches them. So the bufferevent of each connection is made here,
 * with a reference. evhttp has released it when its callbacks are cleared (bufferevent_free does
 * that). At the limit, new connections wait in the kernel, and the connections that have been in
 * READING for longest are closed.
 *
 *   accepted -> READING -> ANSWERING -> READING (keep-alive)
 *                     `--> STREAMING (/api/events)
 *
 *   READING     the request must be complete within 90 s
 *   ANSWERING   the client must have read the answer within 60 s
 *   STREAMING   until the client or the node ends it
 *
 * A connection that is late is shut down: evhttp then releases it, and the next sweep drops the
 * reference.
 */
#ifndef VINHUB_ADMIN_ADMIN_CONNECTIONS_H
#define VINHUB_ADMIN_ADMIN_CONNECTIONS_H

#include "loop/loop.h"

struct admin_connections;
struct evconnlistener;
struct evhttp;
struct evhttp_request;

/* listener: the listener that evhttp accepts from. */
struct admin_connections *admin_connections_new(struct loop *loop, struct evhttp *http,
                                                struct evconnlistener *listener);
/* After evhttp_free. */
void admin_connections_free(struct admin_connections *connections);

/* The request is complete and is being answered. The end of the answer is noticed here. */
void admin_connection_answering(struct admin_connections *connections, struct evhttp_request *req);
/* The answer is a stream without an end: it has no deadline, except for a client that reads nothing
 * for 60 s. */
void admin_connection_streaming(struct admin_connections *connections, struct evhttp_request *req);

#endif
