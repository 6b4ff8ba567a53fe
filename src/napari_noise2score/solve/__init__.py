"""The equation s = f(x, y) solved for x, by a look-up table or in closed form."""
