from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from hasten.data import Labels, Samples, load_samples
from hasten.errors import DataError
from hasten.graph import Signature, TensorSpec

SIGNATURE = Signature((TensorSpec("image", "float32", (None, 3, 20, 20)),), ())
VECTOR = Signature((TensorSpec("x", "float32", (None, 2)),), ())
WIDTH, HEIGHT = 40, 20


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Three images of 40 x 20, in a folder of their own."""
    folder = tmp_path / "data" / "images"
    folder.mkdir(parents=True)
    for name in ("b.png", "a.png", "c.png"):
        Image.new("RGB", (WIDTH, HEIGHT)).save(folder / name)
    return folder


def read(images: Path, labels: str, more: str = "") -> Samples:
    scratch = images.parent.parent / "scratch"
    return load_samples(images, SIGNATURE, preprocessing=f"labels={labels}{more}", scratch=scratch)


def truth(images: Path, labels: str, more: str = "") -> Labels:
    found = read(images, labels, more).ground_truth
    assert found is not None
    return found


def coco(folder: Path, /, **changes: Any) -> str:
    document = {
        "images": [
            {"id": at, "file_name": f"{name}.png", "width": WIDTH, "height": HEIGHT}
            for at, name in ((7, "a"), (3, "b"), (5, "c"))
        ],
        "annotations": [
            {"id": 1, "image_id": 3, "category_id": 90, "bbox": [10, 5, 20, 10], "iscrowd": 0},
            {"id": 2, "image_id": 3, "category_id": 2, "bbox": [0, 0, 40, 20], "iscrowd": 1},
            {"id": 3, "image_id": 7, "category_id": 2, "bbox": [30, 10, 10, 10]},
        ],
        "categories": [{"id": 90, "name": "cat"}, {"id": 2, "name": "dog"}],
        **changes,
    }
    path = folder.parent / "instances.json"
    path.write_text(json.dumps(document))
    return path.name


def yolo(images: Path, **lines: str) -> str:
    folder = images.parent / "labels"
    folder.mkdir()
    for name, text in lines.items():
        (folder / f"{name}.txt").write_text(text)
    return folder.name


def masks(images: Path, values: dict[str, Any], mode: str | None = None) -> str:
    folder = images.parent / "masks"
    folder.mkdir()
    for name, array in values.items():
        image = Image.fromarray(np.asarray(array))
        (image if mode is None else image.convert(mode)).save(folder / f"{name}.png")
    return folder.name


# What is read


def test_coco_boxes_are_those_of_the_picture_and_ids_are_kept(images: Path) -> None:
    found = truth(images, coco(images))
    assert (found.kind, found.ids, found.names, found.size) == (
        "boxes",
        (2, 90),
        ("dog", "cat"),
        (20, 20),
    )
    assert [one.tolist() for one in found.each("classes")] == [[0], [1, 0], []]
    assert [one.tolist() for one in found.each("crowd")] == [[False], [False, True], []]
    assert found.each("boxes")[1].tolist() == [[5, 5, 15, 15], [0, 0, 20, 20]]


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ("", [5, 5, 15, 15]),
        (",pad=114", [5, 7.5, 15, 12.5]),
        (",resize=20", [0, 5, 20, 15]),
        (",crop=20", [0, 5, 20, 15]),
        (",resize=40x40,crop=20x20", [0, 0, 20, 20]),
    ],
)
def test_boxes_go_the_way_of_their_image(images: Path, how: str, expected: list[float]) -> None:
    found = truth(images, coco(images), how)
    assert found.each("boxes")[1][0].tolist() == expected


def test_of_what_a_crop_cuts_off_nothing_is_asked(images: Path) -> None:
    found = truth(images, coco(images), ",crop=20")
    assert found.each("boxes")[0].tolist() == []
    assert found.each("crowd")[1].tolist() == [False, True]


def test_yolo_files_hold_shares_of_the_image_and_polygons_have_boxes(images: Path) -> None:
    name = yolo(images, a="", b="1 0.5 0.5 0.5 0.5\n\n0 0 0 0.5 0 0.5 1\n", c="2 0.5 0.5 1 1\n")
    found = truth(images, name)
    assert [one.tolist() for one in found.each("classes")] == [[], [1, 0], [2]]
    assert found.each("boxes")[1].tolist() == [[5, 5, 15, 15], [0, 0, 10, 20]]


def test_a_folder_of_images_and_labels_is_data(images: Path) -> None:
    name = yolo(images, a="", b="1 0.5 0.5 0.5 0.5", c="")
    assert len(read(images.parent, name)) == 3


def test_masks_go_the_way_of_their_image_by_the_nearest_pixel(images: Path) -> None:
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[:, :20] = 7
    name = masks(images, dict.fromkeys("abc", mask))
    found = truth(images, name)
    assert found.values.shape == (3, 20, 20)
    assert found.values[0, 0].tolist() == [7] * 10 + [0] * 10


def test_what_an_image_does_not_cover_is_not_judged(images: Path) -> None:
    mask = np.full((HEIGHT, WIDTH), 3, np.uint8)
    found = truth(images, masks(images, dict.fromkeys("abc", mask)), ",pad=0")
    assert np.unique(found.values[0, :5]).tolist() == [255]
    assert np.unique(found.values[0, 5:15]).tolist() == [3]


def test_masks_of_black_and_white_are_of_two_classes_and_said_so(images: Path) -> None:
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[0] = 255
    samples = read(images, masks(images, dict.fromkeys("abc", mask)))
    assert samples.ground_truth is not None
    assert np.unique(samples.ground_truth.values).tolist() == [0, 1]
    assert "masks hold 0 and 255 alone: 255 is class 1" in samples.notes


@pytest.mark.parametrize(
    ("name", "content", "kind", "plain"),
    [
        ("t.tsv", 'a.png\t"hi" there\nc.png\tc\nb.png\tb', "texts", ['"hi" there', "b", "c"]),
        ("t.csv", "file,text\nb,1\na,0\nc,2\n", "texts", ["0", "1", "2"]),
        ("t.csv", "a.png,4\nb.png,0\nc.png,2\n", "classes", [4, 0, 2]),
        ("t.csv", "label,image\ndog,b.png\ncat,a.png\ndog,c.png\n", "classes", [0, 1, 1]),
        ("t.csv", "a.png,0.5\nb.png,1\nc.png,2\n", "values", [0.5, 1.0, 2.0]),
        ("t.csv", "file,x,y\na,0,1\nb,1,1\nc,0,0\n", "several", [[0, 1], [1, 1], [0, 0]]),
        ("t.csv", "a.png,007\nb.png,1\nc.png,2\n", "texts", ["007", "1", "2"]),
        (
            "t.jsonl",
            '{"text": "x", "file_name": "c.png"}\n{"text": "y", "file_name": "a.png"}\n'
            '{"text": "z", "file_name": "b.png"}',
            "texts",
            ["y", "z", "x"],
        ),
        ("t.txt", "eins\nzwei\ndrei\n", "texts", ["eins", "zwei", "drei"]),
    ],
)
def test_tables_are_read_by_the_names_of_files(
    images: Path, name: str, content: str, kind: str, plain: list[Any]
) -> None:
    (images.parent / name).write_text(content)
    found = truth(images, name)
    assert found.kind == kind
    assert np.asarray(found.plain).tolist() == plain


def test_names_of_classes_are_numbered_and_said(images: Path) -> None:
    (images.parent / "c.csv").write_text("file,class\na,dog\nb,cat\nc,dog\n")
    samples = read(images, "c.csv")
    assert samples.ground_truth is not None
    assert samples.ground_truth.names == ("cat", "dog")
    assert "labels: 2 class names, numbered in their order: 0 cat, 1 dog" in samples.notes


def test_rows_without_names_are_in_the_order_of_arrays(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text("b\na\n")
    (tmp_path / "alphabet.txt").write_text("a\nb\n \n")
    samples = load_samples(
        {"x": np.zeros((2, 2), np.float32)},
        VECTOR,
        preprocessing=f"labels={tmp_path / 't.txt'},alphabet={tmp_path / 'alphabet.txt'}",
        scratch=tmp_path,
    )
    assert samples.ground_truth is not None
    assert samples.ground_truth.texts == ["b", "a"]
    assert samples.ground_truth.alphabet == ("a", "b", " ")


def test_an_alphabet_is_a_vocabulary_of_json_too(images: Path) -> None:
    (images.parent / "t.txt").write_text("a\nb\nc\n")
    vocabulary = images.parent / "vocab.json"
    vocabulary.write_text('{"b": 1, "<pad>": 0}')
    assert truth(images, "t.txt", f",alphabet={vocabulary}").alphabet == ("<pad>", "b")


def test_calibration_asks_for_no_labels(images: Path) -> None:
    samples = load_samples(
        images.parent,
        SIGNATURE,
        preprocessing="labels=nowhere.json",
        scratch=images.parent / "scratch",
        labelled=False,
    )
    assert (len(samples), samples.ground_truth) == (3, None)


def test_so_many_images_keep_their_own_labels(images: Path) -> None:
    (images.parent / "t.txt").write_text("a\nb\nc\n")
    every = {"a": (255, 0, 0), "b": (0, 255, 0), "c": (0, 0, 255)}
    for name, colour in every.items():
        Image.new("RGB", (WIDTH, HEIGHT), colour).save(images / f"{name}.png")
    scratch = images.parent / "scratch"
    two = load_samples(images, SIGNATURE, preprocessing="labels=t.txt", scratch=scratch, at_most=2)
    assert two.ground_truth is not None
    for pixels, text in zip(two.arrays["image"], two.ground_truth.texts, strict=True):
        assert tuple(pixels[0, 0]) == every[text]


# What cannot be read

BOX = {"id": 1, "image_id": 3, "category_id": 2, "bbox": [0, 0, 5, 5]}
IMAGES = [{"id": at, "file_name": f"{name}.png"} for at, name in ((7, "a"), (3, "b"), (5, "c"))]
FULL = np.zeros((HEIGHT, WIDTH), np.uint8)

BAD: dict[str, tuple[Callable[[Path], str], str]] = {
    "unknown class": (
        lambda images: coco(images, annotations=[BOX | {"category_id": 4}]),
        "Expected one of 2 categories, got category_id 4 - at ",
    ),
    "unknown image": (
        lambda images: coco(images, annotations=[BOX | {"image_id": 4}]),
        "Expected an image_id of 'images', got 4 - at ",
    ),
    "box outside": (
        lambda images: coco(images, annotations=[BOX | {"bbox": [30, 0, 20, 5]}]),
        "Expected boxes inside the image of 40x20 pixels (width x height), got a box from (30, 0)"
        " to (50, 5) - at ",
    ),
    "box of nothing": (
        lambda images: coco(images, annotations=[BOX | {"bbox": [3, 3, 0, 5]}]),
        "Expected a box with a width and a height, got a box from (3, 3) to (3, 8) - at ",
    ),
    "box of five": (
        lambda images: coco(images, annotations=[BOX | {"bbox": [3, 3, 1, 5, 5]}]),
        "Expected bbox of 4 numbers: left, top, width, height, got 5 - at ",
    ),
    "images that are not there": (
        lambda images: coco(images, images=[*IMAGES, {"id": 9, "file_name": "z.png"}]),
        "Expected labels of the 3 images in ",
    ),
    "image without label": (
        lambda images: coco(images, images=IMAGES[:2]),
        "Expected a label for each of 3 images, got none for 'c.png' - at ",
    ),
    "image twice": (
        lambda images: coco(images, images=[*IMAGES, {"id": 9, "file_name": "x/a.png"}]),
        "Expected one label for image 'a.png', got two, the second for 'x/a.png' - at ",
    ),
    "image of another size": (
        lambda images: coco(images, images=[IMAGES[0] | {"width": 80}, *IMAGES[1:]]),
        "Expected image 'a.png' of 80x20 pixels, as labelled, got 40x20 - at ",
    ),
    "no COCO": (
        lambda images: coco(images, categories=3),
        "Expected a COCO file with images, annotations, categories, got ValidationError",
    ),
    "yolo without a file": (
        lambda images: yolo(images, a="", b=""),
        "Expected a label for each of 3 images, got none for 'c.png' - at ",
    ),
    "yolo in pixels": (
        lambda images: yolo(images, a="0 20 10 5 5", b="", c=""),
        "Expected boxes inside the image of 40x20 pixels",
    ),
    "yolo of words": (
        lambda images: yolo(images, a="cat 0.5 0.5 1 1", b="", c=""),
        "Expected a class number and numbers from 0 to 1, got 'cat 0.5 0.5 1 1' - at ",
    ),
    "yolo of four": (
        lambda images: yolo(images, a="0 0.5 0.5 1", b="", c=""),
        "Expected 5 numbers a line: class, centre x and y, width, height, got 4 - at ",
    ),
    "yolo class": (
        lambda images: yolo(images, a="3 0.5 0.5 1 1", b="", c="", classes="one\ntwo\n"),
        "Expected a class from 0 to 1, got 3 - at ",
    ),
    "mask of another size": (
        lambda images: masks(images, {"a": FULL, "b": FULL.T, "c": FULL}),
        "Expected a mask as large as its image, 40x20 (width x height), got 20x40 - at ",
    ),
    "mask in colour": (
        lambda images: masks(images, dict.fromkeys("abc", FULL), "RGB"),
        "Expected a mask with a class number for each pixel (gray or palette), got an image of",
    ),
    "mask missing": (
        lambda images: masks(images, dict.fromkeys("ab", FULL)),
        "Expected a label for each of 3 images, got none for 'c.png' - at ",
    ),
    "no such file": (lambda images: "nothing.json", "got no such file or folder - at "),
    "another kind": (lambda images: written(images, "x.xml", "<x/>"), "got another kind of file"),
    "empty": (lambda images: written(images, "x.csv", "\n"), "Expected labels, got an empty file"),
    "no text": (lambda images: written(images, "x.csv", b"\xff\xfe\x00"), "of UTF-8, got Unicode"),
    "no JSON": (lambda images: written(images, "x.json", "{"), "Expected JSON, got JSONDecode"),
    "too few lines": (
        lambda images: written(images, "x.txt", "a\nb\n"),
        "Expected a row for each of 3 samples, in their order, got 2 - at ",
    ),
    "ragged": (
        lambda images: written(images, "x.csv", "a.png,1\nb.png\n"),
        "Expected 2 columns as in the first row, got 1 - at ",
    ),
    "stranger": (
        lambda images: written(images, "x.csv", "a.png,1\nb.png,2\nz.png,3\n"),
        "got 'z.png' without such an image - at ",
    ),
    "twice": (
        lambda images: written(images, "x.csv", "a.png,1\na.png,2\nb.png,3\nc.png,1\n"),
        "Expected each image once, got 'a.png' twice - at ",
    ),
    "no labels": (
        lambda images: written(images, "x.jsonl", '{"file": "a.png"}\n'),
        "Expected a row for each of 3 samples",
    ),
}


def written(images: Path, name: str, content: str | bytes) -> str:
    raw = content.encode() if isinstance(content, str) else content
    (images.parent / name).write_bytes(raw)
    return name


@pytest.mark.parametrize("name", BAD)
def test_labels_that_do_not_fit_are_told_in_one_line(images: Path, name: str) -> None:
    make, message = BAD[name]
    with pytest.raises(DataError) as caught:
        read(images, make(images))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_boxes_and_masks_of_arrays_are_not_in_files(tmp_path: Path, images: Path) -> None:
    pixels = np.zeros((3, 20, 20, 3), np.uint8)
    path = images.parent / coco(images)
    with pytest.raises(DataError, match="Expected a folder of images beside labels of boxes"):
        load_samples(
            {"image": pixels},
            SIGNATURE,
            preprocessing=f"labels={path},size=20x20",
            scratch=tmp_path,
        )


@pytest.mark.parametrize(
    ("content", "message"), [("[1, 2]", "got list"), ('{"a": 0, "b": 2}', "got dict")]
)
def test_an_alphabet_that_is_none_says_why(images: Path, content: str, message: str) -> None:
    (images.parent / "t.txt").write_text("a\nb\nc\n")
    path = images.parent / "vocab.json"
    path.write_text(content)
    with pytest.raises(DataError, match=message):
        read(images, "t.txt", f",alphabet={path}")
