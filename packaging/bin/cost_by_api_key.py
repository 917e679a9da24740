#!python
from lm_openai.start import main

main("cost_by_api_key")
