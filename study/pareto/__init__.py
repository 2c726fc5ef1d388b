"""The mathematics of losses: dominance, fronts and hypervolume.

points      which networks a front admits, and the one place where metrics become losses
dominance   nondominated points, ranks of fronts, hypervolume, a front to which points are added
knee        the point of a front that costs the most to leave
repeats     how far trainings of one sample lie apart, and how certain that makes the front
certainty   how certain accuracies counted on a split are, and a front of such accuracies
difference  difference of two fronts in hypervolume, with its confidence interval
"""
