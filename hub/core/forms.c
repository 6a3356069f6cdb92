#include "core/forms.h"

#include <assert.h>

#include "core/pubs.h"
#include "core/session/state.h"

unsigned form_add(struct hub *hub, const struct form *form, void *ctx)
{
    struct forms *forms = &hub->forms;
    assert(forms->len < FORMS_MAX);
    unsigned id = ++forms->len;
    forms->items[id].form = form;
    forms->items[id].ctx = ctx;
    return id;
}

const struct form *form_get(const struct hub *hub, unsigned id)
{
    assert(id && id <= hub->forms.len);
    return hub->forms.items[id].form;
}

static struct wire *gap_of(struct hub *hub, unsigned key, const struct publication *note,
                           const char *session)
{
    unsigned id = key & ~FORM_NAMED;
    const struct form *form = form_get(hub, id);
    const struct v1_head head = {hub->setup.unix_ms(hub->setup.clock_ctx), session};
    if (!form->follows)
        return wire_new(0);
    return form->gap(hub->forms.items[id].ctx, &head, note->at.epoch, note->at.offset,
                     gap_note_to(note));
}

const struct encoding *form_of(struct hub *hub, unsigned key, struct publication *publication,
                               const char *session)
{
    const struct encoding *encoding = publication_encoding(publication, key);
    if (encoding)
        return encoding;
    unsigned id = key & ~FORM_NAMED;
    const char *name = key & FORM_NAMED ? session : NULL;
    if (is_gap_note(publication))
        return publication_encode(publication, key, gap_of(hub, key, publication, name));
    return form_get(hub, id)->publication(hub->forms.items[id].ctx, key, publication, name);
}
