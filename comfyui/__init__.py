"""ComfyUI loads this folder from its `custom_nodes` and reads the two tables below."""

from .nodes import LoadGCFSR, RestoreFaces, SweepFace

NODE_CLASS_MAPPINGS = {
    "GCFSRLoadCheckpoint": LoadGCFSR,
    "GCFSRRestoreFaces": RestoreFaces,
    "GCFSRSweep": SweepFace,
}
NODE_DISPLAY_NAME_MAPPINGS = {
    "GCFSRLoadCheckpoint": "Load GCFSR checkpoint",
    "GCFSRRestoreFaces": "Restore faces (GCFSR)",
    "GCFSRSweep": "Sweep the detail of a face (GCFSR)",
}

__all__ = ["NODE_CLASS_MAPPINGS", "NODE_DISPLAY_NAME_MAPPINGS"]
