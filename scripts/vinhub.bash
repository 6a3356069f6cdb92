# Bash completion of vinhub. Source it, or install it as /usr/share/bash-completion/completions/vinhub.

_vinhub() {
    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]}
    local options='-c --config --service --listen --admin --redis --node-id --log-level --check --print-config --version --help'
    COMPREPLY=()
    case $before in
        -c | --config) mapfile -t COMPREPLY < <(compgen -f -- "$word") ;;
        --log-level) mapfile -t COMPREPLY < <(compgen -W 'debug info warn error' -- "$word") ;;
        --service | --listen | --admin | --redis | --node-id) ;;
        *) mapfile -t COMPREPLY < <(compgen -W "$options" -- "$word") ;;
    esac
}

complete -F _vinhub vinhub
