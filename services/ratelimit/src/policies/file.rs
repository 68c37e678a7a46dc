//! The policy file as it is written, field by field. What its parts say of each other is checked
//! in [`super::compile`].

use std::sync::Arc;

use toml::Value;

use super::{
    conditions::{read_conditions, read_descriptor, read_key_by, read_replaces, read_when},
    derivations::{read_derivations, read_exemptions},
    document::{Document, Unfit},
    limits::read_limits,
    names::{check_attribute, check_namespace, check_value, read_name},
    overrides::{OverrideEntry, read_override},
    reader::{Faults, Fields, table, text, wrong_type},
};
use crate::domain::{
    Algorithm, Condition, Enforcement, Expression, FailureMode, Level, Limit, NamespaceSettings, OnDataLoss,
};

/// A whole file. Of what is faulty, and noted as such, the fields are absent.
#[derive(Debug)]
pub(super) struct PolicyFile {
    /// Whether the built-in policies apply beside those of the file.
    pub builtin: bool,
    pub plans: Vec<PlanEntry>,
    pub policies: Vec<PolicyEntry>,
    pub assignments: Vec<AssignmentEntry>,
    pub namespaces: Vec<NamespaceEntry>,
    pub overrides: Vec<OverrideEntry>,
}

#[derive(Debug)]
pub(super) struct PlanEntry {
    pub path: String,
    pub name: Option<String>,
    /// None at all: unlimited.
    pub limits: Vec<Limit>,
    /// As written, in JSON; empty of what is stored, where that is kept beside.
    pub source: Box<str>,
}

#[derive(Debug)]
pub(super) struct PolicyEntry {
    pub path: String,
    pub name: Option<String>,
    pub namespace: Option<String>,
    pub descriptor: Option<Vec<Level>>,
    pub replaces: Vec<String>,
    pub conditions: Vec<Condition>,
    pub when: Option<Arc<Expression>>,
    pub key_by: Vec<String>,
    pub tariff: Option<TariffEntry>,
    /// The plan that callers are to be moved to whom it denies.
    pub upgrade_plan: Option<String>,
    pub enforcement: Enforcement,
    pub failure_mode: FailureMode,
    pub on_data_loss: OnDataLoss,
    /// As of a plan.
    pub source: Box<str>,
}

#[derive(Debug)]
pub(super) enum TariffEntry {
    Plan(String),
    PlanOf {
        attribute: String,
        default: String,
    },
    /// None at all: unlimited.
    Limits(Vec<Limit>),
}

/// What the file says of a namespace as a whole.
#[derive(Debug)]
pub(super) struct NamespaceEntry {
    pub path: String,
    pub name: String,
    pub settings: NamespaceSettings,
}

/// One value of an attribute with the plan assigned to it.
#[derive(Debug)]
pub(super) struct AssignmentEntry {
    pub path: String,
    pub attribute: String,
    pub value: String,
    pub plan: String,
}

impl PolicyFile {
    /// Reads every field and notes every fault.
    ///
    /// # Errors
    ///
    /// Only of a document in pieces: one of them is no TOML. What was noted then is not all.
    pub(super) fn read(mut document: Document<'_>, faults: &mut Faults) -> Result<Self, Unfit> {
        let root = &mut document.root;
        let builtin = root.boolean("builtin", faults).unwrap_or(true);
        let defaults = root.table("defaults", faults).map(|fields| read_defaults(fields, faults));
        let defaults = defaults.unwrap_or_default();
        let plans = document.each("plans", faults, |fields, faults| PlanEntry {
            source: fields.json(),
            ..read_plan(fields, faults)
        })?;
        let policies = document.each("policies", faults, |fields, faults| PolicyEntry {
            source: fields.json(),
            ..read_policy(fields, defaults, faults)
        })?;
        let root = &mut document.root;
        let file = Self {
            builtin,
            plans,
            policies,
            assignments: root.table("assignments", faults).map_or_else(Vec::new, |fields| {
                let attributes = fields.entries();
                attributes.flat_map(|entry| read_assignments(entry, faults)).collect()
            }),
            namespaces: root.table("namespaces", faults).map_or_else(Vec::new, |fields| {
                fields.entries().filter_map(|entry| read_namespace(entry, faults)).collect()
            }),
            overrides: document.each("overrides", faults, read_override)?,
        };
        document.root.finish(faults);
        Ok(file)
    }
}

/// What holds for policies that do not say.
#[derive(Clone, Copy, Default)]
pub(super) struct Defaults {
    enforcement: Enforcement,
    failure_mode: FailureMode,
    on_data_loss: OnDataLoss,
}

fn read_defaults(mut fields: Fields, faults: &mut Faults) -> Defaults {
    let defaults = Defaults {
        enforcement: fields.word("enforcement", &Enforcement::WORDS, faults).unwrap_or_default(),
        failure_mode: fields.word("failure_mode", &FailureMode::WORDS, faults).unwrap_or_default(),
        on_data_loss: fields.word("on_data_loss", &OnDataLoss::WORDS, faults).unwrap_or_default(),
    };
    fields.finish(faults);
    defaults
}

pub(super) fn read_plan(mut fields: Fields, faults: &mut Faults) -> PlanEntry {
    let name = read_name(&mut fields, faults);
    let unlimited = fields.boolean("unlimited", faults).unwrap_or(false);
    if unlimited == fields.has("limits") {
        faults.add(fields.path(), "needs either limits or unlimited = true");
    }
    let limits = read_limits(&mut fields, false, faults).unwrap_or_default();
    let path = fields.path().to_owned();
    fields.finish(faults);
    PlanEntry { path, name, limits, source: Box::default() }
}

