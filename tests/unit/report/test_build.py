"""The page of a run: what it must say, whatever state the run folder is in."""

from __future__ import annotations

import json
import os
import re
from collections import defaultdict
from html.parser import HTMLParser

import pytest
from PIL import Image

from ixt_rl.errors import DataError
from ixt_rl.report.build import build_comparison, build_report
from ixt_rl.report.results import Cell, Row, ViewTable
from ixt_rl.report.side_by_side import tables
from tests.unit.report.run_maker import EXPECTATIONS, METHODS, VIEWS

VOID = {"meta", "link", "br", "img", "input", "hr", "base"}


class Page(HTMLParser):
    """Text, tags and attributes of a page; fails on tags that do not nest."""

    def __init__(self, html: str):
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict]] = []
        self.words: list[str] = []
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not self.open or self.open[-1] not in ("style", "text"):
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def read(path) -> Page:
    return Page(path.read_text(encoding="utf-8"))


def test_a_finished_run_shows_its_figures(full_run):
    summary = json.loads((full_run / "summary.json").read_text())
    page = read(full_run / "report.html")
    assert "demo finished" in page.text
    assert "trained by InTRO n=1, InTRO n=5, GRPO and RAFT on 640 rollouts each (20 steps of 32)" in page.text
    assert "over 3 seeds" in page.text and "5 min 12 s" in page.text
    stages = {stage["name"]: stage for stage in summary["stages"]}
    for name in ("intro-n1-parity", "raft-sum"):
        mean, spread = (stages[name][part]["sampled/strict"] for part in ("mean", "spread"))
        assert f"{mean:.3f} ± {spread:.3f}" in page.text
    assert f"{1 - 0.9:.3f}" in page.text  # share without reasoning
    assert "62 G" in page.text  # cumulative FLOPs of one seed: 20 steps of 3.1e9
    for heading in (
        "Curves",
        "Inside the methods",
        "Training health",
        "Pretraining",
        "FLOPs by phase",
        "Prompt lengths",
    ):
        assert heading in page.text
    assert "3 right, 3 right by luck, 4 wrong → 8 right, 1 right by luck, 1 wrong" in page.text
    assert "640 prompts; median 8" in page.text
    assert "factor/taken_wrong" in page.text and "candidates: 1" in page.text  # the words, and the config


def test_the_base_comes_first_and_the_best_is_marked(full_run):
    html = (full_run / "report.html").read_text()
    for view in ("parity", "sum"):
        part = html.split(f"view: {view}")[1].split('class="group"')[0]
        assert part.index("base-") < part.index("intro-n1-") < part.index("grpo-")
    rows = re.findall(r"<tr>\s*<th class=\"name\">(.*?)</tr>", html.split("view: parity")[1], flags=re.DOTALL)
    best = [row for row in rows[:4] if re.search(r'class="best">0\.\d+', row)]
    assert len(best) >= 1 and "InTRO n=1" in best[0]  # strict, made highest for it


def test_broken_expectations_stand_above_everything(full_run):
    page = read(full_run / "report.html")
    assert "1 of 3 expectations does not hold: intro-n1 minus raft: 0.081, expected >= 0.12" in page.text
    assert page.text.index("does not hold") < page.text.index("Results")
    assert "✓ holds" in page.text and "✗ does not hold" in page.text and "? could not be measured" in page.text


def test_an_interval_stands_small_below_its_share(make_run):
    folder = make_run()
    summary = json.loads((folder / "summary.json").read_text())
    summary["stages"][2]["mean"] |= {"sampled/strict": 0.5, "sampled/strict_low": 0.4, "sampled/strict_high": 0.6}
    summary["stages"][2]["spread"] = {}
    (folder / "summary.json").write_text(json.dumps(summary))
    html = build_report(folder).read_text()
    assert '0.500 <span class="interval">0.400 to 0.600</span>' in html and "95 % intervals" in html


def test_kept_expectations_raise_no_alarm(make_run):
    held = {"text": "strict", "value": 0.7, "bound": ">= 0.65", "holds": True}
    text = read(build_report(make_run(expectations=[held]))).text
    assert "✓ holds" in text and "does not hold" not in text


SEEN = [
    (1.0061, "<= 1.01", "1.006"), (0.71, ">= 0.65", "0.71"), (0.65, ">= 0.65", "0.65"), (0.29999, ">= 0.3", "0.29999"),
    (-0.0001, ">= 0 and <= 1", "-0.0001"), (0.64996, ">= 0.5 and <= 0.65", "0.64996"),
]  # fmt: skip


