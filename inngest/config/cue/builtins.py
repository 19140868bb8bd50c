"""Builtin functions, and the small part of CUE's standard packages that is covered."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

from inngest.config.cue import ast
from inngest.config.cue.ast import RefKind, Scalar
from inngest.config.cue.errors import CueError, Position, Reason
from inngest.config.cue.expressions import Expressions
from inngest.config.cue.operators import integer_division
from inngest.config.cue.regex import compile_regex
from inngest.config.cue.values import TYPES, Constraint, format_scalar, kind_name, kind_of
from inngest.config.cue.vertex import Env, Value, Vertex, VertexExpr

_Result = Scalar | list[str]
_Function = tuple[tuple[type, ...], Callable[..., _Result]]


def _title(text: str) -> str:
    return "".join(c.upper() if i == 0 or text[i - 1].isspace() else c for i, c in enumerate(text))


def _repeat(text: str, count: int) -> str:
    if count < 0:
        raise ValueError("negative Repeat count")
    return text * count


def _replace(text: str, old: str, new: str, count: int) -> str:
    return text.replace(old, new, count)


def _split(text: str, separator: str) -> list[str]:
    return text.split(separator) if separator else list(text)


#: The functions of each covered standard package: the types of their arguments, and what they do.
#: A parameter of type ``list`` takes a list of strings.
FUNCTIONS: dict[str, dict[str, _Function]] = {
    "strings": {
        "ToUpper": ((str,), str.upper),
        "ToLower": ((str,), str.lower),
        "ToTitle": ((str,), _title),
        "TrimSpace": ((str,), str.strip),
        "Trim": ((str, str), str.strip),
        "TrimLeft": ((str, str), str.lstrip),
        "TrimRight": ((str, str), str.rstrip),
        "TrimPrefix": ((str, str), str.removeprefix),
        "TrimSuffix": ((str, str), str.removesuffix),
        "HasPrefix": ((str, str), str.startswith),
        "HasSuffix": ((str, str), str.endswith),
        "Contains": ((str, str), str.__contains__),
        "Replace": ((str, str, str, int), _replace),
        "Repeat": ((str, int), _repeat),
        "Split": ((str, str), _split),
        "Fields": ((str,), str.split),
        "Join": ((list, str), lambda items, separator: separator.join(items)),
    },
    "regexp": {
        "Match": ((str, str), lambda pattern, text: compile_regex(pattern).search(text) is not None),
    },
}

#: Standard packages that exist in CUE and are left out.
UNSUPPORTED_PACKAGES = frozenset(
    [
        "crypto/ed25519",
        "crypto/hmac",
        "crypto/md5",
        "crypto/sha1",
        "crypto/sha256",
        "crypto/sha512",
        "encoding/base64",
        "encoding/csv",
        "encoding/hex",
        "encoding/json",
        "encoding/openapi",
        "encoding/toml",
        "encoding/yaml",
        "html",
        "list",
        "math",
        "math/bits",
        "net",
        "path",
        "strconv",
        "struct",
        "text/tabwriter",
        "text/template",
        "time",
        "tool",
        "tool/cli",
        "tool/exec",
        "tool/file",
        "tool/http",
        "tool/os",
        "uuid",
    ]
)


class Builtins(Expressions):
    """Calls of builtin functions."""

    def call(self, expr: ast.Call, env: Env) -> Value:
        function = expr.function
        if isinstance(function, ast.Ident) and function.kind is RefKind.BUILTIN and function.key not in TYPES:
            return self._builtin(function.key, expr, env)
        if (
            isinstance(function, ast.Selector)
            and isinstance(function.operand, ast.Ident)
            and function.operand.kind is RefKind.IMPORT
            and function.operand.key in FUNCTIONS
        ):
            return self._package_function(function.operand.key, function.key, expr, env)
        value = self.evaluate(function, env)
        message = f"cannot call non-function {self.describe(value)}"
        raise CueError(message, [expr.pos], reason=Reason.OPERAND)

    def _arity(self, name: str, expr: ast.Call, wanted: int) -> None:
        have = len(expr.arguments)
        if have != wanted:
            few = "not enough" if have < wanted else "too many"
            message = f"{few} arguments in call to {name} (have {have}, want {wanted})"
            raise CueError(message, [expr.pos], reason=Reason.OPERAND)

    def _builtin(self, name: str, expr: ast.Call, env: Env) -> Value:
        self._arity(name, expr, 2 if name in {"div", "mod", "quo", "rem"} else 1)
        first = expr.arguments[0]
        match name:
            case "len":
                return self._length(first, env)
            case "and" | "or":
                return self.read(self.combination(expr, env), expr.pos)
            case _:
                second = expr.arguments[1]
                left, right = (self.concrete(e, env, f"argument to {name}") for e in (first, second))
                return integer_division(name, left, right, (first.pos, second.pos))

    def combination(self, expr: ast.Call, env: Env) -> Vertex:
        """What ``and`` or ``or`` make of the elements of a list, to be included like a reference."""
        assert isinstance(expr.function, ast.Ident)
        name = expr.function.key
        self._arity(name, expr, 1)
        items = self._list_argument(name, expr.arguments[0], env)
        if name == "or" and not items:
            raise CueError("empty list in call to or", [expr.pos], reason=Reason.EVALUATION)
        return self.anonymous(VertexExpr(expr.pos, items, name), Env(None, None))

    def _list_argument(self, name: str, expr: ast.Expr, env: Env) -> list[Vertex]:
        value = self.evaluate(expr, env)
        if not isinstance(value, Vertex) or not value.lists:
            message = f"cannot use {self.describe(value)} as list in argument 1 to {name}"
            incomplete = isinstance(value, Constraint)
            raise CueError(message, [expr.pos], reason=Reason.INCOMPLETE if incomplete else Reason.OPERAND)
        return [arc for _, arc in self.fields(value)]

    def _length(self, expr: ast.Expr, env: Env) -> Value:
        value = self.evaluate(expr, env)
        match value:
            case Vertex():
                return self.length(value)
            case str():
                return len(value.encode())
            case bytes():
                return len(value)
            case Constraint():
                message = f"non-concrete value {value} in argument 1 to len"
                raise CueError(message, [expr.pos], reason=Reason.INCOMPLETE)
            case _:
                message = (
                    f"cannot use {self.describe(value)} as (string|bytes|list|struct) in argument 1 to len"
                )
                raise CueError(message, [expr.pos], reason=Reason.OPERAND)

    # Packages

    def _package_function(self, package: str, name: str, expr: ast.Call, env: Env) -> Value:
        full = f"{package}.{name}"
        known = FUNCTIONS[package].get(name)
        if known is None:
            raise CueError(f"not supported: function {full}", [expr.pos], reason=Reason.UNSUPPORTED)
        kinds, function = known
        self._arity(full, expr, len(kinds))
        arguments = [
            self._argument(full, number, kind, argument, env)
            for number, (kind, argument) in enumerate(zip(kinds, expr.arguments, strict=True), 1)
        ]
        try:
            result = function(*arguments)
        except CueError as error:
            raise CueError(error.message, [expr.pos], reason=error.reason) from None
        except ValueError as error:
            message = f"error in call to {full}: {error}"
            raise CueError(message, [expr.pos], reason=Reason.EVALUATION) from None
        if isinstance(result, list):
            vertices = [self.anonymous(ast.Literal(expr.pos, item), env) for item in result]
            return self.list_of(vertices, expr.pos)
        return result

    def _argument(
        self, full: str, number: int, kind: type, expr: ast.Expr, env: Env
    ) -> Scalar | list[Scalar]:
        if kind is list:
            items = [self.read(v, expr.pos) for v in self._list_argument(full, expr, env)]
            return [self._checked(full, number, str, item, expr.pos) for item in items]
        return self._checked(
            full, number, kind, self.concrete(expr, env, f"argument {number} to {full}"), expr.pos
        )

    def _checked(self, full: str, number: int, kind: type, value: Value, pos: Position) -> Scalar:
        if type(value) is kind:
            return value  # type: ignore[return-value]
        if isinstance(value, Constraint):
            message = f"non-concrete value {value} in argument {number} to {full}"
            raise CueError(message, [pos], reason=Reason.INCOMPLETE)
        wanted = {str: "string", int: "int"}.get(kind, "list")
        if value is None or isinstance(value, bool | int | Decimal | str | bytes):
            text = f"{format_scalar(value)} (type {kind_name(kind_of(value))})"
        else:
            text = self.describe(value)
        message = f"cannot use {text} as {wanted} in argument {number} to {full}"
        raise CueError(message, [pos], reason=Reason.OPERAND)
