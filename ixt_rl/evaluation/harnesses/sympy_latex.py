"""sympy's own reader of LaTeX, which two harnesses compare with, on the ANTLR runtime that is installed.

`sympy.parsing.latex.parse_latex` asks for ANTLR 4.11 by number and refuses others; the grammar's tables have one form
from 4.10 on, and are read by 4.13, which this library has beside math-verify.
"""

from __future__ import annotations

from functools import cache
from typing import Any


def parse_latex(text: str) -> Any:
    """The sympy expression or relation that a LaTeX text begins with; what follows it is passed over, as there.

    Raises:
        Exception: whatever sympy raises on a text that it cannot read.
    """
    antlr, module, lexer_class, parser_class = _classes()
    text = text.strip()
    listener = module.MathErrorListener(text)
    lexer = lexer_class(antlr.InputStream(text))
    lexer.removeErrorListeners()
    lexer.addErrorListener(listener)
    parser = parser_class(antlr.CommonTokenStream(lexer))
    parser.removeErrorListeners()
    parser.addErrorListener(listener)
    return module.convert_relation(parser.math().relation())


@cache
def _classes() -> tuple[Any, Any, Any, Any]:
    import antlr4
    from sympy.parsing.latex import _parse_latex_antlr as module

    def unchecked(self: Any, version: str) -> None:
        """ANTLR prints a line on every difference of versions."""

    lexer, parser = (
        type(f"Unchecked{base.__name__}", (base,), {"checkVersion": unchecked})
        for base in (module.LaTeXLexer, module.LaTeXParser)
    )
    return antlr4, module, lexer, parser
