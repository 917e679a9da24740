"""Host properties: sources and their order, value formats, refusals, secrets and the key file."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from datetime import datetime, timezone
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from lm_openai import timespans
from lm_openai.config import value_types
from lm_openai.config.properties import load
from lm_openai.config.registry import row, table
from lm_openai.config.sources import variable_of
from lm_openai.errors import WrongUsage
from lm_openai.redaction import redact
from lm_openai.resources import folders, schema
from lm_openai.timespans import WIDTHS, Window

FOLDER = "completion_by_model"
KEY = "sk-admin-Zm9vYmFy"
NOON = int(datetime(2026, 3, 10, 12, 34, 56, tzinfo=timezone.utc).timestamp())


def instant(text):
    return int(datetime.fromisoformat(text + "+00:00").timestamp())


def from_text(text, **environ):
    return load(environ, files=["-"], stdin=io.StringIO(text))


def refusal(*arguments, **keywords):
    with pytest.raises(WrongUsage) as caught:
        load(*arguments, **keywords)
    return str(caught.value)


def refused(read):
    """Return the error message, or "" if the text was accepted."""
    try:
        read()
    except (WrongUsage, ValueError) as reason:
        return str(reason)
    return ""


class TestSchema:
    def test_the_schema_is_valid_and_accepts_its_own_defaults(self):
        declared = schema("properties")
        Draft202012Validator.check_schema(declared)
        defaults = {
            name: entry["default"]
            for name, entry in declared["properties"].items()
            if "default" in entry
        }
        Draft202012Validator(declared).validate(defaults)

    def test_every_kind_has_a_format_and_every_format_is_used(self):
        assert {entry.kind for entry in table().values()} == set(value_types.TYPES)

    def test_every_default_can_be_parsed(self):
        for entry in table().values():
            if entry.default:
                value_types.parse(entry.kind, entry.default, entry.bounds)

    def test_every_description_is_one_sentence(self):
        for entry in table().values():
            assert entry.description.endswith("."), entry.name
            assert ". " not in entry.description, entry.name

    def test_secrets_have_names_that_logicmonitor_masks(self):
        for entry in table().values():
            assert entry.secret == entry.name.endswith((".key", ".pass")), entry.name

    def test_no_two_properties_share_an_environment_variable(self):
        names = [
            *table(),
            *(
                f"openai.{folder}.{name.removeprefix('openai.')}"
                for folder in folders()
                for name, entry in table().items()
                if entry.each
            ),
        ]
        assert len({variable_of(name) for name in names}) == len(names)

    def test_a_property_for_one_project_is_found_by_its_pattern(self):
        assert row("openai.budget.project.proj_A1").name == "openai.budget.project.<id>"
        with pytest.raises(KeyError):
            row("openai.budget.project.")


class TestOrder:
    def test_defaults_apply_when_nothing_is_set(self):
        properties = load({})
        assert properties.text("openai.api.url") == "https://api.openai.com/v1"
        assert properties.organization == "default"
        assert properties.count("openai.timeout") == 50
        assert properties.count("openai.concurrency") == 16
        assert properties.count("openai.top") == 20
        assert properties.dollars("openai.cost.floor") == Decimal(10)
        assert properties.dollars("openai.budget.monthly") is None
        assert properties.seconds("openai.headroom.lookback") == 900
        assert properties.seconds("openai.audit.overlap") == 3600
        assert properties.date("openai.balance.date") is None
        assert properties.flag("openai.limits.unused") is False
        assert properties.flag("openai.users.email") is False
        assert properties.globs("openai.models.approved") == ()
        assert properties.words("openai.group.by") == ()
        assert properties.text("openai.collector.command") == "/usr/bin/lm-openai"
        assert not properties.is_set("openai.window")

    def test_sets_win_over_files_and_files_over_the_environment(self, tmp_path):
        first, second = tmp_path / "first", tmp_path / "second"
        first.write_text("openai.top=2\nopenai.timeout=2\nopenai.concurrency=2\n")
        second.write_text("openai.timeout=3\nopenai.concurrency=3\n")
        environ = {
            "LM_OPENAI_TOP": "1",
            "LM_OPENAI_TIMEOUT": "1",
            "LM_OPENAI_CONCURRENCY": "1",
            "LM_OPENAI_ORG_NAME": "Acme",
        }
        properties = load(environ, files=[str(first), str(second)], sets=["openai.concurrency=4"])
        assert properties.organization == "Acme"
        counts = [properties.count(f"openai.{name}") for name in ("top", "timeout", "concurrency")]
        assert counts == [2, 3, 4]

    def test_every_property_can_be_set_in_the_environment(self):
        examples = {
            "openai.admin.key": KEY,
            "openai.budget.monthly": "10",
            "openai.balance.amount": "-0.25",
            "openai.balance.date": "2026-01-31",
            "openai.lookback": "6h",
            "openai.bucket.width": "1h",
            "openai.group.by": "project_id,model",
            "openai.proxy.url": "http://proxy:3128",
            "openai.cache.url": "redis://cache/0",
        }
        for name, entry in table().items():
            stem, _, identifier = name.partition("<")
            variable = variable_of(stem) + ("proj_a" if identifier else "")
            text = entry.default or examples.get(name, "7")
            assert load({variable: text}).is_set(stem + ("proj_a" if identifier else ""))

    def test_openai_variables_apply_and_lm_openai_variables_override_them(self):
        environ = {"OPENAI_ADMIN_KEY": KEY, "OPENAI_BASE_URL": "https://one/v1"}
        assert load(environ).admin_key() == KEY
        assert load(environ).text("openai.api.url") == "https://one/v1"
        environ["LM_OPENAI_API_URL"] = "https://two/v1"
        assert load(environ).text("openai.api.url") == "https://two/v1"

    def test_a_project_id_keeps_its_upper_and_lower_case_in_the_environment(self):
        properties = load({"LM_OPENAI_BUDGET_PROJECT_proj_aB3": "12.50"})
        assert properties.project_budgets() == {"proj_aB3": Decimal("12.50")}

    def test_lm_openai_etc_and_variables_of_other_programs_are_no_properties(self):
        load({"LM_OPENAI_ETC": "/x", "OPENAI_API_KEY": "sk-x", "HOME": "/"})

    def test_a_key_file_in_a_host_file_replaces_a_key_in_the_environment(self, tmp_path):
        secret = tmp_path / "key"
        secret.write_text("sk-admin-host\n")
        secret.chmod(0o600)
        properties = from_text(f"openai.admin.key.file={secret}", OPENAI_ADMIN_KEY="sk-admin-agent")
        assert properties.admin_key() == "sk-admin-host"

    def test_a_key_in_a_host_file_replaces_a_key_file_in_the_environment(self):
        properties = from_text(
            "openai.admin.key=sk-admin-host", LM_OPENAI_ADMIN_KEY_FILE="/nowhere"
        )
        assert properties.admin_key() == "sk-admin-host"

    @pytest.mark.parametrize("nothing", ["", "   ", "##openai.window##"])
    def test_empty_values_and_unresolved_tokens_keep_earlier_values(self, nothing):
        assert not from_text(f"openai.window={nothing}").is_set("openai.window")
        properties = from_text(f"openai.window={nothing}", LM_OPENAI_WINDOW="24h")
        assert properties.text("openai.window") == "24h"

    def test_a_value_for_one_datasource_wins_there_and_nowhere_else(self):
        properties = load({f"LM_OPENAI_{FOLDER.upper()}_WINDOW": "24h", "LM_OPENAI_WINDOW": "7d"})
        assert properties.for_datasource(FOLDER).text("openai.window") == "24h"
        assert properties.text("openai.window") == "7d"
        assert properties.for_datasource("images_by_model").text("openai.window") == "7d"

    def test_a_suite_wide_property_cannot_be_set_for_one_datasource(self):
        assert "not a known property" in refusal({}, sets=[f"openai.{FOLDER}.org.name=x"])


class TestFiles:
    def test_lines_may_have_spaces_comments_a_bom_and_windows_line_ends(self, tmp_path):
        path = tmp_path / "host.properties"
        path.write_bytes(
            b"\xef\xbb\xbf  openai.org.name =  Acme = Co \r\n".replace(b" = Co", b" Co")
            + b"# openai.top=nonsense\r\n\r\n\topenai.window=24h\r\nsystem.hostname=x=y\r\n"
        )
        properties = load({}, files=[str(path)])
        assert properties.organization == "Acme Co"
        assert properties.text("openai.window") == "24h"

    def test_a_line_is_split_at_its_first_equals_sign(self):
        assert from_text("openai.proxy.pass=a=b==").text("openai.proxy.pass") == "a=b=="

    def test_json_scalars_of_every_type_are_read(self):
        text = json.dumps(
            {
                "openai.top": 5,
                "openai.users.email": True,
                "openai.window": None,
                "openai.org.name": "Ünïted",
                "system.sysinfo": {"deep": [1]},
            }
        )
        properties = from_text("\ufeff\n " + text)
        assert properties.count("openai.top") == 5
        assert properties.flag("openai.users.email")
        assert not properties.is_set("openai.window")
        assert properties.organization == "Ünïted"

    def test_dollars_in_json_keep_every_digit(self):
        properties = from_text('{"openai.budget.monthly": 1000000.10000001}')
        assert properties.dollars("openai.budget.monthly") == Decimal("1000000.10000001")

    def test_a_foreign_property_that_spans_lines_is_ignored(self):
        text = "system.description=Router\nTechnical Support: x\nopenai.top=3\n"
        assert from_text(text).count("openai.top") == 3

    def test_a_property_line_without_equals_sign_is_refused_without_its_text(self):
        words = refusal({}, ["-"], stdin=io.StringIO(f"\nopenai.admin.key {KEY}"))
        assert "line 2" in words
        assert KEY not in words

    def test_a_key_written_as_part_of_a_name_is_not_shown(self):
        words = refusal({}, ["-"], stdin=io.StringIO(f"openai.admin.key: {KEY}=="))
        assert "openai.admin.key" in words
        assert KEY not in words

    @pytest.mark.parametrize(
        ("text", "hint"),
        [
            ("{", "line 1"),
            ('{"openai.top": [1]}', "openai.top"),
            ('{"a": 1}\n{"b": 2}', "line 2"),
            ('{"a":' * 100_000, "nested too deeply"),
        ],
    )
    def test_broken_json_is_refused_with_its_position(self, text, hint):
        assert hint in refusal({}, ["-"], stdin=io.StringIO(text))

    def test_files_that_cannot_be_read_are_refused_with_path_and_reason(self, tmp_path):
        assert "No such file" in refusal({}, [str(tmp_path / "none")])
        assert "it is a folder, not a regular file" in refusal({}, [str(tmp_path)])
        binary = tmp_path / "binary"
        binary.write_bytes(b"openai.top=\xff\xfe")
        assert "UTF-8" in refusal({}, [str(binary)])
        assert "standard input" in refusal({}, ["-"])

    @given(
        st.dictionaries(
            st.from_regex(r"[a-z][a-z.]{0,20}", fullmatch=True).filter(
                lambda name: not name.startswith("openai.")
            ),
            st.text(),
        ),
        st.sampled_from(["Acme", "Ünïted 1", "a.b-c_d"]),
        st.sampled_from(["\n", "\r\n"]),
    )
    def test_own_properties_are_read_among_any_others(self, others, name, end):
        lines = [f"{key}={value}" for key, value in others.items()]
        lines = [line for line in lines if "openai." not in line.lower()]
        middle = len(lines) // 2
        text = end.join([*lines[:middle], f" openai.org.name = {name} ", *lines[middle:]])
        assert from_text(text).organization == name
        document = json.dumps({**others, "openai.org.name": name})
        assert from_text(document).organization == name

    @given(st.text())
    def test_any_text_is_read_or_refused_in_one_line(self, text):
        assert "\n" not in refused(lambda: from_text(text))


class TestRefusals:
    @pytest.mark.parametrize(
        ("name", "near"),
        [
            ("openai.windw", "openai.window"),
            ("OpenAI.Window", "openai.window"),
            (f"openai.{FOLDER}.windw", f"openai.{FOLDER}.window"),
            ("openai.completion_by_modl.window", f"openai.{FOLDER}.window"),
            ("openai.finalisation.grace", "openai.finalization.grace"),
        ],
    )
    def test_an_unknown_property_is_refused_with_the_nearest_name(self, name, near):
        words = refusal({}, ["-"], stdin=io.StringIO(f"{name}=1h"))
        assert name in words
        assert f"did you mean {near}?" in words

    def test_an_unknown_variable_is_refused_with_the_nearest_name(self):
        assert "did you mean LM_OPENAI_TIMEOUT?" in refusal({"LM_OPENAI_TIMEOT": "5"})
        assert "openai.budget.project" in refusal({"LM_OPENAI_BUDGET_PROJECT_": "5"})

    def test_set_refuses_names_outside_the_openai_family(self):
        assert "did you mean openai.window?" in refusal({}, sets=["window=24h"])
        assert "name=value" in refusal({}, sets=["openai.window"])

    @pytest.mark.parametrize("name", ["openai.admin.key", "openai.proxy.pass", "openai.cache.pass"])
    def test_set_refuses_secrets_without_showing_them(self, name):
        words = refusal({}, sets=[f"{name}={KEY}"])
        assert "process list" in words
        assert KEY not in words

    @pytest.mark.parametrize(
        "pair",
        [
            "openai.api.url=https://user:hush@host/v1",
            "openai.proxy.url=http://hush@proxy:3128",
            "openai.cache.url=redis://:hush@cache",
        ],
    )
    def test_a_url_with_user_info_is_a_secret_too(self, pair):
        words = refusal({}, sets=[pair])
        assert "process list" in words
        assert "hush" not in words
        name, _, url = pair.partition("=")
        properties = from_text(pair)
        assert properties.text(name) == url
        assert redact("hush") == "***"
        assert "hush" not in repr(properties)

    @pytest.mark.parametrize(
        ("name", "bad"),
        [
            ("admin.key", "sk admin"),
            ("admin.key", "sk-admin-…"),
            ("admin.key.file.shared", "maybe"),
            ("org.name", "a/b"),
            ("org.name", "x" * 65),
            ("org.name", "-x"),
            ("org.name", "a\x07b"),
            ("api.url", "api.openai.com/v1"),
            ("api.url", "ftp://host"),
            ("api.url", "https://"),
            ("api.url", "https://host/v1?x=1"),
            ("api.url", "https://host/v1#x"),
            ("api.url", "https://host:99999/"),
            ("api.url", "https://ho st/"),
            ("api.url", "https://[::1/v1"),
            ("proxy.url", "socks5://host"),
            ("cache.url", "http://host"),
            ("projects.include", ","),
            ("group.by", "project id"),
            ("group.by", "Model"),
            ("window", "2w"),
            ("window", "0m"),
            ("window", "90m"),
            ("window", "25h"),
            ("window", "32d"),
            ("window", "30s"),
            ("window", "Today"),
            ("window", "-1h"),
            ("window", "1h30m"),
            ("finalization.grace", "15"),
            ("finalization.grace", "2d"),
            ("lookback", "0s"),
            ("bucket.width", "5m"),
            ("headroom.lookback", "30s"),
            ("limits.unused", "ja"),
            ("budget.monthly", "0"),
            ("budget.monthly", "1e3"),
            ("budget.monthly", "1,000"),
            ("budget.monthly", "NaN"),
            ("budget.project.proj_1", "-5"),
            ("tokens.budget.project.proj_1", "0"),
            ("tokens.budget.project.proj_1", "1.5"),
            ("cost.floor", "-1"),
            ("balance.date", "31.01.2026"),
            ("balance.date", "2026-02-30"),
            ("balance.date", "2026-01-31T25:00Z"),
            ("top", "0"),
            ("top", "٣"),
            ("collector.command", "lm-openai"),
            ("collector.command", "/usr/bin/lm-openai' + x"),
            ("timeout", "0"),
            ("timeout", "1.5"),
            ("concurrency", "65"),
        ],
    )
    def test_an_invalid_value_is_refused_with_name_value_and_allowed_form(self, name, bad):
        name = f"openai.{name}"
        words = refusal({}, ["-"], stdin=io.StringIO(json.dumps({name: bad})))
        assert words.startswith(f"{name} (from standard input): ")
        assert words.partition("invalid; ")[2]
        entry = row(name)
        hidden = entry.secret or (entry.kind == "url" and ("?" in bad or "#" in bad))
        assert (repr(bad) in words) == (not hidden)

    @given(st.sampled_from(sorted(value_types.TYPES)), st.text(min_size=1))
    def test_every_format_parses_any_text_or_names_the_allowed_form(self, kind, text):
        allowed = f"give {value_types.TYPES[kind].allowed}"
        assert refused(lambda: value_types.parse(kind, text, {})) in ("", allowed)


class TestValues:
    def test_urls_lose_only_a_trailing_slash(self):
        for text, url in (
            ("https://host/v1/", "https://host/v1"),
            ("http://10.0.0.1:8080", "http://10.0.0.1:8080"),
            ("https://gw.example/openai/eu/", "https://gw.example/openai/eu"),
            ("HTTPS://[::1]:8443/v1", "HTTPS://[::1]:8443/v1"),
        ):
            assert load({"OPENAI_BASE_URL": text}).text("openai.api.url") == url

    def test_budgets_are_read_by_project(self):
        properties = from_text(
            "openai.budget.project.proj_a=10\nopenai.budget.project.proj_b=0.5\n"
            "openai.tokens.budget.project.proj_a=1000000\n"
        )
        assert properties.project_budgets() == {"proj_a": Decimal(10), "proj_b": Decimal("0.5")}
        assert properties.token_budgets() == {"proj_a": 1_000_000}

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("2026-01-31", "2026-01-31T00:00:00"),
            ("2026-01-31T09:30Z", "2026-01-31T09:30:00"),
            ("2026-01-31 09:30:15", "2026-01-31T09:30:15"),
            ("2026-01-31T09:30:15.25+02:00", "2026-01-31T07:30:15"),
        ],
    )
    def test_dates_are_utc_unless_they_have_an_offset(self, text, expected):
        properties = from_text(f"openai.balance.date={text}")
        assert properties.date("openai.balance.date") == instant(expected)

    def test_globs_match_id_or_name_and_exclude_wins_over_include(self):
        properties = from_text(
            "openai.projects.include=proj_1, Batch-*\nopenai.projects.exclude=*-test"
        )
        assert properties.chosen("projects", "proj_1", "Web")
        assert properties.chosen("projects", "proj_2", "Batch-night")
        assert not properties.chosen("projects", "proj_3", "batch-night")
        assert not properties.chosen("projects", "proj_4", "Batch-test")
        assert not properties.chosen("projects", "proj_5")
        assert properties.chosen("models", "gpt-4o")

    def test_exclude_alone_keeps_everything_else(self):
        properties = from_text("openai.models.exclude=gpt-4*")
        assert not properties.chosen("models", "gpt-4o")
        assert properties.chosen("models", "o3")


class TestWindows:
    @pytest.mark.parametrize(
        ("text", "start", "width"),
        [
            ("15m", "2026-03-10T12:19:00", "1m"),
            ("1h", "2026-03-10T11:34:00", "1m"),
            ("6h", "2026-03-10T06:00:00", "1h"),
            ("24h", "2026-03-09T12:00:00", "1h"),
            ("today", "2026-03-10T00:00:00", "1h"),
            ("7d", "2026-03-03T00:00:00", "1d"),
            ("month", "2026-03-01T00:00:00", "1d"),
        ],
    )
    def test_a_window_is_whole_buckets_and_the_current_one(self, text, start, width):
        properties = load({"LM_OPENAI_WINDOW": text})
        assert properties.window(NOON) == Window(instant(start), NOON, width)

    def test_grace_ends_the_window_earlier(self):
        properties = load({"LM_OPENAI_FINALIZATION_GRACE": "15m", "LM_OPENAI_WINDOW": "15m"})
        expected = Window(instant("2026-03-10T12:04:00"), NOON - 900, "1m")
        assert properties.window(NOON) == expected
        assert properties.window(NOON, grace=0).end == NOON

    @pytest.mark.parametrize(
        ("text", "start"), [("today", "2026-02-28T00:00:00"), ("month", "2026-02-01T00:00:00")]
    )
    def test_at_midnight_the_window_is_the_day_or_month_that_just_ended(self, text, start):
        midnight = instant("2026-03-01T00:00:00")
        window = load({"LM_OPENAI_WINDOW": text}).window(midnight)
        assert (window.start, window.end) == (instant(start), midnight)

    def test_a_series_goes_back_three_hours_of_minutes_or_three_days(self):
        properties = load({})
        assert properties.series(NOON, "1m").start == instant("2026-03-10T09:34:00")
        assert properties.series(NOON, "1d").start == instant("2026-03-07T00:00:00")

    def test_a_series_uses_the_configured_width_and_lookback(self):
        properties = load({"LM_OPENAI_BUCKET_WIDTH": "1h", "LM_OPENAI_LOOKBACK": "2h"})
        expected = Window(instant("2026-03-10T10:00:00"), NOON, "1h")
        assert properties.series(NOON, "1m") == expected

    @given(
        st.one_of(
            st.sampled_from(["today", "month"]),
            st.integers(1, 60).map("{}m".format),
            st.integers(1, 24).map("{}h".format),
            st.integers(1, 31).map("{}d".format),
        ),
        st.integers(1_600_000_000, 2_000_000_000),
        st.integers(0, 86400),
    )
    def test_a_window_starts_on_a_bucket_boundary_and_covers_its_length(self, text, now, grace):
        window = load({"LM_OPENAI_WINDOW": text}).window(now, grace)
        step = WIDTHS[window.width]
        assert window.end == now - grace
        assert window.start % step == 0
        assert window.start < window.end
        if text not in ("today", "month"):
            assert 0 <= window.end - window.start - timespans.duration(text) < step
        assert (window.end - window.start) / step < 61


class TestSecrets:
    def test_repr_hides_secrets_and_messages_do_not_show_them(self):
        properties = from_text(
            f"openai.admin.key={KEY}\nopenai.proxy.url=http://me:p%40ss@proxy:1\nopenai.top=3"
        )
        shown = repr(properties)
        assert "openai.top='3'" in shown
        assert "openai.admin.key" in shown
        assert KEY not in shown
        assert "p%40ss" not in shown
        assert redact(f"{KEY}, p%40ss, p@ss, me:p%40ss") == "***, ***, ***, ***"

    def test_the_key_in_a_file_is_a_secret_too(self, tmp_path):
        path = tmp_path / "key"
        path.write_text(KEY)
        path.chmod(0o600)
        from_text(f"openai.admin.key.file={path}").admin_key()
        assert redact(KEY) == "***"

    def test_the_error_for_a_missing_key_explains_how_to_get_one(self):
        with pytest.raises(WrongUsage) as caught:
            load({}).admin_key()
        for word in ("sk-admin-", "OPENAI_ADMIN_KEY", "openai.admin.key.file", "lm-openai demo"):
            assert word in str(caught.value)


class TestKeyFile:
    @pytest.fixture
    def path(self, tmp_path):
        path = tmp_path / "key"
        path.write_text(f"  {KEY}\r\n")
        path.chmod(0o600)
        return path

    def load(self, path, *lines):
        return from_text("\n".join([f"openai.admin.key.file={path}", *lines]))

    def test_a_private_file_is_read_without_its_line_end(self, path):
        assert self.load(path).admin_key() == KEY

    def test_the_permissions_of_a_links_target_decide(self, path, tmp_path):
        link = tmp_path / "link"
        link.symlink_to(path)
        assert self.load(link).admin_key() == KEY
        path.chmod(0o644)
        os.chown(path, os.geteuid() or 12345, -1)
        with pytest.raises(WrongUsage):
            self.load(link).admin_key()

    @pytest.mark.parametrize(
        "text", ["", "\n", "sk admin", "sk-admin-é", "a\nb", "x" * 5000 + " y"]
    )
    def test_a_file_without_exactly_one_key_is_refused_without_showing_it(self, path, text):
        path.write_text(text)
        with pytest.raises(WrongUsage) as caught:
            self.load(path).admin_key()
        assert str(path) in str(caught.value)
        assert not text.strip() or text.strip() not in str(caught.value)

    def test_a_key_file_that_can_be_read_only_once_works(self):
        reading, writing = os.pipe()
        with open(writing, "w") as pipe:
            pipe.write(KEY)
        try:
            properties = self.load(f"/dev/fd/{reading}")
            assert properties.admin_key() == KEY
            assert properties.admin_key() == KEY
        finally:
            os.close(reading)

    def test_a_tilde_in_the_path_means_the_home_folder(self, path, home):
        (home / "key").write_text(KEY)
        (home / "key").chmod(0o600)
        assert self.load("~/key").admin_key() == KEY

    def test_a_missing_file_or_a_folder_is_refused_with_the_reason(self, path, tmp_path):
        with pytest.raises(WrongUsage, match="No such file"):
            self.load(tmp_path / "none").admin_key()
        with pytest.raises(WrongUsage, match="it is a folder, not a regular file; name a file"):
            self.load(tmp_path).admin_key()


def test_loading_properties_imports_no_heavy_module():
    heavy = "requests click jsonschema cachetools logging difflib urllib.request tempfile datetime"
    program = (
        "import sys; from lm_openai.config.properties import load; "
        "load({'OPENAI_ADMIN_KEY': 'sk-x', 'LM_OPENAI_WINDOW': '24h'}).window(1700000000); "
        f"print(sorted(set({heavy.split()!r}) & set(sys.modules)))"
    )
    root = Path(__file__).parent.parent
    ran = subprocess.run(
        [sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=True
    )
    assert ran.stdout == "[]\n"
