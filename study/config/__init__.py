"""The settings of a study, frozen and checked, and the file that they are read from.

data      the settings of data
trial     the settings of one training
space     the parameters that a study varies
search    sampler, scheduler, and the resources of a trial
study     all of them together, and the rules between them
parser    a mapping of keys -> StudyConfig
file      reads a YAML file into that mapping, and writes a study as one
imports   the user's own code, which settings name by import path
"""
