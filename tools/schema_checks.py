#!/usr/bin/env python3
"""Checks the schema of `epp config schema` with a real validator; `make test-extra` runs it.

It must be JSON Schema of draft 7, take what this repository ships and what `epp config show` prints, and refuse what is
broken. `jsonschema` and a YAML reader are installed from PyPI; where that cannot be, all is skipped, and said so.
"""

import glob
import json
import os
import subprocess
import sys

import go_tools
import python_tools
from checks import Failed, Skipped, expect, run

VALIDATOR = "jsonschema==4.23.0"
YAML = "PyYAML==6.0.2"
FIXTURES = os.path.join(go_tools.ROOT, "tests", "it", "fixtures", "config")
# Wrong in ways that a schema can see.
BROKEN = [
    "unknown-api-version", "misspelled-kind", "key-in-wrong-case", "plugin-without-type", "plugin-as-a-word",
    "misspelled-type", "config-for-parameters", "unknown-parameter", "numbers-in-quotes", "numbers-out-of-range",
    "reference-by-name", "unknown-feature-gate", "tree-that-is-none", "list-for-a-map",
]


def main():
    schema = Schema()
    sys.exit(run("schema", [
        ("a validator is there", schema.find_validator),
        ("it is a schema of draft 7", schema.is_a_schema),
        ("what is shipped fits", schema.shipped_fits),
        ("what is shown fits", schema.shown_fits),
        ("what is broken does not fit", schema.broken_does_not),
    ]))


def epp(*args):
    """What `epp config` prints."""
    command = ["cargo", "run", "--quiet", "--", "config"] + list(args)
    child = subprocess.run(command, cwd=go_tools.ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    if child.returncode != 0:
        raise Failed("%s ended with %d: %s" % (args, child.returncode, child.stderr.decode(errors="replace").strip()))
    return child.stdout.decode()


class Schema:
    def __init__(self):
        self.validator = None

    def find_validator(self):
        for package in (VALIDATOR, YAML):
            sys.path.append(python_tools.install(package))
        import jsonschema
        self.schema = json.loads(epp("schema"))
        self.validator = jsonschema.Draft7Validator(self.schema)
        return VALIDATOR

    def is_a_schema(self):
        self.needs_validator()
        self.validator.check_schema(self.schema)
        return "%d definitions" % len(self.schema["definitions"])

    def shipped_fits(self):
        return self.fit(self.load(path) for path in glob.glob(os.path.join(go_tools.ROOT, "config", "*.yaml")))

    def shown_fits(self):
        self.needs_validator()
        import yaml
        names = ["default-plugins.yaml", "legacy-plugins.yaml"]
        return self.fit(yaml.safe_load(epp("show", os.path.join("config", name))) for name in names)

    def broken_does_not(self):
        self.needs_validator()
        paths = sorted(glob.glob(os.path.join(FIXTURES, "broken", "*.yaml")))
        chosen = [path for path in paths if os.path.basename(path)[3:-5] in BROKEN]
        expect("broken files", len(chosen), len(BROKEN))
        for path in chosen:
            if self.validator.is_valid(self.load(path)):
                raise Failed("%s fits" % os.path.basename(path))
        return "%d files" % len(chosen)

    def fit(self, configurations):
        self.needs_validator()
        count = 0
        for configuration in configurations:
            for error in self.validator.iter_errors(configuration):
                raise Failed("%s: %s" % (list(error.path), error.message))
            count += 1
        expect("some configurations", count > 0, True)
        return "%d configurations" % count

    def load(self, path):
        self.needs_validator()
        import yaml
        with open(path) as file:
            return yaml.safe_load(file)

    def needs_validator(self):
        if self.validator is None:
            raise Skipped("there is no validator")


if __name__ == "__main__":
    main()
