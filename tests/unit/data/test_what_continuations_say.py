"""Where names and numbers of continuations come from: the prefix, the true text, nowhere."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import pytest

FILE = Path(__file__).resolve().parents[3] / "examples" / "what_continuations_say.py"
SPEC = importlib.util.spec_from_file_location("what_continuations_say", FILE)
assert SPEC is not None and SPEC.loader is not None
EXAMPLE = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(EXAMPLE)

PREFIX, ORIGINAL = "In 1863 Lincoln spoke.", "He spoke at Gettysburg for 2 minutes."


def test_what_the_prefix_has_is_no_new_truth():
    said = EXAMPLE.said(PREFIX, ORIGINAL, "then Lincoln left Gettysburg and Rome")
    assert said == pytest.approx(
        {"repeated": 0, "grounded": 2 / 3, "of the prefix": 1 / 3, "new": 2 / 6, "new, true": 1 / 2}
    )
    assert EXAMPLE.said(PREFIX, ORIGINAL, "then Lincoln, Lincoln") == {
        "repeated": 0, "grounded": 1, "of the prefix": 1, "new": 0,
    }  # fmt: skip
    assert EXAMPLE.said(PREFIX, ORIGINAL, "and so on") == {"repeated": 0, "new": 0}


def test_a_line_an_arm_and_one_of_the_true_text(tmp_path, monkeypatch, capsys):
    for arm, text in (("continued", "to Rome"), ("dpo", "as Lincoln did")):
        folder = tmp_path / "stages" / arm / "seed1"
        folder.mkdir(parents=True)
        row = {"prefix": PREFIX, "original": ORIGINAL, "text": text}
        (folder / "continuations.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
    monkeypatch.setattr(sys, "argv", [str(FILE), str(tmp_path)])
    EXAMPLE.main()
    continued, dpo, truth = capsys.readouterr().out.splitlines()[1:]
    assert continued.split()[2:] == ["0.000", "0.000", "0.000", "0.500", "0.000"]
    assert dpo.split()[2:] == ["0.000", "1.000", "1.000", "0.000", "-"]
    assert truth.split()[3:] == ["0.000", "1.000", "0.000", f"{2 / 7:.3f}", "1.000"]
    monkeypatch.setattr(sys, "argv", [str(FILE), str(tmp_path / "none")])
    with pytest.raises(SystemExit):
        EXAMPLE.main()
