"""The transformer encoder, full and distilled, in JAX. export.py writes the same computation as an ONNX graph.

A row is one token, every earlier order or purchase is another, in no particular order: its age is a feature. There
are no position embeddings, so padding is only a matter of the mask. The answer is read from the row's token, and
the last layer computes nothing but that token.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.tree import DecisionTreeClassifier

from tasks import Task, vocabulary

EMBEDDING = 8
NEVER = -1e9  # added to the attention that padding would get


@dataclass(frozen=True)
class Size:
    layers: int
    width: int
    heads: int
    hidden: int


def scaling(values: np.ndarray) -> dict[str, np.ndarray]:
    """Mean and deviation of columns, plain and under log1p, over training rows."""
    logs = np.log1p(np.maximum(values, 0))
    return {
        "mean": values.mean(0), "inverse": 1 / (values.std(0) + 1e-3),
        "log_mean": logs.mean(0), "log_inverse": 1 / (logs.std(0) + 1e-3),
    }


def waves(columns: tuple[str, ...], wanted) -> dict[str, np.ndarray]:
    """Which column each wave follows, and how fast it turns."""
    return {
        "wave_of": np.array([columns.index(column) for column, _ in wanted], np.int64),
        "wave": np.array([2 * np.pi / period for _, period in wanted]),
    }


def edges(columns: tuple[str, ...], found: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Which column each edge lies on, and where."""
    here = [(columns.index(column), edge) for column in found if column in columns for edge in found[column]]
    return {"edge_of": np.array([i for i, _ in here], np.int64), "edge": np.array([e for _, e in here])}


def constants(task: Task, tensors: dict[str, np.ndarray], labels: np.ndarray) -> dict:
    """What features need: learned from training rows beforehand, not by gradient."""
    found = {}
    for column in task.stepped:
        # Where a small decision tree would cut this column (after Gorishniy et al. 2022, "On Embeddings for
        # Numerical Features"): a network alone blurs a sharp edge.
        tree = DecisionTreeClassifier(max_leaf_nodes=8, min_samples_leaf=500, random_state=0)
        tree.fit(tensors[task.matrix][:, [task.columns.index(column)]], labels)
        found[column] = np.sort(tree.tree_.threshold[tree.tree_.feature >= 0])
    c = {task.matrix: scaling(tensors[task.matrix]) | waves(task.columns, task.waves) | edges(task.columns, found)}
    for s in task.sequences:
        steps = tensors[s.name][tensors[f"{s.name}_mask"]]
        c[s.name] = scaling(steps) | waves(s.columns, task.sequence_waves) | edges(s.columns, found)
    return jax.tree.map(lambda x: x if x.dtype == np.int64 else np.asarray(x, np.float32), c)


def features(x, c):
    """[…, columns] → […, features]: scaled, scaled logarithm, whether negative (missing), waves, edges passed."""
    parts = [
        jnp.clip((x - c["mean"]) * c["inverse"], -5, 5),
        (jnp.log1p(jnp.maximum(x, 0)) - c["log_mean"]) * c["log_inverse"],
        (x < 0).astype(jnp.float32),
    ]
    if len(c["wave"]):
        angle = x[..., c["wave_of"]] * c["wave"]
        parts += [jnp.sin(angle), jnp.cos(angle)]
    if len(c["edge"]):
        parts.append((x[..., c["edge_of"]] > c["edge"]).astype(jnp.float32))
    return jnp.concatenate(parts, -1)


DAY = 86_400.0
PERIODS = (DAY, 7 * DAY)


def clock(seconds: np.ndarray) -> np.ndarray:
    """Sine and cosine of the hour and of the weekday. In double: a float cannot tell seconds since 1970 apart."""
    angles = [(2 * np.pi / p * (seconds - p * np.floor(seconds / p))).astype(np.float32) for p in PERIODS]
    return np.stack([f(a) for a in angles for f in (np.sin, np.cos)], -1).astype(np.float32)


