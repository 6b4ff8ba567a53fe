"""Run the command line by ``python -m napari_noise2score``."""

from .cli.main import main

if __name__ == "__main__":
    main()
