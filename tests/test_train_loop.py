"""The training loop: learning, repeating itself, stopping, and going on."""

from __future__ import annotations

import math
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import pytest
import torch
from torch import nn

from hasten.data import Preprocessing, Samples
from hasten.errors import DataError, ModelError, OptionError, OutputError, RefusedError
from hasten.graph import Signature, TensorSpec, signature_of
from hasten.progress import Advance
from hasten.train import GraphModule, History, LabelLoss, Lesson, Schedule, fit
from hasten.train.augmentation import augmented
from hasten.train.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from hasten.train.schedule import Augmentation
from nets import conv_net, images

QUICK = Schedule(epochs=3, batch=16, learning_rate=1e-2, held_out=0.25)


def taught(count: int = 64) -> Samples:
    """Images of which every other one is brighter in one channel: easily learnt."""
    x, labels = images(count), np.arange(count) % 2
    x[:, 0] += labels[:, None, None]
    return Samples({"x": x}, labels)


def lesson(samples: Samples | None = None, **settings: Any) -> Lesson:
    return Lesson(samples or taught(), signature_of(conv_net()), LabelLoss(), **settings)


def trained(
    schedule: Schedule, folder: Path | None = None, **settings: Any
) -> tuple[GraphModule, History]:
    module = GraphModule(conv_net())
    history = fit(module, lesson(**settings), schedule, checkpoints=folder)
    return module, history


def same_weights(one: nn.Module, other: nn.Module) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def test_training_learns_and_keeps_the_best_epoch() -> None:
    _, history = trained(msgspec.structs.replace(QUICK, epochs=6))

    metrics = [epoch.metric for epoch in history.epochs if epoch.metric is not None]
    assert history.stopped == "done"
    assert history.epochs[-1].loss < history.epochs[0].loss
    assert max(metrics) > 0.7
    assert metrics[history.best_epoch - 1] == max(metrics)
    assert max(metrics[history.best_epoch :], default=0.0) < max(metrics)


def test_the_same_seed_gives_the_same_weights_and_another_gives_others() -> None:
    first, _ = trained(QUICK)
    again, _ = trained(QUICK)
    other, _ = trained(msgspec.structs.replace(QUICK, seed=1))

    assert same_weights(first, again)
    assert not same_weights(first, other)


def test_the_callers_random_numbers_are_left_alone() -> None:
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    trained(QUICK)

    assert torch.equal(torch.rand(1), expected)


def test_training_that_goes_on_ends_at_the_weights_of_one_that_was_not_interrupted(
    tmp_path: Path,
) -> None:
    class Stop:
        """Fails after two epochs, as an interruption would."""

        def __call__(self, module: nn.Module, step: int) -> None:
            if step == 2 * 3 + 1:
                raise KeyboardInterrupt

    whole, _ = trained(QUICK)
    with pytest.raises(KeyboardInterrupt):
        trained(QUICK, tmp_path, after_step=Stop())
    resumed, history = trained(QUICK, tmp_path)

    assert history.resumed_from == 2
    assert same_weights(whole, resumed)


KILLED = """
import sys
from pathlib import Path
import msgspec
sys.path.insert(0, sys.argv[2])
from test_train_loop import QUICK, trained
trained(msgspec.structs.replace(QUICK, epochs=500, held_out=0.0), Path(sys.argv[1]))
"""


def test_training_that_was_killed_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    command = [sys.executable, "-c", KILLED, str(tmp_path), str(Path(__file__).parent)]
    with subprocess.Popen(command) as running:
        give_up = time.monotonic() + 60
        while not (tmp_path / "training.pt").exists() and time.monotonic() < give_up:
            assert running.poll() is None
        running.kill()

    long = msgspec.structs.replace(QUICK, epochs=500, held_out=0.0, time_s=1e-9)
    _, history = trained(long, tmp_path)

    assert history.resumed_from >= 1
    assert len(history.epochs) == history.resumed_from + 1


