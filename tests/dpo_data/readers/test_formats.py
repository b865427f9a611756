"""The registry of raw file formats."""

import ast
import inspect
from typing import get_args

from dpo_data.options import InputFormat
from dpo_data.readers import formats
from dpo_data.readers.formats import FORMAT_OF_SUFFIX, FORMATS


def test_the_registry_is_a_literal() -> None:
    tree = ast.parse(inspect.getsource(formats))
    (value,) = [node.value for node in tree.body if isinstance(node, ast.AnnAssign)]
    assert isinstance(value, ast.Dict)


def test_formats_have_the_names_of_the_option_and_suffixes_of_their_own() -> None:
    assert list(FORMATS) == list(get_args(InputFormat)) == [format_.name for format_ in FORMATS.values()]
    assert len(FORMAT_OF_SUFFIX) == sum(len(format_.suffixes) for format_ in FORMATS.values()) > len(FORMATS)
