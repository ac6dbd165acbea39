"""Architectures of timm, torchvision and transformers, which nobody here wrote, through every step.

Run: ``python benchmarks/architectures.py | tee benchmarks/architectures.txt``; a few hours on
two cores. Exits 1 where a target is missed.

    --only bert,gpt2      these architectures; ``--list`` names them all
    --part int8           these parts, of trainable, deployed, prunable, int8 and harmless
    --jobs 1              so many architectures side by side, each with one thread
    --limit 600           seconds without a result after which an architecture hangs
    --rows FILE           rows are kept there, and what is there already is not measured again

The ``hasten`` that is measured is the one of the interpreter that runs this file.

Weights are random, by a seed, and nothing is downloaded but packages, once, into an environment in
the cache folder (``zoo/environment.py``). Networks are small variants and inputs are small, with
all the structure of the large ones. Fresh weights leave much at 0 or next to it, and batch norms
without statistics: both are mended first, so that every layer counts (``zoo/weights.py``). Samples
vary as images, texts and sounds do (``zoo/inputs.py``). Each architecture runs in a process of its
own: one that crashes or hangs is a line that says so. Runtimes are fed one sample at a time.

trainable   The graph is a module that computes what PyTorch's does, within 0.1 %, and trains what
            that trains, no buffer and no less; eight steps lower its loss; what is written back
            computes the same on ONNX Runtime.
deployed    ``hasten.qat``, a few steps, then everything that can be trained is moved at random;
            ``finish`` writes it. Module and graph are compared in steps of the output, beside a
            floor: how far the runtime parts from itself without optimisations, or LiteRT from
            itself without XNNPACK. Met is what parts by at most twice that and a fifth of a step,
            root mean square. Where tensors inside are compared too, they decide: none may be at
            another level than ties explain, and the first that is gets named.
prunable    ``hasten.prune`` takes three channels of ten. The error is the squared one over what
            varies over samples; with weights solved anew it is never more than without.
int8        ``hasten.quantize``: the SQNR of what varies over samples, each element's mean taken
            off, of the worst output. Below 15 dB each block goes into int8 alone, which names those
            that ruin it, and as many of them go back to float as it takes, up to half of all. The
            budgeted search is asked for 15 dB too; small networks are often fastest all in float,
            which is then what it answers, and the figure is that of the blocks.
harmless    The float graph by OpenVINO and LiteRT, and by OpenVINO in bf16: what fidelity loses.
"""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from figures import report
from zoo.catalogue import ARCHITECTURES
from zoo.environment import interpreter
from zoo.row import PARTS, Row, append_row, read_rows
from zoo.summary import figures, shown, told
from zoo.visit import visit

_JOBS = 2
_LIMIT_S = 600.0


def main(arguments: Sequence[str]) -> int:
    """Measure, and tell what was found; 0 where every target is met."""
    asked = _parsed(arguments)
    if asked.list:
        for one in ARCHITECTURES.values():
            print(f"{one.name:<30} {one.package:<13} {one.gives}")
        return 0
    rows = _measured(asked.only, asked.part, asked)
    for line in told(rows):
        print(line)
    print()
    return report(list(figures(rows)))


def _measured(names: Sequence[str], parts: Sequence[str], asked: argparse.Namespace) -> list[Row]:
    """Show each row as it comes; those that are kept in ``asked.rows`` come first."""
    kept = read_rows(asked.rows) if asked.rows else []
    rows = [row for row in kept if row.architecture in names and row.part in parts]
    for row in rows:
        print(shown(row))
    known = {(row.architecture, row.part) for row in rows}
    wanted = {name: [part for part in parts if (name, part) not in known] for name in names}
    interpreter()  # made once, before several want it
    with ThreadPoolExecutor(asked.jobs) as pool:
        waiting = [pool.submit(visit, *one, asked.limit) for one in wanted.items() if one[1]]
        for done in as_completed(waiting):
            for row in done.result():
                print(shown(row), flush=True)
                rows.append(row)
                if asked.rows:
                    append_row(asked.rows, row)
    return rows


def _parsed(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the options; an unknown name ends the program and says which there are."""
    parser = argparse.ArgumentParser(description="See the head of this file.")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--only", type=_among(ARCHITECTURES), default=list(ARCHITECTURES))
    parser.add_argument("--part", type=_among(PARTS), default=list(PARTS))
    parser.add_argument("--jobs", type=int, default=_JOBS)
    parser.add_argument("--limit", type=float, default=_LIMIT_S)
    parser.add_argument("--rows", type=Path)
    return parser.parse_args(arguments)


def _among(known: Collection[str]) -> Callable[[str], list[str]]:
    """Return what reads names with commas between, each one of those that are known."""

    def read(text: str) -> list[str]:
        names = text.split(",")
        for name in names:
            if name not in known:
                near = difflib.get_close_matches(name, known, 5, 0.3) or known
                raise argparse.ArgumentTypeError(f"expected {', '.join(near)}, got {name}")
        return names

    return read


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
