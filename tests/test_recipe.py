"""Recipes: what a file may say, and what is refused before any step runs."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hasten.compress import (
    STEPS,
    Distill,
    Finetune,
    FoldInput,
    PruneChannels,
    Sparsify,
    StaticInt8,
    TrainQuantized,
    WeightInt8,
)
from hasten.errors import DataError, OptionError
from hasten.tune.recipe import Recipe, read_recipe, require_needs, require_order


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "recipe.toml"


def complaint(file: Path, text: str) -> str:
    """What is said of a recipe, with the path of its file cut short."""
    file.write_text(text)
    with pytest.raises(OptionError) as caught:
        read_recipe(file)
    return str(caught.value).replace(str(file), "recipe.toml")


def steps(*tags: str) -> str:
    return "\n".join(f'[[steps]]\nstep = "{tag}"' for tag in tags)


# What a recipe says


def test_steps_keep_their_order_and_their_settings(file: Path) -> None:
    file.write_text(
        'name = "small"\n'
        '[[steps]]\nstep = "prune_channels"\nratio = 0.25\n'
        '[[steps]]\nstep = "static_int8"\ncalibrator = "percentile"\n'
    )

    recipe = read_recipe(file)

    assert recipe.name == "small"
    assert recipe.steps == (PruneChannels(0.25), StaticInt8(calibrator="percentile"))


@pytest.mark.parametrize("config", STEPS, ids=lambda config: str(config.__name__))
def test_every_step_can_stand_in_a_recipe(config: type, file: Path) -> None:
    tag = msgspec.to_builtins(config())["step"]
    file.write_text(steps(tag))

    assert read_recipe(file).steps == (config(),)


def test_a_list_in_the_file_is_a_setting_of_several_values(file: Path) -> None:
    file.write_text(steps("finetune") + '\naugment = ["shift", "flip_vertical"]')

    assert read_recipe(file).steps == (Finetune(augment=("shift", "flip_vertical")),)


# What cannot be read


def test_a_file_that_is_missing_is_named(file: Path) -> None:
    with pytest.raises(OptionError, match=r"a recipe file, got no such file.*recipe\.toml"):
        read_recipe(file)


@pytest.mark.parametrize("content", [b"steps = [", b"\xff\xfe", b"\x00"])
def test_bytes_that_are_no_toml_are_refused(content: bytes, file: Path) -> None:
    file.write_bytes(content)

    with pytest.raises(OptionError, match=r"- at .*recipe\.toml"):
        read_recipe(file)


@given(text=st.text(max_size=60))
def test_any_text_is_a_recipe_or_refused(
    text: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.toml"
    path.write_text(text, encoding="utf-8", newline="", errors="replace")

    with pytest.raises(OptionError):
        read_recipe(path)


# What it may not say


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "Expected steps, got none - at recipe.toml: steps"),
        ("steps = 3", "Expected steps, got int - at recipe.toml: steps"),
        ("steps = [3]", "Expected a table [[steps]], got int - at recipe.toml: steps[0]"),
        ("nam = 1", "Expected a key of a recipe, got 'nam' - at recipe.toml: nam (did you mean"),
        ("name = 3", "Expected a text, got int - at recipe.toml: name"),
        ("[[steps]]\nratio = 1", "Expected the step's name, got none - at recipe.toml: steps[0]"),
        (
            steps("static_int9"),
            "Expected a step, got 'static_int9' - at recipe.toml: steps[0].step"
            " (did you mean static_int8?)",
        ),
        (
            steps("fold_input", "static_int8") + "\ncalibrate = 1",
            "Expected a setting of static_int8, got 'calibrate' - at recipe.toml:"
            " steps[1].calibrate (did you mean calibrator?)",
        ),
        (
            steps("prune_channels") + '\nratio = "half"',
            "Expected float | null, got str - at recipe.toml: steps[0].ratio",
        ),
        (
            steps("static_int8") + '\ncalibrator = "median"',
            "got 'median' - at recipe.toml: steps[0].calibrator",
        ),
        (
            steps("prune_channels") + "\nratio = 1.5",
            "Expected a ratio between 0 and 1, got 1.5 - at recipe.toml: steps[0].ratio",
        ),
        (
            steps("sparsify") + "\nsparsity = 1.0",
            "got 1.0 - at recipe.toml: steps[0].sparsity",
        ),
        (steps("finetune") + "\nepochs = 0", "got 0 - at recipe.toml: steps[0].epochs"),
        (
            steps("prune_channels") + "\nratio = 0.5\nsize_ratio = 0.5",
            "Expected one goal, got ratio and size_ratio - at recipe.toml: steps[0]",
        ),
    ],
)
def test_an_error_names_the_place_in_the_file(text: str, said: str, file: Path) -> None:
    assert said in complaint(file, text)


def test_the_choices_of_a_setting_are_listed(file: Path) -> None:
    said = complaint(file, steps("static_int8") + '\ncalibrator = "median"')

    assert said.startswith("Expected entropy, minmax, mse, percentile,")


# Contradictory orders


@pytest.mark.parametrize(
    "chain",
    [
        (StaticInt8(), StaticInt8()),
        (WeightInt8(), StaticInt8()),
        (TrainQuantized(), StaticInt8()),
    ],
)
def test_a_graph_is_quantized_once(chain: tuple[StaticInt8, ...]) -> None:
    with pytest.raises(OptionError, match="Expected one step that quantizes"):
        require_order(Recipe(chain))


@pytest.mark.parametrize("late", [PruneChannels(), Sparsify(), Finetune(), Distill()])
def test_what_needs_floats_cannot_follow_int8(late: PruneChannels) -> None:
    with pytest.raises(OptionError) as caught:
        require_order(Recipe((StaticInt8(), late), source="r.toml"))

    tag = msgspec.to_builtins(late)["step"]
    assert f"Expected {tag} on a float graph, got {tag} after static_int8" in str(caught.value)
    assert f"at r.toml: steps[1] ({tag}) (put it before static_int8)" in str(caught.value)


def test_an_input_is_folded_once() -> None:
    with pytest.raises(OptionError, match=r"fold_input once, got it again, after steps\[0\]"):
        require_order(Recipe((FoldInput(), StaticInt8(), FoldInput())))


@pytest.mark.parametrize(
    "chain",
    [
        (PruneChannels(), Finetune(), PruneChannels(), Finetune(), StaticInt8()),
        (StaticInt8(), FoldInput()),
        (Sparsify(), Distill(), TrainQuantized()),
    ],
)
def test_orders_that_make_sense_are_taken(chain: tuple[StaticInt8, ...]) -> None:
    require_order(Recipe(chain))


# What the steps need


def test_a_step_that_trains_needs_samples_to_train_on() -> None:
    recipe = Recipe((PruneChannels(), Distill()), source="r.toml")

    with pytest.raises(DataError) as caught:
        require_needs(recipe, {"calibration"})

    assert str(caught.value) == (
        "Expected training samples, got none - at r.toml: steps[1] (distill) (give --train)"
    )


def test_labels_are_needed_only_where_they_count() -> None:
    require_needs(Recipe((Distill(),)), {"training"})
    with pytest.raises(DataError, match="Expected labels to train with, got none - at distill"):
        require_needs(Recipe((Distill(alpha=0.5),)), {"training"})


def test_ranges_need_calibration_samples() -> None:
    with pytest.raises(DataError, match=r"calibration samples.*static_int8 \(give --data\)"):
        require_needs(Recipe((StaticInt8(),)), {"training", "labels"})
