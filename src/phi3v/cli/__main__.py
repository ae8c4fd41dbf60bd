"""`python -m phi3v.cli` is `phi3v`."""

from phi3v.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
