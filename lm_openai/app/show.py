"""The commands `show` and `demo`: one poll of DataSources, as tables for people."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Sequence
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from lm_openai import resources
from lm_openai.app import run_many
from lm_openai.app.options import Options
from lm_openai.app.runner import DONE, FAILED, claim, guarded, put
from lm_openai.app.session import Session, Surroundings

if TYPE_CHECKING:
    from lm_openai.output.tables import Screen

WIDTH = 100
"""Columns of a stream that is not a terminal, unless the variable COLUMNS is set."""
NEXT = """
Next:
  lm-openai thresholds DATASOURCE     read its limits, their reasons and what to do
  lm-openai show DATASOURCE --all     see every row
"""
AFTER_DEMO = """
Next:
  export OPENAI_ADMIN_KEY=sk-admin-...  set the key, which an owner creates
  lm-openai doctor                      check that key and the connection
  lm-openai show                        see your own organization like this
  lm-openai list                        see what else there is to poll
  lm-openai simulate                    serve this organization for other tools
"""


def run(
    folders: Sequence[str],
    options: Options,
    around: Surroundings,
    everything: bool = False,
    following: str = NEXT,
) -> int:
    """Poll the DataSources (none: all) and print them; return 1 if anything could not be read."""

    def work(opened: list[Session]) -> int:
        opened.append(Session(options, around))
        _progress(around, "polling the API …")
        reports, gaps = run_many.polled(folders or resources.folders(), opened[0])
        _progress(around, "")
        from lm_openai.output import tables

        moment = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(opened[0].now))
        title = f"Organization {opened[0].properties.organization} on {moment}"
        text = tables.write(title, reports, gaps, following, screen(around, everything))
        claim(around)
        put(text, around.stdout)
        return FAILED if gaps or any(report.failures for report in reports) else DONE

    return guarded("", options, around, work)


def demo(folders: Sequence[str], around: Surroundings, everything: bool = False) -> int:
    """Show the built-in demo organization, polled through its own API."""
    from lm_openai.simulator import ADMIN_KEY, Simulator

    with Simulator() as simulator, TemporaryDirectory() as cache:
        environ = {
            "OPENAI_ADMIN_KEY": ADMIN_KEY,
            "OPENAI_BASE_URL": simulator.url,
            "LM_OPENAI_CACHE_DIR": cache,
            "LM_OPENAI_ETC": cache,
            "LM_OPENAI_ORG_NAME": "demo",
        }
        kept = ("COLUMNS", "NO_COLOR", "TERM")
        environ |= {name: around.environ[name] for name in kept if name in around.environ}
        around = around._replace(environ=environ)
        put("A made-up organization, polled through its API just now.\n", around.stdout)
        return run(folders, Options(), around, everything, AFTER_DEMO)


def screen(around: Surroundings, everything: bool) -> Screen:
    """Return the size and the colors of stdout; NO_COLOR and TERM=dumb switch colors off."""
    from lm_openai.output.tables import Screen

    terminal, environ = around.stdout.isatty(), around.environ
    columns = environ.get("COLUMNS", "")
    if re.fullmatch("[1-9][0-9]{0,3}", columns):
        width = int(columns)
    else:
        width = shutil.get_terminal_size().columns if terminal else WIDTH
    color = terminal and not environ.get("NO_COLOR") and environ.get("TERM") != "dumb"
    return Screen(width, color, everything)


def _progress(around: Surroundings, text: str) -> None:
    """Show a text on the last line of a terminal, in place of the one before."""
    if around.stderr.isatty() and around.environ.get("TERM") != "dumb":
        put(f"\r\033[K{text}", around.stderr)
