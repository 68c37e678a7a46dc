//! Attributes that a namespace derives, and what it exempts, as written.

use std::net::IpAddr;

use ipnet::IpNet;
use toml::Value;

use super::{
    conditions::read_condition_table,
    names::{check_attribute, check_value},
    reader::{Faults, Fields, numbered, table, text, wrong_type},
};
use crate::domain::{ClientAddress, Condition, Derivation, RouteError, Routes, Source};

const MAX_DERIVATIONS: usize = 16;
const MAX_TEMPLATES: usize = 1_000;
const MAX_TRUSTED: usize = 1_000;
const MAX_EXEMPTIONS: usize = 64;
const MAX_NAMES: usize = 8;

/// Reads the list `derive`.
pub(super) fn read_derivations(fields: &mut Fields, faults: &mut Faults) -> Box<[Derivation]> {
    let path = fields.path_of("derive");
    let Some(tables) = fields.tables("derive", faults) else { return Box::default() };
    if tables.len() > MAX_DERIVATIONS {
        faults.add(path, format!("at most {MAX_DERIVATIONS} attributes, are {}", tables.len()));
    }
    let mut names: Vec<String> = Vec::new();
    let mut paths = Vec::new();
    let mut derivations = Vec::new();
    for mut table in tables {
        table.need("attribute", faults);
        let attribute = table.text("attribute", faults);
        if let Some(attribute) = &attribute {
            let path = table.path_of("attribute");
            check_attribute(&path, attribute, faults);
            if names.contains(attribute) {
                faults.add(path, format!("{attribute:?} is already derived"));
            }
            names.push(attribute.clone());
        }
        let source = read_source(&mut table, faults);
        if let (Some(attribute), Some(source)) = (attribute, source) {
            derivations.push(Derivation { attribute: attribute.into(), source });
            paths.push(table.path().to_owned());
        }
        table.finish(faults);
    }
    for (index, (derivation, path)) in derivations.iter().zip(paths).enumerate() {
        let later = |name: &&str| derivations[index + 1..].iter().any(|later| *later.attribute == **name);
        for name in derivation.source.attributes().into_iter().filter(later) {
            faults.add(&path, format!("looks at {name:?}, which is derived only later"));
        }
    }
    derivations.into()
}

fn read_source(table: &mut Fields, faults: &mut Faults) -> Option<Source> {
    let kinds = ["address", "route", "first_of", "hash_of"];
    if kinds.iter().filter(|kind| table.has(kind)).count() != 1 {
        faults.add(table.path(), format!("needs exactly one of {}", kinds.join(", ")));
    }
    let address = table.table("address", faults).and_then(|table| read_address(table, faults));
    let route = table.table("route", faults).and_then(|table| read_route(table, faults));
    let first_of = read_names(table, "first_of", faults);
    let hash_of = table.text("hash_of", faults);
    if let Some(name) = &hash_of {
        check_attribute(&table.path_of("hash_of"), name, faults);
    }
    let address = address.map(Source::Address);
    address
        .or(route.map(Source::Route))
        .or(first_of.map(Source::FirstOf))
        .or(hash_of.map(|name| Source::HashOf(name.into())))
}

fn read_names(table: &mut Fields, key: &'static str, faults: &mut Faults) -> Option<Box<[Box<str>]>> {
    let path = table.path_of(key);
    let list = table.list(key, faults)?;
    if !(1..=MAX_NAMES).contains(&list.len()) {
        faults.add(path, format!("must be 1 to {MAX_NAMES} attributes, are {}", list.len()));
    }
    let names = list.into_iter().filter_map(|(path, value)| {
        let name = text(&path, value, faults)?;
        check_attribute(&path, &name, faults);
        Some(name.into())
    });
    Some(names.collect())
}

