#!python
from lm_openai.start import main

main("decisions_by_model")
