"""Name the C extension; everything else about the package is in pyproject.toml."""

from setuptools import setup

setup(cffi_modules=["arsync/uring/_build.py:native_module"])
