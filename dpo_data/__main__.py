"""`python -m dpo_data` is `dpo-data`."""

from dpo_data.cli import main

if __name__ == "__main__":
    main()
