"""Nodes for ComfyUI's current (V3) API: `io.ComfyNode` with `define_schema` and `execute`, and `comfy_entrypoint`.

Checked against Comfy-Org/ComfyUI, comfy_api/latest/_io.py and nodes.py (`load_custom_node`) at commit a125cd8. Imported
inside ComfyUI only.
"""

from typing import Any

from comfy_api.latest import ComfyExtension, io

from .nodes import NODES, Node, Port

_OWN = {"STRING": io.String, "INT": io.Int, "FLOAT": io.Float, "IMAGE": io.Image}


def _type(port: Port) -> Any:
    return _OWN.get(port.type) or io.Custom(port.type)


def v3_node(node: Node) -> type:
    """The class of a node."""

    class PamelaNode(io.ComfyNode):
        @classmethod
        def define_schema(cls) -> Any:
            return io.Schema(
                node_id=node.id,
                display_name=node.title,
                category="pamela",
                description=node.about,
                is_input_list=node.takes_lists,
                inputs=[_type(port).Input(port.name, optional=port.optional, **port.options) for port in node.inputs],
                outputs=[
                    _type(port).Output(f"{port.name}_out", display_name=port.name, is_output_list=port.is_list)
                    for port in node.outputs
                ],
            )

        @classmethod
        def execute(cls, **inputs: Any) -> Any:
            return io.NodeOutput(*node.run(**inputs))

    PamelaNode.__name__ = PamelaNode.__qualname__ = node.id
    PamelaNode.__doc__ = node.about
    return PamelaNode


class PamelaExtension(ComfyExtension):
    """All nodes of this pack."""

    async def get_node_list(self) -> list[type]:
        return [v3_node(node) for node in NODES]


async def comfy_entrypoint() -> PamelaExtension:
    """What ComfyUI calls to learn the nodes."""
    return PamelaExtension()
