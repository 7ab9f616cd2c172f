"""The user's own checks: run in the background, their last results kept, never on the way of an answer."""