fn read_address(mut table: Fields, faults: &mut Faults) -> Option<ClientAddress> {
    table.need("peer", faults);
    let mut name = |key, faults: &mut Faults| {
        let name = table.text(key, faults)?;
        check_attribute(&table.path_of(key), &name, faults);
        Some(Box::<str>::from(name))
    };
    let peer = name("peer", faults);
    let forwarded_for = name("forwarded_for", faults);
    let trusted_path = table.path_of("trusted");
    let trusted = table.list("trusted", faults).unwrap_or_default();
    if trusted.len() > MAX_TRUSTED {
        faults.add(&trusted_path, format!("at most {MAX_TRUSTED} ranges, are {}", trusted.len()));
    }
    if forwarded_for.is_some() && trusted.is_empty() {
        faults.add(trusted_path, "is missing or empty, so nothing that forwarded_for says would count");
    }
    let trusted = trusted
        .into_iter()
        .filter_map(|(path, value)| read_range(&path, &text(&path, value, faults)?, faults));
    let trusted = trusted.collect();
    let ipv4_prefix = read_prefix(&mut table, "ipv4_prefix", 32, 32, faults);
    let ipv6_prefix = read_prefix(&mut table, "ipv6_prefix", 64, 128, faults);
    table.finish(faults);
    Some(ClientAddress { peer: peer?, forwarded_for, trusted, ipv4_prefix, ipv6_prefix })
}

/// A range of addresses, or one address.
fn read_range(path: &str, text: &str, faults: &mut Faults) -> Option<IpNet> {
    let range = text.parse().ok().or_else(|| text.parse().ok().map(|address: IpAddr| address.into()));
    match range {
        None => faults.add(path, format!("must be an address or a range as 10.0.0.0/8, is {text:?}")),
        Some(range) if range.prefix_len() == 0 => {
            faults.add(path, "would believe everybody, and so whatever a caller writes");
        }
        Some(IpNet::V6(range)) if range.addr().to_ipv4_mapped().is_some() => {
            faults.add(path, format!("IPv4 addresses are written as such, is {text:?}"));
        }
        Some(_) => {}
    }
    range
}

fn read_prefix(table: &mut Fields, key: &'static str, default: u8, most: u8, faults: &mut Faults) -> u8 {
    let path = table.path_of(key);
    let Some(bits) = table.integer(key, faults) else { return default };
    match u8::try_from(bits) {
        Ok(bits) if bits <= most => bits,
        _ => {
            faults.add(path, format!("must be 0 to {most} bits, is {bits}"));
            default
        }
    }
}

fn read_route(mut table: Fields, faults: &mut Faults) -> Option<Routes> {
    let mut name = |key, default: &str, faults: &mut Faults| {
        let name = table.text(key, faults).unwrap_or_else(|| default.to_owned());
        check_attribute(&table.path_of(key), &name, faults);
        name
    };
    let path = name("path", "path", faults);
    let method = name("method", "method", faults);
    table.need("templates", faults);
    let templates_path = table.path_of("templates");
    let list = table.list("templates", faults).unwrap_or_default();
    if !(1..=MAX_TEMPLATES).contains(&list.len()) {
        faults.add(&templates_path, format!("must be 1 to {MAX_TEMPLATES} templates, are {}", list.len()));
    }
    let templates = list.into_iter().filter_map(|(path, value)| {
        let template = text(&path, value, faults)?;
        check_value(&path, &template, faults);
        Some(template)
    });
    let templates: Vec<_> = templates.collect();
    table.finish(faults);
    let noted = |errors: Vec<RouteError>| {
        for error in errors {
            faults.add(format!("{templates_path}[{}]", error.index), error.description);
        }
    };
    Routes::new(&path, &method, &templates).map_err(noted).ok()
}

/// Reads the list `exempt`.
pub(super) fn read_exemptions(fields: &mut Fields, faults: &mut Faults) -> Box<[Box<[Condition]>]> {
    let path = fields.path_of("exempt");
    let list = match fields.value("exempt") {
        None => return Box::default(),
        Some(Value::Array(list)) => numbered(&path, 0, list),
        // One table alone is most of what people need.
        Some(table @ Value::Table(_)) => vec![(path.clone(), table)],
        Some(other) => {
            wrong_type::<()>(&path, "a table or a list of tables", &other, faults);
            return Box::default();
        }
    };
    if list.len() > MAX_EXEMPTIONS {
        faults.add(&path, format!("at most {MAX_EXEMPTIONS} tables, are {}", list.len()));
    }
    let exemptions = list.into_iter().filter_map(|(path, value)| {
        let table = table(&path, value, faults)?;
        let conditions = read_condition_table(table, faults);
        if conditions.is_empty() {
            faults.add(
                path,
                "has no condition, and would exempt everything; set enforcement = \"off\" instead",
            );
        }
        Some(conditions.into())
    });
    exemptions.collect()
}
