#!/usr/bin/env bash
# transformers 5.15.0, tokenizers 0.22.2: a tokenizer folder that names the class GPT2Tokenizer is read with GPT-2's
# rule for cutting text, whatever its tokenizer.json says, unless a config.json of some kinds of model lies beside it.
#
# Behaviour: `AutoTokenizer` builds that class anew from the vocabulary and merges of tokenizer.json and leaves its
# `pre_tokenizer`. Many released models name GPT2Tokenizer for a vocabulary with a rule of its own (digits one by one).
# A config.json whose kind has no class of its own, as OLMo 2, makes it take the file as it is. So one folder is read in
# two ways, and a rule that is mended in memory and saved is in the file and not in what is read from it.
# `LlamaTokenizerFast`, which byte-level tokenizers name too, does the same and loses the spaces: "12 + 34" comes back as
# "12+34" beside no config.json or a Llama's, and whole beside DeepSeek-V3's.
# Seen, "2024" where the file cuts digits off one by one: 4 tokens by the file, 1 from the folder, 4 with OLMo 2's
# config beside it, 1 with Llama's; 4 when mended in memory, 1 when that was saved and read again.
# Guessed before: tokenizer.json is the tokenizer, as it was in transformers 4.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q transformers==5.15.0 tokenizers==0.22.2
cat > "$folder/seen.py" <<'PYTHON'
import json
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer

GPT2_RULE = pre_tokenizers.ByteLevel(add_prefix_space=False)
OWN_RULE = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), GPT2_RULE])

own = Tokenizer(models.BPE())
own.pre_tokenizer, own.decoder = GPT2_RULE, decoders.ByteLevel()
own.train_from_iterator(["2024"] * 9, trainers.BpeTrainer(
    vocab_size=400, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), special_tokens=["<|endoftext|>"],
    show_progress=False))
own.pre_tokenizer = OWN_RULE
seen = {"by the file": len(own.encode("2024").ids)}
for beside in (None, "olmo2", "llama"):
    folder = Path(f"with-{beside}")
    folder.mkdir()
    own.save(str(folder / "tokenizer.json"))
    named = {"tokenizer_class": "GPT2Tokenizer", "eos_token": "<|endoftext|>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(named))
    if beside:
        (folder / "config.json").write_text(json.dumps({"model_type": beside}))
    read = AutoTokenizer.from_pretrained(folder)
    seen[f"from the folder, config beside it: {beside}"] = len(read.tokenize("2024"))
mended = AutoTokenizer.from_pretrained("with-None")
mended.backend_tokenizer.pre_tokenizer = OWN_RULE
seen["mended in memory"] = len(mended.tokenize("2024"))
mended.save_pretrained("again")
seen["saved and read again"] = len(AutoTokenizer.from_pretrained("again").tokenize("2024"))
print(f"tokens of 2024: {seen}")
assert [*seen.values()] == [4, 1, 4, 1, 4, 1], "the behaviour has changed"
back = {}
for beside in (None, "llama", "deepseek_v3"):
    folder = Path(f"llama-with-{beside}")
    folder.mkdir()
    own.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps(named | {"tokenizer_class": "LlamaTokenizerFast"}))
    if beside:
        (folder / "config.json").write_text(json.dumps({"model_type": beside}))
    read = AutoTokenizer.from_pretrained(folder)
    back[f"config beside it: {beside}"] = read.decode(read("12 + 34").input_ids)
print(f"12 + 34, there and back by LlamaTokenizerFast: {back}")
assert [*back.values()] == ["12+34", "12+34", "12 + 34"], "the behaviour has changed"
PYTHON
cd "$folder"
"$folder/venv/bin/python" "$folder/seen.py"
