"""Endpoints of the demo organization: path, parameters, scope and function of each."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime, timezone
from functools import partial
from typing import Any, NamedTuple

from lm_openai.simulator import audit, costs, incidents, lists, paging, parameters, refusals, usage
from lm_openai.simulator import organization as demo
from lm_openai.simulator.organization import Organization, Project, Settings
from lm_openai.simulator.paging import Widths, Wire
from lm_openai.simulator.parameters import Query
from lm_openai.simulator.rhythm import DAY, HOUR, MINUTE
from lm_openai.simulator.usage import BucketQuery

ROOT = "/v1/organization"
USAGE_SCOPE = "api.usage.read"
AUDIT_SCOPE = "api.audit_logs.read"
MANAGEMENT_SCOPE = "api.management.read"

USAGE_WIDTHS = {
    "1m": Widths(MINUTE, 60, 1440),
    "1h": Widths(HOUR, 24, 168),
    "1d": Widths(DAY, 7, 31),
}
COST_WIDTHS = {"1d": Widths(DAY, 7, 180)}
FILTER_VALUES = {
    "batch": ("true", "false"),
    "context_levels": ("low", "medium", "high"),
    "sources": ("image.generation", "image.edit", "image.variation"),
    "sizes": ("256x256", "512x512", "1024x1024", "1792x1792", "1024x1792"),
}
WITH_COMMAS = ("line_items",)
BUCKETED = ("start_time", "end_time", "bucket_width", "group_by", "limit", "page")
FORWARD = ("limit", "after")
BOTH_WAYS = ("limit", "after", "before")


class State(NamedTuple):
    """Organization at the Unix time `now`, with the behavior of its audit feed and page tokens.

    `token_life` and `audit_delay` are seconds; with a `token_life` of None, tokens never expire.
    """

    organization: Organization
    now: int
    settings: Settings
    token_life: float | None
    audit_delay: int


class Route(NamedTuple):
    """Endpoint with the names of its parameters.

    `respond` accepts the state, the query and the ids in the path.
    """

    parameters: frozenset[str]
    respond: Callable[..., Wire]


def find(method: str, path: str) -> tuple[Route, tuple[str, ...]]:
    """Return the route of a path and the ids in it. Raises Refusal as the API does."""
    for pattern, route in ROUTES:
        match = pattern.fullmatch(path)
        if match:
            if method != "GET":
                raise refusals.wrong_method(method, path)
            return route, match.groups()
    raise refusals.unknown_url(method, path)


def scope(path: str) -> str:
    """Return the scope that a key needs for a path."""
    if path.startswith((f"{ROOT}/usage/", f"{ROOT}/costs")):
        return USAGE_SCOPE
    return AUDIT_SCOPE if path.startswith(f"{ROOT}/audit_logs") else MANAGEMENT_SCOPE


def _usage(kind: str, state: State, query: Query) -> Wire:
    declared = usage.KINDS[kind]
    wanted = _bucket_query(query, declared.dimensions, declared.filters, USAGE_WIDTHS)
    path = f"{ROOT}/usage/{kind}"
    return _page(state, query, path, wanted, USAGE_WIDTHS, partial(_usage_buckets, state, kind))


def _usage_buckets(state: State, kind: str, wanted: BucketQuery) -> Iterable[Wire]:
    return usage.buckets(state.organization, kind, wanted, state.now, state.settings)


def _costs(state: State, query: Query) -> Wire:
    wanted = _bucket_query(query, costs.DIMENSIONS, costs.FILTERS, COST_WIDTHS)
    if wanted.end_time is not None and wanted.start_time // DAY == wanted.end_time // DAY:
        raise refusals.same_day()
    return _page(state, query, f"{ROOT}/costs", wanted, COST_WIDTHS, partial(_cost_buckets, state))


def _cost_buckets(state: State, wanted: BucketQuery) -> Iterable[Wire]:
    return costs.buckets(state.organization, wanted, state.now, state.settings)


def _bucket_query(
    query: Query,
    dimensions: Sequence[str],
    filters: Collection[str],
    widths: Mapping[str, Widths],
) -> BucketQuery:
    start = parameters.required_integer(query, "start_time")
    end = parameters.integer(query, "end_time", minimum=0)
    if end is not None and end <= start:
        raise refusals.backwards()
    return BucketQuery(
        start_time=start - start % MINUTE,
        end_time=end,
        bucket_width=parameters.choice(query, "bucket_width", tuple(widths), "1d") or "1d",
        group_by=parameters.choices(query, "group_by", dimensions),
        filters={name: _filter(query, name) for name in filters},
    )


def _filter(query: Query, name: str) -> tuple[str, ...]:
    if name in FILTER_VALUES:
        return parameters.choices(query, name, FILTER_VALUES[name])
    return parameters.values(query, name, split=name not in WITH_COMMAS)


def _page(
    state: State,
    query: Query,
    path: str,
    wanted: BucketQuery,
    widths: Mapping[str, Widths],
    read: Callable[[BucketQuery], Iterable[Wire]],
) -> Wire:
    end = state.now if wanted.end_time is None else min(wanted.end_time, state.now)
    width = widths[wanted.bucket_width]
    span = paging.span(query, path, wanted.start_time, end, width, state.now, state.token_life)
    found = read(wanted._replace(start_time=span.start, end_time=span.end))
    return paging.bucketed(map(_with_iso_times, found), query, path, span, state.now)


def _with_iso_times(bucket: Wire) -> Wire:
    """Add the two fields that the API sends and the contract does not declare."""
    return {
        "object": bucket["object"],
        "start_time": bucket["start_time"],
        "end_time": bucket["end_time"],
        "start_time_iso": _iso(bucket["start_time"]),
        "end_time_iso": _iso(bucket["end_time"]),
        "results": bucket["results"],
    }


def _iso(moment: int) -> str:
    return datetime.fromtimestamp(moment, timezone.utc).isoformat()


def _projects(state: State, query: Query) -> Wire:
    with_archived = parameters.flag(query, "include_archived")
    rows = [
        project
        for project in state.organization.projects
        if with_archived or not lists.is_archived(project, state.now, state.settings)
    ]
    wire = partial(lists.project, now=state.now, settings=state.settings)
    return paging.by_last_id(rows, query, _id, wire)


def _project(state: State, query: Query, project_id: str) -> Wire:
    return lists.project(_known_project(state, project_id), state.now, state.settings)


def _rate_limits(state: State, query: Query, project_id: str) -> Wire:
    all_rows = demo.rate_limits(state.organization, _known_project(state, project_id).id)
    gone = incidents.gone_models(state.settings.incidents.gone, project_id, state.now)
    rows = [row for row in all_rows if row["model"] not in gone]
    return paging.by_last_id(rows, query, _row_id, _as_is, default=100, maximum=None)


def _api_keys(state: State, query: Query, project_id: str) -> Wire:
    keys = lists.keys_by_project(state.organization).get(_known_project(state, project_id).id, [])
    wanted = parameters.choice(
        query, "owner_project_access", ("active", "inactive", "any"), "active"
    )
    rows = [key for key in keys if wanted == "any" or key.owner_active == (wanted == "active")]
    return paging.by_last_id(rows, query, _id, partial(lists.api_key, now=state.now))


def _service_accounts(state: State, query: Query, project_id: str) -> Wire:
    project = _active_project(state, project_id)
    accounts = state.organization.service_accounts
    rows = [account for account in accounts if account.project_id == project.id]
    return paging.by_last_id(rows, query, _id, lists.service_account)


def _project_users(state: State, query: Query, project_id: str) -> Wire:
    rows = lists.members(state.organization, _active_project(state, project_id).id)
    return paging.by_last_id(rows, query, _id, lists.project_user)


def _project_spend_limit(state: State, query: Query, project_id: str) -> Wire:
    return _spend_limit_of(state, _known_project(state, project_id).id)


def _project_spend_alerts(state: State, query: Query, project_id: str) -> Wire:
    rows = lists.project_spend_alerts(state.organization, _known_project(state, project_id).id)
    return _alerts(rows, query)


def _project_retention(state: State, query: Query, project_id: str) -> Wire:
    return lists.project_retention(_known_project(state, project_id))


def _model_permissions(state: State, query: Query, project_id: str) -> Wire:
    return lists.model_permissions(_known_project(state, project_id))


def _users(state: State, query: Query) -> Wire:
    emails = parameters.values(query, "emails")
    people = state.organization.users
    rows = [user for user in people if not emails or user.email in emails]
    return paging.by_last_id(rows, query, _id, lists.user)


def _invites(state: State, query: Query) -> Wire:
    return paging.by_last_id(lists.invites(state.organization, state.now), query, _row_id, _as_is)


def _admin_keys(state: State, query: Query) -> Wire:
    rows = sorted(state.organization.admin_keys, key=lambda key: key.created_at)
    return paging.by_last_id(paging.ordered(rows, query), query, _id, lists.admin_key)


def _groups(state: State, query: Query) -> Wire:
    rows = paging.ordered(lists.groups(state.organization), query)
    return paging.by_next(rows, query, _row_id, _as_is)


def _roles(state: State, query: Query) -> Wire:
    rows = paging.ordered(lists.roles(state.organization), query)
    return paging.by_next(rows, query, _row_id, _as_is, default=1000)


def _certificates(state: State, query: Query) -> Wire:
    rows = paging.ordered(lists.certificates(state.organization), query, default="desc")
    return paging.by_last_id(rows, query, _row_id, _as_is)


def _spend_limit(state: State, query: Query) -> Wire:
    return _spend_limit_of(state, None)


def _spend_alerts(state: State, query: Query) -> Wire:
    return _alerts(lists.spend_alerts(state.organization), query)


def _retention(state: State, query: Query) -> Wire:
    return lists.organization_retention()


def _audit_logs(state: State, query: Query) -> Wire:
    return audit.page(state.organization, query, state.now, state.settings, state.audit_delay)


def _spend_limit_of(state: State, project_id: str | None) -> Wire:
    limit = demo.spend_limits(state.organization).get(project_id)
    if limit is None:
        raise refusals.no_spend_limit()
    return limit


def _alerts(rows: Sequence[Wire], query: Query) -> Wire:
    return paging.by_last_id(paging.ordered(rows, query), query, _row_id, _as_is, minimum=0)


def _known_project(state: State, project_id: str) -> Project:
    project = lists.projects_by_id(state.organization).get(project_id)
    if project is None:
        raise refusals.not_found("project", project_id)
    return project


def _active_project(state: State, project_id: str) -> Project:
    project = _known_project(state, project_id)
    if lists.is_archived(project, state.now, state.settings):
        raise refusals.archived(project_id)
    return project


def _id(entity: Any) -> str:
    return str(entity.id)


def _row_id(row: Wire) -> str:
    return str(row["id"])


def _as_is(row: Wire) -> Wire:
    return row


def _route(path: str, respond: Callable[..., Wire], *names: str) -> tuple[re.Pattern[str], Route]:
    pattern = re.escape(ROOT + path).replace(r"\{id\}", "([^/]+)")
    return re.compile(pattern), Route(frozenset(names), respond)


ROUTES = [
    *(
        _route(f"/usage/{kind}", partial(_usage, kind), *BUCKETED, *declared.filters)
        for kind, declared in usage.KINDS.items()
    ),
    _route("/costs", _costs, *BUCKETED, *costs.FILTERS),
    _route("/audit_logs", _audit_logs, *audit.PARAMETERS),
    _route("/projects", _projects, *FORWARD, "include_archived"),
    _route("/projects/{id}", _project),
    _route("/projects/{id}/rate_limits", _rate_limits, *BOTH_WAYS),
    _route("/projects/{id}/api_keys", _api_keys, *FORWARD, "owner_project_access"),
    _route("/projects/{id}/service_accounts", _service_accounts, *FORWARD),
    _route("/projects/{id}/users", _project_users, *FORWARD),
    _route("/projects/{id}/spend_limit", _project_spend_limit),
    _route("/projects/{id}/spend_alerts", _project_spend_alerts, *BOTH_WAYS, "order"),
    _route("/projects/{id}/data_retention", _project_retention),
    _route("/projects/{id}/model_permissions", _model_permissions),
    _route("/users", _users, *FORWARD, "emails"),
    _route("/invites", _invites, *FORWARD),
    _route("/admin_api_keys", _admin_keys, *FORWARD, "order"),
    _route("/groups", _groups, *FORWARD, "order"),
    _route("/roles", _roles, *FORWARD, "order"),
    _route("/certificates", _certificates, *FORWARD, "order"),
    _route("/spend_limit", _spend_limit),
    _route("/spend_alerts", _spend_alerts, *BOTH_WAYS, "order"),
    _route("/data_retention", _retention),
]