def prepare(task: Task, tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Tensors as the network below takes them: JAX has no doubles by default."""
    if not task.instant:
        return tensors
    return {k: v for k, v in tensors.items() if k != task.instant} | {"clock": clock(tensors[task.instant])}


def start(key, task: Task, size: Size, c: dict) -> dict:
    """Random parameters. Layers are stacked, so that JAX compiles one of them."""
    keys = iter(jax.random.split(key, 64))

    def dense(fan_in: int, fan_out: int, stacked: int | None = None, scale: float = 1.0):
        shape = (fan_in, fan_out) if stacked is None else (stacked, fan_in, fan_out)
        weights = jax.random.normal(next(keys), shape) * scale / np.sqrt(fan_in)
        return {"w": weights, "b": jnp.zeros(shape[:-2] + (fan_out,))}

    def norm(stacked: int | None = None):
        shape = (size.width,) if stacked is None else (stacked, size.width)
        return {"g": jnp.ones(shape), "b": jnp.zeros(shape)}

    def width_of(name: str, columns) -> int:
        return 3 * len(columns) + 2 * len(c[name]["wave"]) + len(c[name]["edge"])

    row = width_of(task.matrix, task.columns) + EMBEDDING * len(task.categories)
    row += 2 * len(PERIODS) if task.instant else 0
    deep = 1 / np.sqrt(2 * size.layers)
    return {
        "embeddings": {
            n: 0.1 * jax.random.normal(next(keys), (len(vocabulary(n)), EMBEDDING)) for n in task.categories
        },
        "row": dense(row, size.width),
        "steps": {s.name: dense(width_of(s.name, s.columns), size.width) for s in task.sequences},
        "layers": {
            "norm1": norm(size.layers), "qkv": dense(size.width, 3 * size.width, size.layers),
            "out": dense(size.width, size.width, size.layers, deep), "norm2": norm(size.layers),
            "up": dense(size.width, size.hidden, size.layers),
            "down": dense(size.hidden, size.width, size.layers, deep),
        },
        "norm": norm(),
        "head": dense(size.width, 1, scale=0.1),
    }


def apply(dense, x):
    return x @ dense["w"] + dense["b"]


def normed(norm, x):
    mean = x.mean(-1, keepdims=True)
    variance = jnp.square(x - mean).mean(-1, keepdims=True)
    return (x - mean) * jax.lax.rsqrt(variance + 1e-5) * norm["g"] + norm["b"]


def forward(p: dict, c: dict, task: Task, size: Size, tensors: dict, drop=None):
    """Logit of the second label, [N]. `drop` is a key that hides categories at random while training."""
    row = [features(tensors[task.matrix], c[task.matrix])]
    if task.instant:
        row.append(tensors["clock"])
    for i, name in enumerate(task.categories):
        index = tensors[name]
        if drop is not None:
            index = jnp.where(jax.random.bernoulli(jax.random.fold_in(drop, i), 0.3, index.shape), 0, index)
        row.append(p["embeddings"][name][index])
    tokens = [apply(p["row"], jnp.concatenate(row, -1))[:, None]]
    masks = [jnp.ones(tokens[0].shape[:2], bool)]
    for s in task.sequences:
        tokens.append(apply(p["steps"][s.name], features(tensors[s.name], c[s.name])))
        masks.append(tensors[f"{s.name}_mask"])
    x = jnp.concatenate(tokens, 1)
    bias = jnp.where(jnp.concatenate(masks, 1), 0.0, NEVER)[:, None, None]
    each = size.width // size.heads

    def attend(q, k, v):
        q, k, v = (t.reshape(*t.shape[:2], size.heads, each).transpose(0, 2, 1, 3) for t in (q, k, v))
        weights = jax.nn.softmax(q @ k.transpose(0, 1, 3, 2) / np.sqrt(each) + bias, -1)
        return (weights @ v).transpose(0, 2, 1, 3).reshape(q.shape[0], -1, size.width)

    def layer(x, l, only_row=False):
        q, k, v = jnp.split(apply(l["qkv"], normed(l["norm1"], x)), 3, -1)
        if only_row:
            x, q = x[:, :1], q[:, :1]
        x = x + apply(l["out"], attend(q, k, v))
        return x + apply(l["down"], jax.nn.relu(apply(l["up"], normed(l["norm2"], x))))

    all_but_last = jax.tree.map(lambda t: t[:-1], p["layers"])
    x, _ = jax.lax.scan(lambda x, l: (layer(x, l), None), x, all_but_last)
    x = layer(x, jax.tree.map(lambda t: t[-1], p["layers"]), only_row=True)
    return apply(p["head"], normed(p["norm"], x[:, 0]))[:, 0]
