#!python
from lm_openai.start import main

main("rate_limits_by_model")
