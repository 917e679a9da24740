"""Records one poll of a DataSource against the demo organization, and what it must print.

`record.py FOLDER...` asks the demo organization anew; `record.py --outputs FOLDER...` keeps the
recorded answers and only writes the outputs again, to be read before they are committed.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import Request, urlopen

ROOT = Path(__file__).resolve().parent.parent
sys.path[0] = str(ROOT)

from lm_openai.api.endpoints import USAGE_KINDS
from lm_openai.metrics.limit_pools import candidates
from lm_openai.simulator import ADMIN_KEY, Simulator  # noqa: E402
from lm_openai.simulator.organization import Organization  # noqa: E402
from tests.support import replay  # noqa: E402

AT = 1795005296  # 2026-11-18 12:34:56 UTC, a Wednesday
PROPERTIES = {
    "openai.org.name": "acme",
    "openai.window": "15m",
    "openai.lookback": "15m",
    "openai.headroom.lookback": "5m",
}
HOUR = {"openai.window": "1h", "openai.lookback": "1h"}
OWN = {
    "audit_by_event_type": {"openai.window": "24h", "openai.lookback": "7h"},
    "cost_by_organization": {"openai.lookback": "3d"},
    "code_interpreter_by_project": HOUR,
    "collection_health": {"openai.lookback": "30m"},
    "images_by_model": HOUR,
    "model_mix_by_project": {"openai.models.approved": "gpt-4o*,dall-e-*,tts-*,whisper-*"},
    "usage_by_consumer": {
        "openai.window": "7d",
        "openai.top": "2",
        "openai.tokens.budget.project.proj_bzanvrKjelnQ7GZWwgbNVGEI": "4000000",
    },
    "vector_stores_by_project": {"openai.lookback": "3h"},
    "web_search_by_model": HOUR,
}
SIZE = (4, 7)
WHOLE = (12, 24)
OWN_SIZE = {
    "api_keys_by_key": (6, 7),
    "audio_speeches_by_model": WHOLE,
    "audio_transcriptions_by_model": WHOLE,
    "code_interpreter_by_project": WHOLE,
    "collection_health": WHOLE,
    "decisions_by_model": WHOLE,
    "embeddings_by_model": WHOLE,
    "file_search_by_vector_store": WHOLE,
    "images_by_model": WHOLE,
    "moderations_by_model": WHOLE,
    "vector_stores_by_project": WHOLE,
    "web_search_by_model": WHOLE,
    "model_mix_by_project": WHOLE,
    "organization": (8, 7),
    "rate_limits_by_model": WHOLE,
    "usage_by_consumer": WHOLE,
}
SEVERAL_KINDS = ("Customer Support", "Data Platform", "Marketing", "Voice Assistant")
OWN_PROJECTS = {
    "model_mix_by_project": SEVERAL_KINDS,
    "rate_limits_by_model": (
        "Search & Retrieval",
        "Document Intelligence",
        "Marketing",
        "Voice Assistant",
    ),
    "usage_by_consumer": SEVERAL_KINDS,
}
LATE = ("collection_health",)
"""Those whose record shows how late usage arrives."""
LEAN = (
    "collection_health",
    "model_mix_by_project",
    "rate_limits",
    "rate_limits_by_model",
    "usage_by_consumer",
)
"""Those that ask for so many buckets that optional fields are left out, as the contract allows."""
ALWAYS = ("default", "gpt-4.1-long-context", "gpt-4.1", "gpt-4.1-2025-04-14")


def main(words: list[str]) -> int:
    """0 when every record was written."""
    anew = "--outputs" not in words
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    for folder in (word for word in words if word != "--outputs"):
        if anew:
            record(folder)
        outputs(folder)
    return 0


def record(folder: str) -> None:
    """Ask the demo organization and keep every answer."""
    properties = {**PROPERTIES, **OWN.get(folder, {})}
    answers: dict[str, replay.Answer] = {}
    projects, models = OWN_SIZE.get(folder, SIZE)
    lag = float(folder in LATE)
    with Simulator(at=AT, projects=projects, models=models, lag=lag) as simulator:
        simulator.organization = only(simulator.organization, OWN_PROJECTS.get(folder))
        for form, discover in replay.outputs():
            simulator.clear()
            poll = replay.Record(AT, properties, ())
            with TemporaryDirectory() as cache:
                ran = replay.collected(
                    folder, poll, simulator.url, Path(cache), form, discover, ADMIN_KEY
                )
            if not ran.stdout and ran.status:
                raise SystemExit(f"{folder} {form}: {ran.stderr or ran.stdout}")
            for request in tuple(simulator.requests):
                path = request.path.removeprefix("/v1")
                query = dict(request.query)
                found = ask(simulator.url + path, query)
                answers.setdefault(
                    f"{path} {sorted(query.items())}", replay.Answer(path, query, *found)
                )
    kept = trimmed(answers.values())
    keep(folder, properties, [lean(entry) for entry in kept] if folder in LEAN else kept)


def only(whole: Organization, names: tuple[str, ...] | None) -> Organization:
    """The organization with none but the projects of these names."""
    kept = tuple(project for project in whole.projects if names is None or project.name in names)
    return whole._replace(projects=kept)


def ask(url: str, query: dict[str, list[str]]) -> tuple[int, Any]:
    """Status and document of one question."""
    request = Request(f"{url}?{urlencode(query, doseq=True)}")
    request.add_header("Authorization", f"Bearer {ADMIN_KEY}")
    try:
        with urlopen(request) as answer:
            return answer.status, json.load(answer)
    except HTTPError as refusal:
        return refusal.code, json.load(refusal)


def trimmed(answers: Iterable[replay.Answer]) -> list[replay.Answer]:
    """The answers, limit rows cut to the models in use and a few others."""
    kept = list(answers)
    used = {row["model"] for row in rows(kept) if row.get("model")}
    wanted = {name for model in used for name in candidates(model)} | set(ALWAYS)
    return [
        entry._replace(answer={**entry.answer, "data": few(entry.answer["data"], wanted)})
        if entry.path.endswith("/rate_limits") and entry.status == 200
        else entry
        for entry in kept
    ]


def lean(entry: replay.Answer) -> replay.Answer:
    """An answer of usage with the required fields and the dimensions asked for, and no others."""
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


def rows(answers: Iterable[replay.Answer]) -> Iterable[dict[str, Any]]:
    """Every usage row of the answers."""
    for entry in answers:
        if "/usage/" in entry.path and entry.status == 200:
            for bucket in entry.answer["data"]:
                yield from bucket["results"]


def few(limits: list[dict[str, Any]], wanted: set[str]) -> list[dict[str, Any]]:
    """The limit rows that matter, the last one kept since the page names it."""
    return [row for row in limits if row["model"] in wanted or row is limits[-1]]


def keep(folder: str, properties: dict[str, str], answers: list[replay.Answer]) -> None:
    """Write the record, one answer's bucket or row a line."""
    entries = []
    for entry in answers:
        head = json.dumps(entry._asdict() | {"answer": None}, ensure_ascii=False)
        entries.append(head.removesuffix("null}") + document(entry.answer) + "}")
    path = replay.testdata(folder) / "responses.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(
        f'{{"at": {AT},\n"properties": {json.dumps(properties)},\n"answers": [\n'
        + ",\n".join(entries)
        + "\n]}\n"
    )


def document(answer: Any) -> str:
    """An answer with each element of its list on a line of its own."""
    if not isinstance(answer.get("data"), list):
        return json.dumps(answer, ensure_ascii=False)
    rest = json.dumps({**answer, "data": None}, ensure_ascii=False)
    lines = ",\n".join(json.dumps(row, ensure_ascii=False) for row in answer["data"])
    return rest.replace('"data": null', f'"data": [\n{lines}]')


def outputs(folder: str) -> None:
    """What the DataSource prints of its record, in every format."""
    for form, discover in replay.outputs():
        with TemporaryDirectory() as cache:
            ran = replay.replayed(folder, Path(cache), form, discover)
        replay.expected(folder, form, discover).write_text(ran.stdout)
        if ran.stderr:
            print(f"{folder} {form}: {ran.stderr}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
