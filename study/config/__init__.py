"""What is asked of a study: its settings, frozen and checked, and the file that they are read from.

trial     the settings of one training; imports nothing but the standard library
space     the parameters that a study varies
search    who proposes samples, who stops trials, what a trial is given
study     all of them together, and the rules between them
parser    a mapping of keys -> StudyConfig
file      a YAML file -> that mapping
"""
