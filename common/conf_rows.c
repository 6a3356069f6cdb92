#include "common/conf_rows.h"

#include <assert.h>
#include <string.h>

#include "common/address.h"
#include "common/conf_syntax.h"

#define AT(member)          .offset = offsetof(struct conf, member)
#define LEN(member)         .len_offset = offsetof(struct conf, member)
#define SERVICE_AT(member)  .offset = offsetof(struct service, member)
#define SERVICE_LEN(member) .len_offset = offsetof(struct service, member)

#define SECOND 1000ULL
#define HOUR   (3600 * SECOND)
#define DAY    (24 * HOUR)
#define GIB    (1ULL << 30)

#define NAME_FORM    "a name of A-Z a-z 0-9 _ . -, at most 64 bytes"
#define ADDRESS_FORM "ADDRESS:PORT, as 0.0.0.0:8080 or [::1]:8080"

const struct conf_row conf_rows[] = {
    {"node.id", CONF_TEXT, 0, AT(node.id), .standard = "", .check = conf_is_name,
     .allowed = NAME_FORM,
     .meaning = "The node's id, unique in the cluster. Empty: HOSTNAME-xxxx."},
    {"node.lease", CONF_DURATION, 0, AT(node.lease_ms), .standard = "3s", .min = 500, .max = HOUR,
     .meaning = "A node that Redis has not heard from for this long has lost its sessions."},
    {"node.drain", CONF_DURATION, 0, AT(node.drain_ms), .standard = "10s", .max = HOUR,
     .meaning = "How long clients are let go over on SIGTERM."},

    {"listen.address", CONF_TEXT, 0, AT(listen.address), .standard = "0.0.0.0:8080",
     .check = address_is_host_and_port, .allowed = ADDRESS_FORM,
     .meaning = "Where browsers connect."},
    {"listen.tls_cert", CONF_TEXT, CONF_RELOAD, AT(listen.tls_cert), .standard = "",
     .meaning = "PEM file of the certificate chain. Empty: no TLS."},
    {"listen.tls_key", CONF_TEXT, CONF_RELOAD, AT(listen.tls_key), .standard = "",
     .meaning = "PEM file of its key."},
    {"listen.proxy_protocol", CONF_BOOL, 0, AT(listen.proxy_protocol), .standard = "false",
     .meaning = "Require the PROXY protocol header (v1, v2), believed from trusted_proxies (empty: "
                "from every peer)."},
    {"listen.trusted_proxies", CONF_LIST, CONF_RELOAD, AT(listen.trusted_proxies),
     LEN(listen.trusted_proxies_len), .standard = "[]", .check = address_is_network,
     .allowed = "an address or CIDR, as 10.0.0.0/8 or ::1",
     .meaning = "Proxies whose X-Forwarded-For counts: the rightmost address in it that is not "
                "trusted is the client's."},

    {"admin.address", CONF_TEXT, 0, AT(admin.address), .standard = "127.0.0.1:9600",
     .check = address_is_host_and_port, .allowed = ADDRESS_FORM,
     .meaning = "Where the admin port listens."},
    {"admin.token", CONF_TEXT, CONF_SECRET | CONF_RELOAD, AT(admin.token), .standard = "",
     .check = conf_is_printable, .allowed = "printable ASCII without spaces",
     .meaning = "What `Authorization: Bearer` must hold. Better from VINHUB_ADMIN_TOKEN."},
    {"admin.allow_open", CONF_BOOL, 0, AT(admin.allow_open), .standard = "false",
     .meaning = "Allow an admin port without a token on an address that is not loopback."},

    {"redis.url", CONF_TEXT, CONF_SECRET, AT(redis.url), .standard = "", .check = conf_is_redis_url,
     .allowed = "redis://[user:pass@]host:port/db, redis-sentinel://host:port,.../master/db, "
                "redis-cluster://host:port,... "
                "or the same with rediss for TLS, or empty",
     .meaning = "The Redis that nodes share: version 6.2 or later, 7 or later for a Cluster. "
                "Empty: one node, bus in memory."},
    {"redis.prefix", CONF_TEXT, 0, AT(redis.prefix), .standard = "vinhub", .check = conf_is_name,
     .allowed = NAME_FORM, .min = 1, .meaning = "First part of every key and channel."},
    {"redis.tls_ca", CONF_TEXT, 0, AT(redis.tls_ca), .standard = "",
     .meaning = "PEM file of the authorities for rediss. Empty: the system's."},
    {"redis.tls_cert", CONF_TEXT, 0, AT(redis.tls_cert), .standard = "",
     .meaning = "PEM file of the hub's own certificate chain, for a Redis that asks for one."},
    {"redis.tls_key", CONF_TEXT, 0, AT(redis.tls_key), .standard = "",
     .meaning = "PEM file of its key."},
    {"redis.tls_name", CONF_TEXT, 0, AT(redis.tls_name), .standard = "", .check = address_is_host,
     .allowed = "a host name or an address",
     .meaning = "The name in the server's certificate. Empty: the host connected to."},
    {"redis.sentinel_user", CONF_TEXT, 0, AT(redis.sentinel_user), .standard = "",
     .meaning = "The user at the Sentinels, where they have users of their own."},
    {"redis.sentinel_password", CONF_TEXT, CONF_SECRET, AT(redis.sentinel_password), .standard = "",
     .meaning = "The password at the Sentinels. Empty: a Sentinel that asks for one gets user and "
                "password of the URL."},
    {"redis.replicas", CONF_COUNT, 0, AT(redis.replicas), .standard = "0", .max = 16,
     .meaning = "Renewals and claims count only after WAIT for that many replicas."},
    {"redis.on_loss", CONF_CHOICE, 0, AT(redis.on_loss), .standard = "fence",
     .choices = {"fence", "serve"},
     .meaning = "When the lease ran out without Redis. fence: upstreams close; serve: owners go on "
                "for their own clients, no "
                "new upstream meanwhile."},

    {"default_service", CONF_TEXT, CONF_RELOAD, AT(default_service), .standard = "",
     .check = conf_is_name, .allowed = NAME_FORM, .meaning = "The service of URLs that name none."},

    {"clients.replies", CONF_PAIRS, CONF_RELOAD, AT(clients.replies), LEN(clients.replies_len),
     .standard = "{\"ping\": \"pong\", \"heartbeat\": \"heartbeat-ack\", "
                 "\"{\\\"type\\\":\\\"PING\\\"}\": \"{\\\"type\\\":\\\"PONG\\\"}\"}",
     .meaning = "Texts of raw clients that are answered on the spot and never forwarded."},
    {"clients.ping.every", CONF_DURATION, CONF_RELOAD, AT(clients.ping_every_ms), .standard = "25s",
     .max = DAY, .meaning = "How often a client gets a WebSocket PING. 0: never."},
    {"clients.ping.timeout", CONF_DURATION, CONF_RELOAD, AT(clients.ping_timeout_ms),
     .standard = "20s", .min = 1, .max = DAY, .meaning = "How long its PONG may take."},
    {"clients.max_message", CONF_SIZE, CONF_RELOAD, AT(clients.max_message_bytes),
     .standard = "1MiB", .min = 1, .max = GIB,
     .meaning = "A larger message closes the client with 4003."},
    {"clients.rate.messages", CONF_COUNT, CONF_RELOAD, AT(clients.rate_messages), .standard = "200",
     .max = 1000000000,
     .meaning = "Forwarded messages a client may send in each `per`. 0: no limit."},
    {"clients.rate.per", CONF_DURATION, CONF_RELOAD, AT(clients.rate_per_ms), .standard = "1s",
     .min = 1, .max = DAY, .meaning = "The time that `messages` counts for."},
    {"clients.rate.burst", CONF_COUNT, CONF_RELOAD, AT(clients.rate_burst), .standard = "1000",
     .max = 1000000000, .meaning = "How many may come at once; more closes the client with 4002."},
    {"clients.max", CONF_COUNT, CONF_RELOAD, AT(clients.max), .standard = "0", .max = 10000000,
     .meaning = "Clients on this node. 0: bounded by file descriptors."},
    {"clients.max_per_ip", CONF_COUNT, CONF_RELOAD, AT(clients.max_per_ip), .standard = "0",
     .max = 10000000,
     .meaning = "Clients of one address (IPv6: of one /64) on this node. 0: no limit."},
    {"clients.max_subscriptions", CONF_COUNT, CONF_RELOAD, AT(clients.max_subscriptions),
     .standard = "1000", .max = 1000000,
     .meaning = "Sessions that one vinhub.v1 client may subscribe to beside its own."},
    {"clients.compression", CONF_BOOL, CONF_RELOAD, AT(clients.compression), .standard = "false",
     .meaning = "Offer permessage-deflate to browsers."},

    {"origins", CONF_LIST, CONF_RELOAD, AT(origins), LEN(origins_len), .standard = "[]",
     .check = conf_is_origin,
     .allowed = "a host, *.host, scheme://host[:port], or what a client sends: null, file://",
     .meaning = "Origins that may connect: a host (any scheme and port), `*.example.com` (any host "
                "below it), `https://example.com:8443` (that one; without a port the scheme's "
                "own), or what else a client sends (`null`, `file://`). Empty: any. No Origin "
                "header: allowed."},

    {"auth.mode", CONF_CHOICE, CONF_RELOAD, AT(auth.mode), .standard = "none",
     .choices = {"none", "jwt"}, .meaning = "With jwt each client needs a token."},
    {"auth.algorithm", CONF_TEXT, CONF_RELOAD, AT(auth.algorithm), .standard = "HS256", .min = 1,
     .choices = {"HS256", "HS384", "HS512", "RS256", "ES256", "EdDSA"},
     .meaning = "The only signature that is accepted. Not with keys_file, whose keys say it."},
    {"auth.secret_file", CONF_TEXT, CONF_RELOAD, AT(auth.secret_file), .standard = "",
     .meaning = "File with the secret of HS algorithms. VINHUB_JWT_SECRET goes before it."},
    {"auth.public_key_file", CONF_TEXT, CONF_RELOAD, AT(auth.public_key_file), .standard = "",
     .meaning = "PEM file with the public key of RS256, ES256 or EdDSA."},
    {"auth.keys_file", CONF_TEXT, CONF_RELOAD, AT(auth.keys_file), .standard = "",
     .meaning = "JWK Set in place of secret_file or public_key_file: `kid` of a token names the "
                "key. Read again within 5 s of a change."},
    {"auth.audience", CONF_TEXT, CONF_RELOAD, AT(auth.audience), .standard = "",
     .meaning = "What `aud` must hold. Empty: not checked."},
    {"auth.issuer", CONF_TEXT, CONF_RELOAD, AT(auth.issuer), .standard = "",
     .meaning = "What `iss` must be. Empty: not checked."},

    {"log.level", CONF_CHOICE, CONF_RELOAD, AT(log.level), .standard = "info",
     .choices = {"debug", "info", "warn", "error"}, .meaning = "The least level that is written."},
    {"log.format", CONF_CHOICE, 0, AT(log.format), .standard = "text", .choices = {"text", "json"},
     .meaning = "One line an event, either way."},
    {"log.audit", CONF_BOOL, 0, AT(log.audit), .standard = "false",
     .meaning =
         "A line with user, session and size of each message sent upstream, never its content."},
    {.key = NULL},
};

