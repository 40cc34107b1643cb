"""The version of the distribution; the build and `nanobot.__version__` read it from here."""

__all__ = ["__version__"]

__version__ = "0.1.0"
