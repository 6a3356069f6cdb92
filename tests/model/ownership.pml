/*
 * Who may hold the upstream of one session: three nodes, Redis, and a faulty world between them.
 *
 * Every transition is one d_step: a node's turn, a script in Redis or a fault, so that what is interleaved is what
 * really may be. Whatever is on its way may be lost, late or overtaken. README.md beside it says what is assumed,
 * what is left out and why. The #ifdefs are mutations: each takes one rule away, and must fail.
 */
#define NODES 3
#ifndef EPOCHS
#define EPOCHS 3 /* the first and two beyond; after that Redis grants nothing more */
#endif

/*
 * A node as seen by its lease. A lease ends on its node's own clock before it does on any watcher's, so nobody is
 * taken for dead while awake. To be paused and to wake within the lease is to be slow. A crash is to be fenced; what else it
 * forgets, the model does not let a node rely on.
 */
mtype = {
    awake,  /* its lease is valid */
    fenced, /* its lease is over and it knows: it holds nothing and waits for a renewal */
    asleep  /* its lease ran out while it was paused: it holds what it held */
};

/* To a node. */
mtype = {
    granted /* epoch: the reply to a claim */
};

/* To Redis. */
mtype = {
    claim,   /* sender; owner and epoch that it names as dead, or 0 and 0 */
    orphan,  /* a claim whose sender waits for the reply no more: it works still */
    release, /* sender, epoch */
    transfer /* sender, successor, epoch */
};

chan in[NODES + 1] = [2] of { mtype, byte };
chan to_redis = [2] of { mtype, byte, byte, byte };

/* The record session:{ID}. Nodes are 1 to 3; owner 0: released. */
byte owner;
byte epoch;

/*
 * To whom each epoch was granted. Announced grants, refused claims, JOINED and TAKE all tell this, and it never
 * changes, so it needs no channel: a node may know of any grant at any time after it, again and again, or never.
 */
byte grantee[EPOCHS + 1];

/*
 * With LIVENESS: from some moment on nothing fails any more, but nodes that are gone stay away. What is lost by then is lost; what
 * is on its way arrives.
 */
#ifdef LIVENESS
bit calm;
byte gone; /* a bit a node */
#define storm       (!calm)
#define is_gone(n)  (gone >> n & 1)
#define in_turn(n)  true
#define last_epoch  (calm -> EPOCHS : STORM_EPOCHS)
#define settled     (calm && owner > 0 && mode[owner] == awake && up[owner] == epoch)
ltl owned { [](calm -> <>[]settled) }
#else
#define storm       true
#define is_gone(n)  false
#define last_epoch  EPOCHS
/* Nodes are alike: it is enough to look at the runs in which 1 owns before 2, and 2 before 3. */
#define in_turn(n)  (n == 1 || epoch > 0 && (n == 2 || grantee[1] == 2 || grantee[2] == 2))
#endif

/* A node. */
mtype mode[NODES + 1] = awake;
bit claiming[NODES + 1]; /* waits for the reply to its claim */
byte up[NODES + 1];      /* epoch under which it holds the upstream; 0: it does not */
byte accepted[NODES + 1]; /* epoch whose owner's offer it accepted under this lease; 0: none */
byte opened;             /* watched only: the epoch of the last upstream that was opened */
#ifdef DEAD_WITHOUT_EPOCH
byte dead[NODES + 1];    /* whom it takes for dead, whatever it learns of it later */
#endif

/* Used within one d_step. */
hidden mtype kind, kind2;
hidden byte from, from2, who, who2, at, at2, i;

/* Live, not paused, and connected to the backend. */
#define holds(n)   (mode[n] != asleep && up[n] > 0)
#define free(n)    (mode[n] == awake && !claiming[n] && !up[n] && nfull(to_redis))
#define is_dead(e) (epoch >= e && mode[grantee[e]] != awake) /* who was granted epoch e */
#define next(n)    (n % NODES + 1)

inline check_upstreams()
{
    assert(holds(1) + holds(2) + holds(3) <= 1)
}

/* Messages stand sorted in a channel, since their order means nothing. What does not fit is lost. */
inline tell(to, what, e)
{
    if
    :: nfull(in[to]) -> in[to]!!what(e)
    :: full(in[to]) -> skip
    fi
}

/* The first or the second message on its way to a node. */
inline take(n, second)
{
    in[n]?kind(at);
    if
    :: second ->
        in[n]?kind2(at2);
        in[n]!kind(at);
        kind = kind2; at = at2
    :: else -> skip
    fi
}

inline take_command(second)
{
    to_redis?kind(from, who, at);
    if
    :: second ->
        to_redis?kind2(from2, who2, at2);
        to_redis!kind(from, who, at);
        kind = kind2; from = from2; who = who2; at = at2
    :: else -> skip
    fi
}

/* The reply to a claim counts no more once the lease that the claim was made under is over. A wait that ends for another
 * reason is the same for this session as to be fenced and renewed at once. */
