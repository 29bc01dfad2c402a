#!/usr/bin/env python3
"""Writes the small encoders that `crates/engine` is tested against: for each kind of model a config.json, the names and
shapes of its tensors, some texts as token ids, and the hidden states that Python's transformers computes for them.

    pip install torch transformers
    python3 scripts/golden_encoders.py crates/engine/tests/encoders

Weights are not written. Both sides make them from the name of a tensor: FNV-1a of the name starts a SplitMix64, of which
each number gives 24 bits in [-1, 1). Hidden states are computed in float64 and written as float32.
"""

import json
import pathlib
import sys

import numpy
import torch
import transformers

LENGTHS = [1, 2, 17, 33, 70]
VOCABULARY = 101
# Ids that texts are made of: special tokens are below, RoBERTa's and MPNet's padding among them.
FIRST_ID = 4


def fnv1a(text):
    """The 64-bit FNV-1a hash of a name."""
    value = 0xCBF29CE484222325
    for byte in text.encode():
        value = (value ^ byte) * 0x100000001B3 % 2**64
    return value


def uniform(seed, count):
    """`count` numbers in [-1, 1) that SplitMix64 gives from `seed`; each is exact in float32."""
    with numpy.errstate(over="ignore"):
        state = numpy.uint64(seed) + numpy.arange(1, count + 1, dtype=numpy.uint64) * numpy.uint64(0x9E3779B97F4A7C15)
        state = (state ^ (state >> numpy.uint64(30))) * numpy.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> numpy.uint64(27))) * numpy.uint64(0x94D049BB133111EB)
        state = state ^ (state >> numpy.uint64(31))
    return (state >> numpy.uint64(40)).astype(numpy.float32) / numpy.float32(2**23) - numpy.float32(1)


def weight(name, shape):
    """The tensor of this name: norms around one, embeddings larger than linear layers."""
    values = uniform(fnv1a(name), int(numpy.prod(shape)))
    is_norm = "norm" in name.lower() or "emb_ln" in name
    if is_norm and name.endswith(".weight"):
        values = numpy.float32(1) + values * numpy.float32(0.25)
    elif "embeddings" in name or "relative" in name:
        values = values * numpy.float32(0.5)
    else:
        values = values * numpy.float32(0.25)
    return torch.from_numpy(values.reshape(shape))


