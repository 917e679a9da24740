#!/usr/bin/env python3
"""Tokens and requests of completions, by model."""

from __future__ import annotations

if __name__ == "__main__":
    import sys
    from os.path import realpath

    sys.path[0] = realpath(__file__ + "/../../..")
    from lm_openai.start import main

    main("completion_by_model")

from lm_openai.metrics import usage

KIND = "completions"
discover, collect, series, dormant = usage.functions(KIND)
