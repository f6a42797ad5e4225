import csv
import io
import json
from typing import Any

import pytest

from experiments.summaries import Row, Summary, render


def row(**fields: Any) -> Row:
    defaults: dict[str, Any] = {
        "name": "tiny_rank4",
        "type": "finetuned",
        "levels": {"lora_rank": 4},
        "state": "SUCCEEDED",
        "reason": "",
        "message": "",
        "metrics": {"exact_match": 0.98765},
        "run_ids": (1, 2),
        "jobs": (3, 5),
    }
    return Row(**{**defaults, **fields})


FAILED = row(name="a|b", state="FAILED", reason="OUT_OF_MEMORY", message="Too much.", metrics={})


def summary(*rows: Row) -> Summary:
    return Summary("ranks", "Does it matter?", ("exact_match",), rows)


def test_json_has_what_a_script_needs() -> None:
    assert json.loads(render(summary(row(), FAILED), "json")) == {
        "experiment": "ranks",
        "runs": [
            {
                "name": "tiny_rank4",
                "type": "finetuned",
                "state": "SUCCEEDED",
                "reason": None,
                "message": None,
                "metrics": {"exact_match": 0.98765},
                "jobs": [3, 5],
            },
            {
                "name": "a|b",
                "type": "finetuned",
                "state": "FAILED",
                "reason": "OUT_OF_MEMORY",
                "message": "Too much.",
                "metrics": {},
                "jobs": [3, 5],
            },
        ],
    }


def test_the_table_has_a_line_a_cell_in_columns() -> None:
    header, rule, first, second = render(summary(row(), FAILED), "table").splitlines()
    assert header.split() == ["name", "type", "exact_match", "state", "reason", "jobs"]
    assert first.split() == ["tiny_rank4", "finetuned", "0.988", "SUCCEEDED", "3", "5"]
    assert header.index("state") == rule.index("-", header.index("state")) == second.index("FAILED")


def test_markdown_keeps_a_bar_in_a_name_from_ending_its_column() -> None:
    assert (
        render(summary(FAILED), "md").splitlines()[-1]
        == "| a\\|b | finetuned |  | FAILED | OUT_OF_MEMORY | 3 5 |"
    )


@pytest.mark.parametrize("name", ["=HYPERLINK(1)", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"])
def test_no_spreadsheet_takes_a_name_for_a_formula(name: str) -> None:
    rows = list(csv.reader(io.StringIO(render(summary(row(name=name)), "csv"), newline="")))
    assert rows[1][0] == f"'{name}"


def test_a_negative_number_stays_a_number_in_csv() -> None:
    rows = list(csv.reader(io.StringIO(render(summary(row(metrics={"exact_match": -0.5})), "csv"))))
    assert rows[1][2] == "-0.500"


def test_an_unknown_format_is_answered_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="use one of table, md, csv, json"):
        render(summary(), "xml")
