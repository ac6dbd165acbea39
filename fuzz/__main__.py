"""Fuzz one target or all: ``python -m fuzz [TARGET ...] [--time 10m]``."""

from __future__ import annotations

import argparse
import random
import sys
from pathlib import Path

from fuzz.readers import READERS
from fuzz.reading import read
from fuzz.requests import fuzz_server
from fuzz.watch import watch

_SERVER = ("http", "json")
_TARGETS = (*READERS, *_SERVER)
_UNITS = {"s": 1, "m": 60, "h": 3600}


def main() -> int:
    """Return 1 where something was found."""
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=", ".join(_TARGETS))
    parser.add_argument("--time", default="10m", help="for each target: 30s, 10m, 2h")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    parser.add_argument("--list", action="store_true", help="name the targets")
    parser.add_argument("--replay", type=Path, help="read this input once")
    given = parser.parse_args()
    unknown = sorted(set(given.targets) - set(_TARGETS))
    if unknown:
        parser.error(f"expected targets among {', '.join(_TARGETS)}, got {', '.join(unknown)}")
    if given.list:
        sys.stdout.write("\n".join(_TARGETS) + "\n")
        return 0
    if given.replay is not None:
        (target,) = given.targets
        wrong = read(target, given.replay)
        sys.stdout.write(wrong or "as it should be\n")
        return bool(wrong)
    time_s = float(given.time[:-1]) * _UNITS[given.time[-1]]
    sys.stdout.write(f"seed {given.seed}\n")
    found = 0
    for target in given.targets or _TARGETS:
        fuzz = fuzz_server if target in _SERVER else watch
        found += fuzz(target, time_s, given.seed)
        sys.stdout.flush()
    return int(found > 0)


if __name__ == "__main__":
    sys.exit(main())
