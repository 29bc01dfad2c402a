#!/usr/bin/env python3
"""Makes the ONNX models that `crates/engine` is tested with.

    pip install onnx onnxruntime torch transformers
    python3 scripts/onnx_models.py tiny crates/engine/tests/onnx        # committed; made again only by hand
    python3 scripts/onnx_models.py export MODEL_DIR DIRECTORY           # a model of the hub as one that ships only ONNX

`tiny` is a BERT of two layers with random weights, in float32 and in int8, some texts as token ids, and the hidden states that
Python's transformers computes for them in float64. `export` takes the weights of MODEL_DIR and copies its small files. Both
give model.onnx and model_quantized.onnx, quantised dynamically as most models on the hub are, but to seven bits: where a CPU
has no VNNI, ONNX Runtime adds pairs of products in sixteen bits, which eight of weights and eight of tokens run over.
"""

import json
import os
import pathlib
import shutil
import sys
import tempfile

import torch
import transformers

LENGTHS = [1, 2, 9, 17, 36]
CONFIG = {
    "model_type": "bert",
    "architectures": ["BertModel"],
    "vocab_size": 64,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 48,
    "max_position_embeddings": 40,
    "type_vocab_size": 2,
    "layer_norm_eps": 1e-12,
    "hidden_act": "gelu",
    "pad_token_id": 0,
}
INPUTS = ["input_ids", "attention_mask", "token_type_ids"]


class LastHiddenState(torch.nn.Module):
    """The encoder with the one output that embedding models on the hub have."""

    def __init__(self, encoder):
        super().__init__()
        self.encoder = encoder

    def forward(self, input_ids, attention_mask, token_type_ids):
        return self.encoder(
            input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids
        ).last_hidden_state


def export(encoder, to):
    """Writes model.onnx and model_quantized.onnx."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    ids = torch.ones((2, 6), dtype=torch.long)
    mask = torch.ones_like(ids)
    mask[1, 4:] = 0
    axes = {0: "texts", 1: "tokens"}
    torch.onnx.export(
        LastHiddenState(encoder).eval(),
        (ids, mask, torch.zeros_like(ids)),
        str(to / "model.onnx"),
        input_names=INPUTS,
        output_names=["last_hidden_state"],
        dynamic_axes={name: axes for name in [*INPUTS, "last_hidden_state"]},
        opset_version=17,
        dynamo=False,
    )
    with tempfile.TemporaryDirectory() as work:
        folded = fold(to / "model.onnx", pathlib.Path(work) / "folded.onnx")
        quantised = str(to / "model_quantized.onnx")
        quantize_dynamic(str(folded), quantised, per_channel=True, reduce_range=True, weight_type=QuantType.QInt8)


def fold(model, to):
    """Folds constants, so that the quantiser finds every weight beside its product."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(to)
    onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    return to


def random_encoder():
    torch.manual_seed(7)
    encoder = transformers.BertModel(
        transformers.BertConfig(**CONFIG, attn_implementation="eager"), add_pooling_layer=False
    )
    with torch.no_grad():
        # Larger than transformers initialises them, so that attention is not the same for every token.
        for name, value in encoder.named_parameters():
            center = 1.0 if name.endswith("LayerNorm.weight") else 0.0
            value.copy_(center + (torch.rand(value.shape) - 0.5) * 0.5)
    return encoder.eval()


def hidden_states(encoder, texts):
    encoder = encoder.double()
    with torch.no_grad():
        states = [encoder(torch.tensor([text])).last_hidden_state[0] for text in texts]
    return torch.cat(states).float().numpy()


def tiny(to):
    encoder = random_encoder()
    texts = [[(5 * length + 11 * place) % 63 + 1 for place in range(length)] for length in LENGTHS]
    export(encoder, to)
    (to / "config.json").write_text(json.dumps(CONFIG, indent=1) + "\n")
    (to / "texts.json").write_text(json.dumps(texts) + "\n")
    (to / "hidden.f32").write_bytes(hidden_states(encoder, texts).astype("<f4").tobytes())
    split(to)


def split(to):
    """A graph whose table lies in a second file, named as the tests of the crate see it: it must be refused."""
    import numpy
    import onnx
    from onnx import TensorProto, external_data_helper, helper, numpy_helper

    table = numpy_helper.from_array(numpy.ones((CONFIG["vocab_size"], CONFIG["hidden_size"]), "<f4"), "table")
    named = [helper.make_tensor_value_info(name, TensorProto.INT64, ["texts", "tokens"]) for name in INPUTS[:2]]
    states = helper.make_tensor_value_info("last_hidden_state", TensorProto.FLOAT, ["texts", "tokens", CONFIG["hidden_size"]])
    gather = helper.make_node("Gather", ["table", "input_ids"], ["last_hidden_state"])
    graph = helper.make_graph([gather], "split", named, [states], [table])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    external_data_helper.set_external_data(model.graph.initializer[0], "tests/onnx/split.bin")
    (to / "split.bin").write_bytes(table.raw_data)
    model.graph.initializer[0].ClearField("raw_data")
    (to / "split.onnx").write_bytes(model.SerializeToString())


def export_model(model, to):
    encoder = transformers.AutoModel.from_pretrained(model, attn_implementation="eager", add_pooling_layer=False)
    export(encoder.float().eval(), to)
    for file in ["config.json", "tokenizer.json", "modules.json", "sentence_bert_config.json", "1_Pooling/config.json"]:
        if (model / file).exists():
            (to / file).parent.mkdir(exist_ok=True)
            shutil.copyfile(model / file, to / file)


def main():
    os.environ["HF_HUB_OFFLINE"] = "1"
    command, *paths = sys.argv[1:]
    paths = [pathlib.Path(path) for path in paths]
    paths[-1].mkdir(parents=True, exist_ok=True)
    {"tiny": tiny, "export": export_model}[command](*paths)


if __name__ == "__main__":
    main()
