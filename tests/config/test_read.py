"""Files that are not the YAML they should be."""

from __future__ import annotations

from pathlib import Path

import pytest

from slimasr.config.load import load_config
from slimasr.errors import UserError, one_line

GOOD = "name: x\ndata: {corpus: an4}\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (GOOD + "seed: 1\nseed: 2\n", "key 'seed' is given twice, in lines 3 and 4"),
        ("name: x\ndata:\n  corpus: an4\n  corpus: fsdd\n", "key 'corpus' is given twice, in lines 3 and 4"),
        (GOOD + "training:\n\tnum_epochs: 3\n", "not valid YAML"),
        ("a: &a [*a]\n", "refers to itself"),
        ("a: &a {b: *a}\n", "refers to itself"),
        ("a: [x, x]\n" + "".join(f"k{n}: &k{n} [{', '.join([f'*k{n - 1}'] * 9)}]\n" for n in range(1, 9)).replace(
            "*k0", "x"), "values"),
        ("[" * 5000, "nested too deeply"),
        ("name: 2020-13-45\n", "not valid YAML"),
        ("name: !!python/object:os.system x\n", "not valid YAML"),
        ("? [a, b]\n: c\n", "not valid YAML"),
        (GOOD + "1: 2\n", "1"),
        ("name: x\ndata: {corpus: an4}\n---\nname: y\n", "not valid YAML"),
        ("include: {a: b}\n" + GOOD, "include: must be the name of a file or a list of names"),
        ("include: [1]\n" + GOOD, "include: must be the name of a file or a list of names"),
        ('include: "a\\0b"\n' + GOOD, "include: must be the name of a file or a list of names"),
        (f"include: {'a' * 300}\n" + GOOD, "cannot be read (File name too long)"),
        ("include: .\n" + GOOD, "cannot be read (Is a directory)"),
        ("just text", "holds no keys"),
    ],
)  # fmt: skip
def test_wrong_yaml_is_named_in_one_line(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "conf.yaml"
    path.write_text(content)
    with pytest.raises(UserError) as caught:
        load_config(path)
    assert message in str(caught.value)
    assert str(tmp_path) in one_line(caught.value)


def test_files_that_are_no_text_are_named(tmp_path: Path) -> None:
    picture = tmp_path / "picture.png"
    picture.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(range(256)))
    for path in (picture, tmp_path, tmp_path / "absent.yaml", tmp_path / ("a" * 300), picture / "below.yaml"):
        with pytest.raises(UserError, match="not valid YAML|cannot be read|is not UTF-8 text") as caught:
            load_config(path)
        assert str(path) in str(caught.value)


def test_a_byte_order_mark_is_no_part_of_the_first_key(tmp_path: Path) -> None:
    path = tmp_path / "conf.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + GOOD.encode())
    assert load_config(path).name == "x"
