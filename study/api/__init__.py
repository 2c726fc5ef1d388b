"""The Python API, which `import study` offers and the commands use.

study      `study.run`, `study.open`, and the study that they give
several    several studies: a list of all, and `study.compare`
network    a network of any study, checked again
deletion   a study is deleted
asked      arguments in the place of a study file's settings
launched   a study is run, or goes on
"""