FULL = """
import resource, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_train_loop import QUICK, trained
from hasten.errors import OutputError
folder = Path(sys.argv[1])
def fill(module, step):
    if step == 4:  # in the second epoch: one checkpoint is written
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    trained(QUICK, folder, after_step=fill)
except OutputError as error:
    print(error)
"""


def test_a_full_disk_stops_training_which_goes_on_once_there_is_room(tmp_path: Path) -> None:
    command = [sys.executable, "-c", FULL, str(tmp_path), str(Path(__file__).parent)]
    # Sums over another number of threads are rounded otherwise, and tests before this one set it.
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)

    resumed, history = trained(QUICK, tmp_path)

    assert re.match("Expected room for a checkpoint of .* MB, got File too large", done.stdout)
    assert [path.name for path in tmp_path.iterdir()] == ["training.pt"]
    assert history.resumed_from == 1
    assert same_weights(resumed, trained(QUICK)[0])


def test_a_loss_that_is_not_a_number_stops_and_keeps_the_last_good_epoch(tmp_path: Path) -> None:
    def spoil(module: nn.Module, step: int) -> None:
        if step == 5:
            with torch.no_grad():
                next(module.parameters()).fill_(math.nan)

    module = GraphModule(conv_net())
    with pytest.raises(RefusedError, match=r"the loss became nan in epoch 2, step 3, at learning"):
        fit(module, lesson(after_step=spoil), QUICK, checkpoints=tmp_path)

    kept = torch.load(tmp_path / "training.pt", weights_only=True)
    assert kept["epoch"] == 1
    assert all(torch.isfinite(value).all() for value in module.state_dict().values())
    assert all(torch.equal(kept["module"][name], v) for name, v in module.state_dict().items())


def test_training_stops_early_where_nothing_gets_better() -> None:
    still = msgspec.structs.replace(QUICK, epochs=9, learning_rate=1e-12, patience=2)

    _, history = trained(still)

    assert (history.stopped, len(history.epochs)) == ("early", 2)


def test_training_that_only_harms_leaves_the_weights_it_began_with() -> None:
    def harm(module: nn.Module, step: int) -> None:
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.zero_()

    taught_already, _ = trained(msgspec.structs.replace(QUICK, epochs=6))
    again = GraphModule(taught_already.to_graph())
    history = fit(again, lesson(after_step=harm), QUICK)

    assert history.best_epoch == 0
    assert same_weights(again, taught_already)


def test_training_stops_when_its_time_is_over() -> None:
    _, history = trained(msgspec.structs.replace(QUICK, epochs=100, time_s=1e-6))

    assert (history.stopped, len(history.epochs)) == ("time", 1)


def test_missing_labels_are_an_error_before_training() -> None:
    with pytest.raises(DataError, match="Expected labels to train with, got none"):
        trained(QUICK, samples=Samples({"x": images(8)}))


def test_a_graph_of_fixed_batch_is_trained_in_parts() -> None:
    proto = onnx.ModelProto()
    proto.CopyFrom(conv_net())
    for value in (*proto.graph.input, *proto.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 1
    module = GraphModule(proto)
    fixed = Lesson(taught(), signature_of(proto), LabelLoss())
    free, _ = trained(QUICK)

    fit(module, fixed, QUICK)

    for part, whole in zip(module.parameters(), free.parameters(), strict=True):
        torch.testing.assert_close(part, whole, rtol=1e-3, atol=1e-4)


def test_masks_can_be_held_in_place_after_every_step() -> None:
    def prune(module: nn.Module, step: int) -> None:
        with torch.no_grad():
            next(module.parameters())[0].zero_()

    module, _ = trained(msgspec.structs.replace(QUICK, held_out=0.0), after_step=prune)

    weights = next(module.parameters())
    assert not weights[0].any()
    assert weights[1].all()


def test_progress_is_told_of_every_step() -> None:
    told: list[int] = []

    class Counting:
        def stage(self, title: str, total: int | None) -> Any:
            from contextlib import contextmanager

            @contextmanager
            def counted() -> Any:
                def advance(amount: int) -> None:
                    told.append(amount)

                given: Advance = advance
                yield given

            return counted()

    fit(GraphModule(conv_net()), lesson(), QUICK, progress=Counting())

    assert sum(told) == 3 * 3


def test_a_damaged_checkpoint_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "training.pt").write_bytes(b"not a checkpoint")

    with pytest.raises(ModelError, match=r"Expected a checkpoint of a training, .*begin anew"):
        read_checkpoint(tmp_path, "key")


