"""Measures the exported models on the test slice: `python measure.py --dump FOLDER`. Writes metrics.json.

Accuracy of full, distilled and a gradient boosting baseline on the same information; speed with one thread, as a
worker runs them; and how much a score may move with its neighbours in the batch.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
import onnxruntime
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import f1_score, precision_recall_curve, roc_auc_score

from tasks import FOLDER, TASKS, Task, read, take

VARIANTS = ("full", "distilled")


def session(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def trimmed(task: Task, batch: dict) -> dict:
    """Padded to the batch's longest, as a worker does."""
    short = dict(batch)
    for s in task.sequences:
        steps = int(batch[f"{s.name}_mask"].sum(1).max(initial=0))
        for name in (s.name, f"{s.name}_mask"):
            short[name] = batch[name][:, :steps]
    return short


def score(model, task: Task, tensors: dict, rows: np.ndarray, batch: int = 256) -> np.ndarray:
    parts = [rows[i : i + batch] for i in range(0, len(rows), batch)]
    return np.concatenate([model.run(["logits"], trimmed(task, take(tensors, part)))[0] for part in parts])


def baseline_features(task: Task, tensors: dict) -> np.ndarray:
    """The same information as plain columns: the row, and per sequence the usual statistics of each column."""
    columns = [tensors[task.matrix]] + [tensors[name][:, None] for name in task.categories]
    if task.instant:
        columns.append((tensors[task.instant] % 86_400)[:, None])
    for s in task.sequences:
        values, mask = tensors[s.name], tensors[f"{s.name}_mask"][..., None]
        seen = np.where(mask, values, np.nan)
        with np.errstate(all="ignore"):
            count = mask.sum(1)
            mean = np.where(count > 0, np.nansum(seen, 1) / np.maximum(count, 1), np.nan)
            low = np.where(mask, values, np.inf).min(1, initial=np.inf)
            high = np.where(mask, values, -np.inf).max(1, initial=-np.inf)
        last = np.where(count > 0, values[np.arange(len(values)), np.maximum(count[:, 0] - 1, 0)], np.nan)
        columns += [count, mean, *(np.where(np.isfinite(e), e, np.nan) for e in (low, high)), last]
        if "fraud" in s.columns:  # statistics of known frauds and known legitimate orders apart
            fraud = values[..., s.columns.index("fraud")]
            for outcome in (0, 1):
                of = mask & (fraud == outcome)[..., None]
                low = np.where(of, values, np.inf).min(1)
                high = np.where(of, values, -np.inf).max(1)
                columns += [np.where(np.isfinite(e), e, np.nan) for e in (low, high)]
    return np.concatenate([np.asarray(c, np.float64) for c in columns], 1)


def best_cut(labels: np.ndarray, scores: np.ndarray) -> float:
    """The score from which the second label is said: best F1, and the middle of what is within 0.1 points of it."""
    precision, recall, cuts = precision_recall_curve(labels, scores)
    f1 = (2 * precision * recall / np.maximum(precision + recall, 1e-9))[:-1]
    return float(np.median(cuts[f1 >= f1.max() - 0.001]))


def baseline(task: Task, tensors: dict, labels, learn, judge, test) -> dict:
    """Gradient boosting on all columns or on the summary columns only, whichever is better on validation."""
    table, found = baseline_features(task, tensors), []
    for columns, what in ((table.shape[1], "with history statistics"), (tensors[task.matrix].shape[1], "columns only")):
        for rate in (0.03, 0.1):
            boosting = HistGradientBoostingClassifier(max_iter=200, learning_rate=rate, random_state=0)
            boosting.fit(table[learn, :columns], labels[learn])
            on_judge, on_test = (boosting.predict_proba(table[rows, :columns])[:, 1] for rows in (judge, test))
            cut = best_cut(labels[judge], on_judge)
            kind = {"kind": f"gradient boosting {what}, rate {rate}"}
            found.append((roc_auc_score(labels[judge], on_judge), accuracy(labels[test], on_test, on_test >= cut) | kind))
    return max(found, key=lambda one: one[0])[1]


def accuracy(labels, scores, said) -> dict:
    return {"auc": round(float(roc_auc_score(labels, scores)), 4), "f1": round(float(f1_score(labels, said)), 4)}


