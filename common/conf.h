/*
 * The configuration: its C form, and how it is read.
 *
 * One table of rows (conf_rows.c) drives the YAML reader, the checks, --print-config and the table
 * in hub/docs/configuration.md. Settings override each other: defaults < file < environment <
 * command line.
 * A configuration is immutable once it is loaded; a reload makes a new one, so that those who hold
 * the old one (sessions hold their service) keep it by reference count.
 */
#ifndef VINHUB_COMMON_CONF_H
#define VINHUB_COMMON_CONF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/status.h"
#include "common/text.h"

#define CONF_NAME_MAX TEXT_NAME_MAX
/* No name for a service: in a URL it stands for none (contract section 6). */
#define CONF_SUBSCRIBE "subscribe"

enum on_loss { ON_LOSS_FENCE, ON_LOSS_SERVE };
enum slow_policy { SLOW_CLOSE, SLOW_DROP_OLDEST, SLOW_LATEST };
enum auth_mode { AUTH_NONE, AUTH_JWT };
enum log_level { LOG_LEVEL_DEBUG, LOG_LEVEL_INFO, LOG_LEVEL_WARN, LOG_LEVEL_ERROR };
enum log_format { LOG_FORMAT_TEXT, LOG_FORMAT_JSON };

struct key_set;

struct conf_pair { /* an item of a map: a header, a canned reply */
    char *name;
    char *value;
};

/* A digest of a file's content when it was read, so that a reload notices a change. */
struct conf_digest {
    unsigned char sha256[32]; /* zeros: no file is named */
};

/* A backend and how the hub speaks to it. Reference counted: sessions outlive a reload. */
struct service {
    unsigned refs;
    char *name;
    char *upstream; /* URL template as configured, a scheme always in front (host:port/path gets
                       ws://) */
    char *session;  /* session key template; "" is the same as "{vin}" */
    struct conf_pair *headers;
    size_t headers_len;
    char *tls_ca;
    struct conf_digest tls_ca_digest;
    struct {
        char *text;
        char *reply;
        uint32_t every_ms; /* 0: no heartbeat */
        uint32_t timeout_ms;
    } heartbeat;
    struct {
        uint32_t min_ms, max_ms, timeout_ms;
    } reconnect;
    uint32_t linger_ms;
    struct {
        uint32_t size; /* publications; 0: none */
        uint32_t ttl_ms;
        uint32_t every_ms; /* how late it may be written; 0: with each push */
    } history;
    uint32_t replay;
    bool presence; /* clients of vinhub.v1 get PRESENCE */
    struct {
        size_t queue_bytes;
        uint32_t wait_ms;
    } to_upstream;
    struct {
        size_t queue_bytes;
        enum slow_policy policy;
    } slow_client;
    size_t upstream_max_message_bytes;
};

struct conf {
    unsigned refs;
    struct {
        char *id; /* "": HOSTNAME-xxxx is made at start */
        uint32_t lease_ms, drain_ms;
    } node;
    struct {
        char *address; /* "host:port" */
        char *tls_cert, *tls_key;
        struct conf_digest tls_digest; /* of what the two files hold */
        bool proxy_protocol;
        char **trusted_proxies; /* addresses or CIDR */
        size_t trusted_proxies_len;
    } listen;
    struct {
        char *address;
        char *token;
        bool allow_open;
    } admin;
    struct {
        char *url; /* "": one node, bus in memory */
        char *prefix;
        char *tls_ca;
        char *tls_cert, *tls_key;                /* the hub's own, both or none */
        char *tls_name;                          /* "": the host connected to */
        char *sentinel_user, *sentinel_password; /* "": those of the URL */
        uint32_t replicas;
        enum on_loss on_loss;
    } redis;
    struct service **services;
    size_t services_len;
    char *default_service;
    struct {
        struct conf_pair *replies;
        size_t replies_len;
        uint32_t ping_every_ms, ping_timeout_ms;
        size_t max_message_bytes;
        uint32_t rate_messages, rate_per_ms, rate_burst;
        uint32_t max, max_per_ip, max_subscriptions;
        bool compression;
    } clients;
    char **origins;
    size_t origins_len;
    struct {
        enum auth_mode mode;
        char *algorithm;                                 /* HS256 HS384 HS512 RS256 ES256 EdDSA */
        char *secret_file, *public_key_file, *keys_file; /* one of them */
        struct key_set *keys; /* the keys that verify tokens; NULL if mode is none */
        char *secret;     /* of HS algorithms: VINHUB_JWT_SECRET, or what secret_file holds; never
                             printed */
        char *public_key; /* of the others: what public_key_file holds, PEM; NULL where it is not
                             needed */
        char *audience, *issuer;
    } auth;
    struct {
        enum log_level level;
        enum log_format format;
        bool audit;
    } log;
};

/* What the command line says; a NULL or zero member says nothing. */
struct conf_overrides {
    const char *listen, *admin, *redis_url, *node_id, *log_level;
    const char **services; /* "NAME=URL" each */
    size_t services_len;
};

/* What was wrong (or worth a warning), one line a finding, ready for stderr: "file:line: key: what
 * is allowed". Mistakes come first; a warning reads "file:line: key: warning: text". */
struct conf_findings {
    char **lines;
    size_t len;
    size_t errors; /* how many of the lines are errors; the rest are warnings */
};

/*
 * Reads file (NULL: none), then the environment, then the overrides; checks the whole.
 * A service from environment or command line is a new one, or gives one of the file another
 * upstream and leaves the rest of it. Empty environment variables say nothing; an empty override
 * does ("--redis ''"). All mistakes are gathered, not just the first. On STATUS_OK *out is a
 * configuration with one reference that the caller owns; findings may hold warnings then. Returns
 * STATUS_INVALID where a mistake was found or the file can't be read: *out is untouched.
 */
MUST_USE enum status conf_load(const char *file, const struct conf_overrides *overrides,
                               struct conf_findings *findings, struct conf **out);
void conf_findings_fini(struct conf_findings *findings);

struct conf *conf_ref(struct conf *conf);
void conf_unref(struct conf *conf);
struct service *service_ref(struct service *service);
void service_unref(struct service *service);

/* The service of that name (name_len bytes, not terminated), or NULL. */
struct service *conf_service(const struct conf *conf, const char *name, size_t name_len);

/* The effective configuration as YAML that conf_load reads back to the same; secrets are shown as
 * "***". Returns a malloc'd string the caller frees. */
char *conf_print(const struct conf *conf);
/* The table in hub/docs/configuration.md: every key, its variable, default and meaning, as
 * Markdown. Returns a malloc'd string the caller frees. */
char *conf_markdown(void);
/* A file with every key explained: services of an example, all else commented out. Caller frees. */
char *conf_example(void);
/* The manual page vinhub.yaml(5), in man macros. Caller frees. */
char *conf_manual(const char *version);

/* One line for each difference that a reload applies or that needs a restart; the caller frees with
 * conf_findings_fini. Values of secrets never show. */
void conf_diff(const struct conf *before, const struct conf *after, struct conf_findings *changes);
/* Gives after, which nobody else holds yet, the values of before that only a restart changes: what
 * is in force is what a configuration says, also after a reload. */
void conf_keep_fixed(const struct conf *before, struct conf *after);

#endif
