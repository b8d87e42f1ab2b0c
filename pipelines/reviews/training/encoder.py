"""Builds text classifiers as ONNX graphs from an encoder's weights: `mpnet` (all-mpnet-base-v2) and `bert` (MiniLM).

Inputs `input_ids` and `attention_mask`, int64[batch, steps]; outputs `logits`, f32[batch, classes], and, while there is no
head yet, `embedding`, f32[batch, width]: the mean of the last layer over the tokens that the mask keeps, of length 1.

Attention, the layer norms and the activations are ONNX Runtime's own operators (com.microsoft), which have kernels on the
CPU and on CUDA in f32 and f16. No node depends on the batch's numbers for its shape, so that a run can be captured as a
CUDA graph.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

MS = "com.microsoft"
OPSET = 17
# Added to the attention scores of what the mask leaves out. f16 holds it, and its exponential is 0 in both types.
MASKED = -10_000.0


@dataclass(frozen=True)
class Encoder:
    """An encoder's weights, by the names that both architectures are brought to."""

    kind: str  # mpnet or bert
    layers: int
    width: int
    heads: int
    epsilon: float
    longest: int  # tokens
    weights: dict[str, np.ndarray]


def read(kind: str, config: dict, weights: dict[str, np.ndarray], longest: int) -> Encoder:
    """`weights` as the checkpoint names them."""
    strip = {name.removeprefix("mpnet.").removeprefix("bert."): w for name, w in weights.items()}
    attention = (
        {"q": "attention.attn.q", "k": "attention.attn.k", "v": "attention.attn.v", "o": "attention.attn.o", "n": "attention.LayerNorm"}
        if kind == "mpnet"
        else {
            "q": "attention.self.query",
            "k": "attention.self.key",
            "v": "attention.self.value",
            "o": "attention.output.dense",
            "n": "attention.output.LayerNorm",
        }
    )
    parts = attention | {"up": "intermediate.dense", "down": "output.dense", "n2": "output.LayerNorm"}
    ours = {"words": strip["embeddings.word_embeddings.weight"]}
    for side in ("weight", "bias"):
        ours[f"norm.{side}"] = strip[f"embeddings.LayerNorm.{side}"]
    positions = strip["embeddings.position_embeddings.weight"]
    if kind == "mpnet":
        # Its first two positions are for padding, which the mask leaves out.
        ours["positions"] = positions[2 : 2 + longest]
        ours["relative"] = strip["encoder.relative_attention_bias.weight"]
    else:
        # There is one kind of token here, so its embedding is a constant.
        ours["positions"] = positions[:longest] + strip["embeddings.token_type_embeddings.weight"][0]
    for at in range(config["num_hidden_layers"]):
        for our, their in parts.items():
            for side in ("weight", "bias"):
                ours[f"{at}.{our}.{side}"] = strip[f"encoder.layer.{at}.{their}.{side}"]
    return Encoder(
        kind=kind,
        layers=config["num_hidden_layers"],
        width=config["hidden_size"],
        heads=config["num_attention_heads"],
        epsilon=config["layer_norm_eps"],
        longest=longest,
        weights=ours,
    )


def relative_bias(table: np.ndarray, longest: int, farthest: int = 128) -> np.ndarray:
    """MPNet's bias per head and pair of positions, [1, heads, longest, longest]: nearby distances have a bucket each,
    farther ones share buckets that grow with their logarithm."""
    half = table.shape[0] // 2
    exact = half // 2
    at = np.arange(longest)
    distance = at[:, None] - at[None, :]
    far = np.abs(distance)
    with np.errstate(divide="ignore"):
        scaled = np.log(far / exact) / math.log(farthest / exact) * (half - exact)
    shared = np.minimum(exact + np.where(far > 0, scaled, 0.0).astype(np.int64), half - 1)
    bucket = (distance < 0) * half + np.where(far < exact, far, shared)
    return table[bucket].transpose(2, 0, 1)[None]


class Graph:
    """Nodes and constants, written one after the other."""

    def __init__(self, half: bool) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.real = np.float16 if half else np.float32
        self.real_type = TensorProto.FLOAT16 if half else TensorProto.FLOAT

    def constant(self, name: str, value: np.ndarray) -> str:
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def weight(self, name: str, value: np.ndarray) -> str:
        return self.constant(name, value.astype(self.real))

    def node(self, operator: str, inputs: list[str], output: str, domain: str = "", **attributes) -> str:
        self.nodes.append(helper.make_node(operator, inputs, [output], name=output, domain=domain, **attributes))
        return output


