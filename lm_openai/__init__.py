"""Monitoring plugins for an OpenAI organization; this file knows the version and where modules are.

A checkout and a deb keep modules/ and schemas/ beside this package, a wheel and a zip inside it;
with the parent folder on its path `lm_openai.modules` and `lm_openai.schemas` name them everywhere.
"""

import os

__version__ = "0.1.0"

__path__.append(os.path.dirname(__path__[0]))
