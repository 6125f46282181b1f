"""A small file never takes much: each input of the table is checked within bounds of time and memory."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from reconciler.config.template import TEMPLATE
from tests.support.projects import Project

MOST_SECONDS = 20.0
"""Of processor time. The slowest input takes about six."""
MOST_SECONDS_OF_FMT = 60.0
"""Of processor time. `fmt` keeps comments, which no fast library does; the slowest input takes about 20."""
MOST_MEMORY = 400 * 1024
"""KiB. The program itself takes 36 MiB."""
MOST_OUTPUT = 64 * 1024
"""Bytes."""


def documents(count: int, text: str) -> str:
    return "".join(
        f"---\ncustomer_user_id: u{n}\n{text.replace('#', str(n))}" for n in range(count)
    )


def template(text: str, count: int = 100_000) -> str:
    return f'for_each: {count}\ncustomer_user_id: "b{{index}}"\n{text}'


def attributes(value: str, count: int = 30) -> str:
    return "custom_attributes:\n" + "".join(f"  k{n}: {value}\n" for n in range(count))


def items(text: str, count: int) -> str:
    return ", ".join(text.replace("#", str(n)) for n in range(count))


ONE = "customer_user_id: u\n"
INPUTS: dict[str, Callable[[], dict[str, str]]] = {
    # templates
    "a template of attributes that are too long": lambda: {
        "a": template(attributes("z" * 45), 5_000)
    },
    "100,000 profiles of attributes that are too long": lambda: {
        "a": template(attributes("z" * 45))
    },
    "100,000 profiles of one suspicious field": lambda: {"a": template("gender: q{index}\n")},
    "100,000 profiles with one device": lambda: {
        "a": template("installation_meta: {device_id: d}\n")
    },
    "100,000 profiles with real addresses": lambda: {"a": template("email: q{index}@gmail.com\n")},
    "100,000 profiles of one name": lambda: {"a": "for_each: 100000\ncustomer_user_id: b\n"},
    "100,000 profiles of a long text": lambda: {"a": template(f"first_name: {'y' * 60_000}\n")},
    "a text that is filled in 5,000 times": lambda: {
        "a": f"for_each: [{'y' * 60_000}]\ncustomer_user_id: b{{index}}\n"
        f'first_name: "{"{item}" * 5_000}"\n'
    },
    "an item behind 15,000 aliases": lambda: {
        "a": f"meta: {{labels: [&a {'y' * 60_000}]}}\nfor_each: [{'*a, ' * 15_000}x]\n"
        "customer_user_id: b{index}\nfirst_name: '{item}'\n"
    },
    "2,000 templates with an unknown placeholder": lambda: {
        "a": "".join(f"---\n{template(f'store: {{nope{n}}}')}\n" for n in range(2_000))
    },
    "4,000 variables that are not defined": lambda: {
        "a": documents(4_000, "first_name: ${var.a#}\n")
    },
    # defaults
    "defaults with 9,000 labels": lambda: {
        "_defaults": f"meta: {{labels: [{items('l#', 9_000)}]}}\n",
        "a": documents(3_000, ""),
    },
    "defaults with a long text": lambda: {
        "_defaults": f"first_name: {'y' * 60_000}\n",
        "a": documents(20_000, ""),
    },
    # many documents
    "20,000 documents that are no mappings": lambda: {"a": "--- x\n" * 20_000},
    "40,000 empty documents": lambda: {"a": "---\n" * 40_000 + ONE},
    "16,000 valid profiles with one device": lambda: {
        "a": documents(16_000, "installation_meta: {device_id: d}\n")
    },
    "16,000 profiles with one id": lambda: {"a": f"---\n{ONE}" * 16_000},
    "5,000 unknown fields": lambda: {"a": documents(5_000, "x: 1\n")},
    "7,000 profiles without an id": lambda: {"a": "---\nfirst_name: x\n" * 7_000},
    "20,000 ambiguous values": lambda: {"a": documents(20_000, "first_name: yes\n")},
    "5,000 real addresses": lambda: {"a": documents(5_000, "email: j#@gmail.com\n")},
    "500 documents of aliases": lambda: {
        "a": f"--- {{a: &a [{'1,' * 100}1], b: [{'*a ,' * 150}1]}}\n" * 500
    },
    # one document
    "9,000 unknown fields of one profile": lambda: {
        "a": ONE + "".join(f"first_nam{n}: 1\n" for n in range(9_000))
    },
    "9,000 attributes that are too long": lambda: {"a": ONE + attributes("z" * 45, 9_000)},
    "9,000 keys of attributes": lambda: {
        "a": f"{ONE}custom_attributes: {{{items('é#: 1', 9_000)}}}\n"
    },
    "6,000 attributes of one key": lambda: {
        "a": f"{ONE}custom_attributes:\n" + "- {key: a, value: 1}\n" * 6_000
    },
    "19,000 fields to forget": lambda: {
        "a": f"{ONE}meta: {{forget: [{items('birthda#', 19_000)}]}}\n"
    },
    "19,000 labels": lambda: {"a": f"{ONE}meta: {{labels: [{items('é', 19_000)}]}}\n"},
    "9,000 equal keys": lambda: {"a": ONE + "a: 1\n" * 9_000},
    "9,000 tags": lambda: {"a": f"{ONE}x: [{'!a b,' * 9_000}]\n"},
    "9,000 aliases without an anchor": lambda: {"a": f"{ONE}x: [{'*a ,' * 9_000}]\n"},
    "15,000 variables of one profile": lambda: {"a": f"{ONE}x: [{items('_${var.a#}', 15_000)}]\n"},
}


LAUNCHER = """
import json, resource, subprocess, sys
command = [sys.executable, "-m", "reconciler", *sys.argv[1:]]
with open("output", "wb") as output:
    code = subprocess.call(command, stdout=output, stderr=output)
usage = resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps([code, usage.ru_utime + usage.ru_stime, usage.ru_maxrss]))
"""
"""A small process that starts the program. Linux counts the peak of the parent for the child as well."""


@pytest.mark.skipif(sys.platform != "linux", reason="the peak of memory has another unit elsewhere")
@pytest.mark.parametrize("command", [["validate"], ["fmt", "--check"]], ids=" ".join)
@pytest.mark.parametrize("name", INPUTS)
def test_a_small_file_takes_little_time_and_memory(
    name: str, command: list[str], tmp_path: Path
) -> None:
    project = Project(tmp_path, TEMPLATE)
    for file, text in INPUTS[name]().items():
        project.profile(file, text)
        assert len(text) < 1 << 20
    launcher = [sys.executable, "-c", LAUNCHER, *command]
    launched = subprocess.run(launcher, cwd=tmp_path, stdout=subprocess.PIPE, check=True)
    code, seconds, memory = json.loads(launched.stdout)
    output = (tmp_path / "output").read_text("utf-8")

    is_fmt = command[0] == "fmt"
    assert code in ((0, 1, 3) if is_fmt else (0, 3))
    assert seconds < (MOST_SECONDS_OF_FMT if is_fmt else MOST_SECONDS)
    assert memory < MOST_MEMORY
    assert "Traceback" not in output
    assert len(output) < MOST_OUTPUT
