"""Icinga 2: check command, templates, apply rules, and a host for each organization."""

from __future__ import annotations

from collections.abc import Sequence

from lm_openai.hosts import icinga_director, icinga_rules
from lm_openai.hosts.icinga_checks import Shape, Thresholds, in_force, shape_of_all, shapes
from lm_openai.hosts.icinga_dsl import Statement, Value, block, imports, literal_macro, named
from lm_openai.hosts.icinga_names import NAME, variable
from lm_openai.hosts.jobs import Job, Organization
from lm_openai.model.report import wildvalue

Members = dict[str, dict[Thresholds, dict[str, Value]]]
"""Instances of an organization by folder, by the thresholds in force, and by wildvalue."""

SHIPPED = """\
// lm-openai for Icinga 2 with the default thresholds, for sites that write the Host objects
// themselves. `lm-openai config icinga` writes the same with the site's thresholds and the Host
// objects: use one of the two files.
"""
MADE = """\
// Made by `lm-openai config icinga`, which replaces this file: changes belong in threshold files,
// and who is notified into constants.conf.
"""


def files(jobs: Sequence[Job]) -> dict[str, str]:
    """Return the text of each shipped file by its path."""
    usual = [*map(shape_of_all, jobs)]
    return {
        "lm-openai.conf": "\n".join((SHIPPED, *icinga_rules.rules(usual))),
        "director-basket.json": icinga_director.basket([shape.checks for shape in usual]),
    }


def site(jobs: Sequence[Job], organizations: Sequence[Organization]) -> str:
    """Return the configuration with a host for each organization.

    It has rules only for what there are instances of, since Icinga warns of rules without a match.
    """
    members = [_members(jobs, one) for one in organizations]
    used = [
        shape
        for job in jobs
        for shape in shapes(job, *(found[job.definition.folder] for found in members))
        if any(_of(shape, found) for found in members)
    ]
    hosts = (_host(one, used, found) for one, found in zip(organizations, members))
    return "\n".join((MADE, *icinga_rules.rules(used), *hosts))


def _host(organization: Organization, used: Sequence[Shape], members: Members) -> str:
    found = {shape.name: _of(shape, members) for shape in used}
    statements: list[Statement] = [
        imports(NAME),
        ("display_name", f"OpenAI {organization.name}"),
        (f"vars.{variable('--properties')}", [literal_macro(organization.properties)]),
        *((f"vars.{NAME}.{name}", values) for name, values in found.items() if values),
    ]
    return block(named("object Host", f"{NAME}-{wildvalue(organization.name)}"), statements)


def _members(jobs: Sequence[Job], organization: Organization) -> Members:
    found: Members = {job.definition.folder: {} for job in jobs}
    for job in jobs:
        folder = job.definition.folder
        for instance in organization.instances[folder]:
            found[folder].setdefault(in_force(job, instance), {})[instance.wildvalue] = {
                "alias": instance.alias,
                "dimensions": {**instance.dimensions, **instance.names},
            }
    return found


def _of(shape: Shape, members: Members) -> dict[str, Value]:
    """Return the instances with the shape's thresholds by wildvalue."""
    return members[shape.job.definition.folder].get(shape.thresholds, {})
