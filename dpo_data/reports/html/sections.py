"""Sections of the data report.

To add one: a function of the report, its template in templates/sections/, and a line in `SECTIONS`.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby

from dpo_data.inspect.report_data import DataReport
from dpo_data.inspect.statistics.models import ENOUGH_REPEATS, GapScore, Lengths, RuleEntry, RuleScore
from dpo_data.inspect.statistics.rules import LONGER_WINS
from dpo_data.reports.html.charts import Flow, Interval, Series
from dpo_data.reports.html.rendering import Content, Section
from dpo_data.reports.phrases import CUT_BY_TOKENS, gap_name, noise_headline


def flow(report: DataReport) -> Content:
    """Return what became of the raw rows."""
    manifest = report.manifest
    kept = manifest.rows_paired
    ways = []
    for name, split in manifest.splits.items():
        # Rows may give several pairs and pairs may need several rows: a split gets its share of the rows.
        rows = round(kept * split.pairs / manifest.pairs) if manifest.pairs else 0
        if split.pairs:
            ways.append(Flow(f"pairs in {name}", rows, "chosen", f"{split.pairs:,}"))
    ways += [Flow(code, rows, "bad", f"{rows:,}") for code, rows in _most_first(manifest.quarantined_by_code)]
    ways += [
        Flow(f"left out: {reason}", rows, "rejected", f"{rows:,}")
        for reason, rows in _most_first(manifest.left_out_by_reason)
    ]
    return {"ways": ways}


def findings(report: DataReport) -> Content:
    """Return what the checks found in kept pairs."""
    found = report.validation.findings
    if not found:
        return {"findings": []}
    return {
        "findings": [
            {"code": code, "finding": finding, "pairs": report.finding_pairs.get(code, [])}
            for code, finding in sorted(found.items(), key=lambda item: (item[1].severity, -item[1].rows))
        ]
    }


def lengths(report: DataReport) -> Content:
    """Return the lengths of prompts and responses."""
    statistics = report.statistics
    units = [("characters", statistics.characters), ("tokens", statistics.tokens)]
    panels = [{"unit": unit, "lengths": of_unit, **length_series(of_unit)} for unit, of_unit in units if of_unit]
    return {"panels": panels} if panels else None


def length_series(of_unit: Lengths) -> dict[str, list[Series]]:
    """Return the series of the histograms of prompts and of responses."""
    return {
        "prompts": [Series("prompt", "prompt", of_unit.prompt)],
        "responses": [Series("chosen", "chosen", of_unit.chosen), Series("rejected", "rejected", of_unit.rejected)],
    }


def comparison(report: DataReport) -> Content:
    """Return how the lengths of chosen and rejected differ."""
    return {"lengths": report.statistics.lengths} if report.statistics.lengths else None


def scores(report: DataReport) -> Content:
    """Return scores and margins of the source."""
    of_pairs = report.statistics.scores
    if of_pairs is None:
        return None
    both = (("chosen", of_pairs.chosen), ("rejected", of_pairs.rejected))
    return {"scores": of_pairs, "series": [Series(side, side, found) for side, found in both if found]}


def bias(report: DataReport) -> Content:
    """Return how well rules guess the label without reading the responses."""
    rules = report.statistics.rules
    if not rules:
        return None
    strongest = max(rules, key=lambda rule: _beyond_chance(rule.overall))
    return {"rules": rules, "rows": rule_intervals(report), "strongest": strongest}


def rule_intervals(report: DataReport) -> list[Interval]:
    """Return the accuracy of each rule: over all pairs, by difference of length, by raw file and by margin."""
    gaps = report.statistics.lengths.by_gap if report.statistics.lengths else []
    rules = report.statistics.rules
    by = report.statistics.by
    return [row for rule in rules for row in _rule_rows(rule, gaps if rule.rule == LONGER_WINS else [], by)]


def _beyond_chance(score: RuleScore) -> float:
    """Return the distance of the interval from one half; negative if it includes one half."""
    return -1.0 if score.low is None or score.high is None else max(score.low - 0.5, 0.5 - score.high)


def _rule_rows(rule: RuleEntry, gaps: Sequence[GapScore], by: str | None) -> Iterator[Interval]:
    yield _interval(rule.rule, rule.overall, indented=False)
    if not rule.overall.decided:
        return
    for gap in gaps:
        yield _interval(gap_name(gap), gap.score, indented=True)
    if len(rule.by_file) > 1:
        for file, score in rule.by_file.items():
            yield _interval(file, score, indented=True)
    for value, score in rule.by_value.items():
        yield _interval(f"{by} {value}: {score.pairs:,} pairs", score, indented=True)
    if len(rule.by_margin) > 1:
        for bin_ in rule.by_margin:
            yield _interval(f"margin {bin_.low:.3g} to {bin_.high:.3g}", bin_.score, indented=True)


def _interval(name: str, score: RuleScore, *, indented: bool) -> Interval:
    note = "never decides" if score.accuracy is None else f"{score.accuracy:.1%} of {score.decided:,}"
    return Interval(name, score.accuracy, score.low, score.high, note, indented)


def noise(report: DataReport) -> Content:
    """Return the estimate of the label noise."""
    noise = report.statistics.label_noise
    return {"noise": noise, "headline": noise_headline(noise), "enough": ENOUGH_REPEATS}


def truncation(report: DataReport) -> Content:
    """Return what maximum lengths would truncate; each length has an entry for keep_end, then one for keep_start."""
    entries = report.statistics.truncation
    if not entries:
        return None
    rows = [tuple(group) for _, group in groupby(entries, key=lambda entry: entry.max_length)]
    pairs = entries[0].pairs
    firsts = [row[0] for row in rows]
    return {
        "rows": rows,
        "names": [f"{entry.max_length:,}" for entry in firsts],
        "groups": [
            ("pairs truncated", "prompt", [entry.pairs_cut / max(1, pairs) for entry in firsts]),
            ("chosen loses its end", "chosen", [entry.chosen_losing_end / max(1, pairs) for entry in firsts]),
            ("rejected loses its end", "rejected", [entry.rejected_losing_end / max(1, pairs) for entry in firsts]),
        ],
        "counts": [
            ("pairs truncated", [entry.pairs_cut for entry in firsts]),
            ("prompts that lose their start (keep_end)", [row[0].prompts_losing_start for row in rows]),
            ("prompts that lose their end (keep_start)", [row[1].prompts_losing_end for row in rows]),
            ("prompt tokens lost", [entry.prompt_tokens_lost for entry in firsts]),
            ("chosen loses its end", [entry.chosen_losing_end for entry in firsts]),
            ("rejected loses its end", [entry.rejected_losing_end for entry in firsts]),
            ("only one of them loses its end", [entry.one_side_losing_end for entry in firsts]),
            ("response tokens lost", [entry.response_tokens_lost for entry in firsts]),
            ("pairs that become identical", [entry.identical for entry in firsts]),
        ],
        "note": CUT_BY_TOKENS if report.manifest.form == "conversational" else "",
        "one_side_examples": list(dict.fromkeys(id_ for entry in firsts for id_ in entry.one_side_examples)),
        "identical_examples": list(dict.fromkeys(id_ for entry in firsts for id_ in entry.identical_examples)),
    }


def content(report: DataReport) -> Content:
    """Return languages and personal data, if the deep checks looked for them."""
    languages, personal_data = report.validation.languages, report.validation.personal_data
    if languages is None and personal_data is None:
        return None
    sides = languages or {}
    names = Counter[str]()
    for counts in sides.values():
        names.update(counts)
    return {
        "sides": list(sides),
        "languages": [(name, [counts.get(name, 0) for counts in sides.values()]) for name, _ in names.most_common()],
        "personal_data": personal_data or {},
    }


def quarantine(report: DataReport) -> Content:
    """Return the rows in quarantine."""
    if not report.quarantined:
        return None
    counts = report.manifest.quarantined_by_code
    return {
        "codes": [
            {"code": code, "rows": rows, "samples": [row for row in report.quarantined if row.code == code]}
            for code, rows in _most_first(counts)
        ]
    }


def _most_first(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


SECTIONS: tuple[Section, ...] = (
    Section("flow", "Raw rows", flow),
    Section("findings", "Findings", findings),
    Section("comparison", "Chosen compared with rejected", comparison),
    Section("bias", "Shortcuts a model could learn", bias),
    Section("noise", "Label noise", noise),
    Section("scores", "Scores", scores),
    Section("lengths", "Lengths", lengths),
    Section("truncation", "Truncation", truncation),
    Section("content", "Languages and personal data", content),
    Section("quarantine", "Quarantine", quarantine),
)