const struct conf_row conf_service_rows[] = {
    {"name", CONF_TEXT, 0, SERVICE_AT(name), .standard = "", .check = conf_is_name,
     .allowed = NAME_FORM, .min = 1, .meaning = "The service's name, as URLs give it."},
    {"upstream", CONF_TEXT, 0, SERVICE_AT(upstream), .standard = "", .check = conf_is_upstream,
     .min = 1,
     .allowed =
         "host:port/path, ws://host[:port]/path or wss://..., with {path} {user} {vin} "
         "{query} {service} {key} behind the host; user:password@ before the host, other bytes "
         "than letters, digits and -._~ as %XX (or a header Authorization in headers)",
     .meaning = "The backend's URL. Without placeholder {path}{query} is appended. "
                "user:password@ before the host is sent as Basic authorization."},
    {"session", CONF_TEXT, 0, SERVICE_AT(session), .standard = "{vin}",
     .check = conf_is_session_key, .allowed = "text with {path} {user} {vin} {query} {service}",
     .meaning = "The session key. Where the URL lacks what it names: {path}{query}."},
    {"headers", CONF_PAIRS, CONF_SECRET, SERVICE_AT(headers), SERVICE_LEN(headers_len),
     .standard = "{}", .check = conf_is_header,
     .allowed = "a header of the handshake that is not the hub's own (Host, Connection, Upgrade, "
                "Sec-WebSocket-*, Content-Length, "
                "hop-by-hop), one line of text",
     .meaning = "Added to the upstream handshake; values may hold ${ENV}."},
    {"tls_ca", CONF_TEXT, 0, SERVICE_AT(tls_ca), .standard = "",
     .meaning = "PEM file of the authorities for wss. Empty: the system's."},
    {"heartbeat.text", CONF_TEXT, 0, SERVICE_AT(heartbeat.text), .standard = "ping", .min = 1,
     .meaning = "The text the upstream is sent."},
    {"heartbeat.reply", CONF_TEXT, 0, SERVICE_AT(heartbeat.reply), .standard = "pong", .min = 1,
     .meaning = "Its answer, which is swallowed."},
    {"heartbeat.every", CONF_DURATION, 0, SERVICE_AT(heartbeat.every_ms), .standard = "5s",
     .max = DAY, .meaning = "How often. 0: never."},
    {"heartbeat.timeout", CONF_DURATION, 0, SERVICE_AT(heartbeat.timeout_ms), .standard = "15s",
     .min = 1, .max = DAY,
     .meaning = "Without a sign of life for this long the upstream is reconnected."},
    {"reconnect.min", CONF_DURATION, 0, SERVICE_AT(reconnect.min_ms), .standard = "500ms", .min = 1,
     .max = HOUR, .meaning = "First wait between two tries."},
    {"reconnect.max", CONF_DURATION, 0, SERVICE_AT(reconnect.max_ms), .standard = "10s", .min = 1,
     .max = HOUR, .meaning = "Longest wait between two tries."},
    {"reconnect.timeout", CONF_DURATION, 0, SERVICE_AT(reconnect.timeout_ms), .standard = "10s",
     .min = 1, .max = HOUR, .meaning = "TCP, TLS and handshake of one try."},
    {"linger", CONF_DURATION, 0, SERVICE_AT(linger_ms), .standard = "5s", .max = DAY,
     .meaning = "How long a session without clients keeps its upstream."},
    {"history.size", CONF_COUNT, 0, SERVICE_AT(history.size), .standard = "100", .max = 100000,
     .meaning = "Publications kept for resume and replay. 0: none."},
    {"history.ttl", CONF_DURATION, 0, SERVICE_AT(history.ttl_ms), .standard = "5m", .min = 1,
     .max = DAY, .meaning = "How long they are kept after the last one."},
    {"history.every", CONF_DURATION, 0, SERVICE_AT(history.every_ms), .standard = "250ms",
     .max = 10 * SECOND,
     .meaning = "How late they may be written while one node alone watches the session. 0: with "
                "each push."},
    {"replay", CONF_COUNT, 0, SERVICE_AT(replay), .standard = "0", .max = 100000,
     .meaning = "How many past publications a raw client gets on connect."},
    {"presence", CONF_BOOL, 0, SERVICE_AT(presence), .standard = "false",
     .meaning =
         "Whether clients of vinhub.v1 see who watches the session, on all nodes (PRESENCE)."},
    {"to_upstream.queue", CONF_SIZE, 0, SERVICE_AT(to_upstream.queue_bytes), .standard = "256KiB",
     .max = GIB,
     .meaning = "Client messages that wait while the upstream is not connected, for each session "
                "and node."},
    {"to_upstream.wait", CONF_DURATION, 0, SERVICE_AT(to_upstream.wait_ms), .standard = "30s",
     .max = DAY, .meaning = "How long client messages wait while the upstream is not connected."},
    {"slow_client.queue", CONF_SIZE, 0, SERVICE_AT(slow_client.queue_bytes), .standard = "1MiB",
     .max = GIB,
     .meaning =
         "What may wait for one client; an empty queue takes one message of any allowed size."},
    {"slow_client.policy", CONF_CHOICE, 0, SERVICE_AT(slow_client.policy), .standard = "close",
     .choices = {"close", "drop_oldest", "latest"},
     .meaning = "What happens when it is full: close (4005), drop_oldest or latest: pushes are "
                "dropped, with a GAP for vinhub.v1."},
    {"upstream_max_message", CONF_SIZE, 0, SERVICE_AT(upstream_max_message_bytes),
     .standard = "4MiB", .min = 1, .max = GIB,
     .meaning = "More: the upstream is closed with 1009 and reconnected with back-off."},
    {.key = NULL},
};