pub(super) fn read_policy(mut fields: Fields, defaults: Defaults, faults: &mut Faults) -> PolicyEntry {
    let name = read_name(&mut fields, faults);
    fields.need("namespace", faults);
    let namespace = fields.text("namespace", faults);
    if let Some(namespace) = &namespace {
        check_namespace(&fields.path_of("namespace"), namespace, faults);
    }
    // First: what must not stand beside it, and what need not, is told by what is there.
    let needs_key = !fields.has("descriptor");
    let descriptor = read_descriptor(&mut fields, faults);
    let entry = PolicyEntry {
        path: fields.path().to_owned(),
        name,
        namespace,
        replaces: read_replaces(&mut fields, descriptor.is_some(), faults),
        conditions: read_conditions(&mut fields, faults),
        when: read_when(&mut fields, faults).map(Arc::new),
        key_by: read_key_by(&mut fields, needs_key, faults),
        tariff: read_tariff(&mut fields, descriptor.is_some(), faults),
        upgrade_plan: read_on_limit(&mut fields, faults),
        descriptor,
        enforcement: fields.word("enforcement", &Enforcement::WORDS, faults).unwrap_or(defaults.enforcement),
        failure_mode: fields
            .word("failure_mode", &FailureMode::WORDS, faults)
            .unwrap_or(defaults.failure_mode),
        on_data_loss: fields
            .word("on_data_loss", &OnDataLoss::WORDS, faults)
            .unwrap_or(defaults.on_data_loss),
        source: Box::default(),
    };
    if entry.descriptor.is_some()
        && let Some(TariffEntry::Limits(limits)) = &entry.tariff
        && limits.iter().any(|limit| limit.algorithm == Algorithm::Concurrency)
    {
        let description = "who asks by a descriptor cannot release a lease; limit rates here";
        faults.add(fields.path_of("limits"), description);
    }
    if entry.on_data_loss == OnDataLoss::Strict && entry.failure_mode != FailureMode::Closed {
        let description = "strict needs failure_mode closed: what open and local admit comes on top of what the store admitted";
        faults.add(fields.path_of("on_data_loss"), description);
    }
    fields.finish(faults);
    entry
}

fn read_tariff(fields: &mut Fields, may_deny_all: bool, faults: &mut Faults) -> Option<TariffEntry> {
    let unlimited = fields.boolean("unlimited", faults).unwrap_or(false);
    let given = usize::from(fields.has("plan")) + usize::from(fields.has("limits")) + usize::from(unlimited);
    if given != 1 {
        faults.add(fields.path(), "needs exactly one of plan, limits and unlimited = true");
    }
    let plan_path = fields.path_of("plan");
    let plan = fields.value("plan");
    let limits = read_limits(fields, may_deny_all, faults);
    match plan {
        Some(Value::String(name)) => Some(TariffEntry::Plan(name)),
        Some(Value::Table(table)) => read_plan_of(Fields::new(plan_path, table), faults),
        Some(other) => {
            wrong_type(&plan_path, "a string, or a table of attribute and default", &other, faults)
        }
        None => limits.or_else(|| unlimited.then(Vec::new)).map(TariffEntry::Limits),
    }
}

fn read_on_limit(fields: &mut Fields, faults: &mut Faults) -> Option<String> {
    let mut action = fields.table("on_limit", faults)?;
    action.need("upgrade_plan", faults);
    let plan = action.text("upgrade_plan", faults);
    action.finish(faults);
    plan
}

fn read_plan_of(mut fields: Fields, faults: &mut Faults) -> Option<TariffEntry> {
    fields.need("attribute", faults);
    fields.need("default", faults);
    let attribute = fields.text("attribute", faults);
    if let Some(attribute) = &attribute {
        check_attribute(&fields.path_of("attribute"), attribute, faults);
    }
    let default = fields.text("default", faults);
    fields.finish(faults);
    Some(TariffEntry::PlanOf { attribute: attribute?, default: default? })
}

fn read_namespace(
    (path, name, value): (String, String, Value),
    faults: &mut Faults,
) -> Option<NamespaceEntry> {
    check_namespace(&path, &name, faults);
    let mut fields = table(&path, value, faults)?;
    let settings = NamespaceSettings {
        envoy_compatible: fields.boolean("envoy_compatible", faults).unwrap_or_default(),
        derivations: read_derivations(&mut fields, faults),
        exempt: read_exemptions(&mut fields, faults),
        first_descriptor_only: fields.boolean("first_descriptor_only", faults).unwrap_or_default(),
    };
    fields.finish(faults);
    Some(NamespaceEntry { path, name, settings })
}

fn read_assignments(
    (path, attribute, value): (String, String, Value),
    faults: &mut Faults,
) -> Vec<AssignmentEntry> {
    check_attribute(&path, &attribute, faults);
    let mut entries = Vec::new();
    for (path, value, plan) in table(&path, value, faults).into_iter().flat_map(Fields::entries) {
        check_value(&path, &value, faults);
        if let Some(plan) = text(&path, plan, faults) {
            entries.push(AssignmentEntry { path, attribute: attribute.clone(), value, plan });
        }
    }
    entries
}
