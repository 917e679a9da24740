"""Who is in the demo organization: its projects, models, people, keys and vector stores."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from hashlib import blake2b
from types import MappingProxyType
from typing import Any, NamedTuple

from lm_openai.simulator import catalog, limits, roster
from lm_openai.simulator.catalog import Model

EPOCH = 1795305600  # 2026-11-22T00:00:00Z
DAY = 86400


class Settings(NamedTuple):
    """What a demo turns while it runs.

    `lag` scales how late usage arrives (0: a minute is complete when it is over), `delays` replaces
    the seconds before a kind's first counts (the kind `costs` too), `rename_at` is the moment at
    which one project takes its other name.
    """

    lag: float = 1.0
    delays: Mapping[str, int] = MappingProxyType({})
    rename_at: int | None = None


DEFAULT_SETTINGS = Settings()


class Project(NamedTuple):
    """`case` says what the project is there to show; `other_name` is its name after the rename."""

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
    """A member; `active` is False for one who has left and whose keys still exist."""

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
    """A project's key; `in_use` keys carry the usage, so that their last use moves on."""

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
    """Everything that does not move with the time; hashed by what it was built from."""

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
    """The organization of a seed.

    Creation, archiving and expiry lie around `epoch`. `breadth` is the number of models that each
    project beyond the dozen named ones uses: by default all, in more than 100 projects 5.
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
    """The project's name at `now`."""
    moment = settings.rename_at
    renamed = project.other_name is not None and moment is not None and now >= moment
    return str(project.other_name) if renamed else project.name


def last_used(key: ApiKey, now: int) -> int | None:
    """When the key was last used, seen at `now`: a key in use was used within the last hour."""
    return now - now % 3600 if key.in_use else key.last_used_at


def rate_limits(organization: Organization, project_id: str) -> list[dict[str, Any]]:
    """The limit rows of a project in the API's wire form, in the order in which it lists them.

    Raises KeyError for a project that the organization has not.
    """
    for project in organization.projects:
        if project.id == project_id:
            return limits.rows(project.case, [model.name for model in organization.models])
    raise KeyError(project_id)


def spend_limits(organization: Organization) -> dict[str | None, dict[str, Any]]:
    """Spend limits in wire form by project id; None is the organization's own."""
    found: dict[str | None, dict[str, Any]] = {
        project.id: _spend_limit("project.spend_limit", PROJECT_SPEND_LIMITS[project.case])
        for project in organization.projects
        if project.case in PROJECT_SPEND_LIMITS
    }
    return {None: _spend_limit("organization.spend_limit", ORGANIZATION_SPEND_LIMIT), **found}


def scattered(*parts: object) -> int:
    """A number of 144 bits that depends on nothing but the parts."""
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
    created = epoch - (700 - 37 * number % 400) * DAY - scattered(seed, "created", number) % DAY
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
    """Per project: the service's key, a person's key, and for some one that needs care."""
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
    value, found = scattered(*parts), []
    for _ in range(length):
        value, place = divmod(value, len(ALPHABET))
        found.append(ALPHABET[place])
    return "".join(found)


ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

ORGANIZATION_SPEND_LIMIT = 6_000_000
PROJECT_SPEND_LIMITS = {"hot": 330_000, "blocked": 50_000}
