"""Checks of pyramids: metadata against the specification, voxels against metadata, and explanations of levels."""
