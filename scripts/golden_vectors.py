#!/usr/bin/env python3
"""Makes the golden vectors the engine is tested against, with sentence-transformers.

Writes into --out:
  texts.jsonl   one JSON string a line
  vectors.f32   little-endian float32, (texts, width) row-major, unit norm, in the order of the texts
  README.md     what made them

Run it by hand, and only when the texts or the model change:

  python3 -m venv venv && venv/bin/pip install sentence-transformers
  venv/bin/python scripts/golden_vectors.py --model DIR_OF_all-MiniLM-L6-v2

Each text is encoded in a batch of its own, so that no padding is involved. The model directory decides pooling,
normalisation and the longest input (256 tokens for all-MiniLM-L6-v2, special tokens included).
"""

import argparse
import hashlib
import json
import pathlib
import platform

HERE = pathlib.Path(__file__).resolve().parent

SHORT = [
    "",
    "a",
    "?",
    "Hello",
    "hello",
    "HELLO WORLD",
    "Yes.",
    "the",
    "rain again",
    "A cat sleeps on the warm stove.",
    "The ferry leaves at noon, unless the fog stays.",
    "How do I turn off the alarm without waking the whole house?",
    "My bicycle has a flat tyre and the shop is closed until Monday.",
    "Which of the two bridges was finished first?",
    "She poured the tea, forgot the sugar, and talked about the harvest.",
    "Unbelievably antidisestablishmentarian counterrevolutionaries misunderstood.",
    "xqzzvk bltrpf mmmmmmmmmm",
]

NUMBERS = [
    "0",
    "3.14159265358979",
    "Invoice 2024-118: 3 x 19.90 EUR = 59.70 EUR, due 31/01/2025",
    "Call +44 20 7946 0018 or +1 (555) 010-9999.",
    "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20",
    "-273.15 °C is 0 K; 6.022e23 per mole; 50 % off; ±0.5 µm",
    "0xdeadbeef 0b1010 1_000_000 1e-9 NaN inf",
    "The lift holds 8 people or 630 kg, whichever comes first.",
]

ADDRESSES = [
    "https://example.org/a/b?q=two+words&page=3#top",
    "Write to someone.else+list@mail.example.com before Friday.",
    "/usr/share/doc/README.gz and C:\\Users\\me\\notes.txt",
    "git clone ssh://git@example.net:2222/group/project.git",
    "192.0.2.17:8080 answers, 2001:db8::1 does not.",
]

CODE = [
    "fn main() { println!(\"{}\", (1..=10).sum::<u32>()); }",
    "def area(r):\n    \"\"\"Area of a circle.\"\"\"\n    return 3.14159 * r ** 2\n",
    "SELECT name, count(*) FROM visits WHERE day >= '2024-05-01' GROUP BY name HAVING count(*) > 3;",
    "for (int i = 0; i < n; ++i) { a[i] ^= b[i] & 0xff; }",
    "{\"id\": 7, \"tags\": [\"x\", \"y\"], \"nested\": {\"ok\": true, \"none\": null}}",
    "<p class=\"note\">5 &lt; 6 &amp; 7 &gt; 6</p><!-- end -->",
    "$ tar -xzf backup.tar.gz -C /tmp && ls -la | grep '\\.txt$'",
    "let Some(x) = map.get(&key) else { return Err(Error::Missing(key)) };",
    "if err != nil {\n\treturn fmt.Errorf(\"open %q: %w\", path, err)\n}",
    "^(?:[a-z0-9]+(?:-[a-z0-9]+)*)$",
]

UNICODE = [
    "Der Zug fährt über die große Brücke nach Köln.",
    "Où est passé l'été ? Là-bas, près du château.",
    "El niño comió piñas y ñoquis en la cigüeña.",
    "Żółta łódź płynie cicho po jeziorze.",
    "Kırmızı ışıkta İstanbul'da bekledik.",
    "Сегодня утром на рынке было мало людей.",
    "Η θάλασσα ήταν ήρεμη και ο ουρανός καθαρός.",
    "今天下午的会议改到三点半。",
    "駅前の本屋は日曜日も開いています。",
    "カタカナとﾊﾝｶｸと全角ＡＢＣ１２３",
    "비가 오면 우산을 빌려 드립니다.",
    "ذهب الأطفال إلى المدرسة سيرا على الأقدام.",
    "כתוב בבקשה את שמך על הטופס.",
    "आज बाज़ार में आम सस्ते हैं।",
    "พรุ่งนี้ร้านเปิดเก้าโมงเช้า",
    "Trời mưa từ sáng đến tối ở Đà Nẵng.",
    "🎉",
    "Good job 👍🏽, see you at the 🏖️ with the 👨‍👩‍👧‍👦!",
    "flags 🇫🇷🇯🇵 and keycaps 1️⃣2️⃣",
    "e\u0301 is \u00e9, and A\u030a is \u00c5; n\u0303o\u0302",
    "z\u0335\u0321a\u0334\u0322l\u0336\u0328g\u0337\u0329o\u0338",
    "ﬁne ﬂour, ½ cup, №5, ℃, ①②③, ™ ®",
    "𝔪𝔞𝔱𝔥 𝒇𝒐𝒏𝒕𝒔 and 𐍈 beyond the first plane",
    "‏right‎ to left marks, zero\u200bwidth\u200dspace, soft\u00adhyphen",
    "replacement \ufffd and private \ue000 characters",
    "∀x ∈ ℝ: ⌈x⌉ = −⌊−x⌋, ∑ᵢ aᵢ ≤ √n·‖a‖",
]