def texts(lengths, special):
    """Texts of these lengths. The last has the token `special` in its midst."""
    made = [(uniform(length, length) + 1) / 2 * (VOCABULARY - FIRST_ID) + FIRST_ID for length in lengths]
    made = [[int(number) for number in text] for text in made]
    made[-1][len(made[-1]) // 2] = special
    return made


def nomic_names(name):
    """The name of a tensor of transformers in the files of nomic-ai: one or several tensors become one."""
    for theirs, own in [
        ("layers.", "encoder.layers."),
        ("embeddings.LayerNorm", "emb_ln"),
        ("self_attn.o_proj", "attn.out_proj"),
        ("up_proj", "fc11"),
        ("gate_proj", "fc12"),
        ("down_proj", "fc2"),
        ("post_attention_layernorm", "norm1"),
        ("post_mlp_layernorm", "norm2"),
    ]:
        name = name.replace(theirs, own)
    return name


def file_tensors(model, kind):
    """Names and shapes as they are in a file, and the state dict of `model` filled with their values."""
    tensors, state = {}, {}
    for name, value in model.state_dict().items():
        if "position_ids" in name or "pooler" in name:
            state[name] = value
            continue
        if kind == "nomic_bert":
            for part, projection in enumerate(["q_proj", "k_proj", "v_proj"]):
                if projection in name:
                    own = nomic_names(name.replace(f"self_attn.{projection}", "attn.Wqkv"))
                    tensors[own] = [3 * value.shape[0], value.shape[1]]
                    state[name] = weight(own, tensors[own]).chunk(3)[part]
                    break
            else:
                own = nomic_names(name)
                tensors[own] = list(value.shape)
                state[name] = weight(own, value.shape)
        else:
            tensors[name] = list(value.shape)
            state[name] = weight(name, value.shape)
    return tensors, state


def hidden_states(make, state, ids):
    """The last hidden states of one text, by a model of its own: rotary scaling remembers earlier texts."""
    model = make().double().eval()
    model.load_state_dict({name: value.double() for name, value in state.items()})
    with torch.no_grad():
        return model(torch.tensor([ids])).last_hidden_state[0].numpy().astype(numpy.float32)


def bert_config(**changes):
    config = {
        "vocab_size": VOCABULARY,
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 96,
        "max_position_embeddings": 80,
        "type_vocab_size": 2,
        "layer_norm_eps": 1e-12,
        "hidden_act": "gelu",
        "pad_token_id": 0,
    }
    return config | changes


def encoders():
    """For each encoder: name, config.json, how transformers makes it, lengths of texts, a special token."""
    t = transformers
    bert = bert_config()
    yield "bert", bert, lambda: t.BertModel(t.BertConfig(**bert), add_pooling_layer=False), LENGTHS, 0
    roberta = bert_config(type_vocab_size=1, max_position_embeddings=72, pad_token_id=1, layer_norm_eps=1e-5)
    yield "roberta", roberta, lambda: t.RobertaModel(t.RobertaConfig(**roberta), add_pooling_layer=False), LENGTHS, 1
    xlm = roberta | {"num_attention_heads": 1}
    yield (
        "xlm-roberta",
        xlm,
        lambda: t.XLMRobertaModel(t.XLMRobertaConfig(**xlm), add_pooling_layer=False),
        LENGTHS,
        1,
    )
    mpnet = bert_config(max_position_embeddings=202, pad_token_id=1, relative_attention_num_buckets=32)
    yield "mpnet", mpnet, lambda: t.MPNetModel(t.MPNetConfig(**mpnet), add_pooling_layer=False), [1, 2, 33, 200], 1
    distil = {
        "vocab_size": VOCABULARY,
        "dim": 64,
        "n_layers": 2,
        "n_heads": 4,
        "hidden_dim": 96,
        "max_position_embeddings": 80,
        "activation": "gelu",
        "sinusoidal_pos_embds": False,
        "pad_token_id": 0,
    }
    yield "distilbert", distil, lambda: t.DistilBertModel(t.DistilBertConfig(**distil)), LENGTHS, 0
    yield from rotary_encoders()


def rotary_encoders():
    t = transformers
    nomic = {
        "activation_function": "swiglu",
        "causal": False,
        "layer_norm_epsilon": 1e-12,
        "max_trained_positions": 48,
        "mlp_fc1_bias": False,
        "mlp_fc2_bias": False,
        "n_embd": 64,
        "n_head": 1,
        "n_inner": 96,
        "n_layer": 2,
        "n_positions": 256,
        "prenorm": False,
        "qkv_proj_bias": False,
        "rotary_emb_base": 1000,
        "rotary_emb_fraction": 1.0,
        "rotary_emb_interleaved": False,
        "rotary_emb_scale_base": None,
        "rotary_scaling_factor": 2,
        "type_vocab_size": 2,
        "use_rms_norm": False,
        "vocab_size": VOCABULARY,
    }
    theirs = {
        "vocab_size": VOCABULARY,
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 1,
        "intermediate_size": 96,
        "max_position_embeddings": 48,
        "rope_parameters": {"rope_type": "dynamic", "rope_theta": 1000.0, "factor": 2.0},
    }
    yield "nomic_bert", nomic, lambda: t.NomicBertModel(t.NomicBertConfig(**theirs)), [1, 2, 33, 48, 49, 100], 0
    modern = {
        "vocab_size": VOCABULARY,
        "hidden_size": 64,
        "num_hidden_layers": 4,
        "num_attention_heads": 2,
        "intermediate_size": 96,
        "hidden_activation": "gelu",
        "max_position_embeddings": 256,
        "norm_eps": 1e-5,
        "norm_bias": False,
        "attention_bias": False,
        "mlp_bias": False,
        "local_attention": 16,
        "global_attn_every_n_layers": 3,
        "global_rope_theta": 160000.0,
        "local_rope_theta": 10000.0,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "cls_token_id": 1,
        "eos_token_id": 2,
        "sep_token_id": 2,
    }
    yield "modernbert", modern, lambda: t.ModernBertModel(t.ModernBertConfig(**modern)), [1, 2, 33, 100], 0


def main():
    directory = pathlib.Path(sys.argv[1])
    directory.mkdir(parents=True, exist_ok=True)
    for name, config, make, lengths, special in encoders():
        model = make()
        model.config._attn_implementation = "eager"
        tensors, state = file_tensors(model, name)
        ids = texts(lengths, special)
        hidden = [hidden_states(make, state, text) for text in ids]
        config = {"model_type": name, "architectures": [type(model).__name__]} | config
        description = {"config": config, "tensors": tensors, "texts": ids}
        (directory / f"{name}.json").write_text(json.dumps(description) + "\n")
        (directory / f"{name}.f32").write_bytes(numpy.concatenate(hidden).tobytes())
        print(f"{name}: {sum(map(len, ids))} tokens, transformers {transformers.__version__}")


if __name__ == "__main__":
    main()