class Malicious:
    """What a pickle would run when it is read."""

    def __reduce__(self) -> Any:
        return exec, ("raise AssertionError('code was run')",)


def test_a_checkpoint_is_read_without_running_code(tmp_path: Path) -> None:
    torch.save({"key": Malicious()}, tmp_path / "training.pt")

    with pytest.raises(ModelError, match="Expected a checkpoint of a training"):
        read_checkpoint(tmp_path, "key")


def test_a_checkpoint_of_another_training_is_not_used(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, Checkpoint("one"))

    with pytest.raises(ModelError, match="got one of other settings, samples or weights"):
        read_checkpoint(tmp_path, "other")


def test_a_place_without_room_is_an_output_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way", encoding="ascii")

    with pytest.raises(OutputError, match="Expected room for a checkpoint"):
        write_checkpoint(tmp_path / "file", Checkpoint("key"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epochs": 0}, "Expected 1 or more, got 0 - at epochs"),
        ({"learning_rate": 0.0}, "Expected a positive number, got 0.0 - at learning_rate"),
        ({"held_out": 1.0}, "Expected a share from 0 to less than 1, got 1.0 - at held_out"),
        ({"patience": 2, "held_out": 0.0}, "Expected a held_out share to judge by"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        Schedule(**settings)


def pixels(count: int) -> tuple[dict[str, np.ndarray], Signature]:
    spec = TensorSpec("x", "float32", (None, 3, 16, 16))
    values = np.random.default_rng(0).normal(size=(count, 3, 16, 16)).astype(np.float32)
    return {"x": values}, Signature((spec,), ())


@pytest.mark.parametrize("kind", ["flip_horizontal", "flip_vertical", "rotate_90"])
def test_an_augmented_image_holds_the_same_pixels_in_another_order(kind: Augmentation) -> None:
    feed, signature = pixels(16)

    found = augmented(feed, signature, (kind,), np.random.default_rng(0))["x"]

    assert not np.array_equal(found, feed["x"])
    assert np.array_equal(np.sort(found, axis=None), np.sort(feed["x"], axis=None))
    moved = [not np.array_equal(a, b) for a, b in zip(found, feed["x"], strict=True)]
    assert 0 < sum(moved) < 16


def test_a_shift_repeats_the_border() -> None:
    feed, signature = pixels(1)
    for seed in range(9):
        found = augmented(feed, signature, ("shift",), np.random.default_rng(seed))["x"]
        if np.array_equal(found[..., 2:, :], np.roll(feed["x"], 2, 2)[..., 2:, :]):
            assert np.array_equal(found[..., 0, :], found[..., 2, :])


def test_pixels_are_augmented_before_they_are_judged_as_images() -> None:
    values = Samples({"x": np.zeros((4, 10), np.float32)}, [0, 1, 0, 1])
    spec = Signature((TensorSpec("x", "float32", (None, 10)),), ())
    vectors = Lesson(values, spec, LabelLoss())

    with pytest.raises(OptionError, match="Expected images, of rank 4 with 1 or 3 channels"):
        fit(GraphModule(conv_net()), vectors, msgspec.structs.replace(QUICK, augment=("shift",)))


def test_raw_pixels_are_preprocessed_and_trained_on() -> None:
    raw = np.random.default_rng(0).integers(0, 256, (32, 12, 12, 3), np.uint8)
    preprocessing = {"x": Preprocessing((12, 12), (0.5,) * 3, (0.25,) * 3)}
    samples = Samples({"x": raw}, np.arange(32) % 2, preprocessing)
    flips: tuple[Augmentation, ...] = ("flip_horizontal", "rotate_90")

    _, history = trained(msgspec.structs.replace(QUICK, augment=flips), samples=samples)

    assert history.stopped == "done"
