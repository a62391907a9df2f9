"""One plain spelling for answers: LaTeX and Unicode variants, fences, spacing and fonts become the same text.

Words inside `\\text{...}` and its kin are kept apart from mathematics as `⟦words⟧`. Nothing that carries
meaning is dropped: signs, points and braces all survive.
"""

from __future__ import annotations

import re
import unicodedata

from ixt_rl.rewards.math.outcome import TooLarge

MAX_CHARS = 2_000
"""Longest answer text that is read."""
MAX_DEPTH = 40
"""Deepest nesting of brackets and braces."""
MAX_DIGITS = 1_000
"""Most digits of one number."""

_UNICODE = {
    "−": "-", "–": "-", "—": "-", "‐": "-", "‑": "-", "﹣": "-", "×": r"\times ", "·": r"\cdot ", "⋅": r"\cdot ",
    "∙": r"\cdot ", "•": r"\cdot ", "∗": "*", "÷": r"\div ", "∕": "/", "⁄": "/", "√": r"\sqrt ", "∛": r"\cbrt ",
    "∞": r"\infty ", "≤": r"\le ", "≥": r"\ge ", "⩽": r"\le ", "⩾": r"\ge ", "≦": r"\le ", "≧": r"\ge ",
    "≠": r"\ne ", "≈": r"\approx ", "≃": r"\approx ", "≅": r"\cong ", "≡": r"\equiv ", "°": r"^\circ ",
    "º": r"^\circ ", "˚": r"^\circ ", "℃": r"^\circ C", "℉": r"^\circ F", "∪": r"\cup ", "∩": r"\cap ",
    "∖": r"\setminus ", "∈": r"\in ", "∉": r"\notin ", "⊂": r"\subset ", "⊆": r"\subseteq ", "∅": r"\emptyset ",
    "…": r"\ldots ", "⋯": r"\ldots ", "±": r"\pm ", "∓": r"\mp ", "½": r"\frac{1}{2}", "⅓": r"\frac{1}{3}",
    "⅔": r"\frac{2}{3}", "¼": r"\frac{1}{4}", "¾": r"\frac{3}{4}", "⅕": r"\frac{1}{5}", "⅖": r"\frac{2}{5}",
    "⅗": r"\frac{3}{5}", "⅘": r"\frac{4}{5}", "⅙": r"\frac{1}{6}", "⅚": r"\frac{5}{6}", "⅛": r"\frac{1}{8}",
    "⅜": r"\frac{3}{8}", "⅝": r"\frac{5}{8}", "⅞": r"\frac{7}{8}", "∑": r"\sum ", "∏": r"\prod ", "∫": r"\int ",
    "∠": r"\angle ", "△": r"\triangle ", "→": r"\to ", "⇒": r"\Rightarrow ", "∧": r"\land ", "∨": r"\lor ",
    "ℝ": r"\mathbb{R}", "ℤ": r"\mathbb{Z}", "ℚ": r"\mathbb{Q}", "ℕ": r"\mathbb{N}", "ℂ": r"\mathbb{C}",
    "⟨": r"\langle ", "⟩": r"\rangle ", "〈": r"\langle ", "〉": r"\rangle ", "∣": "|", "‖": r"\|", "′": "'",
    "″": "''", "‴": "'''", "’": "'", "‘": "'", "“": '"', "”": '"', "„": '"', "，": ",", "、": ",", "；": ";",
    "：": ":", "∶": ":", "。": ".", "（": "(", "）": ")", "【": "[", "】": "]", "｛": "{", "｝": "}", "％": "%",
    "￥": "¥", "µ": "μ", "∂": r"\partial ", "¬": r"\neg ", "⌊": r"\lfloor ", "⌋": r"\rfloor ", "⌈": r"\lceil ",
    "⌉": r"\rceil ", "ℓ": r"\ell ", "⊥": r"\perp ", "∥": r"\parallel ", "½ ": r"\frac{1}{2} ",
    "\u00a0": " ", "\u2009": " ", "\u202f": " ", "\u2002": " ", "\u2003": " ", "\u3000": " ", "\u2061": " ",
    "\u200b": "", "\u200c": "", "\u200d": "", "\ufeff": "", "\u2062": r"\cdot ", "\u2060": "",
}  # fmt: skip
_GREEK_NAMES = [
    "alpha",
    "beta",
    "gamma",
    "delta",
    "epsilon",
    "zeta",
    "eta",
    "theta",
    "iota",
    "kappa",
    "lambda",
    "mu",
    "nu",
    "xi",
    "omicron",
    "pi",
    "rho",
    "sigmaf",
    "sigma",
    "tau",
    "upsilon",
    "phi",
    "chi",
    "psi",
    "omega",
]
_UNICODE.update({chr(0x3B1 + at): f"\\{name} " for at, name in enumerate(_GREEK_NAMES)})
_UNICODE.update({"ϵ": r"\epsilon ", "ϕ": r"\phi ", "ϑ": r"\theta ", "Δ": r"\Delta ", "∆": r"\Delta "})
_UNICODE.update({"Γ": r"\Gamma ", "Θ": r"\Theta ", "Λ": r"\Lambda ", "Π": r"\Pi ", "Σ": r"\Sigma "})
_UNICODE.update({"Φ": r"\Phi ", "Ψ": r"\Psi ", "Ω": r"\Omega ", "Ξ": r"\Xi "})
_NOT_ASCII = re.compile(r"[^\x00-\x7f]")
_SUPERSCRIPT = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁽⁾ⁿⁱˣ", "0123456789+-()nix")
_SUBSCRIPT = str.maketrans("₀₁₂₃₄₅₆₇₈₉₊₋ₙᵢ", "0123456789+-ni")

