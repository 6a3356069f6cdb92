/*
 * From a browser's request line to a session: the URL forms of contract section 4, the session key
 * and the upstream URL.
 *
 * Pure text work. Parts are kept as they came for the upstream and decoded for matching. Where the
 * contract leaves a case open, it is decided thus:
 * - "/ws/V?svc" is a path of two parts: user "ws", vin "V". Only a path that is "/ws" alone has no
 * user.
 * - The user of "/a;b" is what follows the first raw ';' (an escaped one is data); neither side may
 * be empty. In a path of two parts ';' is data. No piece between ';' is "." or "..": some backends
 * cut a part at its ';'.
 * - A parameter vin names the vin in each form whose path has none, so that what the backend may
 * read is what is authorized. Names of parameters are matched decoded, for the same reason; one
 * that can't be decoded is kept as it came.
 * - The query is read by url_query.h: '+' is a space there, in the path it is an ordinary byte.
 * Empty query items are left out of the query. '#', spaces, control bytes and what is no UTF-8 are
 * malformed anywhere in the request, as is one longer than URL_REQUEST_MAX.
 * - A query parameter that some backends take for the vin and others do not (" vin", "vin[]",
 * "k=v;vin=X") is malformed. The vin goes upstream as every backend reads it alike.
 * - replay, rate or vin given twice, an empty vin, a replay or rate that is no number are
 * malformed. Of several resume the first counts, and one that can't be decoded is "" (contract
 * section 6: an unreadable one is no error). What is wrong with a token is said by token_flaw.
 * - An item "subscribe" without a value asks for a connection without a session of its own, where
 * the client may have that (options): else there is no such service. Beside a service or a vin it
 * is malformed.
 * - A query that becomes part of a session key has digests in place of credentials
 * (query_is_secret): keys stand in logs, Redis and the console. Clients with the same credential
 * share a session as before.
 * - A session template that names {vin} or {user} where the URL has none falls back to
 * {path}{query} as a whole: it never joins clients that some part of the URL tells apart.
 */
#ifndef VINHUB_COMMON_URL_H
#define VINHUB_COMMON_URL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/conf.h"
#include "common/status.h"

#define SESSION_KEY_MAX 256 /* bytes, before escaping (contract section 1) */
#define RATE_MIN_MILLI  100 /* ?rate=, in thousandths of a message a second (contract section 6) */
#define RATE_MAX_MILLI  100000
#define URL_REQUEST_MAX 8192 /* bytes of path and query; the longest token still fits */
/* "service:" and every byte of the key as %XX, and the terminator */
#define SESSION_ID_MAX (CONF_NAME_MAX + 1 + 3 * SESSION_KEY_MAX + 1)

/* What a request names. Strings are owned; absent ones are NULL. */
struct target {
    struct service *service; /* referenced; NULL: ?subscribe, it names no session */
    char *path;              /* as it came, without the query: "/admin/VIN123" */
    char *user;              /* decoded, may be NULL */
    char *vin;               /* decoded, may be NULL */
    char *query;             /* what is left of the query, with its "?", or "" */
    char *token; /* the first ?token= that is not empty, where take_token; decoded, or NULL */
    const char *token_flaw; /* why that token is none; a static text or NULL */
    char *resume;           /* value of ?resume= of a protocol client, decoded, or NULL */
    bool has_replay;
    uint32_t replay;                 /* ?replay=N */
    uint32_t rate_milli;             /* ?rate=R of a protocol client, in thousandths; 0: none */
    bool subscribes;                 /* ?subscribe */
    char session_id[SESSION_ID_MAX]; /* service:key, escaped; "" where it names no session */
};

struct url_options {
    bool take_token;      /* auth.mode is jwt: token is the hub's own parameter */
    bool protocol_client; /* resume and rate are the hub's own parameters */
    bool may_subscribe;   /* ?subscribe is taken */
};

/*
 * Parses the request target ("/admin/VIN?remoteWs&k=v", as it stands in the request line).
 * STATUS_OK: *out is filled, target_fini frees. STATUS_INVALID: malformed (HTTP 400);
 * STATUS_NOT_FOUND: no service (404); STATUS_NO_MEMORY. On failure why points to a static one-line
 * text and *out is untouched.
 */
MUST_USE enum status url_parse(const struct conf *conf, const char *request, size_t len,
                               const struct url_options *options, struct target *out,
                               const char **why);
void target_fini(struct target *target);

/*
 * Reads path and query of a target again ("/admin/VIN?k=v": path and query one after the other),
 * for that service as it is now; the hub's own parameters are not in it any more, and none is taken
 * out. The text may come from another node: a caller that does not trust it compares session_id. As
 * url_parse: STATUS_INVALID or STATUS_NO_MEMORY, and *out untouched; target_fini frees.
 */
MUST_USE enum status url_reread(struct service *service, const char *text, size_t len,
                                struct target *out);

/*
 * The upstream URL of a target by its service's template: {path} {user} {vin} {query} {service}
 * {key}; where the template holds no placeholder, {path}{query} is appended (the path goes before a
 * query of the template's own, and not after a second '/'). {query} goes on with '&' where the URL
 * has a '?' before it. Other values are percent-encoded but for unreserved bytes (RFC 3986
 * section 2.3), which is safe in path and query; one that the URL lacks is empty. Returns a
 * malloc'd string, NULL when out of memory.
 */
char *url_upstream(const struct target *target);

/* The URL without the values of its query parameters ("ws://h/p?vin=…&x=…"), for records and logs.
 * Caller frees. */
char *url_redact(const char *url);

/* True where the template names the user but the session key does not, so that --check warns with
 * auth on. */
bool url_template_leaks_user(const struct service *service);
/* STATUS_INVALID where a template holds an unknown placeholder or a stray brace; why is a static
 * text. */
MUST_USE enum status url_template_check(const char *text, const char **why);

#endif
