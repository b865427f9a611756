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
    from dpo_data.sources import SOURCES, list_sources
    from dpo_data.sources.source import SourceSummary
    from dpo_data.tokens.cache import TokenCache, open_tokens, tokenize
    from dpo_data.tokens.manifest import TokensManifest

__version__ = "0.1.0"

_MODULES = {
    "EXPORTS": "exports",
    "SOURCES": "sources",
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
    "check_export": "exports.checking",
    "convert": "conversion.convert",
    "diff": "inspect.diff",
    "export": "exports.export",
    "find": "inspect.search",
    "list_sources": "sources",
    "open_prepared": "prepared.reader",
    "open_tokens": "tokens.cache",
    "report": "inspect.report_data",
    "show": "inspect.search",
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
    "check_export",
    "convert",
    "diff",
    "export",
    "find",
    "list_sources",
    "open_prepared",
    "open_tokens",
    "report",
    "show",
    "sniff",
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
