"""Load what a run starts from: token cache, tokenizer, configuration and model."""

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers.utils import cached_file

from dpo_data.errors import InputError, UsageError, argument, loading
from dpo_data.options import DEFAULT_MAX_INVALID, parse_share
from dpo_train.adapters import adapter_base, load_with_adapter
from dpo_train.config import DEFAULT_BETA, DPOConfig, make_objective, resolve_beta, trainer_arguments
from dpo_train.data.caches import joined_splits, model_of_tokens, training_tokens
from dpo_train.models import custom_code_error
from dpo_train.run.arguments import check_options, training_arguments
from dpo_train.run.options import RunOptions
from dpo_train.trainer.checkpoints import newest_checkpoint, require_complete
from dpo_train.trainer.preflight import check_arguments, check_best_metric

#: Name of a reference: the model under the adapter that is trained.
BASE = "base"

_WHAT = {AutoTokenizer: "tokenizer", AutoConfig: "configuration", AutoModelForCausalLM: "weights"}


class Inputs(NamedTuple):
    """What a run starts from.

    Attributes:
        options: of the run; the model is known.
        args: of the trainer.
        tokens: the token cache of each folder.
        splits: its splits by name.
        tokenizer: of the model.
        checkpoint: to resume from, if any.
    """

    options: RunOptions
    args: DPOConfig
    tokens: list[Any]
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
        model = model_of_tokens(options.folders[0], key=options.tokens, cache_dir=options.cache_dir)
        say(f"model      {model}, whose tokenizer made the token cache")
        options = dataclasses.replace(options, model=model)
    options = dataclasses.replace(options, reference=_reference_path(options))
    args = training_arguments(options)
    make_objective(trainer_arguments(args), resolve_beta(DEFAULT_BETA, args.beta))
    check_arguments(args)
    check_best_metric(args)
    checkpoint = _checkpoint(options, args)
    model = str(options.model)
    for name in filter(None, (model, options.reference)):
        _require_weights(name)  # they are loaded last, or never
    remote = options.trust_remote_code
    tokenizer = load_pretrained(AutoTokenizer, model, trust_remote_code=remote)
    if options.reference is not None:
        load_pretrained(AutoConfig, options.reference, trust_remote_code=remote)
    max_invalid = (
        DEFAULT_MAX_INVALID if options.max_invalid is None else parse_share("max_invalid", options.max_invalid)
    )
    tokens = [
        training_tokens(
            folder,
            model=model,
            tokenizer=tokenizer,
            key=options.tokens,
            cache_dir=options.cache_dir,
            options=options.truncation(),
            max_invalid=max_invalid,
            scratch=scratch,
            progress=_lines(say),
        )
        for folder in options.folders
    ]
    for cache in tokens:
        if cache.set_aside is not None:
            say(f"tokens     a damaged cache was moved to {cache.set_aside}")
    splits = joined_splits(tokens, options.verify)
    needed = "test" if options.eval_only else "train"
    if needed not in splits:
        raise UsageError(f"{tokens[0].path}: has no {needed} split, only {', '.join(splits) or 'nothing'}.")
    return Inputs(options, args, tokens, splits, tokenizer, checkpoint)


def _checkpoint(options: RunOptions, args: DPOConfig) -> Path | None:
    """Return the checkpoint to resume from, or None for a new run.

    Raises: UsageError: there is no such checkpoint, or it is incomplete.
    """
    given = args.resume_from_checkpoint
    if given is None and not options.resume:
        return None
    if given is not None and options.resume:
        raise UsageError(
            f"{argument('resume')} and {argument('resume_from_checkpoint')} exclude each other; pass only one."
        )
    checkpoint = newest_checkpoint(options.output) if given is None else Path(given)
    if not checkpoint.is_dir():
        raise UsageError("there is no such checkpoint.", "resume_from_checkpoint", checkpoint)
    require_complete(checkpoint)
    return checkpoint


def _lines(say: Callable[[str], None], every_s: float = 10.0) -> Callable[[float | None, int], None]:
    """Return a callback that reports the progress of tokenization in a line now and then."""
    said = time.monotonic()

    def progress(fraction: float | None, rows: int) -> None:
        nonlocal said
        if time.monotonic() - said >= every_s:
            said = time.monotonic()
            say(f"tokenizing {fraction or 0:.0%}, {rows:,} pairs")

    return progress


def _reference_path(options: RunOptions) -> str | None:
    """Return the reference by its path or name on the Hub; None for the model before training.

    Raises: UsageError: the reference is the model under an adapter, and no adapter is trained.
    """
    if options.reference != BASE:
        return options.reference
    base = adapter_base(str(options.model))
    if base is None and options.lora_r is None:
        raise UsageError(
            f"is the model under an adapter, and {options.model} is none. Without {argument('reference')}, the "
            f"reference is the model before training.\n  A folder of this name is ./{BASE}.",
            "reference",
            BASE,
        )
    return base  # the model before training is the one under a new adapter


def load_pretrained(factory: Any, model: str, *, trust_remote_code: bool = False, **options: Any) -> Any:
    """Return a tokenizer, configuration or model, loaded by a class of transformers; of an adapter, its base model's.

    A model comes with its adapter. A tokenizer that was saved with an adapter is preferred to the base model's.

    Raises:
        InputError: it cannot be loaded.
        UsageError: it needs Python code of its own, which `trust_remote_code` does not allow.
    """

    def load(name: str) -> Any:
        try:
            with loading(name, _WHAT[factory]) as found:
                return factory.from_pretrained(found, trust_remote_code=trust_remote_code, **options)
        except InputError as error:
            if "trust_remote_code" in str(error.__cause__) and not trust_remote_code:
                raise custom_code_error(model) from error
            raise

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
