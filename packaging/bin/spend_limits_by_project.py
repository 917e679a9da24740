#!python
from lm_openai.start import main

main("spend_limits_by_project")
