#!python
from lm_openai.start import main

main("collection_health")
