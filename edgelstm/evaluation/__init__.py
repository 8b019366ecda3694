"""How good alerts and scores are, set against labels: pure functions over arrays, and their floors.

Labels are used here only, after every score and alert is made.
"""
