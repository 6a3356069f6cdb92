/*
 * The YAML file, walked along the rows: a mapping is entered where some row's key goes on below it.
 */
#include "common/conf_loader.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#define FILE_MAX_BYTES (1U << 20)

/* A mapping being read: which rows may be in it and where their values go. */
struct scope {
    struct conf_loader *loader;
    yaml_document_t *document;
    const struct conf_row *rows;
    void *base;
    struct conf_where *origins;
    const char *title; /* before keys in messages: "services[0]." */
};

static struct conf_where where_of(const struct conf_loader *loader, const yaml_node_t *node)
{
    return (struct conf_where){loader->file, node->start_mark.line + 1};
}

static yaml_node_t *node_at(const struct scope *scope, int index)
{
    return yaml_document_get_node(scope->document, index);
}

static const char *text_of(const yaml_node_t *node)
{
    return (const char *)node->data.scalar.value;
}

/* A scalar that is a C string; NULL for anything else. */
static const char *scalar_text(const yaml_node_t *node)
{
    if (node->type != YAML_SCALAR_NODE || memchr(text_of(node), '\0', node->data.scalar.length))
        return NULL;
    return text_of(node);
}

/* "key:" with nothing behind it, "~" or "null". */
static bool is_null(const yaml_node_t *node)
{
    if (node->type != YAML_SCALAR_NODE || node->data.scalar.style != YAML_PLAIN_SCALAR_STYLE)
        return false;
    return strcmp(text_of(node), "") == 0 || strcmp(text_of(node), "~") == 0 ||
           strcmp(text_of(node), "null") == 0;
}

/* What a node is, for messages. */
static const char *kind_of(const yaml_node_t *node)
{
    switch (node->type) {
    case YAML_SEQUENCE_NODE: return "a list";
    case YAML_MAPPING_NODE: return "a map";
    case YAML_SCALAR_NODE: return is_null(node) ? "nothing" : "a text";
    case YAML_NO_NODE: break;
    }
    return "nothing";
}

/* ---- values ---- */

static void read_list(const struct scope *scope, const struct conf_row *row, const char *key,
                      yaml_node_t *node)
{
    struct conf_loader *loader = scope->loader;
    if (node->type != YAML_SEQUENCE_NODE) {
        conf_mistake(loader, where_of(loader, node), key, "expected a list, as [a, b], got %s",
                     kind_of(node));
        return;
    }
    conf_value_clear(row, scope->base);
    for (yaml_node_item_t *item = node->data.sequence.items.start;
         item < node->data.sequence.items.top; item++) {
        yaml_node_t *child = node_at(scope, *item);
        const char *text = scalar_text(child);
        if (!text)
            conf_refuse_kind(loader, where_of(loader, child), row, key, kind_of(child));
        else if (conf_value_add(row, scope->base, text) != STATUS_OK)
            conf_refuse_value(loader, where_of(loader, child), row, key, text);
    }
}

static bool check_duplicates(const struct scope *scope, const yaml_node_t *mapping,
                             const char *prefix);

static void read_pairs(const struct scope *scope, const struct conf_row *row, const char *key,
                       yaml_node_t *node)
{
    struct conf_loader *loader = scope->loader;
    if (node->type != YAML_MAPPING_NODE) {
        conf_mistake(loader, where_of(loader, node), key,
                     "expected a map, as {name: value}, got %s", kind_of(node));
        return;
    }
    char prefix[CONF_KEY_MAX];
    snprintf(prefix, sizeof(prefix), "%s.", row->key);
    check_duplicates(scope, node, prefix);
    conf_value_clear(row, scope->base);
    for (yaml_node_pair_t *pair = node->data.mapping.pairs.start;
         pair < node->data.mapping.pairs.top; pair++) {
        yaml_node_t *key_node = node_at(scope, pair->key);
        const char *name = scalar_text(key_node), *value = scalar_text(node_at(scope, pair->value));
        if (!name || !value)
            conf_mistake(loader, where_of(loader, key_node), key,
                         "expected a name and a text, as {name: value}, got %s for %.100s",
                         kind_of(node_at(scope, pair->value)), name ? name : "a name");
        else
            conf_assign_pair(loader, where_of(loader, key_node), row, scope->base, key, name,
                             value);
    }
}

static void read_value(const struct scope *scope, const struct conf_row *row, yaml_node_t *node)
{
    struct conf_loader *loader = scope->loader;
    struct conf_where where = where_of(loader, node);
    char key[CONF_KEY_MAX];
    snprintf(key, sizeof(key), "%s%s", scope->title, row->key);

    struct conf_where *origin = &scope->origins[row - scope->rows];
    if (row->kind == CONF_LIST || row->kind == CONF_PAIRS) {
        *origin = where;
        if (is_null(node))
            conf_value_clear(row, scope->base);
        else if (row->kind == CONF_LIST)
            read_list(scope, row, key, node);
        else
            read_pairs(scope, row, key, node);
        return;
    }
    const char *text = is_null(node) ? "" : scalar_text(node);
    if (!text)
        conf_refuse_kind(loader, where, row, key, kind_of(node));
    else
        conf_assign(loader, where, row, scope->base, origin, key, text);
}