def build(
    encoder: Encoder,
    head: tuple[np.ndarray, np.ndarray] | None,
    half: bool,
    metadata: dict[str, str],
) -> onnx.ModelProto:
    """`head`: weights [width, classes] and bias [classes] on the embedding; none: the embedding is the output."""
    g, w = Graph(half), encoder.weights
    axis = {n: g.constant(f"axis{n}", np.array([n], np.int64)) for n in (0, 1, 2)}

    # Embeddings, and the positions that the batch has.
    g.node("Shape", ["input_ids"], "steps", start=1, end=2)
    words = g.node("Gather", [g.weight("words", w["words"]), "input_ids"], "words_of")
    positions = g.node("Slice", [g.weight("positions", w["positions"][None]), axis[0], "steps", axis[1]], "positions_of")
    g.node("Add", [words, positions], "embedded")
    x = g.node(
        "LayerNormalization",
        ["embedded", g.weight("norm.weight", w["norm.weight"]), g.weight("norm.bias", w["norm.bias"])],
        "layer_in",
        axis=-1,
        epsilon=encoder.epsilon,
    )

    # What is added to the attention scores: 0 for a token that the mask keeps, else MASKED; MPNet's distances.
    kept = g.node("Cast", ["attention_mask"], "kept", to=g.real_type)
    g.node("Sub", [kept, g.weight("one", np.array(1.0))], "left_out")
    g.node("Mul", ["left_out", g.weight("penalty", np.array(-MASKED))], "mask_bias")
    g.constant("axes12", np.array([1, 2], np.int64))
    g.node("Unsqueeze", ["mask_bias", "axes12"], "mask_bias_4d")
    # For BERT it is 0, and gives every query a row.
    by_distance = relative_bias(w["relative"], encoder.longest) if "relative" in w else np.zeros((1, 1, encoder.longest, 1))
    relative = g.node("Slice", [g.weight("relative", by_distance), axis[0], "steps", axis[2]], "relative_rows")
    if "relative" in w:
        axis3 = g.constant("axis3", np.array([3], np.int64))
        relative = g.node("Slice", [relative, axis[0], "steps", axis3], "relative_of")
    bias = g.node("Add", ["mask_bias_4d", relative], "attention_bias")

    for at in range(encoder.layers):
        p = f"{at}."

        def dense(part: str, x: str, p: str = p) -> str:
            return g.node("MatMul", [x, g.weight(f"{p}{part}.weight", w[f"{p}{part}.weight"].T)], f"{p}{part}")

        qkv = np.concatenate([w[f"{p}{part}.bias"] for part in "qkv"])
        attended = g.node(
            "MultiHeadAttention",
            [dense("q", x), dense("k", x), dense("v", x), g.weight(f"{p}qkv.bias", qkv), "", bias],
            f"{p}attended",
            domain=MS,
            num_heads=encoder.heads,
        )

        def norm(part: str, inputs: list[str], dense_part: str, p: str = p) -> str:
            names = [g.weight(f"{p}{part}.{side}", w[f"{p}{part}.{side}"]) for side in ("weight", "bias")]
            names.append(g.weight(f"{p}{dense_part}.bias", w[f"{p}{dense_part}.bias"]))
            return g.node("SkipLayerNormalization", [*inputs, *names], f"{p}{part}", domain=MS, epsilon=encoder.epsilon)

        x = norm("n", [dense("o", attended), x], "o")
        up = g.node("BiasGelu", [dense("up", x), g.weight(f"{p}up.bias", w[f"{p}up.bias"])], f"{p}gelu", domain=MS)
        x = norm("n2", [dense("down", up), x], "down")

    # The sum over the tokens that the mask keeps, of length 1: the mean's length would be divided away. In f32, since a sum
    # of many f16 loses digits. A row without tokens fills up a batch, and nobody reads its answer.
    last = g.node("Cast", [x], "last", to=TensorProto.FLOAT) if half else x
    share = g.node("Cast", ["attention_mask"], "share", to=TensorProto.FLOAT)
    g.node("Unsqueeze", [share, axis[1]], "share_3d")
    g.node("MatMul", ["share_3d", last], "summed_3d")
    g.node("Squeeze", ["summed_3d", axis[1]], "summed")
    g.node("ReduceL2", ["summed"], "length", axes=[1], keepdims=1)
    g.node("Max", ["length", g.constant("least", np.array([1e-12], np.float32))], "length_or_little")
    embedding = g.node("Div", ["summed", "length_or_little"], "embedding")
    outputs = [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", encoder.width])]
    if head is not None:
        weights, offset = head
        g.constant("head.weight", weights.astype(np.float32))
        g.constant("head.bias", offset.astype(np.float32))
        g.node("Gemm", [embedding, "head.weight", "head.bias"], "logits")
        outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", weights.shape[1]])]

    inputs = [
        helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "steps"])
        for name in ("input_ids", "attention_mask")
    ]
    graph = helper.make_graph(g.nodes, encoder.kind, inputs, outputs, g.constants)
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET), helper.make_opsetid(MS, 1)], ir_version=9
    )
    helper.set_model_props(model, metadata)
    onnx.checker.check_model(model)
    return model
