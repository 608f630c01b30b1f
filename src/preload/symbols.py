#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes from symbols.table what the preload library is built with, and its page in docs/.

usage: symbols.py KIND TABLE...     KIND: header, functions, exports, aliases, page, classes

symbols.table says how a table is written.
"""

import re
import sys
from collections import Counter
from dataclasses import dataclass, field
from typing import Dict, List

LICENCE = "SPDX-License-Identifier: Apache-2.0"
CLASSES = {
    "ours": "the library has a function of that name",
    "refused": "the library has a function of that name, which fails for one of ours",
    "libc": "libc's own function is right",
    "unconcerned": "takes and gives none of these",
}


class Bad(Exception):
    pass


@dataclass
class Entry:
    kind: str
    names: List[str]
    text: str = ""  # behind the colon
    section: str = ""
    libc: bool = True  # no: another library's
    function: str = ""  # ls_… of those that are exported
    result: str = ""  # of a body that is made here: type, parameters, expression
    parameters: str = ""
    expression: str = ""
    answer: str = ""  # where the expression holds, for functions that are libc's otherwise
    error: str = ""  # of those that are refused

    @property
    def exported(self) -> bool:
        return self.kind in ("ours", "refused")


@dataclass
class Table:
    entries: List[Entry] = field(default_factory=list)
    sections: Dict[str, str] = field(default_factory=dict)

    @property
    def exported(self) -> List[Entry]:
        return [entry for entry in self.entries if entry.exported]


SIGNATURE = re.compile(r"(?P<result>[\w:* ]*?)(?P<function>\w+)\((?P<parameters>.*?)\)")
REGULAR = re.compile(SIGNATURE.pattern + r" = (?P<expression>.+)")
ANSWERED = re.compile(SIGNATURE.pattern + r" where (?P<expression>.+?) gives (?P<answer>.+)")
REFUSED = re.compile(SIGNATURE.pattern + r" where (?P<expression>.+?) is (?P<error>E\w+): (?P<why>.+)")


def parse_entry(kind: str, rest: str, section: str) -> Entry:
    names, _, text = rest.partition(":")
    entry = Entry(kind, names.split(), text.strip(), section)
    if not entry.names:
        raise Bad("no name")
    if kind == "ours":
        regular = REGULAR.fullmatch(entry.text) or ANSWERED.fullmatch(entry.text)
        entry.function = entry.text or entry.names[0]
        if regular:
            entry.function = regular["function"]
            entry.result = regular["result"].strip()
            entry.parameters, entry.expression = regular["parameters"], regular["expression"]
            entry.answer = regular.groupdict().get("answer", "")
    elif kind == "refused":
        refused = REFUSED.fullmatch(entry.text)
        if not refused:
            raise Bad("not of the form: TYPE NAME(PARAMETERS) where CONDITION is ERROR: REASON")
        entry.function = refused["function"]
        entry.result = refused["result"].strip()
        entry.parameters, entry.expression = refused["parameters"], refused["expression"]
        entry.error, entry.text = refused["error"], refused["why"]
        entry.answer = f"refuse<{entry.result}>({entry.error})"
    elif kind == "libc" and not entry.text:
        raise Bad("no reason")
    if entry.exported and not re.fullmatch(r"[a-zA-Z]\w*", entry.function):
        raise Bad(f"'{entry.function}' is no name of a function")
    return entry


def read(paths: List[str]) -> Table:
    table = Table()
    seen: Dict[str, str] = {}
    for path in paths:
        section = ""
        with open(path, encoding="utf-8") as file:
            text = re.sub(r"\n[ \t]+(?=\S)", " ", file.read())  # lines that go on
        for line in text.split("\n"):
            if not line or line.startswith("#"):
                continue
            kind, _, rest = line.partition(" ")
            try:
                if kind == "section":
                    section, _, about = rest.partition(":")
                    table.sections[section] = about.strip()
                    continue
                if kind not in CLASSES:
                    raise Bad(f"there is no class '{kind}'")
                entry = parse_entry(kind, rest, section)
                entry.libc = not path.endswith("other.table")
                for name in entry.names:
                    if name in seen:
                        raise Bad(f"'{name}' stands in the table already")
                    seen[name] = kind
                table.entries.append(entry)
            except Bad as error:
                sys.exit(f"{path}: {error}: {line}")
    return table


def header(table: Table) -> str:
    entries = table.exported
    lines = "\n".join(f"  {entry.function}," for entry in entries)
    names = "\n".join(f'    "{entry.names[0]}",' for entry in entries)
    return f"""// {LICENCE}
