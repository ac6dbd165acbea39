"""Circles, squares and triangles on noise, and a small detector that is trained to find them."""

from __future__ import annotations

import hashlib
import json
import math
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch import nn

from hasten.cache_folder import cache_folder
from hasten.graph import Model, load, parse_input

__all__ = ["PIXELS", "SHAPES", "Scenes", "Trained", "draw", "trained", "write"]

PIXELS = 320
SHAPES = ("circle", "square", "triangle")
_STRIDE = 16
_CELLS = PIXELS // _STRIDE
_LARGEST = 160.0
_INPUT = f"image=float32[batch,3,{PIXELS},{PIXELS}]"
#: Noise is drawn in blocks of so many pixels.
_GRAIN = 4

Floats = NDArray[np.float64]


class Scenes(NamedTuple):
    """Pictures, uint8 [n, 320, 320, 3], with boxes, (left, top, right, bottom), and classes."""

    pixels: NDArray[np.uint8]
    boxes: list[Floats]
    classes: list[NDArray[np.int64]]


class Trained(NamedTuple):
    """The detector, and how long its training took: by the clock, and of all cores together."""

    model: Model
    seconds: float
    core_seconds: float


def draw(count: int, seed: int) -> Scenes:
    """Draw one to four shapes on each picture, pale ones among them, and noise over all."""
    random = np.random.default_rng(seed)
    scenes = Scenes(np.empty((count, PIXELS, PIXELS, 3), np.uint8), [], [])
    for at in range(count):
        image = Image.new("RGB", (PIXELS, PIXELS), tuple(random.integers(60, 190, 3).tolist()))
        pencil = ImageDraw.Draw(image)
        boxes: list[tuple[float, ...]] = []
        classes: list[int] = []
        for _ in range(random.integers(1, 5)):
            size = random.uniform(40, 112)
            left, top = random.uniform(0, PIXELS - size, 2)
            box = (left, top, left + size, top + size)
            if any(_overlap(box, other) for other in boxes):
                continue
            which = int(random.integers(len(SHAPES)))
            _shape(pencil, which, box, tuple(random.integers(0, 256, 3).tolist()))
            boxes.append(box)
            classes.append(which)
        grains = random.normal(0, 40, (PIXELS // _GRAIN, PIXELS // _GRAIN, 3))
        noise = grains.repeat(_GRAIN, axis=0).repeat(_GRAIN, axis=1)
        scenes.pixels[at] = np.clip(np.asarray(image) + noise, 0, 255)
        scenes.boxes.append(np.array(boxes))
        scenes.classes.append(np.array(classes))
    return scenes


def write(scenes: Scenes, folder: Path) -> Path:
    """Write images and a COCO file of their boxes; returns that file."""
    (folder / "images").mkdir(parents=True)
    images: list[dict[str, object]] = []
    annotations: list[dict[str, object]] = []
    for at, pixels in enumerate(scenes.pixels):
        name = f"{at:05d}.png"
        Image.fromarray(pixels).save(folder / "images" / name)
        images.append({"id": at, "file_name": name, "width": PIXELS, "height": PIXELS})
        for box, which in zip(scenes.boxes[at], scenes.classes[at], strict=True):
            left, top, right, bottom = box.tolist()
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": at,
                    "category_id": int(which) + 1,
                    "bbox": [left, top, right - left, bottom - top],
                    "iscrowd": 0,
                }
            )
    categories = [{"id": at, "name": name} for at, name in enumerate(SHAPES, 1)]
    path = folder / "instances.json"
    parts = {"images": images, "annotations": annotations, "categories": categories}
    path.write_text(json.dumps(parts), encoding="utf-8")
    return path