_MICRO = r"F|m|s|g|C|A|V|L|J|W|H|T|N|M|Pa|mol"
"""Units that a micro stands before, where it is no variable."""
_FONTS = r"text(?:bf|it|rm|sf|tt|normal|up|md)?|mbox|hbox|mathrm|mathbf|mathit|mathsf|mathtt|operatorname\*?|rm|bf"
_TEXT = re.compile(rf"\\(?:{_FONTS})\s*\{{([^{{}}]*)\}}")
_BOLD_LETTER = re.compile(
    r"\\(?:mathbf|boldsymbol|bm|bf|vec|mathcal|mathfrak|mathscr|mathit|mathsf|displaystyle)\s*"
    r"\{\s*(\\?[A-Za-z]+|\d+)\s*\}"
)
_UNIT_VECTOR = re.compile(r"\\(?:mathbf|boldsymbol|bm|vec|hat|overrightarrow)\s*\{?\s*"
                          r"(?:\\(?:hat|mathbf|vec)\s*\{?\s*)?"
                          r"\\?([ijk])(?:math)?\s*\}?\s*\}?(?![A-Za-z])")  # fmt: skip
_NUMBER_SET = re.compile(r"\\(?:mathbb|mathbf|Bbb|bf|mathds)\s*\{?\s*([RZQNC])\s*\}?(?![A-Za-z])")
_DROPPED = re.compile(
    r"\\(?:displaystyle|textstyle|scriptstyle|limits|nolimits|bigl|bigr|Bigl|Bigr|biggl|biggr|big|Big|bigg|Bigg"
    r"|mathstrut|strut|centering|hfill|tfrac|null|boxed|mathrm|mathbf|rm|bf|it|cal|normalsize|large|Large)(?![A-Za-z])"
    r"|\\(?:left|right|middle)(?![A-Za-z])\s*\.?|\\(?:hspace|vspace|hskip|phantom|label|tag)\*?\s*\{[^{}]*\}"
)
_SPACES = re.compile(r"\\(?:enspace|thinspace|medspace|thickspace|space|nobreak)(?![A-Za-z])|\\[ ;:>,!\t\n]|~")
_WRAPPER = re.compile(r"`+|\\(?:begin|end)\{(?:align|aligned|equation|gather|gathered|split|displaymath|math|center|"
                      r"flushleft)\*?\}")  # fmt: skip
