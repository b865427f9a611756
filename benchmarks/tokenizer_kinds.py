"""Prompts and responses under tokenizers of all kinds, compared with joint tokenization and TRL.

    PYTHONPATH=. python benchmarks/tokenizer_kinds.py ROWS.jsonl TOKENIZER [TOKENIZER ...] > table.md

Each tokenizer is a folder, or a GGUF file with a vocabulary. ROWS.jsonl has text pairs (prompt, chosen, rejected). They
are tokenized as text, and without the white space around them as one turn in each of three chat formats.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from dpo_data.tokens.encoder import Encoder, Texts
from dpo_data.tokens.templates import ChatTemplate

FORMATS = {
    "text": None,
    "ChatML": "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
    "Zephyr": "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}{{ eos_token }}\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}",
    "Llama 2": "{% for m in messages %}{% if m.role == 'user' %}<s>[INST] {{ m.content }} [/INST]"
    "{% else %} {{ m.content }} {{ eos_token }}{% endif %}{% endfor %}",
}


def from_gguf(path: Path) -> Any:
    """Return the tokenizer of a GGUF file; WordPiece and Unigram are put together from its vocabulary."""
    from gguf import GGUFReader

    reader = GGUFReader(path)
    kind = bytes(reader.fields["tokenizer.ggml.model"].parts[-1]).decode()
    if kind not in ("bert", "t5"):
        return AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    tokens_field = reader.fields["tokenizer.ggml.tokens"]
    tokens = [bytes(tokens_field.parts[place]).decode() for place in tokens_field.data]
    if kind == "bert":
        # GGUF marks the beginning of words, and WordPiece their continuation.
        pieces = [t[1:] if t.startswith("▁") else t if t.startswith("[") else "##" + t for t in tokens]
        backend = Tokenizer(models.WordPiece({piece: i for i, piece in enumerate(pieces)}, unk_token="[UNK]"))
        backend.normalizer = normalizers.BertNormalizer(lowercase=True)
        backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        backend.decoder = decoders.WordPiece()
        return PreTrainedTokenizerFast(
            tokenizer_object=backend, unk_token="[UNK]", eos_token="[SEP]", pad_token="[PAD]"
        )
    scores_field = reader.fields["tokenizer.ggml.scores"]
    scores = [float(scores_field.parts[place][0]) for place in scores_field.data]
    unknown = tokens.index("<unk>")
    backend = Tokenizer(models.Unigram(list(zip(tokens, scores, strict=True)), unk_id=unknown))
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.decoder = decoders.Metaspace()
    return PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>", eos_token="</s>", bos_token="<s>")


def load(name: str) -> Any:
    return from_gguf(Path(name)) if name.endswith(".gguf") else AutoTokenizer.from_pretrained(name)


def kind_of(tokenizer: Any) -> str:
    backend = tokenizer.backend_tokenizer
    described = json.loads(backend.to_str())
    steps = [described["model"]["type"]]
    for part in ("normalizer", "pre_tokenizer"):
        content = described[part] or {}
        of_part = content.get("normalizers") or content.get("pretokenizers") or [content]
        steps += [step["type"] for step in of_part if step.get("type") in ("Prepend", "Metaspace", "ByteLevel")]
        steps += [step["type"] for step in of_part if step.get("type") == "BertPreTokenizer"]
    return " ".join(steps)


def measure(tokenizer: Any, rows: list[dict[str, str]], template: str | None) -> dict[str, float]:
    """Return the share of responses that have their joint ids, and what separate tokenization or TRL does to them."""
    encoder = Encoder(tokenizer, ChatTemplate(tokenizer, template) if template else None)
    columns = [[row[field] for row in rows] for field in ("prompt", "chosen", "rejected")]
    started = time.perf_counter()
    if template is None:
        texts = Texts(*columns)
        encoded = encoder.encode_texts(texts)
    else:
        roles = ("user", "assistant", "assistant")
        texts = encoder.render(
            *(
                [[{"role": role, "content": text.strip()}] for text in column]
                for role, column in zip(roles, columns, strict=True)
            )
        )
        assert not texts.refused, texts.refused
        encoded = encoder.encode_rendered(texts)
    seconds = time.perf_counter() - started

    def ids(text: str) -> list[int]:
        return list(tokenizer(text, add_special_tokens=False)["input_ids"])

    counts = dict.fromkeys(("joint", "seam", "apart differs", "prompt moved in TRL"), 0)
    for number, (prompt, *responses) in enumerate(zip(texts.prompts, texts.chosen, texts.rejected, strict=True)):
        own_prompt = ids(prompt)
        shared = len(own_prompt)
        for side, response in zip((encoded.chosen, encoded.rejected), responses, strict=True):
            joint = ids(prompt + response)
            got = side.values[side.offsets[number] : side.offsets[number + 1]].tolist()
            follows = joint[: len(own_prompt)] == own_prompt
            counts["seam"] += not follows
            # EOS may follow.
            counts["joint"] += follows and joint[len(own_prompt) :] == got[: len(joint) - len(own_prompt)]
            counts["apart differs"] += own_prompt + ids(response) != joint
            differing = np.flatnonzero([a != b for a, b in zip(own_prompt, joint, strict=False)])
            shared = min(shared, int(differing[0]) if len(differing) else min(len(own_prompt), len(joint)))
        counts["prompt moved in TRL"] += 2 * (shared < len(own_prompt))
    total = 2 * len(rows)
    return {name: count / total for name, count in counts.items()} | {"pairs/s": len(rows) / seconds}


def main() -> None:
    rows = [json.loads(line) for line in Path(sys.argv[1]).read_text(encoding="utf-8").splitlines()]
    columns = ("joint ids", "seams", "apart would differ", "prompt shorter in TRL", "pairs/s")
    print(f"| tokenizer | kind | format | {' | '.join(columns)} |")
    print("| --- | --- | --- | ---: | ---: | ---: | ---: | ---: |")
    for name in sys.argv[2:]:
        tokenizer = load(name)
        # Not the vocabulary's own: special tokens of the formats.
        tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
        kind = kind_of(tokenizer)
        for chat, template in FORMATS.items():
            found = measure(tokenizer, rows, template)
            shares = " | ".join(
                f"{found[key]:.1%}" for key in ("joint", "seam", "apart differs", "prompt moved in TRL")
            )
            short = Path(name).stem.removeprefix("ggml-vocab-")
            print(f"| {short} | {kind} | {chat} | {shares} | {found['pairs/s']:,.0f} |")


if __name__ == "__main__":
    main()
