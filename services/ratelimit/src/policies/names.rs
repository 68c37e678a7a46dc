//! What names may look like.

use super::reader::{Faults, Fields};

/// Most bytes of the name of a plan, a policy or a limit.
pub(super) const MAX_NAME_BYTES: usize = 64;

/// Most bytes of the value of an attribute in a check.
pub(super) const MAX_VALUE_BYTES: usize = 512;

/// Reads the key `name`, which must be there.
pub(super) fn read_name(fields: &mut Fields, faults: &mut Faults) -> Option<String> {
    fields.need("name", faults);
    let name = fields.text("name", faults)?;
    check_name(&fields.path_of("name"), &name, faults);
    Some(name)
}

/// Notes a fault unless `name` can name a plan, a policy or a limit.
fn check_name(path: &str, name: &str, faults: &mut Faults) {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-".contains(&byte);
    if name.is_empty() || name.len() > MAX_NAME_BYTES || !name.bytes().all(fits) {
        faults.add(path, format!("must be 1 to 64 of a-z 0-9 . _ -, is {name:?}"));
    }
}

/// Notes a fault unless `name` can name a namespace.
pub(super) fn check_namespace(path: &str, name: &str, faults: &mut Faults) {
    namespace_fault(name).into_iter().for_each(|fault| faults.add(path, fault));
}

/// Why `name` cannot name a namespace, if it cannot.
pub(super) fn namespace_fault(name: &str) -> Option<String> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"._/-".contains(&byte);
    let is_fit = (1..=128).contains(&name.len()) && name.bytes().all(fits);
    (!is_fit).then(|| format!("must be 1 to 128 of A-Z a-z 0-9 . _ / -, is {name:?}"))
}

/// Notes a fault unless a check can carry an attribute of that name.
pub(super) fn check_attribute(path: &str, name: &str, faults: &mut Faults) {
    attribute_fault(name).into_iter().for_each(|fault| faults.add(path, fault));
}

/// Why no check can carry an attribute of that name, if none can.
pub(super) fn attribute_fault(name: &str) -> Option<String> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let is_fit = (1..=64).contains(&name.len()) && name.bytes().all(fits);
    (!is_fit).then(|| format!("names of attributes are 1 to 64 of A-Z a-z 0-9 . _ -, is {name:?}"))
}

/// Notes a fault unless an attribute of a check can have that value.
pub(super) fn check_value(path: &str, value: &str, faults: &mut Faults) {
    if value.is_empty() {
        faults.add(path, "must not be empty: an attribute with an empty value counts as absent");
    } else if value.len() > MAX_VALUE_BYTES {
        faults.add(path, format!("must be at most {MAX_VALUE_BYTES} bytes, is {}", value.len()));
    }
}
