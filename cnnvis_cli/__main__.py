"""`python -m cnnvis_cli` is `cnnvis`."""

from cnnvis_cli.cli.app import main

if __name__ == "__main__":
    main()
