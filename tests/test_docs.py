"""The documentation is run: examples, flags, links, paths, tables and fields."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
from onnx import helper

from hasten.bundle import manifest
from hasten.cli.main import VERBS
from hasten.compress import STEPS, applied
from hasten.graph import model_from_proto
from hasten.train.schedule import LossSettings
from hasten.tune.recipe import read_recipe
from onnx_models import model, run, value, weight

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
CONTRIBUTING = ROOT / "CONTRIBUTING.md"
PAGES = [
    README,
    CONTRIBUTING,
    ROOT / "CHANGELOG.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "examples").glob("*.md")),
]
HASTEN = Path(sys.executable).parent / "hasten"


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)


def prose(page: Path) -> str:
    return re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)


def code_spans(page: Path) -> list[str]:
    return re.findall(r"`([^`\n]+)`", prose(page))


def commands(page: Path) -> Iterator[list[str]]:
    """Yield the words after ``hasten`` of each command that the page names."""
    lines = [
        line for block in blocks(page, "sh") for line in block.replace("\\\n", " ").splitlines()
    ]
    for line in (*lines, *code_spans(page)):
        words = shlex.split(line, comments=True)
        if words[:1] == ["hasten"] and len(words) > 1:
            yield words[1:]


def write_model_and_data(folder: Path) -> None:
    """Write a small classifier and 64 images that it labels rightly."""
    net = model(
        [
            helper.make_node("Conv", ["image", "kernel"], ["edges"]),
            helper.make_node("Relu", ["edges"], ["active"]),
            helper.make_node("GlobalAveragePool", ["active"], ["pooled"]),
            helper.make_node("Flatten", ["pooled"], ["features"]),
            helper.make_node("Gemm", ["features", "head"], ["logits"]),
        ],
        [value("image", ["batch", 3, 8, 8])],
        [value("logits", ["batch", 5])],
        [weight("kernel", 16, 3, 3, 3), weight("head", 16, 5, seed=1)],
    )
    onnx.save(net, folder / "model.onnx")
    images = np.random.default_rng(0).normal(size=(64, 3, 8, 8)).astype(np.float32)
    labels = run(model_from_proto(net, "net"), {"image": images})["logits"].argmax(-1)
    np.savez(folder / "val.npz", image=images, labels=labels)


#: Runs examples one after another, each with names of its own: PyTorch is imported once.
RUN_EXAMPLES = """
import json, sys
for page, block in json.load(open(sys.argv[1])):
    print(page, block, sep="\\n", flush=True)
    exec(compile(block, page, "exec"), {"__name__": "__main__"})
"""


def test_every_python_example_runs(tmp_path: Path) -> None:
    write_model_and_data(tmp_path)
    # README first: its example writes the bundle that the others open.
    examples = [(name_of(page), block) for page in PAGES for block in blocks(page, "python")]
    (tmp_path / "examples.json").write_text(json.dumps(examples))

    done = subprocess.run(
        [sys.executable, "-c", RUN_EXAMPLES, "examples.json"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )

    assert len(examples) >= 2
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr
    assert (tmp_path / "model.hasten" / "report.html").is_file()


def test_every_recipe_can_be_followed(tmp_path: Path) -> None:
    found = [block for page in PAGES for block in blocks(page, "toml")]

    assert found != []
    for block in found:
        (tmp_path / "recipe.toml").write_text(block)
        assert read_recipe(tmp_path / "recipe.toml").steps != ()


def test_the_table_of_steps_is_that_of_the_code() -> None:
    page = (ROOT / "docs" / "recipes.md").read_text()
    rows = dict(re.findall(r"^\| `(\w+)` \|.*\| (.*) \|$", page, re.MULTILINE))
    tags = {applied(config()).step: config for config in STEPS}
    training = {field.name for field in msgspec.structs.fields(LossSettings)}

    assert set(rows) == set(tags)
    assert training <= set(re.findall(r"`(\w+)`", page))
    for tag, said in rows.items():
        settings = {field.name for field in msgspec.structs.fields(tags[tag])}
        named = set(re.findall(r"`(\w+)`", said))
        assert named <= settings
        assert "..." in said or settings - training <= named, tag


@pytest.fixture(scope="module")
def flags() -> dict[str, set[str]]:
    """Flags in the help of each verb."""
    helps = {
        verb: subprocess.run(
            [HASTEN, verb, "--help"], capture_output=True, text=True, check=True
        ).stdout
        for verb in VERBS
    }
    return {verb: {"--help", *re.findall(r"--[a-z0-9-]+", text)} for verb, text in helps.items()}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_flag_that_a_page_names_exists(page: Path, flags: dict[str, set[str]]) -> None:
    for verb, *words in commands(page):
        if verb.startswith("-"):
            continue
        assert verb in VERBS
        assert {word for word in words if word.startswith("--")} <= flags[verb], (verb, words)
    alone = {word for span in code_spans(page) for word in re.findall(r"(?<!\S)--[a-z0-9-]+", span)}
    strangers = {"--strict"}  # mypy's
    assert alone - strangers <= set().union(*flags.values())


def test_the_readme_names_every_verb_in_its_table() -> None:
    named = re.findall(r"^\| `hasten (\w+)", README.read_text(), re.MULTILINE)

    assert set(named) == set(VERBS)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_relative_link_leads_to_a_file(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#]+)", page.read_text())

    relative = [target for target in targets if "://" not in target]
    assert [target for target in relative if not (page.parent / target).is_file()] == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_path_in_the_tree_that_a_page_names_exists(page: Path) -> None:
    paths = [
        span for span in code_spans(page) if re.match(r"(src|tests|benchmarks|docs|\.ci)/", span)
    ]

    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_every_table_that_contributing_names_is_there() -> None:
    tables = re.findall(r"`(\w+)`\s+in\s+`(src/[^`]+\.py)`", CONTRIBUTING.read_text())

    assert {"RUNTIMES", "STEPS", "METRICS", "VERBS"} <= {name for name, _ in tables}
    for name, path in tables:
        assert re.search(rf"^(def |class )?{name}\b", (ROOT / path).read_text(), re.MULTILINE), name


def test_the_layers_in_contributing_are_those_that_are_checked() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    contracts = settings["tool"]["importlinter"]["contracts"]
    layers = next(one["layers"] for one in contracts if one["type"] == "layers")

    assert "\n".join(f"    {layer}" for layer in layers) in CONTRIBUTING.read_text()


def test_the_readme_names_every_extra() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    named = re.findall(r"^\| `(\w+)` \|", README.read_text(), re.MULTILINE)

    assert set(settings["project"]["optional-dependencies"]) <= set(named)


@pytest.mark.parametrize(
    "record",
    [
        manifest.Manifest,
        manifest.Artifact,
        manifest.PlanRecord,
        manifest.Evidence,
        manifest.Side,
        manifest.BudgetRecord,
        manifest.CandidateRecord,
        manifest.LedgerEntry,
        manifest.PrecisionPoint,
        manifest.Interval,
        manifest.Latency,
    ],
)
def test_every_field_of_the_manifest_is_explained(record: type[msgspec.Struct]) -> None:
    spans = set(code_spans(ROOT / "docs" / "bundle.md"))

    assert {field.name for field in msgspec.structs.fields(record)} - spans == set()


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_prose_is_wrapped(page: Path) -> None:
    lines = prose(page).splitlines()

    assert [line for line in lines if len(line) > 100 and not line.startswith("|")] == []
