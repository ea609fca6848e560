"""Reads boards as Grafana's own classes do, writes them again, and fails where something is lost or changed.

A key that these classes do not know is one that Grafana does not know either: it was misspelt, or stands in the wrong
place. What they know nothing about at all are the queries of InfluxDB, which the tests with real servers run.
"""

import copy
import json
import re
import sys

from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

PLANTED = "planted"


def round_trip(board):
    """The board as it comes back."""
    return json.loads(JSONEncoder().encode(Dashboard.from_json(board)))


def differences(before, after, path=""):
    """Where something of `before` is missing or another thing; keys that were added are defaults, and do no harm."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key, value in before.items():
            place = f"{path}.{key}" if path else key
            if key in after:
                yield from differences(value, after[key], place)
            else:
                yield f"{place} is lost"
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for at, (one, other) in enumerate(zip(before, after)):
            yield from differences(one, other, f"{path}[{at}]")
    elif before != after or isinstance(before, bool) != isinstance(after, bool):
        yield f"{path} is {json.dumps(after)} instead of {json.dumps(before)}"


def objects(value, path=""):
    """All objects within an object, with their paths."""
    if isinstance(value, dict):
        yield path, value
        for key, inner in value.items():
            yield from objects(inner, f"{path}.{key}" if path else key)
    elif isinstance(value, list):
        for at, inner in enumerate(value):
            yield from objects(inner, f"{path}[{at}]")


def is_opaque(path, value):
    """Whether anything may stand in there."""
    is_influx = (value.get("datasource") or {}).get("type") == "influxdb"
    return is_influx and "targets[" in path


def unnoticed(board):
    """Places of a kind that the classes should know in which an unknown key is not found out."""
    kinds = {
        "the board": lambda path, _: path == "",
        "a panel": lambda _, value: "gridPos" in value and value.get("type") != "row",
        "a field's configuration": lambda path, _: path.endswith("fieldConfig.defaults"),
        "what panels add to that": lambda path, _: path.endswith("fieldConfig.defaults.custom"),
        "an override": lambda _, value: "matcher" in value,
        "the options of a panel": lambda path, _: re.fullmatch(r"panels\[\d+\]\.options", path),
        "a variable": lambda path, _: path.startswith("templating.list[") and path.endswith("]"),
        "a query": lambda path, value: "].targets[" in path and path.endswith("]") and "refId" in value,
    }
    for kind, is_meant in kinds.items():
        found = [path for path, value in objects(board) if is_meant(path, value) and not is_opaque(path, value)]
        for path in found[:1]:
            planted = copy.deepcopy(board)
            dict(objects(planted))[path][PLANTED] = True
            if not any(PLANTED in difference for difference in differences(planted, round_trip(planted))):
                yield f"an unknown key in {kind} ({path or 'at the top'}) is not found out"


def main(files):
    register_default_plugins()
    failures = []
    for file in files:
        with open(file, encoding="utf-8") as text:
            board = json.load(text)
        found = [*differences(board, round_trip(board)), *unnoticed(board)]
        failures += [f"{file}: {what}" for what in found]
        print(f"test {file.rsplit('/', 1)[-1]} ... {'FAILED' if found else 'ok'}")
    for failure in failures:
        print(failure)
    return 1 if failures or not files else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
