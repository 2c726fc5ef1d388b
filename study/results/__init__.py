"""What came out of a study, from its records.

One report, many views. `report` reads a study once; what follows from it is computed once, by

    front         every point with its mark, and the front among them
    answers       how certain the front is, by what its networks classify right
    recommended   which networks to take, and why
    spent         what the study cost, and how its front grew with that
    paper         the figures of Table 1 of the paper
    correlations  which way the objectives go with each hyperparameter
    where         conditions on networks

What is shown is a list of sections, each of which computes itself and says when it applies:

    views            sections, their printing, and writing of JSON and CSV
    report_view      the sections of a report
    report_table     the one that is printed
    page             sections as a page; page_files/ has its parts
    figure           a report as a figure in a notebook
    published        a report in MLflow's tags, and as a study of Optuna
    serving          the page of a study on a server of its own

A `comparison` of the reports of several studies has

    differences      how far they lie apart, and how certain that is
    comparison_view  its sections

`listing` has all studies in MLflow, one line each.
"""
