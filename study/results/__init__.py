"""What came out of a study, from its records.

`report` reads a study once; what follows from it is computed once, by

    objectives    objectives that a user asks for in place of a study's own
    where         conditions on networks
    front         every point with its mark, and the front among them
    answers       how certain the front is, by what its networks classify right
    recommended   which networks to take, and why
    spent         what the study cost, and how its front grew with that
    paper         the figures of Table 1 of the paper
    correlations  which way the objectives go with each hyperparameter
    radii         certified accuracy of the test images within any radii
    numbers       metrics as text, and which of them to show

A `comparison` of the reports of several studies has

    differences   how far the studies lie apart, and how certain that is

`views` shows both.
"""
