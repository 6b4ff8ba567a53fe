"""The noise model found in images or by a trained score, and how well one fits."""