_ROW_END = re.compile(r"\\\\\s*(?:\[[\d.]+\s*[a-z]+\])?|\\(?:newline|tabularnewline)(?![A-Za-z])")
_MATH_TEXT = {
    "e": "e ", "i": "i ", "d": "d ", "ln": r"\ln ", "log": r"\log ", "sin": r"\sin ", "cos": r"\cos ",
    "tan": r"\tan ", "cot": r"\cot ", "sec": r"\sec ", "csc": r"\csc ", "exp": r"\exp ", "arcsin": r"\arcsin ",
    "arccos": r"\arccos ", "arctan": r"\arctan ", "sinh": r"\sinh ", "cosh": r"\cosh ", "tanh": r"\tanh ",
    "gcd": r"\gcd ", "lcm": r"\lcm ", "max": r"\max ", "min": r"\min ", "sgn": r"\sgn ", "abs": r"\abs ",
    "lg": r"\lg ", "tg": r"\tan ", "ctg": r"\cot ", "arctg": r"\arctan ", "sqrt": r"\sqrt ", "": " ",
    "cis": r"\cis ", "erf": r"\erf ", "arg": r"\arg ",
}  # fmt: skip
_GROUP = r"(?<![\d.,])(\d{1,3}(?:GAP\d{3})+)(?![\d,]|\.\d{1,2}\d?\.\d)"
_GROUPS = [re.compile(_GROUP.replace("GAP", gap)) for gap in (r"\s*\{,\}\s*", r",\s*\\!\s*", r"\\[,;:! ]\s*")]
_DIGIT_GAP = re.compile(r"\{,\}|\\[,;:! ]|[,\s]|\\!")
_SPACED_GROUP = re.compile(r"(?<![\d.,^_])\d{1,3}(?: \d{3})+(?![\d ])")
_SWISS_GROUP = re.compile(r"(?<![\d.,'])\d{1,3}(?:'\d{3})+(?!['\d])")
_DOTTED_GROUP = re.compile(r"(?<![\d.,])\d{1,3}(?:\.\d{3}){2,}(?:,\d+)?(?![\d.,])|(?<![\d.,])\d{1,3}\.\d{3},\d{1,2}(?![\d.,])")  # fmt: skip  # noqa: E501


def check_size(text: str) -> None:
    """Raise `TooLarge` when a text is too long, too deeply nested, or has too long a number."""
    if len(text) > MAX_CHARS:
        raise TooLarge(f"{len(text)} characters, at most {MAX_CHARS} are read")
    depth = 0
    for char in text:
        depth += (char in "([{") - (char in ")]}")
        if depth > MAX_DEPTH:
            raise TooLarge(f"nested deeper than {MAX_DEPTH}")
    if len(text) > MAX_DIGITS and re.search(rf"\d{{{MAX_DIGITS + 1}}}", text):
        raise TooLarge(f"a number of more than {MAX_DIGITS} digits")


def clean(text: str) -> str:
    """The plain spelling of an answer.

    Raises:
        TooLarge: it exceeds a size limit.
    """
    check_size(text)
    if _NOT_ASCII.search(text):
        text = _ascii(text)
    text = _unmarked(text.strip())
    if "\\" in text or "{" in text:
        text = _latex(text)
    else:
        text = _plain(text)
    text = _strip_end(re.sub(r"\s+", " ", text).strip())
    text = _strip_end(_strip_fences(text))
    if "'" in text:
        text = _SWISS_GROUP.sub(lambda match: match[0].replace("'", ""), text)
    if " " in text:
        text = _SPACED_GROUP.sub(lambda match: match[0].replace(" ", ""), text)
    if text.count(".") > 1 or ("." in text and "," in text):
        text = _DOTTED_GROUP.sub(lambda match: match[0].replace(".", "").replace(",", "."), text)
    return text


