"""The mathematics of losses: what dominates what, and how much a front covers.

points      what a front admits, and how metrics become losses: objectives turn into losses
            here, once, and everything behind takes losses
dominance   nondominated points, ranks of fronts, hypervolume
knee        the point of a front that costs the most to leave
growing     a front to which points are added
repeats     how far trainings of one sample lie apart, and what follows for the front
certainty   how sure accuracies are that were counted on a split, and what follows for the front
difference  how far two fronts lie apart in hypervolume, and how sure that is
"""
