/*
 * The command line of vinhubctl (contract section 2).
 */
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/text.h"
#include "common/version.h"
#include "ctl.h"
#include "ctl_stream.h"

static const char usage[] =
    "Usage: vinhubctl [--admin URL | --redis URL] COMMAND [ARGUMENT]...\n"
    "Asks a cluster of vinhub nodes, through a node's admin port or through Redis alone.\n"
    "\n"
    "  nodes                list the nodes\n"
    "  sessions             list the sessions\n"
    "  session ID           show one session, e.g. remoteWs:LSVAA4182E2\n"
    "  top                  nodes and rates, refreshed each second; q ends\n"
    "  tail ID              follow the messages of a session\n"
    "  tail URL             the same from a node's traffic port, as a page gets them:\n"
    "                       http://host:8080/admin/LSVAA4182E2?remoteWs\n"
    "  publish ID DATA      push DATA to every client of the session; - reads it from stdin\n"
    "  drain [NODE]         drain and stop a node, as SIGTERM does; default: the node with the\n"
    "                       admin port\n"
    "  close ID             close the clients of a session\n"
    "  clients [FILTER]     list the clients of all nodes; FILTER: one or more key=value, all\n"
    "                       must match; keys: user, vin, service, session, node, address\n"
    "  kick FILTER          close these clients; reason=TEXT is sent to them\n"
    "  revoke jti=ID        refuse a token on all nodes, and close its clients\n"
    "  revoke sub=USER [before=S]\n"
    "                       the same for all tokens of a user that were issued before the Unix\n"
    "                       time S in seconds (default: now)\n"
    "\n"
    "      --admin URL      admin port of a node (default http://127.0.0.1:9600)\n"
    "      --token-file F   file with the token of the admin port (default: the variable\n"
    "                       VINHUB_ADMIN_TOKEN). For tail URL: the token of a page (default: "
    "none)\n"
    "      --redis URL      ask Redis instead: redis://, rediss://, also -sentinel and -cluster\n"
    "      --prefix NAME    prefix of the keys in Redis (default vinhub)\n"
    "      --ca FILE        trusted authorities for rediss and https (default: the system's)\n"
    "      --cert FILE      our own certificate, if the other side requires one; with --key FILE\n"
    "      --tls-name NAME  expected name in the other side's certificate (default: the host of\n"
    "                       the URL)\n"
    "      --json           print answers as JSON\n"
    "      --version, -h, --help\n"
    "\n"
    "Exit codes: 0 done, 1 not found or unreachable, 2 usage.\n";

struct command_line {
    const char *admin, *redis, *prefix, *token_file;
    struct tls_client tls;
    bool as_json;
};

typedef enum ctl_exit command_fn(struct ctl_source *source, const struct command_line *line,
                                 char **arguments, int len);

static _Noreturn void refuse_usage(const char *what, const char *got)
{
    (void)fprintf(stderr,
                  got ? "vinhubctl: %s (got \"%s\"); see vinhubctl --help\n"
                      : "vinhubctl: %s%.0s; see vinhubctl --help\n",
                  what, got ? got : "");
    exit(CTL_USAGE);
}

enum status source_fail(struct ctl_source *source, enum status status, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(source->why, sizeof(source->why), format, arguments);
    va_end(arguments);
    return status;
}

static enum ctl_exit fail(const struct ctl_source *source)
{
    (void)fprintf(stderr, "vinhubctl: %s\n", source->why);
    return CTL_FAILED;
}

/* Takes over the reference. */
static enum ctl_exit print_json(json_t *json)
{
    bool good = json && json_dumpf(json, stdout, JSON_COMPACT) == 0 && fputc('\n', stdout) != EOF;
    json_decref(json);
    return good && fflush(stdout) == 0 ? CTL_DONE : CTL_FAILED;
}

static enum ctl_exit run_nodes(struct ctl_source *source, const struct command_line *line,
                               char **arguments, int len)
{
    (void)arguments;
    (void)len;
    json_t *nodes = NULL;
    if (source->ops->nodes(source, &nodes) != STATUS_OK)
        return fail(source);
    if (line->as_json)
        return print_json(json_pack("{s:o}", "nodes", nodes));
    table_nodes(nodes);
    json_decref(nodes);
    return CTL_DONE;
}

