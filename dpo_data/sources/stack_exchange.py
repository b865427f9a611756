"""HuggingFaceH4/stack-exchange-preferences, and lvwerra/stack-exchange-paired, which has its answers as pairs.

preferences has all answers to a question with pm_score = log2(1 + upvotes), plus 1 for the accepted answer; many are
ties. Its questions and answers are HTML and become plain text with paragraphs, line breaks and fenced code. paired has
response_j, the better answer, and response_k as Markdown; its folder rl is meant for preference training.
Columns as in the card of preferences, and as read by torchtune's _stack_exchange_paired.py.
"""

from html.parser import HTMLParser

from dpo_data.records import Response, ScoredResponses
from dpo_data.sources.fields import Row, as_object, objects_with, required_list, required_number, required_text
from dpo_data.sources.responses import assistant, preferred, user_prompt
from dpo_data.sources.source import Source, SourceOptions

BLOCKS = {"p", "div", "ul", "ol", "blockquote", "h1", "h2", "h3", "table", "hr"}
LINES = {"br", "li", "tr"}


def adapt(row: Row, options: SourceOptions) -> ScoredResponses:
    """Return the answers with their scores, or the two answers of a paired row.

    Raises: RowError: missing_field, wrong_type.
    """
    question = required_text(row, "question")
    if "answers" not in row:
        return preferred(user_prompt(question), required_text(row, "response_j"), required_text(row, "response_k"))
    responses = []
    for index, value in enumerate(required_list(row, "answers")):
        path = f"answers.{index}."
        answer = as_object(value, path[:-1])
        content = [assistant(html_to_text(required_text(answer, "text", path)))]
        responses.append(Response(content=content, score=required_number(answer, "pm_score", path)))
    return ScoredResponses(prompt=user_prompt(html_to_text(question)), responses=responses)


class _Text(HTMLParser):
    """Parser that collects the text of HTML; `_separator` goes before the next piece."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.pieces: list[str] = []
        self._separator = ""
        self._preformatted = False

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag == "pre":
            self._separator = "\n\n"
            self._add("```\n")
            self._preformatted = True
        elif tag in BLOCKS:
            self._separator = "\n\n"
        elif tag in LINES:
            self._separator = self._separator or "\n"
            if tag == "li":
                self._add("- ")

    def handle_endtag(self, tag: str) -> None:
        if tag == "pre":
            self._preformatted = False
            self.pieces.append("" if self.pieces[-1:] and self.pieces[-1].endswith("\n") else "\n")
            self.pieces.append("```")
            self._separator = "\n\n"
        elif tag in BLOCKS:
            self._separator = "\n\n"

    def handle_data(self, data: str) -> None:
        if self._preformatted:
            self.pieces.append(data)
        elif data.strip():
            self._add(data.replace("\n", " ") if not self._separator else data.replace("\n", " ").lstrip())
        elif self.pieces and not self._separator:
            self.pieces.append(" ")

    def _add(self, text: str) -> None:
        self.pieces += [self._separator, text]
        self._separator = ""


def html_to_text(html: str) -> str:
    r"""Return the text of HTML.

    >>> html_to_text("<p>Try <b>this</b>:</p>\n<pre><code>a &lt; b\n</code></pre>\n<ul><li>one</li><li>two</li></ul>")
    'Try this:\n\n```\na < b\n```\n\n- one\n- two'
    """
    parser = _Text()
    parser.feed(html)
    parser.close()
    return "".join(parser.pieces).strip()


SOURCE = Source(
    name="stack-exchange",
    license="cc-by-sa-4.0",
    homepage="https://huggingface.co/datasets/HuggingFaceH4/stack-exchange-preferences",
    direction="the answer with the higher pm_score; in the paired form response_j",
    columns=("question",),
    adapt=adapt,
    optional=("answers", "response_j", "response_k"),
    looks_like=lambda row: (
        ("response_j" in row and "response_k" in row) or objects_with(row.get("answers"), "pm_score")
    ),
    has_scores=True,
    hub="HuggingFaceH4/stack-exchange-preferences",
    hub_files=("data/**/*.parquet",),
)
