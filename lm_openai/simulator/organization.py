"""Contents of the demo organization: projects, models, people, keys and vector stores."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from hashlib import blake2b
from types import MappingProxyType
from typing import Any, NamedTuple

from lm_openai.simulator import catalog, limits, roster
from lm_openai.simulator.catalog import Model
from lm_openai.simulator.incidents import NO_INCIDENTS, Incidents

EPOCH = 1795305600  # 2026-11-22T00:00:00Z
DAY = 86400


class Settings(NamedTuple):
    """Settings that may change while a demo runs.

    `lag` scales the delay of usage (0: a minute is complete when it ends). `delays` replaces the
    seconds before a kind's first counts; `costs` is a kind here, too. `rename_at` is the Unix time
    at which one project changes its name.
    """

    lag: float = 1.0
    delays: Mapping[str, int] = MappingProxyType({})
    rename_at: int | None = None
    incidents: Incidents = NO_INCIDENTS


DEFAULT_SETTINGS = Settings()


class Project(NamedTuple):
    """Project; `case` is the situation it demonstrates, `other_name` its name after the rename."""

    id: str
    name: str
    created_at: int
    archived_at: int | None
    case: str
    other_name: str | None

    @property
    def status(self) -> str:
        return "active" if self.archived_at is None else "archived"


class User(NamedTuple):
    """Organization member; `active` is False for one who left but whose keys still exist."""

    id: str
    name: str
    email: str
    role: str
    added_at: int
    active: bool


class ServiceAccount(NamedTuple):
    id: str
    name: str
    role: str
    project_id: str
    created_at: int


class ApiKey(NamedTuple):
    """API key of a project; an `in_use` key carries usage, so its last use follows the clock."""

    id: str
    name: str
    redacted_value: str
    project_id: str
    owner: User | ServiceAccount
    created_at: int
    last_used_at: int | None
    expires_at: int | None
    owner_active: bool
    in_use: bool


class AdminKey(NamedTuple):
    id: str
    name: str | None
    redacted_value: str
    owner: User | ServiceAccount
    created_at: int
    last_used_at: int | None
    expires_at: int | None


class VectorStore(NamedTuple):
    id: str
    name: str
    project_id: str


class Organization(NamedTuple):
    """Facts that do not change over time; the hash covers the arguments of `organization`."""

    seed: int
    epoch: int
    breadth: int
    projects: tuple[Project, ...]
    models: tuple[Model, ...]
    users: tuple[User, ...]
    service_accounts: tuple[ServiceAccount, ...]
    keys: tuple[ApiKey, ...]
    admin_keys: tuple[AdminKey, ...]
    vector_stores: tuple[VectorStore, ...]

    def __hash__(self) -> int:
        return hash((self.seed, self.epoch, self.breadth, len(self.projects), len(self.models)))


@lru_cache(maxsize=8)
def organization(
    seed: int = 1,
    projects: int = 12,
    models: int = 24,
    epoch: int = EPOCH,
    breadth: int | None = None,
) -> Organization:
    """Return the organization of a seed.

    Creation, archiving and expiry dates are near `epoch`. `breadth` is the number of models that
    each project uses, except the dozen named ones; the default is all models, or 5 models if there
    are more than 100 projects.
    """
    members = _users(seed, max(len(roster.PEOPLE), projects // 4), epoch)
    all_projects = tuple(_project(seed, number, epoch) for number in range(projects))
    accounts = tuple(_service_account(seed, project) for project in all_projects)
    return Organization(
        seed=seed,
        epoch=epoch,
        breadth=(models if projects <= 100 else 5) if breadth is None else breadth,
        projects=all_projects,
        models=catalog.models(models),
        users=members,
        service_accounts=accounts,
        keys=tuple(_keys(seed, all_projects, accounts, members, epoch)),
        admin_keys=tuple(_admin_keys(seed, members, accounts, epoch)),
        vector_stores=tuple(_vector_stores(seed, all_projects)),
    )


def project_name(project: Project, now: int, settings: Settings = DEFAULT_SETTINGS) -> str:
    """Return the project's name at `now`."""
    moment = settings.rename_at
    renamed = project.other_name is not None and moment is not None and now >= moment
    return str(project.other_name) if renamed else project.name


def archived_at(project: Project, settings: Settings = DEFAULT_SETTINGS) -> int | None:
    """Return the time at which a project was archived, or is gone; None for an active one."""
    gone = [one.start for one in settings.incidents.gone if one.project == project.id and one.whole]
    known = gone if project.archived_at is None else [project.archived_at, *gone]
    return min(known, default=None)


def last_used(key: ApiKey, now: int) -> int | None:
    """Return the time of the last use at `now`; a key in use was used within the last hour."""
    return now - now % 3600 if key.in_use else key.last_used_at


def rate_limits(organization: Organization, project_id: str) -> list[dict[str, Any]]:
    """Return the limit rows of a project in the API's wire form and order.

    Raises KeyError for an unknown project.
    """
    for project in organization.projects:
        if project.id == project_id:
            return limits.rows(project.case, [model.name for model in organization.models])
    raise KeyError(project_id)


def spend_limits(organization: Organization) -> dict[str | None, dict[str, Any]]:
    """Return spend limits in wire form by project id; the organization's own id is None."""
    found: dict[str | None, dict[str, Any]] = {
        project.id: _spend_limit("project.spend_limit", PROJECT_SPEND_LIMITS[project.case])
        for project in organization.projects
        if project.case in PROJECT_SPEND_LIMITS
    }
    return {None: _spend_limit("organization.spend_limit", ORGANIZATION_SPEND_LIMIT), **found}


