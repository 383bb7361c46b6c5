"""Bicep files as the tests see them: parameters, resources, modules, outputs, references.

Reads the syntax tree of tree-sitter; what Azure makes of it is not known here.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import tree_sitter
import tree_sitter_bicep
from tree_sitter import Node

ROOT = Path(__file__).resolve().parents[2]
INFRA = ROOT / "infra"
FILES = sorted(INFRA.rglob("*.bicep"))


@dataclass(frozen=True)
class Param:
    name: str
    type: str
    default: str | None
    description: str
    allowed: tuple[str, ...]

    @property
    def required(self) -> bool:
        return self.default is None and not self.type.endswith("?")


@dataclass(frozen=True)
class Block:
    """A resource or a module: `source` is type@version or the module's address."""

    symbol: str
    source: str
    body: Node
    properties: dict[str, Node] = field(default_factory=dict)

    @property
    def params(self) -> dict[str, str]:
        node = self.properties.get("params")
        return {name: text(value) for name, value in entries(node).items()} if node else {}


class BicepFile:
    """One file, parsed once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.source = path.read_bytes()

    @cached_property
    def root(self) -> Node:
        parser = tree_sitter.Parser(tree_sitter.Language(tree_sitter_bicep.language()))
        return parser.parse(self.source).root_node

    @cached_property
    def params(self) -> dict[str, Param]:
        found = {}
        decorators: list[Node] = []
        for node in self.root.named_children:
            if node.type == "decorators":
                decorators = node.named_children
                continue
            if node.type == "parameter_declaration":
                name, kind, *default = node.named_children
                found[text(name)] = Param(
                    text(name),
                    text(kind),
                    text(default[0]) if default else None,
                    next(iter(_arguments(decorators, "description")), ""),
                    tuple(_arguments(decorators, "allowed")),
                )
            decorators = []
        return found

    @cached_property
    def modules(self) -> dict[str, Block]:
        return self._blocks("module_declaration")

    @cached_property
    def resources(self) -> dict[str, Block]:
        return self._blocks("resource_declaration")

    @cached_property
    def outputs(self) -> set[str]:
        return {
            text(node.named_children[0])
            for node in self.root.named_children
            if node.type == "output_declaration"
        }

    @cached_property
    def variables(self) -> dict[str, Node]:
        return {
            text(node.named_children[0]): node.named_children[-1]
            for node in self.root.named_children
            if node.type == "variable_declaration"
        }

    def _blocks(self, kind: str) -> dict[str, Block]:
        found = {}
        for node in self.root.named_children:
            if node.type != kind:
                continue
            symbol, source = node.named_children[:2]
            body = next(item for item in walk(node) if item.type == "object")
            found[text(symbol)] = Block(
                text(symbol),
                string(source),
                body,
                entries(body),
            )
        return found


def walk(node: Node) -> Iterator[Node]:
    """Yield the node and all below it, in the order of the text."""
    yield node
    for child in node.children:
        yield from walk(child)


def text(node: Node) -> str:
    return (node.text or b"").decode()


def string(node: Node) -> str:
    """Return what a string literal says."""
    return text(node).strip("'")


def entries(node: Node) -> dict[str, Node]:
    """Return the properties of an object literal."""
    return {
        string(item.named_children[0]): item.named_children[-1]
        for item in node.named_children
        if item.type == "object_property"
    }


def strings(node: Node) -> list[str]:
    """Return every string literal below a node."""
    return [string(item) for item in walk(node) if item.type == "string"]


def _arguments(decorators: list[Node], name: str) -> list[str]:
    return [
        value.replace("\\'", "'")
        for decorator in decorators
        if text(decorator).startswith((f"@{name}(", f"{name}("))
        for value in strings(decorator)
    ]


def read(name: str) -> BicepFile:
    return BicepFile(INFRA / name)
