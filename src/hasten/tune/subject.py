"""What ``bench`` and ``compare`` time: a model, a bundle, or either in a runtime of choice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from hasten.bundle import Bundle, is_bundle
from hasten.data import Preprocessing, Samples, Source, load_samples
from hasten.errors import OptionError
from hasten.graph import InputSpec, load
from hasten.measure.environment import physical_cores
from hasten.runtimes import RUNTIMES, Execution, Lowered, get_runtime
from hasten.tune.space import check_delegates, check_devices, check_threads, home_runtime

__all__ = ["Subject", "Wanted", "open_subject"]

_SYNTHETIC_SAMPLES = 8


@dataclass(frozen=True)
class Subject:
    """Something that can be opened and timed, with the samples it is fed."""

    label: str
    runtime: str
    lowered: Lowered
    execution: Execution
    samples: Path


@dataclass(frozen=True)
class Wanted:
    """How subjects are to be run where that is not theirs to say."""

    runtime: str | None = None
    threads: int | None = None
    data: Source | None = None
    preprocessing: Preprocessing | str | None = None
    inputs: Sequence[InputSpec] = ()
    seed: int = 0
    device: str | None = None
    delegate: str | None = None
    trust: Sequence[str] = ()


def open_subject(text: str, wanted: Wanted, scratch: Path) -> Subject:
    """Read ``PATH``, ``package.module:callable`` or either with ``@RUNTIME``.

    A bundle runs as its plan says, unless the runtime or the threads are given. Without data,
    the samples are random. ``scratch`` is a folder of this subject's own. Raises an InputError for
    what cannot be used.
    """
    check_threads(wanted.threads, physical_cores())
    scratch.mkdir(parents=True, exist_ok=True)
    name, runtime_name = _split(text)
    runtime_name = runtime_name or wanted.runtime
    if is_bundle(Path(name)):
        bundle = Bundle.open(name, trust=wanted.trust, delegate=wanted.delegate)
        plan = bundle.manifest.plan.runtime
        lowered, execution = bundle.lowered, bundle.execution
        if runtime_name not in {None, plan}:
            execution = msgspec.structs.replace(
                execution, hint="default", device="cpu", delegate=""
            )
        runtime_name = runtime_name or plan
        _require_readable(runtime_name, lowered, text)
    else:
        model = load(name, inputs=wanted.inputs, scratch=scratch)
        runtime_name = runtime_name or home_runtime(model)
        runtime = get_runtime(runtime_name)
        reasons = runtime.supports(model)
        if reasons:
            raise OptionError(
                expected=f"a model that {runtime_name} takes", got="; ".join(reasons), where=text
            )
        lowered = runtime.lower(model, scratch)
        execution = Execution(physical_cores(), batch=model.signature.batch or 1)
    execution = _adapted(execution, runtime_name, wanted)
    samples = _samples(lowered, wanted, scratch)
    return Subject(
        f"{Path(name).name} {runtime_name} {execution}", runtime_name, lowered, execution, samples
    )


def _split(text: str) -> tuple[str, str | None]:
    name, at, runtime = text.rpartition("@")
    if not at or Path(text).exists():
        return text, None
    if runtime not in RUNTIMES:
        raise OptionError(
            expected=f"a runtime after '@': {', '.join(RUNTIMES)}", got=repr(runtime), where=text
        )
    return name, runtime


def _adapted(execution: Execution, runtime: str, wanted: Wanted) -> Execution:
    """Return the execution with the threads, the device and the delegate that were asked for."""
    if wanted.threads:
        execution = msgspec.structs.replace(execution, threads=wanted.threads)
    if wanted.device:
        check_devices([wanted.device], [runtime])
        execution = msgspec.structs.replace(execution, device=wanted.device)
    if wanted.delegate:
        (delegate,) = check_delegates([wanted.delegate], [runtime])
        execution = msgspec.structs.replace(execution, delegate=delegate)
    return execution


def _require_readable(runtime: str, lowered: Lowered, text: str) -> None:
    able = [name for name in RUNTIMES if lowered.format in get_runtime(name).reads]
    if runtime not in able:
        raise OptionError(expected=f"one of {', '.join(able)}", got=runtime, where=text)


def _samples(lowered: Lowered, wanted: Wanted, scratch: Path) -> Path:
    signature = lowered.signature
    if wanted.data is None:
        samples = Samples.synthetic(signature, _SYNTHETIC_SAMPLES, wanted.seed)
    else:
        samples = load_samples(
            wanted.data,
            signature,
            preprocessing=wanted.preprocessing,
            scratch=scratch / "read",
            at_most=64,
            seed=wanted.seed,
            labelled=False,
        )
    folder = scratch / "samples"
    samples.save(folder)
    return folder
