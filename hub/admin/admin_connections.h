/*
 * The connections of the admin port: how many there may be and how long each may take.
 *
 * evhttp 2.1 has no limit of connections, and only timeouts of inactivity: a client that sends a
 * byte now and then never meets them. So the bufferevent of each connection is made and referenced
 * here. evhttp has released it when its callbacks are gone (bufferevent_free clears them). At the
 * limit, new connections wait in the kernel, and the connections that have been reading for longest
 * are closed.
 *
 *   accepted -> READING -> ANSWERING -> READING (keep-alive)
 *                     `--> STREAMING (/api/events)
 *
 *   READING     a request has to be whole within 90 s
 *   ANSWERING   the answer has to be taken within 60 s
 *   STREAMING   until the client or the node ends it
 *
 * What is late is cut: evhttp then releases it, and the next sweep frees the bufferevent.
 */
#ifndef VINHUB_ADMIN_ADMIN_CONNECTIONS_H
#define VINHUB_ADMIN_ADMIN_CONNECTIONS_H

#include "loop/loop.h"

struct admin_connections;
struct evconnlistener;
struct evhttp;
struct evhttp_request;

/* listener is the one that evhttp accepts from. */
struct admin_connections *admin_connections_new(struct loop *loop, struct evhttp *http,
                                                struct evconnlistener *listener);
/* After evhttp_free. */
void admin_connections_free(struct admin_connections *connections);

/* The request is whole and is being answered; its end is noticed by itself. */
void admin_connection_answering(struct admin_connections *connections, struct evhttp_request *req);
/* The answer is a stream without an end: no deadline counts, only writing is timed. */
void admin_connection_streaming(struct admin_connections *connections, struct evhttp_request *req);

#endif
