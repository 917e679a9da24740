"""Monitoring systems: one row each, with what `lm-openai config` writes for it."""

from __future__ import annotations

from types import ModuleType
from typing import NamedTuple


class Host(NamedTuple):
    """One monitoring system; the module `lm_openai.hosts.<name>` writes its configuration.

    Every module has `files(jobs)`, which returns the text of each shipped file by its path below
    `packaging/<name>/`. With `discovers` the system has no discovery of its own, and the module
    also has `site(jobs, organizations)`, which returns the text of one file for the site's
    instances. `reload` is what makes a changed file take effect.
    """

    name: str
    reload: str
    discovers: bool = False

    def module(self) -> ModuleType:
        """Import and return the module that writes the configuration."""
        from importlib import import_module

        return import_module(f"lm_openai.hosts.{self.name}")


ROWS = (
    Host("checkmk", "cmk -II openai && cmk -O"),
    Host(
        "grafana",
        "curl -X POST -u admin http://localhost:3000/api/admin/provisioning/dashboards/reload",
    ),
    Host("icinga", "icinga2 daemon -C && systemctl reload icinga2", discovers=True),
    Host("logicmonitor", "import the changed files in the portal"),
    Host(
        "nagios",
        "nagios4 -v /etc/nagios4/nagios.cfg && systemctl reload nagios4",
        discovers=True,
    ),
    Host("prometheus", "systemctl daemon-reload; systemctl reload prometheus"),
    Host("telegraf", "systemctl reload telegraf"),
    Host("zabbix", "systemctl restart zabbix-agent, and import the template again"),
)
HOSTS = {row.name: row for row in ROWS}
"""All monitoring systems by name."""