inline end_claim(n)
{
    claiming[n] = 0;
#ifndef OLD_GRANT_COUNTS
    i = len(to_redis);
    do
    :: i > 0 ->
        to_redis?kind(from, who, at);
        if
        :: kind == claim && from == n -> kind = orphan
        :: else -> skip
        fi;
        to_redis!kind(from, who, at);
        i--
    :: else -> break
    od;
    if
    :: len(to_redis) == 2 -> to_redis?kind(from, who, at); to_redis!!kind(from, who, at) /* sorted again */
    :: else -> skip
    fi;
    i = len(in[n]);
    do
    :: i > 0 ->
        in[n]?kind(at);
        if
        :: kind == granted -> skip
        :: else -> in[n]!kind(at)
        fi;
        i--
    :: else -> break
    od;
#endif
    i = 0 /* a d_step may not end with a loop */
}

inline fence(n)
{
    up[n] = 0;
#ifndef OLD_ACCEPT_COUNTS
    accepted[n] = 0;
#endif
    end_claim(n)
}

/* On the reply to a claim, or on a TAKE. */
inline open_upstream(n)
{
#ifndef UPSTREAMS_ALONE
    assert(at > opened); /* epochs never go back */
#endif
    opened = at;
    claiming[n] = 0;
    accepted[n] = 0;
    up[n] = at;
    check_upstreams()
}

inline send_claim(n, dead_owner, e)
{
    to_redis!!claim(n, dead_owner, e);
    claiming[n] = 1;
    accepted[n] = 0
}

#define may_open(n) (mode[n] == awake && !claiming[n] && !up[n])

/* An owner's offer comes before its TAKE, so none of an older epoch comes to a node after a grant to that node. */
#define granted_since(n, e) (e < 2 && grantee[2] == n || e < 3 && grantee[3] == n)
#define may_accept(n, e)    (may_open(n) && epoch >= e && grantee[e] != n && !granted_since(n, e))

/* It agreed to a hand-over that may have made this epoch, and has not lapsed or claimed since: a TAKE opens. */
#ifdef TAKE_OPENS_ALWAYS
#define awaits(n, e) true
#else
#define awaits(n, e) (accepted[n] > 0 && e > accepted[n])
#endif
#define may_take(n, e) (may_open(n) && epoch >= e && grantee[e] == n && awaits(n, e))

/* JOINed by a member that takes it for the owner, and not so: it clears the record of the epoch that the member knows. */
#ifdef CLEARS_WHAT_IT_AWAITS
#define may_clear(n, e) (free(n) && grantee[e] == n)
#else
#define may_clear(n, e) (free(n) && grantee[e] == n && !awaits(n, e))
#endif

inline hand_over(n, successor)
{
    to_redis!!transfer(n, successor, up[n]);
    up[n] = 0
}

/* Who would be refused knows it in calm weather: from the reply to its last claim, and from the owner, which answers its JOIN. */
#define would_get(n) (storm || owner == 0 || owner == n)

proctype node(byte n)
{
    do
    /* --- what a node does --- */
    :: d_step { free(n) && would_get(n) -> send_claim(n, 0, 0) }
    /* An owner it knows of is dead. Under which epoch, is what the node knew before it looked: what it learns while the
     * answer is on its way does not count. */
#ifdef DEAD_WITHOUT_EPOCH
    :: d_step { free(n) && epoch > 0 && is_dead(epoch) -> dead[n] = grantee[epoch] }
    :: d_step { free(n) && epoch > 0 && dead[n] == grantee[epoch] -> send_claim(n, grantee[epoch], epoch) }
#else
    :: d_step { free(n) && storm && is_dead(1) -> send_claim(n, grantee[1], 1) }
    :: d_step { free(n) && storm && is_dead(2) -> send_claim(n, grantee[2], 2) }
    :: d_step { free(n) && storm && is_dead(3) -> send_claim(n, grantee[3], 3) }
#endif
    :: d_step { storm && may_clear(n, 1) -> to_redis!!release(n, 0, 1) }
    :: d_step { storm && may_clear(n, 2) -> to_redis!!release(n, 0, 2) }
    :: d_step { storm && may_clear(n, 3) -> to_redis!!release(n, 0, 3) }
#ifdef LIVENESS
    :: d_step { calm && owner == n && may_clear(n, epoch) -> to_redis!!release(n, 0, epoch) }
#ifndef NO_TAKE_OVER
    :: d_step { free(n) && calm && owner > 0 && is_gone(owner) -> send_claim(n, grantee[epoch], epoch) }
#endif
#ifndef NO_TIMEOUT
    :: d_step { calm && mode[n] == awake && claiming[n] && len(to_redis) == 0 && len(in[n]) == 0 -> end_claim(n) }
#endif
#endif
    /* A publication is refused: the record has another epoch, were it by a late claim of the node's own. */
    :: d_step { holds(n) && up[n] != epoch -> up[n] = 0 }
    /* The last client left: the upstream is closed to the end, then the record is released. */
    :: d_step { storm && holds(n) && nfull(to_redis) -> to_redis!!release(n, 0, up[n]); up[n] = 0 }
    /* An offer comes, and at some time what may be a TAKE of a later epoch. */
    :: d_step { storm && may_accept(n, 1) -> accepted[n] = 1 }
    :: d_step { storm && may_accept(n, 2) -> accepted[n] = 2 }
    :: d_step { may_take(n, 2) -> at = 2; open_upstream(n) }
    :: d_step { may_take(n, 3) -> at = 3; open_upstream(n) }
    /* Hand-over to either of the others, in the same order as a release. */
    :: d_step { storm && holds(n) && nfull(to_redis) -> hand_over(n, next(n)) }
    :: d_step { storm && holds(n) && nfull(to_redis) -> hand_over(n, next(next(n))) }
    :: d_step { mode[n] == awake && len(in[n]) > 0 -> take(n, 0); open_upstream(n) }
    :: d_step { mode[n] == awake && len(in[n]) == 2 -> take(n, 1); open_upstream(n) }

    /* --- what happens to it --- */
    :: d_step { storm && len(in[n]) > 0 -> take(n, 0) }
    :: d_step { storm && len(in[n]) == 2 -> take(n, 1) }
    /* Renewals do not get through, or it crashes; later they do, or a new life of its id has waited long enough. */
    :: d_step { storm && mode[n] == awake -> mode[n] = fenced; fence(n) }
    :: d_step { mode[n] == fenced && !is_gone(n) -> mode[n] = awake }
    :: d_step { storm && mode[n] == awake -> mode[n] = asleep; accepted[n] = 0 /* as waking will, with no step between */ }
    /* On waking it fences before all else. */
    :: d_step {
        mode[n] == asleep ->
        mode[n] = fenced;
#ifndef NO_FENCE_ON_WAKING
        fence(n);
#endif
        check_upstreams()
    }
    od
}

