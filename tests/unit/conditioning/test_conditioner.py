"""Documents are shown as the settings say: order, roles, masks, and which documents keep their feedback."""

from __future__ import annotations

import pytest

from ixt_rl.conditioning import (
    Conditioner,
    Conditioning,
    encode_prompt,
    feedback_system_chat,
    load_feedback_template,
)
from ixt_rl.errors import ConfigError, DataError
from ixt_rl.models import byte_tokenizer
from ixt_rl.types import ROLES, Document, Feedback

LEVELS = load_feedback_template("levels")
CHAT = "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}{% if add_generation_prompt %}[a]{% endif %}"
GOOD = Feedback(4)


def chat_tokenizer(template: str = CHAT):
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = template
    return tokenizer


def spans(tokenizer, sequence) -> list[tuple[str, str, bool]]:
    """(role, text, trained) of each run of tokens that agree in role and loss."""
    runs: list[list] = []
    for token, role, trained in zip(sequence.input_ids, sequence.role_ids, sequence.loss_mask, strict=True):
        if not runs or runs[-1][1:] != [ROLES[role], trained]:
            runs.append([[], ROLES[role], trained])
        runs[-1][0].append(token)
    return [(role, tokenizer.decode(ids), trained) for ids, role, trained in runs]


def show(conditioning: Conditioning, document: Document, tokenizer=None):
    tokenizer = tokenizer or byte_tokenizer()
    return spans(tokenizer, Conditioner(tokenizer, conditioning)([document], 0)[0])


@pytest.mark.parametrize("trained", [True, False])
def test_feedback_before_a_document(trained):
    found = show(Conditioning(LEVELS, train_feedback=trained), Document("abc", feedback=GOOD))
    assert found == [
        ("document", "<bos>", False),
        ("feedback", "Quality: good.\n\n", trained),
        ("document", "abc<eos>", True),
    ]


@pytest.mark.parametrize("trained", [True, False])
def test_feedback_after_a_document(trained):
    found = show(Conditioning(LEVELS, position="after", train_feedback=trained), Document("abc", feedback=GOOD))
    assert found == [
        ("document", "<bos>", False),
        ("document", "abc", True),
        ("feedback", "\n\nQuality: good.", trained),
        ("document", "<eos>", True),
    ]


@pytest.mark.parametrize(
    ("conditioning", "feedback"),
    [
        (Conditioning(), GOOD),
        (Conditioning(LEVELS), None),
        (Conditioning(LEVELS), Feedback(None, {"style": 2.0})),  # the template writes no scores
        (Conditioning(LEVELS, fraction=0.0), GOOD),
        (Conditioning(LEVELS, dropout=1.0), GOOD),
    ],
)
def test_without_feedback_there_is_no_separator_either(conditioning, feedback):
    found = show(conditioning, Document("abc", feedback=feedback))
    assert found == [("document", "<bos>", False), ("document", "abc<eos>", True)]


def test_a_prompt_is_seen_and_its_reply_trained():
    found = show(Conditioning(LEVELS, train_feedback=False), Document("4", prompt="2+2=", feedback=GOOD))
    assert found == [
        ("document", "<bos>", False),
        ("feedback", "Quality: good.\n\n", False),
        ("prompt", "2+2=", False),
        ("completion", "4", True),
        ("document", "<eos>", True),
    ]


def test_bos_comes_first_only_if_the_tokenizer_adds_it():
    tokenizer = byte_tokenizer()
    from tokenizers import processors

    tokenizer.backend_tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    assert show(Conditioning(), Document("abc"), tokenizer) == [("document", "abc<eos>", True)]


@pytest.mark.parametrize("wish", [None, Feedback(5)])
@pytest.mark.parametrize("chat", [False, True])
def test_the_prompt_of_inference_is_the_start_of_the_training_sequence(wish, chat):
    tokenizer = chat_tokenizer()
    conditioner = Conditioner(tokenizer, Conditioning(LEVELS, chat=chat))
    trained = conditioner([Document("4", prompt="2+2=", feedback=wish)], 0)[0]
    prompt = conditioner.prompt("2+2=", wish)
    assert list(trained.input_ids[: len(prompt)]) == prompt
    assert tokenizer.decode(trained.input_ids[len(prompt) :]) == "4<eos>"
    if wish is None and not chat:
        assert prompt == encode_prompt(tokenizer, "2+2=")


def test_feedback_that_comes_after_is_in_no_prompt():
    conditioner = Conditioner(byte_tokenizer(), Conditioning(LEVELS, position="after"))
    assert conditioner.prompt("abc", GOOD) == conditioner.prompt("abc", None)


