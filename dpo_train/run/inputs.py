"""Load the model, the tokenizer and the data of a run."""

from pathlib import Path
from typing import Any

from transformers import AutoConfig, AutoTokenizer

from dpo_data.errors import InputError, UsageError
from dpo_train.config import DPOConfig
from dpo_train.data.caches import training_tokens
from dpo_train.run.options import RunOptions, _config


def _inputs(options: RunOptions) -> tuple[DPOConfig, Any, Any]:
    """Training arguments, token cache and its splits."""
    args = _config(options)
    cache = training_tokens(
        options.data,
        model=options.model,
        tokenizer=_load(AutoTokenizer, options.model),
        key=options.tokens,
        cache_dir=options.cache_dir,
        options=options.truncation,
    )
    splits = cache.dataset()
    needed = "test" if options.eval_only else "train"
    if needed not in splits:
        raise UsageError(f"{cache.path}: it has no {needed} split, only {', '.join(splits) or 'nothing'}.")
    return args, cache, splits


def _load(factory: Any, model: str, **options: Any) -> Any:
    """A model, tokenizer or configuration, with the loader's errors in words for the user."""
    if model.startswith((".", "/", "~")) and not Path(model).expanduser().is_dir():
        raise InputError(f"{model}: there is no such folder.\n  --model takes the folder of a saved model.")
    try:
        return factory.from_pretrained(model, **options)
    except Exception as error:  # transformers raises many kinds, some of them for a file that is not there
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".: ")
        what = {AutoTokenizer: "tokenizer", AutoConfig: "configuration"}.get(factory, "weights")
        raise InputError(
            f"{model}: its {what} cannot be loaded: {reason}.\n"
            "  --model takes the folder of a saved model with its tokenizer, or the id of one on the hub."
        ) from error
