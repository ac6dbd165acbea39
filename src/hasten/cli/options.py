"""Flags that several verbs share, and how their text is read."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Annotated

from cyclopts import Parameter

from hasten.errors import OptionError
from hasten.graph import InputSpec, parse_input
from hasten.tune.subject import Wanted

__all__ = ["Flag", "Repeated", "Timing", "inputs_of", "megabytes", "seconds"]

#: On where it is given; there is no flag that turns it off.
Flag = Annotated[bool, Parameter(negative=())]
#: May be given more than once.
Repeated = Annotated[list[str] | None, Parameter(negative=())]

_SECONDS = {"s": 1, "m": 60, "h": 3600}
_TIME = re.compile(r"(\d+(?:\.\d+)?)([smh]?)")


def seconds(text: str, flag: str = "--time") -> float:
    """Read a time such as 90, 90s, 5m or 1h, in seconds; raises OptionError.

    >>> seconds("1.5m")
    90.0
    """
    match = _TIME.fullmatch(text.strip())
    if match is None or float(match[1]) <= 0:
        raise OptionError(expected="a time such as 90s or 5m", got=repr(text), where=flag)
    return float(match[1]) * _SECONDS[match[2] or "s"]


def megabytes(size: float | None, flag: str) -> int | None:
    """Return MB (10^6 bytes) as bytes; raises OptionError for what is no size."""
    if size is None:
        return None
    if not (math.isfinite(size) and size > 0):
        raise OptionError(expected="a number above 0", got=f"{size:g}", where=flag)
    return max(1, int(size * 1e6))


def inputs_of(texts: list[str] | None) -> list[InputSpec]:
    """Read each ``--input name=dtype[dim,...]``."""
    return [parse_input(text) for text in texts or []]


@Parameter(name="*")
@dataclass(frozen=True)
class Timing:
    """How ``bench`` and ``compare`` time, as flags of the verb.

    Parameters
    ----------
    data
        Samples to feed with; random ones by default.
    preprocess
        How pixels become a model's input: size=224x224,mean=0.5,std=0.5.
    input
        An input of a PyTorch model: name=float32[batch,3,224,224]. Repeat for each.
    runtime
        The runtime, where a model does not name one.
    threads
        Use exactly so many threads.
    rounds
        How many rounds.
    seed
        Decides orders and random samples.
    device
        Compute on this device: cpu or gpu. bench --json lists what there is.
    delegate
        A LiteRT delegate with options: lib.so:key=value,key=value.
    trust
        A public key, or a folder of them: bundles signed by one may name a delegate. Repeat for
        more.
    fail_on_fallback
        Exit with 2 where a delegate or device does not run the whole model.
    json
        Print one JSON document.
    """

    data: str | None = None
    preprocess: str | None = None
    input: Repeated = None
    runtime: str | None = None
    threads: int | None = None
    rounds: int = 30
    seed: int = 0
    device: str | None = None
    delegate: str | None = None
    trust: Repeated = None
    fail_on_fallback: Flag = False
    json: Flag = False

    def wanted(self) -> Wanted:
        """Return how subjects are to be run; raises OptionError for what cannot be."""
        if self.rounds < 1:
            raise OptionError(expected="1 or more", got=str(self.rounds), where="--rounds")
        inputs = tuple(inputs_of(self.input))
        return Wanted(
            self.runtime,
            self.threads,
            self.data,
            self.preprocess,
            inputs,
            self.seed,
            self.device,
            self.delegate,
            tuple(self.trust or ()),
        )
