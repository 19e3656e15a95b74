"""`deitlt completion SHELL`: what the shell runs so that the tab key completes verbs, choices and keys. No torch here.

The scripts ask `deitlt completion --query` for the words that may end the line in COMP_LINE, one a line. Keys and
groups are completed by Hydra's own completion; what it does not know, verbs, flags and values, is answered here.
"""

import sys
from collections.abc import Collection, Sequence

from deitlt.config.compose import FLAGS
from deitlt.config.keys import walk
from deitlt.config.reference import TOPICS, all_keys, choices_of, choices_of_topic
from deitlt.config.verbs import SCHEMAS
from deitlt.errors import ConfigError

# Of the verbs that take no overrides.
PLAIN_FLAGS = {
    "report": ("--help", "--html", "--output", "--paper"),
    "list": ("--help", "--json"),
    "workspace": ("--help", "--json"),
    "completion": ("--help",),
}
# Each asks `completion --query` for the words that may end the line in COMP_LINE, one a line.
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
HELP = """deitlt completion SHELL: print what a shell runs so that the tab key completes verbs, choices and keys

  bash, zsh   eval "$(deitlt completion bash)", or zsh; in ~/.bashrc or ~/.zshrc it is there in every shell
  fish        deitlt completion fish | source; in ~/.config/fish/config.fish it is there in every shell
"""


def main(arguments: list[str]) -> int:
    """Print a shell's script."""
    shell = arguments[0] if len(arguments) == 1 else ""
    if not {"-h", "--help"} & set(arguments) and shell not in SCRIPTS:
        typed = f"{' '.join(arguments)!r} is no shell with completion"
        said = typed if arguments else "completion needs the name of a shell"
        raise ConfigError(f'{said}; type eval "$(deitlt completion bash)", or zsh or fish.')
    sys.stdout.write(SCRIPTS.get(shell, HELP))
    return 0


def words_of(line: str) -> list[str]:
    """The words behind the program's name, the last of them empty where a new one begins.

    Brackets lose the backslashes that zsh and fish put before them.
    """
    words = line.replace("\\[", "[").replace("\\]", "]").split()[1:]
    return words + [""] * (not words or line.endswith(" "))


def own_words(words: Sequence[str], verbs: Collection[str]) -> list[str] | None:
    """The words that may stand in place of the last one; None where Hydra knows them.

    None of them where files may stand: the shell knows those.

    Args:
        words: the line's words without the program's name; the last is what was typed of a word, or empty.
        verbs: all verbs.
    """
    verb, last = words[0], words[-1]
    if len(words) == 1:
        found: list[str] | None = [f"{name} " for name in sorted(verbs)]
    elif last.startswith("-"):
        found = list(PLAIN_FLAGS.get(verb, sorted(FLAGS)))
    elif verb == "list":
        found = _listed(words[1:-1], last)
    elif verb == "completion":
        found = list(SCRIPTS)
    else:
        found = _values(verb, *last.partition("=")[::2]) if "=" in last else None
    return None if found is None else [name for name in found if name.startswith(last)]


def _listed(before: Sequence[str], typed: str) -> list[str]:
    """What `deitlt list` takes behind some words: a topic, then names of that topic, or keys up to their next dot."""
    if not before:
        return [f"{name} " for name in (*TOPICS, "keys")]
    if list(before) == ["keys"]:
        ends = ((one.name, one.name.find(".", len(typed)) + 1) for one in all_keys() if one.name.startswith(typed))
        return list(dict.fromkeys(name[:end] if end else name for name, end in ends))
    return [choice.name for choice in choices_of_topic(before[0])] if len(before) == 1 else []


def _values(verb: str, name: str, typed: str) -> list[str] | None:
    """The values of KEY=, where there are few; after a comma, or the bracket of a list, the next value's."""
    schema = SCHEMAS["train" if verb == "inspect" else verb] if verb in (*SCHEMAS, "inspect") else None
    key = next((key for key in walk(schema) if key.name == name), None) if schema else None
    begun = typed[: max(typed.rfind(","), typed.rfind("[")) + 1]
    if choices := choices_of(name):
        values = [choice.name for choice in choices]
    elif key is None:
        return None
    else:
        values = ["true", "false"] * (bool in key.types) + list(key.rule.choices)
        is_free = key.is_leaf and not values and not key.rule.path
        if is_free:
            return None
        values = [f"{'[' * (list in key.types and not begun)}{value}" for value in values] + ["null"] * key.nullable
    return [f"{name}={begun}{value}" for value in values]
