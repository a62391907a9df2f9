#!/usr/bin/env bash
# transformers 5.15.0, tokenizers 0.22.2: `split_special_tokens=True` splits special tokens of byte-pair tokenizers, and
# not those of word and unigram models.
#
# Behaviour: the flag turns off the step that looks for special tokens before the model does its work. A byte-pair model
# cannot build "<eos>" from its merges, so the text falls into characters. Word and unigram models (the form that
# SentencePiece files are converted to) hold "<eos>" as an entry of their own vocabulary and find it again.
# Seen: for "a <eos> a" with the flag, byte pairs give no control id, words and unigram give the id of <eos>.
# Guessed before: none of the three gives it, because the flag promises that spelled-out tokens are text.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q transformers==5.15.0 tokenizers==0.22.2
cat > "$folder/seen.py" <<'PYTHON'
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

letters = sorted(set("a<eos>un k"))
kinds = {
    "byte pairs": models.BPE(
        vocab={token: i for i, token in enumerate([*letters, "<unk>", "<eos>"])}, merges=[], unk_token="<unk>"),
    "words": models.WordLevel({"<unk>": 0, "<eos>": 1, "a": 2}, unk_token="<unk>"),
    "unigram": models.Unigram([("<unk>", 0.0), ("<eos>", 0.0), *((letter, -2.0) for letter in letters)], unk_id=0),
}
found = {}
for name, model in kinds.items():
    backend = Tokenizer(model)
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<eos>", unk_token="<unk>")
    found[name] = tokenizer.eos_token_id in tokenizer("a <eos> a", split_special_tokens=True)["input_ids"]
    print(f"{name}: control id in the text: {found[name]}")
assert found == {"byte pairs": False, "words": True, "unigram": True}, "the behaviour has changed"
PYTHON
"$folder/venv/bin/python" "$folder/seen.py"
