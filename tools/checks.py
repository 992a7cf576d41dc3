"""How the scripts of `make test-extra` tell what they found: a line for each check, and the sum as `.ci/run` reads it."""

import sys


class Failed(Exception):
    """What is wrong, in a sentence."""


class Skipped(Exception):
    """Why there is nothing to be said."""


def expect(what, found, wanted):
    if found != wanted:
        raise Failed("%s: %r, expected %r" % (what, found, wanted))


def run(subject, checks):
    """Runs (name, function) one after the other; a function returns what it found. Returns the exit status."""
    results = {"passed": 0, "failed": 0, "skipped": 0}
    for name, check in checks:
        try:
            told, result = check(), "passed"
        except Failed as failure:
            told, result = failure, "failed"
        except Skipped as reason:
            told, result = reason, "skipped"
        except (LookupError, TypeError) as error:
            told, result = "something is not there, or is another thing: %r" % error, "failed"
        results[result] += 1
        what = "ok (%s)" % told if result == "passed" else "%s: %s" % (result.upper(), told)
        print("%s: %-32s %s" % (subject, name, what))
        sys.stdout.flush()
    state = "FAILED" if results["failed"] else "ok"
    print("test result: %s. %d passed; %d failed; %d ignored; %s" % ((state,) + tuple(results.values()) + (subject,)))
    return 1 if results["failed"] else 0
