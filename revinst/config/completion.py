"""Tab completion, as a script for bash and zsh: commands, options, keys, and the words that they take; else files."""

from argparse import ArgumentParser
from collections.abc import Mapping

from revinst.config.parser import build_parser
from revinst.config.values import words_of

WITH_KEYS = ("fit", "plan", "inspect")  # that take a config's keys beside their own options
SCRIPT = """# revinst's words, for bash and zsh:  source <(revinst --completion)
[ -n "$ZSH_VERSION" ] && autoload -U +X bashcompinit && bashcompinit
_revinst() {
    local word="${COMP_WORDS[COMP_CWORD]}" before="${COMP_WORDS[COMP_CWORD-1]}" words=""
    case "${COMP_WORDS[1]} $before" in
%s
    esac
    if [ "$COMP_CWORD" = 1 ]; then
        words="%s"
    elif [ "${word#-}" != "$word" ]; then
        case "${COMP_WORDS[1]}" in
%s
        esac
    fi
    COMPREPLY=($(compgen -W "$words" -- "$word"))
}
complete -o default -F _revinst revinst
"""


def write_completion(parsers: Mapping[str, ArgumentParser]) -> str:
    """parsers: of every command, by its name."""
    values, options = [], []
    for command, parser in parsers.items():
        taken = list_options(parser) | (list_options(build_parser()) if command in WITH_KEYS else {})
        closed = {name: words for name, words in taken.items() if words}
        values += [f'        "{command} {name}") words="{" ".join(words)}" ;;' for name, words in closed.items()]
        options.append(f'            {command}) words="{" ".join(taken)}" ;;')
    return SCRIPT % ("\n".join(values), " ".join(parsers), "\n".join(options))


def list_options(parser: ArgumentParser) -> dict[str, tuple[str, ...]]:
    """`--NAME` -> the words that it takes, () where these are open."""
    return {
        option: tuple(map(str, action.choices)) if action.choices else words_of(action.dest)
        for action in parser._actions
        for option in action.option_strings
        if option.startswith("--") and not option.endswith("+")
    }
