/*
 * The command line of vinhub (contract section 2).
 */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "app/app.h"
#include "common/version.h"

static const char usage[] =
    "Usage: vinhub [OPTION]...\n"
    "A clustered WebSocket push hub: one upstream session for each vehicle and service, any number "
    "of browsers.\n"
    "\n"
    "  -c, --config FILE         configuration file (YAML)\n"
    "      --service NAME=URL    a backend: host:port/path, or a ws:// or wss:// URL; may be "
    "repeated\n"
    "      --listen ADDR:PORT    where browsers connect (default 0.0.0.0:8080)\n"
    "      --admin ADDR:PORT     where the admin port listens (default 127.0.0.1:9600)\n"
    "      --redis URL           redis://[user:pass@]host:port/db, or rediss://; default: one "
    "node, no Redis\n"
    "      --node-id ID          default: the host's name and four random hexadecimal digits\n"
    "      --log-level LEVEL     debug, info, warn or error\n"
    "      --check               validate the configuration and exit\n"
    "      --print-config        print the effective configuration and exit\n"
    "      --version             print the version and exit\n"
    "  -h, --help                print this and exit\n"
    "\n"
    "Settings: defaults < file < environment < command line. Each key of the file has a variable:\n"
    "VINHUB__NODE__LEASE is node.lease, VINHUB__SERVICES__REMOTEWS__LINGER is linger of remoteWs.\n"
    "SIGTERM drains and stops, a second one stops at once; SIGHUP reads the configuration again.\n"
    "Exit codes: 0 clean stop, 1 runtime failure, 2 configuration or usage.\n"
    "\n"
    "Example: vinhub --service remoteWs=127.0.0.1:28088/carmonitor/remotews\n";

enum task { TASK_RUN, TASK_CHECK, TASK_PRINT };

enum app_option {
    OPTION_SERVICE = 256,
    OPTION_LISTEN,
    OPTION_ADMIN,
    OPTION_REDIS,
    OPTION_NODE_ID,
    OPTION_LOG_LEVEL,
    OPTION_CHECK,
    OPTION_PRINT,
    OPTION_PRINT_TABLE,
    OPTION_PRINT_FILE,
    OPTION_PRINT_MANUAL,
    OPTION_VERSION,
};

static const struct option options[] = {
    {"config", required_argument, NULL, 'c'},
    {"service", required_argument, NULL, OPTION_SERVICE},
    {"listen", required_argument, NULL, OPTION_LISTEN},
    {"admin", required_argument, NULL, OPTION_ADMIN},
    {"redis", required_argument, NULL, OPTION_REDIS},
    {"node-id", required_argument, NULL, OPTION_NODE_ID},
    {"log-level", required_argument, NULL, OPTION_LOG_LEVEL},
    {"check", no_argument, NULL, OPTION_CHECK},
    {"print-config", no_argument, NULL, OPTION_PRINT},
    /* For hub/docs/configuration.md and for packages. */
    {"print-config-table", no_argument, NULL, OPTION_PRINT_TABLE},
    {"print-config-file", no_argument, NULL, OPTION_PRINT_FILE},
    {"print-config-manual", no_argument, NULL, OPTION_PRINT_MANUAL},
    {"version", no_argument, NULL, OPTION_VERSION},
    {"help", no_argument, NULL, 'h'},
    {NULL, 0, NULL, 0},
};

static _Noreturn void refuse_usage(const char *what, const char *got)
{
    (void)fprintf(stderr, "vinhub: %s (got \"%s\"); see vinhub --help\n", what, got);
    exit(EXIT_USAGE);
}

static _Noreturn void print_and_exit(const char *text)
{
    bool good = text && fputs(text, stdout) >= 0 && fflush(stdout) == 0;
    exit(good ? EXIT_CLEAN : EXIT_RUNTIME);
}

static _Noreturn void print_version(void)
{
    (void)printf("vinhub %s\n", version_full());
    print_and_exit("");
}

static void add_service(struct conf_overrides *overrides, const char *value)
{
    if (!strchr(value, '=') || value[0] == '=')
        refuse_usage("--service: expected NAME=URL", value);
    const char **services = realloc(overrides->services,
                                    (overrides->services_len + 1) * sizeof(*services));
    if (!services)
        abort();
    services[overrides->services_len++] = value;
    overrides->services = services;
}

static const char **text_option(struct app_inputs *inputs, int code)
{
    switch (code) {
    case 'c': return &inputs->file;
    case OPTION_LISTEN: return &inputs->overrides.listen;
    case OPTION_ADMIN: return &inputs->overrides.admin;
    case OPTION_REDIS: return &inputs->overrides.redis_url;
    case OPTION_NODE_ID: return &inputs->overrides.node_id;
    case OPTION_LOG_LEVEL: return &inputs->overrides.log_level;
    default: return NULL;
    }
}

static void read_option(struct app_inputs *inputs, enum task *task, int code, const char *got)
{
    const char **text = text_option(inputs, code);
    if (text) {
        *text = optarg;
        return;
    }
    switch (code) {
    case OPTION_SERVICE: add_service(&inputs->overrides, optarg); break;
    case OPTION_CHECK: *task = TASK_CHECK; break;
    case OPTION_PRINT: *task = TASK_PRINT; break;
    case OPTION_PRINT_TABLE: print_and_exit(conf_markdown());
    case OPTION_PRINT_FILE: print_and_exit(conf_example());
    case OPTION_PRINT_MANUAL: print_and_exit(conf_manual(version_number()));
    case OPTION_VERSION: print_version();
    case 'h': print_and_exit(usage);
    case ':': refuse_usage("this option needs a value", got);
    default: refuse_usage("expected an option of vinhub", got);
    }
}

static enum task read_command_line(int argc, char **argv, struct app_inputs *inputs)
{
    enum task task = TASK_RUN;
    opterr = 0;
    for (;;) {
        int at = optind;
        int code = getopt_long(argc, argv, ":c:h", options, NULL);
        if (code == -1)
            break;
        read_option(inputs, &task, code, argv[at]);
    }
    if (optind < argc)
        refuse_usage("expected options only", argv[optind]);
    return task;
}

static void print_findings(const struct conf_findings *findings)
{
    for (size_t i = 0; i < findings->len; i++)
        (void)fprintf(stderr, "%s\n", findings->lines[i]);
}

static enum exit_code perform(enum task task, const struct app_inputs *inputs, struct conf *conf)
{
    enum exit_code code = EXIT_CLEAN;
    switch (task) {
    case TASK_RUN: return app_run(inputs, conf);
    case TASK_CHECK:
        code = app_check(conf);
        if (code == EXIT_CLEAN)
            print_and_exit("configuration is valid\n");
        return code;
    case TASK_PRINT: print_and_exit(conf_print(conf));
    }
    return code;
}

int main(int argc, char **argv)
{
    struct app_inputs inputs = {0};
    enum task task = read_command_line(argc, argv, &inputs);
    struct conf_findings findings = {0};
    struct conf *conf = NULL;
    enum status status = conf_load(inputs.file, &inputs.overrides, &findings, &conf);
    print_findings(&findings);
    conf_findings_fini(&findings);
    enum exit_code code = EXIT_USAGE;
    if (status == STATUS_OK) {
        code = perform(task, &inputs, conf);
        conf_unref(conf);
    }
    free(inputs.overrides.services);
    return code;
}
