"""`python -m XME`: what lies in shared memory, sweeping what dead programs left there, and testing locks."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

from XME._core import layout, names, registry, sweep
from XME._core.domain import Domain, inspect
from XME._core.ledger import Entry
from XME.errors import BadSegment, DomainEnded
from XME.testing import _cli

_KINDS = {layout.PROGRAM: "program", layout.NAMED: "named"}
_UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB")


def _size_of(path: str) -> int | None:
    try:
        return os.stat(path).st_size
    except FileNotFoundError:
        return None


def _participants(domain: Domain) -> list[dict[str, Any]]:
    found = []
    for number in range(domain.capacity):
        if domain.incarnation_of(number) or domain.is_alive(number):
            pid, name = domain.identity(number).pid, domain.name_of_participant(number)
            found.append({"number": number, "pid": pid, "name": name, "alive": domain.is_alive(number)})
    return found


def _objects(domain: Domain) -> Iterator[dict[str, Any]]:
    for number in range(domain.capacity):
        for entry in domain.entries(number):
            yield from _files_of(domain, entry, number)


def _files_of(domain: Domain, entry: Entry, number: int) -> Iterator[dict[str, Any]]:
    name = names.name_of(domain.id, entry.serial)
    for what, path in (("segment", names.path_of(name)), ("semaphore", names.semaphore_path(name))):
        size = _size_of(path)
        # An entry is written before its name is made, and outlives it by a moment.
        if size is not None:
            yield {"what": what, "name": name, "kind": entry.kind.name.lower(), "bytes": size, "made_by": number}


def _state_of(domain: Domain, participants: list[dict[str, Any]]) -> str:
    if not any(one["alive"] for one in participants):
        return "dead"
    return "ended" if domain.ended else "alive"


def _report_on(domain: Domain) -> dict[str, Any]:
    participants = _participants(domain)
    opener = domain.words[layout.W_OPENER] - 1
    return {
        "id": domain.id,
        "kind": _KINDS.get(domain.kind, f"unknown ({domain.kind})"),
        "state": _state_of(domain, participants),
        "label": domain.label,
        "opener_pid": domain.identity(opener).pid if opener >= 0 else None,
        "age_s": max(0.0, (time.time_ns() - domain.words[layout.W_MADE]) / 1e9),
        "participants": participants,
        "objects": list(_objects(domain)),
    }


def _unreadable(domain_id: str, reason: str) -> dict[str, Any]:
    return {"id": domain_id, "kind": "unknown", "state": "unreadable", "label": reason, "opener_pid": None,
            "age_s": None, "participants": [], "objects": []}


def domain_reports() -> list[dict[str, Any]]:
    """Return what there is to say about every domain of this user, the oldest first."""
    found = []
    for domain_id in sweep.domain_ids():
        try:
            domain = inspect(domain_id)
        except DomainEnded:
            continue
        except (BadSegment, PermissionError) as error:
            found.append(_unreadable(domain_id, getattr(error, "reason", str(error))))
            continue
        try:
            found.append(_report_on(domain))
        finally:
            domain.close_view()
    return sorted(found, key=lambda report: -(report["age_s"] or 0.0))


def name_reports() -> list[dict[str, Any]]:
    """Return every public name of this user that can be read, in the order of the alphabet."""
    return [
        {"name": entry.name, "kind": entry.kind, "domain": entry.domain, "alive": registry.is_alive(entry)}
        for entry in sorted(registry.entries(), key=lambda entry: entry.name)
    ]


# -- as text -----------------------------------------------------------------------------------------------------------


def _bytes(count: float) -> str:
    for unit in _UNITS:
        if count < 1024 or unit == _UNITS[-1]:
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1024
    raise AssertionError


def _age(seconds: float) -> str:
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.1f} s"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))] if rows else []
    for row in rows:
        yield "    " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def _domain_lines(report: dict[str, Any]) -> Iterator[str]:
    if report["state"] == "unreadable":
        yield f"domain {report['id']}  unreadable: {report['label']}"
        return
    total = _bytes(sum(one["bytes"] for one in report["objects"]))
    yield (
        f"domain {report['id']}  {report['kind']}  {report['state']}  {report['label']!r}  opened by pid "
        f"{report['opener_pid']} {_age(report['age_s'])} ago, {_count(len(report['objects']), 'name')}, {total}"
    )
    yield from _table([
        (f"participant {one['number']}", f"pid {one['pid']}", one["name"], "alive" if one["alive"] else "dead")
        for one in report["participants"]
    ])
    yield from _table([
        (one["what"], one["name"], one["kind"], _bytes(one["bytes"]), f"by participant {one['made_by']}")
        for one in report["objects"]
    ])


def _name_lines(reports: list[dict[str, Any]]) -> Iterator[str]:
    if reports:
        yield "public names"
    yield from _table([
        (repr(one["name"]), one["kind"], f"domain {one['domain']}", "alive" if one["alive"] else "dead")
        for one in reports
    ])


def _list(options: argparse.Namespace) -> int:
    domains, public = domain_reports(), name_reports()
    if options.json:
        print(json.dumps({"domains": domains, "names": public}, indent=2))
        return 0
    lines = [line for report in domains for line in _domain_lines(report)]
    lines += _name_lines(public)
    print("\n".join(lines) if lines else f"nothing of XME's is in {names.FOLDER}")
    return 0


def _clean(options: argparse.Namespace) -> int:
    if options.dry_run:
        dead = [report for report in domain_reports() if report["state"] == "dead"]
        swept = [report["id"] for report in dead]
        gone = registry.leftovers()
    else:
        before = {report["id"]: report for report in domain_reports()}
        swept = sweep.sweep_dead_domains()
        dead = [before[domain_id] for domain_id in swept if domain_id in before]
        gone = registry.prune()
    verb = "would remove" if options.dry_run else "removed"
    for report in dead:
        objects = report["objects"]
        size = f"{_count(len(objects), 'name')}, {_bytes(sum(one['bytes'] for one in objects))}"
        print(f"{verb} dead domain {report['id']} {report['label']!r}: {size}")
    for leftover in gone:
        print(f"{verb} the public name {leftover.name or os.path.basename(leftover.path)!r}: {leftover.reason}")
    print(f"{verb} {_count(len(swept), 'dead domain')} and {_count(len(gone), 'public name')}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m XME", description="Look at XME's shared memory, and clean it up.")
    parser.add_argument("--version", action="store_true", help="show the version and leave")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    listing = commands.add_parser("ls", help="list domains, who takes part in them, their memory, and public names")
    listing.add_argument("--json", action="store_true", help="as JSON")
    listing.set_defaults(run=_list)
    cleaning = commands.add_parser("clean", help="remove what dead programs left; what is alive is not touched")
    cleaning.add_argument("--dry-run", action="store_true", help="only say what would be removed")
    cleaning.set_defaults(run=_clean)
    _cli.add_parser(commands)
    return parser


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("xme-shm")
    except PackageNotFoundError:
        return "(not installed)"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code: 0, 1 if a lock did not pass, or 2 for a command that does not exist."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.version:
        print(f"XME {_version()}")
    elif "run" in options:
        code: int = options.run(options)
        return code
    else:
        parser.print_help()
    return 0


def _command() -> int:
    try:
        code = main()
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader has seen enough (`| head`); the interpreter flushes once more at its end, which must go somewhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return code


if __name__ == "__main__":
    sys.exit(_command())
