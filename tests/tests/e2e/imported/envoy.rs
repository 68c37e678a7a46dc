//! What the README and the example of envoyproxy/ratelimit say, each with a configuration of our own of the same structure. Units are days
//! and years, so that no window ends while a case runs.

use super::Case;

pub(super) const CASES: &[Case] = &[
    Case {
        says: "each value of a key may have a limit of its own, others have none",
        domain: "values",
        config: "
domain: values
descriptors:
  - { key: database, value: users, rate_limit: { unit: day, requests_per_unit: 2 } }
  - { key: database, value: default, rate_limit: { unit: day, requests_per_unit: 1 } }
",
        left_out: &[],
        asks: &[
            ("database=users", 0, "ok 1"),
            ("database=users", 0, "ok 0"),
            ("database=users", 0, "over 0"),
            ("database=default", 0, "ok 0"),
            ("database=default", 0, "over 0"),
            ("database=other", 0, "ok -"),
            ("table=users", 0, "ok -"),
        ],
    },
    Case {
        says: "nested descriptors count for themselves, and a request is denied if any of its descriptors is",
        domain: "messaging",
        config: "
domain: messaging
descriptors:
  - key: message_type
    value: marketing
    descriptors:
      - key: to_number
        rate_limit: { unit: day, requests_per_unit: 2 }
  - key: to_number
    rate_limit: { unit: day, requests_per_unit: 4 }
",
        left_out: &[],
        asks: &[
            ("message_type=marketing,to_number=1; to_number=1", 0, "ok 1; ok 3"),
            ("message_type=marketing,to_number=1; to_number=1", 0, "ok 0; ok 2"),
            // What is over its limit does not keep the others from being charged.
            ("message_type=marketing,to_number=1; to_number=1", 0, "over 0; ok 1"),
            ("message_type=marketing,to_number=2; to_number=2", 0, "ok 1; ok 3"),
            ("to_number=1", 0, "ok 0"),
            ("to_number=1", 0, "over 0"),
            ("message_type=marketing", 0, "ok -"),
            ("message_type=private,to_number=1", 0, "ok -"),
        ],
    },
    Case {
        says: "a key with its value goes before the key alone; a limit of 0 denies all",
        domain: "addresses",
        config: "
domain: addresses
descriptors:
  - key: remote_address
    rate_limit: { unit: day, requests_per_unit: 2 }
  - key: remote_address
    value: 50.0.0.5
    rate_limit: { unit: day, requests_per_unit: 0 }
",
        left_out: &[],
        asks: &[
            ("remote_address=50.0.0.1", 0, "ok 1"),
            ("remote_address=50.0.0.5", 0, "over 0"),
            ("remote_address=50.0.0.2", 0, "ok 1"),
            ("remote_address=50.0.0.5", 0, "over 0"),
            ("remote_address=", 0, "ok 1"),
        ],
    },
    Case {
        says: "a request has as many entries as the rule has levels",
        domain: "depth",
        config: "
domain: depth
descriptors:
  - key: key
    value: flat
    rate_limit: { unit: day, requests_per_unit: 3 }
  - key: key
    value: nested
    descriptors:
      - key: subkey
        rate_limit: { unit: day, requests_per_unit: 3 }
",
        left_out: &[],
        asks: &[
            ("key=flat", 0, "ok 2"),
            ("key=flat,subkey=x", 0, "ok -"),
            ("key=nested", 0, "ok -"),
            ("key=nested,subkey=x", 0, "ok 2"),
            ("key=nested,subkey=x,more=y", 0, "ok -"),
        ],
    },
    Case {
        says: "what is unlimited is told from what has no rule; a rule without a limit excepts a value",
        domain: "unlimited",
        config: "
domain: unlimited
descriptors:
  - { key: ldap, rate_limit: { unlimited: true } }
  - { key: azure, rate_limit: { unit: day, requests_per_unit: 1 } }
  - { key: azure, value: excepted }
",
        left_out: &[],
        asks: &[
            ("ldap=x", 9, "ok all"),
            ("azure=x", 0, "ok 0"),
            ("azure=x", 0, "over 0"),
            ("azure=excepted", 9, "ok all"),
            ("other=x", 0, "ok -"),
        ],
    },
    Case {
        says: "shadow_mode counts and never denies",
        domain: "shadow",
        config: "
domain: shadow
descriptors:
  - key: service
    descriptors:
      - key: user
        value: a
        shadow_mode: true
        rate_limit: { unit: day, requests_per_unit: 1 }
      - key: user
        value: b
        rate_limit: { unit: day, requests_per_unit: 1 }
",
        left_out: &[],
        asks: &[
            ("service=auth,user=a", 0, "ok 0"),
            ("service=auth,user=a", 0, "ok 0"),
            ("service=auth,user=b", 0, "ok 0"),
            ("service=auth,user=b", 0, "over 0"),
        ],
    },
    Case {
        says: "a rule that replaces another takes its place in a request that meets both, and the other is not charged",
        domain: "replaces",
        config: "
domain: replaces
descriptors:
  - key: key_1
    value: value_1
    descriptors:
      - key: user
        value: kim
        rate_limit: { name: specific, unit: day, requests_per_unit: 2 }
  - key: key_2
    value: value_2
    descriptors:
      - key: user
        value: kim
        rate_limit: { replaces: [{ name: specific }], unit: day, requests_per_unit: 3 }
",
        left_out: &[],
        asks: &[
            ("key_1=value_1,user=kim; key_2=value_2,user=kim", 0, "ok -; ok 2"),
            ("key_1=value_1,user=kim; key_2=value_2,user=kim", 0, "ok -; ok 1"),
            ("key_1=value_1,user=kim; key_2=value_2,user=kim", 0, "ok -; ok 0"),
            ("key_1=value_1,user=kim; key_2=value_2,user=kim", 0, "ok -; over 0"),
            ("key_1=value_1,user=kim", 0, "ok 1"),
        ],
    },
    Case {
        says: "detailed_metric and value_to_metric change metrics, not limits",
        domain: "metrics",
        config: "
domain: metrics
descriptors:
  - { key: key1, detailed_metric: true, rate_limit: { unit: day, requests_per_unit: 1 } }
  - { key: key1, value: value1, rate_limit: { unit: day, requests_per_unit: 2 } }
  - key: route
    value_to_metric: true
    descriptors:
      - { key: subject, rate_limit: { unit: year, requests_per_unit: 1 } }
",
        left_out: &[
            "descriptors[0].detailed_metric: metrics have no labels made of values",
            "descriptors[2].value_to_metric: metrics have no labels made of values",
        ],
        asks: &[
            ("key1=value1", 0, "ok 1"),
            ("key1=other", 0, "ok 0"),
            ("key1=third", 0, "ok 0"),
            ("route=api,subject=1", 0, "ok 0"),
            ("route=web,subject=1", 0, "ok 0"),
            ("route=web,subject=1", 0, "over 0"),
        ],
    },
    Case {
        says: "in a value each * stands for any characters, at the end, in the middle, and several times",
        domain: "wildcards",
        config: "
domain: wildcards
descriptors:
  - { key: key1, value: 'value*', rate_limit: { unit: day, requests_per_unit: 1 } }
  - { key: path, value: '/api/*/action', rate_limit: { unit: day, requests_per_unit: 1 } }
  - { key: route, value: '/api/*/resource/*/action', rate_limit: { unit: day, requests_per_unit: 1 } }
",
        left_out: &[],
        asks: &[
            ("key1=value1", 0, "ok 0"),
            ("key1=value2", 0, "ok 0"),
            ("key1=value1", 0, "over 0"),
            ("key1=other", 0, "ok -"),
            ("path=/api/123/action", 0, "ok 0"),
            ("path=/api/123/other", 0, "ok -"),
            ("route=/api/v1/resource/123/action", 0, "ok 0"),
            ("route=/api/v1/resource/action", 0, "ok -"),
        ],
    },
    Case {
        says: "share_threshold counts all values that fit a wildcard as one",
        domain: "shared",
        config: "
domain: shared
descriptors:
  - key: files
    value: files/*
    share_threshold: true
    rate_limit: { unit: day, requests_per_unit: 3 }
  - key: alone
    value: alone/*
    rate_limit: { unit: day, requests_per_unit: 1 }
  - key: route
    value: api/*
    share_threshold: true
    descriptors:
      - { key: method, rate_limit: { unit: day, requests_per_unit: 1 } }
",
        left_out: &[],
        asks: &[
            ("files=files/a.pdf", 2, "ok 1"),
            ("files=files/b.csv", 0, "ok 0"),
            ("files=files/c.txt", 0, "over 0"),
            ("alone=alone/a", 0, "ok 0"),
            ("alone=alone/b", 0, "ok 0"),
            ("alone=alone/a", 0, "over 0"),
            ("route=api/1,method=GET", 0, "ok 0"),
            ("route=api/2,method=GET", 0, "over 0"),
            ("route=api/2,method=PUT", 0, "ok 0"),
        ],
    },
    Case {
        says: "hits that are too many are denied, and counted",
        domain: "hits",
        config: "
domain: hits
descriptors:
  - { key: user, rate_limit: { unit: day, requests_per_unit: 5 } }
",
        left_out: &[],
        asks: &[
            ("user=ada", 3, "ok 2"),
            ("user=ada", 3, "over 0"),
            ("user=ada", 1, "over 0"),
            ("user=eve", 9, "over 0"),
            ("user=eve", 1, "over 0"),
            ("user=joe", 5, "ok 0"),
        ],
    },
    Case {
        says: "a quota denies only together with all others of a request (here by itself)",
        domain: "quota",
        config: "
domain: quota
descriptors:
  - key: service
    value: one
    quota_mode: true
    metadata: { service: one }
    rate_limit: { unit: day, requests_per_unit: 1 }
",
        left_out: &[
            "descriptors[0].quota_mode: there a request is denied once all",
            "descriptors[0].metadata: answers carry no metadata",
        ],
        asks: &[("service=one", 0, "ok 0"), ("service=one", 0, "over 0")],
    },
];
