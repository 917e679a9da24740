"""Records of the tests: one poll of a DataSource against the demo organization, and its outputs.

`record.py FOLDER...` records new responses; `record.py --outputs FOLDER...` keeps the recorded
responses and writes only the outputs. Read the difference before committing it.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import Request, urlopen

ROOT = Path(__file__).resolve().parent.parent
sys.path[0] = str(ROOT)

from lm_openai import resources  # noqa: E402
from lm_openai.api.endpoints import USAGE_KINDS  # noqa: E402
from lm_openai.errors import suggest  # noqa: E402
from lm_openai.metrics.limit_pools import candidates  # noqa: E402
from lm_openai.simulator import ADMIN_KEY, Simulator  # noqa: E402
from lm_openai.simulator.organization import Organization  # noqa: E402
from tests.support import dates, replay  # noqa: E402

AT = 1795005296  # 2026-11-18 12:34:56 UTC, a Wednesday
PROPERTIES = {
    "openai.org.name": "acme",
    "openai.window": "15m",
    "openai.lookback": "15m",
    "openai.headroom.lookback": "5m",
}
ALWAYS = ("default", "gpt-4.1-long-context", "gpt-4.1", "gpt-4.1-2025-04-14")
"""Limit rows that every record keeps."""


class Settings(NamedTuple):
    """Settings of one record, from `testdata/record.json` if that file exists.

    `projects` and `models` are the size of the demo organization, `only_projects` the names of the
    projects that the record keeps (empty: all) and `lag` how late usage arrives, in seconds.
    `required_fields_only` leaves out optional fields of usage rows, as the contract allows, to keep
    the record short. `by_hand` marks responses that were written by hand and are never replaced.
    """

    properties: dict[str, str] = {}
    projects: int = 12
    models: int = 24
    only_projects: list[str] = []
    lag: float = 0
    required_fields_only: bool = False
    by_hand: bool = False


def main(words: list[str]) -> int:
    """Return 0 if every record was written, 2 for wrong usage."""
    dates.send_none()
    folders = [word for word in words if word != "--outputs"]
    if not folders or any(folder.startswith("-") for folder in folders):
        print("usage: ./run record [--outputs] FOLDER...", file=sys.stderr)
        return 2
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    for folder in folders:
        refuse_unknown(folder)
        if "--outputs" not in words:
            record(folder)
        outputs(folder)
        print(f"modules/{folder}/testdata written; read it with git diff before committing it")
    return 0


def refuse_unknown(folder: str) -> None:
    """Exit with a sentence if there is no such DataSource, or its script cannot be imported."""
    from lm_openai.collect import datasource

    if folder not in resources.folders():
        near = suggest(folder, resources.folders())
        raise SystemExit(f"./run record: no DataSource in modules/{folder}{near}")
    try:
        datasource.load(folder)
    except Exception as error:
        raise SystemExit(
            f"./run record: modules/{folder} cannot be loaded ({type(error).__name__}: {error}); "
            f"fix {folder}.py or {folder}.json"
        ) from None


def settings(folder: str) -> Settings:
    """Return the settings of a DataSource's record; exits for an unknown one."""
    path = replay.testdata(folder) / "record.json"
    given = json.loads(path.read_text()) if path.exists() else {}
    for name in given:
        if name not in Settings._fields:
            near = suggest(name, Settings._fields)
            raise SystemExit(f"{path.relative_to(ROOT)}: {name!r} is not a setting{near}")
    return Settings(**given)


def record(folder: str) -> None:
    """Poll the demo organization in every format and write the responses."""
    chosen = settings(folder)
    if chosen.by_hand:
        raise SystemExit(
            f"./run record: the responses of {folder} were written by hand; edit "
            f"modules/{folder}/testdata/responses.json, then ./run record --outputs {folder}"
        )
    properties = {**PROPERTIES, **chosen.properties}
    recorded: dict[str, replay.Answer] = {}
    size = {"projects": chosen.projects, "models": chosen.models, "lag": chosen.lag}
    with Simulator(at=AT, **size) as simulator:  # type: ignore[arg-type]
        simulator.organization = only(simulator.organization, chosen.only_projects)
        for form, discover in replay.outputs():
            for path, query in requests_of(simulator, folder, properties, form, discover):
                name = f"{path} {sorted(query.items())}"
                if name not in recorded:
                    recorded[name] = replay.Answer(path, query, *get(simulator.url + path, query))
    kept = trimmed(recorded.values())
    if chosen.required_fields_only:
        kept = [with_required_fields(entry) for entry in kept]
    write(folder, properties, kept)


