"""Building the demo once: real images into folders, and a logistic head on Lite0's features.

The images are the ELPV dataset (Buerhop-Lutz et al., A Benchmark for Visual Identification of
Defective Solar Cells in Electroluminescence Imagery, 2018; CC BY-NC-SA 4.0, fetched from its PyPI
package, never part of this project). Defect is a probability of a half or more; a stratified
quarter is held out. Lite0 expects ``(pixel - 127) / 128``.
"""

from __future__ import annotations

import csv
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hasten.cache_folder import cache_folder, publish
from hasten.data import Preprocessing, Samples, read_image_folder
from hasten.demo.network import FEATURES, HEAD, features
from hasten.errors import MissingExtraError
from hasten.graph import Signature, TensorSpec
from hasten.progress import Progress

if TYPE_CHECKING:
    import torch

__all__ = ["HELD_OUT", "PREPROCESSING", "TRAINING", "build_demo"]

PREPROCESSING = Preprocessing(
    (224, 224), mean=(127 / 255,) * 3, std=(128 / 255,) * 3, layout="nchw", colour="rgb"
)
TRAINING = "training"
HELD_OUT = "held-out"
_CLASSES = ("functional", "defective")
_DEFECT_PROBABILITY = 0.5
_HELD_OUT_SHARE = 0.25
_BATCH = 16
#: The best of 0.1 to 100 in five-fold cross-validation on the training images.
_WEIGHT_DECAY = 3.0
_SEED = 0


def build_demo(progress: Progress) -> Path:
    """Return the folder with ``training`` and ``held-out`` images and the head; build it once.

    Raises MissingExtraError without the packages of the extra ``demo``.
    """
    folder = cache_folder() / "demo"
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".demo."))
    try:
        _sort_images(part, progress)
        _train_head(part, progress)
        publish(part, folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return folder


def _sort_images(folder: Path, progress: Progress) -> None:
    """Copy the images into ``training|held-out / class``."""
    rows = list(_rows())
    labels = np.array([label for _, label in rows])
    held_out = _held_out(labels)
    with progress.stage("demo: sorting images", len(rows)) as advance:
        for (image, label), is_held_out in zip(rows, held_out, strict=True):
            target = folder / (HELD_OUT if is_held_out else TRAINING) / _CLASSES[label]
            target.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(image, target / image.name)
            advance(1)


def _rows() -> Iterator[tuple[Path, int]]:
    """Yield the path of each image, and 1 where it is defective."""
    try:
        import elpv_dataset
    except ImportError:
        raise MissingExtraError("demo", needed_by="hasten demo") from None
    data = Path(elpv_dataset.__file__).parent / "data"
    with (data / "labels.csv").open(encoding="utf-8", newline="") as file:
        for line in csv.reader(file, delimiter=" ", skipinitialspace=True):
            name, probability, *_ = line
            yield data / name, int(float(probability) >= _DEFECT_PROBABILITY)


def _held_out(labels: np.ndarray) -> np.ndarray:
    """Choose a quarter of each class, the same for one seed."""
    random = np.random.default_rng(_SEED)
    chosen = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        members = random.permutation(np.flatnonzero(labels == label))
        chosen[members[: round(len(members) * _HELD_OUT_SHARE)]] = True
    return chosen


def _train_head(folder: Path, progress: Progress) -> None:
    """Fit a logistic head on Lite0's features of the training images."""
    import torch

    spec = TensorSpec("image", "float32", (None, 3, 224, 224))
    signature = Signature((spec,), ())
    with tempfile.TemporaryDirectory() as scratch:
        samples = read_image_folder(folder / TRAINING, signature, PREPROCESSING, Path(scratch))
        values = _features(samples, signature, progress)
        labels = torch.from_numpy(samples.labels)
    head = _fit(torch.from_numpy(values), labels)
    torch.save(head.state_dict(), folder / HEAD)


def _features(samples: Samples, signature: Signature, progress: Progress) -> np.ndarray:
    import torch

    network: Any = features()
    network._fc = torch.nn.Identity()
    found = []
    with torch.inference_mode(), progress.stage("demo: features", len(samples)) as advance:
        for feed, valid in samples.batches(signature, _BATCH):
            found.append(network(torch.from_numpy(feed["image"])).numpy()[:valid])
            advance(valid)
    return np.concatenate(found)


def _fit(values: torch.Tensor, labels: torch.Tensor) -> torch.nn.Linear:
    """Minimise cross entropy with an L2 penalty, to the end (L-BFGS), on centred features.

    The mean is folded into the bias. Features are not scaled to unit variance: that would put
    the weights of near-constant features orders of magnitude above the others, and such a head
    loses ten points and more when its weights become int8.
    """
    import torch

    mean = values.mean(0)
    head = torch.nn.Linear(FEATURES, len(_CLASSES))
    torch.nn.init.zeros_(head.weight)
    torch.nn.init.zeros_(head.bias)
    optimizer = torch.optim.LBFGS(head.parameters(), max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        penalty = _WEIGHT_DECAY * head.weight.square().sum() / len(labels)
        total = torch.nn.functional.cross_entropy(head(values - mean), labels) + penalty
        total.backward()
        return total

    optimizer.step(loss)
    with torch.no_grad():
        head.bias.sub_(head.weight @ mean)
    return head
