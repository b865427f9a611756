"""Convert, validate, tokenize and inspect preference data: one function per command, and the types that they return.

Importing this package loads nothing heavy: each name loads its module on first use.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dpo_data.conversion.convert import convert
    from dpo_data.conversion.detect import DetectedSource, sniff
    from dpo_data.errors import DataError, InputError, LossError, PreparedError, RowError, UsageError
    from dpo_data.exports import EXPORTS
    from dpo_data.exports.checking import check_export
    from dpo_data.exports.export import export
    from dpo_data.exports.report import ExportReport, FormatReport
    from dpo_data.inspect.diff import Comparison, diff
    from dpo_data.inspect.report_data import DataReport, report
    from dpo_data.inspect.run_pairs import JudgedPair, worst_pairs
    from dpo_data.inspect.search import SearchResult, find, show
    from dpo_data.inspect.validation import ValidationReport, validate
    from dpo_data.inspect.where import PairUse, where
    from dpo_data.prepared.manifest import Manifest
    from dpo_data.prepared.reader import Prepared, open_prepared
    from dpo_data.reports.html.page import write_page
    from dpo_data.schemas import write_schemas
    from dpo_data.shaping.apply import apply
    from dpo_data.shaping.build import BuildResult, build
    from dpo_data.shaping.decontaminate import decontaminate
    from dpo_data.shaping.dedup import dedup
    from dpo_data.shaping.filter import filter
    from dpo_data.shaping.mix import mix
    from dpo_data.shaping.redact import redact
    from dpo_data.shaping.sample import sample_pairs
    from dpo_data.shaping.split import split
    from dpo_data.sources import SOURCES, list_sources
    from dpo_data.sources.source import SourceSummary
    from dpo_data.tokens.cache import TokenCache, open_tokens, tokenize
    from dpo_data.tokens.manifest import TokensManifest

__version__ = "0.1.0"

_MODULES = {
    "EXPORTS": "exports",
    "SOURCES": "sources",
    "BuildResult": "shaping.build",
    "Comparison": "inspect.diff",
    "DataError": "errors",
    "DataReport": "inspect.report_data",
    "DetectedSource": "conversion.detect",
    "ExportReport": "exports.report",
    "FormatReport": "exports.report",
    "InputError": "errors",
    "JudgedPair": "inspect.run_pairs",
    "LossError": "errors",
    "Manifest": "prepared.manifest",
    "PairUse": "inspect.where",
    "Prepared": "prepared.reader",
    "PreparedError": "errors",
    "RowError": "errors",
    "SearchResult": "inspect.search",
    "SourceSummary": "sources.source",
    "TokenCache": "tokens.cache",
    "TokensManifest": "tokens.manifest",
    "UsageError": "errors",
    "ValidationReport": "inspect.validation",
    "apply": "shaping.apply",
    "build": "shaping.build",
    "check_export": "exports.checking",
    "convert": "conversion.convert",
    "decontaminate": "shaping.decontaminate",
    "dedup": "shaping.dedup",
    "diff": "inspect.diff",
    "export": "exports.export",
    "filter": "shaping.filter",
    "find": "inspect.search",
    "list_sources": "sources",
    "mix": "shaping.mix",
    "open_prepared": "prepared.reader",
    "open_tokens": "tokens.cache",
    "redact": "shaping.redact",
    "report": "inspect.report_data",
    "sample_pairs": "shaping.sample",
    "show": "inspect.search",
    "split": "shaping.split",
    "sniff": "conversion.detect",
    "tokenize": "tokens.cache",
    "validate": "inspect.validation",
    "where": "inspect.where",
    "worst_pairs": "inspect.run_pairs",
    "write_page": "reports.html.page",
    "write_schemas": "schemas",
}

__all__ = [
    "EXPORTS",
    "SOURCES",
    "BuildResult",
    "Comparison",
    "DataError",
    "DataReport",
    "DetectedSource",
    "ExportReport",
    "FormatReport",
    "InputError",
    "JudgedPair",
    "LossError",
    "Manifest",
    "PairUse",
    "Prepared",
    "PreparedError",
    "RowError",
    "SearchResult",
    "SourceSummary",
    "TokenCache",
    "TokensManifest",
    "UsageError",
    "ValidationReport",
    "apply",
    "build",
    "check_export",
    "convert",
    "decontaminate",
    "dedup",
    "diff",
    "export",
    "filter",
    "find",
    "list_sources",
    "mix",
    "open_prepared",
    "open_tokens",
    "redact",
    "report",
    "sample_pairs",
    "show",
    "sniff",
    "split",
    "tokenize",
    "validate",
    "where",
    "worst_pairs",
    "write_page",
    "write_schemas",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it offers {', '.join(__all__)}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
