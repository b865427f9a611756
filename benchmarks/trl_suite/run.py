"""Run TRL's own test suite of its DPOTrainer against dpo_train, behind a shim that only renames, and count.

    PYTHONPATH=. python benchmarks/trl_suite/run.py TRL --output benchmarks/results/trl_suite_cpu_202611.md
    PYTHONPATH=. python benchmarks/trl_suite/run.py TRL --against /tmp/trl

TRL is a checkout of huggingface/trl, or its bare repository; `--commit` names a commit of the latter. Its tests are
read and not copied into this repository. Models and datasets of the Hub are replaced by the toys of toys.py.
`--against FOLDER` runs the suite on TRL itself, installed by `pip install --no-deps --target FOLDER trl`, to check the
toys. Tests of vision models and tests that need a GPU or a package that is missing are skipped.
"""

import argparse
import functools
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
TESTS = "tests/test_dpo_trainer.py"

#: What dpo_train does otherwise on purpose, by the beginning of the test's name.
CANNOT = {
    "test_evaluate_precompute_ref_log_probs_after_training_raises": "ours keeps the values of the first evaluation for "
    "the second, and refuses only new pairs",
    "test_train_dataset_required": "ours evaluates without a training set, and refuses to train",
    "test_train_with_eval": "ours logs the first step (logging_first_step), so the first record is no evaluation",
    "test_tag_added": "TRL's own tag, trl; ours are dpo and dpo-train",
    "test_dpo_trainer_1_t5": "ours trains no encoder-decoders",
    "test_dpo_trainer_3_t5": "ours trains no encoder-decoders",
    "test_dpo_trainer_5_t5": "ours trains no encoder-decoders",
    "test_dpo_trainer_generate_during_eval_no_wandb": "ours logs what is generated without wandb",
    "test_dpo_trainer_padding_token_is_none": "ours needs no padding token",
    "test_dpo_trainer_w_dataset_num_proc": "ours needs no padding token",
    "test_dpo_lora_tags": "TRL's own tag, trl; ours are dpo and dpo-train",
    "test_dpo_tags": "TRL's own tag, trl; ours are dpo and dpo-train",
    "test_fully_truncated_completion_examples_dropped": "TRL's truncation: ours leaves tokens of prompt and response",
}


class Recorder:
    """Outcome of each test, with the last line of its error."""

    def __init__(self) -> None:
        self.outcomes: dict[str, tuple[str, str]] = {}

    def pytest_runtest_logreport(self, report: Any) -> None:
        name = report.nodeid.partition("::")[2]
        if report.skipped:
            self.outcomes[name] = ("skipped", str(report.longrepr[2]) if isinstance(report.longrepr, tuple) else "")
        elif report.failed:
            crash = getattr(report.longrepr, "reprcrash", None)
            message = crash.message if crash else str(report.longrepr)
            self.outcomes[name] = ("failed", " ".join(message.split())[:200])
        elif report.when == "call":
            self.outcomes[name] = ("passed", "")


def read_tests(source: Path, commit: str, folder: Path) -> None:
    """Write the test file of a checkout or a bare repository to a folder, with the module that it imports."""
    (folder / "tests").mkdir()
    (folder / "tests" / "__init__.py").touch()
    (folder / "tests" / "testing_utils.py").write_bytes((HERE / "testing_utils.py").read_bytes())
    if (source / TESTS).exists():
        text = (source / TESTS).read_bytes()
    else:
        command = ["git", f"--git-dir={source}", "show", f"{commit}:{TESTS}"]
        text = subprocess.run(command, check=True, capture_output=True).stdout
    # The name that transformers 5 removed.
    (folder / TESTS).write_bytes(text.replace(b"evaluation_strategy=", b"eval_strategy="))


def compute_on_cpu() -> None:
    """Make TRL's configuration compute on the CPU: its default, bfloat16, is refused without a GPU otherwise."""
    import trl

    trl.DPOConfig.__init__ = functools.partialmethod(trl.DPOConfig.__init__, use_cpu=True)


def run(folder: Path, selected: str) -> dict[str, tuple[str, str]]:
    """Return outcome and error of each test of a folder."""
    recorder = Recorder()
    options = ["-q", "-p", "no:cacheprovider", "--rootdir", str(folder), "-c", os.devnull, "--tb=short"]
    keyword = "not VLM and not Vision and not Slow and not liger" + (f" and ({selected})" if selected else "")
    pytest.main([str(folder / TESTS), *options, "-k", keyword], plugins=[recorder])
    return recorder.outcomes


def cannot(name: str) -> str:
    """Return why a test cannot pass; empty if it can."""
    test = name.rpartition("::")[2]
    return next((why for start, why in CANNOT.items() if test.startswith(start)), "")


def table(outcomes: dict[str, tuple[str, str]]) -> str:
    """Return the counts, and each test that did not pass, as Markdown."""
    passed = [name for name, (outcome, _) in outcomes.items() if outcome == "passed"]
    failed = {name: why for name, (outcome, why) in outcomes.items() if outcome == "failed"}
    possible = [name for name, (outcome, _) in outcomes.items() if outcome != "skipped" and not cannot(name)]
    of_possible = [name for name in possible if name in passed]
    lines = [
        f"{len(outcomes)} tests: {len(passed)} pass, {len(failed)} fail, "
        f"{len(outcomes) - len(passed) - len(failed)} are skipped. "
        f"{len(of_possible)} of the {len(possible)} that do not expect another decision pass.",
        "",
        "| test | | why |",
        "|---|---|---|",
    ]
    for name, (outcome, why) in outcomes.items():
        if outcome != "passed":
            reason = f"differs: {cannot(name)}" if outcome == "failed" and cannot(name) else outcome
            lines.append(f"| `{name.rpartition('::')[2]}` | {reason} | {why.replace('|', chr(92) + '|')} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trl", type=Path, help="checkout or bare repository of TRL")
    parser.add_argument("--commit", default="HEAD", help="of a bare repository")
    parser.add_argument("--against", type=Path, help="folder in which TRL itself is installed")
    parser.add_argument("-k", dest="selected", default="", help="run these tests only")
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    os.environ |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    sys.path.insert(0, str(arguments.against or HERE / "shim"))
    source, output = arguments.trl.resolve(), arguments.output and arguments.output.resolve()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        os.environ["HF_HOME"] = str(folder / "cache")
        from toys import write_datasets, write_models

        write_models(folder / "trl-internal-testing")
        write_datasets(folder / "trl-internal-testing")
        read_tests(source, arguments.commit, folder)
        if arguments.against:
            compute_on_cpu()
        sys.path.insert(0, str(folder))
        os.chdir(folder)
        outcomes = run(folder, arguments.selected)
    result = table(outcomes)
    print(result)
    if output:
        output.write_text(f"# TRL's DPOTrainer tests, run against dpo_train\n\n{result}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
