"""Monthly costs for comparison with the invoice: exact sums, rounding, and the three formats."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lm_openai.errors import ApiFailure, WrongUsage
from lm_openai.metrics import monthly_costs
from lm_openai.metrics.monthly_costs import Month, Row
from lm_openai.output import cost_formats
from lm_openai.output.text import one_line
from lm_openai.simulator import ADMIN_KEY, Simulator
from lm_openai.timespans import DAY
from tests.support.demo_polls import WEDNESDAY
from tests.support.http_api import demo_client
from tests.support.paths import ROOT


def at(text: str) -> int:
    """Return the Unix seconds of a UTC time."""
    return int(datetime.fromisoformat(text).replace(tzinfo=timezone.utc).timestamp())


def row(project: str, item: str, day: int, amount: str) -> Row:
    """Return a row of October 2026."""
    return Row(project, f"proj_{project.lower()}", item, f"2026-10-{day:02}", Decimal(amount))


SMALL = Month(
    "2026-10",
    "acme",
    (
        row("Checkout", "gpt-5, input", 1, "1.004"),
        row("Checkout", "gpt-5, input", 2, "1.004"),
        row("Checkout", "gpt-5, output", 1, "0.004"),
        row("Research", 'the "big", one', 2, "10.5"),
        Row("none", "none", "Credit grant", "2026-10-02", Decimal("-2.503")),
    ),
)


class Known:
    """Directory of two projects without names, in place of one read from the API."""

    def projects(self) -> list[Any]:
        return [{"id": "a"}, {"id": "b"}]

    def label(self, dimension: str, identifier: str) -> str:
        return identifier


def read(demo: Simulator, text: str, now: int = WEDNESDAY) -> Month:
    names: Any = Known()
    return monthly_costs.read(demo_client(demo), names, "acme", text, now)


# The month


@pytest.mark.parametrize(
    "text",
    ["2026-13", "2026-00", "2026-1", "26-10", "2026/10", "2026-10-01", "", "last", "1969-12"],
)
def test_text_that_is_not_a_month_is_refused(text: str) -> None:
    with pytest.raises(WrongUsage, match="give a year and a month, such as 2026-10"):
        monthly_costs.period(text, WEDNESDAY)


def test_a_month_that_has_not_begun_is_refused() -> None:
    with pytest.raises(WrongUsage, match="2026-12: that month has not begun"):
        monthly_costs.period("2026-12", at("2026-11-30T23:59:59"))

    assert monthly_costs.period("2026-12", at("2026-12-01"))[0] == at("2026-12-01")


@pytest.mark.parametrize(
    ("text", "days"), [("2026-10", 31), ("2026-02", 28), ("2024-02", 29), ("2025-12", 31)]
)
def test_a_month_has_the_right_number_of_days(text: str, days: int) -> None:
    start, end = monthly_costs.period(text, WEDNESDAY)

    assert end - start == days * DAY
    assert start == at(f"{text}-01")


def test_a_running_month_is_reported_as_unfinished(demo: Simulator) -> None:
    found = read(demo, "2026-11")

    assert "unfinished: the month ends on 2026-11-30" in found.unfinished
    assert found.unfinished in cost_formats.table(found)
    assert max(row.day for row in found.rows) == "2026-11-18"


@pytest.mark.parametrize(("hours", "settled"), [(0, False), (23, False), (24, True)])
def test_a_month_is_final_a_day_after_its_end(demo: Simulator, hours: int, settled: bool) -> None:
    found = read(demo, "2026-10", at("2026-11-01") + hours * 3600)

    assert (found.unfinished == "") is settled


# Sums


def test_the_month_equals_the_costs_of_the_organization_to_the_last_digit(demo: Simulator) -> None:
    start, end = monthly_costs.period("2026-10", WEDNESDAY)
    days = dict(demo_client(demo).costs(start, end))

    found = read(demo, "2026-10")

    assert monthly_costs.total(found.rows) == sum(
        cost.amount for one in days.values() for cost in one
    )
    by_day = {name: monthly_costs.total(rows) for name, rows in _days(found).items()}
    assert len(by_day) == 31
    for day, costs in days.items():
        name = datetime.fromtimestamp(day, timezone.utc).strftime("%Y-%m-%d")
        assert by_day[name] == sum(cost.amount for cost in costs)


def _days(found: Month) -> dict[str, list[Row]]:
    days: dict[str, list[Row]] = {}
    for one in found.rows:
        days.setdefault(one.day, []).append(one)
    return days


def test_a_second_currency_is_refused() -> None:
    class Mixed:
        def costs(self, *arguments: object, **settings: object) -> Iterator[Any]:
            from lm_openai.api.records import Cost

            yield 0, [Cost(Decimal(1), "usd", "a"), Cost(Decimal(1), "eur", "b")]

    client: Any = Mixed()
    names: Any = Known()
    with pytest.raises(ApiFailure, match=r"cannot be added \(EUR and USD\)"):
        monthly_costs.read(client, names, "acme", "2026-10", WEDNESDAY)


def test_a_month_in_another_currency_says_so_in_each_format() -> None:
    euros = SMALL._replace(currency="eur")

    assert cost_formats.table(euros).startswith("acme: costs of 2026-10 in EUR, by UTC days\n")
    assert json.loads(cost_formats.document(euros))["currency"] == "eur"
    lines = list(csv.reader(io.StringIO(cost_formats.comma_separated(euros))))
    assert {line[-1] for line in lines[1:]} == {"eur"}


def test_the_currency_of_a_month_is_that_of_its_amounts() -> None:
    class European:
        def costs(self, start: int, end: int, **settings: object) -> Iterator[Any]:
            from lm_openai.api.records import Cost

            for day in range(start, end, DAY):
                yield day, [Cost(Decimal(1), "eur", "a"), Cost(Decimal(0), "usd", "a")]

    client: Any = European()
    names: Any = Known()
    found = monthly_costs.read(client, names, "acme", "2026-10", WEDNESDAY)

    assert found.currency == "eur"
    assert monthly_costs.total(found.rows) == 31


@pytest.mark.parametrize("received", [range(30), range(1, 31), [*range(15), *range(16, 31)]])
def test_a_month_with_a_missing_day_is_refused(received: list[int]) -> None:
    """A day without costs is a bucket without results; without a bucket the day is missing."""
    start, _ = monthly_costs.period("2026-10", WEDNESDAY)

    class Short:
        def costs(self, *arguments: object, **settings: object) -> Iterator[Any]:
            yield from ((start + day * DAY, []) for day in received)

    client: Any = Short()
    names: Any = Known()
    with pytest.raises(ApiFailure, match=r"costs: .*1 of 31 days are missing"):
        monthly_costs.read(client, names, "acme", "2026-10", WEDNESDAY)


# The table


def test_the_table_shows_every_project_line_item_and_day_to_the_cent() -> None:
    """1.004 + 1.004 is 2.01 if only the sum is rounded, and 2.00 if each day is rounded."""
    assert cost_formats.table(SMALL) == (
        "acme: costs of 2026-10 in US dollars, by UTC days\n"
        "\n"
        "Checkout (proj_checkout)   2.01\n"
        "  gpt-5, input             2.01\n"
        "  gpt-5, output            0.00\n"
        "\n"
        "Research (proj_research)  10.50\n"
        '  the "big", one          10.50\n'
        "\n"
        "none                      -2.50\n"
        "  Credit grant            -2.50\n"
        "\n"
        "by day\n"
        "  2026-10-01               1.01\n"
        "  2026-10-02               9.00\n"
        "\n"
        "total of 2026-10          10.01\n"
    )


def test_the_table_notes_it_if_rounded_lines_add_up_to_another_total() -> None:
    thirds = tuple(row("Checkout", f"item {number}", number, "0.333") for number in range(1, 4))

    text = cost_formats.table(Month("2026-10", "acme", thirds))

    assert text.splitlines()[-2].split() == ["total", "of", "2026-10", "1.00"]
    assert text.splitlines()[-1] == (
        "(rounded one by one, line items add up to 0.99, days add up to 0.99)"
    )


@pytest.mark.parametrize(
    ("amount", "shown"),
    [
        ("0.005", "0.00"),
        ("0.015", "0.02"),
        ("0.025", "0.02"),
        ("-0.004", "0.00"),
        ("-1.5", "-1.50"),
    ],
)
def test_cents_are_rounded_half_to_even_and_never_print_as_minus_zero(
    amount: str, shown: str
) -> None:
    assert str(cost_formats.cents(Decimal(amount))) == shown


def test_a_name_with_a_line_break_stays_on_one_line() -> None:
    text = cost_formats.table(Month("2026-10", "acme", (row("A\nB", "x", 1, "1"),)))

    assert "A B (proj_a b)" in text


def test_a_month_without_costs_has_a_total_of_zero() -> None:
    text = cost_formats.table(Month("2026-10", "acme", ()))

    assert text.splitlines()[-1].split() == ["total", "of", "2026-10", "0.00"]


# CSV and JSON


amounts = st.decimals(min_value=-9999, max_value=99999, places=12)


words = st.text(min_size=1)


@given(st.lists(st.tuples(words, words, st.integers(1, 31), amounts)))
def test_csv_and_json_keep_every_digit_and_text(
    entries: list[tuple[str, str, int, Decimal]],
) -> None:
    """CSV has spaces for line breaks, which some readers reject, and no cell begins a formula."""
    rows = tuple(row(name, item, day, str(amount)) for name, item, day, amount in entries)
    found = Month("2026-10", "acme", rows)

    lines = list(csv.DictReader(io.StringIO(cost_formats.comma_separated(found), newline="")))
    document = json.loads(cost_formats.document(found), parse_float=Decimal, parse_int=Decimal)

    assert [_comparable(one) for one in document["rows"]] == [
        _comparable(one._asdict()) for one in rows
    ]
    assert [_comparable(one) for one in lines] == [
        _comparable(one._asdict(), in_csv) for one in rows
    ]
    assert document["total"] == monthly_costs.total(rows)


def in_csv(text: str) -> str:
    """Return text as a CSV cell holds it."""
    shown = one_line(text)
    return f"'{shown}" if re.match(r"\s*[=+\-@\uff1d\uff0b\uff0d\uff20]", shown) else shown


def _comparable(found: dict[str, Any], spelled: Callable[[str], str] = str) -> tuple[object, ...]:
    texts = (found["project_name"], found["line_item"], found["day"])
    return (*map(spelled, texts), Decimal(found["amount"]))


def test_csv_has_a_header_and_quotes_what_needs_it() -> None:
    lines = cost_formats.comma_separated(SMALL).splitlines()

    assert lines[0] == "day,project_id,project_name,line_item,amount,currency"
    assert lines[1] == '2026-10-01,proj_checkout,Checkout,"gpt-5, input",1.004,usd'
    assert lines[4] == '2026-10-02,proj_research,Research,"the ""big"", one",10.5,usd'
    assert lines[5] == "2026-10-02,none,none,Credit grant,-2.503,usd"


@pytest.mark.parametrize(
    ("name", "cell"),
    [
        ('=HYPERLINK("http://x","y")', '\'=HYPERLINK("http://x","y")'),
        ("+1", "'+1"),
        ("-1", "'-1"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\t=1+1", "' =1+1"),
        ("\r=1+1", "' =1+1"),
        ("\uff1d1", "'\uff1d1"),
        ("a=b", "a=b"),
        ("2-3", "2-3"),
    ],
)
def test_a_name_in_csv_begins_no_formula_and_an_amount_stays_a_number(name: str, cell: str) -> None:
    one = Row(name, name, name, "2026-10-02", Decimal("-2.503"))
    text = cost_formats.comma_separated(Month("2026-10", "acme", (one,)))
    (found,) = csv.DictReader(io.StringIO(text))

    assert [found[field] for field in ("project_id", "project_name", "line_item")] == [cell] * 3
    assert found["amount"] == "-2.503"


def test_json_holds_the_sums_of_each_project_line_item_and_day() -> None:
    document = json.loads(cost_formats.document(SMALL), parse_float=Decimal, parse_int=Decimal)

    assert (document["total"], document["total_to_the_cent"]) == (Decimal("10.009"), "10.01")
    assert document["finished"] is True
    assert document["days"] == [
        {"day": "2026-10-01", "amount": Decimal("1.008")},
        {"day": "2026-10-02", "amount": Decimal("9.001")},
    ]
    for part in ("projects", "line_items", "days", "rows"):
        assert sum(one["amount"] for one in document[part]) == document["total"]


# The command


def ran(demo: Simulator, home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environ = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "OPENAI_ADMIN_KEY": ADMIN_KEY,
        "OPENAI_BASE_URL": demo.url,
        "LM_OPENAI_ORG_NAME": "acme",
    }
    command = [sys.executable, "-m", "lm_openai.app.cli", "costs", "--at", str(WEDNESDAY), *words]
    return subprocess.run(command, env=environ, cwd=ROOT, capture_output=True, text=True)


def test_the_command_prints_a_finished_month(demo: Simulator, home: Path) -> None:
    found = ran(demo, home, "--month", "2026-10")

    lines = found.stdout.splitlines()
    assert (found.returncode, found.stderr) == (0, "")
    assert lines[0] == "acme: costs of 2026-10 in US dollars, by UTC days"
    archived = [line for line in lines if line.startswith("Legacy Chatbot (2024) (proj_")]
    assert len(archived) == 1
    whole = str(cost_formats.cents(monthly_costs.total(read(demo, "2026-10").rows)))
    assert f"total of 2026-10 {whole}" in [" ".join(line.split()) for line in lines]


def test_csv_of_a_running_month_is_reported_as_unfinished_on_stderr(
    demo: Simulator, home: Path
) -> None:
    found = ran(demo, home, "--month", "2026-11", "--format", "csv")

    rows = list(csv.DictReader(io.StringIO(found.stdout)))
    assert found.returncode == 0
    assert found.stderr.startswith("unfinished: ")
    assert sum(Decimal(one["amount"]) for one in rows) == monthly_costs.total(
        read(demo, "2026-11").rows
    )


def test_csv_begins_with_a_byte_order_mark_on_request(demo: Simulator, home: Path) -> None:
    words = ("--month", "2026-10", "--format", "csv")
    plain, marked = ran(demo, home, *words), ran(demo, home, *words, "--bom")

    assert plain.stdout.startswith("day,project_id")
    assert marked.stdout == "\ufeff" + plain.stdout


@pytest.mark.parametrize(
    "words",
    [
        ("--month", "2026-12"),
        ("--month", "soon"),
        (),
        ("--month", "2026-10", "--format=pdf"),
        ("--month", "2026-10", "--format=json", "--bom"),
    ],
)
def test_wrong_usage_gives_a_one_line_error_and_exit_status_2(
    demo: Simulator, home: Path, words: tuple[str, ...]
) -> None:
    found = ran(demo, home, *words)

    assert (found.returncode, found.stdout) == (2, "")
    assert found.stderr.count("\n") == 1
