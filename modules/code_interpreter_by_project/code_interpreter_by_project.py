#!/usr/bin/env python3
"""Code interpreter sessions by project."""

from __future__ import annotations

if __name__ == "__main__":
    import sys
    from os.path import realpath

    sys.path[0] = realpath(__file__ + "/../../..")
    from lm_openai.start import main

    main("code_interpreter_by_project")

from lm_openai.metrics import usage

KIND = "code_interpreter_sessions"
discover, collect, series, dormant = usage.functions(KIND)
