"""A package, so that no other distribution's `tests` stands in front of it; its folders are none."""
