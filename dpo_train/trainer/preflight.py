"""Checks of training arguments before a run, of what transformers would notice only during it."""

from collections.abc import Collection
from typing import Any

from huggingface_hub import constants, get_token
from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK, get_available_reporting_integrations

from dpo_data.errors import UsageError, argument, did_you_mean, require_packages
from dpo_train.config import DPOConfig
from dpo_train.trainer.metrics import METRICS

#: Beginning or part of an optimizer's name -> the package that it needs.
_OPTIMIZER_PACKAGES = {
    "galore": "galore_torch",
    "apollo": "apollo_torch",
    "lomo": "lomo_optim",
    "grokadamw": "grokadamw",
    "schedule_free": "schedulefree",
    "8bit": "bitsandbytes",
    "bnb": "bitsandbytes",
    "paged": "bitsandbytes",
    "torchao": "torchao",
}
#: Metrics of an evaluation besides those of pairs.
_OTHER_METRICS = ("runtime", "samples_per_second", "steps_per_second", "aux_loss", "generated/length", "generated/kl")


def check_arguments(args: DPOConfig) -> None:
    """Raise UsageError if training arguments need a package, processes, or a connection that is missing."""
    check_trackers(args.report_to)
    if args.use_liger_kernel:
        require_packages(argument("use_liger_kernel"), "liger_kernel")
    if args.deepspeed:
        require_packages(argument("deepspeed"), "deepspeed")
    optimizer = str(getattr(args.optim, "value", args.optim))
    for part, package in _OPTIMIZER_PACKAGES.items():
        if part in optimizer:
            require_packages(argument("optim", optimizer), package)
    if args.fsdp and args.world_size == 1:
        raise UsageError(
            f"{argument('fsdp')} distributes a model over several processes, and this is the only one.\n"
            "  Start them: torchrun --nproc-per-node N -m dpo_train ..., or accelerate launch."
        )
    if args.push_to_hub:
        if constants.HF_HUB_OFFLINE:
            raise UsageError("needs the Hub, which HF_HUB_OFFLINE turns off.", "push_to_hub", True)
        if not (args.hub_token or get_token()):
            raise UsageError("needs a login.\n  Log in with hf auth login, or set HF_TOKEN.", "push_to_hub", True)


def check_trackers(names: Any) -> None:
    """Raise UsageError if a tracker is unknown or not installed."""
    available = get_available_reporting_integrations()
    for name in [names] if isinstance(names, str) else names or []:
        if name in ("none", "all", *available):
            continue
        if name not in INTEGRATION_TO_CALLBACK:
            known = ", ".join(sorted(INTEGRATION_TO_CALLBACK))
            raise UsageError(
                f"there is no such tracker.{did_you_mean(name, INTEGRATION_TO_CALLBACK)}\n  Trackers: {known}.",
                "report_to",
                name,
            )
        raise UsageError(f"the tracker is not installed.\n  Install: pip install {name}", "report_to", name)


def check_best_metric(args: DPOConfig, eval_names: Collection[str] | None = None) -> None:
    """Raise UsageError if metric_for_best_model is not a metric of an evaluation.

    Args:
        args: the arguments of the run.
        eval_names: names of the evaluation sets; None if there is only one.
    """
    metric = args.metric_for_best_model
    if metric is None or not (args.load_best_model_at_end or args.save_strategy == "best"):
        return
    known = [*METRICS, *_OTHER_METRICS]
    if eval_names is not None:
        known = [f"{name}_{each}" for name in eval_names for each in known]
    if metric.removeprefix("eval_") not in known:
        raise UsageError(
            f"evaluations have no such metric.{did_you_mean(metric.removeprefix('eval_'), known)}\n"
            f"  Metrics: {', '.join(known[: len(METRICS)])}.",
            "metric_for_best_model",
            metric,
        )
