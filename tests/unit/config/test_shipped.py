"""Run files that come with the library: found by name, told apart from paths, each with a sentence about it."""

from __future__ import annotations

from pathlib import Path

import pytest

from ixt_rl.config.load import dump_yaml, load_run, resolved
from ixt_rl.config.shipped import DEMO, folder, names, run_file, shipped
from ixt_rl.errors import ConfigError

ROOT = Path(__file__).resolve().parents[3]


def test_the_names_are_the_files_of_configs():
    assert folder() == ROOT / "configs"
    assert {f"configs/{name}.yaml" for name in names()} == {
        file.relative_to(ROOT).as_posix() for file in (ROOT / "configs").rglob("*.yaml")
    }
    assert DEMO in names()


@pytest.mark.parametrize("name", names())
def test_every_file_says_in_a_sentence_what_it_shows(name):
    found = shipped(name)
    assert found.about[-1] in ".?"
    assert 20 < len(found.about) < 170
    assert "\n" not in found.about
    assert f"ixt-rl run {name}" in found.path.read_text() or name == DEMO  # how the file's own comment starts it


@pytest.mark.parametrize("name", names())
def test_every_file_resolves_to_one_that_is_the_same(name, tmp_path, brought):
    plain = resolved(load_run(name))
    (tmp_path / "run.yaml").write_text(dump_yaml(plain))
    assert resolved(load_run(tmp_path / "run.yaml")) == plain


def test_sentence_and_time_are_read_from_the_comment():
    chain = shipped("ixt/chain")
    assert chain.about == (
        "IXT on worked arithmetic of mixed quality, from scratch: plain training against training with feedback."
    )
    assert chain.time == "about a quarter of an hour on two cores, a seed"
    assert [name for name in names() if not shipped(name).time] == []


@pytest.mark.parametrize("name", [DEMO, "ixt/chain", "sip/almanac"])
def test_a_name_is_found_from_any_folder(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load_run(name, ["name=mine"]).name == "mine"


def test_a_path_that_exists_wins(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run_file(DEMO) == folder() / f"{DEMO}.yaml"
    (tmp_path / DEMO).parent.mkdir()
    (tmp_path / DEMO).touch()
    assert run_file(DEMO) == Path(DEMO)


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("demo/adition", "did you mean `demo/addition`?"),
        ("addition", "did you mean `demo/addition`?"),
        ("configs/demo/addition.yaml", "did you mean `demo/addition`?"),
        ("chain", "did you mean `ixt/chain` or `sip/chain`?"),
    ],
)
def test_an_unknown_name_gets_the_closest(word, meant, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for look_up in (shipped, load_run):
        with pytest.raises(ConfigError) as error:
            look_up(word)
        assert meant in str(error.value)


def test_a_word_like_none_gets_no_guess(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as error:
        load_run("zzz.yaml")
    assert "did you mean" not in str(error.value)
    assert "`ixt-rl configs`" in str(error.value)
