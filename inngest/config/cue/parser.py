"""Recursive-descent parser; grammar of the CUE specification, without the parts the package leaves out."""

from __future__ import annotations

import functools
from collections.abc import Callable

from inngest.config.cue import ast
from inngest.config.cue.ast import Presence
from inngest.config.cue.errors import CueError, Position, Reason
from inngest.config.cue.lexer import Lexer, StringParts, Token

TransformString = Callable[[str, Position], str]

_PRECEDENCE = {
    "&": 2, "||": 3, "&&": 4,
    "==": 5, "!=": 5, "<": 5, "<=": 5, ">": 5, ">=": 5, "=~": 5, "!~": 5,
    "+": 6, "-": 6, "*": 7, "/": 7, "div": 7, "mod": 7, "quo": 7, "rem": 7,
}  # fmt: skip
_BOUNDS = frozenset({"<", "<=", ">", ">=", "!=", "=~", "!~"})
_LABEL_KINDS = frozenset({"ident", "keyword", "string"})
_CONSTANTS: dict[str, bool | None] = {"true": True, "false": False, "null": None}


def parse(
    source: str, filename: str = "config.cue", *, transform_string: TransformString | None = None
) -> ast.File:
    """Parse one file.

    ``transform_string`` is applied to the decoded text of every string literal that is a value (to each
    fragment of an interpolated one), never to labels, import paths or bytes. Raises ``CueError`` with the
    place of the first problem.
    """
    try:
        return Parser(Lexer(source, filename).tokens(), transform_string).file(filename)
    except RecursionError:
        raise CueError("nested too deeply", [Position(filename, 1, 1)], reason=Reason.SYNTAX) from None


