/*
 * Publishing without the script (hub/bus/bus_redis_batch.c): to announce and to keep are two commands, which Redis carries
 * out one after the other, while the owner changes, its connection ends and the history expires.
 *
 * One node owns epoch 1. It publishes over a connection, and then over the next one. Redis carries out the requests of a
 * connection in their order: soon, late, with an answer or without, or not any more. At any moment another node is granted
 * epoch 2, and publishes by the script. At any moment a third node begins to listen: what it hears first is its beginning, and
 * nothing that is kept may be missing from there on. What it hears keeps the order of Redis.
 *
 * Every transition is one d_step. README.md beside it says what is assumed and left out. The #ifdefs are mutations: each takes one
 * rule away, and must fail.
 */
#ifdef SMALL
#define OFFSETS 2
#define SECONDS 1
#define ENDS    1
#else
#define OFFSETS 3 /* publications of epoch 1 */
#define SECONDS 2 /* of epoch 2 */
#define ENDS    2 /* of connections */
#endif
#define UNKNOWN 255

mtype = {
    announce, /* PUBLISH */
    keep,     /* XADD */
    script,   /* publish.lua: keeps what is not kept yet, and announces that */
    quietly,  /* the same for what PUBLISH has announced */
    grant
};

/* The requests of two connections that are not carried out yet: offset. */
chan line0 = [6] of { mtype, byte };
chan line1 = [6] of { mtype, byte };
chan answers = [6] of { mtype, byte, bit }; /* to keep and script, over the present connection: offset, is it kept? */
chan heard = [6] of { mtype, byte, byte };  /* by the node that listens: epoch, offset */

/* Redis. */
bit taken;         /* the record is of epoch 2; else of epoch 1 */
bit there;         /* the history exists */
byte last_epoch;   /* its last id: it refuses what is not behind that */
byte last_offset;
byte kept;         /* of epoch 1, a bit for each offset */
byte ever;         /* watched only: the same, whatever has expired since */
bit kept_second;   /* watched only: something of epoch 2 was kept at some time */
byte second;       /* offset of the last publication of epoch 2 */
bit expired;       /* the history has, or was deleted: once is enough */

/* The owner of epoch 1. */
bit line;    /* its present connection */
bit up = 1;
byte ends;   /* connections that have ended */
byte sent;   /* offset of the last that it sent over this connection, or needs not send over it */
byte done;   /* offset of the last that is confirmed */
byte handed; /* offset of the newest that it ever sent */
byte plains; /* sent without the script, and not answered */
byte scripts; /* by it, and not answered */
bit refused; /* it knows that it lost the session */

/* The node that listens. */
bit listens;
byte seen;         /* the highest epoch it knows of */
byte at_epoch;
byte at = UNKNOWN; /* offset of the last that it took */
byte from;         /* of epoch 1 it lacks nothing from behind there ... */
byte left_at;      /* ... to here, where it went on to epoch 2 */

/* Used within one d_step. */
hidden mtype what;
hidden byte n, e, ok;

#define has(set, o) (set >> (o) & 1)

/* That one of epoch 1 is kept, and it went on to epoch 2 without it. */
#define misses(o) (at != UNKNOWN && at_epoch == 2 && o > from && o > left_at && has(kept, o))
inline check_listener()
{
    assert(!misses(1) && !misses(2) && !misses(3))
}

inline tell(kind, epoch_of, o)
{
    if
    :: listens -> heard!kind(epoch_of, o)
    :: else -> skip
    fi
}

/* Of epoch 1; ok: it was appended. begins: also where there is no history. */
inline append(o, begins)
{
    ok = (there -> last_epoch == 1 && last_offset < o || last_epoch == 0 : begins);
    if
    :: ok ->
        assert(!kept_second); /* nothing of an earlier epoch behind a later one */
        there = 1;
        last_epoch = 1;
        last_offset = o;
        kept = kept | 1 << o;
        ever = ever | 1 << o;
        check_listener()
    :: else -> skip
    fi
}

inline reply(kind, is_present)
{
    if
    :: is_present && up -> answers!kind(n, ok)
    :: else -> skip
    fi
}

inline run_script(is_quiet)
{
    if
    :: taken -> ok = 0
    :: else ->
        append(n, 1);
        if
        :: ok && !is_quiet -> tell(announce, 1, n)
        :: else -> skip
        fi;
        ok = 1; /* else it is there already */
        assert(has(ever, n)) /* what is confirmed was kept */
    fi
}

inline carry_out(is_present)
{
    if
    :: what == announce -> tell(announce, 1, n)
#ifdef KEEP_BEGINS
    :: what == keep -> append(n, 1); reply(keep, is_present)
#else
    :: what == keep -> append(n, 0); reply(keep, is_present)
#endif
    :: what == script -> run_script(0); reply(script, is_present)
    :: what == quietly -> run_script(1); reply(script, is_present)
    fi
}