def test_a_value_is_seen_on_its_side_of_a_bound(make_run):
    items = [
        {"text": f"strict {n}", "value": value, "bound": bound, "holds": True}
        for n, (value, bound, _) in enumerate(SEEN)
    ]
    text = " ".join(read(build_report(make_run(expectations=items))).text.split())
    assert [f"{shown} {bound}" for _, bound, shown in SEEN if f"{shown} {bound}" not in text] == []


def test_the_page_needs_nothing_outside_it(full_run):
    page = read(full_run / "report.html")
    for tag, attributes in page.tags:
        assert tag not in ("script", "link", "iframe", "object", "img")
        for key in ("src", "href", "xlink:href", "srcset"):
            assert attributes.get(key, "#").startswith("#")
    names = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    references = {attributes[k][1:] for _, attributes in page.tags for k in ("href", "xlink:href") if k in attributes}
    assert references <= set(names)


def test_completions_are_text_and_never_markup(full_run):
    html = (full_run / "report.html").read_text()
    assert "<script" not in html and "<bos>" not in html
    assert "&lt;bos&gt; 1 2 &lt;script&gt;alert(1)&lt;/script&gt; &amp; # 4 &lt;eos&gt;" in html


def test_names_from_the_run_are_text_in_figures_too(make_run):
    folder = make_run()
    for name in ("summary.json", "config.yaml", "metrics.jsonl"):
        path = folder / name
        path.write_text(path.read_text().replace("parity", "a<b>$x"))
    html = build_report(folder).read_text()
    assert "a<b>" not in html and "a&lt;b&gt;$x" in html
    assert (folder / "plots" / "curves-a-b-x.png").is_file()


def test_plots_are_readable_images(full_run):
    names = {path.stem for path in (full_run / "plots").glob("*.png")}
    assert {"curves-parity", "curves-sum", "intro-parity", "health-sum", "pretraining", "flops"} <= names
    for name in names:
        with Image.open(full_run / "plots" / f"{name}.png") as image:
            image.load()
            assert min(image.size) > 150
            assert len(image.getcolors(1 << 24) or ()) > 20  # something is drawn


def test_one_seed_has_no_spread(make_run):
    page = read(build_report(make_run(seeds=(4,))))
    assert "with one seed" in page.text
    assert " ± 0" not in page.text and "mean over seeds" not in page.text and "Each seed" not in page.text


def test_a_stopped_run_says_why_and_shows_what_it_has(make_run):
    folder = make_run(seeds=(1, 2))
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    names = ("pretrain", "base-parity", "intro-n1-parity")
    rows = [row for row in rows if row["stage"] in names and (row["seed"] != 2 or row["step"] <= 10)]
    make_run.write(folder, "metrics.jsonl", rows)
    summary = json.loads((folder / "summary.json").read_text())
    summary |= {"status": "stopped", "reason": "told strict 0.41, gap 0.03 < min_told_gap=0.2\n  remedy: longer"}
    summary["stages"] = summary["stages"][:3]
    make_run.write(folder, "summary.json", summary)
    page = read(build_report(folder))
    assert "demo stopped" in page.text
    assert "The run stopped: told strict 0.41, gap 0.03 < min_told_gap=0.2 remedy: longer" in page.text
    assert "Not run: raft-parity." in page.text
    assert "seed 2 at step 10 of 20" in page.text and "seed 1 at" not in page.text
    assert page.text.index("The run stopped") < page.text.index("Results")


def test_a_run_without_a_summary_shows_its_last_evaluations(make_run):
    folder = make_run()
    (folder / "summary.json").unlink()
    with open(folder / "metrics.jsonl", "a") as file:
        file.write('{"stage": "intro-n1-pa')  # killed in the middle of a line
    last = [
        row["sampled/strict"]
        for line in (folder / "metrics.jsonl").read_text().splitlines()[:-1]
        if (row := json.loads(line))["stage"] == "raft-parity" and row["phase"] == "eval"
    ][-1]
    page = read(build_report(folder))
    assert "The run is not finished" in page.text and f"{last:.3f}" in page.text
    assert "1 damaged line in metrics.jsonl left out" in page.text


