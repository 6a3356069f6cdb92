# shellcheck shell=bash
# What scripts/run and scripts/cluster share: a small cluster of local processes, its ports and its state.
#
# Sourced, not run. The caller sets root (the top folder), state (a folder for this cluster), bin (the build folder) and the
# ports below before it calls start_*. Each process has NAME.pid and NAME.log in the state folder; a pid counts only together
# with the process's start time, so that nobody else's process is ever taken for ours.
# shellcheck disable=SC2154 # set by the caller

# Settings of the cluster; whoever sources this gives them their defaults.
bind=${BIND:-127.0.0.1}
lease=${LEASE:-3s}
drain=${DRAIN:-2s}
spawn=(setsid) # what a process is started with; setsid keeps a terminal's Ctrl-C from it

say() { printf '%s\n' "$*"; }

die()
{
    printf '%s: %s\n' "${0##*/}" "$1" >&2
    shift
    [ $# -eq 0 ] || printf '  %s\n' "$@" >&2
    exit 1
}

case $bind in
127.0.0.1 | 0.0.0.0) ;; # the parts reach each other on loopback
*) die "BIND: expected 127.0.0.1 or 0.0.0.0, got \"$bind\"" ;;
esac

node_port() { echo $((first_node_port + $1 - 1)); }
admin_port() { echo $((first_admin_port + $1 - 1)); }