const size_t conf_rows_len = sizeof(conf_rows) / sizeof(conf_rows[0]) - 1;
const size_t conf_service_rows_len = sizeof(conf_service_rows) / sizeof(conf_service_rows[0]) - 1;

_Static_assert(sizeof(conf_rows) / sizeof(conf_rows[0]) <= CONF_ROWS_MAX,
               "more rows than CONF_ROWS_MAX");
_Static_assert(sizeof(conf_service_rows) / sizeof(conf_service_rows[0]) < CONF_ROWS_MAX,
               "more rows than CONF_ROWS_MAX");

const struct conf_row *conf_row_find(const struct conf_row *rows, const char *key)
{
    for (const struct conf_row *row = rows; row->key; row++) {
        if (strcmp(row->key, key) == 0)
            return row;
    }
    return NULL;
}

bool conf_rows_have_parent(const struct conf_row *rows, const char *path)
{
    size_t len = strlen(path);
    for (const struct conf_row *row = rows; row->key; row++) {
        if (strncmp(row->key, path, len) == 0 && row->key[len] == '.')
            return true;
    }
    return false;
}

const char *conf_row_name(const struct conf_row *row)
{
    const char *dot = strrchr(row->key, '.');
    return dot ? dot + 1 : row->key;
}

void conf_row_variable(const struct conf_row *row, char out[CONF_VARIABLE_MAX])
{
    size_t n = 0;
    for (const char *c = row->key; *c != '\0'; c++) {
        assert(n + 3 < CONF_VARIABLE_MAX);
        if (*c == '.')
            out[n++] = '_';
        out[n++] = *c == '.' ? '_' : *c >= 'a' && *c <= 'z' ? (char)(*c - 'a' + 'A') : *c;
    }
    out[n] = '\0';
}