def requests_of(
    simulator: Simulator, folder: str, properties: dict[str, str], form: str, discover: bool
) -> Iterable[tuple[str, dict[str, list[str]]]]:
    """Poll once with an empty cache and return path and query of each request."""
    simulator.clear()
    poll = replay.Record(AT, properties, ())
    with TemporaryDirectory() as cache:
        ran = replay.collected(folder, poll, simulator.url, Path(cache), form, discover, ADMIN_KEY)
    if not ran.stdout and ran.status:
        raise SystemExit(f"./run record: {folder} in {form}: {ran.stderr.strip()}")
    return [
        (request.path.removeprefix("/v1"), dict(request.query)) for request in simulator.requests
    ]


def only(organization: Organization, names: list[str]) -> Organization:
    """Return the organization with the projects of these names; all if there are none."""
    if not names:
        return organization
    kept = tuple(project for project in organization.projects if project.name in names)
    return organization._replace(projects=kept)


def get(url: str, query: dict[str, list[str]]) -> tuple[int, Any]:
    """Return status and document of one response."""
    request = Request(f"{url}?{urlencode(query, doseq=True)}")
    request.add_header("Authorization", f"Bearer {ADMIN_KEY}")
    try:
        with urlopen(request) as response:
            return response.status, json.load(response)
    except HTTPError as refusal:
        return refusal.code, json.load(refusal)


def trimmed(entries: Iterable[replay.Answer]) -> list[replay.Answer]:
    """Return the responses with limit rows of used models and a few others only."""
    kept = list(entries)
    used = {row["model"] for row in usage_rows(kept) if row.get("model")}
    wanted = {name for model in used for name in candidates(model)} | set(ALWAYS)
    return [
        entry._replace(answer={**entry.answer, "data": few(entry.answer["data"], wanted)})
        if entry.path.endswith("/rate_limits") and entry.status == 200
        else entry
        for entry in kept
    ]


def with_required_fields(entry: replay.Answer) -> replay.Answer:
    """Return a usage response with the required fields and the requested dimensions only."""
    if "/usage/" not in entry.path or entry.status != 200:
        return entry
    wanted = ("object", *USAGE_KINDS[entry.path.rpartition("/")[2]].required)
    wanted += tuple(entry.query.get("group_by[]", ()))
    buckets = [
        {
            **{name: bucket[name] for name in ("object", "start_time", "end_time")},
            "results": [{name: row[name] for name in wanted} for row in bucket["results"]],
        }
        for bucket in entry.answer["data"]
    ]
    return entry._replace(answer={**entry.answer, "data": buckets})


def usage_rows(entries: Iterable[replay.Answer]) -> Iterable[dict[str, Any]]:
    """Yield every usage row of the responses."""
    for entry in entries:
        if "/usage/" in entry.path and entry.status == 200:
            for bucket in entry.answer["data"]:
                yield from bucket["results"]


def few(limits: list[dict[str, Any]], wanted: set[str]) -> list[dict[str, Any]]:
    """Return the wanted limit rows and the last one, whose id the page names."""
    return [row for row in limits if row["model"] in wanted or row is limits[-1]]


def write(folder: str, properties: dict[str, str], entries: list[replay.Answer]) -> None:
    """Write the record with one bucket or row per line."""
    texts = []
    for entry in entries:
        head = json.dumps(entry._asdict() | {"answer": None}, ensure_ascii=False)
        texts.append(head.removesuffix("null}") + document(entry.answer) + "}")
    path = replay.testdata(folder) / "responses.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(
        f'{{"at": {AT},\n"properties": {json.dumps(properties)},\n"answers": [\n'
        + ",\n".join(texts)
        + "\n]}\n"
    )


def document(response: Any) -> str:
    """Return a response with each element of its list on a line of its own."""
    if not isinstance(response.get("data"), list):
        return json.dumps(response, ensure_ascii=False)
    rest = json.dumps({**response, "data": None}, ensure_ascii=False)
    lines = ",\n".join(json.dumps(row, ensure_ascii=False) for row in response["data"])
    return rest.replace('"data": null', f'"data": [\n{lines}]')


def outputs(folder: str) -> None:
    """Write what the DataSource prints from its record, in every format."""
    if not (replay.testdata(folder) / "responses.json").exists():
        raise SystemExit(
            f"./run record: modules/{folder}/testdata has no responses.json yet; "
            f"run it without --outputs"
        )
    for form, discover in replay.outputs():
        with TemporaryDirectory() as cache:
            ran = replay.replayed(folder, Path(cache), form, discover)
        if ran.status and not ran.stdout:
            raise SystemExit(f"./run record: {folder} in {form}: {ran.stderr.strip()}")
        replay.expected(folder, form, discover).write_text(ran.stdout)
        if ran.stderr:
            print(f"{folder} {form}: {ran.stderr}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