def test_a_chat_has_feedback_as_system_message_and_trains_the_reply_alone():
    tokenizer = chat_tokenizer()
    conditioning = Conditioning(LEVELS, chat=True)
    document = Document("4", prompt="2+2?", feedback=GOOD)
    assert show(conditioning, document, tokenizer) == [
        ("system", "[system]Quality: good.[user]2+2?[a]", False),
        ("completion", "4<eos>", True),
    ]
    conditioner = Conditioner(tokenizer, conditioning)
    assert conditioner([document], 0)[0] == feedback_system_chat("Quality: good.", "2+2?", "4", tokenizer)


def test_a_chat_without_feedback_has_no_system_message():
    tokenizer = chat_tokenizer()
    assert show(Conditioning(LEVELS, chat=True), Document("4", prompt="2+2?"), tokenizer) == [
        ("prompt", "[user]2+2?[a]", False),
        ("completion", "4<eos>", True),
    ]
    sequence = Conditioner(tokenizer, Conditioning(chat=True))([Document("4", prompt="2+2?", feedback=GOOD)], 0)[0]
    assert sequence == feedback_system_chat("", "2+2?", "4", tokenizer)


def test_many_documents_at_once_are_as_one_by_one():
    tokenizer = byte_tokenizer()
    tokenizer(["a", "abc"], padding=True, truncation=True, max_length=2)  # leaves padding switched on in the backend
    conditioner = Conditioner(tokenizer, Conditioning(LEVELS, dropout=0.5, fraction=0.8), seed=3)
    documents = [Document("x" * (i % 7 + 1) + str(i), feedback=Feedback(i % 5 + 1)) for i in range(60)]
    together = conditioner(documents, 100)
    assert together == [conditioner([document], 100 + i)[0] for i, document in enumerate(documents)]
    assert len({len(s) for s in together}) > 5


def conditioned(conditioner, documents, first=0) -> list[bool]:
    return [bool(conditioner.shown_feedback(d, first + i)) for i, d in enumerate(documents)]


def test_dropout_is_drawn_by_seed_and_running_number():
    documents = [Document("same", feedback=GOOD)] * 4000
    make = lambda seed: Conditioner(byte_tokenizer(), Conditioning(LEVELS, dropout=0.3), seed)  # noqa: E731
    shown = conditioned(make(0), documents)
    assert abs(sum(shown) / len(shown) - 0.7) < 0.03  # four standard deviations
    assert shown[1000:] == conditioned(make(0), documents[1000:], first=1000)
    assert shown != conditioned(make(1), documents)


def test_fraction_chooses_the_same_documents_whatever_the_seed_and_the_order():
    documents = [Document(f"text {i}", feedback=GOOD) for i in range(4000)]
    shown = conditioned(Conditioner(byte_tokenizer(), Conditioning(LEVELS, fraction=0.15), 0), documents)
    assert abs(sum(shown) / len(shown) - 0.15) < 0.025
    again = conditioned(Conditioner(byte_tokenizer(), Conditioning(LEVELS, fraction=0.15), 1), documents[::-1], 77)
    assert shown == again[::-1]
    more = conditioned(Conditioner(byte_tokenizer(), Conditioning(LEVELS, fraction=0.5), 0), documents)
    assert all(b for a, b in zip(shown, more, strict=True) if a)  # a larger share keeps those of a smaller one


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"dropout": 1.5}, "dropout=1.5"),
        ({"fraction": -0.1}, "fraction=-0.1"),
        ({"position": "beside"}, "position='beside'"),
        ({"chat": True, "position": "after"}, "position='after'"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings, named):
    with pytest.raises(ConfigError, match=r"reason: .*\n.*remedy: ") as error:
        Conditioning(**settings)
    assert named in str(error.value)


def test_tokenizers_that_cannot_serve_are_refused():
    tokenizer = byte_tokenizer()
    with pytest.raises(DataError, match="no chat template"):
        Conditioner(tokenizer, Conditioning(chat=True))
    for template in ("{{ raise_exception('no system role') }}", "{{ messages[-1].content }}"):
        with pytest.raises(DataError, match="system message"):
            Conditioner(chat_tokenizer(template), Conditioning(LEVELS, chat=True))
    tokenizer.eos_token = None
    with pytest.raises(DataError, match="no EOS"):
        Conditioner(tokenizer, Conditioning())


def test_a_chat_needs_prompts():
    with pytest.raises(DataError, match=r"data.jsonl:3: no prompt"):
        Conditioner(chat_tokenizer(), Conditioning(LEVELS, chat=True))([Document("4", key="data.jsonl:3")], 0)
