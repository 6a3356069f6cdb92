/*
 * The connections of the admin port: how many there may be and how long each may take.
 *
 * evhttp 2.1 has no limit of connections and only timeouts of inactivity, which a client that sends
 * a byte now and then never meets. So each connection's bufferevent is made and referenced here;
 * evhttp's release is seen by its callbacks being gone (bufferevent_free clears them). At the limit
 * newcomers wait in the kernel, and the connections that have been reading for longest give way.
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
