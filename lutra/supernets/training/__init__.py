"""Training supernets: which networks a step trains, on what, and how training goes on after a kill.

Every random number is a function of seed, epoch and step (`chance`), so that a position is all
that a resumed training needs to know.
"""
