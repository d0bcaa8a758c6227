"""The paper's tables and figures from checkpoints, logs and faces, one module each."""