static enum ctl_exit run_sessions(struct ctl_source *source, const struct command_line *line,
                                  char **arguments, int len)
{
    (void)arguments;
    (void)len;
    json_t *sessions = NULL;
    if (source->ops->sessions(source, &sessions) != STATUS_OK)
        return fail(source);
    if (line->as_json)
        return print_json(json_pack("{s:o}", "sessions", sessions));
    table_sessions(sessions);
    json_decref(sessions);
    return CTL_DONE;
}

static enum ctl_exit run_session(struct ctl_source *source, const struct command_line *line,
                                 char **arguments, int len)
{
    (void)len;
    json_t *session = NULL;
    if (source->ops->session(source, arguments[0], &session) != STATUS_OK)
        return fail(source);
    if (line->as_json)
        return print_json(session);
    table_session(session);
    json_decref(session);
    return CTL_DONE;
}

static enum ctl_exit run_top(struct ctl_source *source, const struct command_line *line,
                             char **arguments, int len)
{
    (void)arguments;
    (void)len;
    enum ctl_exit code = top_run(source, line->as_json);
    return code == CTL_FAILED ? fail(source) : code;
}

static long long number_in(const json_t *json, const char *name)
{
    return (long long)json_integer_value(json_object_get(json, name));
}

static void print_status(const json_t *status)
{
    const char *reason = json_string_value(json_object_get(status, "reason"));
    (void)printf("(upstream %s%s%s)", json_string_value(json_object_get(status, "upstream")),
                 reason ? ": " : "", reason ? reason : "");
}

static void print_payload(const json_t *json)
{
    const json_t *payload = json_object_get(json, "payload");
    const char *encoding = json_string_value(json_object_get(json, "encoding"));
    (void)printf("%lld.%lld  %s", number_in(json, "epoch"), number_in(json, "offset"),
                 encoding && strcmp(encoding, "text") != 0 ? "base64:" : "");
    (void)fwrite(json_string_value(payload), 1, json_string_length(payload), stdout);
}

static bool print_message(void *ctx, const json_t *json)
{
    const struct command_line *line = ctx;
    const json_t *status = json_object_get(json, "status"), *gap = json_object_get(json, "gap");
    if (line->as_json)
        (void)json_dumpf(json, stdout, JSON_COMPACT);
    else if (json_object_get(json, "dropped"))
        (void)printf("(%lld messages left out)", number_in(json, "dropped"));
    else if (status)
        print_status(status);
    else if (gap && number_in(gap, "to"))
        (void)printf("(lost: %lld.%lld to %lld)", number_in(gap, "epoch"), number_in(gap, "from"),
                     number_in(gap, "to"));
    else if (gap)
        (void)printf("(lost: from %lld.%lld on)", number_in(gap, "epoch"), number_in(gap, "from"));
    else
        print_payload(json);
    return fputc('\n', stdout) != EOF && fflush(stdout) == 0;
}

/* The first line of the file. The caller frees. */
static char *read_token_file(const char *file)
{
    FILE *stream = fopen(file, "re");
    char *token = NULL;
    size_t room = 0;
    if (!stream || getline(&token, &room, stream) < 0)
        refuse_usage("--token-file: expected a file with the token in its first line", file);
    (void)fclose(stream);
    token[strcspn(token, "\r\n")] = '\0';
    return token;
}

static enum ctl_exit tail_url(const struct command_line *line, const char *url)
{
    char why[1024];
    char *token = line->token_file ? read_token_file(line->token_file) : NULL;
    const struct ctl_stream_setup setup = {.url = url, .token = token, .tls = &line->tls};
    enum status status = ctl_stream_tail(&setup, print_message, (void *)line, why, sizeof(why));
    free(token);
    if (status == STATUS_OK)
        return CTL_DONE;
    (void)fprintf(stderr, "vinhubctl: %s\n", why);
    return status == STATUS_INVALID ? CTL_USAGE : CTL_FAILED;
}

