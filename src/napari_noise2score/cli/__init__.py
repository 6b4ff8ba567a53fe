"""The command line, ``noise2score``."""