#define room (nfull(heard) && nfull(answers))

inline clear(channel)
{
    do
    :: len(channel) > 0 -> channel?what(n)
    :: else -> break
    od
}

proctype redis()
{
end:
    do
    :: d_step { room && len(line0) > 0 -> line0?what(n); carry_out(line == 0) }
    :: d_step { room && len(line1) > 0 -> line1?what(n); carry_out(line == 1) }
    /* It notices that a connection has ended: what it has not carried out is gone. */
    :: d_step { len(line0) > 0 && (line != 0 || !up) -> clear(line0); n = 0 }
    :: d_step { len(line1) > 0 && (line != 1 || !up) -> clear(line1); n = 0 }
    :: d_step { /* from now on the history refuses entries of epoch 1 */
        room && !taken ->
        taken = 1;
#ifndef NO_FENCE_OF_HISTORY
        last_epoch = (there -> 2 : last_epoch);
        last_offset = (there -> 0 : last_offset);
#endif
        tell(grant, 2, 0)
    }
    :: d_step { /* the next owner publishes */
        room && taken && second < SECONDS ->
        second++;
        there = 1;
        last_epoch = 2;
        last_offset = second;
        kept_second = 1;
        tell(announce, 2, second)
    }
    :: d_step { there && !expired -> expired = 1; there = 0; last_epoch = 0; last_offset = 0; kept = 0 }
    od
}

inline send(kind, o)
{
    if
    :: line == 0 -> line0!kind(o)
    :: else -> line1!kind(o)
    fi
}

inline send_plainly(o)
{
#ifdef KEEPS_FIRST
    send(keep, o); send(announce, o)
#else
    send(announce, o); send(keep, o)
#endif
}

inline hand_next()
{
    sent++;
    handed = (sent > handed -> sent : handed)
}

#define has_room  (line == 0 -> len(line0) < 4 : len(line1) < 4) /* for two */
#define may_send  (up && !refused && sent < OFFSETS && has_room)
#ifdef REPEATS_PLAINLY
#define may_plainly (may_send && scripts == 0)
#else
#define may_plainly (may_send && scripts == 0 && sent == handed)
#endif
#ifdef OVERTAKES
#define may_script may_send
#else
#define may_script (may_send && plains == 0)
#endif

proctype publisher()
{
end:
    do
    :: d_step { may_plainly -> hand_next(); send_plainly(sent); plains++ }
    /* It may have been announced, or few sessions publish. */
    :: d_step { may_script -> hand_next(); send(script, sent); scripts++ }
    /* An answer. Where Redis did not keep it, the script has to say why. */
    :: d_step {
        up && len(answers) > 0 && has_room ->
        answers?what(n, ok);
        if
        :: what == script -> scripts--
        :: else -> skip
        fi;
        if
        :: ok -> done = n; plains = (what == keep -> plains - 1 : plains)
        :: !ok && what == script -> refused = 1
        :: else -> plains--; send(quietly, n); scripts++
        fi
    }
    /* The connection ends. What is not confirmed is sent again. */
    :: d_step {
        up && ends < ENDS ->
        ends++;
        up = 0;
        plains = 0;
        scripts = 0;
        sent = done;
        do
        :: len(answers) > 0 -> answers?what(n, ok)
        :: else -> break
        od;
        n = 0
    }
    /* The next connection, which first ends the one before at the server. */
    :: d_step {
        !up ->
        up = 1;
        line = 1 - line;
#ifndef OLD_CONNECTION_GOES_ON
        clear(line0);
        clear(line1);
#endif
        n = 0
    }
    od
}

proctype listener()
{
end:
    do
    :: d_step { !listens -> listens = 1 }
    :: d_step {
        len(heard) > 0 ->
        heard?what(e, n);
        if
        :: e < seen -> skip /* of an earlier epoch */
        :: what == grant ->
            seen = e;
            if
            :: at != UNKNOWN -> left_at = at; at_epoch = e; at = n; check_listener()
            :: else -> skip
            fi
        :: else ->
            seen = e;
            if
            :: at == UNKNOWN -> at_epoch = e; at = n; from = (e == 1 -> n - 1 : OFFSETS)
#ifdef NO_COMPARE_ON_RECEIVE
            :: at != UNKNOWN ->
#else
            :: at != UNKNOWN && n > at ->
#endif
                assert(n == at + 1); /* in order, none twice, none left out */
                at = n
            :: else -> skip /* it has it */
            fi
        fi
    }
    od
}

init
{
    atomic { run redis(); run publisher(); run listener() }
}