WHITESPACE = [
    " ",
    "\n\n\n",
    "\t tab \t and \t more \t tabs \t",
    "   leading and trailing spaces   ",
    "line one\r\nline two\rline three\n\nline five",
    "no\u00a0break\u2003em\u3000ideographic\u2009thin",
    "a   b    c     d      e",
    "bell\u0007 and nul\u0000 and escape\u001b[31m red",
]

SENTENCES = [
    "The baker lights the oven at four, long before the first tram.",
    "By five the street smells of rye and caraway.",
    "A boy on a delivery bicycle takes forty rolls to the hospital kitchen.",
    "Nobody has ever seen the owner of the blue van that parks outside.",
    "On Wednesdays the fishmonger opposite sells smoked eel wrapped in newspaper.",
    "The old clock on the town hall runs seven minutes fast, and everyone knows it.",
    "Tourists miss their train because of it at least once a week.",
    "In winter the canal freezes and the postman skates his route.",
    "Last year he fell through near the lock and kept every letter dry.",
    "The mayor gave him a medal and a new pair of boots.",
]


def long_texts() -> list[str]:
    """Texts around and over the limit of 256 tokens, and a few of the middle length."""
    story = " ".join(SENTENCES)
    return [
        " ".join(SENTENCES[:3]),
        " ".join(SENTENCES[2:7]),
        story,
        story + " " + " ".join(reversed(SENTENCES)),
        " ".join(f"Chapter {number}. {story}" for number in range(1, 6)),
        " ".join(["word"] * 253),
        " ".join(["word"] * 254),
        " ".join(["word"] * 255),
        " ".join(["word"] * 2000),
        "".join(chr(0x4E00 + 37 * step % 5000) for step in range(600)),
        "x" * 4000,
        "\n".join(f"    total += weights[{index}] * inputs[{index}]  # term {index}" for index in range(60)),
    ]


def golden_texts() -> list[str]:
    """All texts, in the order of the vectors."""
    return SHORT + NUMBERS + ADDRESSES + CODE + UNICODE + WHITESPACE + long_texts()


def encode(model_dir: pathlib.Path, texts: list[str]):
    """Unit-norm float32 vectors (texts, width)."""
    import numpy
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(model_dir), device="cpu")
    rows = [model.encode([text], batch_size=1, normalize_embeddings=True)[0] for text in texts]
    vectors = numpy.stack(rows).astype("<f4")
    assert abs(numpy.linalg.norm(vectors, axis=1) - 1).max() < 1e-5
    return vectors


def readme(model_dir: pathlib.Path, texts: int, width: int) -> str:
    """What made the vectors."""
    import sentence_transformers
    import torch
    import transformers

    weights = hashlib.sha256((model_dir / "model.safetensors").read_bytes()).hexdigest()
    return f"""# Golden vectors

`texts.jsonl` holds {texts} texts, one JSON string a line, written for this purpose. `vectors.f32` holds their embeddings by
all-MiniLM-L6-v2: little-endian float32, ({texts}, {width}) row-major, unit norm, in the order of the texts. The model
takes 256 tokens of a text; the last texts are longer.

| made with | |
|---|---|
| sentence-transformers | {sentence_transformers.__version__} |
| transformers | {transformers.__version__} |
| torch | {torch.__version__}, float32 on the CPU, one text a batch |
| Python | {platform.python_version()} on {platform.machine()} |
| model.safetensors | SHA-256 {weights} |

Made again by hand with `scripts/golden_vectors.py`, where the command stands.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=pathlib.Path, required=True, help="directory of all-MiniLM-L6-v2")
    parser.add_argument("--out", type=pathlib.Path, default=HERE.parent / "crates/engine/tests/golden")
    arguments = parser.parse_args()

    texts = golden_texts()
    vectors = encode(arguments.model, texts)
    arguments.out.mkdir(parents=True, exist_ok=True)
    lines = (json.dumps(text, ensure_ascii=True) + "\n" for text in texts)
    (arguments.out / "texts.jsonl").write_text("".join(lines), encoding="ascii")
    (arguments.out / "vectors.f32").write_bytes(vectors.tobytes())
    (arguments.out / "README.md").write_text(readme(arguments.model, *vectors.shape), encoding="utf-8")
    print(f"{len(texts)} texts, vectors {vectors.shape} in {arguments.out}")


if __name__ == "__main__":
    main()
