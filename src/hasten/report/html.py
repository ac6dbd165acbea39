"""The report as one page: self-contained, without scripts, and it asks the network for nothing."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from typing import Any

import jinja2
from markupsafe import Markup

from hasten.bundle.manifest import CandidateRecord, Manifest
from hasten.graph import Signature
from hasten.printable import printable
from hasten.report import units
from hasten.report.bars import bars, spans
from hasten.report.frontier import float_blocks
from hasten.report.outputs import decibels, kept
from hasten.report.placement import crossing
from hasten.report.reasons import shortened
from hasten.report.scatter import scatter

__all__ = ["page_environment", "render_html", "rows_of", "sealed"]

#: The chart is laid out once for each width of page; the style sheet shows the one that fits.
_CHARTS = (("wide", 1000.0, 470.0), ("medium", 660.0, 430.0), ("narrow", 360.0, 420.0))

#: What did not win, in the order in which it is listed, and what each status means.
_OUTCOMES = {
    "over_budget": "loses more of the metric than is allowed",
    "failed": "crashed, hung or gave wrong results",
    "refused": "the step or the runtime does not take this model",
    "lost": "not the fastest, or no measurable difference to something simpler",
}


def render_html(manifest: Manifest) -> str:
    """Return the report on a bundle as a whole HTML document."""
    evidence = manifest.evidence
    charts = [(name, scatter(evidence, width, height)) for name, width, height in _CHARTS]
    return sealed(
        page_environment()
        .get_template("report.html.j2")
        .render(
            manifest=manifest,
            evidence=evidence,
            metric=units.MetricUnit(evidence.budget.metric),
            verdict=evidence.verdict
            or f"{evidence.chosen.label}: {units.speedup(evidence.speedup)}",
            details=next((r.metric_details for r in evidence.candidates if r.status == "won"), {}),
            charts=[(name, chart) for name, chart in charts if chart is not None],
            bars=bars(evidence),
            ledger=list(
                zip(evidence.ledger, spans([e.speedup for e in evidence.ledger]), strict=True)
            ),
            outcomes=_outcomes(evidence.candidates),
            environment=list(rows_of(manifest.environment)),
            settings=list(rows_of(manifest.plan.execution)),
            serving=list(rows_of(manifest.plan.serving)),
            snippet=_snippet(manifest.name, manifest.signature),
        )
    )


def page_environment() -> jinja2.Environment:
    """Return what renders templates: escaping, strict, with numbers written as everywhere."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("hasten.report"),
        autoescape=True,
        finalize=_shown,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "ms": units.latency,
        "mb": units.megabytes,
        "float_blocks": float_blocks,
        "kept": kept,
        "decibels": decibels,
        "speedup": units.speedup,
        "significant": units.significant,
        "shortened": shortened,
        "words": lambda status: status.replace("_", " "),
    }
    environment.globals["proportion"] = units.proportion
    environment.globals["crossing"] = crossing
    return environment


def _shown(value: object) -> object:
    """Return what an expression of a template came to, as it may be shown."""
    if isinstance(value, str) and not isinstance(value, Markup):
        return printable(value, keep="\n\t")
    return value


def sealed(page: str) -> str:
    """Return a page whose policy allows its own style by its hash, and nothing else."""
    style = page[page.index("<style>") + len("<style>") : page.index("</style>")]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return page.replace("'style-sha256'", f"'sha256-{digest}'", 1)


def _outcomes(
    candidates: tuple[CandidateRecord, ...],
) -> list[tuple[str, str, list[CandidateRecord]]]:
    """Return (status, meaning, candidates) for each way of not winning that occurred."""
    groups = [
        (status, meaning, [record for record in candidates if record.status == status])
        for status, meaning in _OUTCOMES.items()
    ]
    return [group for group in groups if group[2]]


def rows_of(tree: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield (path, value) for every leaf of a nested dict.

    >>> list(rows_of({"cpu": {"model": "Xeon", "flags": ["avx2", "bf16"]}}))
    [('cpu model', 'Xeon'), ('cpu flags', 'avx2, bf16')]
    """
    if isinstance(tree, dict) and tree:
        for key, value in tree.items():
            yield from rows_of(value, f"{path} {key}".strip())
    elif isinstance(tree, list | tuple) and not any(isinstance(item, dict) for item in tree):
        yield path, ", ".join(str(item) for item in tree) or units.ABSENT
    elif path:
        yield path, units.ABSENT if tree in (None, "", {}) else str(tree)


def _snippet(name: str, signature: Signature) -> str:
    feed = ", ".join(
        f"{json.dumps(spec.name, ensure_ascii=False)}: ..." for spec in signature.inputs
    )
    shapes = ", ".join(str(spec) for spec in signature.inputs)
    folder = json.dumps(f"{name}.hasten", ensure_ascii=False)
    return (
        "import hasten\n\n"
        f"bundle = hasten.Bundle.open({folder})\n"
        f"outputs = bundle.run({{{feed}}})  # {shapes}"
    )
