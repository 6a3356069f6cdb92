// Each takes one safeguard out of the protocol. The simulation must notice every one of them, by a check that fails.
// `from` must stand exactly once in the file; spaces and line breaks count as one.

export const mutations = [
    {
        name: 'self-fencing',
        file: 'hub/core/lease.c',
        from: 'if (hub->conf->redis.on_loss == ON_LOSS_FENCE && hub->state != NODE_STOPPED)\n        fence(hub);',
        to: '(void)fence;',
    },
    {
        name: 'the epoch check on receive',
        file: 'hub/core/history.c',
        from: '    } else if (position_compare(at, session->at) <= 0) {\n        metric_drop(DROP_DUPLICATE, 1);\n    } else if (goes_on',
        to: '    } else if (at.epoch == session->at.epoch && at.offset <= session->at.offset) {\n        metric_drop(DROP_DUPLICATE, 1);\n    } else if (at.epoch < session->at.epoch || goes_on',
        also: [{
            file: 'hub/core/hub.c',
            from: 'if (envelope->epoch < (session->positioned ? session->at.epoch : session->epoch)) {',
            to: 'if (false) {',
        }],
    },
    {
        name: 'the epoch in the claim',
        file: 'tests/sim/store.c',
        from: ' && record->epoch == request->dead_epoch;',
        to: ';',
    },
    {
        name: 'the owner check in the publish script',
        file: 'tests/sim/store.c',
        from: `    if (!holds(record, request)) {
        request->status = STATUS_REFUSED;
        return;
    }
    if (strcmp(`,
        to: '    if (strcmp(',
    },
    {
        name: 'NOT_OWNER',
        file: 'hub/core/membership.c',
        from: '        disown(hub, envelope);\n        return;',
        to: '        (void)disown;\n        return;',
    },
    {
        name: 'the number of the LEAVE',
        file: 'hub/core/membership.c',
        from: 'if (member && (member->life != envelope->life || envelope->number < member->number))',
        to: 'if (member && member->life != envelope->life)',
    },
    {
        name: 'the repeated LEAVE',
        file: 'hub/core/membership.c',
        from: '.number = ++hub->numbers, .epoch = session->epoch};\n    session_ask_again(session);',
        to: '.number = ++hub->numbers, .epoch = session->epoch};',
    },
    {
        name: 'the repeated JOIN',
        file: 'hub/core/membership.c',
        from: '    if (session->state == SESSION_JOINING)\n        session_ask_again(session);\n    else if (!session->join_due)',
        to: '    if (session->state != SESSION_JOINING && !session->join_due)',
    },
    {
        name: 'JOIN after a new subscription',
        file: 'hub/core/ownership.c',
        from: `    else if (session->state == SESSION_JOINING || session->state == SESSION_MEMBER)
        membership_join(session);
}

void ownership_claim`,
        to: '}\n\nvoid ownership_claim',
    },
    {
        name: 'the compare in release',
        file: 'tests/sim/store.c',
        from: `    if (!holds(record, request)) {
        request->status = STATUS_REFUSED;
        return;
    }
    record->owner[0] = '\\0';`,
        to: "    record->owner[0] = '\\0';",
    },
    {
        name: 'the assertion after a reconnect',
        file: 'hub/core/ownership.c',
        from: '        if (assertion_applies(session))\n            assertion_send(session);\n        else if',
        to: '        if',
        also: [{
            file: 'hub/core/assertion.c',
            from: '        if (assertion_applies(session) && !session->tag)\n            assertion_send(session);\n',
            to: '',
        }],
    },
    {
        name: 'the assertion after a refused publication',
        file: 'hub/core/fanout.c',
        from: 'assertion_on_refusal(session);',
        to: 'ownership_lost(session, NULL, session->epoch);',
    },
    {
        name: 'the gap fill',
        file: 'hub/core/history.c',
        from: '} else if (goes_on(session, at)) {',
        to: '} else if (true) {',
    },
    {
        name: 'the lease in a TAKE',
        file: 'hub/core/handover.c',
        from: 'return session->accepted_epoch && epoch > session->accepted_epoch && session->accepted_run == session->hub->lease.runs;',
        to: 'return session && epoch;',
    },
    {
        name: 'the upstream closed before the release',
        file: 'hub/core/ownership.c',
        from: '    if (link_close(session))\n        return; /* ownership_upstream_gone follows */\n',
        to: 'link_close(session);',
        also: [{
            file: 'hub/core/ownership.c',
            from: 'if (session->tag || session->link != LINK_NONE)',
            to: 'if (session->tag)',
        }],
    },
    {
        name: 'commands in the order of their numbers',
        file: 'hub/core/commands.c',
        from: 'item->after > member->taken || ',
        to: '',
    },
    {
        name: 'the number of COMMANDS, by which late ones are known',
        file: 'hub/core/commands.c',
        from: 'if (envelope->number && envelope->number < member->number)\n        return;',
        to: '',
    },
    {
        name: 'the epoch that a hand-over comes from',
        file: 'hub/core/ownership.c',
        from: 'handed_over = from && from == session->epoch;',
        to: 'handed_over = from != 0;',
    },
    {
        name: 'what was told to a lost owner is not told again',
        file: 'hub/core/commands.c',
        from: '        if (!command->send_id) { /* once at most: nobody can say whether it went */',
        to: '        if (false) {',
    },
    {
        name: 'an earlier life being heard where the clock was set back',
        file: 'hub/core/peers.c',
        from: 'return life < peer->life && hub->now_ms - peer->echo_ms < lease_ms_of(hub, peer);',
        to: 'return life < peer->life;',
    },
    {
        name: 'the time for which an earlier life has to be heard',
        file: 'hub/core/peers.c',
        from: 'return life < peer->life && hub->now_ms - peer->echo_ms < lease_ms_of(hub, peer);',
        to: 'return false;',
    },
    {
        name: 'the repeated HELLO',
        file: 'hub/core/lease.c',
        from: '    if (hub->now_ms < lease->hello_until_ms)\n        say_hello',
        to: '    if (first)\n        say_hello',
    },
    {
        name: 'the roll call',
        file: 'hub/core/membership.c',
        from: '        if (member->heard_ms)\n            tell_status(session, member);\n        else',
        to: '        if (!member->heard_ms)',
    },
    {
        name: 'the reading after the deadline, before an owner is taken for dead',
        file: 'hub/core/peers.c',
        from: 'if (sent_ms >= peer_deadline(hub, peer))',
        to: 'if (hub->now_ms >= peer_deadline(hub, peer))',
    },
    {
        name: 'the memory of SENDs past a release',
        file: 'hub/core/ownership.c',
        from: 'kept_sends_tell(session); /* before anybody can be granted it */',
        to: '',
    },
    {
        name: 'who waits for the owner\'s word on a client id is the later one',
        file: 'hub/core/client_ids.c',
        from: 'else if (!mine && !claim)',
        to: 'else if (!mine)',
    },
    {
        name: 'URLs of clients on other nodes',
        file: 'hub/core/membership.c',
        from: 'attempt_set_far(&session->attempt, mask);',
        to: 'attempt_set_far(&session->attempt, 0); (void)mask;',
    },
];
