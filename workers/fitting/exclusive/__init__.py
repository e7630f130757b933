"""Labels that exclude one another, learned together: view, body part, density.

As heads of findings are: chosen, fitted and calibrated without their test patients. What
differs is that an image has one value of several, and the head says a share for each.
"""
