"""network.py's forward pass as an ONNX graph, built node by node: scaling, embeddings and waves included, so that
the pipeline file only names fields. Batch and steps are dynamic. Constants that can be folded are folded here: the
norm's gain into the next weights, the attention's scale into the queries."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from network import NEVER, PERIODS, Size
from tasks import Task

OPSET = 17


class Graph:
    def __init__(self) -> None:
        self.nodes: list = []
        self.constants: dict[tuple, tuple[str, np.ndarray]] = {}

    def constant(self, value, dtype=np.float32) -> str:
        value = np.asarray(value, dtype)
        key = (value.dtype.str, value.shape, value.tobytes())
        if key not in self.constants:
            self.constants[key] = (f"c{len(self.constants)}", value)
        return self.constants[key][0]

    def __call__(self, op: str, *inputs: str, outputs: int = 1, name: str | None = None, **attributes):
        names = [name or f"{op.lower()}_{len(self.nodes)}_{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(op, list(inputs), names, **attributes))
        return names[0] if outputs == 1 else names

    def dense(self, x: str, w, b) -> str:
        return self("Add", self("MatMul", x, self.constant(w)), self.constant(b))

    def norm(self, x: str) -> str:
        """Normalised, without gain and shift: those are in the next weights."""
        width = self.width
        return self("LayerNormalization", x, self.constant(np.ones(width)), self.constant(np.zeros(width)),
                    axis=-1, epsilon=1e-5)


def folded(norm: dict, dense: dict) -> tuple[np.ndarray, np.ndarray]:
    g, b, w = (np.asarray(t, np.float64) for t in (norm["g"], norm["b"], dense["w"]))
    return g[:, None] * w, b @ w + np.asarray(dense["b"], np.float64)


def features(g: Graph, x: str, c: dict) -> str:
    scaled = g("Mul", g("Sub", x, g.constant(c["mean"])), g.constant(c["inverse"]))
    logs = g("Log", g("Add", g("Relu", x), g.constant(1.0)))
    parts = [
        g("Clip", scaled, g.constant(-5.0), g.constant(5.0)),
        g("Mul", g("Sub", logs, g.constant(c["log_mean"])), g.constant(c["log_inverse"])),
        g("Cast", g("Less", x, g.constant(0.0)), to=TensorProto.FLOAT),
    ]
    if len(c["wave"]):
        # Columns are gathered, not multiplied out: a GPU may round a product's factors to ten bits.
        angle = g("Mul", g("Gather", x, g.constant(c["wave_of"], np.int64), axis=-1), g.constant(c["wave"]))
        parts += [g("Sin", angle), g("Cos", angle)]
    if len(c["edge"]):
        passed = g("Greater", g("Gather", x, g.constant(c["edge_of"], np.int64), axis=-1), g.constant(c["edge"]))
        parts.append(g("Cast", passed, to=TensorProto.FLOAT))
    return g("Concat", *parts, axis=-1)


def clock(g: Graph, seconds: str) -> str:
    seconds = g("Unsqueeze", seconds, g.constant([-1], np.int64))
    parts = []
    for period in PERIODS:
        p = g.constant(period, np.float64)
        into = g("Sub", seconds, g("Mul", p, g("Floor", g("Div", seconds, p))))
        angle = g("Cast", g("Mul", into, g.constant(2 * np.pi / period, np.float64)), to=TensorProto.FLOAT)
        parts += [g("Sin", angle), g("Cos", angle)]
    return g("Concat", *parts, axis=-1)


def build(task: Task, size: Size, p: dict, c: dict, cut: float) -> onnx.ModelProto:
    g = Graph()
    g.width = size.width
    given = [helper.make_tensor_value_info(task.matrix, TensorProto.FLOAT, ["batch", len(task.columns)])]
    row = [features(g, task.matrix, c[task.matrix])]
    if task.instant:
        given.append(helper.make_tensor_value_info(task.instant, TensorProto.DOUBLE, ["batch"]))
        row.append(clock(g, task.instant))
    for name in task.categories:
        given.append(helper.make_tensor_value_info(name, TensorProto.INT64, ["batch"]))
        row.append(g("Gather", g.constant(p["embeddings"][name]), name))
    whole = g("Concat", *row, axis=-1) if len(row) > 1 else row[0]
    first = g("Unsqueeze", g.dense(whole, p["row"]["w"], p["row"]["b"]), g.constant([1], np.int64))
    tokens = [first]
    # The row's own token is always there: a column of true, as long as the batch.
    always = g("Greater", g("Slice", g("ReduceSum", first, g.constant([-1], np.int64), keepdims=0),
                            g.constant([0], np.int64), g.constant([1], np.int64), g.constant([1], np.int64)),
               g.constant(-np.inf))
    masks = [always]
    for s in task.sequences:
        given.append(helper.make_tensor_value_info(
            s.name, TensorProto.FLOAT, ["batch", f"{s.name}_steps", len(s.columns)]))
        given.append(helper.make_tensor_value_info(
            f"{s.name}_mask", TensorProto.BOOL, ["batch", f"{s.name}_steps"]))
        dense = p["steps"][s.name]
        tokens.append(g.dense(features(g, s.name, c[s.name]), dense["w"], dense["b"]))
        masks.append(f"{s.name}_mask")
    x = g("Concat", *tokens, axis=1)
    bias = g("Where", g("Concat", *masks, axis=1), g.constant(0.0), g.constant(NEVER))
    bias = g("Unsqueeze", bias, g.constant([1, 2], np.int64))

    each = size.width // size.heads
    heads = g.constant([0, 0, size.heads, each], np.int64)
    joined = g.constant([0, 0, size.width], np.int64)

    def split_heads(t: str, perm: list[int]) -> str:
        return g("Transpose", g("Reshape", t, heads), perm=perm)

    layers = {k: {n: np.asarray(v) for n, v in t.items()} for k, t in p["layers"].items()}
    for i in range(size.layers):
        l = {k: {n: v[i] for n, v in t.items()} for k, t in layers.items()}
        w, b = folded(l["norm1"], l["qkv"])
        w[:, : size.width] /= np.sqrt(each)
        b[: size.width] /= np.sqrt(each)
        n = g.norm(x)
        if i + 1 < size.layers:
            q, k, v = g("Split", g.dense(n, w, b), g.constant([size.width] * 3, np.int64), outputs=3, axis=-1)
        else:  # only the row's token is read from the last layer
            ends = [g.constant([v], np.int64) for v in (0, 1, 1)]
            q = g.dense(g("Slice", n, *ends), w[:, : size.width], b[: size.width])
            k, v = g("Split", g.dense(n, w[:, size.width :], b[size.width :]),
                     g.constant([size.width] * 2, np.int64), outputs=2, axis=-1)
            x = g("Slice", x, *ends)
        q, k, v = split_heads(q, [0, 2, 1, 3]), split_heads(k, [0, 2, 3, 1]), split_heads(v, [0, 2, 1, 3])
        weights = g("Softmax", g("Add", g("MatMul", q, k), bias), axis=-1)
        mixed = g("Reshape", g("Transpose", g("MatMul", weights, v), perm=[0, 2, 1, 3]), joined)
        x = g("Add", x, g.dense(mixed, l["out"]["w"], l["out"]["b"]))
        w, b = folded(l["norm2"], l["up"])
        x = g("Add", x, g.dense(g("Relu", g.dense(g.norm(x), w, b)), l["down"]["w"], l["down"]["b"]))
    w, b = folded(p["norm"], p["head"])
    row_token = g("Squeeze", x, g.constant([1], np.int64))
    logit = g.dense(g.norm(row_token), w, b)
    # Half the distance to the threshold, both ways: softmax says the second label from the threshold on.
    half = g("Mul", g("Sub", logit, g.constant(cut)), g.constant(0.5))
    g("Concat", g("Neg", half), half, axis=-1, name="logits")
    answers = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 2])]
    if task.probability:
        g("Sigmoid", g("Squeeze", logit, g.constant([1], np.int64)), name="probability")
        answers.append(helper.make_tensor_value_info("probability", TensorProto.FLOAT, ["batch"]))
    tensors = [numpy_helper.from_array(value, name) for name, value in g.constants.values()]
    graph = helper.make_graph(g.nodes, task.name, given, answers, tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
    helper.set_model_props(model, {"task": task.name, "labels": ",".join(task.labels), "threshold_logit": f"{cut:.6f}"})
    onnx.checker.check_model(model, full_check=True)
    return model


def export(path: Path, task: Task, size: Size, params: dict, constants: dict, cut: float) -> None:
    path.write_bytes(build(task, size, params, constants, cut).SerializeToString())
