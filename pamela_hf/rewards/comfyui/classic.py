"""Nodes for ComfyUI's classic API: classes with `INPUT_TYPES`, and the mapping of them."""

from typing import Any

from .nodes import NODES, Node


def classic_node(node: Node) -> type:
    """The class of a node as `NODE_CLASS_MAPPINGS` holds it."""

    def input_types(cls: type) -> dict[str, Any]:
        found: dict[str, Any] = {"required": {}, "optional": {}}
        for port in node.inputs:
            found["optional" if port.optional else "required"][port.name] = (port.type, dict(port.options))
        return found

    def run(self: Any, **inputs: Any) -> tuple[Any, ...]:
        return node.run(**inputs)

    return type(
        node.id,
        (),
        {
            "__doc__": node.about,
            "INPUT_TYPES": classmethod(input_types),
            "RETURN_TYPES": tuple(port.type for port in node.outputs),
            "RETURN_NAMES": tuple(port.name for port in node.outputs),
            "OUTPUT_IS_LIST": tuple(port.is_list for port in node.outputs),
            "INPUT_IS_LIST": node.takes_lists,
            "FUNCTION": "run",
            "CATEGORY": "pamela",
            "DESCRIPTION": node.about,
            "run": run,
        },
    )


NODE_CLASS_MAPPINGS = {node.id: classic_node(node) for node in NODES}
NODE_DISPLAY_NAME_MAPPINGS = {node.id: node.title for node in NODES}
