"""`deitlt completion SHELL`: what the shell runs so that the tab key completes verbs, choices and keys. No torch here.

The scripts ask `deitlt completion --query` for the words that may end the line in COMP_LINE, one a line. Keys and
groups are completed by Hydra's own completion; what it does not know, verbs and values, is answered here.
"""

import sys
from collections.abc import Collection, Sequence

from deitlt.commands import Parser
from deitlt.commands.list import TOPICS
from deitlt.config.keys import walk
from deitlt.config.reference import choices_of
from deitlt.config.schema import Train
from deitlt.config.trust import plugin_folders
from deitlt.config.verbs import SCHEMAS

_BASH = """_deitlt() {
    local line="${COMP_LINE:0:COMP_POINT}" IFS=$'\\n'
    local word="${line##* }" found
    found=$(COMP_LINE="$line" "$1" completion --query 2>/dev/null)
    COMPREPLY=($found)
    # Where the shell ends words at '=', it wants what stands behind it alone.
    if [[ "$word" == *=* && "$COMP_WORDBREAKS" == *=* ]]; then
        COMPREPLY=("${COMPREPLY[@]#"${word%%=*}="}")
    fi
}
complete -o nospace -o default -F _deitlt deitlt
"""
# A word that ends in a blank is whole; zsh and fish write that blank themselves, and quote brackets.
_ZSH = """(( $+functions[compdef] )) || { autoload -Uz compinit && compinit; }
_deitlt() {
    local line="${(j: :)words[1,CURRENT-1]} $PREFIX"
    local -a found=(${(f)"$(COMP_LINE="$line" $words[1] completion --query 2>/dev/null)"})
    if (( $#found )); then
        compadd -- ${${(M)found:#* }% }
        compadd -S '' -- ${found:#* }
    else
        compset -P '*='
        _files
    fi
}
compdef _deitlt deitlt
"""
# Where the condition finds no words, fish offers files.
_FISH = """function _deitlt
    set -lx COMP_LINE (commandline -cp)
    set -g _deitlt_words (deitlt completion --query 2>/dev/null | string trim --right | string match -v '')
    set -q _deitlt_words[1]
end
complete -c deitlt -f -n _deitlt -a '$_deitlt_words'
"""
SCRIPTS = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}


def main(arguments: list[str]) -> int:
    """Print a shell's script."""
    parser = Parser(
        'type eval "$(deitlt completion bash)", or zsh or fish.',
        prog="deitlt completion",
        description="Print what a shell runs so that the tab key completes verbs, choices and keys.",
        epilog='eval "$(deitlt completion bash)" in ~/.bashrc, the same of zsh in ~/.zshrc, or '
        "deitlt completion fish | source in ~/.config/fish/config.fish: it is there in every shell",
    )
    parser.add_argument("shell", choices=SCRIPTS)
    sys.stdout.write(SCRIPTS[parser.parse_args(arguments).shell])
    return 0


def own_words(words: Sequence[str], verbs: Collection[str]) -> list[str] | None:
    """The words that may stand in place of the last one; None where Hydra knows them.

    None of them where files may stand: the shell knows those.

    Args:
        words: the line's words without the program's name; the last is what was typed of a word, or empty.
        verbs: all verbs.
    """
    verb, last = words[0], words[-1]
    name, is_value, _ = last.partition("=")
    plain = {"list": (*TOPICS, "keys"), "completion": SCRIPTS}  # what they take
    if len(words) == 1:
        found = [f"{word} " for word in sorted(verbs)]
    elif verb in plain:
        found = [f"{word} " for word in plain[verb] if len(words) == 2]
    elif not is_value:
        return None
    elif choices := choices_of(name, plugin_folders()):
        found = [choice.override for choice in choices]
    else:
        keys = {key.name: key for key in walk(SCHEMAS.get(verb, Train))}
        key = keys.get(name)
        values = (*(("true", "false") if bool in key.types else ()), *key.choices) if key else ()
        found = [f"{name}={value}" for value in values]
    return [word for word in found if word.startswith(last)]
