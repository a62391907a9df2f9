"""Licences go with what is made from a model."""

from __future__ import annotations

import huggingface_hub

from ixt_rl.pretrained.notices import copy_notices


def test_those_of_a_repository_are_asked_for_and_nothing_else(tmp_path, monkeypatch):
    repository, made, second = (tmp_path / name for name in ("snapshot", "made", "second"))
    for folder in (repository, made, second):
        folder.mkdir()
    for name in ("LICENSE", "config.json", "NOTICE.txt"):
        (repository / name).write_text(f"the base's {name}")
    (made / "NOTICE.txt").write_text("of the model itself")
    asked = []

    def snapshot(origin, **options):
        asked.append((origin, options["revision"], options["allow_patterns"]))
        return str(repository)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    assert copy_notices("owner/name", made, "v2") == ""
    assert copy_notices("owner/name", second, "v2") == "" and (second / "LICENSE").is_file()
    ((origin, revision, patterns),) = asked  # once for both
    assert (origin, revision) == ("owner/name", "v2")
    assert {"LICENSE*", "License*", "license*", "NOTICE*"} <= {*patterns}
    assert sorted(file.name for file in made.iterdir()) == ["LICENSE", "NOTICE.txt"]
    assert (made / "NOTICE.txt").read_text() == "of the model itself"


def test_a_hub_that_does_not_answer_costs_no_model(tmp_path):
    """Under HF_HUB_OFFLINE=1, as the tests are, and with nothing in the cache."""
    assert copy_notices("owner/no-such-model", tmp_path).startswith("licences of owner/no-such-model were not copied")


def test_a_hub_that_does_not_answer_is_asked_once(tmp_path, monkeypatch):
    asked = []

    def silent(origin, **options):
        asked.append(origin)
        raise ConnectionError

    monkeypatch.setattr(huggingface_hub, "snapshot_download", silent)
    assert [copy_notices("owner/silent", tmp_path) for _ in range(2)] == [
        "licences of owner/silent were not copied: ConnectionError"
    ] * 2
    assert asked == ["owner/silent"]
