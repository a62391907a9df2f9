"""What the project promises of ids, with the tokenizers of Qwen3 and SmolLM2: merges, characters of several tokens,
templates that strip thoughts or bring a system message."""

from __future__ import annotations

import json
import os
import random
import unicodedata
from pathlib import Path

import numpy as np
import pytest

from ixt_rl.blocks.data import PrefixDataBlock
from ixt_rl.blocks.model import ModelBlock
from ixt_rl.conditioning import (
    Conditioner,
    Conditioning,
    encode_prompt,
    find_ends,
    load_feedback_template,
    load_template,
)
from ixt_rl.conditioning.control import ControlTokens, chat_ids, control_of, text_ids
from ixt_rl.conditioning.ends import special_ids
from ixt_rl.conditioning.feedback import wished_feedback
from ixt_rl.conditioning.thought_marks import TEACHER_TAG, interleaved, predicted_suffix, weave
from ixt_rl.data.prefixes import load_prefixes
from ixt_rl.data.suffixes import SPLIT, SuffixStream
from ixt_rl.data.token_rows import PackedRows
from ixt_rl.errors import DataError
from ixt_rl.judging.parse import strip_thinking
from ixt_rl.judging.rubric import whole_characters
from ixt_rl.models import load_tokenizer
from ixt_rl.rewards.math.extract import final_answer
from ixt_rl.rewriting.thinker import chunks
from ixt_rl.rollout.stops import StopWatch, text_before_stop
from ixt_rl.types import Document, Feedback
from ixt_rl.worlds import AdditionWorld
from tests.integration.released_tokenizers import released_tokenizer
from tests.unit.conditioning.test_conversations import messages, trained
from tests.unit.conditioning.test_words import HARD, noise
from tests.unit.data.files import write
from tests.unit.data.test_suffixes import Given
from tests.unit.rollout.stop_tokenizers import stopped_at

MADE = (
    "The treaty of 1648 ended thirty years of war. It cost $3.50, i.e. 12% more\nthan   the 1,024 "
    "had.\n\n\nShe said: “no—never”.",
    "def f(x):\n\treturn [x**2 for _ in range(10)]  # naïve, \\frac{1}{2}\r\n\r\nprint(f(3))",
    "夏目漱石は日本の小説家、評論家、英文学者である。代表作は『吾輩は猫である』『坊っちゃん』などで、広く読まれている。",
    "Emoji 🙂 families 👩‍👩‍👧 and flags 🇫🇷; हिन्दी में, العربية too, and x\u0338 or a\u0323\u0302 with marks; 𒀀𒀁 are old.",
)


def texts() -> list[str]:
    """Real text where IXT_RL_DATA names its folder, and some that was made to be hard; both in NFC, as Qwen3 has it."""
    found = list(MADE)
    wiki = Path(os.environ.get("IXT_RL_DATA", "")) / "wiki.jsonl"
    if os.environ.get("IXT_RL_DATA") and wiki.is_file():
        rows = wiki.read_text(encoding="utf-8").splitlines()[:12]
        found += [json.loads(row)["text"][900:1800] for row in rows]
    return [unicodedata.normalize("NFC", text) for text in found]