def stable_hash(*parts: object) -> int:
    """Return a 144-bit number that depends only on the parts."""
    digest = blake2b("/".join(map(str, parts)).encode(), digest_size=18).digest()
    return int.from_bytes(digest, "big")


def _spend_limit(kind: str, cents: int) -> dict[str, Any]:
    return {
        "object": kind,
        "threshold_amount": cents,
        "currency": "USD",
        "interval": "month",
        "enforcement": {"status": "inactive"},
    }


def _project(seed: int, number: int, epoch: int) -> Project:
    created = epoch - (700 - 37 * number % 400) * DAY - stable_hash(seed, "created", number) % DAY
    name, case = (
        roster.PROJECTS[number]
        if number < len(roster.PROJECTS)
        else (f"Team {number:04d}", "plain")
    )
    return Project(
        id="proj_" + _identifier(24, seed, "project", number),
        name=name,
        created_at=created,
        archived_at=epoch - 20 * DAY + 37800 if case == "archived" else None,
        case=case,
        other_name="Growth & Brand" if case == "renamed" else None,
    )


def _users(seed: int, count: int, epoch: int) -> tuple[User, ...]:
    return tuple(_user(seed, number, epoch) for number in range(count))


def _user(seed: int, number: int, epoch: int) -> User:
    named = number < len(roster.PEOPLE)
    name, email = (
        roster.PEOPLE[number] if named else (f"Member {number}", f"member.{number}@acme.example")
    )
    return User(
        id="user-" + _identifier(24, seed, "user", number),
        name=name,
        email=email,
        role="owner" if number < 2 else "reader",
        added_at=epoch - (720 - number % 300) * DAY,
        active=number != roster.DEPARTED,
    )


def _service_account(seed: int, project: Project) -> ServiceAccount:
    return ServiceAccount(
        id="svc_acct_" + _identifier(16, seed, "account", project.id),
        name=f"{project.name} service",
        role="member",
        project_id=project.id,
        created_at=project.created_at + DAY,
    )


def _keys(
    seed: int,
    projects: Sequence[Project],
    accounts: Sequence[ServiceAccount],
    members: Sequence[User],
    epoch: int,
) -> Iterator[ApiKey]:
    """Yield the keys of each project: a service's, a person's and, in some, one that needs care."""
    staff = [member for member in members if member.active]
    for number, (project, account) in enumerate(zip(projects, accounts)):
        in_use = project.case != "idle"
        used = None if not in_use else project.archived_at or epoch - 600
        alive = in_use and project.archived_at is None
        person = staff[number % len(staff)]
        for name, holder in (("production", account), (f"{person.name} (dev)", person)):
            yield _key(seed, project, epoch, name, holder, used, in_use=alive)
        if project.case in roster.SPECIAL_KEYS:
            name, unused_days, expires_days = roster.SPECIAL_KEYS[project.case]
            owner = members[roster.DEPARTED] if project.case == "pair" else person
            last = None if unused_days is None else epoch - unused_days * DAY
            expires = None if expires_days is None else epoch + expires_days * DAY
            yield _key(seed, project, epoch, name, owner, last, expires)


def _key(
    seed: int,
    project: Project,
    epoch: int,
    name: str,
    owner: User | ServiceAccount,
    used: int | None,
    expires_at: int | None = None,
    in_use: bool = False,
) -> ApiKey:
    tail = _identifier(4, seed, "tail", project.id, name)
    return ApiKey(
        id="key_" + _identifier(16, seed, "key", project.id, name),
        name=name,
        redacted_value=f"sk-proj-...{tail}",
        project_id=project.id,
        owner=owner,
        created_at=min(project.created_at + 2 * DAY, epoch - DAY),
        last_used_at=used,
        expires_at=expires_at,
        owner_active=not isinstance(owner, User) or owner.active,
        in_use=in_use,
    )


def _admin_keys(
    seed: int, members: Sequence[User], accounts: Sequence[ServiceAccount], epoch: int
) -> Iterator[AdminKey]:
    for number, (name, created, used, expires) in enumerate(roster.ADMIN_KEYS):
        owner: User | ServiceAccount = (
            accounts[0] if number == 2 and accounts else members[number % 2]
        )
        yield AdminKey(
            id="key_" + _identifier(16, seed, "admin", number),
            name=name,
            redacted_value="sk-admin-..." + _identifier(4, seed, "admin tail", number),
            owner=owner,
            created_at=epoch - created * DAY,
            last_used_at=None if used is None else epoch - used * DAY,
            expires_at=None if expires is None else epoch + expires * DAY,
        )


def _vector_stores(seed: int, projects: Sequence[Project]) -> Iterator[VectorStore]:
    for project in projects:
        if project.case in ("support", "pair"):
            for name in ("handbook", "tickets"):
                identifier = _identifier(24, seed, "store", project.id, name)
                yield VectorStore("vs_" + identifier, name, project.id)


def _identifier(length: int, *parts: object) -> str:
    value, found = stable_hash(*parts), []
    for _ in range(length):
        value, place = divmod(value, len(ALPHABET))
        found.append(ALPHABET[place])
    return "".join(found)


ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

ORGANIZATION_SPEND_LIMIT = 6_000_000
PROJECT_SPEND_LIMITS = {"hot": 330_000, "blocked": 50_000}
