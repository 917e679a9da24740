#!/usr/bin/env python3
"""How much each project keeps in vector stores."""

from __future__ import annotations

if __name__ == "__main__":
    import os
    import sys

    checkout = os.path.realpath(__file__).rsplit(os.sep, 3)[0]
    if os.path.isdir(os.path.join(checkout, "lm_openai")):
        sys.path[0] = checkout
    from lm_openai.start import main

    main("vector_stores_by_project")

from lm_openai import usage

discover, collect, expects = usage.of("vector_stores")
