"""`deitlt completion SHELL`: what the shell runs so that the tab key completes verbs, choices and keys. No torch.

Overrides are completed by Hydra's own completion; what it does not know, the verb, the choices of a key and the
names within a folder of a group, is answered here.
"""

import sys
from collections.abc import Collection, Sequence

from deitlt.errors import ConfigError
from deitlt.tasks.checks import CHOICES
from deitlt.tasks.reference import TOPICS, choices_of

QUERY = "--query"  # what the scripts ask: the words for the line in COMP_LINE, one a line
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
SCRIPTS = {
    "bash": _BASH,
    "zsh": f"autoload -U +X compinit && compinit\nautoload -U +X bashcompinit && bashcompinit\n{_BASH}",
    "fish": """function _deitlt
    set -lx COMP_LINE (commandline -cp)
    deitlt completion --query
end
complete -c deitlt -f -a '(_deitlt)'
""",
}

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


def own_words(words: Sequence[str], verbs: Collection[str], flags: Collection[str]) -> list[str] | None:
    """The words that may stand in place of the last one; None where Hydra knows them.

    Args:
        words: the line's words without the program's name; the last is what was typed of a word, or empty.
        verbs: all verbs.
        flags: of the verbs that take overrides.
    """
    last = words[-1]
    if len(words) == 1:
        return [f"{verb} " for verb in sorted(verbs) if verb.startswith(last)]
    if words[0] == "list":
        names = [*TOPICS, "keys"] if len(words) == 2 else []
        return [name for name in names if name.startswith(last)]
    if words[0] == "completion":
        return [shell for shell in SCRIPTS if shell.startswith(last)]
    if last.startswith("-"):
        return [flag for flag in sorted(flags) if flag.startswith(last)]
    return _values(last)


def _values(word: str) -> list[str] | None:
    """The values of KEY=, where the key is a group of choices or has few; after a comma, the next value's."""
    key, equals, typed = word.partition("=")
    if not equals:
        return None
    names = list(CHOICES[key]) if key in CHOICES else [choice.name for choice in choices_of(key)]
    before, comma, last = typed.rpartition(",")
    found = [f"{key}={before}{comma}{name}" for name in names if name.startswith(last)]
    return found if names else None
