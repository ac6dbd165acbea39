"""The command line: one table of verbs, each imported only when called."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, NoReturn

from hasten.errors import HastenError

if TYPE_CHECKING:
    from cyclopts import App

__all__ = ["main"]

#: Each verb, where it is, and its line in the help. To add one, write its file and a line here.
VERBS = {
    "optimize": "Turn a model and its data into the fastest version that keeps its accuracy.",
    "quantize": "Write a model in int8, with figures of before and after.",
    "prune": "Write a model with fewer channels, or with zeros in its weights.",
    "distill": "Train a small model on the answers of a large one.",
    "finetune": "Train a model further, in float or for int8.",
    "convert": "Write a model in another format, once its numbers were compared.",
    "bench": "Time one model, bundle or runtime.",
    "compare": "Time two in pairs, and say which is faster.",
    "serve": "Serve bundles, models or a Triton repository over HTTP.",
    "load": "Load a server from outside, and find its limit.",
    "bundle": "Sign a bundle, or verify it and who signed it.",
    "doctor": "What this host has, what slows it, and what to change.",
    "demo": "The main job on real data: defects in photographs of solar cells.",
}

_SUMMARY = "Make a trained model fast where it runs, and prove it by measuring."
_DONE, _UNMET, _BAD_INPUT, _INTERRUPTED = 0, 1, 2, 130
#: The reader has gone: what rich exits with too.
_CLOSED_PIPE = 1


def _app() -> App:
    from cyclopts import App

    app = App(
        name="hasten",
        help=_SUMMARY,
        version=_version,
        help_format="plaintext",
        result_action="return_value",
        exit_on_error=False,
        print_error=False,
        suppress_keyboard_interrupt=False,
    )
    for verb, line in VERBS.items():
        app.command(f"hasten.cli.{verb}:{verb}", name=verb, help=line)
    return app


def _version() -> str:
    from importlib.metadata import version

    return version("hasten")


def _overview() -> str:
    """Return the help of the program: its verbs, a line each."""
    lines = "".join(f"  {verb:<10}{line}\n" for verb, line in VERBS.items())
    return (
        f"Usage: hasten VERB\n\n{_SUMMARY}\n\n{lines}\n"
        "hasten VERB --help tells more of one; hasten --version prints the version.\n"
    )


def main() -> None:
    """Run a verb; exit 0 when done, 1 when a goal is unmet, 2 on bad input, 130 on Ctrl-C."""
    try:
        status = _run(sys.argv[1:])
        sys.stdout.flush()
    except BrokenPipeError:  # `hasten ... | head`: what is left in the buffer goes nowhere
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = _CLOSED_PIPE
    sys.exit(status)


def _run(arguments: list[str]) -> int:
    if arguments in ([], ["--help"], ["-h"]):
        sys.stdout.write(_overview())  # at once: reading verbs and drawing boxes takes longer
        return _DONE
    from cyclopts import CycloptsError

    try:
        status = _app()(arguments)
    except (HastenError, CycloptsError) as error:
        _fail(" ".join(str(error).split()), _BAD_INPUT)
    except KeyboardInterrupt:
        _fail("interrupted before anything was measured; nothing was written", _INTERRUPTED)
    return status if isinstance(status, int) else _DONE


def _fail(message: str, status: int) -> NoReturn:
    sys.stderr.write(f"hasten: {message}\n")
    sys.exit(status)
