"""Turns a CUDA source file into C++ that any compiler reads.

    python rewrite.py SOURCE TARGET

`kernel<T><<<blocks, threads, bytes, stream>>>(arguments)` becomes a call of `emulation::launch`, and each `__shared__`
variable a reference to what `emulation::SharedVariable` gives the block. All else stays, and so do the lines' numbers.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

_OPENING, _CLOSING = "([{", ")]}"


def launches_as_calls(text: str, file: str) -> str:
    """The text with each launch as a call, told apart as `file:kernel`. Raises ValueError where one cannot be read."""
    while (opening := text.find("<<<")) >= 0:
        begin = _callee_start(text, opening)
        closing = text.find(">>>", opening)
        argument_list = re.compile(r"\s*\(").match(text, closing + 3)
        if closing < 0 or argument_list is None:
            raise ValueError(f"line {text.count(chr(10), 0, opening) + 1}: a launch that does not read <<<...>>>(...)")
        end = _matching(text, argument_list.end() - 1) + 1
        kernel = text[begin:opening].strip()
        name = re.match(r"[\w:]+", kernel)
        assert name is not None
        body = f"{kernel}{text[argument_list.end() - 1 : end]}"
        call = f'::emulation::launch({text[opening + 3 : closing]}, "{file}:{name.group()}", [&] {{ {body}; }})'
        lost_lines = text.count("\n", begin, end) - call.count("\n")
        text = text[:begin] + call + "\n" * lost_lines + text[end:]
    return text


def shared_as_references(text: str) -> str:
    """The text with each `__shared__` variable as a reference; a declaration may have several, of any dimensions."""

    def references(declaration: re.Match[str]) -> str:
        made = []
        for declarator in _top_level_parts(declaration["declarators"]):
            name, dimensions = re.fullmatch(r"\s*(\w+)\s*(.*)", declarator, re.DOTALL).groups()  # type: ignore[union-attr]
            made.append(
                f"using shared_{name} = {declaration['type']}{dimensions}; "
                f'static ::emulation::SharedVariable {name}_variable{{"{name}", sizeof(shared_{name})}}; '
                f"shared_{name}& {name} = *static_cast<shared_{name}*>({name}_variable.in_this_block());"
            )
        return " ".join(made)

    return re.sub(r"__shared__\s+(?P<type>[\w:]+)\s+(?P<declarators>[^;]+);", references, text)


def _top_level_parts(text: str) -> list[str]:
    """What stands between commas that no bracket holds."""
    parts, depth = [""], 0
    for character in text:
        depth += (character in _OPENING) - (character in _CLOSING)
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return parts


def _callee_start(text: str, at: int) -> int:
    """Where the kernel's name begins whose template arguments, if it has any, end before `at`."""
    at = len(text[:at].rstrip())
    if text[at - 1] == ">":
        depth = 0
        while True:
            at -= 1
            depth += {">": 1, "<": -1}.get(text[at], 0)
            if depth == 0:
                break
    while re.match(r"[\w:]", text[at - 1]):
        at -= 1
    return at


def _matching(text: str, at: int) -> int:
    """The place of the bracket that closes the one at `at`."""
    depth = 0
    for place in range(at, len(text)):
        depth += (text[place] in _OPENING) - (text[place] in _CLOSING)
        if depth == 0:
            return place
    raise ValueError(f"line {text.count(chr(10), 0, at) + 1}: a bracket that is never closed")


def main() -> None:
    source, target = (Path(argument) for argument in sys.argv[1:3])
    try:
        text = shared_as_references(launches_as_calls(source.read_text(), source.name))
    except ValueError as error:
        sys.exit(f"{source}: {error}")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(f'#line 1 "{source}"\n{text}')


if __name__ == "__main__":
    main()
