use tidegate_proto::ratelimit::v1::{
    Assignment, EntryMeta, LimitSpec, Override, Plan, Policy, r#override::KeyEntry,
};

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

fn overridden(policy: &str, user: &str, rate: &str) -> Entry {
    Entry::Override(Override {
        namespace: "shop".into(),
        policy: policy.into(),
        limit: "minute".into(),
        key: vec![KeyEntry { key: "user".into(), value: user.into() }],
        rate: rate.into(),
        ..Override::default()
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
    let pending = Pending::of(&changes);
    let needs: Vec<_> = changes.iter().map(|change| change.needs_another(&pending)).collect();
    assert_eq!(needs, [false, false, true, false, true, false]);
}

#[test]
fn overrides_are_asked_about_unless_their_policy_or_a_plan_is_to_be_changed() {
    let there = [plan("gold", "60/min", meta(Origin::Database, "1")), policy("kept", "gold", &[])];
    let asked = |gold: &str, policies: &[&str]| {
        let mut wanted = vec![plan("gold", gold, None)];
        wanted.extend(policies.iter().map(|name| policy(name, "gold", &[])));
        wanted.extend([overridden("kept", "ann", "5/min"), overridden("new", "ann", "5/min")]);
        let changes = compared(&wanted, &there).unwrap();
        let pending = Pending::of(&changes);
        let looked_at: Vec<_> = changes.iter().filter_map(|change| change.to_look_at(&pending)).collect();
        looked_at.iter().map(|change| change.entry.key().to_string()).collect::<Vec<_>>()
    };
    assert_eq!(
        asked("60/min", &["kept", "new"]),
        ["policy shop:new", "override shop:kept minute of user=ann"],
        "what stays as it is is not asked about"
    );
    assert_eq!(asked("70/min", &["kept"]), ["plan gold"]);
}

#[test]
fn an_override_that_says_the_same_in_another_way_is_not_changed() {
    let stored = |mut entry: Entry, origin: Origin| {
        if let Entry::Override(of) = &mut entry {
            of.meta = meta(origin, "1b");
        }
        entry
    };
    let in_force = [
        stored(overridden("calls", "ann", "60/min"), Origin::Database),
        stored(overridden("calls", "bob", "60/min"), Origin::File),
        stored(overridden("calls", "eve", "60/min"), Origin::Database),
    ];
    let spelt = |user: &str, tokens: u64| {
        let Entry::Override(of) = overridden("calls", user, "") else { panic!("it is one") };
        Entry::Override(Override { tokens, period: "1m".into(), ..of })
    };
    let wanted = [spelt("ann", 60), spelt("bob", 60), spelt("eve", 61), spelt("new", 60)];
    let acts = compared(&wanted, &in_force).unwrap().into_iter().map(|change| change.act);
    let update = Act::Update { etag: "1b".to_owned() };
    assert_eq!(acts.collect::<Vec<_>>(), [Act::Nothing, Act::Nothing, update, Act::Create]);
    let faults = compared(&[spelt("bob", 61)], &in_force).unwrap_err();
    assert!(
        faults[0].description.starts_with("override shop:calls minute of user=bob is in the policy file")
    );
}
