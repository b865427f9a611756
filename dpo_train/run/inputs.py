"""Load what a run starts from: token cache, tokenizer, configuration and model."""

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers.utils import cached_file

from dpo_data.errors import InputError, UsageError, loading
from dpo_data.options import DEFAULT_MAX_INVALID, parse_share
from dpo_train.adapters import adapter_base, load_with_adapter
from dpo_train.config import DEFAULT_BETA, DPOConfig, make_objective, resolve_beta
from dpo_train.data.caches import model_of_tokens, training_tokens
from dpo_train.run.arguments import check_options, training_arguments
from dpo_train.run.options import RunOptions
from dpo_train.trainer.checkpoints import newest_checkpoint, require_complete

_WHAT = {AutoTokenizer: "tokenizer", AutoConfig: "configuration", AutoModelForCausalLM: "weights"}


class Inputs(NamedTuple):
    """What a run starts from.

    Attributes:
        options: of the run; the model is known.
        args: of the trainer.
        tokens: the token cache.
        splits: its splits by name.
        tokenizer: of the model.
        checkpoint: to resume from, if any.
    """

    options: RunOptions
    args: DPOConfig
    tokens: Any
    splits: Any
    tokenizer: Any
    checkpoint: Path | None


def load_inputs(options: RunOptions, say: Callable[[str], None], *, scratch: Path | None = None) -> Inputs:
    """Return what a run starts from, after the checks that need no weights.

    Args:
        options: of the run.
        say: takes a line for the user.
        scratch: folder for a token cache that does not exist yet, instead of the folder of the token caches.

    Raises: DataError: options, data and model do not go together.
    """
    check_options(options)
    if options.model is None:
        model = model_of_tokens(options.data, key=options.tokens, cache_dir=options.cache_dir)
        say(f"model      {model}, whose tokenizer made the token cache")
        options = dataclasses.replace(options, model=model)
    args = training_arguments(options)
    make_objective(args, resolve_beta(DEFAULT_BETA, args.beta))
    checkpoint = newest_checkpoint(options.output) if options.resume else None
    if checkpoint is not None:
        require_complete(checkpoint)
    model = str(options.model)
    for name in filter(None, (model, options.reference)):
        _require_weights(name)  # they are loaded last, or never
    tokenizer = load_pretrained(AutoTokenizer, model)
    if options.reference is not None:
        load_pretrained(AutoConfig, options.reference)
    tokens = training_tokens(
        options.data,
        model=model,
        tokenizer=tokenizer,
        key=options.tokens,
        cache_dir=options.cache_dir,
        options=options.truncation(),
        max_invalid=(
            DEFAULT_MAX_INVALID if options.max_invalid is None else parse_share("max_invalid", options.max_invalid)
        ),
        scratch=scratch,
        progress=_lines(say),
    )
    if tokens.set_aside is not None:
        say(f"tokens     a damaged cache was moved to {tokens.set_aside}")
    splits = tokens.dataset(options.verify)
    needed = "test" if options.eval_only else "train"
    if needed not in splits:
        raise UsageError(f"{tokens.path}: has no {needed} split, only {', '.join(splits) or 'nothing'}.")
    return Inputs(options, args, tokens, splits, tokenizer, checkpoint)


def _lines(say: Callable[[str], None], every_s: float = 10.0) -> Callable[[float | None, int], None]:
    """Return a callback that reports the progress of tokenization in a line now and then."""
    said = time.monotonic()

    def progress(fraction: float | None, rows: int) -> None:
        nonlocal said
        if time.monotonic() - said >= every_s:
            said = time.monotonic()
            say(f"tokenizing {fraction or 0:.0%}, {rows:,} pairs")

    return progress


def load_pretrained(factory: Any, model: str, **options: Any) -> Any:
    """Return a tokenizer, configuration or model, loaded by a class of transformers; of an adapter, its base model's.

    A model comes with its adapter. A tokenizer that was saved with an adapter is preferred to the base model's.

    Raises: InputError: it cannot be loaded.
    """

    def load(name: str) -> Any:
        with loading(name, _WHAT[factory]) as found:
            return factory.from_pretrained(found, **options)

    with loading(model, _WHAT[factory]) as name:
        base = adapter_base(name)
    if base is not None and factory is AutoModelForCausalLM:
        return load_with_adapter(name, load)
    if base is not None and factory is AutoTokenizer:
        own = cached_file(name, "tokenizer_config.json", _raise_exceptions_for_missing_entries=False)
        return load(model if own else base)
    return load(base or model)


def _require_weights(model: str) -> None:
    """Raise InputError if the folder of a model has no file of weights."""
    folder = Path(model).expanduser()
    if folder.is_dir() and not any(path.suffix in (".safetensors", ".bin") for path in folder.iterdir()):
        raise InputError(f"{model}: has no weights: no *.safetensors file.\n  Name the folder of a saved model.")
