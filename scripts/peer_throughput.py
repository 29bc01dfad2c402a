#!/usr/bin/env python3
"""Texts a second of sentence-transformers (PyTorch) on a file of texts: the peer beside our own figures.

The peer has it easy: offline, the whole file known beforehand and sorted by length (as its `encode` does), doing nothing
else. Needs Python with `pip install sentence-transformers`, and a model directory such as `ml-base fetch` prints.

    python3 scripts/peer_throughput.py --model DIR --file texts.txt
"""

import argparse
import time


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--model", required=True, help="directory of the model")
    arguments.add_argument("--file", required=True, help="one text a line")
    arguments.add_argument("--batch-size", type=int, default=32, help="texts a batch (default %(default)s)")
    arguments.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32", help="(default %(default)s)")
    given = arguments.parse_args()

    import torch
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(given.model, device="cpu", model_kwargs={"torch_dtype": getattr(torch, given.dtype)})
    with open(given.file, encoding="utf-8") as file:
        texts = file.read().splitlines()
    model.encode(texts[: given.batch_size], batch_size=given.batch_size)
    start = time.perf_counter()
    model.encode(texts, batch_size=given.batch_size, normalize_embeddings=True)
    seconds = time.perf_counter() - start
    print(
        f"sentence-transformers, torch {torch.__version__} {given.dtype}, {torch.get_num_threads()} threads: "
        f"{len(texts)} texts in {seconds:.1f} s, {len(texts) / seconds:.1f} texts/s"
    )


if __name__ == "__main__":
    main()
