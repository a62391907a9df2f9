"""Speed, fill and memory of the data path: documents from JSONL to packed rows, on one core.

    .venv/bin/python benchmarks/stream.py --data ../shared/data --stream-gb 2 --out runs/stream

writes `stream.json`, `stream.md` and `stream.png` to `--out`.

- Text: every row of the .jsonl files in `--data` that has a question or problem and an answer or solution, joined, in
  random order, with feedback levels 1 to 5. A byte-level BPE tokenizer (`tokenizers`, Rust) is trained on it first.
- Speed: one pass over each text once, by a conditioner that has seen none of it (`first pass`), and another by the same
  one (`second pass`: pieces of words are in its cache). Half of the documents count as annotated, a tenth of those are
  shown without. `tokenizer alone` is the tokenizer's own batch call on the same texts, and nothing else.
  Tokens a second of wall time, and of the process's CPU time; on a machine that others use, read the latter.
- Fill: tokens in rows / (rows x capacity).
- Memory: a JSONL file of `--stream-gb` gigabytes, the same texts in a new order again and again, is streamed once;
  resident memory is sampled a hundred times. Its texts repeat, so its speed is that of the second pass.
- Resuming: from three quarters of that file, the time to the next row, and the time `datasets` needs from its own state
  to its next example there. Both have to give what the stream that went on gave.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import tempfile
import time
from itertools import pairwise
from pathlib import Path

os.environ["TOKENIZERS_PARALLELISM"] = "false"

import numpy as np
import psutil
import tokenizers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from ixt_rl.conditioning import Conditioner, Conditioning, load_feedback_template
from ixt_rl.data.document_source import DocumentSource
from ixt_rl.data.stream import DocumentStream
from ixt_rl.data.token_rows import PackedRows
from ixt_rl.models import with_special_tokens

SAMPLES = 100
ROOT = Path(__file__).resolve().parents[1]


def read_texts(folder: Path) -> list[str]:
    """Problems with their solutions, in random order."""
    texts = []
    for path in sorted(folder.glob("*.jsonl")):
        for line in filter(str.strip, path.open(encoding="utf-8")):
            row = json.loads(line)
            question, answer = row.get("question", row.get("problem")), row.get("solution", row.get("answer"))
            if isinstance(question, str) and isinstance(answer, str):
                texts.append(f"{question}\n{answer}")
    random.Random(0).shuffle(texts)
    return texts


def train_tokenizer(texts: list[str], vocabulary: int):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=["<bos>", "<eos>", "<pad>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return with_special_tokens(tokenizer)


def lines_of(texts: list[str], seed: int) -> list[str]:
    """Each text once, in an order of its own, as a line with feedback columns."""
    generator = random.Random(seed)
    lines = []
    for text in generator.sample(texts, len(texts)):
        feedback = {"feedback_level": generator.randint(1, 5), "feedback_scores": {}, "feedback_critique": ""}
        lines.append(json.dumps({"text": text, **feedback, "feedback_judge": "none"}) + "\n")
    return lines


def make_rows(path: Path, conditioner: Conditioner, capacity: int) -> PackedRows:
    return PackedRows(DocumentStream([DocumentSource((str(path),))], seed=0, epochs=1), conditioner, capacity)


def timed_pass(rows: PackedRows) -> dict[str, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    lengths = [len(row["input_ids"]) for row in rows]
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    tokens = sum(lengths)
    return {"tokens": tokens, "wall": tokens / wall, "cpu": tokens / cpu, "fill": tokens / len(lengths) / rows.capacity}


def timed_tokenizer(tokenizer, texts: list[str]) -> dict[str, float]:
    wall, cpu, tokens = time.perf_counter(), time.process_time(), 0
    for start in range(0, len(texts), 256):
        batch = tokenizer.backend_tokenizer.encode_batch(texts[start : start + 256], add_special_tokens=False)
        tokens += sum(len(encoding.ids) for encoding in batch)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return {"tokens": tokens, "wall": tokens / wall, "cpu": tokens / cpu}


def measure_speed(path: Path, texts: list[str], tokenizer, args: argparse.Namespace) -> list[dict]:
    settings = Conditioning(load_feedback_template("levels"), dropout=0.1, fraction=0.5)
    found: dict[str, list[dict[str, float]]] = {}
    for _ in range(args.rounds):
        conditioner = Conditioner(tokenizer, settings)
        for name in ("first pass", "second pass"):
            found.setdefault(name, []).append(timed_pass(make_rows(path, conditioner, args.capacity)))
        found.setdefault("tokenizer alone", []).append(timed_tokenizer(tokenizer, texts))
    return [
        {"what": name, **{key: statistics.median(run[key] for run in runs) for key in runs[0]}}
        for name, runs in found.items()
    ]


def write_stream(path: Path, texts: list[str], size: int) -> int:
    """Bytes written: whole shuffles of the texts until there are `size`."""
    with path.open("w", encoding="utf-8") as file:
        for seed in range(1, 1_000_000):
            file.writelines(lines_of(texts, seed))
            if file.tell() >= size:
                break
    return path.stat().st_size


def measure_stream(path: Path, size: int, tokenizer, args: argparse.Namespace) -> dict:
    """Samples of one pass, a hundred of them, and the times to resume at three quarters."""
    conditioner = Conditioner(tokenizer, Conditioning(load_feedback_template("levels"), dropout=0.1, fraction=0.5))
    rows = make_rows(path, conditioner, args.capacity)
    process, start, cpu = psutil.Process(), time.perf_counter(), time.process_time()
    samples: list[dict[str, float]] = []
    tokens, due, state, after = 0, 0.0, None, None
    for row in rows:
        tokens += len(row["input_ids"])
        if state is not None and after is None:
            after = row["input_ids"]
        offset = rows.state_dict()["documents"]["sources"][0]["offset"]
        if state is None and offset >= 0.75 * size:
            state = json.dumps(rows.state_dict())
        if offset >= due:
            due += size / SAMPLES
            samples.append(
                {
                    "bytes": offset,
                    "tokens": tokens,
                    "seconds": time.perf_counter() - start,
                    "cpu_seconds": time.process_time() - cpu,
                    "rss": process.memory_info().rss,
                }
            )
    assert state is not None and after is not None, "the stream is too short to be resumed"
    start = time.perf_counter()
    resumed = make_rows(path, conditioner, args.capacity)
    resumed.load_state_dict(json.loads(state))
    found = next(iter(resumed))["input_ids"]
    seconds = time.perf_counter() - start
    assert np.array_equal(found, after), "resuming gave another row"
    return {
        "samples": samples,
        "resume_seconds": seconds,
        "datasets_resume_seconds": datasets_resume(path, json.loads(state)["counts"]["documents"]),
        "state_bytes": len(state),
    }


def datasets_resume(path: Path, example: int) -> float:
    """Seconds until `datasets` gives the next example, from the state that it has after `example` of them."""
    from datasets import load_dataset

    def stream():
        return load_dataset("json", data_files=str(path), split="train", streaming=True)

    dataset = stream()
    given = iter(dataset)
    for _ in range(example):
        next(given)
    state, after = dataset.state_dict(), next(given)
    start = time.perf_counter()
    resumed = stream()
    resumed.load_state_dict(state)
    found = next(iter(resumed))
    seconds = time.perf_counter() - start
    assert found == after, "`datasets` resumed elsewhere"
    return seconds


def markdown(result: dict) -> str:
    settings = ", ".join(f"{key}={value}" for key, value in result["settings"].items())
    lines = [settings, "", "| | tokens | tokens/s, wall | tokens/s, CPU | fill |", "|---|---|---|---|---|"]
    for row in result["speed"]:
        fill = f"{row['fill']:.2%}" if "fill" in row else "-"
        lines.append(f"| {row['what']} | {row['tokens']:,} | {row['wall']:,.0f} | {row['cpu']:,.0f} | {fill} |")
    stream = result.get("stream")
    if stream:
        last, half = stream["samples"][-1], stream["samples"][len(stream["samples"]) // 10 :]
        least, most = (f(sample["rss"] for sample in half) / 1e6 for f in (min, max))
        lines += [
            "",
            f"Stream of {last['bytes'] / 1e9:.2f} GB: {last['tokens']:,} tokens, "
            f"{last['tokens'] / last['seconds']:,.0f} tokens/s wall, {last['tokens'] / last['cpu_seconds']:,.0f} CPU; "
            f"resident memory {least:.0f} to {most:.0f} MB after the first tenth.",
            f"Resuming at three quarters: {stream['resume_seconds']:.2f} s to the next row, from a state of "
            f"{stream['state_bytes']} bytes; "
            f"`datasets` to its next example: {stream['datasets_resume_seconds']:.2f} s.",
        ]
    return "\n".join(lines) + "\n"


def plot(samples: list[dict[str, float]], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    gigabytes = [sample["bytes"] / 1e9 for sample in samples]
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4))
    left.plot(gigabytes, [sample["rss"] / 1e6 for sample in samples])
    left.set(title="resident memory", xlabel="GB of JSONL read", ylabel="MB", ylim=(0, None))
    for clock, label in (("seconds", "wall"), ("cpu_seconds", "CPU")):
        pairs = list(pairwise(samples))
        speed = [(b["tokens"] - a["tokens"]) / (b[clock] - a[clock]) / 1e6 for a, b in pairs]
        right.plot(gigabytes[1:], speed, label=label)
    right.set(title="speed on one core", xlabel="GB of JSONL read", ylabel="million tokens/s", ylim=(0, None))
    right.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data", help="folder of .jsonl files")
    parser.add_argument(
        "--stream-gb", type=float, default=2.0, help="size of the streamed file; 0: speed and fill only"
    )
    parser.add_argument("--capacity", type=int, default=2048, help="tokens of a row")
    parser.add_argument("--vocab", type=int, default=32_000, help="size of the tokenizer's vocabulary, at most")
    parser.add_argument("--rounds", type=int, default=3, help="times that speed is measured; the median is written")
    parser.add_argument("--out", type=Path, default=Path("runs/stream"), help="folder of the three files")
    return parser.parse_args()


def main() -> None:
    args = parse()
    process = psutil.Process()
    process.cpu_affinity(process.cpu_affinity()[-1:])  # one core
    texts = read_texts(args.data)
    tokenizer = train_tokenizer(texts, args.vocab)
    result: dict = {
        "settings": {
            "documents": len(texts),
            "characters": sum(map(len, texts)),
            "vocabulary": len(tokenizer),
            "capacity": args.capacity,
            "tokenizers": tokenizers.__version__,
        }
    }
    args.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "once.jsonl"
        path.write_text("".join(lines_of(texts, 0)), encoding="utf-8")
        result["speed"] = measure_speed(path, texts, tokenizer, args)
        if args.stream_gb:
            path = Path(folder) / "stream.jsonl"
            size = write_stream(path, texts, int(args.stream_gb * 1e9))
            result["stream"] = measure_stream(path, size, tokenizer, args)
            plot(result["stream"]["samples"], args.out / "stream.png")
    (args.out / "stream.json").write_text(json.dumps(result, indent=1) + "\n")
    (args.out / "stream.md").write_text(markdown(result))
    print(markdown(result))


if __name__ == "__main__":
    main()
