"""The reward as nodes of ComfyUI.

nodes: what each node takes, gives and does, once.  v3: the same for ComfyUI's current node API.  classic: for the one
before.  pack: the folder for `custom_nodes` that `pamela comfyui` writes.
"""
