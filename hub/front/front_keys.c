/*
 * The keys that tokens are verified with, and the file they come from where that is a JWK Set: it
 * is looked at each two seconds, so that rotating keys needs no signal. Open clients stay: their
 * tokens were good when they came.
 */
#include <stdio.h>
#include <string.h>

#include "common/log.h"
#include "front/front_private.h"

#define LOOK_EVERY_MS 2000U /* the contract has 5 s */

void keys_take(struct front *front, const struct conf *conf)
{
    keys_forget(front);
    front->keys_trouble[0] = '\0';
    if (!conf->auth.keys)
        return;
    front->keys = key_set_ref(conf->auth.keys);
    if (conf->auth.keys_file[0] == '\0')
        return;
    front->keys_seen = *key_set_stamp(front->keys);
    loop_timer_start(front->keys_timer, LOOK_EVERY_MS);
}

void keys_forget(struct front *front)
{
    if (front->keys_timer)
        loop_timer_stop(front->keys_timer);
    key_set_unref(front->keys);
    front->keys = NULL;
}

static void on_note(void *ctx, const char *text)
{
    const struct front *front = ctx;
    log_warn("token_keys", LOG_STR("file", front->conf->auth.keys_file), LOG_STR("text", text));
}

/* A cause is told once, however often the file is written with it. */
static void log_keys_trouble(struct front *front, const char *why)
{
    if (strcmp(front->keys_trouble, why) == 0)
        return;
    snprintf(front->keys_trouble, sizeof(front->keys_trouble), "%s", why);
    log_error("token_keys_refused", LOG_STR("file", front->conf->auth.keys_file),
              LOG_STR("text", why), LOG_STR("advice", "the keys that were read before go on"));
}

static void read_again(struct front *front)
{
    struct key_set *keys;
    char why[KEY_SET_WHY_BYTES];
    if (key_set_read(front->conf->auth.keys_file, on_note, front, &keys, why) != STATUS_OK) {
        log_keys_trouble(front, why);
        return;
    }
    front->keys_seen = *key_set_stamp(keys);
    front->keys_trouble[0] = '\0';
    if (!key_set_same(front->keys, keys))
        log_info("token_keys_changed", LOG_STR("file", front->conf->auth.keys_file),
                 LOG_U64("keys", key_set_len(keys)));
    key_set_unref(front->keys);
    front->keys = keys;
}

void keys_look(void *ctx)
{
    struct front *front = ctx;
    struct file_stamp stamp;
    file_stamp_of(front->conf->auth.keys_file, &stamp);
    if (!file_stamp_same(&stamp, &front->keys_seen)) {
        front->keys_seen = stamp;
        read_again(front);
    }
    loop_timer_start(front->keys_timer, LOOK_EVERY_MS);
}
