//! That the protocol says what everything in it means, and that whoever asks the server for it by reflection is told.

use std::collections::{BTreeMap, BTreeSet};

use netmon_proto::FILE_DESCRIPTOR_SET;
use prost::Message as _;
use prost_types::{DescriptorProto, EnumDescriptorProto, FileDescriptorProto, FileDescriptorSet};

/// Numbers of fields in descriptor.proto, of which paths to a declaration are made.
mod number {
    pub(super) const FILE_MESSAGE: i32 = 4;
    pub(super) const FILE_ENUM: i32 = 5;
    pub(super) const FILE_SERVICE: i32 = 6;
    pub(super) const MESSAGE_FIELD: i32 = 2;
    pub(super) const MESSAGE_NESTED: i32 = 3;
    pub(super) const MESSAGE_ENUM: i32 = 4;
    pub(super) const MESSAGE_ONEOF: i32 = 8;
    pub(super) const ENUM_VALUE: i32 = 2;
    pub(super) const SERVICE_METHOD: i32 = 2;
}

/// Everything that a file declares, by its path and with its full name.
#[derive(Default)]
struct Declared(BTreeMap<Vec<i32>, String>);

impl Declared {
    fn of(file: &FileDescriptorProto) -> Self {
        let mut all = Self::default();
        for (place, message) in numbered(&file.message_type) {
            all.message(vec![number::FILE_MESSAGE, place], "", message);
        }
        for (place, the_enum) in numbered(&file.enum_type) {
            all.the_enum(vec![number::FILE_ENUM, place], "", the_enum);
        }
        for (place, service) in numbered(&file.service) {
            let path = vec![number::FILE_SERVICE, place];
            for (place, method) in numbered(&service.method) {
                let name = format!("{}.{}", service.name(), method.name());
                all.0.insert(with(&path, number::SERVICE_METHOD, place), name);
            }
            all.0.insert(path, service.name().to_owned());
        }
        all
    }

    fn message(&mut self, path: Vec<i32>, within: &str, message: &DescriptorProto) {
        let name = format!("{within}{}", message.name());
        let inside = format!("{name}.");
        for (place, field) in numbered(&message.field) {
            self.0.insert(with(&path, number::MESSAGE_FIELD, place), format!("{inside}{}", field.name()));
        }
        for (place, oneof) in numbered(&message.oneof_decl) {
            // `optional` makes a oneof that nobody wrote.
            if !oneof.name().starts_with('_') {
                self.0.insert(with(&path, number::MESSAGE_ONEOF, place), format!("{inside}{}", oneof.name()));
            }
        }
        for (place, nested) in numbered(&message.nested_type) {
            self.message(with(&path, number::MESSAGE_NESTED, place), &inside, nested);
        }
        for (place, the_enum) in numbered(&message.enum_type) {
            self.the_enum(with(&path, number::MESSAGE_ENUM, place), &inside, the_enum);
        }
        self.0.insert(path, name);
    }

    fn the_enum(&mut self, path: Vec<i32>, within: &str, the_enum: &EnumDescriptorProto) {
        let name = format!("{within}{}", the_enum.name());
        for (place, value) in numbered(&the_enum.value) {
            self.0.insert(with(&path, number::ENUM_VALUE, place), format!("{name}.{}", value.name()));
        }
        self.0.insert(path, name);
    }
}

fn numbered<T>(all: &[T]) -> impl Iterator<Item = (i32, &T)> {
    (0..).zip(all)
}

fn with(path: &[i32], field: i32, place: i32) -> Vec<i32> {
    [path, &[field, place]].concat()
}

/// What has no comment of its own before it.
fn silent(file: &FileDescriptorProto) -> Vec<String> {
    let locations = file.source_code_info.as_ref().map_or(&[][..], |info| &info.location);
    let told: BTreeSet<&[i32]> = locations
        .iter()
        .filter(|location| !location.leading_comments().trim().is_empty())
        .map(|location| location.path.as_slice())
        .collect();
    Declared::of(file)
        .0
        .into_iter()
        .filter(|(path, _)| !told.contains(path.as_slice()))
        .map(|(_, name)| format!("{}: {name}", file.name()))
        .collect()
}

#[test]
fn everything_in_the_protocol_says_what_it_means() {
    let files = FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).unwrap().file;
    assert!(files.iter().all(|file| file.package() == "netmon.v1"), "only our own files");
    let declared: BTreeSet<String> =
        files.iter().flat_map(|file| Declared::of(file).0.into_values()).collect();
    for known in [
        "Event",
        "Event.kind",
        "Event.time_us",
        "TableSync.Step.STEP_BEGIN",
        "GapCause.GAP_CAUSE_FLOOD",
        "Console.ListFlows",
        "Device.vendor",
    ] {
        assert!(declared.contains(known), "{known} is not looked at");
    }
    let silent: Vec<String> = files.iter().flat_map(silent).collect();
    assert!(silent.is_empty(), "{} without a comment:\n{}", silent.len(), silent.join("\n"));
}
