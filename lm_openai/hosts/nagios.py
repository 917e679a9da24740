"""Nagios 4: commands, templates, and a host for each organization with its services.

A service is notified for WARNING, CRITICAL and recovery. A failed poll is UNKNOWN, which only one
service of collection_health is notified for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from lm_openai.collect.evaluation import effective
from lm_openai.errors import WrongUsage
from lm_openai.hosts.groups import Group, groups, lines_of_all, of_all, sentence
from lm_openai.hosts.jobs import HEALTH, OUTAGE_POLLS, PLUGINS, PROPERTIES, Job, Organization
from lm_openai.hosts.nagios_objects import Object, text, without_macros, without_shell
from lm_openai.model.report import Instance, wildvalue
from lm_openai.model.thresholds import Threshold
from lm_openai.model.units import plain
from lm_openai.timespans import MINUTE

COMMANDS, TEMPLATES, SERVICES = "commands.cfg", "templates.cfg", "services.cfg"
HOST = "openai"
"""Name of the shipped host, of all templates' beginning, and of the beginning of a site's hosts."""
PATH = frozenset("/._-+@")
"""Characters besides letters and digits that a path may have in a command line."""
FOR_COMMANDS = """\
Commands for Nagios, one for each DataSource. A host that uses them has the custom variable
_OPENAI_PROPERTIES: the path of the file with the host properties and the key.
$ARG1$ is further options, such as --instance."""
FOR_TEMPLATES = """\
Templates for the hosts and services of OpenAI organizations. Change them here: contacts, periods,
how often a notification is repeated."""
FOR_SERVICES = """\
One service for each DataSource, for all its instances: a second instance that turns bad while the
service is bad is not notified. `lm-openai config nagios` writes services for each instance instead;
use one of the two files."""
FOR_SITE = """\
Written by `lm-openai config nagios`, which replaces it: make changes in the templates and in
threshold files."""


# Without a check the host would stay pending.
UP = Object(
    "command",
    {
        "command_name": "check_openai_host",
        "command_line": "/bin/echo OK - an organization has no address, see collection_health",
    },
)


class Service(NamedTuple):
    """One service of a host; `instance` is None for one that covers all instances.

    `number` is the place of its group: the first one's name ends without the number of polls. An
    instance that is `alone` is the DataSource's only one, the organization. An `overview` is not
    notified.
    """

    job: Job
    group: Group
    number: int = 0
    instance: Instance | None = None
    alone: bool = False
    overview: bool = False

    @property
    def alias(self) -> str:
        """Return the display name of the instance; empty for all instances and for one alone."""
        return self.instance.alias if self.instance is not None and not self.alone else ""

    @property
    def name(self) -> str:
        """Return the description, which depends on ids alone, so that a rename keeps its history.

        Every character of it is legal.
        """
        words = [self.job.definition.folder]
        if self.instance is not None and not self.alone:
            words.append(self.instance.wildvalue)
        if self.number:
            words.append(self.group.words)
        return " ".join(words)

    @property
    def health(self) -> bool:
        """Return True for a service on whose failure all others depend."""
        return self.job.definition.folder == HEALTH


def files(jobs: Sequence[Job]) -> dict[str, str]:
    """Return the text of each shipped file by its path."""
    services = [one for job in jobs for one in _of_all(job)]
    host = _host(HOST, "OpenAI", PROPERTIES)
    return {
        COMMANDS: text(FOR_COMMANDS, (*map(_command, jobs), UP)),
        TEMPLATES: text(FOR_TEMPLATES, _templates()),
        SERVICES: text(FOR_SERVICES, (host, *_objects(HOST, services))),
    }


def site(jobs: Sequence[Job], organizations: Sequence[Organization]) -> str:
    """Return the text of one file with a host for each organization, and services by instance.

    Raises WrongUsage for a path of properties that cannot stand in a command line.
    """
    return text(FOR_SITE, (one for each in organizations for one in _organization(jobs, each)))


def _organization(jobs: Sequence[Job], organization: Organization) -> Iterator[Object]:
    name = f"{HOST}-{wildvalue(organization.name)}"
    found = organization.instances
    services = [one for job in jobs for one in _of_site(job, found[job.definition.folder])]
    yield _host(name, organization.name, _checked(organization.properties))
    yield from _objects(name, services)


def _of_all(job: Job) -> Iterator[Service]:
    """Yield the services for all instances of a DataSource."""
    for number, group in enumerate(groups(job.definition, of_all(job))):
        yield Service(job, group, number)


def _of_site(job: Job, instances: Sequence[Instance]) -> Iterator[Service]:
    """Yield the services of each instance, after one that shows them all and is not notified."""
    alone = len(instances) == 1 and not instances[0].dimensions
    if not alone:
        yield Service(job, Group(1, (), ()), overview=True)
    for instance in instances:
        found = groups(job.definition, effective(job.rules, instance))
        yield from (Service(job, one, at, instance, alone) for at, one in enumerate(found))


def _objects(host: str, services: Sequence[Service]) -> Iterator[Object]:
    """Yield the group of the services that need the API, the services and their dependencies."""
    health = [one for one in services if one.health]
    slowest = max(health, key=lambda one: one.group.polls, default=None)
    yield Object("servicegroup", {"servicegroup_name": host, "alias": f"{host}, needs the API"})
    for service in services:
        yield _service(host, service, service is slowest)
    yield from _dependencies(host, [one.name for one in health], len(health) < len(services))


def _dependencies(host: str, health: Sequence[str], depending: bool) -> Iterator[Object]:
    """Yield the dependencies on collection_health: while it is bad, the others wait.

    Its further services wait only while the first one says that the API cannot be reached: one of
    them is notified of polls that fail for any other reason. `depending` is True if the host's
    group has services.
    """
    first, *others = health
    if others:
        names = {"dependent_host_name": host, "dependent_service_description": ",".join(others)}
        yield _dependency(host, [first], "c", names)
    if depending:
        yield _dependency(host, health, "u,c", {"dependent_servicegroup_name": host})


def _service(host: str, service: Service, outage: bool) -> Object:
    """Return a service; with `outage` it is notified for UNKNOWN too, after OUTAGE_POLLS polls."""
    group = service.group
    polls = max(group.polls, OUTAGE_POLLS) if outage else group.polls
    template = "outage" if outage else "overview" if service.overview else "service"
    entries = {
        "use": f"{HOST}-{template}",
        "host_name": host,
        "service_description": service.name,
        "display_name": without_shell(_title(service)),
        "check_command": "!".join(filter(None, (_command_name(service.job), _options(service)))),
        "max_check_attempts": str(polls),
        "check_interval": _minutes(service.job.check_interval),
        "retry_interval": _minutes(service.job.interval),
        "servicegroups": "" if service.health else host,
        "notes": without_macros(" ".join(_notes(service))),
    }
    return Object("service", {name: value for name, value in entries.items() if value})


def _title(service: Service) -> str:
    """Return the name for people: title, alias, and the datapoints of a further group."""
    judged = ", ".join(one.datapoint for one in service.group.thresholds) if service.number else ""
    return ": ".join(filter(None, (service.job.definition.title, service.alias, judged)))


def _options(service: Service) -> str:
    """Return the check's options that select its instance and its datapoints."""
    words = [f"--instance {service.instance.wildvalue}"] if service.instance else []
    return " ".join((*words, *(f"--datapoint {name}" for name in service.group.datapoints)))


