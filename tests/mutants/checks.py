"""Find the checks of a Python source, and take single ones out.

What counts as a check, and what is there without it:

``refuse``
    An ``if`` that raises, gives up, or returns with nothing: what it looks for is
    never found.  Of ``a or b`` each part is a check of its own.
``accept``
    An ``if`` without which all that follows is a refusal, or that decides what is
    kept in a loop: it is always fulfilled.  Of ``a and b`` each part.
``answer``
    What a function that tells yes or no returns: each part of it, and both answers.
``filter``
    The condition of a comprehension.
``call``
    The call of a function that checks or counts in.
``bound``
    The smaller of two, a slice, or a constant of `pcapd.limits` where it is used:
    without end, or a hundred times as much.

Pure: text in, text out.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Check", "checks_of", "numbered"]

#: Calls that end a conversation or refuse a request.
_REFUSALS = re.compile(
    r"_?(abandon|abort|abortConnection|bad|close|deny|end|eof|err(or|back)|fail|give_?up|gone|lose|loseConnection|over|NotFoundResource"
    r"|problem|refused?|reject|say|stop|warning)"
)
#: Calls that raise when something is not as it must be.
_CHECKS = re.compile(
    r"_?(accepting|check|verify|require|refuse|validate|ensure|permit|admit|expect|trap|take_in)"
)
_MANY = "100"


@dataclass(frozen=True)
class Check:
    """One check, and how the source looks without it.

    Attributes:
        name: Its place and its words, not its line.
        line: Where it is.
        start, end: Offsets of what is replaced.
        instead: What is there without it.
    """

    name: str
    line: int
    start: int
    end: int
    instead: str

    def without(self, text: str) -> str:
        """The source without this check."""
        return text[: self.start] + self.instead + text[self.end :]


def checks_of(text: str, limits: frozenset[str] = frozenset()) -> list[Check]:
    """All checks of a source, in the order of their lines.

    Args:
        text: The source.
        limits: Names of constants that bound something.
    """
    finder = _Finder(text, limits)
    finder.visit(ast.parse(text))
    return numbered(sorted(finder.found, key=lambda check: (check.line, check.start)))


def numbered(found: Sequence[Check]) -> list[Check]:
    """Number those that have the same words at the same place."""
    seen: Counter[str] = Counter()
    named = []
    for check in found:
        seen[check.name] += 1
        number = f" #{seen[check.name]}" if seen[check.name] > 1 else ""
        named.append(Check(check.name + number, check.line, check.start, check.end, check.instead))
    return named


class _Finder(ast.NodeVisitor):
    def __init__(self, text: str, limits: frozenset[str]) -> None:
        self._text = text
        self._limits = limits
        self._lines = [0]
        for line in text.splitlines(keepends=True):
            self._lines.append(self._lines[-1] + len(line))
        self._source = text.splitlines(keepends=True)
        self._place: list[str] = []
        self._answers = False  # in a function that tells yes or no
        self._taken: set[tuple[int, int]] = set()
        self.found: list[Check] = []

    # --- places --------------------------------------------------------------

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self._place.append(node.name)
        self._block(node.body)
        self._place.pop()

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        before = self._answers
        self._answers = isinstance(node.returns, ast.Name) and node.returns.id == "bool"
        self._place.append(node.name)
        self._block(node.body)
        self._place.pop()
        self._answers = before

    visit_AsyncFunctionDef = visit_FunctionDef

    # --- blocks --------------------------------------------------------------

    def _block(self, body: Sequence[ast.stmt], *, loop: bool = False) -> None:
        for index, statement in enumerate(body):
            if isinstance(statement, ast.If):
                self._if(statement, body[index + 1 :], last_of_loop=loop and index == len(body) - 1)
            else:
                self.visit(statement)

    def _if(self, node: ast.If, after: Sequence[ast.stmt], *, last_of_loop: bool) -> None:
        keeps = last_of_loop and not node.orelse
        if _refuses(node.body):
            self._operands("refuse", node.test, bad=True)
        elif _refuses(node.orelse) or (_leaves(node.body) and _refuses(after[-1:])) or keeps:
            self._operands("accept", node.test, bad=False)
        self.visit(node.test)
        self._block(node.body)
        self._block(node.orelse)

    def visit_For(self, node: ast.For | ast.AsyncFor | ast.While) -> None:
        self.visit(node.test if isinstance(node, ast.While) else node.iter)
        self._block(node.body, loop=True)
        self._block(node.orelse)

    visit_AsyncFor = visit_While = visit_For

    def visit_With(self, node: ast.With | ast.AsyncWith) -> None:
        for item in node.items:
            self.visit(item.context_expr)
        self._block(node.body)

    visit_AsyncWith = visit_With

    def visit_Try(self, node: ast.Try) -> None:
        self._block(node.body)
        for handler in node.handlers:
            self._block(handler.body)
        self._block(node.orelse)
        self._block(node.finalbody)

    # --- statements ----------------------------------------------------------

    def visit_Return(self, node: ast.Return) -> None:
        if self._answers and node.value is not None and not _is_state(node.value):
            if isinstance(node.value, ast.BoolOp):
                self._operands("answer", node.value, bad=isinstance(node.value.op, ast.Or))
            else:
                for answer in ("True", "False"):
                    self._add("answer", node.value, answer, label=f"{answer} for ")
        self.generic_visit(node)

    def visit_Assign(self, node: ast.Assign) -> None:
        value = node.value
        if isinstance(value, ast.BoolOp) and any(_is_test(operand) for operand in value.values):
            self._operands("answer", value, bad=isinstance(value.op, ast.Or))
        self.generic_visit(node)

    def visit_Expr(self, node: ast.Expr) -> None:
        call = node.value.value if isinstance(node.value, ast.Await) else node.value
        if isinstance(call, ast.Call) and _CHECKS.match(_called(call)):
            self._add("call", node, "pass")
        self.generic_visit(node)

    # --- expressions ---------------------------------------------------------

    def _comprehension(self, node: ast.ListComp | ast.SetComp | ast.GeneratorExp | ast.DictComp) -> None:
        for generator in node.generators:
            for condition in generator.ifs:
                self._operands("filter", condition, bad=False)
        self.generic_visit(node)

    visit_ListComp = visit_SetComp = visit_GeneratorExp = visit_DictComp = _comprehension

    def visit_Call(self, node: ast.Call) -> None:
        if isinstance(node.func, ast.Name) and node.func.id == "min" and len(node.args) > 1:
            for position, argument in enumerate(node.args):
                if self._bounds(argument):
                    others = [self._of(other) for at, other in enumerate(node.args) if at != position]
                    instead = others[0] if len(others) == 1 else f"min({', '.join(others)})"
                    self._add("bound", node, f"({instead})", label=f"{self._of(argument)} in ")
        self.generic_visit(node)

    def visit_Subscript(self, node: ast.Subscript) -> None:
        if (
            isinstance(node.slice, ast.Slice)
            and node.slice.upper is not None
            and self._bounds(node.slice.upper)
        ):
            self._add(
                "bound", node.slice.upper, "None", label=f"[:{self._of(node.slice.upper)}] of ", of=node
            )
            self._taken.add(self._span(node.slice.upper))
        if isinstance(node.slice, ast.Constant) and self._is_limit(node.value):
            # A pair of limits, a hundred times, has the same two at its beginning.
            self._add("bound", node, f"({self._of(node)} * {_MANY})")
            self._taken.add(self._span(node))
        self.generic_visit(node)

    def visit_Name(self, node: ast.Name) -> None:
        span = self._span(node)
        within = any(start <= span[0] and span[1] <= end for start, end in self._taken)
        if self._is_limit(node) and not within:
            self._add("bound", node, f"({node.id} * {_MANY})")

    def _is_limit(self, node: ast.expr) -> bool:
        limit = isinstance(node, ast.Name) and node.id in self._limits and not node.id.endswith("_DEFAULT")
        return limit and isinstance(node.ctx, ast.Load) and bool(self._place)

    def visit_Compare(self, node: ast.Compare) -> None:
        """What is compared is a check where it matters; the constant in it is none of its own."""

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        """Words check nothing."""

    def visit_Raise(self, node: ast.Raise) -> None:
        """Nor does what a refusal says."""

    def _bounds(self, node: ast.expr) -> bool:
        words = self._of(node)
        return bool(re.search(r"\b[A-Z][A-Z_]{2,}\b|limit|max", words)) or isinstance(node, ast.Constant)

    # --- parts ---------------------------------------------------------------

    def _operands(self, kind: str, test: ast.expr, *, bad: bool) -> None:
        """Take each part of a condition out by itself.

        Args:
            bad: The condition describes what is refused; otherwise what is accepted.
        """
        if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
            self._operands(kind, test.operand, bad=not bad)
        elif isinstance(test, ast.BoolOp) and isinstance(test.op, ast.Or if bad else ast.And):
            for operand in test.values:
                self._operands(kind, operand, bad=bad)
        elif (inner := _of_all(test, "any" if bad else "all")) is not None and isinstance(inner, ast.BoolOp):
            self._operands(kind, inner, bad=bad)
        elif isinstance(test, ast.Compare) and len(test.ops) > 1 and not bad:
            self._chain(kind, test)
        else:
            self._add(kind, test, self._constant(test, "False" if bad else "True"))

    def _chain(self, kind: str, test: ast.Compare) -> None:
        """``low < x <= high``: each half, and the other one is there without it."""
        terms = [test.left, *test.comparators]
        halves = []
        for position in range(len(test.ops)):
            start, end = self._span(terms[position])[0], self._span(terms[position + 1])[1]
            halves.append(self._text[start:end])
        for position, half in enumerate(halves):
            rest = [other for at, other in enumerate(halves) if at != position]
            self._add(kind, test, f"({' and '.join(rest)})", label=f"{half} in ")

    def _constant(self, test: ast.expr, value: str) -> str:
        """A constant instead of a condition, which is still computed where that does something."""
        calls = [node for node in ast.walk(test) if isinstance(node, (ast.Call, ast.NamedExpr, ast.Await))]
        plain = all(isinstance(call, ast.Call) and _called(call) in ("isinstance", "len") for call in calls)
        if plain:
            return value
        return f"(({self._of(test)}) and False)" if value == "False" else f"(({self._of(test)}) or True)"

    def _add(
        self, kind: str, node: ast.AST, instead: str, label: str = "", of: ast.AST | None = None
    ) -> None:
        start, end = self._span(node)
        self._taken.add((start, end)) if kind != "bound" else None
        words = " ".join((label + self._of(of or node)).split())
        place = ".".join(self._place) or "module"
        self.found.append(
            Check(f"{place} [{kind}] {words}", node.lineno, start, end, instead)  # type: ignore[attr-defined]
        )

    def _of(self, node: ast.AST) -> str:
        start, end = self._span(node)
        return self._text[start:end]

    def _span(self, node: ast.AST) -> tuple[int, int]:
        assert isinstance(node, (ast.expr, ast.stmt))
        assert node.end_lineno is not None and node.end_col_offset is not None
        return self._offset(node.lineno, node.col_offset), self._offset(node.end_lineno, node.end_col_offset)

    def _offset(self, line: int, column: int) -> int:
        # Python counts columns in bytes of UTF-8.
        before = self._source[line - 1].encode()[:column].decode()
        return self._lines[line - 1] + len(before)


def _refuses(body: Sequence[ast.stmt]) -> bool:
    return any(_is_refusal(statement) for statement in body)


def _is_refusal(statement: ast.stmt) -> bool:
    if isinstance(statement, (ast.Raise, ast.Continue, ast.Break)):
        return True
    if isinstance(statement, ast.Return):
        value = statement.value
        if value is None or (isinstance(value, ast.Constant) and value.value in (None, False, "", b"")):
            return True
        return isinstance(value, ast.Call) and _REFUSALS.fullmatch(_called(value)) is not None
    call = statement.value if isinstance(statement, ast.Expr) else None
    return isinstance(call, ast.Call) and _REFUSALS.fullmatch(_called(call)) is not None


def _leaves(body: Sequence[ast.stmt]) -> bool:
    return bool(body) and isinstance(body[-1], (ast.Return, ast.Continue))


def _is_state(node: ast.expr) -> bool:
    """A constant, or what somebody else has found out: nothing is checked here."""
    if isinstance(node, ast.UnaryOp):
        return _is_state(node.operand)
    return isinstance(node, (ast.Constant, ast.Name, ast.Attribute))


def _is_test(node: ast.expr) -> bool:
    if isinstance(node, ast.UnaryOp):
        return isinstance(node.op, ast.Not)
    return isinstance(node, ast.Compare) or (isinstance(node, ast.Call) and _called(node) == "isinstance")


def _of_all(test: ast.expr, name: str) -> ast.expr | None:
    """The condition in ``all(condition for …)``."""
    if isinstance(test, ast.Call) and _called(test) == name and len(test.args) == 1:
        argument = test.args[0]
        if isinstance(argument, (ast.GeneratorExp, ast.ListComp)):
            return argument.elt
    return None


def _called(call: ast.Call) -> str:
    if isinstance(call.func, ast.Attribute):
        return call.func.attr
    return call.func.id if isinstance(call.func, ast.Name) else ""
