#include "core/session/backlog_row.h"

#include <assert.h>

#include <utlist.h>

#define WRITTEN_A_TURN  (2u << 20) /* bytes in one turn */
#define SESSIONS_A_TURN 500        /* that are begun with in one turn */

void backlog_row_init(struct backlog_row *row, struct hub *hub,
                      enum backlog_written (*write)(struct backlog_place *place, size_t *bytes))
{
    *row = (struct backlog_row){.hub = hub, .write = write};
}

void backlog_row_fini(struct backlog_row *row)
{
    assert(!row->first && !row->in_flight);
    timer_stop(&row->hub->timers, &row->timer);
}

void backlog_row_add(struct backlog_row *row, struct backlog_place *place)
{
    DL_APPEND(row->first, place);
}

void backlog_row_remove(struct backlog_row *row, struct backlog_place *place)
{
    DL_DELETE(row->first, place);
}

static void on_timer(struct timer *timer, uint64_t now_ms)
{
    (void)now_ms;
    backlog_row_run(CONTAINER_OF(timer, struct backlog_row, timer));
}

void backlog_row_run(struct backlog_row *row)
{
    size_t written = 0, begun = 0;
    if (!row->first || !node_may_write(row->hub))
        return; /* without a lease what waits is dropped where the turn ends */
    while (row->first && row->in_flight < BACKLOG_CREDIT_BYTES && written < WRITTEN_A_TURN &&
           begun < SESSIONS_A_TURN) {
        size_t bytes = 0;
        begun += row->write(row->first, &bytes) == BACKLOG_BEGAN;
        written += bytes;
    }
    if (row->first && row->in_flight < BACKLOG_CREDIT_BYTES)
        timer_start(&row->hub->timers, &row->timer, row->hub->now_ms, on_timer);
}

void backlog_row_check(const struct backlog_row *row)
{
    /* Who waits is woken by an answer, or by the timer; without a lease by what ends the row */
    assert(!row->first || row->in_flight || timer_armed(&row->timer) || !node_may_write(row->hub));
}
