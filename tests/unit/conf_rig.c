#include "conf_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

char folder[64];

int make_folder(void **state)
{
    (void)state;
    strcpy(folder, "/tmp/test_conf.XXXXXX");
    return !mkdtemp(folder) ? -1 : 0;
}

int remove_folder(void **state)
{
    (void)state;
    char command[128];
    snprintf(command, sizeof(command), "rm -r %s", folder);
    return system(command);
}

int clear_environment(void **state)
{
    (void)state;
    for (char **entry = environ; *entry;) {
        char name[256];
        snprintf(name, sizeof(name), "%.*s", (int)strcspn(*entry, "="), *entry);
        if (strncmp(name, "VINHUB_", 7) == 0 && unsetenv(name) == 0)
            entry = environ; /* the others have moved up */
        else
            entry++;
    }
    return 0;
}

const char *write_file(const char *name, const char *text)
{
    static char paths[8][128];
    static size_t next;
    char *path = paths[next++ % 8];
    snprintf(path, sizeof(paths[0]), "%s/%s", folder, name);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    assert_int_equal(fclose(file), 0);
    return path;
}

struct conf_findings findings;

enum status load(const char *text, const struct conf_overrides *overrides, struct conf **out)
{
    return conf_load(text ? write_file("vinhub.yaml", text) : NULL, overrides, &findings, out);
}

static void print_findings(void)
{
    for (size_t i = 0; i < findings.len; i++)
        print_message("# %s\n", findings.lines[i]);
}

struct conf *load_good(const char *text, const struct conf_overrides *overrides)
{
    struct conf *conf = NULL;
    if (load(text, overrides, &conf) != STATUS_OK) {
        print_findings();
        fail_msg("refused:\n%s", text ? text : "");
    }
    assert_int_equal(findings.errors, 0);
    conf_findings_fini(&findings);
    return conf;
}

bool has_finding(const char *wanted)
{
    for (size_t i = 0; i < findings.len; i++) {
        if (strstr(findings.lines[i], wanted))
            return true;
    }
    return false;
}

void assert_finding(const char *wanted)
{
    if (has_finding(wanted))
        return;
    print_findings();
    fail_msg("no finding with \"%s\"", wanted);
}

void load_bad(const char *text, const struct conf_overrides *overrides, size_t errors)
{
    struct conf *conf = (struct conf *)&folder;
    if (load(text, overrides, &conf) != STATUS_INVALID)
        fail_msg("taken:\n%s", text);
    assert_ptr_equal(conf, &folder);
    if (findings.errors != errors) {
        print_findings();
        fail_msg("%zu errors, not %zu, in:\n%s", findings.errors, errors, text ? text : "");
    }
    for (size_t i = 0; i < findings.len; i++)
        assert_null(strchr(findings.lines[i], '\n'));
}

void assert_mistake(const char *text, const char *wanted)
{
    load_bad(text, NULL, 1);
    assert_finding(wanted);
    conf_findings_fini(&findings);
}