static enum ctl_exit run_tail(struct ctl_source *source, const struct command_line *line,
                              char **arguments, int len)
{
    (void)len;
    if (ctl_stream_is_url(arguments[0]))
        return tail_url(line, arguments[0]);
    return source->ops->tail(source, arguments[0], print_message, (void *)line) == STATUS_OK
               ? CTL_DONE
               : fail(source);
}

#define MOST ((4 << 20) + 1)

/* All of stdin, but at most one byte more than the admin port accepts. The caller frees. */
static char *read_stdin(size_t *out_len)
{
    char *data = malloc(MOST);
    if (!data)
        abort();
    *out_len = fread(data, 1, MOST, stdin);
    return data;
}

static enum ctl_exit run_publish(struct ctl_source *source, const struct command_line *line,
                                 char **arguments, int len)
{
    (void)len;
    bool from_stdin = strcmp(arguments[1], "-") == 0;
    size_t data_len = strlen(arguments[1]);
    char *data = from_stdin ? read_stdin(&data_len) : arguments[1];
    json_t *answer = NULL;
    enum status status = text_is_utf8(data, data_len)
                             ? source->ops->publish(source, arguments[0], data, data_len, &answer)
                             : source_fail(source, STATUS_INVALID, "DATA: expected UTF-8 text");
    if (from_stdin)
        free(data);
    if (status != STATUS_OK)
        return fail(source);
    if (line->as_json)
        return print_json(answer);
    (void)printf("published as %lld.%lld\n",
                 (long long)json_integer_value(json_object_get(answer, "epoch")),
                 (long long)json_integer_value(json_object_get(answer, "offset")));
    json_decref(answer);
    return CTL_DONE;
}

static enum ctl_exit done(const struct command_line *line, const char *what, const char *name)
{
    if (line->as_json)
        return print_json(json_pack("{s:s}", what, name));
    (void)printf("%s %s\n", what, name);
    return CTL_DONE;
}

static enum ctl_exit run_drain(struct ctl_source *source, const struct command_line *line,
                               char **arguments, int len)
{
    const char *node = len > 0 ? arguments[0] : NULL;
    if (!node && line->redis)
        refuse_usage("drain over Redis: expected the id of a NODE", NULL);
    return source->ops->drain(source, node) == STATUS_OK
               ? done(line, "draining", node ? node : "this node")
               : fail(source);
}

static enum ctl_exit run_close(struct ctl_source *source, const struct command_line *line,
                               char **arguments, int len)
{
    (void)len;
    return source->ops->close(source, arguments[0]) == STATUS_OK
               ? done(line, "closed", arguments[0])
               : fail(source);
}

static const char *const filter_keys[] = {"user", "vin",     "service", "session",
                                          "node", "address", NULL};

/* An object made of the arguments: each must be key=value, with one of the keys or more, once. */
static json_t *pairs_of(char **arguments, int len, const char *const *keys, const char *more)
{
    json_t *json = json_object();
    for (int i = 0; i < len; i++) {
        char *equals = strchr(arguments[i], '=');
        const char *const *key = keys;
        if (!equals || !equals[1])
            refuse_usage("expected key=value", arguments[i]);
        *equals = '\0';
        while (*key && strcmp(*key, arguments[i]) != 0)
            key++;
        if (!*key && strcmp(more, arguments[i]) != 0)
            refuse_usage("unknown key, see the keys of this command", arguments[i]);
        if (json_object_get(json, arguments[i]))
            refuse_usage("expected each key once", arguments[i]);
        if (json_object_set_new(json, arguments[i], json_string(equals + 1)) != 0)
            refuse_usage("expected UTF-8", equals + 1);
    }
    return json;
}

static void print_missing(const json_t *answer)
{
    size_t i = 0;
    json_t *name = NULL;
    json_array_foreach(json_object_get(answer, "missing"), i, name)(void)
        fprintf(stderr, "vinhubctl: node %s did not answer\n", json_string_value(name));
}

