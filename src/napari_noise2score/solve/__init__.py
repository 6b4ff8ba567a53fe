"""Solve the equation s = f(x, y) for x, by a look-up table or in closed form."""