inline grant(to)
{
    owner = to;
    epoch++;
    grantee[epoch] = owner
}

inline on_claim(replies)
{
    if
    :: epoch < last_epoch && in_turn(from) && (owner == 0 || owner == from ||
#ifdef NO_EPOCH_IN_CLAIM
        owner == who
#else
        (owner == who && epoch == at)
#endif
        ) ->
        grant(from);
        if
        :: replies -> tell(from, granted, epoch)
        :: else -> skip
        fi
    :: else ->
#ifdef LIVENESS
        assert(storm || epoch < EPOCHS) /* else the bound is what stops it */
#else
        skip
#endif
    fi
}

inline on_release()
{
    if
#ifdef NO_COMPARE_IN_RELEASE
    :: true ->
#else
    :: owner == from && epoch == at ->
#endif
#ifndef UPSTREAMS_ALONE
        assert(epoch == at); /* a stale release never wipes a newer owner */
#endif
        owner = 0
    :: else -> skip
    fi
}

inline on_transfer()
{
    if
    :: owner == from && epoch == at && epoch < last_epoch && in_turn(who) ->
        grant(who)
    :: else -> skip
    fi
}

inline on_command()
{
    if
    :: kind == claim -> on_claim(1)
    :: kind == orphan -> on_claim(0)
    :: kind == release -> on_release()
    :: kind == transfer -> on_transfer()
    fi
}

/* Runs commands in any order, and never gets some. */
proctype redis()
{
    do
    :: d_step { len(to_redis) > 0 -> take_command(0); on_command() }
    :: d_step { len(to_redis) == 2 -> take_command(1); on_command() }
    :: d_step { storm && len(to_redis) > 0 -> take_command(0) }
    :: d_step { storm && len(to_redis) == 2 -> take_command(1) }
    od
}

#ifdef LIVENESS
inline settle_down(nodes)
{
    calm = 1;
    gone = nodes;
    i = 1;
    do
    :: i <= NODES ->
        if
        :: is_gone(i) -> at2 = i; mode[at2] = fenced; up[at2] = 0; claiming[at2] = 0; accepted[at2] = 0
        :: else -> skip
        fi;
        i++
    :: else -> break
    od;
    i = 0
}

/* Any one node may be gone then, or two, or none. */
proctype weather()
{
    do
    :: d_step { storm && epoch <= STORM_EPOCHS -> settle_down(0) }
    :: d_step { storm && epoch <= STORM_EPOCHS -> settle_down(2) }
    :: d_step { storm && epoch <= STORM_EPOCHS -> settle_down(4) }
    :: d_step { storm && epoch <= STORM_EPOCHS -> settle_down(8) }
    :: d_step { storm && epoch <= STORM_EPOCHS -> settle_down(6) }
    :: d_step { storm && epoch <= STORM_EPOCHS -> settle_down(10) }
    :: d_step { storm && epoch <= STORM_EPOCHS -> settle_down(12) }
    od
}
#endif

init
{
    atomic {
        run node(1); run node(2); run node(3); run redis()
#ifdef LIVENESS
        ; run weather()
#endif
    }
}
