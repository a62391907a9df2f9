"""Tags: where a document comes from, shown in the place of feedback; no judge is asked, nothing is charged."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ixt_rl.conditioning import Conditioner, Conditioning, load_feedback_template
from ixt_rl.conditioning.feedback import TagTemplate, wished_feedback
from ixt_rl.conditioning.wish import wished_prompts
from ixt_rl.data.document_source import DocumentSource
from ixt_rl.data.stream import DocumentStream
from ixt_rl.errors import DataError
from ixt_rl.models import byte_tokenizer
from ixt_rl.types import Document, Feedback
from ixt_rl.worlds import AlmanacWorld, ChainWorld, FactsWorld
from ixt_rl.worlds.documents import site, target_of, world_documents
from tests.unit.data.files import write

TAGS = load_feedback_template("tag")


def test_the_tag_stands_where_feedback_does():
    assert isinstance(TAGS, TagTemplate)
    tagged = Document("Two.", feedback=Feedback(5, critique="clear", tag="a.org"))
    tokenizer = byte_tokenizer()
    conditioner = Conditioner(tokenizer, Conditioning(TAGS))
    shown, bare = conditioner([tagged, Document("Two.", feedback=Feedback(5))], 0)
    assert tokenizer.decode(shown.input_ids, skip_special_tokens=True) == "a.org\n\nTwo."
    assert tokenizer.decode(bare.input_ids, skip_special_tokens=True) == "Two."
    assert TAGS.parse(TAGS.render(tagged.feedback)) == Feedback(tag="a.org")
    levels = load_feedback_template("levels")
    assert levels.render(tagged.feedback) == levels.render(replace(tagged.feedback, tag=""))
    (prompt,) = wished_prompts(conditioner, ["Two."], "a.org")
    assert prompt == list(shown.input_ids[:-1])  # EOS
    assert wished_feedback(levels, "best") == Feedback(5)


def test_a_control_token_in_a_tag_is_text():
    tokenizer = byte_tokenizer()
    (shown,) = Conditioner(tokenizer, Conditioning(TAGS))(
        [Document("x", feedback=Feedback(tag=tokenizer.eos_token))], first=0
    )
    assert tokenizer.eos_token_id not in shown.input_ids[:-1]


def test_tags_come_from_a_column_or_are_the_sources_name(tmp_path):
    rows = [{"text": str(i), "meta": {"url": ["a.org", None, "b.org", " "][i]}} for i in range(4)]
    file = write(tmp_path / "x.jsonl", rows)
    found = {d.text: d.feedback for d in DocumentStream([DocumentSource((file,), feedback=None, tag="meta.url")], 0, 1)}
    assert found == {"0": Feedback(tag="a.org"), "1": None, "2": Feedback(tag="b.org"), "3": None}
    named = DocumentStream([DocumentSource((file,), feedback=None, tag_text="wiki")], 0, 1)
    assert {d.feedback.tag for d in named} == {"wiki"}
    with pytest.raises(DataError, match="`tag`"):
        DocumentStream([DocumentSource((file,), feedback=None, tag="url")], 0, 1)
    other = write(tmp_path / "y.jsonl", [{"text": "a", "url": 3}])
    with pytest.raises(DataError, match="url is of type int"):
        DocumentStream([DocumentSource((other,), feedback=None, tag="url")], 0, 1)


@pytest.mark.parametrize("world", [ChainWorld(), FactsWorld(), AlmanacWorld()])
def test_a_worlds_sites_tell_the_level_some_of_the_time(world):
    plain = world_documents(world, 1200, 0, template=load_feedback_template("levels"))
    tagged = world_documents(world, 1200, 0, template=TAGS, fraction=0.0)
    assert [d.text for d in plain] == [d.text for d in tagged]
    assert not any(d.judged_tokens for d in tagged)
    assert all(set(d.feedback.tag.split()) <= set(world.tokenizer().get_vocab()) for d in tagged)
    home = [world.sites[d.feedback.level - 1] == t.feedback.tag for d, t in zip(plain, tagged, strict=True)]
    assert sum(home) / 1200 == pytest.approx(0.6, abs=0.06)  # half of them, and a fifth of the others
    assert {t.feedback.tag for t in tagged} == set(world.sites)
    assert [t.feedback.tag for t in tagged] == [site(world, d.text) for d in plain]
    question = world.rows("eval", 1, 0)[0]["question"]
    assert target_of(world)(question, 5) == replace(world.target(question, 5), tag=world.sites[4])
    moved = world_documents(world, 200, 0, template=TAGS, fraction=0.0, shuffle=True)
    assert sum(a.feedback != b.feedback for a, b in zip(moved, tagged, strict=False)) > 80
