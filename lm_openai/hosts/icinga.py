"""Icinga 2: check command, templates, apply rules, and a host for each organization."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lm_openai.hosts import icinga_director, icinga_rules
from lm_openai.hosts.icinga_checks import Shape, in_force, shape_of_all, shapes
from lm_openai.hosts.icinga_dsl import Statement, Value, block, imports, literal_macro, named
from lm_openai.hosts.icinga_names import NAME, variable
from lm_openai.hosts.jobs import Job, Organization
from lm_openai.model.report import Instance, wildvalue

SHIPPED = """\
// lm-openai for Icinga 2 with the default thresholds, for sites that write the Host objects
// themselves. `lm-openai config icinga` writes the same with the site's thresholds and the Host
// objects: use one of the two files.
"""
MADE = """\
// Made by `lm-openai config icinga`, which replaces this file: changes belong into threshold files,
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
    shaped = [shape for job in jobs for shape in shapes(job, _instances(job, organizations))]
    used = [shape for shape in shaped if any(_members(shape, one) for one in organizations)]
    hosts = (_host(one, used) for one in organizations)
    return "\n".join((MADE, *icinga_rules.rules(used), *hosts))


def _instances(job: Job, organizations: Sequence[Organization]) -> Iterator[Instance]:
    for organization in organizations:
        yield from organization.instances[job.definition.folder]


def _host(organization: Organization, used: Sequence[Shape]) -> str:
    found = {shape.name: _members(shape, organization) for shape in used}
    statements: list[Statement] = [
        imports(NAME),
        ("display_name", f"OpenAI {organization.name}"),
        (f"vars.{variable('--properties')}", [literal_macro(organization.properties)]),
        *((f"vars.{NAME}.{name}", members) for name, members in found.items() if members),
    ]
    return block(named("object Host", f"{NAME}-{wildvalue(organization.name)}"), statements)


def _members(shape: Shape, organization: Organization) -> dict[str, Value]:
    """Return the organization's instances with the shape's thresholds by wildvalue."""
    return {
        instance.wildvalue: {
            "alias": instance.alias,
            "dimensions": {**instance.dimensions, **instance.names},
        }
        for instance in organization.instances[shape.job.definition.folder]
        if in_force(shape.job, instance) == shape.thresholds
    }
