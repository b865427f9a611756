"""The command `dpo-data`, which is `python -m dpo_data`: the command line in a process of its own.

Worker processes import this module again, so that it imports nothing at its top that they can do without.
"""

import os
import sys


def main() -> None:
    """Run the command line, without torch."""
    # Where torch is installed, transformers loads it before a tokenizer, which takes 4 s and serves no tokenizer. None
    # is Python's own way to say that a module cannot be had, and what transformers then advises is to install it.
    sys.modules["torch"] = None  # type: ignore[assignment]
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")

    from dpo_data.cli.app import main as run

    run()


if __name__ == "__main__":
    main()
