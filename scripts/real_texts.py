#!/usr/bin/env python3
"""Collects real English texts of mixed length from what Debian ships, one text a line.

Two of four texts are paragraphs of manual pages (/usr/share/man; 200 to 4,000 characters), one is a gloss of WordNet
(package wordnet-base), one the description of a package (`apt-cache dumpavail`). No text is taken twice. The same seed on the same machine gives the same file. The texts belong to their packages and are not part
of this repository.

    python3 scripts/real_texts.py --count 10000 --out texts.txt
"""

import argparse
import glob
import gzip
import random
import re
import subprocess
import sys

PARAGRAPH = re.compile(r"\n\.(?:PP|P|LP|SH|SS|TP)[^\n]*\n")
MACRO = re.compile(r'^[.\'][A-Za-z\\"]+ ?', re.MULTILINE)
ESCAPE = re.compile(r"\\f[BIRPCW]|\\f\([A-Z]{2}|\\-|\\&|\\\(..")
PARAGRAPH_CHARACTERS = range(200, 4001)


def glosses():
    """Glosses of WordNet: what stands behind the bar of each line of its data files."""
    for path in sorted(glob.glob("/usr/share/wordnet/data.*")):
        with open(path, encoding="latin-1") as lines:
            for line in lines:
                if "|" in line and not line.startswith("  "):
                    yield line.split("|", 1)[1].strip()


def descriptions():
    """Descriptions of the packages that apt knows."""
    try:
        done = subprocess.run(["apt-cache", "dumpavail"], capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return
    description = None
    for line in done.stdout.decode("utf-8", "replace").splitlines():
        if re.match(r"Description(-en)?:", line):
            description = [line.split(":", 1)[1].strip()]
        elif description is not None and line.startswith(" "):
            description.append(line.strip(" ."))
        elif description is not None:
            yield " ".join(part for part in description if part)
            description = None


def paragraphs():
    """Paragraphs of manual pages without their markup, the first ones of each page left out."""
    for path in sorted(glob.glob("/usr/share/man/man[1-8]/*.gz")):
        try:
            with gzip.open(path, "rt", encoding="utf-8", errors="replace") as page:
                source = page.read()
        except (OSError, EOFError):
            continue
        for paragraph in PARAGRAPH.split(source)[2:6]:
            text = " ".join(ESCAPE.sub("", MACRO.sub("", paragraph)).split())
            if len(text) in PARAGRAPH_CHARACTERS:
                yield text


def collect(count, seed):
    """`count` different texts, or fewer where the sources have no more, in an order that depends on `seed` only."""
    shuffle = random.Random(seed).shuffle
    short, middle, long = ([*dict.fromkeys(filter(None, source()))] for source in (glosses, descriptions, paragraphs))
    for source in (short, middle, long):
        shuffle(source)
    texts = {}
    turns = [short, long, middle, long]
    while len(texts) < count and any(turns):
        for source in turns:
            if source and len(texts) < count:
                texts.setdefault(source.pop())
    texts = list(texts)
    shuffle(texts)
    return texts


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--out", required=True, help="file to write, one text a line")
    arguments.add_argument("--count", type=int, default=10_000, help="texts to write (default %(default)s)")
    arguments.add_argument("--seed", type=int, default=1, help="decides which and in which order (default %(default)s)")
    given = arguments.parse_args()
    texts = collect(given.count, given.seed)
    if len(texts) < given.count:
        print(
            f"only {len(texts)} texts were found, {given.count} were asked for: "
            "install wordnet-base and manual pages, and run apt-get update",
            file=sys.stderr,
        )
        return 1
    with open(given.out, "w", encoding="utf-8") as out:
        out.writelines(f"{text}\n" for text in texts)
    characters = sorted(len(text) for text in texts)
    print(f"{len(texts)} texts, {sum(characters) // len(texts)} characters on average, median {characters[len(texts) // 2]}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
