#!python
from lm_openai.start import main

main("model_mix_by_project")
