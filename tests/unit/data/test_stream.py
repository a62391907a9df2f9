"""A mixture of files comes in its weights, whole, and goes on exactly where it was stopped."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from itertools import islice

import pytest

from ixt_rl.conditioning import Conditioner, Conditioning, PromptTemplate, encode_prompt
from ixt_rl.data.document_source import DocumentSource
from ixt_rl.data.readers import Cursor, read_jsonl
from ixt_rl.data.stream import DocumentStream
from ixt_rl.errors import ConfigError, DataError
from ixt_rl.models import byte_tokenizer
from ixt_rl.types import Document, Feedback
from tests.unit.conditioning.chats import CHATML, chat_tokenizer
from tests.unit.data.files import documents, write


@pytest.fixture
def sources(tmp_path):
    """Five files of three kinds in three sources."""
    return (
        DocumentSource(
            (write(tmp_path / "a0.jsonl", documents("a", 7)), write(tmp_path / "a1.jsonl", documents("b", 4)))
        ),
        DocumentSource(
            (write(tmp_path / "p0.parquet", documents("p", 11)), write(tmp_path / "p1.json", documents("q", 3))),
            weight=2.0,
        ),
        DocumentSource((write(tmp_path / "c.jsonl", documents("c", 5, annotated=False)),), feedback=None, weight=0.5),
    )


def names(stream) -> list[str]:
    return [document.text.split()[0] for document in stream]


def test_one_pass_gives_every_document_once_and_each_source_in_its_order(sources):
    found = names(DocumentStream(sources, seed=0, epochs=1))
    assert len(found) == len(set(found)) == 30
    for letters, expected in (("ab", 11), ("pq", 14), ("c", 5)):
        own = [name for name in found if name[0] in letters]
        assert len(own) == expected
        assert own == sorted(own, key=lambda name: (name[0], int(name[1:])))


def test_every_epoch_gives_every_document_again(sources):
    assert set(Counter(names(DocumentStream(sources, seed=0, epochs=3))).values()) == {3}


def test_rows_become_documents_with_their_feedback(tmp_path):
    row = {"reply": "4", "ask": "2+2", "late_level": 5, "late_scores": {"style": 2, "rigour": None}}
    row |= {"late_critique": "short", "late_judge": "j"}
    for name in ("x.jsonl", "x.json", "x.parquet"):
        source = DocumentSource((write(tmp_path / name, [row, row]),), text="reply", prompt="ask", feedback="late")
        found = list(DocumentStream([source], 0, 1))
        expected = Document("4", "2+2", Feedback(5, {"style": 2.0}, "short", "j"), f"{tmp_path / name}:2")
        assert found[1] == expected
        unread = DocumentSource(source.files, text="reply", prompt="ask", feedback=None)
        assert next(iter(DocumentStream([unread], 0, 1))).feedback is None


def test_an_endless_mixture_keeps_its_weights(sources):
    drawn = Counter(name[0] for name in names(islice(DocumentStream(sources, seed=1), 7000)))
    shares = {"ab": 1 / 3.5, "pq": 2 / 3.5, "c": 0.5 / 3.5}
    for letters, expected in shares.items():
        assert abs(sum(drawn[letter] for letter in letters) / 7000 - expected) < 0.025  # four standard deviations
    assert names(islice(DocumentStream(sources, seed=2), 30)) != names(islice(DocumentStream(sources, seed=1), 30))


@pytest.mark.parametrize("epochs", [None, 2])
def test_a_stream_resumes_exactly_from_every_place(sources, epochs):
    whole = list(islice(DocumentStream(sources, 5, epochs), 75))
    assert len(whole) == (75 if epochs is None else 60)
    stopped = DocumentStream(sources, 5, epochs)
    given = iter(stopped)
    for cut in range(len(whole)):
        state = json.loads(json.dumps(stopped.state_dict()))
        resumed = DocumentStream(sources, 5, epochs)
        resumed.load_state_dict(state)
        assert list(islice(resumed, len(whole) - cut)) == whole[cut:], cut
        assert next(given) == whole[cut]
    assert names(islice(stopped, 1)) == ([] if epochs else names(islice(resumed, 1)))
    assert len(json.dumps(state)) < 1000


def test_a_second_iterator_goes_on_and_loading_moves_a_running_one(sources):
    stream = DocumentStream(sources, 5, 1)
    start = stream.state_dict()
    whole = names(DocumentStream(sources, 5, 1))
    assert names(islice(stream, 4)) + names(islice(stream, 6)) == whole[:10]
    running = iter(stream)
    next(running)
    stream.load_state_dict(start)
    assert names(running) == whole
    assert names(stream) == []


def test_resuming_does_not_read_what_came_before(tmp_path):
    """The cursor of a JSONL file is a byte: rows before it may even be broken."""
    path = tmp_path / "x.jsonl"
    path.write_text('{"text": "a"}\n{"text": "b"}\n')
    cursor = Cursor()
    next(read_jsonl(str(path), cursor, []))
    path.write_text('#"text": "a"}\n{"text": "b"}\n')
    assert [row["text"] for row in read_jsonl(str(path), Cursor(offset=cursor.offset), [])] == ["b"]


def test_a_hub_dataset_streams_and_resumes(tmp_path):
    folder = tmp_path / "corpus"
    folder.mkdir()
    for name in ("train-0.parquet", "train-1.parquet"):
        write(folder / name, documents(name[6], 9))
    sources = [DocumentSource((str(folder),)), DocumentSource((write(tmp_path / "a.jsonl", documents("a", 6)),))]
    assert sources[0].is_hub
    whole = names(DocumentStream(sources, 3, 2))
    assert set(Counter(whole).values()) == {2}
    assert len(whole) == 2 * (18 + 6)
    stopped = DocumentStream(sources, 3, 2)
    for cut in range(0, len(whole), 5):
        resumed = DocumentStream(sources, 3, 2)
        resumed.load_state_dict(json.loads(json.dumps(stopped.state_dict())))
        assert names(resumed) == whole[cut:], cut
        assert names(islice(stopped, 5)) == whole[cut : cut + 5]


def test_empty_documents_are_skipped_and_counted(tmp_path):
    rows = [{"text": text} for text in ("a", "", " \n", "b", "")]
    for name in ("x.jsonl", "x.parquet"):
        stream = DocumentStream([DocumentSource((write(tmp_path / name, rows),), feedback=None)], 0, 2)
        assert [document.text for document in stream] == ["a", "b"] * 2
        assert stream.empty == 6
    state = stream.state_dict()
    other = DocumentStream(stream.sources, 0, 2)
    other.load_state_dict(state)
    assert other.empty == 6


@pytest.mark.parametrize("name", ["x.jsonl", "x.json", "x.parquet", "x.jsonl.gz"])
def test_rows_without_text_or_prompt_are_passed_over_and_counted(tmp_path, name):
    rows: list[dict] = [{"text": None}, {"text": "a"}, {"text": ""}, {"text": "b", "prompt": None}, {"text": "c"}]
    rows = [{"prompt": "q", "feedback_level": 3, **row} for row in rows]
    if name.endswith("parquet"):
        path = write(tmp_path / name, rows)
    else:
        rows += [{"text": "d", "prompt": "q"}, {"prompt": "q"}, {"text": "e", "prompt": " "}]  # no level; no text
        path = str(tmp_path / name)
        content = json.dumps(rows) if name == "x.json" else "".join(json.dumps(row) + "\n" for row in rows)
        data = content.encode()
        (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith("gz") else data)
    with_prompt = DocumentStream([DocumentSource((path,), prompt="prompt")], 0, 1)
    found = list(with_prompt)
    assert [document.text for document in found] == ["a", "c"] + ([] if "parquet" in name else ["d"])
    assert with_prompt.empty == (3 if "parquet" in name else 5)
    assert [document.feedback for document in found][:3] == [Feedback(3), Feedback(3), None][: len(found)]
    alone = DocumentStream([DocumentSource((path,), feedback=None)], 0, 1)
    assert len(list(alone)) + alone.empty == len(rows)


def test_a_folder_that_annotate_wrote_is_read_past_its_null_texts(tmp_path):
    """`annotate` keeps such rows, as skipped; the first row of a file may be one."""
    skipped = {"text": None, "feedback_level": None, "feedback_scores": {}, "feedback_status": "skipped"}
    judged = {"text": "a", "feedback_level": 4, "feedback_scores": {}, "feedback_status": "judged"}
    path = write(tmp_path / "x.jsonl", [skipped, judged, skipped])
    stream = DocumentStream([DocumentSource((path,))], 0, 1)
    assert [(document.text, document.feedback) for document in stream] == [("a", Feedback(4))]
    assert stream.empty == 2


@pytest.mark.parametrize("name", ["x.jsonl", "x.parquet"])
def test_a_file_that_begins_with_many_null_texts_is_read_past_them(tmp_path, name):
    path = write(tmp_path / name, [{"text": None}] * 1200 + [{"text": "a"}])
    stream = DocumentStream([DocumentSource((path,), feedback=None)], 0, 1)
    assert [document.text for document in stream] == ["a"] and stream.empty == 1200


@pytest.mark.parametrize("name", ["x.jsonl", "x.parquet"])
def test_prompts_and_replies_in_messages(tmp_path, name):
    asked = [{"role": "system", "content": "S"}, {"role": "user", "content": "a?"}]
    replies = ["A", [{"role": "assistant", "content": "A"}]]
    for reply in replies:
        path = write(tmp_path / name, [{"p": asked, "t": reply}, {"p": asked, "t": None}, {"p": [], "t": reply}])
        (document,) = DocumentStream([DocumentSource((path,), text="t", prompt="p", feedback=None)], 0, 1)
        assert document == Document("A", key=f"{path}:1", turns=(("system", "S"), ("user", "a?")), context=2)
    template = PromptTemplate("{question}!", "{answer}", chat=True)
    (document,) = DocumentStream(
        [DocumentSource((path,), text="t", prompt="p", feedback=None, template=template)], 0, 1
    )
    assert document.turns == (("system", "S"), ("user", "a?!"))
    for reply, says in (
        ([{"role": "user", "content": "A"}], "the last one"),
        ([{"role": "assistant", "content": "A"}] * 2, "another prompt than"),
    ):
        path = write(tmp_path / name, [{"p": asked, "t": reply}])
        with pytest.raises(DataError, match=says):
            DocumentStream([DocumentSource((path,), text="t", prompt="p", feedback=None)], 0)


def test_conversations_as_sharegpt_has_them(tmp_path):
    talk = [{"from": "human", "value": "a?"}, {"from": "gpt", "value": "A"}]
    path = write(
        tmp_path / "x.jsonl", [{"conversations": talk}, {"conversations": [talk[0], {"from": "gpt", "value": ""}]}]
    )
    stream = DocumentStream([DocumentSource((path,), messages="conversations", feedback=None)], 0, 1)
    assert list(stream) == [Document("A", key=f"{path}:1", turns=(("user", "a?"),))] and stream.empty == 1


def test_fields_with_dots_and_conversations(tmp_path):
    talk = [{"role": "user", "content": "a?"}, {"role": "assistant", "content": "A"}]
    rows = [{"doc": {"body": "x"}, "talk": talk}, {"doc": {"body": None}, "talk": []}, {"doc": {}, "talk": None}]
    for name in ("x.jsonl", "x.parquet"):
        path = write(tmp_path / name, rows)
        stream = DocumentStream([DocumentSource((path,), text="doc.body", feedback=None)], 0, 1)
        assert [document.text for document in stream] == ["x"] and stream.empty == 2
        stream = DocumentStream([DocumentSource((path,), messages="talk", feedback=None)], 0, 1)
        assert list(stream) == [Document("A", key=f"{path}:1", turns=(("user", "a?"),))] and stream.empty == 2
    for bad, says in (
        (talk[:1], "an assistant's reply to something"),
        (talk[1:], "an assistant's reply to something"),
        ([{"role": "tool", "content": "x"}, talk[1]], r"x.jsonl:1: talk\[0\].*\n.*role is 'tool'"),
        ("text", "no list of messages"),
    ):
        with pytest.raises(DataError, match=says):
            DocumentStream(
                [DocumentSource((write(tmp_path / "x.jsonl", [{"talk": bad}]),), messages="talk", feedback=None)], 0
            )


def test_prompts_are_shown_as_a_template_shows_them(tmp_path):
    path = write(tmp_path / "x.jsonl", [{"text": "4", "prompt": "2+2"}])
    plain = PromptTemplate("Q: {question}\nA:", "{answer}")
    (document,) = DocumentStream([DocumentSource((path,), prompt="prompt", feedback=None, template=plain)], 0, 1)
    assert (document.prompt, document.text, document.turns) == ("Q: 2+2\nA:", "4", ())
    tokenizer = byte_tokenizer()
    (shown,) = Conditioner(tokenizer, Conditioning())([document], 0)
    asked = encode_prompt(tokenizer, plain.render("2+2", "4")[0])  # what the RL stage samples from
    assert list(shown.input_ids[: len(asked)]) == asked
    assert tokenizer.decode(shown.input_ids[len(asked) :]) == "4<eos>"
    assert list(shown.loss_mask) == [False] * len(asked) + [True, True]
    chat = PromptTemplate("{question}?", "{answer}", chat=True, system="S", examples=[{"question": "1", "answer": "2"}])
    (document,) = DocumentStream([DocumentSource((path,), prompt="prompt", feedback=None, template=chat)], 0, 1)
    assert document.turns == (("system", "S"), ("user", "1?"), ("assistant", "2"), ("user", "2+2?"))
    (shown,) = Conditioner(chat_tokenizer(CHATML, "<|im_end|>"), Conditioning(chat=True))([document], 0)
    assert sum(shown.loss_mask) == 2  # the reply and its end; few-shot replies are context
    talk = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    path = write(tmp_path / "y.jsonl", [{"talk": talk}, {"talk": [{"role": "system", "content": "own"}, *talk]}])
    found = DocumentStream([DocumentSource((path,), messages="talk", feedback=None, template=chat)], 0, 1)
    assert [document.turns[0][1] for document in found] == ["S", "own"]


def test_an_endless_stream_of_empty_documents_ends_in_an_error(tmp_path):
    path = write(tmp_path / "x.jsonl", [{"text": ""}, {"text": " "}])
    with pytest.raises(DataError, match="every row of a pass is empty"):
        next(iter(DocumentStream([DocumentSource((path,), feedback=None)], 0)))


BAD_FILES = {
    "a.jsonl": ('{"body": "x"}\n', "no column 'text'"),
    "b.jsonl": ('{"text": "x"}\n', "no column 'feedback_level'"),
    "c.jsonl": ('{"text": 3, "feedback_level": 1}\n', "text=3"),
    "d.jsonl": ('{"text": null, "feedback_level": 1}\n', "type NoneType"),
    "e.jsonl": ("", "empty"),
    "f.jsonl": ("{text: 1}\n", "row 1 is not JSON"),
    "g.jsonl": ("[1, 2]\n", r"row 1 is \[1, 2\]"),
    "h.jsonl": ('{"text": "x", "feedback_level": 9}\n', "level 9"),
    "h2.jsonl": ('{"text": "x", "feedback_level": 1, "feedback_scores": [1]}\n', "a row that cannot be used"),
    "h3.jsonl": ('{"text": "x", "feedback_level": {}, "feedback_scores": {"a": {}}}\n', "a row that cannot be used"),
    "i.jsonl": ('{"text": "\\ud800", "feedback_level": 1}\n', "surrogates"),
    "j.json": ("[]", "empty"),
    "k.json": ("[1", "not JSON"),
    "l.txt": ("x", "unknown kind"),
    "m.parquet": ("x" * 20, "not a Parquet file"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_files_are_refused_before_anything_is_read(tmp_path, name):
    content, message = BAD_FILES[name]
    path = tmp_path / name
    path.write_text(content)
    good = write(tmp_path / "good.jsonl", documents("g", 2))
    with pytest.raises(DataError, match=message) as error:
        DocumentStream([DocumentSource((good, str(path)))] if name != "l.txt" else [DocumentSource((str(path),))], 0)
    assert "reason: " in str(error.value)
    assert "remedy: " in str(error.value)
    assert name in str(error.value)


def test_missing_parquet_columns_and_files_are_refused(tmp_path):
    path = write(tmp_path / "x.parquet", [{"body": "x"}])
    with pytest.raises(DataError, match=r"no column 'text'\n.*its columns are 'body'"):
        DocumentStream([DocumentSource((path,))], 0)
    with pytest.raises(DataError, match="no such file"):
        DocumentStream([DocumentSource((str(tmp_path / "none.jsonl"),))], 0)
    with pytest.raises(DataError, match="dataset 'nobody/nothing'"):
        DocumentStream([DocumentSource(("nobody/nothing",))], 0)


def test_a_bad_row_later_on_is_named_by_file_and_row(tmp_path):
    path = write(tmp_path / "x.jsonl", [{"text": "a"}, {"text": "b"}, {"text": ["c"]}])
    stream = iter(DocumentStream([DocumentSource((path,), feedback=None)], 0))
    assert [next(stream).text, next(stream).text] == ["a", "b"]
    with pytest.raises(DataError, match=r"x.jsonl:3: text=\['c'\]\n.*type list, not text"):
        next(stream)


@pytest.mark.parametrize("weight", [0, -1.0, float("nan"), float("inf")])
def test_weights_are_positive(weight):
    with pytest.raises(ConfigError, match="weight="):
        DocumentSource(("x.jsonl",), weight=weight)


def test_sources_need_files_and_streams_sources():
    for files in ((), "x.jsonl"):
        with pytest.raises(ConfigError, match="files="):
            DocumentSource(files)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="0 sources"):
        DocumentStream([], 0)
    with pytest.raises(ConfigError, match="epochs=0"):
        DocumentStream([DocumentSource(("x.jsonl",))], 0, 0)


def test_a_cursor_is_refused_where_it_would_not_be_exact(tmp_path, sources):
    state = DocumentStream(sources, 5).state_dict()
    for other in (DocumentStream(sources, 6), DocumentStream(sources, 5, 1), DocumentStream(sources[:2], 5)):
        with pytest.raises(DataError, match="cursor"):
            other.load_state_dict(state)
    with open(sources[0].files[0], "a") as file:
        file.write(json.dumps(documents("z", 1)[0]) + "\n")
    with pytest.raises(DataError, match="cursor"):
        DocumentStream(sources, 5).load_state_dict(state)