/* ---- mappings ---- */

/* The key's text; NULL after a mistake. */
static const char *key_text(const struct scope *scope, const yaml_node_t *node, const char *prefix)
{
    char full[2 * CONF_KEY_MAX];
    const char *text = scalar_text(node);
    if (text && strlen(text) < CONF_KEY_MAX / 2)
        return text;
    snprintf(full, sizeof(full), "%s%s", scope->title, prefix);
    conf_mistake(scope->loader, where_of(scope->loader, node), full,
                 "expected a key of at most %d bytes", CONF_KEY_MAX / 2 - 1);
    return NULL;
}

static bool check_duplicates(const struct scope *scope, const yaml_node_t *mapping,
                             const char *prefix)
{
    bool unique = true;
    const yaml_node_pair_t *first = mapping->data.mapping.pairs.start;
    for (const yaml_node_pair_t *pair = first; pair < mapping->data.mapping.pairs.top; pair++) {
        const yaml_node_t *node = node_at(scope, pair->key);
        const char *text = scalar_text(node);
        for (const yaml_node_pair_t *other = first; text && other < pair; other++) {
            const yaml_node_t *other_node = node_at(scope, other->key);
            const char *other_text = scalar_text(other_node);
            if (!other_text || strcmp(other_text, text) != 0)
                continue;
            char full[2 * CONF_KEY_MAX];
            snprintf(full, sizeof(full), "%s%s%.200s", scope->title, prefix, text);
            conf_mistake(scope->loader, where_of(scope->loader, node), full,
                         "duplicate key, first defined on line %zu",
                         other_node->start_mark.line + 1);
            unique = false;
            break;
        }
    }
    return unique;
}

static void read_services(struct conf_loader *loader, yaml_document_t *document, yaml_node_t *node);

static void read_mapping(const struct scope *scope, const char *prefix, yaml_node_t *node)
{
    check_duplicates(scope, node, prefix);
    for (yaml_node_pair_t *pair = node->data.mapping.pairs.start;
         pair < node->data.mapping.pairs.top; pair++) {
        yaml_node_t *key = node_at(scope, pair->key), *value = node_at(scope, pair->value);
        const char *name = key_text(scope, key, prefix);
        if (!name)
            continue;

        char path[CONF_KEY_MAX], full[2 * CONF_KEY_MAX];
        snprintf(path, sizeof(path), "%s%s", prefix, name);
        snprintf(full, sizeof(full), "%s%s", scope->title, path);
        const struct conf_row *row = !strchr(name, '.') ? conf_row_find(scope->rows, path) : NULL;
        if (row) {
            read_value(scope, row, value);
        } else if (scope->rows == conf_rows && strcmp(path, "services") == 0) {
            read_services(scope->loader, scope->document, value);
        } else if (!conf_rows_have_parent(scope->rows, path)) {
            conf_refuse_key(scope->loader, where_of(scope->loader, key), full, scope->rows, prefix,
                            name);
        } else if (value->type == YAML_MAPPING_NODE) {
            snprintf(path, sizeof(path), "%s%s.", prefix, name);
            read_mapping(scope, path, value);
        } else if (!is_null(value)) {
            conf_mistake(scope->loader, where_of(scope->loader, value), full,
                         "expected a map, as {key: value}, got %s", kind_of(value));
        }
    }
}

static void read_service(struct conf_loader *loader, yaml_document_t *document, yaml_node_t *node,
                         size_t position)
{
    char title[32];
    snprintf(title, sizeof(title), "services[%zu].", position);
    if (node->type != YAML_MAPPING_NODE) {
        title[strlen(title) - 1] = '\0';
        loader->services_refused = true;
        conf_mistake(loader, where_of(loader, node), title,
                     "expected a map with name and upstream, got %s", kind_of(node));
        return;
    }
    size_t index = conf_add_service(loader, where_of(loader, node));
    struct scope scope = {loader,
                          document,
                          conf_service_rows,
                          loader->conf->services[index],
                          loader->service_where[index],
                          title};
    read_mapping(&scope, "", node);
}

static void read_services(struct conf_loader *loader, yaml_document_t *document, yaml_node_t *node)
{
    if (is_null(node))
        return;
    if (node->type != YAML_SEQUENCE_NODE) {
        loader->services_refused = true;
        conf_mistake(
            loader, where_of(loader, node), "services",
            "expected a list: \"- name: NAME\" with \"upstream: URL\" below, for each service");
        return;
    }
    size_t position = 0;
    for (yaml_node_item_t *item = node->data.sequence.items.start;
         item < node->data.sequence.items.top; item++) {
        yaml_node_t *child = yaml_document_get_node(document, *item);
        if (position == CONF_SERVICES_MAX) {
            conf_mistake(loader, where_of(loader, child), "services",
                         "expected at most %d services", CONF_SERVICES_MAX);
            return;
        }
        read_service(loader, document, child, position++);
    }
}

