"""What came out of a study, from its records.

One report, many views. `report` reads a study once; what follows from it is computed once, by

    front        every point with its mark, and the front among them
    answers      how certain the front is, by what its networks classify right
    recommended  which networks to take, and why
    spent        what the study cost, and how its front grew with that
    paper        the figures of Table 1 of the paper
    where        conditions on networks

Its views:

    tables       the report as a table; writing of tables, sections, JSON and CSV
    sections     what its page shows
    page         the page, and figures for a notebook; page_files/ has its parts
    published    tags in MLflow, a study of Optuna

A `comparison` of the reports of several studies has

    differences       how far they lie apart, and how certain that is
    comparison_views  its sections, printed and in a page

`listing` has all studies in MLflow, one line each.
"""
