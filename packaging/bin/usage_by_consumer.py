#!python
from lm_openai.start import main

main("usage_by_consumer")
