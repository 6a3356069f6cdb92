# Bash completion of vinhubctl. Source it, or install it as
# /usr/share/bash-completion/completions/vinhubctl. Sessions and nodes are asked for where the words
# before name a cluster that answers.

_vinhubctl_ids() { # what: nodes or sessions
    local -a where=()
    local i
    for ((i = 1; i < COMP_CWORD; i++)); do
        case ${COMP_WORDS[i]} in
            --admin | --redis | --prefix | --ca | --cert | --key | --tls-name | --token-file)
                where+=("${COMP_WORDS[i]}" "${COMP_WORDS[i + 1]-}")
                ((i++))
                ;;
        esac
    done
    timeout 2 "${COMP_WORDS[0]}" "${where[@]}" "$1" 2>/dev/null | awk 'NR > 1 { print $1 }'
}

_vinhubctl() {
    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]}
    local commands='nodes sessions session top tail publish drain close clients kick revoke'
    local filters='user= vin= service= session= node= address='
    local options='--admin --redis --prefix --ca --cert --key --tls-name --token-file --json --version --help'
    COMPREPLY=()
    case $before in
        --token-file | --ca | --cert | --key)
            mapfile -t COMPREPLY < <(compgen -f -- "$word")
            return
            ;;
        --admin)
            mapfile -t COMPREPLY < <(compgen -W 'http://127.0.0.1:9600' -- "$word")
            return
            ;;
        --redis)
            mapfile -t COMPREPLY < <(compgen -W 'redis://127.0.0.1:6379' -- "$word")
            return
            ;;
        tail)
            mapfile -t COMPREPLY < <(compgen -W "http://127.0.0.1:8080/ $(_vinhubctl_ids sessions)" -- "$word")
            return
            ;;
        session | publish | close)
            mapfile -t COMPREPLY < <(compgen -W "$(_vinhubctl_ids sessions)" -- "$word")
            return
            ;;
        clients | user=* | vin=* | service=* | session=* | node=* | address=*)
            mapfile -t COMPREPLY < <(compgen -W "$filters" -- "$word")
            return
            ;;
        kick)
            mapfile -t COMPREPLY < <(compgen -W "$filters reason=" -- "$word")
            return
            ;;
        revoke)
            mapfile -t COMPREPLY < <(compgen -W 'jti= sub=' -- "$word")
            return
            ;;
        sub=*)
            mapfile -t COMPREPLY < <(compgen -W 'before=' -- "$word")
            return
            ;;
        drain)
            mapfile -t COMPREPLY < <(compgen -W "$(_vinhubctl_ids nodes)" -- "$word")
            return
            ;;
    esac
    if [[ $word == -* ]]; then
        mapfile -t COMPREPLY < <(compgen -W "$options" -- "$word")
    else
        mapfile -t COMPREPLY < <(compgen -W "$commands" -- "$word")
    fi
}

# A session id holds a colon, and a filter '=', which bash takes for words of their own.
COMP_WORDBREAKS=${COMP_WORDBREAKS//:/}
COMP_WORDBREAKS=${COMP_WORDBREAKS//=/}
complete -F _vinhubctl vinhubctl
