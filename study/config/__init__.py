"""The settings of a study, frozen and checked, and the file that they are read from.

trial     the settings of one training; imports nothing but the standard library
space     the parameters that a study varies
search    sampler, scheduler, and the resources of a trial
study     all of them together, and the rules between them
parser    a mapping of keys -> StudyConfig
file      a YAML file -> that mapping
imports   code of the user's own that settings name, by import path
"""
