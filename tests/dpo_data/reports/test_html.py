"""`dpo-data report`: one self-contained page that executes nothing and escapes every text."""

import json
import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest

from dpo_data.errors import PreparedError
from dpo_data.inspect.report_data import DataReport, report
from dpo_data.inspect.statistics.collector import named_ids
from dpo_data.reports.html.page import page
from dpo_data.reports.html.sections import SECTIONS

EVIL = '<script>alert("x")</script>'
VOID = {"meta", "link", "br", "img", "hr", "input"}


class Reader(HTMLParser):
    """Tags, texts and attributes of a page; tags must be closed in order."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.open, self.tags, self.ids, self.attributes, self.texts = [], [], [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        self.ids += [value for name, value in attrs if name == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] != ["style"]:
            self.texts.append(data)

    @property
    def text(self):
        return "".join(self.texts)


BOW = {"prompt": "How do I tie a bow?"}
CROSS, HOPE = "Cross the ends and pull.", "Cross your fingers and hope."
ROWS = [
    BOW | {"chosen": CROSS, "rejected": HOPE, "annotator": "Ann"},
    BOW | {"chosen": HOPE, "rejected": CROSS, "annotator": "Bob"},
    {"prompt": "Who?", "chosen": "- a\n- b", "rejected": "I cannot help with that."},
    {"prompt": "What?", "chosen": "", "rejected": "nothing"},
]


@pytest.fixture
def prepared(make_prepared):
    return make_prepared(ROWS, max_invalid=1.0)


def test_the_page_is_well_formed_and_loads_nothing(prepared, byte_tokenizer):
    text = page(report(prepared, tokenizer=byte_tokenizer, max_lengths=[8, 64]))
    read = Reader(text)
    assert read.open == []
    assert {"script", "link", "img", "iframe", "object"} & set(read.tags) == set()
    loading = [(name, value) for name, value in read.attributes if name in ("src", "srcset", "action", "style")]
    assert loading == []
    assert all(value.startswith("#") for name, value in read.attributes if name == "href")
    assert "url(" not in text
    assert "@import" not in text
    assert "http" not in re.sub(r'http-equiv="[^"]*"', "", text)


def test_every_chart_is_valid_xml_with_a_name_and_without_nan(prepared, byte_tokenizer):
    text = page(report(prepared, tokenizer=byte_tokenizer, max_lengths=[8, 64]))
    charts = re.findall(r"<svg.*?</svg>", text, re.DOTALL)
    assert len(charts) >= 6
    for chart in charts:
        assert ElementTree.fromstring(chart).get("aria-label")  # noqa: S314
        assert "nan" not in chart
        assert "None" not in chart


def test_every_section_with_content_is_on_the_page(prepared, byte_tokenizer):
    content = report(prepared, tokenizer=byte_tokenizer, max_lengths=[8])
    read = Reader(page(content))
    assert read.ids == [section.name for section in SECTIONS if section.name not in ("scores", "content")]
    assert {value for name, value in read.attributes if name == "href"} == {f"#{name}" for name in read.ids}


def test_without_a_tokenizer_there_is_no_truncation_audit(prepared):
    assert "truncation" not in Reader(page(report(prepared))).ids


def test_scores_have_a_section(make_prepared):
    rows = [row | {"chosen_score": 3.0 + n, "rejected_score": 1.0} for n, row in enumerate(ROWS[:3])]
    text = Reader(page(report(make_prepared(rows)))).text
    assert "The widest margins" in text
    assert "margin" in text


def test_deep_checks_have_a_section(make_prepared):
    row = {"prompt": "Who?", "chosen": "Write to ada@example.org about it.", "rejected": "Nobody knows who that was."}
    content = report(make_prepared([row]), deep=True)
    read = Reader(page(content))
    assert "content" in read.ids
    assert content.validation.personal_data
    assert all(kind in read.text for kind in content.validation.personal_data)


def test_the_numbers_on_the_page_are_those_of_the_data(prepared):
    text = " ".join(Reader(page(report(prepared))).text.split())
    assert "4 rows read = 3 pairs + 1 in quarantine." in text
    # Of the three pairs chosen is longer in the second (28 to 24), shorter in the first and the third (7 to 24).
    assert "Of 3 pairs, chosen is longer in 1 (33.3%), shorter in 2 (66.7%), equally long in 0." in text
    assert "1 pair of responses was judged more than once, in 2 rows; 1 of them in both directions." in text


def test_the_same_data_gives_the_same_page(prepared):
    assert page(report(prepared)) == page(report(prepared))


def test_a_page_is_a_pure_function_of_the_report(prepared):
    """The JSON is enough to render the page again."""
    content = report(prepared)
    assert page(DataReport.model_validate_json(content.model_dump_json())) == page(content)


def test_all_texts_are_escaped(tmp_path, write_rows, dpo_data):
    folder = tmp_path / "<b>raw"
    rows = [
        {"prompt": f"prompt {EVIL}", "chosen": f"chosen {EVIL} and\n- more", "rejected": f"rejected {EVIL}"},
        {"prompt": f"quarantined {EVIL}", "chosen": "", "rejected": "x"},
        f'{EVIL} is not JSON "&lt;',
    ]
    raw = write_rows(folder / "<img src=x onerror=alert(1)>.jsonl", rows)
    assert dpo_data("convert", "pairs", "--input", raw, "--output", tmp_path / "out", "--max-invalid", "100%")[0] == 0
    assert dpo_data("report", tmp_path / "out")[0] == 0
    text = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    read = Reader(text)
    assert "<script" not in text
    assert "<img" not in text
    assert "<b>raw" not in text
    for where in ("prompt", "chosen", "rejected", "quarantined"):
        assert f"{where} {EVIL}" in read.text.replace('\\"', '"')
    assert f'{EVIL} is not JSON "&lt;' in read.text
    assert "<img src=x onerror=alert(1)>.jsonl:1" in read.text


def test_every_id_in_the_statistics_has_its_pair(prepared, byte_tokenizer):
    content = report(prepared, tokenizer=byte_tokenizer, max_lengths=[8])
    assert set(named_ids(content.statistics)) <= set(content.pairs)
    assert content.finding_pairs["contradiction"] == [content.pairs[content.finding_pairs["contradiction"][0]].id]


def test_differing_words_are_marked(make_prepared):
    rows = [{"prompt": "Tea?", "chosen": "Pour it while it is hot.", "rejected": "Pour it away while it is cold."}]
    text = page(report(make_prepared(rows)))
    assert "Pour it while it is<mark> hot.</mark>" in text
    assert "Pour it<mark> away</mark> while it is<mark> cold.</mark>" in text


def test_long_texts_are_clipped_in_the_report(make_prepared):
    content = report(make_prepared([{"prompt": "p" * 5000, "chosen": "c" * 9000, "rejected": "r"}]))
    (pair,) = content.pairs.values()
    assert (len(pair.prompt), len(pair.chosen)) == (602, 1502)


def test_a_rejected_folder_has_a_report_that_says_so(make_prepared):
    folder = make_prepared(ROWS, max_invalid=0.01)
    read = Reader(page(report(folder)))
    assert "Rejected:" in read.text


def test_a_folder_without_pairs_has_a_report(make_prepared, dpo_data):
    folder = make_prepared(ROWS[3:], max_invalid=1.0)
    code, out, _ = dpo_data("report", folder)
    assert code == 0
    assert "in quarantine" in out
    assert Reader((folder / "report.html").read_text()).open == []


def test_one_pair_is_enough_for_a_report(make_prepared, byte_tokenizer):
    assert Reader(page(report(make_prepared(ROWS[:1]), tokenizer=byte_tokenizer, max_lengths=[2]))).open == []


def test_the_command_writes_page_and_json_and_prints_a_summary(prepared, dpo_data):
    code, out, err = dpo_data("report", prepared)
    assert (code, err) == (0, "")
    assert "longer wins" in out
    assert out.splitlines()[-1].startswith("Report: ")
    assert Reader((prepared / "report.html").read_text(encoding="utf-8")).open == []
    assert DataReport.model_validate_json((prepared / "report.json").read_text(encoding="utf-8")).path == str(prepared)


def test_a_report_in_the_folder_leaves_it_valid(prepared, dpo_data):
    dpo_data("report", prepared)
    assert "Errors found" not in dpo_data("validate", prepared)[1]


def test_standard_output_is_only_json(prepared, dpo_data, tmp_path):
    _, out, _ = dpo_data("report", prepared, "--json", "--output", tmp_path / "elsewhere" / "page.html")
    assert json.loads(out)["statistics"]["pairs"] == 3
    assert (tmp_path / "elsewhere" / "page.html").is_file()
    assert (tmp_path / "elsewhere" / "page.json").is_file()
    assert not (prepared / "report.html").exists()


def test_a_path_that_cannot_be_written_is_refused_and_names_the_option(prepared, dpo_data, tmp_path):
    (tmp_path / "file").write_text("in the way")
    code, _, err = dpo_data("report", prepared, "--output", tmp_path / "file" / "report.html")
    assert code == 2
    assert "--output" in err
    assert "Traceback" not in err


def test_a_damaged_folder_has_no_report(prepared):
    (shard,) = (prepared / "train").glob("*.arrow")
    shard.write_bytes(shard.read_bytes()[:-100])
    with pytest.raises(PreparedError, match="dpo-data validate"):
        report(prepared)


def luminance(color):
    digits = color.lstrip("#")
    digits = "".join(digit * 2 for digit in digits) if len(digits) == 3 else digits
    parts = [int(digits[place : place + 2], 16) / 255 for place in (0, 2, 4)]
    red, green, blue = (part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one, other):
    lighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_colors_reach_the_contrast_of_wcag_aa(prepared, theme):
    """4.5 for text, 3 for graphics: WCAG 2.2, 1.4.3 and 1.4.11."""
    light, dark = re.findall(r":root \{(.*?)\}", page(report(prepared)), re.DOTALL)
    colors = dict(re.findall(r"--([a-z-]+): (#[0-9a-f]+)", light if theme == "light" else dark))
    texts = [(ink, ground) for ink in ("text", "muted", "chosen-ink") for ground in ("ground", "raised")]
    texts += [(f"{name}-ink", "ground") for name in ("bad", "warn", "good")]
    texts += [(f"{side}-ink", f"{side}-wash") for side in ("chosen", "rejected")]
    texts += [("rejected-ink", "raised")]
    drawn = [(name, "ground") for name in ("chosen", "rejected", "bad", "prompt", "muted")]
    for least, pairs in ((4.5, texts), (3, drawn)):
        found = {pair: contrast(*(colors[name] for name in pair)) for pair in pairs}
        assert {pair: ratio for pair, ratio in found.items() if ratio < least} == {}