# --- ports ------------------------------------------------------------------------------------
# Prints who listens on a port, nothing where nobody does.
port_holder()
{
    local line
    line=$(ss -Hltnp "sport = :$1" 2>/dev/null | head -n 1)
    [ -n "$line" ] || return 0
    if [[ $line =~ \(\(\"([^\"]*)\",pid=([0-9]+) ]]; then
        printf '%s (pid %s)' "${BASH_REMATCH[1]}" "${BASH_REMATCH[2]}"
    else
        printf "another user's process"
    fi
}

# require_ports WHAT:PORT:VARIABLE...: ends the script where one is taken, and names them all.
require_ports()
{
    local item what port variable holder taken=()
    for item in "$@"; do
        IFS=: read -r what port variable <<<"$item"
        holder=$(port_holder "$port")
        [ -z "$holder" ] || taken+=("port $port for $what is held by $holder; $variable chooses another")
    done
    [ ${#taken[@]} -eq 0 ] || die "ports are taken, nothing was started" "${taken[@]}"
}

# --- processes --------------------------------------------------------------------------------
# Clock ticks from boot to the start of a process; nothing for one that is gone or a zombie.
started_at()
{
    local stat fields
    stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 1
    read -r -a fields <<<"${stat##*) }"
    [ "${fields[0]}" != Z ] && echo "${fields[19]}"
}

# start NAME COMMAND...
start()
{
    local name=$1 pid
    shift
    "${spawn[@]}" "$@" >>"$state/$name.log" 2>&1 </dev/null &
    pid=$!
    disown "$pid" # no "Killed" line when it is
    echo "$pid $(started_at "$pid")" >"$state/$name.pid"
}

# Prints the pid of a process we started; fails where it no longer runs.
pid_of()
{
    local pid since
    read -r pid since 2>/dev/null <"$state/$1.pid" || return 1
    [ -n "$since" ] && [ "$(started_at "$pid")" = "$since" ] && echo "$pid"
}

# until_true SECONDS COMMAND...
until_true()
{
    local limit=$((SECONDS + $1))
    shift
    until "$@"; do
        [ "$SECONDS" -lt "$limit" ] || return 1
        sleep 0.1
    done
}

is_gone() { ! pid_of "$1" >/dev/null; }

# signal_process NAME SIGNAL: no effect on one that is gone.
signal_process()
{
    local pid
    if pid=$(pid_of "$1"); then kill "-$2" "$pid" 2>/dev/null; fi
    return 0
}

# end NAME...: asks all of them to stop, waits, and kills what stays for longer than a drain may take.
end()
{
    local name
    for name in "$@"; do
        signal_process "$name" TERM
        signal_process "$name" CONT # a paused one can't hear
    done
    for name in "$@"; do
        if ! until_true 15 is_gone "$name"; then
            say "$name did not stop by itself; killed"
            signal_process "$name" KILL
            until_true 5 is_gone "$name"
        fi
        rm -f "$state/$name.pid"
    done
}

# Names of all that was started, the nodes in order.
started_names()
{
    local file
    for file in "$state"/*.pid; do
        [ -e "$file" ] || continue
        basename "$file" .pid
    done | sort -V
}

node_names() { started_names | grep -E '^node[0-9]+$'; }

# The load balancer first, so that nodes drain without new clients; Redis last.
end_all()
{
    local names
    mapfile -t names < <(node_names)
    end nginx
    end "${names[@]}"
    end backend
    end redis
}

# --- asking a process -------------------------------------------------------------------------
# Prints the status of a GET on a local port; fails where nobody answers within 2 s.
http_status()
{
    # shellcheck disable=SC2016 # for the inner shell
    timeout 2 bash -c 'exec 5<>"/dev/tcp/127.0.0.1/$1" &&
        printf "GET %s HTTP/1.0\r\nHost: 127.0.0.1:%s\r\n\r\n" "$2" "$1" >&5 &&
        read -r _ status _ <&5 && printf "%s" "$status"' get "$1" "$2" 2>/dev/null
}

is_ready() { [ "$(http_status "$(admin_port "$1")" /readyz)" = 200 ]; }
# An answer means an HTTP server, not just a port.
answers_http() { http_status "$1" / >/dev/null; }
answers_redis() { redis-cli -p "$redis_port" ping 2>/dev/null | grep -q PONG; }

# alive_until NAME SECONDS COMMAND...: ends the script and shows the log if NAME dies or COMMAND stays false.
alive_until()
{
    local name=$1 limit=$((SECONDS + $2))
    shift 2
    until "$@"; do
        if is_gone "$name" || [ "$SECONDS" -ge "$limit" ]; then
            tail -n 15 "$state/$name.log" >&2
            die "$name did not come up; the end of its log is above"
        fi
        sleep 0.1
    done
}

# websocket_expect PORT PATH SECONDS SEND PATTERN: opens a WebSocket, sends one text (at most 125 bytes) and succeeds as soon as
# something that matches the pattern comes back. A mask of zero makes frames plain text, so bash alone can do it.
websocket_expect()
(
    LC_ALL=C
    exec 5<>"/dev/tcp/127.0.0.1/$1" || exit 1
    printf 'GET %s HTTP/1.1\r\nHost: 127.0.0.1:%s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n' "$2" "$1" >&5
    printf 'Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dmluaHViLXNtb2tlLXRlcw==\r\n\r\n' >&5
    # shellcheck disable=SC2059 # the length is part of the format
    printf "\\x81\\x$(printf %02x $((128 + ${#4})))\\0\\0\\0\\0%s" "$4" >&5
    deadline=$((SECONDS + $3))
    while [ "$SECONDS" -lt "$deadline" ] && IFS= read -r -t "$3" -d '}' piece <&5; do
        [[ ! $piece =~ $5 ]] || exit 0
    done
    exit 1
) 2>/dev/null

# --- the parts --------------------------------------------------------------------------------
start_redis()
{
    mkdir -p "$state/redis"
    start redis redis-server --port "$redis_port" --bind 127.0.0.1 --dir "$state/redis" --save '' --appendonly no \
        --maxmemory-policy noeviction
    alive_until redis 10 answers_redis
}

start_backend()
{
    start backend "$bin/tools/backend_sim" --listen "127.0.0.1:$backend_port" --interval-ms "${BACKEND_INTERVAL_MS:-1000}"
    alive_until backend 10 answers_http "$backend_port"
}

# Writes node N's configuration to $state/nodeN.yaml.
write_node_config()
{
    cat >"$state/node$1.yaml" <<EOF
node: {id: node$1, lease: $lease, drain: $drain}
listen: {address: "$bind:$(node_port "$1")", trusted_proxies: [127.0.0.1]}
admin: {address: "127.0.0.1:$(admin_port "$1")"}
redis: {url: "redis://127.0.0.1:$redis_port"}
services:
  - name: remoteWs
    upstream: "${UPSTREAM:-ws://127.0.0.1:$backend_port/carmonitor/remotews{path\}}"
    presence: true
default_service: remoteWs
EOF
}

# start_node N: does not wait
start_node()
{
    write_node_config "$1"
    start "node$1" "$bin/vinhub" -c "$state/node$1.yaml"
}

# A node that takes over the id of one that was killed waits for a lease.
await_node() { alive_until "node$1" 30 is_ready "$1"; }

# write_servers N: adds a node to the load balancer's lists
write_servers()
{
    echo "server 127.0.0.1:$(node_port "$1") max_fails=1 fail_timeout=2s;" >>"$state/nginx/servers.conf"
    echo "server 127.0.0.1:$(admin_port "$1") max_fails=1 fail_timeout=2s;" >>"$state/nginx/admin_servers.conf"
}

# start_nginx NODES PAGE_FOLDER
start_nginx()
{
    local run=$state/nginx user='' i
    rm -rf "$run"
    mkdir -p "$run"
    # As root nginx would hand over to a user who can't read here.
    [ "$(id -u)" != 0 ] || user='user root;'
    for ((i = 1; i <= $1; i++)); do write_servers "$i"; done
    # More than clients.ping.every and timeout together (45 s): for so long a good node may send a client nothing.
    echo 'proxy_read_timeout 50s;' >"$run/timeout.conf"
    sed -e "s|@USER@|$user|" -e "s|@RUN@|$run|g" -e "s|@LISTEN@|$bind:$lb_port|" \
        -e "s|@ADMIN_LISTEN@|127.0.0.1:$console_port|" -e "s|@ACCESS_LOG@|$run/access.log|" -e "s|@PAGE@|$2|" \
        -e "s|@EXTRA@|$root/docker/demo|" "$root/docker/nginx/nginx.conf.in" >"$run/nginx.conf"
    start nginx nginx -p "$run" -e stderr -c "$run/nginx.conf"
    alive_until nginx 10 answers_http "$lb_port"
}
