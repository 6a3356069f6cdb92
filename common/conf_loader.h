/*
 * A configuration while it is read: its values, where each came from, and what was found wrong.
 *
 * conf_yaml.c fills it from the file, conf_environment.c from the environment, conf_load.c from the
 * command line; conf_check.c looks at the whole.
 */
#ifndef VINHUB_COMMON_CONF_LOADER_H
#define VINHUB_COMMON_CONF_LOADER_H

#include "common/conf_rows.h"

#define CONF_SERVICES_MAX   1000
#define CONF_KEY_MAX        256                 /* with the NUL; of a key with all its parts */
#define CONF_SERVICE_ITSELF (CONF_ROWS_MAX - 1) /* where the service as a whole comes from */

/* Where a value came from: a line of the file, an environment variable, a flag; NULL: the default.
 */
struct conf_where {
    const char *source;
    size_t line; /* 0: source is no file */
};

struct conf_loader {
    const char *file; /* NULL: none */
    struct conf *conf;
    struct conf_findings *findings;
    bool services_refused; /* a mistake kept services out of the list: that it is empty is not
                              reported as well */
    struct conf_where where[CONF_ROWS_MAX];            /* by row of conf_rows */
    struct conf_where (*service_where)[CONF_ROWS_MAX]; /* by service, by row of conf_service_rows */
    char **sources; /* names of variables, which places and findings point to while it is read */
    size_t sources_len;
};

/* A mistake: "source:line: key: text". */
PRINTF_LIKE(4, 5)
void conf_mistake(struct conf_loader *loader, struct conf_where where, const char *key,
                  const char *format, ...);
PRINTF_LIKE(4, 5)
void conf_warning(struct conf_loader *loader, struct conf_where where, const char *key,
                  const char *format, ...);

/* Sets one value and remembers where it came from; reports a mistake under key. */
void conf_assign(struct conf_loader *loader, struct conf_where where, const struct conf_row *row,
                 void *base, struct conf_where *origin, const char *key, const char *text);
/* The same for a row of conf_rows by its key; source is no file. */
void conf_assign_named(struct conf_loader *loader, const char *source, const char *key,
                       const char *text);
/* Adds an item to a map. A header may be added once, and ${NAME} in its value is replaced from the
 * environment. Reports a mistake under key, without the value. */
void conf_assign_pair(struct conf_loader *loader, struct conf_where where,
                      const struct conf_row *row, void *base, const char *key, const char *name,
                      const char *value);
/* A mistake about one value: what the row allows, and what was there (unless secret). */
void conf_refuse_value(struct conf_loader *loader, struct conf_where where,
                       const struct conf_row *row, const char *key, const char *got);
/* The same where no text was there; got is what was: "a list". */
void conf_refuse_kind(struct conf_loader *loader, struct conf_where where,
                      const struct conf_row *row, const char *key, const char *got);
/* The text with "***" in place of the values of its query, which may be credentials; a value that
 * is a placeholder ("{vin}") stays. The caller frees. */
char *conf_hide_query(const char *text);
/* The same, also in place of the credentials of a URL in it: all in front of the last '@'. */
char *conf_hide_credentials(const char *text);
/* A mistake: there is no such key. Says which of the rows' parts below prefix ("history.") are
 * allowed instead, and which is the nearest to name ("sise"). conf_unknown_key.c. */
void conf_refuse_key(struct conf_loader *loader, struct conf_where where, const char *key,
                     const struct conf_row *rows, const char *prefix, const char *name);

/* A new service with defaults at the end of the list. Its index. */
size_t conf_add_service(struct conf_loader *loader, struct conf_where where);
/* "NAME=URL" of environment or command line: adds the service where it is not there. A text of
 * another form is left to conf_assign_service. */
void conf_declare_service(struct conf_loader *loader, const char *source, const char *text);
/* The same, and gives the service that URL; reports a mistake. */
void conf_assign_service(struct conf_loader *loader, const char *source, const char *text);
/* Where a row of conf_rows was set; without source where it has its default. */
struct conf_where conf_origin(const struct conf_loader *loader, const char *key);
/* The same for a row of the service at that index; where it has its default, where the service
 * comes from. */
struct conf_where conf_service_origin(const struct conf_loader *loader, size_t service,
                                      const char *key);

#define CONF_SERVICE_KEY_MAX (CONF_NAME_MAX + 64)

/* "services.remoteWs.linger", by its place in the list where it has no name. */
const char *conf_service_key(const struct conf_loader *loader, size_t service, const char *key,
                             char out[CONF_SERVICE_KEY_MAX]);

/* Reads loader->file. False if it is not YAML: checking the whole makes no sense then. */
bool conf_read_yaml(struct conf_loader *loader);
/* Declares the services of VINHUB_SERVICES. */
void conf_declare_environment(struct conf_loader *loader);
/* Reads the VINHUB_ variables. All services have been declared before. */
void conf_read_environment(struct conf_loader *loader);
/* Reads the files of secrets and keys that the configuration names, and checks what no row can
 * check alone. */
void conf_check(struct conf_loader *loader);
/* The part of it that concerns keys, certificates and secrets (conf_keys.c). */
void conf_check_keys(struct conf_loader *loader);

#endif