def speeds(models: dict, task: Task, tensors: dict, test: np.ndarray, rounds: int = 5) -> dict:
    """Medians over rounds in which the variants take turns, so that a busy neighbour disturbs both alike."""
    rng = np.random.default_rng(1)
    timings: dict = {v: {"alone": [], "batched": []} for v in models}
    for _ in range(rounds):
        rows = rng.choice(test, 1024, replace=False)
        ones = [trimmed(task, take(tensors, rows[i : i + 1])) for i in range(100)]
        many = {32: "alone_32", 256: "batched"}
        for variant, model in models.items():
            alone = []
            for one in ones:
                began = time.perf_counter()
                model.run(["logits"], one)
                alone.append(time.perf_counter() - began)
            timings[variant]["alone"].append(np.median(alone))
            for size, name in many.items():
                batches = [trimmed(task, take(tensors, rows[i : i + size])) for i in range(0, len(rows), size)]
                began = time.perf_counter()
                for batch in batches:
                    model.run(["logits"], batch)
                timings[variant].setdefault(name, []).append((time.perf_counter() - began) / len(rows))
    return {
        v: {
            "latency_ms": round(float(np.median(t["alone"])) * 1e3, 3),
            "events_per_s_batch_1": round(1 / float(np.median(t["alone"]))),
            "events_per_s_batch_32": round(1 / float(np.median(t["alone_32"]))),
            "events_per_s_batch_256": round(1 / float(np.median(t["batched"]))),
        }
        for v, t in timings.items()
    }


def neighbours(model, task: Task, tensors: dict, rows: np.ndarray) -> dict:
    """Largest change of a softmax probability: alone against in a batch, and with extra padding."""

    def said(batch: dict) -> np.ndarray:
        logits = model.run(["logits"], batch)[0].astype(np.float64)
        return 1 / (1 + np.exp(logits[:, 0] - logits[:, 1]))

    together = said(trimmed(task, take(tensors, rows)))
    alone = np.concatenate([said(trimmed(task, take(tensors, rows[i : i + 1]))) for i in range(len(rows))])
    padded = take(tensors, rows)
    for s in task.sequences:
        mask = f"{s.name}_mask"
        padded[s.name] = np.pad(padded[s.name], ((0, 0), (0, 5), (0, 0)), constant_values=1e6)
        padded[mask] = np.pad(padded[mask], ((0, 0), (0, 5)))
    return {
        "alone_or_in_batch": float(f"{np.abs(alone - together).max():.1e}"),
        "garbage_in_padding": float(f"{np.abs(said(padded) - together).max():.1e}"),
    }


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--dump", type=Path, required=True)
    arguments.add_argument("--models", type=Path, default=FOLDER / "models")
    given = arguments.parse_args()
    report: dict = {}
    for task in TASKS:
        tensors, labels, splits, _ = read(task, given.dump)
        learn, judge, test = (np.flatnonzero(splits == s) for s in ("train", "validation", "test"))
        table = baseline_features(task, tensors)
        result = {
            "events": {"train": len(learn), "validation": len(judge), "test": len(test)},
            "positive_share_test": round(float(labels[test].mean()), 4),
            "baseline": baseline(task, tensors, labels, learn, judge, test),
        }
        models = {v: session(given.models / f"{task.name}.{v}.onnx") for v in VARIANTS}
        speed = speeds(models, task, tensors, test)
        for variant, model in models.items():
            logits = score(model, task, tensors, test)
            margin = logits[:, 1] - logits[:, 0]
            size = (given.models / f"{task.name}.{variant}.onnx").stat().st_size
            result[variant] = (
                accuracy(labels[test], margin, margin >= 0)
                | {"megabytes": round(size / 1e6, 2)}
                | speed[variant]
                | neighbours(model, task, tensors, test[:: max(1, len(test) // 256)])
            )
        full, small = result["full"], result["distilled"]
        result["distilled_against_full"] = {
            "f1_points_lost": round(100 * (full["f1"] - small["f1"]), 2),
            "latency_ratio": round(small["latency_ms"] / full["latency_ms"], 3),
            "events_per_s_ratio": round(small["events_per_s_batch_256"] / full["events_per_s_batch_256"], 2),
        }
        report[task.name] = result
        print(json.dumps({task.name: result}, indent=2), flush=True)
    (given.models / "metrics.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
