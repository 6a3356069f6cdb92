/*
 * A configuration file of any content: it is refused with a reason, or the output of --print-config
 * reads back to the same configuration.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"

static struct conf *load(const char *text, size_t len)
{
    struct conf_findings findings = {0};
    struct conf *conf = NULL;
    enum status status = conf_load(fuzz_file(text, len), NULL, &findings, &conf);
    assert((status == STATUS_OK) == (conf != NULL));
    assert(conf || findings.errors > 0);
    for (size_t i = 0; i < findings.len; i++)
        assert(findings.lines[i][0] != '\0' && !strchr(findings.lines[i], '\n'));
    conf_findings_fini(&findings);
    return conf;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct conf *conf = load((const char *)data, len);
    if (!conf)
        return 0;
    char *text = conf_print(conf);
    struct conf *again = load(text, strlen(text));
    assert(again);
    char *text_again = conf_print(again);
    assert(strcmp(text, text_again) == 0);
    struct conf_findings changes = {0};
    conf_diff(conf, again, &changes);
    /* Secrets are shown as *** and read back as that; nothing else may differ. */
    for (size_t i = 0; i < changes.len; i++)
        assert(strstr(changes.lines[i], ": changed"));
    conf_findings_fini(&changes);
    free(text_again);
    conf_unref(again);
    free(text);
    conf_unref(conf);
    return 0;
}
