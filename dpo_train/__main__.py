"""The command `dpo-train`, which is `python -m dpo_train`, also for launchers that start a module."""

import sys


def main() -> None:
    """Run the command line."""
    try:
        from dpo_train.cli import main as run

        run()
    except KeyboardInterrupt:  # while modules are loaded: a command that runs ends with more words
        print("Stopped.", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
