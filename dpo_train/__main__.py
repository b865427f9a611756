"""`python -m dpo_train` is `dpo-train`, for launchers that start a module."""

from dpo_train.cli import main

if __name__ == "__main__":
    main()
