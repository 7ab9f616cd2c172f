"""Google's well-known types, which protocol buffers compilers bring along: their fields as the public API has them."""

from __future__ import annotations

from typing import Final

_HEAD: Final = 'syntax = "proto3"; package google.protobuf; '

SOURCES: Final = {
    "google/protobuf/any.proto": _HEAD + "message Any { string type_url = 1; bytes value = 2; }",
    "google/protobuf/duration.proto": _HEAD + "message Duration { int64 seconds = 1; int32 nanos = 2; }",
    "google/protobuf/empty.proto": _HEAD + "message Empty {}",
    "google/protobuf/field_mask.proto": _HEAD + "message FieldMask { repeated string paths = 1; }",
    "google/protobuf/timestamp.proto": _HEAD + "message Timestamp { int64 seconds = 1; int32 nanos = 2; }",
    "google/protobuf/struct.proto": _HEAD
    + """
        message Struct { map<string, Value> fields = 1; }
        message Value {
          oneof kind {
            NullValue null_value = 1;
            double number_value = 2;
            string string_value = 3;
            bool bool_value = 4;
            Struct struct_value = 5;
            ListValue list_value = 6;
          }
        }
        enum NullValue { NULL_VALUE = 0; }
        message ListValue { repeated Value values = 1; }
    """,
    "google/protobuf/wrappers.proto": _HEAD
    + "".join(
        f"message {name}Value {{ {kind} value = 1; }} "
        for name, kind in (
            ("Double", "double"), ("Float", "float"), ("Int64", "int64"), ("UInt64", "uint64"),
            ("Int32", "int32"), ("UInt32", "uint32"), ("Bool", "bool"), ("String", "string"), ("Bytes", "bytes"),
        )
    ),
}  # fmt: skip
"""Path to source. ``descriptor.proto`` is not among them: only options of the user's own need it."""
