#!python
from lm_openai.start import main

main("api_keys_by_key")
