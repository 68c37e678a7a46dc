//! What Limitador's documentation and examples say, each with a configuration of our own of the same structure. Windows are days, so that none
//! ends while a case runs.

use super::Case;

pub(super) const CASES: &[Case] = &[
    Case {
        says: "a limit applies if all conditions hold; other entries do not matter",
        domain: "conditions",
        config: "
- namespace: conditions
  max_value: 1
  seconds: 86400
  conditions: [\"descriptors[0].KEY_A == 'VALUE_A'\"]
  variables: []
",
        left_out: &[],
        asks: &[
            ("KEY_A=VALUE_A,OTHER_KEY=OTHER_VALUE", 0, "ok 0"),
            ("KEY_A=VALUE_A", 0, "over 0"),
            ("KEY_A=WRONG_VALUE", 0, "ok -"),
            ("KEY_B=VALUE_A", 0, "ok -"),
        ],
    },
    Case {
        says: "counters are told apart by the values of variables, all of which must be there",
        domain: "variables",
        config: "
- namespace: variables
  max_value: 2
  seconds: 86400
  conditions: []
  variables: [\"descriptors[0]['user.id']\", \"descriptors[0].app\"]
",
        left_out: &[],
        asks: &[
            ("user.id=1,app=a", 0, "ok 1"),
            ("app=a,user.id=1", 0, "ok 0"),
            ("user.id=1,app=a", 0, "over 0"),
            ("user.id=2,app=a", 0, "ok 1"),
            ("user.id=1", 0, "ok -"),
        ],
    },
    Case {
        says: "conditions and variables must both match",
        domain: "both",
        config: "
- namespace: both
  max_value: 1
  seconds: 86400
  conditions: [\"descriptors[0].KEY_B == 'VALUE_B'\"]
  variables: [\"descriptors[0].MY_VAR\"]
",
        left_out: &[],
        asks: &[
            ("KEY_B=VALUE_B", 0, "ok -"),
            ("MY_VAR=x", 0, "ok -"),
            ("KEY_B=VALUE_B,MY_VAR=x", 0, "ok 0"),
            ("KEY_B=VALUE_B,MY_VAR=x", 0, "over 0"),
        ],
    },
    Case {
        says: "of several limits the most restrictive decides, and a denied request is charged to none",
        domain: "several",
        config: "
- namespace: several
  max_value: 3
  seconds: 86400
  conditions:
  variables:
- namespace: several
  max_value: 1
  seconds: 86400
  conditions: [\"descriptors[0]['req.method'] == 'POST'\"]
  variables: [\"descriptors[0]['user_id']\"]
",
        left_out: &[],
        asks: &[
            ("req.method=POST,user_id=1", 0, "ok 0"),
            ("req.method=POST,user_id=1", 0, "over 0"),
            ("req.method=POST,user_id=1", 0, "over 0"),
            ("req.method=GET", 0, "ok 1"),
            ("req.method=GET", 0, "ok 0"),
            ("req.method=POST,user_id=2", 0, "over 0"),
        ],
    },
    Case {
        says: "conditions may say unlike, and be any expression of CEL",
        domain: "expressions",
        config: "
- namespace: expressions
  max_value: 1
  seconds: 86400
  conditions:
    - \"descriptors[0]['req.method'] == 'GET'\"
    - \"descriptors[0]['req.path'] != '/json'\"
  variables: []
- namespace: expressions
  max_value: 2
  seconds: 86400
  conditions:
    - \"descriptors[0]['req.path'] == '/json' && descriptors[0]['req.method'].startsWith('P')\"
  variables: []
",
        left_out: &[],
        asks: &[
            ("req.method=GET,req.path=/", 0, "ok 0"),
            ("req.method=GET,req.path=/other", 0, "over 0"),
            ("req.method=GET,req.path=/json", 0, "ok -"),
            ("req.method=GET", 0, "ok -"),
            ("req.method=PUT,req.path=/json", 0, "ok 1"),
            ("req.method=POST,req.path=/json", 0, "ok 0"),
            ("req.method=POST,req.path=/json", 0, "over 0"),
        ],
    },
    Case {
        says: "before version 2 conditions and variables were of the values themselves",
        domain: "older",
        config: "
- namespace: older
  max_value: 1
  seconds: 86400
  conditions: [\"req.method == 'GET'\"]
  variables: [user_id]
",
        left_out: &[],
        asks: &[
            ("req.method=GET,user_id=1", 0, "ok 0"),
            ("req.method=GET,user_id=1", 0, "over 0"),
            ("req.method=PUT,user_id=1", 0, "ok -"),
        ],
    },
    Case {
        says: "only the first descriptor is meant by descriptors[0], and hits are those of the request",
        domain: "first",
        config: "
- namespace: first
  name: per user
  max_value: 3
  seconds: 86400
  conditions: []
  variables: [\"descriptors[0].user\"]
- namespace: first
  max_value: 1
  seconds: 86400
  conditions: [\"descriptors[1].user == 'x'\"]
  variables: []
",
        left_out: &["[1].conditions[0]: looks at more than the first descriptor"],
        asks: &[
            ("user=a; user=b", 2, "ok 1"),
            ("user=b; user=a", 2, "ok 1"),
            ("user=a", 2, "over 1"),
            ("user=a", 1, "ok 0"),
        ],
    },
];