def _notes(service: Service) -> Iterator[str]:
    """Yield each threshold of the service with its reason, which holds the remedy."""
    if service.overview:
        yield "All instances; not notified, since each instance has services of its own."
    for match, one in _judged(service):
        yield sentence(service.job.definition, one, match)


def _judged(service: Service) -> Iterator[tuple[str, Threshold]]:
    """Yield the thresholds of the service, each after the instances it is for, empty for all."""
    if service.instance is None:
        yield from lines_of_all(service.job, service.group)
    else:
        yield from (("", one) for one in service.group.thresholds)


def _dependency(
    host: str, on: Sequence[str], criteria: str, dependent: Mapping[str, str]
) -> Object:
    """Return a dependency: while one of `on` is in a state of `criteria`, the others wait."""
    directives = {"host_name": host, "service_description": ",".join(on), **dependent}
    failing = ("execution_failure_criteria", "notification_failure_criteria")
    return Object("servicedependency", {**directives, **dict.fromkeys(failing, criteria)})


def _host(name: str, alias: str, properties: str) -> Object:
    entries = {"use": f"{HOST}-host", "host_name": name, "alias": alias}
    return Object("host", {**entries, "_OPENAI_PROPERTIES": properties})


def _command(job: Job) -> Object:
    options = "--format nagios --properties $_HOSTOPENAI_PROPERTIES$ $ARG1$"
    line = f"{job.plugin} {options}"
    return Object("command", {"command_name": _command_name(job), "command_line": line})


def _command_name(job: Job) -> str:
    return job.plugin.removeprefix(f"{PLUGINS}/")


def _templates() -> Iterator[Object]:
    """Yield the templates: of a host, of a service, and of the two that are notified otherwise."""
    common = {
        "register": "0",
        "check_period": "24x7",
        "notification_period": "24x7",
        "contact_groups": "admins",
        "notification_interval": "0",
        "flap_detection_enabled": "0",
    }
    host = {"check_command": UP.directives["command_name"], "check_interval": "5"}
    silent = {"max_check_attempts": "1", "notifications_enabled": "0"}
    yield Object("host", {"name": f"{HOST}-host", **common, **host, **silent})
    service = f"{HOST}-service"
    yield Object("service", {"name": service, **common, "notification_options": "w,c,r"})
    for name, change in (
        ("overview", {"notifications_enabled": "0"}),
        ("outage", {"notification_options": "w,u,c,r"}),
    ):
        yield Object(
            "service", {"name": f"{HOST}-{name}", "use": service, "register": "0", **change}
        )


def _minutes(seconds: int) -> str:
    """Return the number of minutes, the unit of Nagios's intervals by default."""
    return plain(seconds / MINUTE)


def _checked(path: str) -> str:
    """Return a path that is one word of a command line; raises WrongUsage for any other."""
    for letter in path:
        if not ((letter.isascii() and letter.isalnum()) or letter in PATH):
            allowed = f"letters, digits and {' '.join(sorted(PATH))}"
            raise WrongUsage(
                f"{path}: {letter!r} cannot stand in a command line of Nagios; use {allowed}"
            )
    return path
