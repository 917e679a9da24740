"""Faults that are incidents: a pool heated to a share of its limit, and something gone."""

from __future__ import annotations

import math
from collections.abc import Callable
from decimal import Decimal
from typing import NamedTuple

from lm_openai.simulator import limits, organization, usage
from lm_openai.simulator.faults import Fault, unknown
from lm_openai.simulator.incidents import Gone, Heat, Incidents
from lm_openai.simulator.organization import Organization, Project, Settings, stable_hash
from lm_openai.simulator.rhythm import DAY, FOREVER, MINUTE, Leaf
from lm_openai.simulator.traffic import Flow, leaf_of, leaves

SHOWN = 15 * MINUTE
"""Length of the heat that usage shows at once, unless the fault has a `start`."""
TOKENS_A_REQUEST = 20_000
IMAGES_A_REQUEST = 4
HOTTEST = 1000


class Limit(NamedTuple):
    """Limit by the minute: its field in a limit row, and the counted field of each usage kind.

    `apiece` is what one request uses, roughly; None if the limit counts requests.
    """

    field: str
    counted: dict[str, str]
    apiece: int | None


TEXT = {"completions": "input_text_tokens", "decisions": "input_text_tokens"}
TOKENS = {**TEXT, "embeddings": "input_tokens", "moderations": "input_tokens"}
AUDIO = {"audio_speeches": "characters", "audio_transcriptions": "seconds"}
LIMITS = {
    "tpm": Limit("max_tokens_per_1_minute", TOKENS, TOKENS_A_REQUEST),
    "rpm": Limit("max_requests_per_1_minute", {**TOKENS, "images": "images", **AUDIO}, None),
    "ipm": Limit("max_images_per_1_minute", {"images": "images"}, IMAGES_A_REQUEST),
}


def _heat(fault: Fault, demo: Organization, settings: Settings, now: int) -> Incidents:
    project = _project(fault, demo)
    models = _models(fault, demo, project)
    limit = _limit(fault)
    source = _own(demo, project, models, limit) or _new(demo, project, models, limit)
    row = limits.row_of(organization.rate_limits(demo, project.id), min(models)) or {}
    allowed = row.get(limit.field, limits.UNLIMITED)
    if source is None or not 0 < allowed < limits.UNLIMITED:
        raise ValueError(f"fault heat: {fault.model} has no {fault.limit} limit in {project.name}")
    shown = now - usage.delay(source.kind, settings) - int(settings.lag * usage.LUMP) - SHOWN
    start, end = _minute(fault.start, shown), _minute(fault.end, FOREVER)
    leaf = _flat(source, limit, math.ceil(allowed * _percent(fault) / 100))
    leaf = leaf._replace(silent=((0, start), (end, FOREVER)))
    known = settings.incidents
    return known._replace(heats=(*known.heats, Heat(leaf, models, start, end)))


def _gone(fault: Fault, demo: Organization, settings: Settings, now: int) -> Incidents:
    project = _project(fault, demo)
    models = _models(fault, demo, project) if fault.model else frozenset[str]()
    rows = organization.rate_limits(demo, project.id)
    gone = models.union(*(limits.pool(rows, model) for model in models))
    one = Gone(project.id, gone, _minute(fault.start, now))
    known = settings.incidents
    return known._replace(gone=(*known.gone, one))


def _idle(fault: Fault, demo: Organization, settings: Settings, now: int) -> Incidents:
    known = settings.incidents
    span = (_minute(fault.start, now), _minute(fault.end, FOREVER))
    return known._replace(idle=(*known.idle, span))


INCIDENTS: dict[str, Callable[[Fault, Organization, Settings, int], Incidents]] = {
    "heat": _heat,
    "gone": _gone,
    "idle": _idle,
}
"""Kinds of fault that change the organization, not responses."""


def _project(fault: Fault, demo: Organization) -> Project:
    """Return the project with this id or name. Raises ValueError for another."""
    for project in demo.projects:
        if fault.project in (project.id, project.name):
            return project
    known = [project.name for project in demo.projects]
    raise ValueError(unknown("fault setting project", fault.project, known))


def _models(fault: Fault, demo: Organization, project: Project) -> frozenset[str]:
    """Return the organization's models in the pool of the fault's model.

    That is the name of a limit row or of a model in usage. Raises ValueError for another.
    """
    rows = organization.rate_limits(demo, project.id)
    members = limits.pool(rows, fault.model)
    names = [model.name for model in demo.models]
    found = [name for name in names if (limits.row_of(rows, name) or {}).get("model") in members]
    if not found and fault.model not in names:
        raise ValueError(unknown("fault setting model", fault.model, names))
    return frozenset(found or [fault.model])


def _limit(fault: Fault) -> Limit:
    if fault.limit not in LIMITS:
        raise ValueError(unknown("fault setting limit", fault.limit, list(LIMITS)))
    return LIMITS[fault.limit]


def _percent(fault: Fault) -> Decimal:
    if fault.percent is None or not 0 < fault.percent <= HOTTEST:
        raise ValueError(f"fault setting percent: {fault.percent} is not above 0; give 85 or so")
    return Decimal(str(fault.percent))


def _minute(moment: int | None, default: int) -> int:
    """Return the start of the minute at this time."""
    known = default if moment is None else moment
    return known - known % MINUTE


def _own(demo: Organization, project: Project, models: frozenset[str], limit: Limit) -> Leaf | None:
    """Return the first source of the project's usage that counts against the pool's limit."""
    wanted = (project.id, False)
    for kind in limit.counted:
        for leaf in leaves(demo, kind):
            known = leaf.dimensions
            if known["model"] in models and (known["project_id"], known["batch"]) == wanted:
                return leaf
    return None


def _new(demo: Organization, project: Project, models: frozenset[str], limit: Limit) -> Leaf | None:
    """Return a source for a pool that the project does not use, called with its first key."""
    keys = [key for key in demo.keys if key.project_id == project.id]
    for model in demo.models:
        for kind in model.kinds if model.name in models else ():
            if kind in limit.counted:
                flow = Flow(kind, model.name, 0, "chat")
                return leaf_of(demo, project, 0, flow, keys)
    return None


def _flat(source: Leaf, limit: Limit, amount: int) -> Leaf:
    """Return a source that uses the amount in every minute, exactly, and arrives whole.

    The number of requests divides 1000, so that `rates` are whole numbers.
    """
    count, rate = amount, 1000
    if limit.apiece is not None:
        most = max(1, amount // limit.apiece)
        count = max(number for number in range(1, 1001) if number <= most and 1000 % number == 0)
        rate = amount * 1000 // count
    return source._replace(
        number=stable_hash(source.number, "heat") % 2**61,
        daily=count * (DAY // MINUTE),
        fields=(limit.counted[source.kind],),
        rates=(rate,),
        rhythm="flat",
        first_day=0,
        last_day=FOREVER,
        long_context=False,
        whole=True,
    )