//
// Made from symbols.table: the functions that the preload library exports, each once.
#ifndef LIBSERVICES_SRC_PRELOAD_SYMBOLS_H_
#define LIBSERVICES_SRC_PRELOAD_SYMBOLS_H_

#include <cstdint>

namespace libservices::preload {{

enum class Symbol : std::uint16_t {{
{lines}
}};

inline constexpr unsigned kSymbols = {len(entries)};

// The names by which programs call them most.
inline constexpr const char* kSymbolNames[kSymbols] = {{
{names}
}};

}}  // namespace libservices::preload

#endif  // LIBSERVICES_SRC_PRELOAD_SYMBOLS_H_
"""


def arguments_of(parameters: str) -> str:
    return ", ".join(re.sub(r"\[\w*\]", "", one).split()[-1].lstrip("*&")
                     for one in parameters.split(",") if one.strip())


def types_of(parameters: str) -> str:
    return ", ".join(re.sub(r"\s*\w+(\[\w*\])?$", lambda end: "*" if end[1] else "", one.strip())
                     for one in parameters.split(",") if one.strip())


def functions(table: Table) -> str:
    bodies = []
    for entry in table.exported:
        if not entry.expression:
            continue
        start = f"""LIBSERVICES_EXPORT {entry.result} ls_{entry.function}({entry.parameters}) {{
  const Call call(Symbol::{entry.function});
"""
        if not entry.answer:
            conversion = "int_result" if entry.result == "int" else "result"
            bodies.append(f"{start}  return {conversion}(calls::{entry.expression});\n}}")
        else:
            kind = f"{entry.result} (*)({types_of(entry.parameters)})"
            bodies.append(f"""{start}  if ({entry.expression}) return {entry.answer};
  return LIBSERVICES_REAL_AS({kind}, "{entry.names[0]}")({arguments_of(entry.parameters)});
}}""")
    return f"""// {LICENCE}
//
// Made from symbols.table: the functions whose body is one call.
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

#include "src/preload/wrapper.h"

namespace libservices::preload {{

using calls::is_ours;

""" + "\n\n".join(bodies) + "\n\n}  // namespace libservices::preload\n"


def exports(table: Table) -> str:
    names = sorted(name for entry in table.exported for name in entry.names)
    lines = "".join(f"    {name};\n" for name in names)
    return f"# {LICENCE}\n{{\n  global:\n{lines}  local:\n    *;\n}};\n"


def aliases(table: Table) -> str:
    return f"/* {LICENCE} */\n" + "".join(f"{name} = ls_{entry.function};\n"
                                            for entry in table.exported for name in entry.names)


def classes(table: Table) -> str:
    return "".join(f"{name} {entry.kind}\n" for entry in table.entries for name in entry.names)


def page(table: Table) -> str:
    counts = Counter(entry.kind for entry in table.entries if entry.libc for _ in entry.names)
    lines = [
        "# The C library's functions, and who serves them",
        "",
        "Every name that glibc 2.36 exports to programs stands in one table, `src/preload/symbols.table`; what the preload library exports is made from it, and so is",
        "this page (`tools/libc-table`). `tests/preload/symbols_test` reads the export table of the libc that is there and fails for a name that is not in it.",
        "",
        "| class | names | meaning |",
        "|---|---|---|",
    ]
    for kind, meaning in CLASSES.items():
        lines.append(f"| {kind} | {counts[kind]} | {meaning} |")
    for section, about in table.sections.items():
        entries = [entry for entry in table.entries if entry.section == section]
        lines += ["", f"## {section}", ""] + ([about, ""] if about else [])
        ours = [name for entry in entries if entry.kind == "ours" for name in entry.names]
        if ours:
            lines += ["Ours: " + ", ".join(f"`{name}`" for name in ours) + "."]
        others = [entry for entry in entries if entry.kind in ("refused", "libc")]
        if others:
            lines += ["", "| name | who | why |", "|---|---|---|"]
        for entry in others:
            names = ", ".join(f"`{name}`" for name in entry.names)
            who = f"refused: {entry.error}" if entry.kind == "refused" else "libc"
            lines.append(f"| {names} | {who} | {entry.text} |")
    return "\n".join(lines) + "\n"


KINDS = {
    "header": header,
    "functions": functions,
    "exports": exports,
    "aliases": aliases,
    "page": page,
    "classes": classes,
}


def main() -> None:
    if len(sys.argv) < 3 or sys.argv[1] not in KINDS:
        sys.exit(__doc__)
    sys.stdout.write(KINDS[sys.argv[1]](read(sys.argv[2:])))


if __name__ == "__main__":
    main()
