"""Options of dpo-train that are about the run: data, model, output, and what to do with them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from dpo_data.errors import reading
from dpo_data.options import (
    DEFAULT_MAX_INVALID,
    OnOverlong,
    TruncationMode,
    TruncationUnit,
    Verify,
    parse_template_arguments,
)
from dpo_train.options import ADAPTER, EVALUATION, LOSS, MAIN, RUN, TOKENS, option

#: Options of a new adapter besides its rank.
LORA_OPTIONS = (
    "lora_alpha",
    "lora_dropout",
    "lora_target_modules",
    "lora_rslora",
    "lora_dora",
    "lora_modules_to_save",
    "lora_token_indices",
)

_TRUNCATION = (
    "max_length",
    "max_prompt_length",
    "truncation_mode",
    "truncation_unit",
    "keep_system",
    "on_overlong",
    "template_date",
)


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """Options of a run; `training` holds the options of `DPOConfig` that were given, by field name."""

    data: Path | list[Path] = field(
        metadata=option(
            "Prepared folder, made by dpo-data convert; several are concatenated (repeatable).",
            group=MAIN,
            metavar="FOLDER",
        )
    )
    model: str | None = field(
        default=None,
        metadata=option(
            "Model to train: a folder, or a name on the Hub, of a model or of an adapter.",
            group=MAIN,
            metavar="NAME",
            show_default="the model whose tokenizer made the only token cache",
        ),
    )
    output: Path = field(
        default=Path("run"),
        metadata=option("Folder of the run.", group=MAIN, names=("--output", "-o"), metavar="FOLDER"),
    )
    batch_size: int = field(
        default=64, metadata=option("Pairs per optimizer step, over all processes.", group=MAIN, metavar="N", minimum=1)
    )
    dtype: Literal["float32", "bfloat16", "float16", "auto"] = field(
        default="float32", metadata=option("Precision of the weights; auto: as saved.", group=MAIN)
    )
    reference: str | None = field(
        default=None,
        metadata=option(
            "Reference model: a folder, or a name on the Hub, of a model or of an adapter; base: the model under the "
            "adapter that is trained.",
            group=LOSS,
            metavar="NAME",
            show_default="the model before training",
        ),
    )
    lora_r: int | None = field(
        default=None, metadata=option("Train a LoRA adapter of this rank.", group=ADAPTER, metavar="N", minimum=1)
    )
    lora_alpha: int | None = field(
        default=None,
        metadata=option(
            "Scale of the adapter: alpha / rank.",
            group=ADAPTER,
            metavar="N",
            show_default="twice the rank",
            minimum=1,
        ),
    )
    lora_dropout: float | None = field(
        default=None,
        metadata=option(
            "Dropout of the adapter's input, which other dropout is not affected by.",
            group=ADAPTER,
            metavar="X",
            show_default="0",
        ),
    )
    lora_target_modules: list[str] | None = field(
        default=None,
        metadata=option(
            "Modules to adapt, by the ends of their names, such as q_proj or embed_tokens (repeatable).",
            group=ADAPTER,
            metavar="NAME",
            show_default="all-linear: all linear layers but the head",
        ),
    )
    lora_rslora: bool = field(
        default=False, metadata=option("Scale the adapter by alpha / sqrt(rank) (rsLoRA).", group=ADAPTER)
    )
    lora_dora: bool = field(
        default=False, metadata=option("Train magnitude and direction of the weights (DoRA).", group=ADAPTER)
    )
    lora_modules_to_save: list[str] | None = field(
        default=None,
        metadata=option(
            "Modules to train as a whole and save with the adapter, such as lm_head (repeatable).",
            group=ADAPTER,
            metavar="NAME",
            show_default="none",
        ),
    )
    lora_token_indices: list[int] | None = field(
        default=None,
        metadata=option(
            "Ids of tokens whose embeddings are trained too, such as new special tokens (repeatable).",
            group=ADAPTER,
            names=("--lora-token-indices", "--lora-trainable-token-indices"),
            metavar="ID",
            show_default="none",
        ),
    )
    load_in_4bit: bool = field(
        default=False, metadata=option("Load the frozen weights in 4 bits (QLoRA). Needs an adapter.", group=ADAPTER)
    )
    merge_adapter: bool = field(
        default=False, metadata=option("Merge the adapter into the saved model.", group=ADAPTER)
    )
    tokens: str | None = field(
        default=None,
        metadata=option(
            "Token cache to train on, by its name.",
            group=TOKENS,
            metavar="NAME",
            show_default="the only one that fits the model",
        ),
    )
    max_length: int | None = field(
        default=None,
        metadata=option(
            "Maximum tokens in the prompt plus its longer response.",
            group=TOKENS,
            metavar="N",
            show_default="as in the token cache, else 1024",
            minimum=1,
        ),
    )
    max_prompt_length: int | None = field(
        default=None,
        metadata=option(
            "Maximum prompt tokens when a pair exceeds --max-length.",
            group=TOKENS,
            metavar="N",
            show_default="whatever the responses leave",
            minimum=1,
        ),
    )
    truncation_mode: TruncationMode | None = field(
        default=None, metadata=option("Which end of a truncated prompt to keep.", group=TOKENS, show_default="keep_end")
    )
    truncation_unit: TruncationUnit | None = field(
        default=None,
        metadata=option(
            "Drop whole turns from the beginning of a prompt that is too long, or cut tokens only.",
            group=TOKENS,
            show_default="turn for conversations, token with --max-prompt-length or --truncation-mode",
        ),
    )
    keep_system: bool | None = field(
        default=None,
        metadata=option("Keep the system message when whole turns are dropped.", group=TOKENS, show_default="keep"),
    )
    on_overlong: OnOverlong | None = field(
        default=None,
        metadata=option("What to do with pairs that exceed --max-length.", group=TOKENS, show_default="truncate"),
    )
    chat_template: Path | None = field(
        default=None,
        metadata=option(
            "Jinja chat template for conversational data.", group=TOKENS, metavar="FILE", show_default="the tokenizer's"
        ),
    )
    chat_template_kwargs: list[str] | None = field(
        default=None,
        metadata=option(
            "Variable that the chat template gets, as in enable_thinking=false (repeatable).",
            group=TOKENS,
            metavar="NAME=VALUE",
        ),
    )
    template_date: str | None = field(
        default=None,
        metadata=option(
            "Day that the chat template takes for today.",
            group=TOKENS,
            metavar="YYYY-MM-DD",
            show_default="that of the folder's first token cache, or today",
        ),
    )
    max_invalid: str | None = field(
        default=None,
        metadata=option(
            "Make no token cache if the chat template refuses more than this share of the pairs.",
            group=TOKENS,
            metavar="SHARE",
            show_default=f"{DEFAULT_MAX_INVALID:.0%}",
        ),
    )
    cache_dir: Path | None = field(
        default=None,
        metadata=option(
            "Folder of the token caches.", group=TOKENS, metavar="FOLDER", show_default="the folder of --data"
        ),
    )
    verify: Verify = field(
        default="fast",
        metadata=option(
            "How the token cache is checked for damage: fast compares the XXH3 of its shards, full the SHA-256 of all "
            "its files.",
            group=TOKENS,
        ),
    )
    early_stopping: int | None = field(
        default=None,
        metadata=option(
            "Stop after N evaluations without a lower loss. Needs --eval-steps.",
            group=EVALUATION,
            metavar="N",
            minimum=1,
        ),
    )
    generate_samples: int = field(
        default=0,
        metadata=option(
            "Number of test prompts to generate samples for, before and after training.",
            group=EVALUATION,
            metavar="N",
            minimum=0,
        ),
    )
    eval_only: bool = field(
        default=False, metadata=option("Evaluate the model on the test split without training.", group=RUN)
    )
    resume: bool = field(default=False, metadata=option("Resume from the latest checkpoint in --output.", group=RUN))
    overwrite: bool = field(default=False, metadata=option("Replace an earlier run in --output.", group=RUN))
    training: Mapping[str, Any] = field(default_factory=dict)

    @property
    def trust_remote_code(self) -> bool:
        """Whether Python code that comes with a model or a tokenizer may run."""
        return bool(self.training.get("trust_remote_code", False))

    @property
    def folders(self) -> list[Path]:
        """The prepared folders to train on."""
        return [self.data] if isinstance(self.data, Path) else [Path(folder) for folder in self.data]

    def truncation(self) -> dict[str, Any]:
        """Return the options of `dpo_data.tokenize` that were given.

        Raises: InputError: the chat template cannot be read.
        """
        given = {name: getattr(self, name) for name in _TRUNCATION if getattr(self, name) is not None}
        if self.chat_template_kwargs:
            given["chat_template_kwargs"] = parse_template_arguments(self.chat_template_kwargs)
        if self.chat_template is not None:
            with reading(self.chat_template):
                given["chat_template"] = self.chat_template.read_text(encoding="utf-8")
        return given
