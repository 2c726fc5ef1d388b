"""The Python API, which `import study` offers and the commands use.

study      `study.run`, `study.open` and the study that they return
several    the list of all studies, and `study.compare`
network    verification of a network of any study
deletion   deletion of a study
asked      arguments that replace settings of a study file
launched   running and resuming a study
"""
