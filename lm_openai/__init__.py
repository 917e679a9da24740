"""Monitoring plugins for an OpenAI organization: the version and the search path of the package.

A checkout and a deb keep modules/ and schemas/ beside this package, a wheel and a zip inside it.
The parent folder is on `__path__`, so `lm_openai.modules` and `lm_openai.schemas` work in all of
them.
"""

import os

__version__ = "0.1.0"

__path__.append(os.path.dirname(__path__[0]))
