"""Results of `dpo-data export` and of `dpo-data validate --as`: their counts, and the sums that must agree."""

from typing import Annotated, Literal, Self

from pydantic import Field, NonNegativeInt, model_validator

from dpo_data.options import Form
from dpo_data.prepared.manifest import Counts, ManifestModel, require_sum


class ExportedFile(ManifestModel):
    """The file of a split."""

    file: str
    pairs: NonNegativeInt
    lines: NonNegativeInt
    size_bytes: NonNegativeInt
    sha256: str


class ExportReport(ManifestModel):
    """Content of export.json: what was exported, and what became of every pair.

    The pairs times lines_per_pair = lines + left_out.
    """

    format: Literal["dpo-data export"] = "dpo-data export"
    version: Literal[1] = 1
    target: Annotated[str, Field(description="Name of the format.")]
    layout: str
    reader: Annotated[str, Field(description="The program whose rules the lines keep.")]
    name: Annotated[str, Field(description="Name of the dataset.")]
    license: str
    form: Form
    content_hash: Annotated[str, Field(description="Content hash of the prepared folder.")]
    pairs: NonNegativeInt
    lines_per_pair: Annotated[int, Field(ge=1, description="Lines of a pair of which none is left out.")]
    lines: NonNegativeInt
    left_out: Annotated[Counts, Field(description="Reason to number of lines that were not written.")]
    lost: Annotated[Counts, Field(description="What the written lines do not hold, to number of pairs.")]
    cautions: Annotated[Counts, Field(description="What the reader does silently to some lines, to their number.")]
    warnings: Annotated[list[str], Field(description="What the reader does to all lines or files, in sentences.")]
    files: Annotated[dict[str, ExportedFile], Field(description="Split to its file.")]

    @model_validator(mode="after")
    def _check_balance(self) -> Self:
        require_sum(
            "lines + left_out", self.lines + sum(self.left_out.values()),
            "pairs * lines_per_pair", self.pairs * self.lines_per_pair,
        )  # fmt: skip
        for name in ("pairs", "lines"):
            total = sum(getattr(file, name) for file in self.files.values())
            require_sum(name, getattr(self, name), f"{name} of the files", total)
        return self


class LineFinding(ManifestModel):
    """A rule that lines of a file break, with the first few as examples."""

    lines: NonNegativeInt
    examples: list[str]


class FormatReport(ManifestModel):
    """Result of `dpo-data validate --as`: a file held against the rules of a format."""

    path: str
    target: str
    layout: str
    reader: str
    lines: NonNegativeInt
    valid: Annotated[NonNegativeInt, Field(description="Lines that break no rule.")]
    findings: Annotated[dict[str, LineFinding], Field(description="Code of a rule to the lines that break it.")]
    cautions: Annotated[Counts, Field(description="What the reader does silently to some lines, to their number.")]
    warnings: Annotated[list[str], Field(description="What is wrong with whole files, in sentences.")]

    @property
    def has_errors(self) -> bool:
        """True if a line or a file breaks a rule."""
        return bool(self.findings or self.warnings)
