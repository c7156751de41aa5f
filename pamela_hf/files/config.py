"""Configuration: YAML files, with `key=value` texts of the command line on top."""

import re

import yaml


class NumberLoader(yaml.SafeLoader):
    """YAML in which 1e-3 is a number, as in Python and in YAML 1.2; in YAML 1.1 it is text."""


NumberLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)