@pytest.fixture(scope="module", params=["qwen3", "smollm2"])
def tokenizer(request, tmp_path_factory):
    cache = getattr(request.config, "cache", None)
    return released_tokenizer(request.param, cache.mkdir("tokenizers") if cache else tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def plain(tokenizer):
    return Conditioner(tokenizer, Conditioning())


def is_qwen3(tokenizer) -> bool:
    return "<think>" in tokenizer.get_added_vocab()


# ------------------------------------------------------------------------------------ ends, control tokens


def test_a_turn_a_document_and_a_completion_end_alike(tokenizer):
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    ends = find_ends(tokenizer)
    assert (ends.turn, ends.document, ends.stops, ends.rule) == (end, end, (end,), "chat template")
    assert tokenizer.decode(ends.reply) == "<|im_end|>\n" and ends.reply_trained == 1
    declared = {"eos_token_id": [end, tokenizer.convert_tokens_to_ids("<|endoftext|>")]}
    assert find_ends(tokenizer, declared).stops == tuple(declared["eos_token_id"])
    assert [line.split()[0] for line in ends.disagreements] == ([] if is_qwen3(tokenizer) else ["padding"])


def test_no_special_token_can_be_spelled(tokenizer, plain):
    """SmolLM2's `<|endoftext|>` among them, which it names for unknown words too."""
    special = special_ids(tokenizer)
    assert {tokenizer.convert_tokens_to_ids(t) for t in ("<|endoftext|>", "<|im_start|>", "<|im_end|>")} <= special
    typed = "a".join(tokenizer.convert_ids_to_tokens(sorted(special)))
    assert special.isdisjoint(text_ids(tokenizer, typed)) and tokenizer.decode(text_ids(tokenizer, typed)) == typed

    def controls(content: str) -> list[int]:
        chat = [{"role": role, "content": content} for role in ("system", "user")]
        return [token for token in chat_ids(tokenizer, chat, add_generation_prompt=True) if token in special]

    assert controls(typed) == controls("x")
    (document,) = plain([Document(typed, prompt=typed)], 0)
    assert [token for token in document.input_ids if token in special] == [plain.ends.document]
    assert control_of(tokenizer).spells("a <|endoftext|>") == "<|endoftext|>"


def test_text_in_pieces_has_the_ids_of_the_whole(tokenizer):
    control = ControlTokens(tokenizer, cached=True)
    assert (control._words is not None) == is_qwen3(tokenizer)  # digits cut off first are no rule of `word_cache`
    asked = [*HARD, *noise(300), *texts()]
    assert [list(ids) for ids in control.text_ids(asked)] == tokenizer(asked, add_special_tokens=False)["input_ids"]


# ------------------------------------------------------------------------------------ boundaries


def test_no_merge_crosses_from_prompt_to_completion(tokenizer, plain):
    merged = 0
    for text in texts()[:6]:
        cuts = [(text[:cut], text[cut:]) for cut in range(1, 60)]
        for (prompt, reply), row in zip(cuts, plain([Document(r, prompt=p) for p, r in cuts], 0), strict=True):
            asked = encode_prompt(tokenizer, prompt)
            assert list(row.input_ids) == [*asked, *text_ids(tokenizer, reply), plain.ends.document]
            assert row.loss_mask == (False,) * len(asked) + (True,) * (len(row.input_ids) - len(asked))
            merged += len(text_ids(tokenizer, text)) < len(row.input_ids) - 1
    assert merged > 50  # cuts that a merge would have crossed


@pytest.mark.parametrize("template", ["levels", "critique"])
def test_feedback_changes_no_id_of_its_document(tokenizer, plain, template):
    shown = load_feedback_template(template)
    conditioner = Conditioner(tokenizer, Conditioning(shown))
    given = Feedback(4, {"style": 2.5, "depth": 3}, "Says 3.14 — twice 🙂.\nFine")
    for text in (*texts(), "\n\nbegins with lines", " with a space", "12 digits", "’s"):
        (row,), (bare,) = (one([Document(text, feedback=given)], 0) for one in (conditioner, plain))
        cut = len(row.input_ids) - len(bare.input_ids)
        assert row.input_ids[cut:] == bare.input_ids
        said = tokenizer.decode(row.input_ids[:cut]).removesuffix(shown.separator)
        assert shown.parse(said) == shown.shown(given)
    wish = wished_feedback(shown, "good")
    asked, (row,) = (
        conditioner.prompt("1 + 1 =", wish),
        conditioner([Document(" 2", prompt="1 + 1 =", feedback=wish)], 0),
    )
    assert list(row.input_ids[: len(asked)]) == asked and row.input_ids[len(asked) :] == (
        *text_ids(tokenizer, " 2"),
        plain.ends.document,
    )


@pytest.mark.parametrize("name", ["plain", "addition", "math", "math-boxed", "math-chat", "chat"])
def test_told_is_the_plain_prompt_with_one_piece_put_in(tokenizer, name):
    template = load_template(None, name)
    row: dict = {}
    for row in (*AdditionWorld("sum").rows("eval", 4, 0), {"question": "How many?\n(a) 3", "answer": "\\frac{7}{12}"}):
        prompts = template.render(row["question"], row["answer"])
        untold, told = (encode_prompt(tokenizer, prompt, None, template.chat_template_kwargs) for prompt in prompts)
        common = next(n for n in range(len(untold) + 1) if untold[: n + 1] != told[: n + 1] or n == len(untold))
        rest = len(untold) - common
        assert told[len(told) - rest :] == untold[common:], row
        assert str(row["answer"]) in tokenizer.decode(told[common : len(told) - rest])


def test_digits_are_single_tokens_and_answers_survive(tokenizer):
    for number in ("7", "42", "1000000", "3.14159", "12,345"):
        for text in (number, f"= {number}", f"\\boxed{{{number}}}", f"   {number}"):
            tokens = [tokenizer.decode([token]) for token in text_ids(tokenizer, text)]
            assert [t for t in tokens if t.isdigit()] == [c for c in number if c.isdigit()]
    said = "<think>\nIs it \\boxed{9}?\n</think>\n\nThe answer is \\boxed{\\frac{22}{7}}"
    ids = [*text_ids(tokenizer, said), find_ends(tokenizer).turn]
    text = text_before_stop(tokenizer, ids, ())
    assert text == said and final_answer(text) == "\\frac{22}{7}" and "9" not in strip_thinking(text)
    assert predicted_suffix(text) == said.rpartition("\n")[2]
    assert final_answer(text_before_stop(tokenizer, ids[:8], ())) is None  # thinking that never ends


# ------------------------------------------------------------------------------------ chats

TALK = Document(
    "Fine: 6.",
    turns=(("user", "2+2?\n"), ("assistant", "4 🙂"), ("user", "3+3?"), ("assistant", "It's 6.\n"), ("user", " ?")),
)
SPACED = Document("\n\n6", turns=(("user", "2+2?"), ("assistant", "\n\n4"), ("user", "3+3?")))


@pytest.mark.parametrize("system", [(), (("system", "Be exact."),)])
def test_every_reply_follows_what_inference_sees_before_it(tokenizer, system):
    talk, conditioner = Document(TALK.text, turns=system + TALK.turns), Conditioner(tokenizer, Conditioning(chat=True))
    (row,) = conditioner([talk], 0)
    assert trained(tokenizer, row) == ["4 🙂<|im_end|>", "It's 6.\n<|im_end|>", "Fine: 6.<|im_end|>"]
    said, begins = messages(talk), 0
    for number, message in enumerate(said):
        if message["role"] == "assistant":
            asked = conditioner.prompt(said[:number], None)
            assert list(row.input_ids[: len(asked)]) == asked and len(asked) > begins
            assert row.loss_mask[len(asked)] and not row.loss_mask[len(asked) - 1]
            begins = len(asked)
    asked_last = tokenizer.apply_chat_template(said[:-1], add_generation_prompt=True, tokenize=False)
    whole = f"{asked_last}{talk.text}<|im_end|>\n"
    assert list(row.input_ids) == tokenizer(whole, add_special_tokens=False)["input_ids"]
    # A reply that begins with white space keeps the tokens it is sampled in; a chat rendered anew merges them with the
    # line break before it, so only the text of what inference sees later is the same.
    (row,) = conditioner([SPACED], 0)
    asked = conditioner.prompt(messages(SPACED)[:1], None)
    assert row.input_ids[: len(asked) + 3] == (*asked, *text_ids(tokenizer, "\n\n4"), find_ends(tokenizer).turn)
    again = conditioner.prompt(messages(SPACED)[:3], None)
    seen = row.input_ids[: len(row.input_ids) - len((*text_ids(tokenizer, "\n\n6"), *find_ends(tokenizer).reply))]
    assert list(seen) != again and tokenizer.decode(seen) == tokenizer.decode(again)


def test_thoughts_of_earlier_turns_are_trained_only_where_the_template_keeps_them(tokenizer):
    thought = "<think>\nEasy.\n</think>\n\n4"
    talk = Document(thought, turns=(("user", "2+2?"), ("assistant", thought), ("user", "Again?")), key="t:1")
    everything, last = (Conditioner(tokenizer, Conditioning(chat=True, train_turns=turns)) for turns in ("all", "last"))
    (row,) = last([talk], 0)
    assert trained(tokenizer, row) == [f"{thought}<|im_end|>"]  # as it was written, and no empty thought before it
    assert "<think>\n\n</think>" not in tokenizer.decode(row.input_ids)
    assert tokenizer.decode(row.input_ids).count("Easy.") == (1 if is_qwen3(tokenizer) else 2)
    if is_qwen3(tokenizer):
        with pytest.raises(DataError, match=r"t:1: message 1 of 4\n.*otherwise.*\n.*train_turns: last"):
            everything([talk], 0)
    else:
        (row,) = everything([talk], 0)
        assert trained(tokenizer, row) == [f"{thought}<|im_end|>"] * 2


def test_the_empty_thought_belongs_to_the_prompt(tokenizer):
    options = {"enable_thinking": False}
    conditioner = Conditioner(tokenizer, Conditioning(chat=True, train_turns="last", chat_template_kwargs=options))
    (row,) = conditioner([TALK], 0)
    asked = encode_prompt(tokenizer, messages(TALK)[:-1], None, options)
    assert list(row.input_ids[: len(asked)]) == asked and trained(tokenizer, row) == ["Fine: 6.<|im_end|>"]
    assert tokenizer.decode(asked).endswith("<think>\n\n</think>\n\n") == is_qwen3(tokenizer)
    assert tokenizer.decode(row.input_ids).count("</think>") == is_qwen3(tokenizer)


# ------------------------------------------------------------------------------------ cuts in token space


def test_suffixes_are_the_documents_end_and_begin_with_a_whole_character(tokenizer, plain):
    documents = [Document(text[:end], key=f"{n}:{end}") for n, text in enumerate(texts()) for end in range(35, 100, 4)]
    stream = SuffixStream(documents, tokenizer, suffix_tokens=9, max_prefix_tokens=16)
    items = {item.key: item for item in stream}
    assert stream.counts.given == len(items) > 40 and stream.counts.shortened > 0
    assert stream.counts.skipped.get(SPLIT, 0) > 0
    for document in documents:
        if (item := items.get(document.key)) is None:
            continue
        (row,) = plain([document], 0)
        kept = item.prefix_ids + item.suffix_ids
        assert row.input_ids[len(row.input_ids) - len(kept) :] == kept
        prefix, suffix = (tokenizer.decode(ids, skip_special_tokens=True) for ids in (item.prefix_ids, item.suffix_ids))
        assert document.text.endswith(whole_characters(prefix) + suffix) and "\ufffd" not in suffix


def test_what_is_left_of_a_character_is_no_text(tokenizer):
    """Whatever a text is cut into, the shown beginning is one of the text, and the shown end is one."""
    split = 0
    for text in texts():
        ids = text_ids(tokenizer, text)
        for cut in range(len(ids) + 1):
            begins, ends = (tokenizer.decode(part) for part in (ids[:cut], ids[cut:]))
            split += "\ufffd" in begins
            assert text.startswith(whole_characters(begins)) and text.endswith(whole_characters(ends))
            assert len(text) - len(whole_characters(begins) + whole_characters(ends)) == ("\ufffd" in begins)
    assert split > 10


def test_prefixes_as_prompts_have_the_ids_that_the_document_had(tokenizer, tmp_path):
    whole = texts() * 3
    rows = [{"text": text[: len(text) - n]} for n, text in enumerate(whole)]
    data = {"path": write(tmp_path / "a.jsonl", rows), "suffix_tokens": 8, "eval_rows": 2}
    train, held_out = load_prefixes(PrefixDataBlock.model_validate(data), tokenizer)
    assert len(train) + len(held_out) > 0.6 * len(rows)
    for row in (*train, *held_out):
        assert len(text_ids(tokenizer, row["answer"])) == 7  # EOS was the eighth
        assert text_ids(tokenizer, row["question"] + row["answer"]) == [
            *encode_prompt(tokenizer, row["question"]), *text_ids(tokenizer, row["answer"])
        ]  # fmt: skip


@pytest.mark.parametrize("pack", [True, False])
def test_rows_hold_every_token_once_whatever_they_cut(tokenizer, pack):
    documents = [Document(text, feedback=Feedback(1 + n % 5), key=str(n)) for n, text in enumerate(texts())]
    conditioner = Conditioner(tokenizer, Conditioning(load_feedback_template("levels")))
    whole = [row.input_ids for row in conditioner(documents, 0)]
    rows = list(PackedRows(Given(*documents), conditioner, 24, pack=pack, buffer=4))
    pieces: list[tuple[int, ...]] = []
    for row in rows:
        assert len(row["input_ids"]) <= 24
        for segment in dict.fromkeys(row["segment_ids"].tolist()):
            here = row["segment_ids"] == segment
            assert row["position_ids"][here].tolist() == list(range(int(here.sum())))
            assert row["labels"][here][0] == -100 and np.array_equal(
                row["labels"][here][1:], row["input_ids"][here][1:]
            )
            pieces.append(tuple(row["input_ids"][here].tolist()))
    cut = [ids[start : start + 24] for ids in whole for start in range(0, len(ids), 24)]
    assert sorted(pieces) == sorted(cut)
    inside = [tokenizer.decode(piece)[:1] == "\ufffd" for piece in pieces]
    assert is_qwen3(tokenizer) or any(inside)  # a piece begins within a character, and none of it is lost
    assert all(
        tokenizer.decode(ids).removesuffix("<|im_end|>").endswith(d.text)
        for ids, d in zip(whole, documents, strict=True)
    )


# ------------------------------------------------------------------------------------ completions as text


def test_stop_strings_end_a_completion_where_its_text_has_them(tokenizer):
    rng = random.Random(0)
    for _ in range(25):
        text = "".join(rng.choices("a \n\n答é END. Q: 🙂 b—c \n\n", k=12))
        ids = text_ids(tokenizer, text)
        stop = rng.sample(["\n\n", "END", " ", "答", "é", "b—", ".\n", "🙂"], 2)
        watch = StopWatch(tokenizer, stop)
        found = next((n for n, token in enumerate(ids, 1) if watch.add(token)), None)
        assert found == stopped_at(tokenizer, ids, stop), (text, stop)
        shown = text_before_stop(tokenizer, ids[:found], stop)
        assert text.startswith(shown) and not any(one in shown for one in stop)


def test_documents_with_thoughts_come_back_from_their_ids(tokenizer):
    for text in texts():
        pieces = chunks(text, 40)
        written = "".join(f"{piece}<{TEACHER_TAG}>so {len(piece)} 🙂</{TEACHER_TAG}>" for piece in pieces)
        woven = weave(text, written, TEACHER_TAG)
        assert woven.text is not None and woven.thoughts == len(pieces), woven.reason
        ids = text_ids(tokenizer, woven.text)
        assert tokenizer.decode(ids, skip_special_tokens=True) == woven.text
        assert interleaved(tokenizer.decode(ids)) == text
        if is_qwen3(tokenizer):
            assert ids.count(tokenizer.convert_tokens_to_ids("<think>")) == len(pieces)


# ------------------------------------------------------------------------------------ the class that a folder names


@pytest.mark.parametrize("named", ["GPT2Tokenizer", "LlamaTokenizerFast"])
def test_its_own_file_cuts_the_text_whatever_class_its_folder_names(tokenizer, named, tmp_path):
    """SmolLM2's own repository names GPT2Tokenizer, DeepSeek's name LlamaTokenizerFast."""
    tokenizer.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config | {"tokenizer_class": named}))
    loaded = load_tokenizer(str(tmp_path), ModelBlock(path=str(tmp_path)))
    for text in texts():
        assert loaded(text).input_ids == tokenizer(text).input_ids
    chat = [{"role": "user", "content": "12 + 345?"}]
    shown = [
        one.apply_chat_template(chat, add_generation_prompt=True, return_dict=False) for one in (loaded, tokenizer)
    ]
    assert shown[0] == shown[1] and loaded.eos_token == tokenizer.eos_token
