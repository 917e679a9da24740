#!/usr/bin/env python3
"""Images and the requests for them, by model."""

from __future__ import annotations

if __name__ == "__main__":
    import sys
    from os.path import realpath

    sys.path[0] = realpath(__file__ + "/../../..")
    from lm_openai.start import main

    main("images_by_model")

from lm_openai.metrics import usage

KIND = "images"
discover, collect, series, dormant = usage.functions(KIND)
