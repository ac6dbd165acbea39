"""Error rates of texts, and recall of what is looked for."""

from __future__ import annotations

import numpy as np
import pytest

from hasten.data import METRICS, Labels
from hasten.data.answers import Answers
from hasten.data.meaning import find_meanings
from hasten.data.metrics import Labelled
from hasten.errors import DataError
from labelled_metrics import RANDOM, bound, score

# Texts

ALPHABET = ("<pad>", "a", "b", "|")


def steps(text: str) -> np.ndarray:
    """Scores over steps that decode to a text: each symbol twice, blanks between."""
    path = [0]
    for symbol in text:
        path += [ALPHABET.index(symbol)] * 2 + [0]
    scores = np.zeros((40, 4))
    scores[np.arange(len(path)), path] = 1
    scores[len(path) :, 0] = 1
    return scores


def test_scores_over_steps_are_decoded_and_errors_counted() -> None:
    labels = Labels.of_texts(["ab a", "bb"], alphabet=ALPHABET)
    outputs = {"logits": np.stack([steps("ab|b"), steps("bb")])}
    assert score("cer", outputs, labels).value == pytest.approx(-1 / 6)
    assert score("wer", outputs, labels).value == pytest.approx(-1 / 3)


def test_a_blank_without_a_symbol_is_found() -> None:
    labels = Labels.of_texts(["ab a", "bb"], alphabet=("a", "b", " "))
    outputs = {"logits": np.stack([steps("ab|a"), steps("bb")])}
    assert score("cer", outputs, labels).value == 0
    last = {"logits": np.roll(outputs["logits"], -1, axis=-1)}
    metric, answers = METRICS["cer"], Answers.of(last)
    assert isinstance(metric, Labelled)
    read = metric.bound(answers, find_meanings(answers), labels)
    assert read.evaluate(answers, labels).value == 0
    assert read.notes(answers, labels)[0].endswith("class 3 is the blank of CTC")


def test_class_numbers_need_no_alphabet() -> None:
    labels = np.array([[1, 2, 1, -1], [2, 2, -1, -1]])
    outputs = {"logits": np.stack([steps("aba"), steps("ab")])}
    assert score("cer", outputs, labels).value == pytest.approx(-1 / 5)


def test_texts_and_tokens_are_compared_as_they_are() -> None:
    labels = np.array(["a b", "c"])
    assert score("wer", {"y": np.array(["a  b", "d"])}, labels).value == pytest.approx(-1 / 3)
    told = Labels.of_texts(["ab"], alphabet=("a", "b", "</s>"))
    assert score("cer", {"y": np.array([[0, 1, 2, 1]])}, told).value == 0


def test_scores_without_an_alphabet_say_what_to_give() -> None:
    with pytest.raises(DataError) as caught:
        score("cer", {"logits": np.stack([steps("a")])}, np.array(["a"]))
    assert str(caught.value) == (
        "Expected an alphabet of 4 symbols, or 3 beside the blank of output 'logits', got no "
        "alphabet - at metric cer (give alphabet=FILE in --preprocess: a symbol a line, or a "
        "vocab.json)"
    )


# Retrieval


def test_recall_is_whether_one_of_its_class_is_among_the_nearest() -> None:
    angles = np.array([0.0, 0.1, 1.5, 1.7, 0.25])
    rows = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    labels = np.array([0, 1, 2, 2, 0])
    assert score("recall@1", {"embedding": rows}, labels).value == pytest.approx(2 / 4)
    assert score("recall@2", {"embedding": rows}, labels).value == 1


def test_two_embeddings_are_searched_one_among_the_other() -> None:
    texts = RANDOM.normal(size=(6, 32))
    images = texts[[1, 0, 2, 3, 4, 5]]
    outputs = {"text_embedding": texts, "image_embedding": images}
    metric, answers, labels = bound("recall@1", outputs, np.arange(6))
    assert metric.reads(tuple(outputs)) == ("text_embedding", "image_embedding")
    assert metric.evaluate(answers, labels).value == pytest.approx(4 / 6)


def test_recall_of_items_is_the_share_that_is_found() -> None:
    scores = np.array([[0.9, 0.5, 0.1], [0.1, 0.2, 0.9]])
    labels = np.array([[1, 0, 1], [0, 1, 1]])
    assert score("recall@2", {"y": scores}, labels).value == pytest.approx((0.5 + 1) / 2)
