use tidegate_chassis::error::{Violations, status};
use tidegate_proto::ratelimit::v1::{Assignment, r#override::KeyEntry};

use super::*;

fn change(path: String, entry: Entry) -> Change {
    Change { path, entry, before: None, act: Act::Create }
}

/// Of a key that takes so many bytes.
fn of_override(at: usize, bytes: usize) -> Change {
    let value = format!("{at:0bytes$}");
    let key = vec![KeyEntry { key: "user".into(), value }];
    let of = Override {
        namespace: "shop".into(),
        policy: "calls".into(),
        limit: "minute".into(),
        key,
        ..Override::default()
    };
    change(format!("overrides[{at}]"), Entry::Override(of))
}

fn of_assignment() -> Change {
    change("assignments.user.ann".to_owned(), Entry::Assignment(Assignment::default()))
}

fn lengths(changes: &[Change]) -> Vec<usize> {
    steps(changes).iter().map(Step::len).collect()
}

#[test]
fn overrides_go_together_as_many_as_a_call_takes() {
    let mut changes = vec![of_assignment(), of_assignment()];
    changes.extend((0..2_345).map(|at| of_override(at, 4)));
    assert_eq!(lengths(&changes), [1, 1, 1_000, 1_000, 345]);
    assert_eq!(lengths(&changes[..3]), [1, 1, 1]);
    assert_eq!(lengths(&[of_override(0, 4), of_assignment(), of_override(1, 4)]), [1, 1, 1]);
    let order: Vec<_> =
        steps(&changes[2..]).iter().flat_map(Step::changes).map(|of| of.path.clone()).collect();
    assert_eq!(order, (0..2_345).map(|at| format!("overrides[{at}]")).collect::<Vec<_>>());
    // Their keys may be long, and a message may not.
    let long: Vec<_> = (0..2_000).map(|at| of_override(at, 700)).collect();
    let lengths = lengths(&long);
    assert_eq!(lengths.iter().sum::<usize>(), 2_000);
    assert!(lengths.iter().all(|length| length * 700 < BYTES_AT_ONCE), "{lengths:?}");
    assert!(lengths[0] > 650, "{lengths:?}");
}

#[test]
fn what_the_service_finds_wrong_is_told_where_it_stands_in_the_file() {
    let changes: Vec<_> = (5..9).map(|at| of_override(at, 4)).collect();
    let step = &steps(&changes)[0];
    let mut violations = Violations::default();
    violations.add("overrides[2].limit", "is unknown");
    violations.add("overrides[0]", "is odd");
    violations.add("overrides[22]", "is not among them");
    violations.add("somewhere", "is wrong");
    let faults = step.faults(&violations.into_status("INVALID_REQUEST"));
    let paths: Vec<_> = faults.iter().map(|fault| &*fault.path).collect();
    let expected =
        ["overrides[7].limit", "overrides[5]", "overrides[5]: overrides[22]", "overrides[5]: somewhere"];
    assert_eq!(paths, expected);

    let refused = step.faults(&status(Code::Aborted, "CONCURRENT_CHANGES", "too much", None));
    assert_eq!(
        refused[0].path,
        "overrides[5] (override shop:calls minute of user=0005 and 3 more overrides)"
    );
    assert!(refused[0].description.contains("apply the file again"), "{}", refused[0].description);
}

#[test]
fn what_a_service_did_that_does_not_know_is_not_known() {
    let of = |code, reason| is_refusal(&status(code, reason, "it said so", None));
    assert!(of(Code::InvalidArgument, "INVALID_REQUEST"));
    assert!(of(Code::Aborted, "CONCURRENT_CHANGES"));
    assert!(!of(Code::Unavailable, "DATABASE_UNAVAILABLE"));
    assert!(!is_refusal(&Status::cancelled("Timeout expired")));
    assert!(!is_refusal(&Status::invalid_argument("said by somebody on the way")));
}
