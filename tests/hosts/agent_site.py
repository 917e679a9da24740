"""Site of a monitoring system that runs the plugins: properties, cache, and polls of its own."""

from __future__ import annotations

import io
import json
import os
import shutil
import sys
import time
from pathlib import Path
from typing import Any

from lm_openai.app import runner, site_config
from lm_openai.app.options import Options
from lm_openai.app.session import Surroundings
from lm_openai.hosts.jobs import jobs
from lm_openai.hosts.registry import HOSTS
from lm_openai.simulator import ADMIN_KEY, Simulator
from lm_openai.storage.ready import SUFFIX
from tests.support.paths import MODULES

ORGANIZATION = "acme"


class AgentSite:
    """Folder of a site: its properties, thresholds, cache and plugins.

    `output` is the file that `lm-openai config` writes for the monitoring system `name`.
    """

    def __init__(self, name: str, folder: Path, demo: Simulator, output: Path) -> None:
        self.name, self.folder, self.demo, self.output = name, folder, demo, output
        self.properties, self.cache = folder / "acme.properties", folder / "cache"
        self.plugins = folder / "plugins"
        self.settings = {
            "openai.org.name": ORGANIZATION,
            "openai.admin.key": ADMIN_KEY,
            "openai.api.url": demo.url,
            "openai.cache.ttl": "300s",
        }
        self.set()
        self.plugins.mkdir()
        for script in MODULES.glob("*/*.py"):
            (self.plugins / f"check_openai_{script.stem}").symlink_to(script)

    @property
    def environ(self) -> dict[str, str]:
        """The environment of the plugins."""
        folders = os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]])
        return {
            "PATH": folders,
            "HOME": str(self.folder),
            "LM_OPENAI_ETC": str(self.folder),
            "LM_OPENAI_CACHE_DIR": str(self.cache),
        }

    def set(self, **changes: str) -> None:
        """Write the properties, with changes for this time: `projects_exclude="Alpha"`."""
        own = {f"openai.{name.replace('_', '.')}": value for name, value in changes.items()}
        lines = (f"{name}={value}\n" for name, value in {**self.settings, **own}.items())
        self.properties.write_text("".join(lines))
        self.properties.chmod(0o600)

    def configure(self) -> str:
        """Write `output` as `lm-openai config` does and return its messages."""
        err = io.StringIO()
        around = self._around(io.StringIO(), err)
        options = Options(properties=(str(self.properties),))
        folders = [job.definition.folder for job in jobs()]
        status = site_config.run(HOSTS[self.name], folders, options, str(self.output), around)
        assert status == 0, err.getvalue()
        return err.getvalue()

    def document(self, folder: str) -> dict[str, Any]:
        """Return what a poll with the same cache prints as JSON."""
        out, err = io.StringIO(), io.StringIO()
        options = Options(format="json", properties=(str(self.properties),))
        assert runner.run(folder, options, self._around(out, err)) == 0, err.getvalue()
        found: dict[str, Any] = json.loads(out.getvalue())
        return found

    def forget(self) -> None:
        """Empty the cache, as if all responses in it had expired."""
        shutil.rmtree(self.cache, ignore_errors=True)

    def forget_answers(self) -> None:
        """Delete the ready answers, as if they had expired; what is known of an outage stays."""
        for path in self.cache.glob(f"*{SUFFIX}"):
            path.unlink()

    def _around(self, out: io.StringIO, err: io.StringIO) -> Surroundings:
        return Surroundings(self.environ, io.StringIO(), out, err, int(time.time()))
