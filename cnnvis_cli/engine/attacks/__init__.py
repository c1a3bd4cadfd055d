"""Adversarial pictures: changes too small to see that a network answers differently for.

problem.py   what is to be fooled: the pictures, the goal, the budget; counts what the network is asked
ball.py      gradient attacks within a budget: plain ascent, FGSM, I-FGSM, MI-FGSM, PGD
nearest.py   the smallest change that fools: DeepFool, Carlini and Wagner, L-BFGS
square.py    black box: Square
universal.py one change for a whole set of pictures
eightbit.py  what is left of it in a saved file, and its repair
report.py    how large the change is, what to warn of, accuracy by budget
"""
