/*
 * The configuration explained: a file with every key, as it is installed, and the manual page
 * vinhub.yaml(5). Both come from the rows.
 */
#include <stdlib.h>
#include <string.h>

#include "common/conf.h"
#include "common/conf_rows.h"

#define LINE_MAX_BYTES 100 /* of a comment in the file */

struct document {
    FILE *out;
    char *text;
    size_t size;
};

static void document_open(struct document *document)
{
    *document = (struct document){0};
    document->out = open_memstream(&document->text, &document->size);
    if (!document->out)
        abort();
}

static char *document_close(struct document *document)
{
    if (fclose(document->out) != 0)
        abort();
    return document->text;
}

static bool is_required(const struct conf_row *row)
{
    return row->kind == CONF_TEXT && row->min > 0 && *row->standard == '\0';
}

/* What may stand there, in words; "" where any text may. The caller frees. */
static char *allowed(const struct conf_row *row)
{
    struct document words;
    document_open(&words);
    if (row->kind != CONF_TEXT || row->allowed || row->choices[0])
        conf_value_allowed(row, words.out);
    char *text = document_close(&words);
    if (row->kind == CONF_PAIRS && !row->allowed)
        *text = '\0';
    return text;
}

/* ---- the file ---- */

/* Words broken into comment lines. */
static void print_comment(const char *text, size_t indent, FILE *out)
{
    size_t column = 0;
    while (*text != '\0') {
        size_t len = strcspn(text, " ");
        if (column == 0 || column + 1 + len > LINE_MAX_BYTES - indent) {
            fprintf(out, "%s%*s#", column == 0 ? "" : "\n", (int)indent, "");
            column = 1;
        }
        fprintf(out, " %.*s", (int)len, text);
        column += 1 + len;
        text += len + strspn(text + len, " ");
    }
    fputc('\n', out);
}

/* The mappings that key is in and the key before it was not: "ping:". Returns the key's indent. */
static size_t open_mappings(const char *key, const char *previous, size_t indent, FILE *out)
{
    const char *part = key;
    bool open = true; /* previous is in the same mapping so far */
    for (const char *dot = strchr(part, '.'); dot; dot = strchr(part, '.')) {
        size_t len = (size_t)(dot - key) + 1;
        open = open && strncmp(key, previous, len) == 0;
        if (!open)
            fprintf(out, "%*s%.*s:\n", (int)indent, "", (int)(dot - part), part);
        indent += 2;
        part = dot + 1;
    }
    return indent;
}

static void print_key(const struct conf_row *row, size_t indent, FILE *out)
{
    char *words = allowed(row);
    print_comment(row->meaning, indent, out);
    if (*words != '\0') {
        char *line = NULL;
        if (asprintf(&line, "Allowed: %s.", words) < 0)
            abort();
        print_comment(line, indent, out);
        free(line);
    }
    free(words);
    fprintf(out, "%*s# %s: ", (int)indent, "", conf_row_name(row));
    if (row->kind == CONF_TEXT)
        conf_print_quoted(row->standard, out); /* "{vin}" alone would be a map */
    else
        fputs(row->standard, out);
    fputc('\n', out);
}

static void print_rows(const struct conf_row *rows, size_t indent, FILE *out)
{
    const char *previous = "";
    for (const struct conf_row *row = rows; row->key; row++) {
        if (is_required(row))
            continue;
        print_key(row, open_mappings(row->key, previous, indent, out), out);
        previous = row->key;
    }
}

char *conf_example(void)
{
    struct document document;
    document_open(&document);
    fputs("# The settings of vinhub. What is commented out is the default. Each key has a variable "
          "of\n"
          "# the environment, too: see vinhub.yaml(5). Check with: vinhub -c FILE --check\n"
          "\n"
          "# The backends. At least one is needed; name yours here.\n"
          "services:\n"
          "  - name: remoteWs\n"
          "    upstream: 127.0.0.1:28088/carmonitor/remotews\n",
          document.out);
    print_rows(conf_service_rows, 4, document.out);
    fputc('\n', document.out);
    print_rows(conf_rows, 0, document.out);
    return document_close(&document);
}

/* ---- the manual page ---- */

static void print_roff(const char *text, FILE *out)
{
    if (*text == '.' || *text == '\'')
        fputs("\\&", out);
    for (const char *c = text; *c != '\0'; c++) {
        switch (*c) {
        case '\\': fputs("\\e", out); break;
        case '-': fputs("\\-", out); break;
        case '`': break; /* Markdown's code */
        default: fputc(*c, out);
        }
    }
}

static void print_entry(const struct conf_row *row, const char *prefix, const char *variable_prefix,
                        bool reload, FILE *out)
{
    char variable[CONF_VARIABLE_MAX], *words = allowed(row);
    conf_row_variable(row, variable);
    fputs(".TP\n.B ", out);
    print_roff(prefix, out);
    print_roff(row->key, out);
    fputc('\n', out);
    print_roff(row->meaning, out);
    if (*words != '\0') {
        fputs("\n.br\nAllowed: ", out);
        print_roff(words, out);
    }
    fputs(is_required(row) ? "\n.br\nRequired" : "\n.br\nDefault: ", out);
    if (!is_required(row))
        print_roff(*row->standard == '\0' ? "\"\"" : row->standard, out);
    fprintf(out, "; %s.\n.br\nVINHUB__%s%s\n",
            reload ? "SIGHUP applies a change" : "needs a restart", variable_prefix, variable);
    free(words);
}

char *conf_manual(const char *version)
{
    struct document document;
    document_open(&document);
    FILE *out = document.out;
    fprintf(out, ".TH VINHUB.YAML 5 \"\" \"vinhub %s\" \"File Formats\"\n", version);
    fputs(
        ".SH NAME\nvinhub.yaml \\- the configuration of vinhub\n"
        ".SH DESCRIPTION\nThe file is YAML. A key ping.every of clients is written as\n"
        ".PP\n.nf\nclients:\n  ping: {every: 25s}\n.fi\n.PP\n"
        "An unknown key is a mistake. Sizes have units KiB, MiB and GiB, durations ms, s, m and "
        "h.\n"
        ".B vinhub \\-c FILE \\-\\-check\nsays what is wrong in which line.\n"
        ".PP\nEach key has a variable of the environment, which goes before the file: its path in "
        "capitals, __ between the parts.\n"
        "Items of a list have commas between them, a map is a JSON object of texts, an empty "
        "variable "
        "is the empty value.\n"
        "For NAME stands the name of a service that exists, in capitals, with _ for each byte that "
        "is no letter and no digit.\n"
        ".SH KEYS\n",
        out);
    for (const struct conf_row *row = conf_rows; row->key; row++)
        print_entry(row, "", "", row->flags & CONF_RELOAD, out);
    fputs(".SH KEYS OF A SERVICE\n", out);
    for (const struct conf_row *row = conf_service_rows; row->key; row++)
        print_entry(row, "services[].", "SERVICES__NAME__", true, out);
    fputs(".SH FILES\n.I /etc/vinhub/vinhub.yaml\n.SH \"SEE ALSO\"\n.BR vinhub (8),\n.BR vinhubctl "
          "(1)\n",
          out);
    return document_close(&document);
}
