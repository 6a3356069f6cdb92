/*
 * Where Redis is: the URL of `redis.url`.
 *
 *   redis://[user:pass@]host:port/db                             one server
 *   redis-sentinel://[user:pass@]host:port,host:port/master/db   the hosts are Sentinels, which are
 *                                                                asked for the primary; user and
 *                                                                password are the server's
 *   redis-cluster://[user:pass@]host:port,host:port              the hosts are seeds of a Cluster
 *
 * With TLS the schemes are rediss, rediss-sentinel and rediss-cluster. Ports default to 6379 (26379
 * for Sentinel), db to 0. User and password may hold %XX.
 */
#ifndef VINHUB_COMMON_REDIS_URL_H
#define VINHUB_COMMON_REDIS_URL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/status.h"

#define REDIS_HOSTS_MAX            16
#define REDIS_CHANNEL_PREFIX_BYTES (64 + sizeof("@4294967295"))

enum redis_shape { REDIS_SINGLE, REDIS_SENTINEL, REDIS_CLUSTER };

struct redis_host {
    char name[256]; /* without brackets */
    uint16_t port;
};

struct redis_url {
    enum redis_shape shape;
    bool tls;
    char user[128];     /* "": none, the default user */
    char password[512]; /* "": none */
    char master[128];   /* of Sentinel */
    uint32_t db;
    size_t hosts_len; /* at least 1 */
    struct redis_host hosts[REDIS_HOSTS_MAX];
};

/* STATUS_INVALID where the URL is not of a form above or a part does not fit. */
MUST_USE enum status redis_url_parse(const char *url, struct redis_url *out);
/* What is wrong with a text that is no such URL, without quoting it: it may hold a password. NULL:
 * nothing is. */
const char *redis_url_flaw(const char *text);
/* The URL with its password as "***". Caller frees. */
char *redis_url_redact(const char *url);
/* What the names of channels start with: the prefix, and behind it @N where N is the database and
 * not 0. Databases separate keys, not channels (contract section 11). out has the room of
 * REDIS_CHANNEL_PREFIX_BYTES. */
void redis_url_channel_prefix(const struct redis_url *url, const char *prefix, char *out);
/* Whether all hosts are loopback addresses. */
bool redis_url_is_loopback(const struct redis_url *url);

#endif
