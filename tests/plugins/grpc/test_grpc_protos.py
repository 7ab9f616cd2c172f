"""The parser of .proto files against the compiler's own descriptors, and where its errors point."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from twisted_rr.plugins.grpc.protos.descriptors import Descriptors
from twisted_rr.plugins.grpc.protos.files import ProtoError, expand, load

EVERYTHING = """
// a comment
syntax = "proto3"; /* another */
package a.b;
import public "other.proto";
import "google/protobuf/timestamp.proto";
import "google/protobuf/empty.proto";
option java_package = "x.y";
option go_package = "example.org/x;y";
option optimize_for = CODE_SIZE;
option deprecated = true;
message Outer {
  reserved 2, 15, 9 to 11;
  reserved "foo", "bar";
  option deprecated = true;
  enum Kind { option allow_alias = true; NONE = 0; ONE = 1; UNO = 1 [deprecated = true]; reserved 7 to max; }
  message Inner { int32 value = 1; Kind kind = 2; .a.b.Outer up = 3; message Deep {} }
  string name = 1;
  repeated int32 numbers = 3 [packed = false];
  Inner inner = 4;
  oneof choice { string text = 5; Inner.Deep deep = 6; }
  optional bool sure = 7;
  map<string, Inner> by_name = 8;
  map<int64, double> simple_map = 12;
  google.protobuf.Timestamp at = 13 [json_name = "When"];
  other.Thing thing = 14;
  bytes raw_data = 0x10;
  Outer message = 021;
  repeated .a.b.Outer others = 19;
  optional .a.b.Outer.Inner another = 20;
  optional Kind option = 18 [deprecated = true];
}
enum Top { ZERO = 0; MINUS = -1; }
service Svc {
  option deprecated = true;
  rpc One(Outer) returns (Outer.Inner);
  rpc Two(stream Outer) returns (google.protobuf.Empty) { option idempotency_level = NO_SIDE_EFFECTS; }
  rpc Three(Outer) returns (stream other.Thing) {};
  rpc Four(stream .a.b.Outer) returns (stream Outer);
}
"""

OTHER = """
syntax = "proto2";
package other;
message Thing {
  required string name = 1 [default = "a\\tb\\"c"];
  optional int32 number = 2 [default = -5];
  optional bytes raw = 3 [default = "\\001x"];
  optional bool yes = 4 [default = true];
  optional double ratio = 5 [default = 1.5];
  optional double large = 9 [default = 9.2e4];
  optional Color color = 6 [default = RED];
  repeated group Result = 7 { required string url = 8; }
  extensions 100 to 199, 500 to max;
  extend Thing { optional int32 nested_ext = 150; }
}
enum Color { RED = 1; GREEN = 2; }
extend Thing { optional string ext = 126; }
"""


def written(folder: Path, **files: str) -> None:
    for name, text in files.items():
        (folder / f"{name}.proto").write_text(text)


def compiled(folder: Path, *names: str) -> Any:
    """The files as protoc understands them."""
    import grpc_tools
    from google.protobuf import descriptor_pb2
    from grpc_tools import protoc

    own = Path(grpc_tools.__file__).parent / "_proto"
    out = folder / "set"
    assert protoc.main(["protoc", f"-I{folder}", f"-I{own}", f"--descriptor_set_out={out}",
                        "--include_imports", *names]) == 0  # fmt: skip
    found = descriptor_pb2.FileDescriptorSet.FromString(out.read_bytes())
    return {file.name: file for file in found.file}


def with_json_names(message: Any) -> None:
    """protoc leaves them out where they follow from the name."""
    for field in message.field:
        if not field.HasField("json_name"):
            first, *others = field.name.split("_")
            field.json_name = first + "".join(word[:1].upper() + word[1:] for word in others)
    for inner in message.nested_type:
        with_json_names(inner)


def test_descriptors_are_those_of_the_compiler(tmp_path: Path) -> None:
    from google.protobuf import descriptor_pb2

    written(tmp_path, everything=EVERYTHING, other=OTHER)
    expected = compiled(tmp_path, "everything.proto")
    found = Descriptors(load([str(tmp_path / "everything.proto")]).files)
    assert found.dropped == []
    for name in ("everything.proto", "other.proto"):
        ours = descriptor_pb2.FileDescriptorProto.FromString(found.files[name])
        theirs = expected[name]
        for file in (ours, theirs):
            for message in file.message_type:
                with_json_names(message)
            for field in [
                *file.extension,
                *(one for message in file.message_type for one in message.extension),
            ]:
                field.ClearField("json_name")
            for method in [one for service in file.service for one in service.method]:
                if not method.options.ByteSize():
                    method.ClearField("options")
        assert str(ours) == str(theirs)


def test_the_compilers_own_files_are_understood() -> None:
    import grpc_tools
    from google.protobuf import descriptor_pb2, descriptor_pool

    folder = Path(grpc_tools.__file__).parent / "_proto" / "google" / "protobuf"
    for path in ("descriptor.proto", "struct.proto", "type.proto", "api.proto"):
        protos = load([str(folder / path)])
        pool = descriptor_pool.DescriptorPool()
        found = Descriptors(protos.files)
        todo, done = list(found.files), set()
        while todo:
            name = todo.pop(0)
            if done.issuperset(found.imports[name]):
                done.add(name)
                pool.Add(descriptor_pb2.FileDescriptorProto.FromString(found.files[name]))
            else:
                todo.append(name)
        assert pool.FindFileByName(path if path in found.files else f"google/protobuf/{path}")


def test_services_and_kinds_of_methods_are_found(tmp_path: Path) -> None:
    written(tmp_path, everything=EVERYTHING, other=OTHER)
    protos = load([str(tmp_path / "everything.proto")])
    kinds = {
        path: (method.client_streaming, method.server_streaming) for path, method in protos.methods.items()
    }
    assert kinds == {
        b"/a.b.Svc/One": (False, False), b"/a.b.Svc/Two": (True, False),
        b"/a.b.Svc/Three": (False, True), b"/a.b.Svc/Four": (True, True),
    }  # fmt: skip


def test_a_service_without_a_package_has_its_plain_name(tmp_path: Path) -> None:
    written(tmp_path, plain="message M {} service S { rpc R(M) returns (M); }")
    assert list(load([str(tmp_path / "plain.proto")]).methods) == [b"/S/R"]


@pytest.mark.parametrize(
    ("source", "where", "why"),
    [
        ('syntax = "proto4";', "1:10", "neither proto2 nor proto3"),
        ("message {", "1:9", "the message's name"),
        ("message M {\n  int32 x = 0;\n}", "2:13", "a field's number from 1 to"),
        ("message M {\n  int32 x 1;\n}", "2:11", "expected '='"),
        ("message M {\n\n", "1:11", "'{' without '}'"),
        ("service S {\n  rpc A(M) returns M;\n}", "2:20", "expected '('"),
        ("service S {\n rpc A(M) returns (M);\n rpc A(M) returns (M);\n}", "3:6", "two methods A"),
        ("/* never", "1:1", "a comment without an end"),
        ('option a = "x', "1:12", "a text without an end"),
        ("message M { int32 x = 1; } }", "1:28", "expected message, enum, service"),
        ("enum E { A = x; }", "1:14", "expected a number"),
        ("message A {" * 70, "1:", "nested deeper"),
        ("message M { \u20ac }", "1:13", "unexpected character"),
    ],
)
def test_a_mistake_is_told_with_file_line_and_column(
    tmp_path: Path, source: str, where: str, why: str
) -> None:
    written(tmp_path, bad=source)
    path = str(tmp_path / "bad.proto")
    with pytest.raises(ProtoError) as caught:
        load([path])
    assert str(caught.value).startswith(f"{path}:{where}")
    assert why in str(caught.value)


def test_what_is_not_there_is_told() -> None:
    with pytest.raises(ProtoError, match="no such file"):
        load(["/no/such.proto"])
    with pytest.raises(ProtoError, match="no file matches"):
        load(["/no/*.proto"])


def test_a_file_that_is_not_utf8_is_told(tmp_path: Path) -> None:
    (tmp_path / "x.proto").write_bytes(b"// \xff")
    with pytest.raises(ProtoError, match="not UTF-8 at byte 3"):
        load([str(tmp_path / "x.proto")])


def service(name: str, *imports: str) -> str:
    lines = "".join(f'import "{path}";\n' for path in imports)
    return f'syntax = "proto3";\n{lines}message {name}M {{}} service {name} {{ rpc R({name}M) returns ({name}M); }}'


def test_patterns_with_braces_and_two_asterisks(tmp_path: Path) -> None:
    (tmp_path / "x" / "y").mkdir(parents=True)
    written(tmp_path / "x", a=service("A"))
    written(tmp_path / "x" / "y", b=service("B"), c=service("C"))
    assert set(load([f"{tmp_path}/**/*.proto"]).services) == {"A", "B", "C"}
    assert set(load([f"{tmp_path}/x/y/{{b,c}}.proto"]).services) == {"B", "C"}
    assert set(load([f"{tmp_path}/x/*.proto", f"{tmp_path}/x/a.proto"]).services) == {"A"}


def test_braces_may_nest_and_have_an_end() -> None:
    assert sorted(expand("{a,b{1,2}}.c")) == ["a.c", "b1.c", "b2.c"]
    with pytest.raises(ProtoError, match="1000 patterns"):
        expand("{a,b}" * 12)


def test_imports_are_followed_and_their_services_served(tmp_path: Path) -> None:
    (tmp_path / "lib").mkdir()
    written(tmp_path, main=service("Main", "lib/one.proto"))
    written(tmp_path / "lib", one=service("One", "lib/two.proto"), two=service("Two", "main.proto"))
    protos = load([str(tmp_path / "main.proto")])
    assert set(protos.services) == {"Main", "One", "Two"}
    assert {file.name for file in protos.files} == {"main.proto", "lib/one.proto", "lib/two.proto"}


def test_imports_are_looked_for_above_the_file_too(tmp_path: Path) -> None:
    (tmp_path / "api" / "v1").mkdir(parents=True)
    written(tmp_path / "api" / "v1", svc=service("Svc", "api/v1/types.proto"), types="message T {}")
    protos = load([str(tmp_path / "api" / "v1" / "svc.proto")])
    assert [file.name for file in protos.files] == ["api/v1/svc.proto", "api/v1/types.proto"]


def test_an_import_that_cannot_be_used_is_skipped_and_told(tmp_path: Path) -> None:
    written(tmp_path, main=service("Main", "bad.proto", "missing.proto"), bad="message {")
    protos = load([str(tmp_path / "main.proto")])
    assert set(protos.services) == {"Main"}
    assert len(protos.missing) == 2


def test_what_refers_to_a_missing_type_is_left_out_of_reflection(tmp_path: Path) -> None:
    text = 'syntax = "proto3"; import "gone.proto"; message M { gone.T t = 1; int32 x = 2; }'
    text += "service S { rpc A(M) returns (M); rpc B(gone.T) returns (M); }"
    written(tmp_path, main=text)
    protos = load([str(tmp_path / "main.proto")])
    found = Descriptors(protos.files)
    assert len(found.dropped) == 2
    assert set(protos.methods) == {b"/S/A", b"/S/B"}


def test_a_map_and_a_oneof_of_nothing_but_a_missing_type_spoil_no_file(tmp_path: Path) -> None:
    """A file with an entry that has no value, or a oneof without a field, is refused by those who read it."""
    from google.protobuf import descriptor_pb2, descriptor_pool

    source = (
        'syntax = "proto3"; message A { map<string, Gone> m = 1; oneof empty { Gone gone = 2; } '
        "oneof kept { Gone other = 3; string text = 4; } optional int32 last = 5; }"
    )
    written(tmp_path, a=source)
    found = Descriptors(load([str(tmp_path / "a.proto")]).files)
    assert len(found.dropped) == 3
    pool = descriptor_pool.DescriptorPool()
    pool.Add(descriptor_pb2.FileDescriptorProto.FromString(found.files["a.proto"]))
    message = pool.FindMessageTypeByName("A")
    assert [field.name for field in message.fields] == ["text", "last"]
    assert [(one.name, [field.name for field in one.fields]) for one in message.oneofs] == [
        ("kept", ["text"]), ("_last", ["last"]),
    ]  # fmt: skip


def test_a_byte_order_mark_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "a.proto").write_bytes(
        b'\xef\xbb\xbfsyntax = "proto3"; message A {} service S { rpc R(A) returns (A); }'
    )
    assert list(load([str(tmp_path / "a.proto")]).services) == ["S"]


def test_visibility_of_edition_2024_is_read(tmp_path: Path) -> None:
    written(
        tmp_path,
        a='edition = "2024"; export message A { local enum E { Z = 0; } export message B {} export local = 1; '
        "local message = 2; } local message export {} message local {} service S { rpc R(A) returns (A); }",
    )
    found = Descriptors(load([str(tmp_path / "a.proto")]).files)
    assert found.dropped == [] and {"A", "A.E", "A.B", "A.local", "A.message", "export"} <= set(found.symbols)


def test_extensions_of_a_message_set_may_have_any_number(tmp_path: Path) -> None:
    written(
        tmp_path,
        a="message Set { option message_set_wire_format = true; extensions 4 to max; } "
        "message A {} extend Set { optional A a = 536870912; }",
    )
    assert Descriptors(load([str(tmp_path / "a.proto")]).files).extensions == {("Set", 536870912): "a.proto"}


def test_an_optional_extension_of_proto3_is_as_the_compiler_writes_it(tmp_path: Path) -> None:
    from google.protobuf import descriptor_pb2

    written(
        tmp_path,
        other=OTHER,
        a='syntax = "proto3"; import "other.proto"; extend other.Thing { optional int32 x = 127; }',
    )
    found = Descriptors(load([str(tmp_path / "a.proto")]).files)
    assert descriptor_pb2.FileDescriptorProto.FromString(found.files["a.proto"]).extension[0].proto3_optional


def test_a_service_twice_is_a_mistake(tmp_path: Path) -> None:
    written(tmp_path, a=service("S"), b=service("S"))
    with pytest.raises(ProtoError, match=r"b\.proto: service S is declared in .*a\.proto too"):
        load([f"{tmp_path}/*.proto"])


def test_the_digest_changes_with_what_was_read(tmp_path: Path) -> None:
    written(tmp_path, a=service("S"))
    before = load([f"{tmp_path}/a.proto"]).digest
    assert load([f"{tmp_path}/a.proto"]).digest == before
    written(tmp_path, a=service("T"))
    assert load([f"{tmp_path}/a.proto"]).digest != before


def test_a_link_that_moves_to_the_same_files_changes_no_digest(tmp_path: Path) -> None:
    for release in ("1", "2"):
        (tmp_path / release).mkdir()
        written(tmp_path / release, a=service("S") + 'import "b.proto";', b=service("T"))
    current = tmp_path / "current"
    current.symlink_to("1")
    before = load(["a.proto"], str(current)).digest
    current.unlink()
    current.symlink_to("2")
    assert load(["a.proto"], str(current)).digest == before
    written(tmp_path / "2", b=service("U"))
    assert load(["a.proto"], str(current)).digest != before


def test_relative_patterns_begin_in_the_folder_whatever_its_name(tmp_path: Path) -> None:
    folder = tmp_path / "[a]{b,c}*"
    folder.mkdir()
    written(folder, x=service("S"))
    assert load(["*.proto"], str(folder)).services["S"].path == f"{folder}/x.proto"
    with pytest.raises(ProtoError) as caught:
        load(["y.proto"], str(folder))
    assert str(caught.value).startswith(f"{folder}/y.proto: no such file")


def test_editions_are_read(tmp_path: Path) -> None:
    written(
        tmp_path, e='edition = "2023"; option features.field_presence = IMPLICIT; message M { int32 x = 1; }'
    )
    found = load([f"{tmp_path}/e.proto"]).files[0].file
    assert (found.syntax, found.edition) == ("editions", "2023")


def test_custom_options_are_skipped(tmp_path: Path) -> None:
    text = """
    syntax = "proto3";
    option (my.file).deep = { a: [1, 2] b { c: "}" } d <e: 1> };
    message M { string x = 1 [(my.field) = { y: 1 }, deprecated = true, (z) = "a" "b"]; }
    service S { rpc A(M) returns (M) { option (google.api.http) = { get: "/v1/{x}" body: "*" }; } }
    """
    written(tmp_path, c=text)
    assert list(load([f"{tmp_path}/c.proto"]).methods) == [b"/S/A"]


def test_relative_patterns_are_of_the_working_directory(tmp_path: Path, monkeypatch: Any) -> None:
    written(tmp_path, a=service("S"))
    monkeypatch.chdir(tmp_path)
    assert set(load(["a.proto"]).services) == {"S"}
    assert os.getcwd() == str(tmp_path)