def _ascii(text: str) -> str:
    text = re.sub(r"√\s*(\d+(?:\.\d+)?)", r"\\sqrt{\1}", text)
    text = re.sub(r"(\d)([½⅓⅔¼¾⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞])", r"\1 \2", text)
    text = re.sub(rf"(?<=[\d}}])\s*[μµ]({_MICRO})(?![A-Za-z])", r" ⟦u\1⟧", text)
    text = re.sub(r"[⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁽⁾ⁿⁱˣ]+", lambda match: "^{" + match[0].translate(_SUPERSCRIPT) + "}", text)
    text = re.sub(r"[₀₁₂₃₄₅₆₇₈₉₊₋ₙᵢ]+", lambda match: "_{" + match[0].translate(_SUBSCRIPT) + "}", text)
    return _NOT_ASCII.sub(_one_char, text)


def _one_char(match: re.Match[str]) -> str:
    char = match[0]
    if char in _UNICODE:
        return _UNICODE[char]
    if 0xFF01 <= ord(char) <= 0xFF5E or 0x1D400 <= ord(char) <= 0x1D7FF:
        plain = unicodedata.normalize("NFKC", char)
        return _UNICODE.get(plain, plain)
    return char


def _latex(text: str) -> str:
    text = _WRAPPER.sub(" ", text.removesuffix("\\\\"))
    text = re.sub(r"\\(?:AA|mathring\s*\{?A\}?)(?![A-Za-z])", "Å", text)
    for pattern in _GROUPS:
        text = pattern.sub(lambda match: _DIGIT_GAP.sub("", match[1]), text)
    text = text.replace("{,}", ",").replace("\\!", "")
    text = _ROW_END.sub(r" \\cr ", text)
    text = re.sub(r"\\[()\[\]]", " ", text)
    text = re.sub(r"\\(?:[dtcx]?frac|nicefrac|sfrac|dfrac)(?![A-Za-z])", r"\\frac", text)
    text = re.sub(r"\\[dt]binom(?![A-Za-z])", r"\\binom", text)
    text = re.sub(r"\{([^{}]*)\\over(?![A-Za-z])([^{}]*)\}", r"\\frac{\1}{\2}", text)
    text = re.sub(r"\{([^{}]*)\\choose(?![A-Za-z])([^{}]*)\}", r"\\binom{\1}{\2}", text)
    text = re.sub(r"\\(?:l?vert|rvert|mid)(?![A-Za-z])", "|", text)
    text = re.sub(r"\\(?:l?Vert|rVert)(?![A-Za-z])", r"\\|", text)
    text = re.sub(r"\\(?:lbrace|rbrace|lbrack|rbrack|lparen|rparen)(?![A-Za-z])",
                  lambda match: {"\\lbrace": "\\{", "\\rbrace": "\\}", "\\lbrack": "[", "\\rbrack": "]",
                                 "\\lparen": "(", "\\rparen": ")"}[match[0]], text)  # fmt: skip
    text = re.sub(r"\\(?:q?quad)(?![A-Za-z])", r" \\quad ", text)
    text = _NUMBER_SET.sub(r"\\set\1 ", text)
    text = re.sub(r"\\(?:Reals|R)(?![A-Za-z])", r"\\setR ", text)
    text = _UNIT_VECTOR.sub(r"\\unitvector\1 ", text)
    text = _BOLD_LETTER.sub(_unbold, text)
    text = re.sub(r"\\prime(?![A-Za-z])\s*", "'", text)
    text = re.sub(r"\^\s*\{\s*('+)\s*\}|\^\s*('+)", lambda match: (match[1] or match[2]).replace(" ", ""), text)
    text = _TEXT.sub(_words, text)
    text = _TEXT.sub(_words, text)  # \textbf{\text{...}}
    text = re.sub(rf"(?<=[\d}}\s])\\mu\s*⟦\s*({_MICRO})\s*⟧", r" ⟦u\1⟧", text)
    text = _SPACES.sub(" ", _DROPPED.sub(" ", text))
    return re.sub(r"\*\*", "^", text) if re.search(r"[\w)}]\s*\*\*\s*[\w(-]", text) else text


