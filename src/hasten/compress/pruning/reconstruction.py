"""Weights solved anew after channels went: what is left gives what the whole layer gave.

Layer by layer, in the order of the graph, the weights and the bias are found that bring the outputs
nearest to those of the model before, from what the layers pruned so far make of the samples. What
does not help on samples that were held out is left as it was: a layer, or all of them.

Source: He, Zhang and Sun, "Channel Pruning for Accelerating Very Deep Neural Networks", ICCV 2017
(arXiv 1707.06168), the second step, with the asymmetric inputs of its section 3.3.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from hasten.compress.activations.layer_inputs import outputs_at_patches, patches, spread
from hasten.compress.activations.observation import activations
from hasten.compress.pruning.channels import Ids
from hasten.compress.pruning.groups import ChannelMap
from hasten.compress.pruning.held_out import HeldOut, divided
from hasten.compress.pruning.least_squares import Sums, fitted
from hasten.compress.pruning.solvable_layers import SolvableLayer, solvable_layers
from hasten.compress.step import Context
from hasten.data import Samples
from hasten.errors import RefusedError
from hasten.graph import Model
from hasten.progress import Quiet
from hasten.worker.session import WorkerSession

if TYPE_CHECKING:
    import onnx

__all__ = ["reconstructed"]

#: Samples at most that layers are solved with.
_SAMPLES = 256
#: Patches for each unknown of an output, as far as there are as many.
_PER_UNKNOWN = 16
#: Samples at least that they are of, for those of one are much alike, and patches of one sample.
_LEAST_SAMPLES, _PATCHES = 24, 256
#: How often it is looked what came of it for the outputs.
_LOOKS = 8
#: What the whole model gave is kept of so many layers at once as this has room for.
_KEPT_BYTES = 256 * 1024**2


def reconstructed(
    graph: onnx.ModelProto,
    model: Model,
    found: ChannelMap,
    keep: Mapping[str, Sequence[int] | Ids],
    context: Context,
) -> onnx.ModelProto:
    """Return the pruned graph with weights that give what the model gave, as nearly as they can.

    ``graph`` is what ``pruned(found, keep)`` made of the model. A quarter of the samples, 48 at
    most, is held out: a layer that is met no better there keeps its weights, and where the outputs
    of the graph are not, all do. The context's notes say how many were solved. Raises RefusedError
    where there are no samples.
    """
    if context.calibration is None:
        raise RefusedError("there are no calibration samples")
    written = type(graph)()
    written.CopyFrom(graph)
    layers = solvable_layers(written, found, keep)
    best = _Best(graph)
    with closing(WorkerSession(context.scratch)) as session:
        solving = _Solving.of(written, model, context.calibration, context, session)
        best.look(solving, plain=True)
        with context.progress.stage("solving weights anew", len(layers)) as advance:
            every = math.ceil(len(layers) / _LOOKS)
            for at, (layer, wanted) in enumerate(
                zip(layers, solving.wanted(layers), strict=True), 1
            ):
                solving.solve(layer, wanted)
                if at % every == 0 or at == len(layers):
                    best.look(solving)
                advance(1)
    context.notes.append(best.told(len(layers)))
    return best.graph


@dataclass(eq=False)
class _Best:
    """The graph that is nearest to the whole model on the samples that are held out.

    ``plain`` is the error of the pruned graph as it is, ``solved`` how many layers are other ones.
    """

    graph: onnx.ModelProto
    plain: float = math.inf
    error: float = math.inf
    solved: int = 0

    def look(self, solving: _Solving, *, plain: bool = False) -> None:
        """Keep the graph as it is now, if it is nearer than any before."""
        error = solving.held_out.error(solving.graph)
        if plain:
            self.plain = self.error = error
        elif error < self.error:
            self.error, self.solved = error, solving.solved
            self.graph = type(solving.graph)()
            self.graph.CopyFrom(solving.graph)

    def told(self, layers: int) -> str:
        """Say how many layers were solved, and what came of it."""
        if not self.solved:
            return "prune_channels: weights solved anew did not help, and were left as they were"
        return (
            f"prune_channels: {self.solved} of {layers} layers solved anew; the outputs' squared"
            f" error fell from {self.plain:.3g} to {self.error:.3g} of their variance"
        )


class _Wanted(NamedTuple):
    """What the whole model gave at a layer's patches, an array of rows for each sample."""

    seen: list[npt.NDArray[np.float32]]
    unseen: list[npt.NDArray[np.float32]]

    @property
    def nbytes(self) -> int:
        """How much memory that takes."""
        return sum(rows.nbytes for rows in (*self.seen, *self.unseen))


