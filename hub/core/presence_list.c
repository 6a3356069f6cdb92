#include "core/presence_list.h"

#include <stdlib.h>
#include <string.h>

#include "common/text.h"

struct presence_list *presence_list_new(const struct v1_watcher *users, size_t len, uint64_t more)
{
    size_t texts = 0;
    for (size_t i = 0; i < len; i++)
        texts += strlen(users[i].user) + 1;
    struct presence_list *list = calloc(1, sizeof(*list) + len * sizeof(*users) + texts);
    if (!list)
        abort(); /* of at most PRESENCE_NAMED users */
    char *at = (char *)&list->users[len];
    for (; list->len < len; list->len++) {
        size_t size = strlen(users[list->len].user) + 1;
        memcpy(at, users[list->len].user, size);
        list->users[list->len] = (struct v1_watcher){at, users[list->len].clients};
        at += size;
    }
    list->more = more;
    return list;
}

struct presence_list *presence_list_read(const struct message_items *items, uint64_t more)
{
    size_t texts = 0;
    for (size_t i = 0; i < items->len; i++)
        texts += items->at[i].name.len + 1;
    struct v1_watcher *users = calloc(items->len + 1, sizeof(*users));
    char *text = malloc(texts + 1), *at = text;
    if (!users || !text)
        abort(); /* as large as the message that is there */
    size_t len = 0;
    for (size_t i = 0; i < items->len; i++) {
        struct watcher_entry entry;
        if (!watcher_entry_of(&items->at[i], &entry))
            continue;
        if (entry.user.len > PRESENCE_NAME_MAX || !text_is_utf8(entry.user.at, entry.user.len))
            continue;
        char *name = at;
        if (entry.user.len)
            memcpy(name, entry.user.at, entry.user.len);
        name[entry.user.len] = '\0';
        if (strlen(name) != entry.user.len || (len && strcmp(users[len - 1].user, name) >= 0))
            continue;
        at += entry.user.len + 1;
        users[len++] = (struct v1_watcher){name, entry.clients};
    }
    struct presence_list *list = presence_list_new(users, len, more);
    free(users);
    free(text);
    return list;
}

/* The least name at the heads of the lists; NULL: all are at their ends. */
static const char *least(const struct presence_list *const *lists, const size_t *at, size_t len)
{
    const char *name = NULL;
    for (size_t i = 0; i < len; i++)
        if (at[i] < lists[i]->len && (!name || strcmp(lists[i]->users[at[i]].user, name) < 0))
            name = lists[i]->users[at[i]].user;
    return name;
}

struct presence_list *presence_list_sum(const struct presence_list *const *lists, size_t len,
                                        size_t most)
{
    size_t *at = calloc(len + 1, sizeof(*at)), n = 0;
    struct v1_watcher *users = calloc(most + 1, sizeof(*users));
    uint64_t more = 0;
    const char *name;
    if (!at || !users)
        abort();
    while ((name = least(lists, at, len))) {
        struct v1_watcher sum = {name, 0};
        for (size_t i = 0; i < len; i++)
            if (at[i] < lists[i]->len && !strcmp(lists[i]->users[at[i]].user, name))
                sum.clients += lists[i]->users[at[i]++].clients;
        if (n < most)
            users[n++] = sum;
        else
            more++;
    }
    for (size_t i = 0; i < len; i++)
        more += lists[i]->more;
    struct presence_list *list = presence_list_new(users, n, more);
    free(users);
    free(at);
    return list;
}

void presence_list_items(const struct presence_list *list, struct envelope_item *items)
{
    for (size_t i = 0; i < list->len; i++)
        items[i] = watcher_item(
            &(struct watcher_entry){slice_of(list->users[i].user), list->users[i].clients});
}

bool presence_list_same(const struct presence_list *a, const struct presence_list *b)
{
    if (!a || !b || a->len != b->len || a->more != b->more)
        return false;
    for (size_t i = 0; i < a->len; i++)
        if (a->users[i].clients != b->users[i].clients ||
            strcmp(a->users[i].user, b->users[i].user) != 0)
            return false;
    return true;
}
