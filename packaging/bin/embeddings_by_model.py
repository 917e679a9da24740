#!python
from lm_openai.start import main

main("embeddings_by_model")