def _overlap(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _shape(
    pencil: ImageDraw.ImageDraw, which: int, box: tuple[float, ...], colour: tuple[int, ...]
) -> None:
    left, top, right, bottom = box
    if which == 0:
        pencil.ellipse(box, fill=colour)
    elif which == 1:
        pencil.rectangle(box, fill=colour)
    else:
        pencil.polygon([(left, bottom), (right, bottom), ((left + right) / 2, top)], fill=colour)


class Detector(nn.Module):
    """One box a cell of 16 pixels: [n, 400, 4 + 1 + classes], as YOLOv5 writes it.

    Centre and size in pixels, the score of any object and those of classes, from 0 to 1, are joined
    by one Concat; there is no suppression in the graph.
    """

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Sequential(nn.Conv2d(3, 24, 4, 4), nn.ReLU()),
            *(_conv(24, 24, 1), _conv(24, 48, 2), _conv(48, 48, 1)),
            *(_conv(48, 96, 2), _conv(96, 96, 1), _conv(96, 96, 1)),
        )
        self.boxes = nn.Conv2d(96, 4, 1)
        self.scores = nn.Conv2d(96, 1 + len(SHAPES), 1)
        empty = torch.tensor([-4.0, *[0.0] * len(SHAPES)])  # most cells are
        self.scores.bias = nn.Parameter(empty)
        rows, columns = torch.meshgrid(torch.arange(_CELLS), torch.arange(_CELLS), indexing="ij")
        self.register_buffer("grid", torch.stack([columns, rows]).float()[None])

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return boxes and scores of images, [n, 3, 320, 320] from 0 to 1."""
        features = self.body(image)
        raw = self.boxes(features).sigmoid()
        centre = (raw[:, :2] * 2 - 0.5 + self.grid) * _STRIDE
        size = raw[:, 2:] * _LARGEST
        scores = self.scores(features).sigmoid()
        joined = torch.cat([centre.flatten(2), size.flatten(2), scores.flatten(2)], dim=1)
        return joined.transpose(1, 2)


def _conv(before: int, after: int, stride: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(before, after, 3, stride, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU()
    )


def trained(count: int, *, epochs: int, seed: int, scratch: Path) -> Trained:
    """Return a detector of so many pictures: kept, and trained anew if this file changes."""
    known = repr((Path(__file__).read_bytes(), count, epochs, seed)).encode()
    folder = cache_folder() / "benchmarks"
    path = folder / f"shapes-{hashlib.sha256(known).hexdigest()[:12]}.onnx"
    if not path.exists():
        begin, core_begin = time.monotonic(), time.process_time()
        module = _train(draw(count, seed), epochs=epochs, seed=seed)
        took = {
            "seconds": time.monotonic() - begin,
            "core_seconds": time.process_time() - core_begin,
        }
        made = load(module, inputs=[parse_input(_INPUT)], scratch=scratch)
        folder.mkdir(parents=True, exist_ok=True)
        path.with_suffix(".json").write_text(json.dumps(took), encoding="utf-8")
        part = path.with_suffix(".part")
        onnx.save(made.graph, part)
        part.rename(path)
    took = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    return Trained(load(path, scratch=scratch), took["seconds"], took["core_seconds"])


def _train(scenes: Scenes, *, epochs: int, seed: int) -> nn.Module:
    """Train a detector: binary cross entropy of scores, and IoU of the boxes of cells with one."""
    torch.manual_seed(seed)
    module = Detector()
    images = torch.from_numpy(scenes.pixels).permute(0, 3, 1, 2)
    wanted = _targets(scenes)
    batch, steps = 32, math.ceil(len(images) / 32)
    optimizer = torch.optim.AdamW(module.parameters(), 2e-3, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=epochs * steps)
    for _ in range(epochs):
        order = torch.randperm(len(images))
        for part in order.split(batch):
            optimizer.zero_grad()
            told = {name: each[part] for name, each in wanted.items()}
            loss = _loss(module(images[part].float() / 255), told)
            loss.backward()
            optimizer.step()
            schedule.step()
    module.eval()
    return module


def _targets(scenes: Scenes) -> dict[str, torch.Tensor]:
    """Give each box the cell of its centre."""
    count = len(scenes.pixels)
    scores = torch.zeros(count, _CELLS**2, len(SHAPES))
    boxes = torch.zeros(count, _CELLS**2, 4)
    for at, (corners, classes) in enumerate(zip(scenes.boxes, scenes.classes, strict=True)):
        for box, which in zip(corners, classes, strict=True):
            x, y = (box[:2] + box[2:]) / 2
            cell = int(y // _STRIDE) * _CELLS + int(x // _STRIDE)
            scores[at, cell, which] = 1
            boxes[at, cell] = torch.tensor([x, y, *(box[2:] - box[:2])])
    return {"scores": scores, "boxes": boxes}


def _loss(said: torch.Tensor, wanted: dict[str, torch.Tensor]) -> torch.Tensor:
    scores = said[..., 4:].clamp(1e-5, 1 - 1e-5)
    is_there = wanted["scores"].amax(-1) > 0
    entropy = nn.functional.binary_cross_entropy
    of_objects = entropy(scores[..., 0], is_there.float(), reduction="sum")
    of_classes = entropy(scores[is_there][:, 1:], wanted["scores"][is_there], reduction="sum")
    found, told = said[..., :4][is_there], wanted["boxes"][is_there]
    apart = 5 * (1 - _iou(found, told)) + 0.03 * (found - told).abs().sum(1)
    return (of_objects + of_classes + apart.sum()) / is_there.sum()


def _iou(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    low = torch.maximum(one[:, :2] - one[:, 2:] / 2, other[:, :2] - other[:, 2:] / 2)
    high = torch.minimum(one[:, :2] + one[:, 2:] / 2, other[:, :2] + other[:, 2:] / 2)
    shared = (high - low).clamp(0).prod(1)
    return shared / (one[:, 2:].prod(1) + other[:, 2:].prod(1) - shared).clamp(1e-6)
