"""Adversarial pictures: changes too small to see that a network answers differently for.

budget.py    how far a picture may be changed, and what is left of that in 8 bits
problem.py   what is to be fooled: the pictures, the goal, the budget; counts what the network is asked
ball.py      gradient attacks within a budget: plain ascent, FGSM, I-FGSM, MI-FGSM, PGD
nearest.py   the smallest change that fools: DeepFool, Carlini and Wagner, L-BFGS
square.py    black box: Square
universal.py one change for a whole set of pictures
eightbit.py  repairing what rounding undid
report.py    how large the change is, what to warn of, accuracy by budget
"""
