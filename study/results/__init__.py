"""What came out of a study, from its records.

One report, many views. `report` reads a study once; what follows from it is computed once, by

    front        every point with its mark, and the front among them
    answers      how sure the front is, by what its networks classify right
    recommended  which networks to take, and why
    spent        what the study cost, and how its front grew with that
    table1       Table 1 of the paper
    where        which of its networks, by conditions

and its views are

    tables       a table; and what writes tables, sections, JSON and CSV
    sections     what its page shows
    page         the page itself, and figures for a notebook; page_files/ has its parts
    published    tags in MLflow, a study of Optuna

Several studies side by side are a `comparison` of their reports:

    differences       how far they lie apart, and how sure that is
    comparison_views  its sections, printed and in a page

    listing      the studies that MLflow has, a line each
"""
