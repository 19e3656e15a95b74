"""`deitlt completion SHELL`: what the shell runs so that the tab key completes verbs, choices and keys. No torch.

Keys are completed by Hydra's own completion; what it does not know, the verb, flags, the values of a key and the names
within a folder of a group, is answered here.
"""

import re
import sys
from collections.abc import Collection, Sequence

from deitlt.config.checks import CHOICES
from deitlt.config.reference import TOPICS, all_keys, choices_of, topic_of
from deitlt.errors import ConfigError

# Of the verbs that take no overrides.
PLAIN_FLAGS = {
    "report": ("--help", "--html", "--output", "--paper"),
    "list": ("--help", "--json"),
    "workspace": ("--help", "--json"),
    "completion": ("--help",),
}
_KEYS = "keys"
# Last words of the keys whose values are files and folders.
_PATHS = (
    *("checkpoint", "images", "root", "data_root", "output", "output_dir", "sweep_dir", "runs", "folder", "resume"),
    *("train_csv", "test_csv", "train_list", "test_list", "init"),
)
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

_HELP = """deitlt completion SHELL: print what a shell runs so that the tab key completes verbs, choices and keys

  bash, zsh   eval "$(deitlt completion bash)", or zsh; in ~/.bashrc or ~/.zshrc it is there in every shell
  fish        deitlt completion fish | source; in ~/.config/fish/config.fish it is there in every shell
"""


def main(arguments: list[str]) -> int:
    """Print a shell's script."""
    if {"-h", "--help"} & set(arguments):
        sys.stdout.write(_HELP)
        return 0
    shell = arguments[0] if len(arguments) == 1 else ""
    if shell not in SCRIPTS:
        typed = " ".join(arguments)
        said = f"{typed!r} is no shell with completion" if arguments else "completion needs the name of a shell"
        raise ConfigError(f'{said}; type eval "$(deitlt completion bash)", or {_others()}.')
    sys.stdout.write(SCRIPTS[shell])
    return 0


def _others() -> str:
    return " or ".join(shell for shell in SCRIPTS if shell != "bash")


def words_of(line: str) -> list[str]:
    """The words behind the program's name, the last of them empty where a new one begins.

    Brackets lose the backslashes that zsh and fish put before them.
    """
    words = re.sub(r"\\([\[\]])", r"\1", line).split()[1:]
    return words + [""] * (not words or line.endswith(" "))


def own_words(words: Sequence[str], verbs: Collection[str], flags: Collection[str]) -> list[str] | None:
    """The words that may stand in place of the last one; None where Hydra knows them.

    None of them where files may stand: the shell knows those.

    Args:
        words: the line's words without the program's name; the last is what was typed of a word, or empty.
        verbs: all verbs.
        flags: of the verbs that take overrides.
    """
    verb, last = words[0], words[-1]
    if len(words) == 1:
        return [f"{name} " for name in sorted(verbs) if name.startswith(last)]
    if last.startswith("-"):
        return [flag for flag in PLAIN_FLAGS.get(verb, sorted(flags)) if flag.startswith(last)]
    if verb == "list":
        return [name for name in _listed(words[1:-1], last) if name.startswith(last)]
    if verb == "completion":
        return [shell for shell in SCRIPTS if shell.startswith(last)]
    return _values(last)


def _listed(before: Sequence[str], typed: str) -> list[str]:
    """What `deitlt list` takes behind some words: a topic, then names of that topic, or keys up to their next dot."""
    if not before:
        return [f"{name} " for name in (*TOPICS, _KEYS)]
    if list(before) == [_KEYS]:
        ends = ((key.name, key.name.find(".", len(typed)) + 1) for key in all_keys() if key.name.startswith(typed))
        return list(dict.fromkeys(name[:end] if end else name for name, end in ends))
    return [entry.name for entry in topic_of(before[0]).entries] if len(before) == 1 else []


def _values(word: str) -> list[str] | None:
    """The values of KEY=, where there are few; after a comma, or the bracket of a list, the next value's."""
    key, equals, typed = word.partition("=")
    names = _names(key) if equals else None
    if names is None:
        return None
    begun = max(typed.rfind(","), typed.rfind("[")) + 1
    if begun:
        names = [name.removeprefix("[") for name in names if not name.endswith("]")]
    return [f"{key}={typed[:begun]}{name}" for name in names if name.startswith(typed[begun:])]


def _names(key: str) -> list[str] | None:
    """The choices of a group, or what a key may be; None where Hydra is to say what it is."""
    if choices := choices_of(key):
        return [choice.name for choice in choices]
    known = next((known for known in all_keys() if known.name == key), None)
    if known is None:
        return None
    null = ["null"] if known.type.endswith("or null") else []
    if key in CHOICES:
        bracket = "[" if known.type.startswith("list") else ""
        return [*(f"{bracket}{name}" for name in CHOICES[key]), *null]
    if known.type.startswith("list"):
        return [known.default.replace(" ", ""), *null]
    if known.type.startswith("true or false"):
        return ["true", "false", *null]
    if known.type.startswith("keys"):
        return null
    return [] if key.rpartition(".")[2] in _PATHS and known.type.startswith("text") else None
