"""Toys for the data side: tokenizers trained in process, rows, and small prepared folders."""

import json
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from data_cli import Ran
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from dpo_data import convert
from dpo_data.cli.app import main

# A background job of a shell starts with SIGINT ignored, and would hand that on to the runs that tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

CORPUS = [
    "hello there, the other one: hello world, what is this thing? It's that.",
    "\n\nHuman: how do I tie a bow?\n\nAssistant: cross the ends, and pull the two through.",
]
#: Ids 0 to 5 of every toy.
SPECIAL = ["<s>", "</s>", "<pad>", "<unk>", "<|im_start|>", "<|im_end|>"]

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.fixture
def dpo_data(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    """A function that runs the command line in this process."""

    def run(*words: object) -> Ran:
        monkeypatch.setattr(sys, "argv", ["dpo-data", *map(str, words)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            main()
        return Ran(end.value.code or 0, *capsys.readouterr())

    return run


@pytest.fixture(scope="session")
def make_tokenizer() -> Callable[..., PreTrainedTokenizerFast]:
    """A function that trains a byte-level BPE tokenizer with <s>, </s> and <pad>; see its arguments for variants."""

    def make(
        *,
        bos: bool = False,
        prefix_space: bool = False,
        metaspace: bool = False,
        corpus: Sequence[str] = CORPUS,
        template: str | None = None,
        **special: Any,
    ) -> PreTrainedTokenizerFast:
        """Train one.

        Args:
            bos: put <s> before every text.
            prefix_space: byte-level with a space before every text, as RoBERTa may.
            metaspace: with the "▁" of sentencepiece before every text instead of bytes, as Llama 2.
            corpus: texts to learn merges from.
            template: chat template.
            special: special tokens of PreTrainedTokenizerFast, in place of the defaults; None for none.
        """
        tokenizer = Tokenizer(models.BPE(unk_token="<unk>" if metaspace else None))
        alphabet: list[str] = []
        if metaspace:
            tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
            tokenizer.decoder = decoders.Metaspace(prepend_scheme="always")
        else:
            tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix_space)
            tokenizer.decoder = decoders.ByteLevel()
            alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
        trainer = trainers.BpeTrainer(
            vocab_size=340, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
        )
        tokenizer.train_from_iterator(corpus, trainer)
        if bos:
            tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
        names = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"} | special
        made = PreTrainedTokenizerFast(
            tokenizer_object=tokenizer, **{name: token for name, token in names.items() if token is not None}
        )
        made.chat_template = template
        return made

    return make


@pytest.fixture(scope="session")
def toy_tokenizer(make_tokenizer: Callable[..., PreTrainedTokenizerFast]) -> PreTrainedTokenizerFast:
    """Byte-level BPE that adds nothing by itself."""
    return make_tokenizer()


@pytest.fixture(scope="session")
def byte_tokenizer() -> PreTrainedTokenizerFast:
    """One token a byte, so that lengths can be read off the texts; </s> is 256.

    Not trained: nothing but this code decides its ids, and the golden keys of test_tokenization.py rest on them.
    """
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={byte: index for index, byte in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>", pad_token="<pad>")


@pytest.fixture(scope="session")
def bos_tokenizer(make_tokenizer: Callable[..., PreTrainedTokenizerFast]) -> PreTrainedTokenizerFast:
    """The same, with <s> before every text."""
    return make_tokenizer(bos=True)


@pytest.fixture(scope="session")
def chat_tokenizer(make_tokenizer: Callable[..., PreTrainedTokenizerFast]) -> PreTrainedTokenizerFast:
    """ChatML, where <|im_end|> ends a turn and is EOS."""
    return make_tokenizer(template=CHATML, eos_token="<|im_end|>")


@pytest.fixture(scope="session")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory, toy_tokenizer: PreTrainedTokenizerFast) -> Path:
    """The toy tokenizer, saved as transformers saves it."""
    folder = tmp_path_factory.mktemp("tokenizers") / "toy"
    toy_tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def write_rows() -> Callable[[Path, Sequence[Mapping[str, Any] | str]], Path]:
    """A function that writes rows as JSON lines; a string is written as it is."""

    def write(path: Path, rows: Sequence[Mapping[str, Any] | str]) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = [row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows]
        path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
        return path

    return write


@pytest.fixture
def make_prepared(tmp_path: Path, write_rows: Callable[..., Path]) -> Callable[..., Path]:
    """A function that converts rows of the source pairs to a prepared folder, in text form unless given."""

    def make(rows: Sequence[Mapping[str, Any] | str], name: str = "prepared", **options: Any) -> Path:
        raw = write_rows(tmp_path / "raw" / "pairs.jsonl", rows)
        convert("pairs", [raw], output=tmp_path / name, **{"form": "text"} | options)
        return tmp_path / name

    return make
