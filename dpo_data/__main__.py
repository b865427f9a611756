"""The command `dpo-data`, which is `python -m dpo_data`.

Worker processes import this module again, so it imports nothing at its top that they do not need.
"""

import os
import sys


def main() -> None:
    """Run the command line without torch, unless DPO_DATA_TORCH=1 is set.

    Where torch is installed, transformers loads it before a tokenizer. That takes 4 s, and no tokenizer needs it. An
    extension that does, such as a file system or feature of `datasets` that imports torch, needs DPO_DATA_TORCH=1.
    """
    if os.environ.get("DPO_DATA_TORCH") != "1":
        sys.modules["torch"] = None  # type: ignore[assignment]  # Python's own mark of a module that is not available
        os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")  # its advice is to install torch

    try:
        from dpo_data.cli.app import main as run

        run()
    except KeyboardInterrupt:  # while modules are loaded: a command that runs ends with more words
        print("Stopped.", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
