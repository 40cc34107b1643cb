"""The version of the distribution, which the build and `nanobot.__version__` read from here, and its sign."""

__all__ = ["__logo__", "__version__"]

__logo__ = "🐈"

__version__ = "0.1.0"