@dataclass(eq=False)
class _Solving:
    """The pruned graph while its layers are solved, in place."""

    graph: onnx.ModelProto
    whole: Model
    seen: Context
    unseen: Context
    session: WorkerSession
    held_out: HeldOut
    solved: int = 0

    @classmethod
    def of(
        cls,
        graph: onnx.ModelProto,
        whole: Model,
        samples: Samples,
        context: Context,
        session: WorkerSession,
    ) -> _Solving:
        """Divide the samples, and see what the whole model gives for those held out."""
        seen, unseen = (
            replace(context, calibration=spread(one, _SAMPLES), progress=Quiet())
            for one in divided(samples)
        )
        return cls(graph, whole, seen, unseen, session, HeldOut.of(whole, unseen, session))

    def wanted(self, layers: Sequence[SolvableLayer]) -> Iterator[_Wanted]:
        """Yield for each layer what the whole model gave at its patches.

        The whole model is run again only once the layers that there was room for are through.
        """
        rest = list(layers)
        while rest:
            kept = [_Wanted([], []) for _ in rest]
            for part, context in enumerate((self.seen, self.unseen)):
                names = [layer.node.output[0] for layer in rest[: len(kept)]]
                running = activations(self.whole, names, context, session=self.session)
                for values in running:
                    wanting = [
                        (found, layer)
                        for found, layer in zip(kept, rest, strict=False)
                        if _wants_more(layer, found[part])
                    ]
                    for found, layer in wanting:
                        found[part].append(self._outputs(layer, values))
                    if not wanting:
                        running.close()
                    while sum(found.nbytes for found in kept) > _KEPT_BYTES and len(kept) > 1:
                        kept.pop()
            yield from kept
            del rest[: len(kept)]

    def solve(self, layer: SolvableLayer, wanted: _Wanted) -> None:
        """Give a layer the weights that are found, unless they do not help."""
        before = layer.read(self.graph.graph)
        now = replace(self.whole, content=self.graph)
        seen, unseen = (
            self._sums(layer, now, rows, context)
            for rows, context in zip(wanted, (self.seen, self.unseen), strict=True)
        )
        found = fitted(seen, unseen, before, biased=layer.biased is not None)
        if found is not None:
            layer.write(self.graph.graph, found)
            self.solved += 1

    def _sums(
        self,
        layer: SolvableLayer,
        now: Model,
        wanted: Sequence[npt.NDArray[np.float32]],
        context: Context,
    ) -> Sums:
        """Run the pruned model: what reaches the layer now, beside what it is to give."""
        read, count, sums = layer.node.input[0], self._patches(layer), Sums()
        with closing(activations(now, [read], context, session=self.session)) as running:
            for here, there in zip(running, wanted, strict=False):
                sums.add(patches(layer.node, here[read], layer.weight_shape, count), there)
        return sums

    def _outputs(
        self, layer: SolvableLayer, values: Mapping[str, npt.NDArray[np.float32]]
    ) -> npt.NDArray[np.float32]:
        value = layer.left_of(values[layer.node.output[0]])
        # A copy: the memory of what activations yield is used again.
        return np.array(outputs_at_patches(layer.node, value, self._patches(layer)))

    def _patches(self, layer: SolvableLayer) -> int:
        """Patches of one sample: more where samples are few and unknowns many."""
        samples = self.seen.calibration
        count = 1 if samples is None else len(samples)
        return max(_PATCHES, math.ceil(_PER_UNKNOWN * layer.unknowns / count))


def _wants_more(layer: SolvableLayer, rows: Sequence[npt.NDArray[np.float32]]) -> bool:
    enough = sum(len(one) for one in rows) >= _PER_UNKNOWN * layer.unknowns
    return not enough or len(rows) < _LEAST_SAMPLES
