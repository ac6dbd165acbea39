"""``hasten load BUNDLE --against BUNDLE``: both are served meanwhile, each in its own process."""

from __future__ import annotations

from pathlib import Path

from command_line import finish, start
from served_models import put_bundle, put_null, scaled

MS = 1_000_000
BRIEF = ("--duration=1s", "--warm-up=0", "--concurrency=2")


def test_two_bundles_are_served_loaded_in_turns_and_set_side_by_side(tmp_path: Path) -> None:
    slow = put_null(tmp_path / "slow", cost_ns=5 * MS, serving={"max_batch_size": 1})
    fast = put_null(tmp_path / "fast", cost_ns=MS, serving={"max_batch_size": 1})
    flags = ("--against", fast, "--page", "both.html", "--json", *BRIEF)
    done = finish(start("load", slow, *flags, folder=tmp_path))

    assert done.status == 0, done.err
    found = done.document
    assert (found["a"]["model"], found["b"]["model"]) == ("slow", "fast")
    assert found["a"]["misses"] == found["b"]["misses"] == {}
    (rate,) = [one for one in found["ratios"] if one["figure"] == "requests/s"]
    assert rate["gain"]["low"] > 1
    assert "Before and after" in (tmp_path / "both.html").read_text()


def test_the_table_names_both_bundles(tmp_path: Path) -> None:
    paths = [put_bundle(tmp_path / name, scaled()) for name in ("before", "after")]
    done = finish(start("load", paths[0], "--against", paths[1], *BRIEF, folder=tmp_path))

    assert done.status == 0, done.err
    assert "before" in done.out
    assert "after" in done.out
    assert "requests/s" in done.out


def test_a_bundle_that_cannot_be_served_is_one_line(tmp_path: Path) -> None:
    good = put_bundle(tmp_path / "good", scaled())
    broken = put_null(tmp_path / "broken", fail="run")
    done = finish(start("load", good, "--against", broken, *BRIEF, folder=tmp_path))

    assert "null could not run" in done.complaint
