"""Muon beside SGD: accuracy of normalized networks after few steps, from study files."""
