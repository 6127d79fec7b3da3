"""`python -m penstock.cli` is `penstock`; the supervisor starts its children this way."""

from penstock.cli.app import main

if __name__ == "__main__":
    main()
