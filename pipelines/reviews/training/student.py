"""The distilled encoder, trained: BERT's forward pass in JAX on an `encoder.Encoder`'s weights, which it gives back changed.

It learns from labels and from the full model's probabilities, and on texts without labels from the latter alone.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax

from encoder import MASKED, Encoder

LENGTHS = (16, 32, 48, 64, 128)  # tokens that batches are padded to
BATCH = 32


def forward(w: dict, heads: int, epsilon: float, layers: int, ids, mask, dropout: float, key):
    """Logits [batch, 2]; `w` has the head as well."""

    def norm(x, name):
        mean = x.mean(-1, keepdims=True)
        deviation = jnp.sqrt(((x - mean) ** 2).mean(-1, keepdims=True) + epsilon)
        return (x - mean) / deviation * w[f"{name}.weight"] + w[f"{name}.bias"]

    def dense(x, name):
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    def drop(x, key):
        if dropout == 0.0:
            return x
        return jnp.where(jax.random.bernoulli(key, 1 - dropout, x.shape), x / (1 - dropout), 0.0)

    keys = iter(jax.random.split(key, 2 * layers + 2))
    batch, steps = ids.shape
    x = norm(w["words"][ids] + w["positions"][:steps], "norm")
    x = drop(x, next(keys))
    bias = (1.0 - mask)[:, None, None, :] * MASKED
    for at in range(layers):
        split = lambda x: x.reshape(batch, steps, heads, -1).transpose(0, 2, 1, 3)  # noqa: E731
        q, k, v = (split(dense(x, f"{at}.{part}")) for part in "qkv")
        scores = q @ k.transpose(0, 1, 3, 2) / np.sqrt(q.shape[-1]) + bias
        attended = (jax.nn.softmax(scores) @ v).transpose(0, 2, 1, 3).reshape(batch, steps, -1)
        x = norm(x + drop(dense(attended, f"{at}.o"), next(keys)), f"{at}.n")
        up = jax.nn.gelu(dense(x, f"{at}.up"), approximate=False)
        x = norm(x + drop(dense(up, f"{at}.down"), next(keys)), f"{at}.n2")
    summed = (x * mask[..., None]).sum(1)
    embedding = summed / jnp.maximum(jnp.linalg.norm(summed, axis=1, keepdims=True), 1e-12)
    return embedding @ w["head.weight"] + w["head.bias"]


def padded(ids: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
    longest = max(map(len, ids))
    length = next(cap for cap in LENGTHS if cap >= longest)
    tokens = np.zeros((len(ids), length), np.int32)
    mask = np.zeros((len(ids), length), np.float32)
    for row, text in enumerate(ids):
        tokens[row, : len(text)] = text
        mask[row, : len(text)] = 1
    return tokens, mask


def batches(ids: list[list[int]], rows: np.ndarray, rng: np.random.Generator | None):
    """Rows of like length together, whole batches only when shuffled."""
    rows = rng.permutation(rows) if rng is not None else rows
    order = rows[np.argsort([len(ids[row]) for row in rows], kind="stable")]
    parts = [order[at : at + BATCH] for at in range(0, len(order), BATCH)]
    if rng is not None:
        parts = [part for part in parts if len(part) == BATCH]
        rng.shuffle(parts)
    return parts


def train(
    encoder: Encoder,
    head: tuple[np.ndarray, np.ndarray],
    ids: list[list[int]],
    labels: np.ndarray,
    labelled: np.ndarray,
    teacher: np.ndarray,
    train_rows: np.ndarray,
    epochs: int,
    rate: float,
    score,
    seed: int = 20,
) -> tuple[Encoder, tuple[np.ndarray, np.ndarray]]:
    """`teacher` holds the probability of the second class per text; `score(probabilities)` says how good the model is on
    the validation texts, after each epoch; the best epoch is kept."""
    w = {name: jnp.asarray(value, jnp.float32) for name, value in encoder.weights.items()}
    w |= {"head.weight": jnp.asarray(head[0], jnp.float32), "head.bias": jnp.asarray(head[1], jnp.float32)}
    shape = (encoder.heads, encoder.epsilon, encoder.layers)
    rng = np.random.default_rng(seed)
    steps = epochs * len(batches(ids, train_rows, rng))
    schedule = optax.warmup_cosine_decay_schedule(0.0, rate, steps // 10, steps)
    still = ("words", "positions")  # most of the weights, and the texts touch few of them
    frozen = {name: w.pop(name) for name in still}
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(schedule, weight_decay=0.01))
    state = optimizer.init(w)

    def loss(w, frozen, tokens, mask, label, has_label, soft, key):
        logits = forward(w | frozen, *shape, tokens, mask, 0.1, key)
        log = jax.nn.log_softmax(logits)
        distilled = -(soft * log[:, 1] + (1 - soft) * log[:, 0])
        own = -jnp.take_along_axis(log, label[:, None], 1)[:, 0]
        return jnp.where(has_label, 0.5 * own + 0.5 * distilled, distilled).mean()

    @jax.jit
    def step(w, state, frozen, tokens, mask, label, has_label, soft, key):
        value, gradient = jax.value_and_grad(loss)(w, frozen, tokens, mask, label, has_label, soft, key)
        updates, state = optimizer.update(gradient, state, w)
        return optax.apply_updates(w, updates), state, value

    key = jax.random.key(seed)
    run = jax.jit(lambda w, frozen, tokens, mask: forward(w | frozen, *shape, tokens, mask, 0.0, jax.random.key(0)))
    everything = np.arange(len(ids))
    best, kept = -1.0, w
    for epoch in range(epochs):
        total = 0.0
        parts = batches(ids, train_rows, rng)
        for part in parts:
            tokens, mask = padded([ids[row] for row in part])
            key, now = jax.random.split(key)
            w, state, value = step(
                w, state, frozen, tokens, mask, labels[part].astype(np.int32), labelled[part], teacher[part].astype(np.float32), now
            )
            total += float(value)
        probabilities = np.full(len(ids), np.nan)
        rows = everything[score.needs]
        for part in batches(ids, rows, None):
            tokens, mask = padded([ids[row] for row in part])
            fill = BATCH - len(part)
            tokens, mask = np.pad(tokens, ((0, fill), (0, 0))), np.pad(mask, ((0, fill), (0, 0)))
            probabilities[part] = jax.nn.softmax(run(w, frozen, tokens, mask))[: len(part), 1]
        value = score(probabilities)
        print(f"  epoch {epoch + 1} of {epochs}: loss {total / len(parts):.4f}, validation {value:.4f}", flush=True)
        if value > best:
            best, kept = value, w
    trained = {name: np.asarray(value) for name, value in (kept | frozen).items()}
    head = (trained.pop("head.weight"), trained.pop("head.bias"))
    return Encoder(**{**encoder.__dict__, "weights": trained}), head