class Parser:
    """Parses the tokens of a file, or of one interpolated expression."""

    def __init__(self, tokens: list[Token], transform_string: TransformString | None) -> None:
        self._tokens = tokens
        self._at = 0
        self._transform = transform_string

    # Tokens

    @property
    def _token(self) -> Token:
        return self._tokens[self._at]

    def _peek(self, ahead: int = 1) -> Token:
        return self._tokens[min(self._at + ahead, len(self._tokens) - 1)]

    def _next(self) -> Token:
        token = self._tokens[self._at]
        if token.kind != "eof":
            self._at += 1
        return token

    def _accept(self, kind: str) -> Token | None:
        return self._next() if self._token.kind == kind else None

    def _expect(self, kind: str, where: str = "") -> Token:
        if self._token.kind != kind:
            raise self._fail(f"expected {kind!r}{where}, found {self._found()}")
        return self._next()

    def _found(self) -> str:
        token = self._token
        if token.automatic:
            return "newline"
        return "end of file" if token.kind == "eof" else repr(token.text)

    @staticmethod
    def _error(message: str, pos: Position, reason: Reason = Reason.SYNTAX) -> CueError:
        return CueError(message, [pos], reason=reason)

    def _fail(self, message: str) -> CueError:
        return self._error(message, self._token.pos)

    # Files

    def file(self, filename: str) -> ast.File:
        start = self._token.pos
        while self._token.kind == "attribute":
            self._next()
            self._separator("eof", "file")
        package = None
        if self._is_word("package") and self._peek().kind == "ident":
            self._next()
            package = self._next().text
            self._separator("eof", "package clause")
        imports: list[ast.Import] = []
        while self._is_word("import"):
            self._next()
            if self._accept("("):
                while not self._accept(")"):
                    imports.append(self._import())
                    self._separator(")", "import clause")
            else:
                imports.append(self._import())
            self._separator("eof", "import clause")
        declarations = self._declarations("eof")
        return ast.File(filename, package, imports, ast.StructLit(start, declarations))

    def _is_word(self, word: str) -> bool:
        return self._token.kind == "ident" and self._token.text == word

    def _import(self) -> ast.Import:
        name = self._next().text if self._token.kind == "ident" else None
        if self._token.kind != "string":
            raise self._fail(f"expected an import path, found {self._found()}")
        token = self._next()
        path = self._plain_text(token)
        if path is None or not path:
            raise self._error("invalid import path", token.pos)
        if name is None:
            name = path.rpartition(":")[2].rpartition("/")[2]
        return ast.Import(token.pos, path, name)

    def _separator(self, closing: str, what: str) -> None:
        if self._token.kind != closing and not self._accept(","):
            raise self._fail(f"missing ',' in {what}, found {self._found()}")

    # Declarations

    def _struct(self) -> ast.StructLit:
        pos = self._expect("{").pos
        declarations = self._declarations("}")
        self._expect("}")
        return ast.StructLit(pos, declarations)

    def _declarations(self, closing: str) -> list[ast.Declaration]:
        out: list[ast.Declaration] = []
        while self._token.kind not in {closing, "eof"}:
            if self._token.kind == "attribute":
                self._next()
            else:
                out.append(self._declaration())
            if self._token.kind not in {closing, "eof"} and not self._accept(","):
                raise self._fail(f"missing ',' in struct literal, found {self._found()}")
        return out

    def _declaration(self) -> ast.Declaration:
        token = self._token
        if token.kind == "...":
            self._next()
            return ast.OpenMark(token.pos)
        if self._starts_field():
            return self._field()
        if token.kind == "keyword":
            if token.text == "let":
                self._next()
                name = self._expect("ident", " after let").text
                self._expect("=", " in let clause")
                return ast.Let(token.pos, name, self.expression())
            if token.text in {"for", "if"}:
                return self._comprehension()
        if token.kind == "ident" and self._peek().kind in {"ident", "string"}:
            raise self._error(f"expected ':' after label {token.text}", self._peek().pos)
        return ast.Embedding(token.pos, self.expression())

    def _starts_field(self) -> bool:
        """Whether a label starts here: decided by what follows it."""
        token, following = self._token, self._peek().kind
        if token.kind in _LABEL_KINDS:
            if following == "=":
                return token.kind == "ident"
            return following == ":" or (
                following in {"?", "!"} and (self._peek(2).kind == ":" or following == "?")
            )
        if token.kind in {"[", "("}:
            return self._tokens[self._matching(self._at) + 1].kind in {":", "?", "!"}
        return False

    def _matching(self, at: int) -> int:
        """Index of the bracket that closes the one at ``at`` (the last token but one if none does)."""
        depth = 0
        for index in range(at, len(self._tokens) - 1):
            kind = self._tokens[index].kind
            depth += (kind in {"(", "[", "{"}) - (kind in {")", "]", "}"})
            if depth == 0:
                return index
        return len(self._tokens) - 2

    def _field(self) -> ast.Declaration:
        pos = self._token.pos
        alias = None
        if self._token.kind == "ident" and self._peek().kind == "=":
            alias = self._next().text
            self._next()
            if not self._starts_field():
                raise self._fail(f"expected a label after alias {alias}=, found {self._found()}")
        label = self._token
        if label.kind == "[":
            return self._pattern(alias)
        if label.kind == "(" or self._is_interpolated(label):
            if alias is not None:
                raise self._error("not supported: alias of a dynamic field", pos, Reason.UNSUPPORTED)
            expr: ast.Expr = self._primary(is_label=True)
            presence = self._presence()
            return ast.DynamicField(label.pos, expr, presence, self._field_value())
        self._next()
        name: str | None = None
        if label.kind == "string":
            text = self._plain_text(label)
            assert text is not None
            key = ast.quoted_key(text, label.pos)
        else:
            name = label.text
            if name == "_":
                raise self._error("'_' is not a label", label.pos)
            key = ast.hidden_key(name) if name.startswith(("_", "#")) else name
        presence = self._presence()
        return ast.Field(label.pos, key, name, presence, self._field_value(), alias)

    def _pattern(self, alias: str | None) -> ast.PatternField:
        if alias is not None:
            raise self._error(
                "not supported: alias before a pattern; write [X=pattern]",
                self._token.pos,
                Reason.UNSUPPORTED,
            )
        pos = self._expect("[").pos
        name = None
        if self._token.kind == "ident" and self._peek().kind == "=":
            name = self._next().text
            self._next()
        pattern = self.expression()
        self._expect("]")
        if self._token.kind in {"?", "!"}:
            raise self._fail("a pattern takes no constraint mark")
        return ast.PatternField(pos, pattern, name, self._field_value())

    def _is_interpolated(self, token: Token) -> bool:
        value = token.value
        return isinstance(value, StringParts) and len(value.parts) > 1

    @staticmethod
    def _plain_text(token: Token) -> str | None:
        value = token.value
        if not isinstance(value, StringParts) or len(value.parts) != 1:
            return None
        part = value.parts[0]
        return (
            part.decode(errors="replace")
            if isinstance(part, bytes)
            else part
            if isinstance(part, str)
            else None
        )

    def _presence(self) -> Presence:
        if self._accept("?"):
            return Presence.OPTIONAL
        return Presence.REQUIRED if self._accept("!") else Presence.REGULAR

    def _field_value(self) -> ast.Expr:
        """What follows a label: either the value or, in ``a: b: 1``, the next field of a nested struct."""
        pos = self._expect(":").pos
        if self._starts_field() and not self._is_value_alias():
            inner = self._field()
            return ast.StructLit(inner.pos, [inner])
        if self._token.kind == "ident" and self._peek().kind == "=":
            pos = self._token.pos
            name = self._next().text
            self._next()
            value: ast.Expr = ast.ValueAlias(pos, name, self.expression())
        else:
            value = self.expression()
        while self._accept("attribute"):
            pass
        return value

    def _is_value_alias(self) -> bool:
        if self._token.kind != "ident" or self._peek().kind != "=":
            return False
        saved, self._at = self._at, self._at + 2
        try:
            return not self._starts_field()
        finally:
            self._at = saved

    def _comprehension(self) -> ast.Comprehension:
        pos = self._token.pos
        clauses: list[ast.Clause] = []
        while self._token.kind == "keyword" and self._token.text in {"for", "if", "let"}:
            token = self._next()
            if token.text == "if":
                clauses.append(ast.IfClause(token.pos, self.expression()))
            elif token.text == "let":
                name = self._expect("ident", " after let").text
                self._expect("=", " in let clause")
                clauses.append(ast.LetClause(token.pos, name, self.expression()))
            else:
                first: str | None = self._expect("ident", " after for").text
                second = self._expect("ident", " after ','").text if self._accept(",") else None
                if not (self._token.kind == "keyword" and self._token.text == "in"):
                    raise self._fail(f"expected 'in', found {self._found()}")
                self._next()
                if second is None:
                    first, second = None, first
                assert second is not None
                clauses.append(ast.ForClause(token.pos, first, second, self.expression()))
            self._accept(",")
        if self._token.kind != "{":
            raise self._fail(f"expected '{{' after a comprehension's clauses, found {self._found()}")
        return ast.Comprehension(pos, clauses, self._struct())

    # Expressions

    def expression(self) -> ast.Expr:
        """An expression; a disjunction's operators bind least, and only there may ``*`` mark an operand."""
        first = self._disjunct()
        if self._token.kind != "|":
            if first.default:
                raise self._error("preference mark not allowed at this position", first.expr.pos)
            return first.expr
        pos = self._token.pos
        disjuncts = [first]
        while self._accept("|"):
            disjuncts.append(self._disjunct())
        return ast.DisjunctionExpr(pos, disjuncts)

    def _disjunct(self) -> ast.Disjunct:
        default = self._accept("*") is not None
        return ast.Disjunct(self._binary(_PRECEDENCE["&"]), default)

    def _binary(self, floor: int) -> ast.Expr:
        """A binary expression of operators that bind at least as tightly as ``floor``."""
        left = self._unary()
        while True:
            token = self._token
            is_operator = token.kind in {token.text, "ident"}
            precedence = _PRECEDENCE.get(token.text, 0) if is_operator else 0
            if precedence < floor:
                return left
            self._next()
            right = self._binary(precedence + 1)
            if token.text == "&":
                left = ast.Unification(token.pos, left, right)
            else:
                left = ast.Binary(token.pos, token.text, left, right)

    def _unary(self) -> ast.Expr:
        token = self._token
        if token.kind in _BOUNDS:
            self._next()
            return ast.BoundExpr(token.pos, token.kind, self._unary())
        if token.kind in {"+", "-", "!"}:
            self._next()
            return ast.Unary(token.pos, token.kind, self._unary())
        expr = self._primary()
        while True:
            token = self._token
            if token.kind == ".":
                self._next()
                expr = ast.Selector(self._token.pos, expr, self._selector_key())
            elif token.kind == "[":
                self._next()
                expr = self._index(expr, token.pos)
            elif token.kind == "(":
                self._next()
                arguments: list[ast.Expr] = []
                while self._token.kind != ")":
                    arguments.append(self.expression())
                    if self._token.kind != ")":
                        self._separator(")", "argument list")
                self._expect(")")
                expr = ast.Call(expr.pos, expr, arguments)
            else:
                return expr

    def _selector_key(self) -> str:
        token = self._next()
        if token.kind in {"ident", "keyword"}:
            return ast.hidden_key(token.text) if token.text.startswith(("_", "#")) else token.text
        text = self._plain_text(token) if token.kind == "string" else None
        if text is None:
            raise self._error(f"expected a label after '.', found {token.text!r}", token.pos)
        return ast.quoted_key(text, token.pos)

    def _index(self, operand: ast.Expr, pos: Position) -> ast.Expr:
        low = None if self._token.kind == ":" else self.expression()
        if self._accept(":"):
            high = None if self._token.kind == "]" else self.expression()
            self._expect("]")
            return ast.Slice(pos, operand, low, high)
        self._accept(",")
        self._expect("]")
        assert low is not None
        return ast.Index(low.pos, operand, low)

    def _primary(self, *, is_label: bool = False) -> ast.Expr:
        token = self._token
        match token.kind:
            case "number":
                self._next()
                return ast.Literal(token.pos, token.value)  # type: ignore[arg-type]
            case "string":
                self._next()
                return self._string(token, is_label=is_label)
            case "bottom":
                self._next()
                return ast.Bottom(token.pos)
            case "ident":
                self._next()
                return ast.Ident(token.pos, token.text)
            case "keyword" if token.text in _CONSTANTS:
                self._next()
                return ast.Literal(token.pos, _CONSTANTS[token.text])
            case "{":
                return self._struct()
            case "[":
                return self._list()
            case "(":
                self._next()
                expr = self.expression()
                self._expect(")")
                return expr
            case "*":
                raise self._fail("preference mark not allowed at this position")
            case _:
                raise self._fail(f"expected operand, found {self._found()}")

    def _list(self) -> ast.ListLit:
        pos = self._expect("[").pos
        out = ast.ListLit(pos, [])
        while self._token.kind != "]":
            if self._accept("..."):
                out.is_open = True
                if self._token.kind not in {"]", ","}:
                    out.rest = self.expression()
                self._accept(",")
                break
            if self._token.kind == "keyword" and self._token.text in {"for", "if"}:
                out.elements.append(self._comprehension())
            else:
                out.elements.append(self.expression())
            if self._token.kind != "]" and (self._token.automatic or not self._accept(",")):
                raise self._fail(f"missing ',' in list literal, found {self._found()}")
        self._expect("]", " at the end of a list literal")
        return out

    def _string(self, token: Token, *, is_label: bool) -> ast.Expr:
        value = token.value
        assert isinstance(value, StringParts)
        transform = None if is_label or self._transform is None else functools.partial(self._apply, token.pos)
        parts: list[str | bytes | ast.Expr] = []
        for part in value.parts:
            if isinstance(part, list):
                parser = Parser(part, self._transform)
                parts.append(parser.expression())
                parser._expect("eof")
            elif isinstance(part, str) and transform is not None:
                parts.append(transform(part))
            else:
                parts.append(part)
        if len(parts) == 1 and isinstance(parts[0], str | bytes):
            return ast.Literal(token.pos, parts[0])
        return ast.Interpolation(token.pos, parts, value.is_bytes)

    def _apply(self, pos: Position, text: str) -> str:
        assert self._transform is not None
        return self._transform(text, pos)
