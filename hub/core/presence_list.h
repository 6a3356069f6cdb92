/*
 * A list of users with the number of their clients, by name; for presence.c.
 */
#ifndef VINHUB_CORE_PRESENCE_LIST_H
#define VINHUB_CORE_PRESENCE_LIST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/node_messages.h"
#include "common/v1.h"

/* In bytes. A user with a longer name is counted, but not named: one user must not make the list
 * large for all clients that get it. */
#define PRESENCE_NAME_MAX 256u

/* One allocation. */
struct presence_list {
    size_t len;
    uint64_t more;             /* users that are not in it */
    struct v1_watcher users[]; /* their names follow */
};

/* Copies; users are by name. Never NULL. */
struct presence_list *presence_list_new(const struct v1_watcher *users, size_t len, uint64_t more);
/* Of a message; what is out of order, too long or not UTF-8 is left out. */
struct presence_list *presence_list_read(const struct message_items *items, uint64_t more);
/* The sum of several: the first `most` users. */
struct presence_list *presence_list_sum(const struct presence_list *const *lists, size_t len,
                                        size_t most);
/* Fills in list->len items. */
void presence_list_items(const struct presence_list *list, struct envelope_item *items);
bool presence_list_same(const struct presence_list *a, const struct presence_list *b);

#endif
