"""`python -m robustgeom`."""

from robustgeom.cli.main import main

if __name__ == "__main__":
    main()
