"""The reader of LaTeX blocks: matrices, systems of equations and case distinctions."""

from __future__ import annotations

import re

from ixt_rl.rewards.math.expr import Op
from ixt_rl.rewards.math.outcome import Unreadable
from ixt_rl.rewards.math.reader_base import TokenReader
from ixt_rl.rewards.math.reader_tokens import OPERATORS, trimmed
from ixt_rl.rewards.math.tokens import Tokens, balanced, spell, split
from ixt_rl.rewards.math.values import Matrix, Sequence, Value, Words

_AROUND_BLOCKS = {
    ("", ""), ("[", "]"), ("(", ")"), ("\\{", ""), ("{", ""), ("\\{", "\\}"), ("\\langle", "\\rangle"),
}  # fmt: skip
_MATRICES = {"pmatrix", "bmatrix", "matrix", "smallmatrix", "array", "Bmatrix", "psmallmatrix", "bsmallmatrix"}


class BlockReader(TokenReader):
    r"""Reads what stands between a `\begin` and its `\end`."""

    def environment(self, tokens: Tokens) -> Value | None:
        """A matrix, a system of equations or a case distinction, alone."""
        begins = [at for at, token in enumerate(tokens) if token.kind == "env"]
        if not begins:
            return None
        first, last = begins[0], begins[-1]
        name = re.sub(r"\\(?:begin|end)\s*\{([A-Za-z]+)\*?\}", r"\1", tokens[first].text)
        before, after = spell(tokens[:first]), spell(tokens[last + 1 :])
        if len(begins) != 2:
            return None
        if (before, after) not in _AROUND_BLOCKS:
            return self.scaled_matrix(tokens, first, last)
        body = tokens[first + 1 : last]
        if name == "array" and body and body[0].text == "{":
            body = body[next(at for at, token in enumerate(body) if token.text == "}") + 1 :]
        rows, _ = split([token for token in body if token.text != "\\hline"], lambda token, _: token.text == "\\cr")
        cells = [split(row, lambda token, _: token.text == "&")[0] for row in rows if row]
        if not cells:
            raise Unreadable("an empty block")
        if name == "cases" or (before in ("\\{", "{") and after == "") or _is_system(cells):
            return self.rows(cells)
        if name not in _MATRICES or len({len(row) for row in cells}) > 1:
            raise Unreadable(f"a block {name}")
        return Matrix(tuple(tuple(self.expr(cell) for cell in row) for row in cells))

    def scaled_matrix(self, tokens: Tokens, first: int, last: int) -> Matrix | None:
        """A number in front of a matrix; None where the block stands in something else."""
        opened = first - 1 if first and tokens[first - 1].text in ("[", "(") else first
        head, block = tokens[:opened], tokens[opened:]
        if not head or last != len(tokens) - 1 - (first - opened) or head[-1].text in OPERATORS or not balanced(head):
            return None
        if any(token.text in OPERATORS or token.text in (",", ";", "+") for token in head):
            return None
        matrix = self.environment(block)
        if not isinstance(matrix, Matrix):
            return None
        factor = self.expr(head[:-1] if head[-1].text in ("\\cdot", "*", "\\times") else head)
        return Matrix(tuple(tuple(Op("mul", (factor, cell)) for cell in row) for row in matrix.rows))

    def rows(self, cells: list[list[Tokens]]) -> Value:
        found: list[Value] = []
        for row in cells:
            row = [cell for cell in row if cell]
            if len(row) == 2 and not any(token.text in OPERATORS for token in row[1][:1]):
                while row[0] and row[0][-1].text in (",", "\\quad", ";"):
                    row[0] = row[0][:-1]
                found.append(Sequence("row", (self.value(row[0]), self.condition(row[1]))))
            else:
                found.append(self.value(trimmed([token for cell in row for token in cell])))
        return found[0] if len(found) == 1 else Sequence("rows", tuple(found))

    def condition(self, tokens: Tokens) -> Value:
        while tokens and (
            tokens[0].text in (",", "\\quad", "if", "for", "when")
            or tokens[0].text.strip(" ,") in ("if", "for", "when")
        ):
            tokens = tokens[1:]
        tokens = trimmed(tokens)
        try:
            return self.value(tokens)
        except Unreadable:
            return Words(" ".join(re.findall(r"[^\W_]+|[<>=]", spell(tokens).lower())))


def _is_system(cells: list[list[Tokens]]) -> bool:
    return all(any(token.text in OPERATORS for cell in row for token in cell) for row in cells)
