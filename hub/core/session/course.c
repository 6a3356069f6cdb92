#include "core/session/course.h"

#include "core/node/peers.h"
#include "core/session/course_member.h"
#include "core/session/course_owner.h"

static void claim(struct session *session, const struct owner_news *news)
{
    (void)news;
    course_claim(session);
}

static void join(struct session *session, const struct owner_news *news)
{
    (void)news;
    course_join(session);
}

/* For each state what is done at an event; nothing where none stands. */
static course_fn *const follows[SESSION_STATES][COURSE_EVENTS] = {
    [SESSION_SUBSCRIBING] =
        {
            [COURSE_SUBSCRIBED] = claim,
            [COURSE_UNWANTED] = course_end_if_unwanted,
            [COURSE_LAPSED] = course_lapse,
            [COURSE_DRAIN_OVER] = course_end_if_unwanted,
        },
    [SESSION_CLAIMING] =
        {
            [COURSE_STEP] = claim,
            [COURSE_UNWANTED] = course_end_if_settled,
            [COURSE_ANNOUNCED] = course_note_owner,
            [COURSE_CONNECTED] = claim,
            [COURSE_LAPSED] = course_lapse,
            [COURSE_LEASE_BACK] = claim,
            [COURSE_DRAIN_OVER] = course_end_if_settled,
        },
    [SESSION_JOINING] =
        {
            [COURSE_STEP] = course_join_again,
            [COURSE_SUBSCRIBED] = join,
            [COURSE_CLIENTS] = course_clients_changed,
            [COURSE_UNWANTED] = course_leave_if_unwanted,
            [COURSE_ANNOUNCED] = course_learn_owner,
            [COURSE_OWNER_DEAD] = course_take_over,
            [COURSE_CONNECTED] = join,
            [COURSE_LAPSED] = course_lapse,
            [COURSE_LEASE_BACK] = join,
            [COURSE_DRAIN_OVER] = course_leave_if_unwanted,
        },
    [SESSION_MEMBER] =
        {
            [COURSE_STEP] = course_member_step,
            [COURSE_SUBSCRIBED] = join,
            [COURSE_CLIENTS] = course_clients_changed,
            [COURSE_UNWANTED] = course_leave_if_unwanted,
            [COURSE_ANNOUNCED] = course_learn_owner,
            [COURSE_OWNER_DEAD] = course_take_over,
            [COURSE_CONNECTED] = join,
            [COURSE_LAPSED] = course_lapse,
            [COURSE_LEASE_BACK] = join,
            [COURSE_DRAIN_OVER] = course_leave_if_unwanted,
        },
    [SESSION_OWNER] =
        {
            [COURSE_STEP] = course_release,
            [COURSE_WANTED] = course_stop_lingering,
            [COURSE_UNWANTED] = course_linger_if_unwanted,
            [COURSE_ANNOUNCED] = course_lose_to,
            [COURSE_LINK_CLOSED] = course_start_link,
            [COURSE_UNREACHABLE] = course_escape,
            [COURSE_MAY_MOVE] = course_consider_handover,
            [COURSE_CONNECTED] = course_assert,
            [COURSE_FENCED] = course_fence,
            [COURSE_DRAIN_OVER] = course_release,
        },
    [SESSION_MOVING] =
        {
            [COURSE_ANNOUNCED] = course_lose_to,
            [COURSE_LINK_CLOSED] = course_transfer,
            [COURSE_CONNECTED] = course_assert,
            [COURSE_FENCED] = course_fence,
        },
    [SESSION_RELEASING] =
        {
            [COURSE_STEP] = course_send_release,
            [COURSE_WANTED] = course_own_again,
            [COURSE_ANNOUNCED] = course_lose_to,
            [COURSE_LINK_CLOSED] = course_send_release,
            [COURSE_CONNECTED] = course_assert,
            [COURSE_FENCED] = course_fence,
        },
    [SESSION_LEAVING] =
        {
            [COURSE_STEP] = course_send_leave,
            [COURSE_WANTED] = join,
            [COURSE_ANNOUNCED] = course_learn_owner,
            [COURSE_OWNER_DEAD] = course_end,
            [COURSE_CONNECTED] = course_send_leave,
            [COURSE_LAPSED] = course_lapse,
        },
    [SESSION_FENCED] =
        {
            [COURSE_UNWANTED] = course_end_if_unwanted,
            [COURSE_ANNOUNCED] = course_follow_after_fence,
            [COURSE_LAPSED] = course_lapse,
            [COURSE_LEASE_BACK] = claim,
            [COURSE_DRAIN_OVER] = course_end_if_unwanted,
        },
    [SESSION_ENDED] = {NULL},
};

void course(struct session *session, enum course_event event)
{
    course_fn *follow = follows[session->state][event];
    if (follow)
        follow(session, NULL);
}

void course_announced(struct session *session, const struct owner_news *news)
{
    course_fn *follow = follows[session->state][COURSE_ANNOUNCED];
    if (follow && news->epoch > session->epoch && peer_is_name(news->owner))
        follow(session, news);
}
