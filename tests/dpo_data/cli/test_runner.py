"""Progress and warnings of libraries, for both command lines."""

import subprocess
import sys

import pytest

from dpo_data.cli.runner import progress


def test_progress_is_a_line_now_and_then_where_standard_error_is_not_a_terminal(capsys):
    with progress("Converting", every_s=0) as show:
        show(0.25, 1000)
        show(None, 2000)
    assert capsys.readouterr().err == "Converting   25%  1,000 rows  0 s\nConverting  2,000 rows  0 s\n"


def test_progress_of_a_short_command_prints_nothing(capsys):
    with progress("Converting") as show:
        show(0.5, 1000)
    assert capsys.readouterr() == ("", "")


def test_quiet_progress_prints_nothing(capsys):
    with progress("Converting", quiet=True, every_s=0) as show:
        show(0.5, 1000)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(("words", "shown"), [([], False), (["-v"], True)])
def test_warnings_of_libraries_are_shown_with_verbose_alone(tmp_path, words, shown):
    (tmp_path / "transformers").mkdir()
    (tmp_path / "transformers" / "__init__.py").write_text("import warnings\nwarnings.warn('look here')\n")
    code = (
        "import sys\nfrom dpo_data.cli import app, sources\n"
        f"sys.path.insert(0, {str(tmp_path)!r})\n"
        "import dpo_data.sources as found\nreal = found.list_sources\n"
        "def listed():\n    import transformers\n    return real()\n"
        "found.list_sources = listed\napp.main()\n"
    )
    ran = subprocess.run([sys.executable, "-c", code, "sources", *words], capture_output=True, text=True, check=True)
    assert ("look here" in ran.stderr) == shown