def test_nan_null_and_missing_metrics_are_gaps(make_run):
    folder = make_run(seeds=(1, 2), methods=("intro-n1", "grpo", "raft"))
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    for row in rows:
        if row["stage"] == "raft-parity":
            row |= {key: None for key in row if "/" in key or key in ("entropy", "rollout/kept")}
        if row["stage"] == "grpo-parity":
            row |= {"sampled/strict": float("nan"), "entropy": float("inf"), "flops": None}
        if row["stage"] == "intro-n1-parity":
            row.pop("factor/taken_wrong", None)
    make_run.write(folder, "metrics.jsonl", rows)
    summary = json.loads((folder / "summary.json").read_text())
    for stage in summary["stages"]:
        if stage["name"] == "raft-parity":
            stage |= {"mean": {"sampled/strict": None}, "spread": None, "start": None, "notes": None, "seeds": None}
        if stage["name"] == "grpo-parity":
            stage["mean"]["sampled/strict"] = float("nan")
    make_run.write(folder, "summary.json", summary)
    page = read(build_report(folder))
    assert not re.search(r"\b(nan|inf|None)\b", page.text.split("The resolved config")[0])
    grpo = page.text.split("view: parity")[1].split("grpo-parity")[1].split("RAFT")[0].split()
    assert grpo[:2] == ["0.0001", "–"]


@pytest.mark.parametrize("kept", ["config.yaml", "metrics.jsonl", "samples.jsonl", "summary.json"])
def test_any_one_file_makes_a_page(make_run, kept):
    folder = make_run()
    for path in folder.iterdir():
        if path.name != kept:
            path.unlink()
    page = read(build_report(folder))
    assert ("is missing" in page.text) and ("Results" in page.text)


def test_empty_and_damaged_files_make_a_page(make_run):
    folder = make_run()
    for name, text in {"config.yaml": "a: [", "summary.json": "{", "metrics.jsonl": "", "samples.jsonl": "3\n"}.items():
        (folder / name).write_text(text)
    text = read(build_report(folder)).text
    assert "Nothing was evaluated" in text
    assert "config.yaml cannot be read" in text and "summary.json cannot be read" in text


def test_file_data_has_no_strict_column(make_run):
    folder = make_run()
    keys = ("strict", "lucky_of_checked", "reasoned", "sum")
    for name in ("metrics.jsonl", "summary.json"):
        text = (folder / name).read_text()
        for key in keys:
            text = re.sub(rf'"[a-z]+/{key}"', '"unused"', text)
        (folder / name).write_text(text)
    samples = [json.loads(line) for line in (folder / "samples.jsonl").read_text().splitlines()]
    for i, sample in enumerate(samples):
        for key in ("strict", "lucky", "reasoned"):
            del sample[key]
        sample["checked"] = None if i % 10 == 9 else sample["checked"]
        sample["completion"] = "half a pair \ud83d"
    make_run.write(folder, "samples.jsonl", samples)
    page = read(build_report(folder))
    table = page.text.split("Results")[1].split("Curves")[0]
    assert "strict" not in table and "checked" in table
    assert "6 right, 3 wrong, 1 undecided → 9 right, 1 undecided" in page.text


def test_reward_errors_and_notes_are_shown(make_run):
    folder = make_run()
    summary = json.loads((folder / "summary.json").read_text())
    summary["stages"][2] |= {"reward_errors": 7, "notes": ["12 prompts cut"]}
    make_run.write(folder, "summary.json", summary)
    text = read(build_report(folder)).text
    assert "intro-n1-parity : 12 prompts cut" in text and "7 samples were excluded: the reward failed" in text


def test_what_is_noted_of_several_stages_is_said_once(make_run):
    folder = make_run()
    summary = json.loads((folder / "summary.json").read_text())
    names = [stage["name"] for stage in summary["stages"][1:3]]
    for stage in summary["stages"][1:3]:
        stage["notes"] = ["12 prompts cut", "12 prompts cut"]
    make_run.write(folder, "summary.json", summary)
    text = read(build_report(folder)).text
    assert f"{', '.join(names)} : 12 prompts cut" in text and text.count("12 prompts cut") == 1


def test_building_twice_gives_the_same_page(make_run):
    folder = make_run()
    assert build_report(folder).read_bytes() == build_report(folder).read_bytes()


def test_a_folder_without_a_run_is_an_error(tmp_path):
    with pytest.raises(DataError, match="no run or evaluation in"):
        build_report(tmp_path)


def test_a_folder_of_runs_and_evaluations_is_said_to_be_one(tmp_path):
    for name, file in (("one", "config.yaml"), ("two", "evaluation.json"), ("three", "notes.txt")):
        (tmp_path / name).mkdir()
        (tmp_path / name / file).write_text("{}")
    with pytest.raises(DataError) as raised:
        build_report(tmp_path)
    assert f"name folders in it: {tmp_path / 'one'}, {tmp_path / 'two'};" in raised.value.remedy


