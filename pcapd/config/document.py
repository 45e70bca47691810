"""Parses YAML to plain values; all errors of PyYAML become problems.  Pure."""

from __future__ import annotations

from typing import Any, Dict, List, Optional, Tuple

import yaml

from pcapd.config.checks import kind

__all__ = ["read_document"]

# Exceptions that PyYAML's constructors raise for text such as `!!bool x`, `!!int ''` or
# 1:1:1(:1)*.5 (a float of base 60), and its composer for deep nesting.
_NOT_YAML = (ValueError, LookupError, AttributeError, ArithmeticError, TypeError, RecursionError)


def read_document(data: bytes) -> Tuple[Optional[Dict[object, object]], List[str]]:
    """Parse YAML text; returns its mapping and its problems.

    The mapping is None if the text does not contain one.  A key that appears twice in a mapping
    is a problem too; PyYAML would silently use the last one.

    Args:
        data: The text, UTF-8 or UTF-16; at most `limits.CONFIG_MAX` bytes.
    """
    try:
        loader = _UniqueKeyLoader(data)
        values = loader.get_single_data()
    except yaml.MarkedYAMLError as error:
        return None, [_marked(error)]
    except yaml.YAMLError as error:
        # From PyYAML's reader: the text is not UTF-8, or contains a control character.  The message
        # has several lines, and the last one names an input that does not exist.
        return None, [f"not YAML: {str(error).splitlines()[0]}"]
    except _NOT_YAML as error:
        return None, [f"not YAML with plain values ({type(error).__name__})"]
    if not isinstance(values, dict):
        return None, [f"the file must be a mapping of keys, not {kind(values)}"]
    return values, loader.problems


def _marked(error: yaml.MarkedYAMLError) -> str:
    # Not str(error), which quotes the line: the line may contain a secret.
    mark = error.problem_mark or error.context_mark
    return f"{_line(mark)}not YAML: {error.problem or error.context}"


def _line(mark: Optional[yaml.Mark]) -> str:
    return f"line {mark.line + 1}: " if mark else ""


class _UniqueKeyLoader(yaml.SafeLoader):
    """SafeLoader that notes keys which appear twice in one mapping."""

    def __init__(self, data: bytes) -> None:
        self.problems: List[str] = []
        super().__init__(data)

    # Checked while composing, before constructing: in between, merge keys (<<) add keys to the
    # nodes of other mappings, and to override a merged key is allowed.
    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node: yaml.MappingNode = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            if key.value in seen:
                self.problems.append(f"{_line(key.start_mark)}the key {key.value[:64]} appears twice")
            seen.add(key.value)
        return node
