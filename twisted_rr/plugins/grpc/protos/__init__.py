"""Files in the protocol buffers language: `tokens`, `syntax` and `parser` read one, `files` finds all, `descriptors` encodes them.

Options are read for what they mean to a descriptor; those of the user's own are skipped.
"""
