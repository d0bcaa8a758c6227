"""Whole photographs and videos: find faces, align, paste back, follow them through frames."""