static enum ctl_exit run_clients(struct ctl_source *source, const struct command_line *line,
                                 char **arguments, int len)
{
    json_t *filter = pairs_of(arguments, len, filter_keys, ""), *answer = NULL;
    enum status status = source->ops->clients(source, filter, &answer);
    json_decref(filter);
    if (status != STATUS_OK)
        return fail(source);
    print_missing(answer);
    if (line->as_json)
        return print_json(answer);
    table_clients(json_object_get(answer, "clients"));
    json_decref(answer);
    return CTL_DONE;
}

static json_int_t print_closed(const struct command_line *line, json_t *answer)
{
    json_int_t closed = json_integer_value(json_object_get(answer, "closed"));
    print_missing(answer);
    if (line->as_json) {
        (void)print_json(answer);
        return closed;
    }
    (void)printf("closed %lld\n", (long long)closed);
    json_decref(answer);
    return closed;
}

static enum ctl_exit run_kick(struct ctl_source *source, const struct command_line *line,
                              char **arguments, int len)
{
    json_t *filter = pairs_of(arguments, len, filter_keys, "reason"), *answer = NULL;
    if (json_object_size(filter) == (json_object_get(filter, "reason") ? 1 : 0))
        refuse_usage("expected at least one filter, got only reason", NULL);
    enum status status = source->ops->kick(source, filter, &answer);
    json_decref(filter);
    if (status != STATUS_OK)
        return fail(source);
    return print_closed(line, answer) > 0 ? CTL_DONE : CTL_FAILED;
}

static enum ctl_exit run_revoke(struct ctl_source *source, const struct command_line *line,
                                char **arguments, int len)
{
    static const char *const keys[] = {"jti", "sub", NULL};
    json_t *token = pairs_of(arguments, len, keys, "before"), *answer = NULL;
    const char *before = json_string_value(json_object_get(token, "before"));
    if (!json_object_get(token, "jti") == !json_object_get(token, "sub") ||
        (before && !json_object_get(token, "sub")))
        refuse_usage("expected jti=ID, or sub=USER with or without before=SECONDS", NULL);
    if (before && (strspn(before, "0123456789") != strlen(before) || strlen(before) > 15))
        refuse_usage("before: expected a Unix time in seconds", before);
    if (before)
        (void)json_object_set_new(token, "before", json_integer(strtoll(before, NULL, 10)));
    enum status status = source->ops->revoke(source, token, &answer);
    json_decref(token);
    if (status != STATUS_OK)
        return fail(source);
    (void)print_closed(line, answer);
    return CTL_DONE;
}

#define FILTERS_MOST 8

static const struct command {
    const char *name, *arguments;
    int least, most;
    command_fn *fn;
} commands[] = {
    {"nodes", "", 0, 0, run_nodes},
    {"sessions", "", 0, 0, run_sessions},
    {"session", " ID", 1, 1, run_session},
    {"top", "", 0, 0, run_top},
    {"tail", " ID|URL", 1, 1, run_tail},
    {"publish", " ID DATA", 2, 2, run_publish},
    {"drain", " [NODE]", 0, 1, run_drain},
    {"close", " ID", 1, 1, run_close},
    {"clients", " [KEY=VALUE]...", 0, FILTERS_MOST, run_clients},
    {"kick", " KEY=VALUE...", 1, FILTERS_MOST, run_kick},
    {"revoke", " jti=ID | sub=USER [before=SECONDS]", 1, 2, run_revoke},
};

static const struct command *command_of(int argc, char **argv)
{
    if (optind >= argc)
        refuse_usage("expected a command: nodes, sessions, session, top, tail, publish, drain, "
                     "close, clients, "
                     "kick or revoke",
                     NULL);
    for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
        const struct command *command = &commands[i];
        int len = argc - optind - 1;
        if (strcmp(command->name, argv[optind]) != 0)
            continue;
        if (len >= command->least && len <= command->most)
            return command;
        (void)fprintf(stderr, "vinhubctl: expected: vinhubctl %s%s (got %d arguments)\n",
                      command->name, command->arguments, len);
        exit(CTL_USAGE);
    }
    refuse_usage(
        "expected nodes, sessions, session, top, tail, publish, drain, close, clients, kick "
        "or revoke",
        argv[optind]);
}

