"""Write expected.jsonl of a source from its raw.jsonl, for review.

    python tests/new_source.py NAME

Raw rows are in tests/fixtures/sources/NAME/raw.jsonl; see CONTRIBUTING.md.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent / "helpers"), str(Path(__file__).parent.parent)]

from golden import FIXTURES, expected_rows  # noqa: E402

from dpo_data.errors import DataError  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="name of the source on the command line")
    name = parser.parse_args().name
    raw, expected = FIXTURES / name / "raw.jsonl", FIXTURES / name / "expected.jsonl"
    if not raw.is_file():
        sys.exit(f"{raw}: there is no such file.\n  Write the raw rows first, in the exact layout of the dataset.")
    try:
        with tempfile.TemporaryDirectory() as scratch:
            rows = expected_rows(name, Path(scratch))
    except DataError as error:
        sys.exit(str(error))
    expected.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    print(f"{expected}: {len(rows)} lines. Compare each line with its raw row before you commit the file.")


if __name__ == "__main__":
    main()
