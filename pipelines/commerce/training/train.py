"""Trains, distils, exports: `python train.py --dump FOLDER --task order-risk`. Seeded; prints what it measures.

The full model learns from labels. The distilled one learns from labels and from the full model's probabilities.
Both stop where the validation slice, the last part of the training time, is best; the threshold is chosen there too.
The test slice is looked at by measure.py only.
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.metrics import average_precision_score, roc_auc_score

import network
from export import export
from measure import best_cut, session
from network import Size
from tasks import FOLDER, TASKS, Task, read, take

SIZES = {
    "full": Size(layers=12, width=96, heads=4, hidden=192),
    "distilled": Size(layers=8, width=48, heads=2, hidden=96),
}
CAPS = {8: (1, 3, 8), 12: (3, 6, 12), 16: (0, 2, 6, 16)}  # padded lengths that training compiles for
BATCH = 256
SEED = 20


def buckets(task: Task, tensors: dict, rows: np.ndarray) -> dict[tuple[int, ...], np.ndarray]:
    """Rows by the padded lengths of their sequences, so that short histories are not computed as long ones."""
    lengths = [tensors[f"{s.name}_mask"][rows].sum(1) for s in task.sequences]
    caps = [np.array(CAPS[s.keep_last]) for s in task.sequences]
    chosen = np.stack([c[np.searchsorted(c, n)] for c, n in zip(caps, lengths)], 1)
    return {tuple(map(int, k)): rows[(chosen == k).all(1)] for k in np.unique(chosen, axis=0)}


def cut(task: Task, batch: dict, caps: tuple[int, ...]) -> dict:
    short = dict(batch)
    for s, cap in zip(task.sequences, caps):
        for name in (s.name, f"{s.name}_mask"):
            short[name] = batch[name][:, :cap]
    return short


def predict(run, task: Task, tensors: dict, rows: np.ndarray) -> np.ndarray:
    """Logits in the order of `rows`."""
    logits = np.zeros(len(tensors[task.matrix]), np.float32)
    for caps, members in buckets(task, tensors, rows).items():
        for i in range(0, len(members), BATCH):
            part = members[i : i + BATCH]
            full = np.resize(part, BATCH)  # one shape, one compilation
            logits[part] = np.asarray(run(cut(task, take(tensors, full), caps)))[: len(part)]
    return logits[rows]


def fit(task: Task, size: Size, tensors: dict, labels, soft, learn, judge, epochs: int, rate: float, name: str):
    """Parameters that were best on `judge`. `soft`: the teacher's logits for every row, or None."""
    rng = np.random.default_rng(SEED)
    c = network.constants(task, take(tensors, learn), labels[learn])
    params = network.start(jax.random.key(SEED), task, size, c)
    groups = buckets(task, tensors, learn)
    steps = epochs * sum(math.ceil(len(g) / BATCH) for g in groups.values())
    schedule = optax.warmup_cosine_decay_schedule(0, rate, min(200, steps // 5), steps, rate * 0.02)
    matrices = jax.tree.map(lambda x: x.ndim > 1, params)
    optimiser = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(schedule, weight_decay=0.02, mask=matrices))
    state = optimiser.init(params)

    @jax.jit
    def step(params, state, batch, hard, teacher, key):
        def loss(params):
            logits = network.forward(params, c, task, size, batch, key)
            target = hard if soft is None else 0.3 * hard + 0.7 * jax.nn.sigmoid(teacher)
            return optax.sigmoid_binary_cross_entropy(logits, target).mean()

        value, gradient = jax.value_and_grad(loss)(params)
        updates, state = optimiser.update(gradient, state, params)
        return optax.apply_updates(params, updates), state, value

    forward = jax.jit(lambda params, batch: network.forward(params, c, task, size, batch))
    best, key, began = (-1.0, params), jax.random.key(SEED + 1), time.time()
    for epoch in range(epochs):
        batches = []
        for caps, members in groups.items():
            shuffled = rng.permutation(members)
            shuffled = np.resize(shuffled, math.ceil(len(shuffled) / BATCH) * BATCH)
            batches += [(caps, part) for part in shuffled.reshape(-1, BATCH)]
        losses = []
        for i in rng.permutation(len(batches)):
            caps, part = batches[i]
            key, now = jax.random.split(key)
            teacher = np.zeros(BATCH, np.float32) if soft is None else soft[part]
            batch = cut(task, take(tensors, part), caps)
            params, state, value = step(params, state, batch, labels[part].astype(np.float32), teacher, now)
            losses.append(value)
        logits = predict(lambda batch: forward(params, batch), task, tensors, judge)
        score = average_precision_score(labels[judge], logits)
        auc = roc_auc_score(labels[judge], logits)
        print(f"{task.name} {name} epoch {epoch + 1}/{epochs}: loss {np.mean(losses):.4f}, validation AUC {auc:.4f},"
              f" average precision {score:.4f}, {time.time() - began:.0f} s", flush=True)
        if score > best[0]:
            best = (score, jax.tree.map(np.asarray, params))
    return best[1], c, forward


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--dump", type=Path, required=True)
    arguments.add_argument("--task", choices=[t.name for t in TASKS], required=True)
    arguments.add_argument("--epochs", type=int, nargs=2, default=(6, 10), metavar=("FULL", "DISTILLED"))
    arguments.add_argument("--rate", type=float, nargs=2, default=(7e-4, 1e-3), metavar=("FULL", "DISTILLED"))
    arguments.add_argument("--out", type=Path, default=FOLDER / "models")
    given = arguments.parse_args()

    task = next(t for t in TASKS if t.name == given.task)
    raw, labels, splits, _ = read(task, given.dump)
    tensors = network.prepare(task, raw)
    learn, judge = (np.flatnonzero(splits == s) for s in ("train", "validation"))
    print(f"{task.name}: {len(learn)} to learn from, {len(judge)} to judge by", flush=True)
    given.out.mkdir(exist_ok=True)
    soft = None
    for (name, size), epochs, rate in zip(SIZES.items(), given.epochs, given.rate):
        params, c, forward = fit(task, size, tensors, labels, soft, learn, judge, epochs, rate, name)
        run = lambda batch: forward(params, batch)  # noqa: E731
        cut_at = best_cut(labels[judge], predict(run, task, tensors, judge))
        path = given.out / f"{task.name}.{name}.onnx"
        export(path, task, size, params, c, cut_at)
        print(f"{path.name}: {path.stat().st_size / 1e6:.1f} MB, says {task.labels[1]!r} from probability"
              f" {1 / (1 + math.exp(-cut_at)):.3f}", flush=True)
        if soft is None:
            soft = np.zeros(len(labels), np.float32)
            soft[learn] = predict(run, task, tensors, learn)
        rows = judge[:: max(1, len(judge) // 512)]
        logits = session(path).run(["logits"], take(raw, rows))[0]
        away = np.abs(logits[:, 1] * 2 + cut_at - predict(run, task, tensors, rows)).max()
        print(f"{path.name}: at most {away:.1e} from JAX in a logit", flush=True)
        assert away < 1e-2, "the exported graph is not the trained network"


if __name__ == "__main__":
    main()
