"""What the two tasks feed to a model: the contract that pipeline.yaml states, in Python.

The events come out of `reference-events dump`, histories included, so that this file only picks columns. A matrix
input is a list of columns; a sequence is a list of columns per step, the most recent step last.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

FOLDER = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Sequence:
    name: str  # the tensor; its mask is `<name>_mask`
    field: str  # the event's list
    keep_last: int
    columns: tuple[str, ...]
    missing: dict[str, float]


@dataclass(frozen=True)
class Task:
    name: str
    events: str  # file of the dump
    matrix: str  # tensor [N, columns]
    columns: tuple[str, ...]
    missing: dict[str, float]
    sequences: tuple[Sequence, ...]
    categories: tuple[str, ...] = ()  # tensors [N] of int64, each with a vocabulary file
    instant: str | None = None  # tensor [N] of double, epoch seconds
    waves: tuple[tuple[str, float], ...] = ()  # (column, period): sine and cosine of a column
    sequence_waves: tuple[tuple[str, float], ...] = ()
    stepped: tuple[str, ...] = ()  # columns of the matrix, and of the same name in sequences, that may have sharp edges
    labels: tuple[str, str] = ("no", "yes")
    probability: bool = False  # whether there is an output `probability` besides `logits`


PAST_ORDER = ("amount", "age_s", "fraud", "other_legitimate", "other_frauds")
AMOUNT_WAVES = tuple(("amount", 200_000.0 / 2**k) for k in range(4))

ORDER_RISK = Task(
    name="order-risk",
    events="orders.jsonl",
    matrix="row",
    columns=(
        "amount", "customer_present", "lat", "lng",
        "card_orders", "card_labelled", "card_frauds",
        "store_orders", "store_labelled", "store_frauds",
    ),
    missing={},
    sequences=(
        Sequence("card_history", "card_recent", 8, PAST_ORDER, {"fraud": -1.0}),
        Sequence("store_history", "store_recent", 12, PAST_ORDER, {"fraud": -1.0}),
    ),
    categories=("currency", "country", "provider"),
    instant="placed_at",
    waves=AMOUNT_WAVES,
    sequence_waves=AMOUNT_WAVES,
    stepped=("amount",),
    labels=("legitimate", "fraudulent"),
)

REPEAT_PURCHASE = Task(
    name="repeat-purchase",
    events="purchases.jsonl",
    matrix="summary",
    columns=("units", "dollars", "frequency", "recency_days", "tenure_days", "spend"),
    missing={"recency_days": -1.0},
    sequences=(Sequence("history", "recent", 16, ("age_days", "units", "dollars"), {}),),
    labels=("leaves", "returns"),
    probability=True,
)

TASKS = (ORDER_RISK, REPEAT_PURCHASE)


def vocabulary(name: str) -> list[str]:
    """One word per line; the line's number, from 0, is the index, and line 0 stands for every other word."""
    return (FOLDER / "vocabularies" / f"{name}.txt").read_text(encoding="utf-8").splitlines()


def read(task: Task, dump: Path) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray, list[dict]]:
    """Inputs by tensor name, labels (-1: unknown), splits, and the events themselves."""
    with open(dump / task.events, encoding="utf-8") as lines:
        known = [json.loads(line) for line in lines]
    events = [line["event"] for line in known]
    labels = np.array([-1 if line["label"] is None else int(line["label"]) for line in known], np.int32)
    splits = np.array([line["split"] for line in known])
    return inputs(task, events), labels, splits, events


def inputs(task: Task, events: list[dict]) -> dict[str, np.ndarray]:
    """The tensors of many events, sequences padded to their longest."""

    def number(record: dict, column: str, missing: dict[str, float]) -> float:
        value = record[column]
        return missing[column] if value is None else float(value)

    tensors: dict[str, np.ndarray] = {
        task.matrix: np.array([[number(e, c, task.missing) for c in task.columns] for e in events], np.float32)
    }
    for name in task.categories:
        index = {word: i for i, word in enumerate(vocabulary(name))}
        tensors[name] = np.array([index.get(e[name], 0) for e in events], np.int64)
    if task.instant:
        tensors[task.instant] = np.array([e[task.instant] / 1000.0 for e in events], np.float64)
    for sequence in task.sequences:
        lists = [e[sequence.field][-sequence.keep_last:] for e in events]
        steps = max(map(len, lists), default=0)
        values = np.zeros((len(events), steps, len(sequence.columns)), np.float32)
        mask = np.zeros((len(events), steps), bool)
        for i, past in enumerate(lists):
            for j, record in enumerate(past):
                values[i, j] = [number(record, c, sequence.missing) for c in sequence.columns]
            mask[i, : len(past)] = True
        tensors[sequence.name], tensors[f"{sequence.name}_mask"] = values, mask
    return tensors


def take(tensors: dict[str, np.ndarray], rows: np.ndarray) -> dict[str, np.ndarray]:
    return {name: tensor[rows] for name, tensor in tensors.items()}