def test_a_run_that_is_still_going_shows_what_its_stages_have_written(make_run):
    folder = make_run("going", seeds=(1, 2))
    before = read(build_report(folder)).text
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    for stage, seed in {(row["stage"], row["seed"]) for row in rows}:
        own = folder / "stages" / stage / (f"seed{seed}" if seed in (1, 2) else "")
        own.mkdir(parents=True)
        lines = [json.dumps(row) for row in rows if (row["stage"], row["seed"]) == (stage, seed)]
        (own / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    joined = folder / "metrics.jsonl"
    some = [json.dumps(row) for row in rows if row["step"] == 0]
    for lines in (None, some):  # never joined; joined when it was stopped, and gone on since
        joined.unlink() if lines is None else joined.write_text("\n".join(lines) + "\n")
        if lines is not None:
            os.utime(joined, (1, 1))
        assert read(build_report(folder)).text == before


def test_comparison_sets_runs_side_by_side(full_run, make_run, tmp_path):
    one = make_run("one", expectations=EXPECTATIONS[:2], methods=tuple(METHODS), views=VIEWS)
    config = (one / "config.yaml").read_text()
    (one / "config.yaml").write_text(config.replace("lr: 0.0002", "lr: 0.0005", 1))
    page = read(build_comparison([full_run, one], tmp_path / "out" / "comparison.html"))
    assert "Comparison of 2 runs" in page.text
    for label in ("base, parity", "InTRO n=1, parity", "RAFT, sum"):
        assert page.text.split("Results")[1].split("Curves")[0].count(label) == 1
    for folder in (full_run, one):
        stage = json.loads((folder / "summary.json").read_text())["stages"][2]
        assert f"{stage['mean']['sampled/strict']:.3f}" in page.text
    assert "stages.intro-n1-parity.optim.lr 0.0002 0.0005" in page.text
    assert "seeds [1, 2, 3] [1]" in page.text
    assert "grpo at step 20 >= 0.05 ? – –" in page.text  # not measured in the one, not expected in the other
    assert "Not in every run" not in page.text
    assert sum(tag == "svg" for tag, _ in page.tags) == 8  # four methods in two views


def test_comparison_names_what_some_runs_lack(make_run, tmp_path):
    one, two = make_run("one"), make_run("two", methods=("intro-n1", "grpo"))
    for name in ("summary.json", "samples.jsonl"):
        (two / name).unlink()
    page = read(build_comparison([one, two], tmp_path / "comparison.html"))
    assert "only in one: RAFT, parity" in page.text and "only in two: GRPO, parity" in page.text
    assert "one, parity RAFT" in page.text.split("Results")[1]  # after what both have, a table of its own
    assert "two is not finished" in page.text


def test_runs_that_share_no_stage_stand_by_themselves(make_run, tmp_path):
    one, two = make_run("one", methods=("raft",)), make_run("two", methods=("grpo",), views=("sum",))
    build_report(one)
    page = read(build_comparison([one, two], tmp_path / "pages" / "comparison.html"))
    assert "Not in every run" not in page.text and "No two of these runs share a stage" in page.text
    assert page.text.split("Results")[1].index("one, parity") < page.text.split("Results")[1].index("two, sum")
    assert [a["href"] for tag, a in page.tags if tag == "a"] == ["../one/report.html"]
    assert "Curves" not in page.text
    differing = page.text.split("What differs in the configs")[1]
    assert "stages.raft-parity" not in differing and "stages.grpo-sum" not in differing


def test_a_stage_is_compared_among_the_runs_that_have_it(make_run, tmp_path):
    folders = [
        make_run("one", methods=("raft",)),
        make_run("two", methods=("raft",)),
        make_run("three", methods=("grpo",)),
    ]
    page = read(build_comparison(folders, tmp_path / "comparison.html"))
    assert "stages.raft-parity" not in page.text.split("What differs in the configs")[1]  # not for the third's sake


def test_comparison_of_one_run_is_an_error(make_run, tmp_path):
    with pytest.raises(DataError, match="at least two"):
        build_comparison([make_run()], tmp_path / "comparison.html")


def test_a_comparison_has_one_table_for_what_is_measured_alike():
    def group(name, *keys):
        cells = defaultdict(Cell, {key: Cell(0.5, text="0.500") for key in keys})
        return ViewTable(name, [Row(name, name, False, cells)])

    plain, levels = group("plain", "pairs/margin"), group("levels", "pairs/margin", "pairs@none/margin")
    problems = group("grpo", "sampled/strict", "seconds")
    found = tables([plain, levels, problems])
    assert [[one.view for one in groups] for groups, _ in found] == [["plain", "levels"], ["grpo"]]
    assert [[column.key for column in columns] for _, columns in found] == [
        ["pairs/margin", "pairs@none/margin"],
        ["sampled/strict", "seconds"],
    ]
