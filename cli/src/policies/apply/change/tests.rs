use tidegate_proto::ratelimit::v1::{Assignment, EntryMeta, LimitSpec, Plan, Policy};

use super::*;

fn meta(origin: Origin, etag: &str) -> Option<EntryMeta> {
    Some(EntryMeta { origin: origin.into(), etag: etag.into(), ..EntryMeta::default() })
}

fn plan(name: &str, rate: &str, meta: Option<EntryMeta>) -> Entry {
    let limit = LimitSpec { name: "minute".into(), rate: rate.into(), ..LimitSpec::default() };
    Entry::Plan(Plan { name: name.into(), limits: vec![limit], unlimited: false, meta })
}

fn policy(name: &str, plan: &str, replaces: &[&str]) -> Entry {
    Entry::Policy(Policy {
        namespace: "shop".into(),
        name: name.into(),
        plan: plan.into(),
        replaces: replaces.iter().map(|name| (*name).to_owned()).collect(),
        ..Policy::default()
    })
}

fn compared(wanted: &[Entry], in_force: &[Entry]) -> Result<Vec<Change>, Vec<Fault>> {
    let placed = wanted.iter().enumerate();
    let placed = placed.map(|(at, entry)| Placed { path: format!("plans[{at}]"), entry: entry.clone() });
    changes(placed.collect(), in_force)
}

#[test]
fn only_what_differs_is_changed_and_only_from_what_it_was_compared_with() {
    let wanted = ["new", "same", "other", "covered", "fixed"].map(|name| plan(name, "60/min", None));
    let in_force = [
        plan("same", "60/min", meta(Origin::Database, "1a")),
        plan("other", "50/min", meta(Origin::Database, "1b")),
        plan("covered", "50/min", meta(Origin::Builtin, "")),
        plan("fixed", "60/min", meta(Origin::File, "")),
    ];
    let acts = compared(&wanted, &in_force).unwrap().into_iter().map(|change| change.act);
    let update = Act::Update { etag: "1b".to_owned() };
    assert_eq!(acts.collect::<Vec<_>>(), [Act::Create, Act::Nothing, update, Act::Create, Act::Nothing]);
}

#[test]
fn entries_of_the_services_own_file_are_in_the_way() {
    let wanted = ["one", "two", "new"].map(|name| plan(name, "60/min", None));
    let in_force = ["one", "two"].map(|name| plan(name, "50/min", meta(Origin::File, "")));
    let faults = compared(&wanted, &in_force).unwrap_err();
    assert_eq!(faults.iter().map(|fault| &*fault.path).collect::<Vec<_>>(), ["plans[0]", "plans[1]"]);
}

#[test]
fn what_needs_another_change_is_not_asked_beforehand() {
    let assignment =
        Assignment { attribute: "user".into(), value: "ann".into(), plan: "kept".into(), meta: None };
    let wanted = [
        plan("gold", "60/min", None),
        plan("kept", "60/min", None),
        policy("needs-gold", "gold", &[]),
        policy("needs-kept", "kept", &[]),
        policy("replaces", "kept", &["needs-kept"]),
        Entry::Assignment(assignment),
    ];
    let changes = compared(&wanted, &[plan("kept", "60/min", meta(Origin::Database, "1"))]).unwrap();
    let needs: Vec<_> = changes.iter().map(|change| change.needs_another(&changes)).collect();
    assert_eq!(needs, [false, false, true, false, true, false]);
}
