#!python
from lm_openai.start import main

main("reconciliation_by_model")
