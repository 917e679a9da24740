"""The failures an operator can meet, each a sentence with its cure."""

from __future__ import annotations

from typing import NamedTuple


class Kind(NamedTuple):
    """One row of the README's "When it fails": what it looks like and what to do."""

    meaning: str
    cure: str


KINDS = {
    "key": Kind("the admin key is wrong or was revoked", "make a new one as an organization owner"),
    "project_key": Kind(
        "a project key was given where an admin key is needed",
        "make an admin key (sk-admin-…) under Organization, Admin keys",
    ),
    "scope": Kind(
        "the admin key lacks a scope", "give the key that read scope, or use one that has it"
    ),
    "archived": Kind(
        "the project is archived", "leave it out; its past usage and costs stay readable"
    ),
    "not_found": Kind("the API does not know what was asked", "check the id and openai.api.url"),
    "refused": Kind(
        "the API refused the request", "mend what its reason names, often a grouping or a filter"
    ),
    "ungrouped": Kind(
        "this organization does not support them for this time range",
        "use OpenAI_Cost_ByApiKey, which every organization has",
    ),
    "throttled": Kind(
        "the API throttles this organization",
        "poll less often, or share a cache between collectors",
    ),
    "billing": Kind(
        "the organization ran out of credit or reached a limit",
        "see Billing in its settings; asking again does not help",
    ),
    "down": Kind("the API answered with a server error", "wait; see the vendor's status page"),
    "unreachable": Kind(
        "no connection to the API", "check DNS, firewall, proxy and openai.api.url"
    ),
    "proxy": Kind("the proxy refused", "check openai.proxy.url and openai.proxy.pass"),
    "tls": Kind(
        "the API's certificate was not accepted",
        "set openai.ca.file to the CA that signed it, which may be a proxy's own",
    ),
    "deadline": Kind("the poll's time ran out", "raise openai.timeout, or narrow the window"),
    "not_json": Kind(
        "the answer is not JSON",
        "check openai.api.url, and what stands between here and the API",
    ),
    "contract": Kind(
        "the answer breaks the API's contract", "check openai.api.url; if it is right, report this"
    ),
    "too_large": Kind("an answer is larger than allowed", "narrow the window or the grouping"),
    "redirect": Kind("the API answered with a redirect", "set openai.api.url to the final address"),
}


class Failure(Exception):
    """Base of everything this suite raises on purpose; `str()` is one sentence without a secret."""


class WrongUsage(Failure):
    """Options, properties or files that people write are wrong; nothing was asked of the API."""


class Unwritable(Failure):
    """Stdout is closed, full or gone, so that no word about it belongs there."""


class ApiFailure(Failure):
    """A question to the API stayed unanswered; `kind` is a key of KINDS.

    `asked` names the endpoint; `scope` names the missing scope when `kind` is "scope".
    """

    def __init__(self, kind: str, asked: str, detail: str = "", scope: str = "") -> None:
        self.kind, self.asked, self.detail, self.scope = kind, asked, detail, scope
        meaning, cure = KINDS[kind]
        words = f"{meaning} ({detail})" if detail else meaning
        super().__init__(f"{asked}: {words}; {cure}")