def _unbold(match: re.Match[str]) -> str:
    name = match[1]
    if match[0].startswith("\\displaystyle") or name.isdigit() or name.startswith("\\") or len(name) == 1:
        return f"{{{name}}}" if len(name) > 1 and not name.startswith("\\") else f" {name} "
    return f"⟦{name}⟧"


def _words(match: re.Match[str]) -> str:
    inside = match[1].replace("~", " ")
    name = inside.strip()
    after_number = name in ("min", "sec") and re.search(r"[\d})]\s*(?:\\[ ,;])?\s*$", match.string[: match.start()])
    if after_number and not re.match(r"\s*[\\A-Za-z(]", match.string[match.end() :]):
        return f"⟦{inside}⟧"
    if name in _MATH_TEXT:
        return _MATH_TEXT[inside.strip()]
    if "$" in inside or re.fullmatch(r"[\s\d.,+\-*/=()<>]*", inside):
        return " " + inside.replace("$", " ") + " "
    return f"⟦{inside}⟧"


def _plain(text: str) -> str:
    if "**" in text:
        text = text.replace("**", "^") if re.search(r"[\w)]\s*\*\*\s*[\w(-]", text) else text.replace("**", " ")
    return text.replace("~", " ") if "~" in text else text


def _unmarked(text: str) -> str:
    """Without Markdown's marks around all of it."""
    while match := re.fullmatch(r"(\*{1,3}|_{2}|`+)(.+?)\1\s*([.,]?)", text, re.DOTALL):
        text = match[2].strip()
    return text


def _strip_end(text: str) -> str:
    """Without the period or comma that ends a sentence; an ellipsis stays."""
    while text and text[-1] in ".,;!" and not text.endswith(".."):
        if text[-1] == "!" or re.search(r"\b[ap]\.m\.$", text, re.IGNORECASE):
            break
        text = text[:-1].rstrip()
    return text.lstrip(":;").strip() if text[:1] in ":;" else text


def _strip_fences(text: str) -> str:
    """Remove `$` fences; a lone `$` at a number is a currency and becomes `\\$`."""
    if "$" not in text:
        return text
    fences = [match.start() for match in re.finditer(r"(?<!\\)\$", text)]
    if len(fences) % 2 and re.search(r"(?<!\\)\$\s*-?\s*[\d.]|\d\s*(?<!\\)\$", text):
        if len(fences) == 1:
            return text[: fences[0]] + "\\" + text[fences[0] :]
        return re.sub(r"(?<!\\)\$", " ", text[: fences[-1]] + text[fences[-1] + 1 :]).strip()
    money = r"(?<!\\)\$\s*-?[\d.,]+(?:\s|,|$)(?!\s*\$)"
    if len(fences) == 2 and len(re.findall(money, text)) == 2 and text[fences[0] + 1 : fences[1]].strip():
        return text.replace("$", "\\$")  # `$5 and $6`
    return re.sub(r"\s+", " ", re.sub(r"(?<!\\)\$", " ", text)).strip()


def canonical(text: str) -> str:
    """The plain spelling without the spaces that carry no meaning; equal strings are equal answers."""
    text = clean(text).replace("⟦", "").replace("⟧", "").replace("\\quad", " ")
    text = re.sub(r"\\frac\s*(\d)\s*(\d)(?!\d)", r"\\frac{\1}{\2}", text)
    return re.sub(r"(?<=[^\w])\s+|\s+(?=[^\w])", "", text).strip()
