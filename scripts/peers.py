#!/usr/bin/env python3
"""Other engines for the same model, one process each, driven line by line by `cargo xtask bench engine --peers`.

Each is given its best: token ids instead of texts, batches padded beforehand and sorted by length, the pooling inside its
graph where it has one, and of its settings and batch sizes those that are fastest in a short search.

    peers.py list                                            the names
    peers.py prepare --model DIR --work DIR                  exports the model for all of them, once
    peers.py serve NAME --model DIR --work DIR --ids FILE    reads commands, writes answers: JSON, one a line

Commands: {"do": "search"}, {"do": "run"}, {"do": "query", "times": N}, {"do": "vectors", "file": PATH}.
"""

import argparse
import contextlib
import ctypes
import importlib.metadata
import json
import os
import signal
import struct
import sys
import time
import traceback
from pathlib import Path

# In the order in which they are tried.
BATCH_SIZES = [32, 16, 64, 8, 4]
# Texts of the search: some stretches of the sorted texts, few enough that a search is short; what has not been tried after
# the time is not tried.
SEARCH_SECONDS = 90
STRETCHES = 4
STRETCH_TEXTS = 64
SEARCH_TOKENS_MAX = 24_000
QUERIES_OF_SEARCH = 40
EXAMPLE_TOKENS = 16


def refuse_tiles():
    """Has the kernel refuse AMX tiles to this process, so that a library that asks for them goes without.

    A seccomp filter of 8 instructions: arch_prctl(ARCH_REQ_XCOMP_PERM) answers EPERM, all else is allowed.
    """
    load, equal, answer = 0x20, 0x15, 0x06
    arch_at, number_at, argument_at = 4, 0, 16
    x86_64, arch_prctl, request_permission = 0xC000003E, 158, 0x1023
    allow, refuse = 0x7FFF0000, 0x00050001
    program = [
        (load, 0, 0, arch_at), (equal, 0, 5, x86_64),
        (load, 0, 0, number_at), (equal, 0, 3, arch_prctl),
        (load, 0, 0, argument_at), (equal, 0, 1, request_permission),
        (answer, 0, 0, refuse), (answer, 0, 0, allow),
    ]  # fmt: skip
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in program))
    filtered = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(program), ctypes.addressof(code)))
    libc = ctypes.CDLL(None, use_errno=True)
    no_new_privileges, seccomp, mode_filter = 38, 22, 2
    if libc.prctl(no_new_privileges, 1, 0, 0, 0) or libc.prctl(seccomp, mode_filter, filtered):
        raise OSError(ctypes.get_errno(), "the kernel takes no filter")


def load_torch(model, attention, dtype="float32"):
    """The model as a module from (ids, mask) to pooled vectors in float32."""
    import torch
    import transformers

    class Pooled(torch.nn.Module):
        def __init__(self, encoder):
            super().__init__()
            self.encoder = encoder

        def forward(self, input_ids, attention_mask):
            hidden = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state.float()
            if POOLING == "cls":
                return hidden[:, 0]
            mask = attention_mask.unsqueeze(-1).to(hidden.dtype)
            return (hidden * mask).sum(1) / mask.sum(1)

    encoder = transformers.AutoModel.from_pretrained(
        model, attn_implementation=attention, dtype=getattr(torch, dtype), local_files_only=True
    )
    return Pooled(encoder.eval()).eval()