/* ---- the file ---- */

/* The file's content; NULL after a mistake. The caller frees. */
static char *read_file(struct conf_loader *loader, size_t *out_len)
{
    struct conf_where where = {loader->file, 0};
    FILE *file = fopen(loader->file, "re");
    char *content = file ? malloc(FILE_MAX_BYTES + 1) : NULL;
    if (!content) {
        conf_mistake(loader, where, NULL, "the file can't be read: %s", strerror(errno));
        if (file)
            fclose(file);
        return NULL;
    }
    size_t len = fread(content, 1, FILE_MAX_BYTES + 1, file);
    int error = ferror(file) ? errno : 0;
    fclose(file);
    if (error == 0 && len <= FILE_MAX_BYTES) {
        *out_len = len;
        return content;
    }
    if (error != 0)
        conf_mistake(loader, where, NULL, "the file can't be read: %s", strerror(error));
    else
        conf_mistake(loader, where, NULL, "expected a file of at most 1 MiB");
    free(content);
    return NULL;
}

/* The line of a problem. Where bytes can't be read as text, libyaml says the offset alone. */
static size_t problem_line(const yaml_parser_t *parser)
{
    if (parser->error != YAML_READER_ERROR)
        return parser->problem_mark.line + 1;
    const unsigned char *text = parser->input.string.start, *end = parser->input.string.end;
    size_t line = 1;
    for (size_t i = 0; i < parser->problem_offset && text + i < end; i++)
        line += text[i] == '\n';
    return line;
}

/* Advice for the problems of libyaml that are most common; "" for all others. */
static const char *problem_hint(const yaml_parser_t *parser)
{
    static const struct {
        const char *problem, *hint;
    } hints[] = {
        {"found character that cannot start any token",
         "; text that begins with a tab, @, %, ` or | needs quotes, and lines are indented with "
         "spaces, not tabs"},
        {"mapping values are not allowed in this context",
         "; is \":\" missing at the end of a line above, or does a text with \": \" need quotes?"},
        {"did not find expected key", "; is this line indented like those above it?"},
        {"could not find expected ':'", "; is \": \" missing behind a key?"},
        {"found unexpected end of stream", "; is the closing quote missing?"},
    };
    for (size_t i = 0; parser->problem && i < sizeof(hints) / sizeof(hints[0]); i++) {
        if (strcmp(parser->problem, hints[i].problem) == 0)
            return hints[i].hint;
    }
    return "";
}

static bool load_document(struct conf_loader *loader, yaml_parser_t *parser, yaml_document_t *out)
{
    if (yaml_parser_load(parser, out) != 0)
        return true;
    size_t line = problem_line(parser);
    struct conf_where where = {loader->file, line};
    char context[128] = "";
    if (parser->context && parser->context_mark.line + 1 < line)
        snprintf(context, sizeof(context), " %.60s that begins on line %zu", parser->context,
                 parser->context_mark.line + 1);
    conf_mistake(loader, where, NULL, "invalid YAML: %s%s%s",
                 parser->problem ? parser->problem : "no memory", context, problem_hint(parser));
    return false;
}

static bool read_root(struct conf_loader *loader, yaml_document_t *document)
{
    yaml_node_t *root = yaml_document_get_root_node(document);
    if (!root || is_null(root))
        return true;
    if (root->type != YAML_MAPPING_NODE) {
        conf_mistake(loader, where_of(loader, root), NULL,
                     "expected a map of settings, as \"node: {lease: 3s}\"");
        return false;
    }
    struct scope scope = {loader, document, conf_rows, loader->conf, loader->where, ""};
    read_mapping(&scope, "", root);
    return true;
}

/* A second document would be ignored silently. */
static bool read_documents(struct conf_loader *loader, yaml_parser_t *parser)
{
    yaml_document_t document;
    if (!load_document(loader, parser, &document))
        return false;
    bool read = read_root(loader, &document);
    yaml_document_delete(&document);
    if (!read || !load_document(loader, parser, &document))
        return false;
    const yaml_node_t *root = yaml_document_get_root_node(&document);
    if (root)
        conf_mistake(loader, where_of(loader, root), NULL,
                     "expected one YAML document, got a second one");
    yaml_document_delete(&document);
    return true;
}

bool conf_read_yaml(struct conf_loader *loader)
{
    size_t len;
    char *content = read_file(loader, &len);
    if (!content)
        return false;

    yaml_parser_t parser;
    if (yaml_parser_initialize(&parser) == 0)
        abort();
    yaml_parser_set_input_string(&parser, (const unsigned char *)content, len);
    bool read = read_documents(loader, &parser);
    yaml_parser_delete(&parser);
    free(content);
    return read;
}
