"""Which candidates are worth thinking of, for this model, these samples and this machine."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import msgspec

from hasten.compress import DynamicInt8, FoldInput, StaticInt8, StepConfig, WeightInt8
from hasten.compress.quantization.rounding import Weights
from hasten.compress.static_int8 import Calibrator
from hasten.errors import OptionError
from hasten.graph import Model
from hasten.measure.rounds import Target
from hasten.runtimes import RUNTIMES, Device, Execution, Probe, get_runtime
from hasten.runtimes.litert.delegate import resolved

__all__ = [
    "Space",
    "check_threads",
    "check_delegates",
    "check_devices",
    "default_runtimes",
    "home_runtime",
    "require_runtimes",
    "step_chains",
    "thread_counts",
    "with_activations",
    "with_weights",
]

#: Raced only when named: it measures the measurer.
_ONLY_BY_NAME = frozenset({"null"})
#: Devices beside the processor that a race can be about.
_RACED_DEVICES = frozenset({"gpu"})
_CALIBRATORS: tuple[Calibrator, ...] = ("minmax", "percentile", "mse", "entropy")
_ACTIVATIONS: tuple[Literal["u8", "s8"], ...] = ("u8", "s8")
_BATCHES = (1, 2, 4, 8, 16, 32)


class Space(msgspec.Struct, frozen=True):
    """The executions to try on each runtime."""

    probes: dict[str, Probe]
    cores: int
    threads: int | None = None
    target: Target = "latency"
    batch: int | None = 1
    devices: tuple[str, ...] = ()
    delegates: tuple[str, ...] = ()

    def executions(self, runtime: str) -> list[Execution]:
        """Every execution of a runtime; the first use all cores, or the threads asked for.

        ``batch`` is what the model's inputs fix, or None where they leave it free. Of a delegate
        there is one execution, and of a device one for each batch.
        """
        probe = self.probes[runtime]
        found: list[Execution] = []
        if self._is_wanted(probe.device("cpu")):
            found += [
                Execution(threads, instances, batch, hint)
                for instances, threads in self._layouts()
                for batch in self._batches()
                for hint in probe.hints
            ]
            others = (*self.delegates, *probe.delegates) if probe.delegates else ()
            found += [msgspec.structs.replace(found[0], delegate=one) for one in others]
        for device in probe.devices:
            if device.name in _RACED_DEVICES and self._is_wanted(device):
                threads = self.threads or 1
                found += [Execution(threads, 1, at, device=device.name) for at in self._batches()]
        return found

    def _is_wanted(self, device: Device) -> bool:
        if self.devices:
            return device.usable and device.name in self.devices
        return device.usable and not device.software

    def unreached(self, runtime: str) -> dict[str, str]:
        """Devices beside the processor that a runtime does not race on, each with the reason."""
        found = {}
        for device in self.probes[runtime].devices:
            if device.name not in _RACED_DEVICES or self._is_wanted(device):
                continue
            if not device.usable:
                found[device.name] = device.reason
            elif not self.devices:
                found[device.name] = (
                    f"{device.description} is a processor that plays one: raced only with"
                    f" --device {device.name}"
                )
        return found

    def _layouts(self) -> Iterator[tuple[int, int]]:
        """Instances and threads: together never more than the physical cores."""
        if self.target == "latency":
            counts = [self.threads] if self.threads else thread_counts(self.cores)
            yield from ((1, threads) for threads in reversed(counts))
            return
        for threads in [self.threads] if self.threads else thread_counts(self.cores):
            for instances in thread_counts(max(1, self.cores // threads)):
                if instances * threads == self.cores or self.threads:
                    yield instances, threads

    def _batches(self) -> tuple[int, ...]:
        if self.batch is not None:
            return (self.batch,)
        return _BATCHES if self.target == "throughput" else (1,)


def thread_counts(cores: int) -> list[int]:
    """Powers of two up to the number of cores, and the number itself.

    >>> thread_counts(6)
    [1, 2, 4, 6]
    """
    powers = [1 << at for at in range(cores.bit_length()) if 1 << at < cores]
    return [*powers, cores]


def default_runtimes(asked: Sequence[str]) -> list[str]:
    """Return the runtimes asked for by name, or all that take part by default."""
    return list(dict.fromkeys(asked)) or [name for name in RUNTIMES if name not in _ONLY_BY_NAME]


def home_runtime(model: Model) -> str:
    """Return the runtime a user of this model has today: it is the reference."""
    if model.torch is not None and get_runtime("pytorch").probe().available:
        return "pytorch"
    return "onnxruntime" if model.tflite is None and model.format == "onnx" else "litert"


def require_runtimes(asked: Sequence[str]) -> None:
    """Raise OptionError for a runtime that is unknown or not installed."""
    for name in asked:
        probe = get_runtime(name).probe()
        if not probe.available:
            raise OptionError(
                expected="an installed runtime", got=probe.reason, where=f"--runtime {name}"
            )


def check_devices(asked: Sequence[str], runtimes: Sequence[str]) -> None:
    """Raise OptionError for a device that none of these runtimes can use here."""
    for name in asked:
        probes = {one: get_runtime(one).probe() for one in runtimes}
        found = {one: probe.device(name) for one, probe in probes.items() if probe.available}
        if any(device.usable for device in found.values()):
            continue
        known = {one: device for one, device in found.items() if device in probes[one].devices}
        reasons = [f"{one}: {device.reason}" for one, device in (known or found).items()]
        raise OptionError(
            expected="a device that can be used",
            got="; ".join(reasons) or "no runtime",
            where=f"--device {name}",
        )


def check_delegates(asked: Sequence[str], runtimes: Sequence[str]) -> tuple[str, ...]:
    """Return delegates with absolute paths.

    Raises OptionError for one that is not written as it should be, or that no runtime takes.
    """
    found = tuple(resolved(one) for one in asked)
    if not found:
        return ()
    able = [name for name in RUNTIMES if get_runtime(name).probe().delegates]
    if not any(name in able for name in runtimes):
        raise OptionError(
            expected=f"a runtime that takes delegates: {', '.join(able)}",
            got=", ".join(runtimes),
            where=f"--delegate {asked[0]}",
            hint=f"give --runtime {able[0]}" if able else "",
        )
    return found


def step_chains(*, foldable: bool, saturating: bool = False) -> list[tuple[StepConfig, ...]]:
    """Return every chain of steps to try, the likeliest to win among the first.

    Where the input's normalisation can be folded, every other step follows the fold: it leaves
    fewer bytes to move and nothing to compute outside. Where int8 products saturate, chains with
    weights of 7 bits come before those with 8.
    """
    widths: tuple[Weights, ...] = ("w7", "w8") if saturating else ("w8",)
    first: tuple[StepConfig, ...] = (FoldInput(),) if foldable else ()
    chains: list[tuple[StepConfig, ...]] = [()]
    if foldable:
        chains.append(first)
    chains += [
        (*first, StaticInt8(activations, weights, calibrator))
        for weights in widths
        for activations in _ACTIVATIONS
        for calibrator in _CALIBRATORS
    ]
    dynamic = [(*first, DynamicInt8(weights)) for weights in widths]
    return [*chains, (*first, WeightInt8()), *dynamic]


def with_activations(
    chain: tuple[StepConfig, ...], activations: Literal["u8", "s8"]
) -> tuple[StepConfig, ...]:
    """Return the chain with these activations in its static int8 step."""
    return tuple(
        msgspec.structs.replace(step, activations=activations)
        if isinstance(step, StaticInt8)
        else step
        for step in chain
    )


def with_weights(chain: tuple[StepConfig, ...], weights: Weights) -> tuple[StepConfig, ...]:
    """Return the chain with int8 weights of this width."""
    return tuple(
        msgspec.structs.replace(step, weights=weights)
        if isinstance(step, StaticInt8 | DynamicInt8)
        else step
        for step in chain
    )


def check_threads(threads: int | None, cores: int) -> None:
    """Raise OptionError for a thread count that the machine does not have cores for."""
    if threads is not None and not 1 <= threads <= cores:
        raise OptionError(
            expected=f"1 to {cores} (the physical cores of this machine)",
            got=str(threads),
            where="--threads",
        )