def example():
    """Two texts of unequal length: a mask of ones would be left out of a traced graph."""
    import torch

    ids = torch.ones(2, EXAMPLE_TOKENS, dtype=torch.long)
    mask = torch.ones_like(ids)
    mask[1, EXAMPLE_TOKENS // 2 :] = 0
    return ids, mask


def export_onnx(model, work):
    """Eager attention is the form in which ONNX Runtime's optimizer knows it."""
    import torch

    axes = {0: "texts", 1: "tokens"}
    torch.onnx.export(
        load_torch(model, "eager"),
        example(),
        str(work / "plain.onnx"),
        input_names=["input_ids", "attention_mask"],
        output_names=["vectors"],
        dynamic_axes={"input_ids": axes, "attention_mask": axes, "vectors": {0: "texts"}},
        opset_version=17,
        dynamo=False,
    )


def fuse_onnx(model, work):
    from onnxruntime.transformers import optimizer

    config = json.loads((model / "config.json").read_text())
    fused = optimizer.optimize_model(
        str(work / "plain.onnx"),
        model_type="bert",
        num_heads=config.get("num_attention_heads", config.get("n_head", 0)),
        hidden_size=config.get("hidden_size", config.get("n_embd", 0)),
        opt_level=0,
    )
    print(f"fused: { {name: count for name, count in fused.get_fused_operator_statistics().items() if count} }")
    fused.save_model_to_file(str(work / "fused.onnx"))


def quantize_onnx(_model, work):
    from onnx import TensorProto
    from onnxruntime.quantization import QuantType, quantize_dynamic

    # Shapes behind fused operators are unknown to the quantizer.
    options = {"DefaultTensorType": TensorProto.FLOAT}
    for name in ["plain", "fused"]:
        if (work / f"{name}.onnx").exists():
            to = work / f"{name}-int8.onnx"
            quantize_dynamic(
                str(work / f"{name}.onnx"), str(to), per_channel=True, weight_type=QuantType.QInt8, extra_options=options
            )


def convert_openvino(model, work):
    import openvino

    openvino.save_model(openvino.convert_model(work / "plain.onnx"), work / "onnx.xml", compress_to_fp16=False)
    ids, mask = example()
    converted = openvino.convert_model(
        load_torch(model, "sdpa"),
        example_input={"input_ids": ids, "attention_mask": mask},
        input=[("input_ids", [-1, -1]), ("attention_mask", [-1, -1])],
    )
    openvino.save_model(converted, work / "torch.xml", compress_to_fp16=False)


def convert_ctranslate2(model, work):
    from ctranslate2.converters import TransformersConverter

    TransformersConverter(str(model), low_cpu_mem_usage=True).convert(str(work / "ctranslate2"), force=True)


PREPARATIONS = [export_onnx, fuse_onnx, quantize_onnx, convert_openvino, convert_ctranslate2]


def words_apart():
    """What writes a line where standard output was; whatever libraries print goes to standard error from now on."""
    lines = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def say(line):
        lines.write(line + "\n")
        lines.flush()

    return say


def prepare(model, work):
    """Runs every preparation that has not run for this model; one that fails is named, and its peers will fail by name."""
    say = words_apart()
    work.mkdir(parents=True, exist_ok=True)
    for step in PREPARATIONS:
        done = work / f"{step.__name__}.done"
        if done.exists():
            continue
        say(f"peers: {step.__name__}")
        try:
            step(model, work)
            done.touch()
        except Exception:
            traceback.print_exc()
            say(f"peers: {step.__name__} failed")


class Torch:
    """PyTorch: eager, and compiled by inductor with frozen weights where there is a C++ compiler."""

    package = "torch"

    def __init__(self, dtype):
        self.dtype = dtype

    def start(self, given):
        import torch

        torch.set_num_threads(given.threads)
        torch.set_grad_enabled(False)
        self.torch = torch
        self.eager = load_torch(given.model, "sdpa", self.dtype)
        return {"eager": lambda: self.eager, "compiled": self.compiled}

    def compiled(self):
        import torch._inductor.config

        torch._inductor.config.freezing = True
        return self.torch.compile(self.eager, dynamic=True)

    def batch(self, ids, mask):
        return self.torch.from_numpy(ids), self.torch.from_numpy(mask)

    def embed(self, module, batches):
        return [module(*batch).numpy() for batch in batches]


class OnnxRuntime:
    """ONNX Runtime: the exported graph, and the same with attention, GELU and norms fused by its own optimizer."""

    package = "onnxruntime"

    def __init__(self, suffix, tiles=True):
        self.suffix = suffix
        self.tiles = tiles

    def start(self, given):
        if not self.tiles:
            refuse_tiles()
        import onnxruntime

        def session(name):
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = given.threads
            path = str(given.work / f"{name}{self.suffix}.onnx")
            return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

        return {"fused": lambda: session("fused"), "plain": lambda: session("plain")}

    def batch(self, ids, mask):
        return {"input_ids": ids, "attention_mask": mask}

    def embed(self, session, batches):
        return [session.run(None, batch)[0] for batch in batches]


class OpenVino:
    """OpenVINO: from the ONNX file and from PyTorch; one batch on all threads, or one on each."""

    package = "openvino"

    def __init__(self, hint):
        self.hint = {} if hint is None else {"INFERENCE_PRECISION_HINT": hint}

    def start(self, given):
        import openvino

        core = openvino.Core()

        def compiled(name, streams):
            settings = {"INFERENCE_NUM_THREADS": given.threads, "NUM_STREAMS": streams, **self.hint}
            model = core.compile_model(given.work / f"{name}.xml", "CPU", settings)
            return openvino.AsyncInferQueue(model, streams)

        return {
            f"{name}, {streams} stream(s)": lambda name=name, streams=streams: compiled(name, streams)
            for name in ["torch", "onnx"]
            for streams in sorted({1, given.threads})
        }

    def batch(self, ids, mask):
        return {"input_ids": ids, "attention_mask": mask}

    def embed(self, queue, batches):
        vectors = [None] * len(batches)

        def keep(request, place):
            vectors[place] = request.get_output_tensor(0).data.copy()

        queue.set_callback(keep)
        for place, batch in enumerate(batches):
            queue.start_async(batch, place)
        queue.wait_all()
        return vectors


class CTranslate2:
    """CTranslate2: its encoder; the pooling is NumPy's, as it has none."""

    package = "ctranslate2"

    def __init__(self, compute_type):
        self.compute_type = compute_type

    def start(self, given):
        import ctranslate2

        def encoder():
            return ctranslate2.Encoder(
                str(given.work / "ctranslate2"),
                device="cpu",
                compute_type=self.compute_type,
                intra_threads=given.threads,
            )

        return {self.compute_type: encoder}

    def batch(self, ids, mask):
        return [row[: keep.sum()].tolist() for row, keep in zip(ids, mask)], mask

    def embed(self, encoder, batches):
        import numpy

        vectors = []
        for texts, mask in batches:
            hidden = numpy.array(encoder.forward_batch(texts).last_hidden_state)
            if POOLING == "cls":
                vectors.append(hidden[:, 0])
                continue
            vectors.append(numpy.einsum("btw,bt->bw", hidden, mask.astype(hidden.dtype)) / mask.sum(1, keepdims=True))
        return vectors


PEERS = {
    "pytorch float32": lambda: Torch("float32"),
    "pytorch bfloat16": lambda: Torch("bfloat16"),
    "onnxruntime float32": lambda: OnnxRuntime(""),
    "onnxruntime int8": lambda: OnnxRuntime("-int8"),
    "onnxruntime int8, no AMX": lambda: OnnxRuntime("-int8", tiles=False),
    "openvino float32": lambda: OpenVino("f32"),
    "openvino default": lambda: OpenVino(None),
    "ctranslate2 float32": lambda: CTranslate2("float32"),
    "ctranslate2 int8": lambda: CTranslate2("int8"),
}


class Contestant:
    """A peer with all texts, their order by length, and the settings that the search found."""

    def __init__(self, peer, given):
        self.peer = peer
        with open(given.ids, encoding="utf-8") as file:
            read = json.load(file)
        self.texts, self.short = read["texts"], read["query"]
        self.by_length = sorted(range(len(self.texts)), key=lambda place: -len(self.texts[place]))
        self.built = {}
        self.variants = peer.start(given)
        self.query_batch = self.batches([self.short], 1)
        self.choice = self.query_choice = self.batch_size = self.prepared = None

    def variant(self, name):
        if name not in self.built:
            self.built[name] = self.variants[name]()
        return self.built[name]

    def batches(self, texts, size):
        import numpy

        batches = []
        for start in range(0, len(texts), size):
            part = texts[start : start + size]
            ids = numpy.zeros((len(part), max(map(len, part))), dtype=numpy.int64)
            mask = numpy.zeros_like(ids)
            for row, text in enumerate(part):
                ids[row, : len(text)] = text
                mask[row, : len(text)] = 1
            batches.append(self.peer.batch(ids, mask))
        return batches

    def seconds(self, name, batches, times=2):
        """The fastest of some runs: the first also builds what a shape needs."""
        best = float("inf")
        for _ in range(times):
            start = time.perf_counter()
            self.peer.embed(self.variant(name), batches)
            best = min(best, time.perf_counter() - start)
        return best

    def sample(self):
        """Stretches of the sorted texts, so that a batch is padded as it will be."""
        ordered = [self.texts[place] for place in self.by_length]
        mean = sum(map(len, ordered)) / len(ordered)
        count = max(1, min(len(ordered), int(SEARCH_TOKENS_MAX / mean)))
        if count < STRETCHES * STRETCH_TEXTS:
            return [ordered[:: len(ordered) // count][:count]]
        step = len(ordered) // STRETCHES
        return [ordered[place * step :][:STRETCH_TEXTS] for place in range(STRETCHES)]

    def search(self, _command):
        sample = self.sample()
        end = time.perf_counter() + SEARCH_SECONDS
        longest = max(map(len, sample))
        sizes = [size for size in BATCH_SIZES if size <= longest] or [longest]

        def cut(size):
            return [batch for stretch in sample for batch in self.batches(stretch, size)]

        by_variant, by_query, by_size = {}, {}, {}
        for name in self.variants:
            if by_variant and time.perf_counter() > end:
                break
            try:
                by_variant[name] = self.seconds(name, cut(sizes[0]))
                times = self.latencies(name, 2 * QUERIES_OF_SEARCH)[QUERIES_OF_SEARCH:]
                by_query[name] = sorted(times)[len(times) // 2]
            except Exception:
                traceback.print_exc()
                print(f"variant {name} failed", file=sys.stderr, flush=True)
        if not by_query:
            raise RuntimeError("no variant of it runs")
        self.choice = min(by_variant, key=by_variant.get)
        self.query_choice = min(by_query, key=by_query.get)
        for size in sizes:
            if by_size and time.perf_counter() > end:
                break
            by_size[size] = self.seconds(self.choice, cut(size))
        self.batch_size = min(by_size, key=by_size.get)
        print(f"variants {by_variant}, queries {by_query}, batch sizes {by_size}", file=sys.stderr, flush=True)
        self.prepared = self.batches([self.texts[place] for place in self.by_length], self.batch_size)
        version = importlib.metadata.version(self.peer.package)
        return {"setting": f"{version}, {self.choice}, batches of {self.batch_size}"}

    def run(self, _command):
        start = time.perf_counter()
        self.peer.embed(self.variant(self.choice), self.prepared)
        return {"seconds": time.perf_counter() - start}

    def latencies(self, name, times):
        latencies = []
        for _ in range(times):
            start = time.perf_counter()
            self.peer.embed(self.variant(name), self.query_batch)
            latencies.append(time.perf_counter() - start)
        return latencies

    def query(self, command):
        return {"seconds": self.latencies(self.query_choice, command["times"])}

    def vectors(self, command):
        import numpy

        sorted_vectors = numpy.concatenate(self.peer.embed(self.variant(self.choice), self.prepared))
        vectors = numpy.empty_like(sorted_vectors, dtype="<f4")
        vectors[self.by_length] = sorted_vectors
        vectors.tofile(command["file"])
        return {"width": int(vectors.shape[1])}


def serve(given):
    """Answers commands until there are no more."""
    say = words_apart()
    contestant = None
    for line in sys.stdin:
        try:
            if contestant is None:
                contestant = Contestant(PEERS[given.name](), given)
            command = json.loads(line)
            say(json.dumps({"done": getattr(contestant, command["do"])(command)}))
        except Exception as error:
            traceback.print_exc()
            say(json.dumps({"error": f"{type(error).__name__}: {error}".strip().splitlines()[0]}))


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("task", choices=["list", "prepare", "serve"])
    arguments.add_argument("name", nargs="?", choices=list(PEERS), metavar="NAME")
    arguments.add_argument("--model", type=Path, help="directory of the model")
    arguments.add_argument("--work", type=Path, help="where exported models lie")
    arguments.add_argument("--ids", type=Path, help='token ids: {"texts": [[…], …], "query": […]}')
    arguments.add_argument("--pooling", choices=["mean", "cls"], default="mean")
    arguments.add_argument("--threads", type=int, default=1)
    given = arguments.parse_args()
    global POOLING
    POOLING = given.pooling
    if given.task == "list":
        print("\n".join(PEERS))
        return
    with contextlib.suppress(OSError, AttributeError):
        die_with_parent = 1
        ctypes.CDLL(None).prctl(die_with_parent, signal.SIGKILL)
    os.environ["OMP_NUM_THREADS"] = str(given.threads)
    if given.task == "prepare":
        prepare(given.model, given.work)
    else:
        serve(given)


if __name__ == "__main__":
    main()
