"""`python -m nanobot` is the `nanobot` command."""

from nanobot.cli import main

if __name__ == "__main__":
    main(prog_name="nanobot")
