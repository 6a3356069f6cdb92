/*
 * Which publications reach a client: owners that change, the publish script, and a member that reads.
 *
 * Takes from ownership.pml that upstreams are opened under growing epochs by one node at a time. An owner may lose the
 * session at any moment, while what it wrote is still on its way; and everything on its way may be lost, late or
 * overtaken. Node 1 is the reader, and owner at times; what happens to the clients of the others is the same.
 */
#define NODES 3
#ifndef EPOCHS
#define EPOCHS 3
#endif
#define READER 1

chan in = [2] of { byte };             /* publications on their way to the reader: epoch */
chan to_redis = [2] of { byte, byte }; /* publish: sender, epoch */

byte owner;     /* the record */
byte epoch;
byte up;        /* epoch under which its owner holds the upstream; an older one where a claim of its own came late */
byte seen;      /* highest epoch the reader knows */
byte delivered; /* watched only: epoch of the last publication that reached the reader's clients */
byte history;   /* watched only: epoch of the last entry */

/* Used within one d_step. */
hidden byte from, from2, at, at2;

/* The first or the second on its way. */
inline take(second)
{
    in?at;
    if
    :: second -> in?at2; in!at; at = at2
    :: else -> skip
    fi
}

inline take_command(second)
{
    to_redis?from(at);
    if
    :: second -> to_redis?from2(at2); to_redis!from(at); from = from2; at = at2
    :: else -> skip
    fi
}

inline deliver(e)
{
    assert(e >= delivered); /* no publication of an older epoch after one of a newer */
    delivered = e
}

inline on_push()
{
    if
#ifdef NO_EPOCH_ON_RECEIVE
    :: true -> deliver(at)
#else
    :: at >= seen -> seen = at; deliver(at)
#endif
    :: else -> skip
    fi
}

inline on_publish()
{
    if
#ifdef NO_CHECK_IN_PUBLISH
    :: true ->
#else
    :: owner == from && epoch == at ->
#endif
        assert(at >= history); /* the history stays in order */
        history = at;
        if
        :: from == READER || len(in) == 2 -> skip /* it has it, or loses it */
        :: else -> in!!at
        fi
    :: else -> skip
    fi
}

proctype node(byte n)
{
    do
    /* It is granted the session, from another or once more. */
    :: d_step { epoch < EPOCHS -> up = (owner == n -> up : 0); epoch++; owner = n }
    :: d_step {
        owner == n && up < epoch ->
        up = epoch;
        seen = (n == READER -> epoch : seen)
    }
    /* Its own clients get it at once, the others by way of Redis. */
    :: d_step {
        owner == n && up && nfull(to_redis) ->
        to_redis!!n(up);
        if
        :: n == READER -> deliver(up)
        :: else -> skip
        fi
    }
    od
}

proctype reader()
{
    do
    :: d_step { len(in) > 0 -> take(0); on_push() }
    :: d_step { len(in) == 2 -> take(1); on_push() }
    :: d_step { len(in) > 0 -> take(0) }
    :: d_step { len(in) == 2 -> take(1) }
    :: d_step { seen < epoch -> seen = epoch } /* told by a grant or by JOINED */
    od
}

proctype redis()
{
    do
    :: d_step { len(to_redis) > 0 -> take_command(0); on_publish() }
    :: d_step { len(to_redis) == 2 -> take_command(1); on_publish() }
    :: d_step { len(to_redis) > 0 -> take_command(0) }
    :: d_step { len(to_redis) == 2 -> take_command(1) }
    od
}

init
{
    atomic { run node(1); run node(2); run node(3); run reader(); run redis() }
}