enum ctl_option {
    OPTION_ADMIN = 256,
    OPTION_REDIS,
    OPTION_PREFIX,
    OPTION_CA,
    OPTION_CERT,
    OPTION_KEY,
    OPTION_TLS_NAME,
    OPTION_TOKEN_FILE,
    OPTION_JSON,
    OPTION_VERSION
};

static const struct option options[] = {
    {"admin", required_argument, NULL, OPTION_ADMIN},
    {"redis", required_argument, NULL, OPTION_REDIS},
    {"prefix", required_argument, NULL, OPTION_PREFIX},
    {"ca", required_argument, NULL, OPTION_CA},
    {"cert", required_argument, NULL, OPTION_CERT},
    {"key", required_argument, NULL, OPTION_KEY},
    {"tls-name", required_argument, NULL, OPTION_TLS_NAME},
    {"token-file", required_argument, NULL, OPTION_TOKEN_FILE},
    {"json", no_argument, NULL, OPTION_JSON},
    {"version", no_argument, NULL, OPTION_VERSION},
    {"help", no_argument, NULL, 'h'},
    {NULL, 0, NULL, 0},
};

static void read_options(int argc, char **argv, struct command_line *line)
{
    opterr = 0;
    for (;;) {
        int at = optind;
        int code = getopt_long(argc, argv, ":h", options, NULL);
        switch (code) {
        case -1: return;
        case OPTION_ADMIN: line->admin = optarg; break;
        case OPTION_REDIS: line->redis = optarg; break;
        case OPTION_PREFIX: line->prefix = optarg; break;
        case OPTION_CA: line->tls.ca = optarg; break;
        case OPTION_CERT: line->tls.cert = optarg; break;
        case OPTION_KEY: line->tls.key = optarg; break;
        case OPTION_TLS_NAME: line->tls.name = optarg; break;
        case OPTION_TOKEN_FILE: line->token_file = optarg; break;
        case OPTION_JSON: line->as_json = true; break;
        case OPTION_VERSION: (void)printf("vinhubctl %s\n", version_full()); exit(CTL_DONE);
        case 'h': (void)fputs(usage, stdout); exit(CTL_DONE);
        case ':': refuse_usage("this option needs a value", argv[at]);
        default: refuse_usage("expected an option of vinhubctl", argv[at]);
        }
    }
}

/* The token of the file, or of the environment. NULL: none. The caller frees. */
static char *read_token(const char *file)
{
    const char *environment = getenv("VINHUB_ADMIN_TOKEN");
    if (file)
        return read_token_file(file);
    return environment ? strdup(environment) : NULL;
}

static struct ctl_source *source_of(const struct command_line *line)
{
    struct ctl_source *source = NULL;
    if (line->admin && line->redis)
        refuse_usage("expected --admin or --redis, not both", NULL);
    if (line->redis) {
        if (!text_is_name(line->prefix, strlen(line->prefix)))
            refuse_usage("--prefix: expected up to 64 of A-Z a-z 0-9 _ . -", line->prefix);
        if (source_redis_new(line->redis, line->prefix, &line->tls, &source) != STATUS_OK)
            refuse_usage("--redis: expected redis://[user:pass@]host:port/db or rediss://",
                         line->redis);
        return source;
    }
    char *token = read_token(line->token_file);
    const char *url = line->admin ? line->admin : "http://127.0.0.1:9600";
    if (source_admin_new(url, token, &source) != STATUS_OK)
        refuse_usage("--admin: expected http://host:port", url);
    free(token);
    return source;
}

int main(int argc, char **argv)
{
    struct command_line line = {
        .prefix = "vinhub", .tls.name_setting = "--tls-name", .tls.cert_setting = "--cert"};
    read_options(argc, argv, &line);
    const struct command *command = command_of(argc, argv);
    struct ctl_source *source = source_of(&line);
    enum ctl_exit code = command->fn(source, &line, argv + optind + 1, argc - optind - 1);
    source->ops->free(source);
    return code;
}
