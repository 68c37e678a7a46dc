use super::{
    super::{
        args::BenchArgs,
        load::Measured,
        tally::{Tally, Timeline},
    },
    *,
};

fn picture(line: &str, values: impl IntoIterator<Item = (u64, u64)>) -> String {
    let args = BenchArgs::typed(line);
    let now = std::time::Instant::now();
    let mut tally = Tally::new(Timeline { start: now, measure: now, end: now });
    for (nanos, count) in values {
        tally.latency.record_n(nanos, count).unwrap();
    }
    let measured = Measured { tally, keys: 1, cpu: Vec::new(), own_cpu: std::time::Duration::ZERO };
    let report = Report::new(&args, "<&>", &measured);
    draw(&report, &measured.tally.latency)
}

/// Every element is closed in order, every attribute quoted, every `&` an entity.
fn assert_well_formed(svg: &str) {
    let mut open = Vec::new();
    let mut rest = svg;
    while let Some(begin) = rest.find('<') {
        let end = begin + rest[begin..].find('>').expect("every tag ends");
        let tag = &rest[begin + 1..end];
        assert!(!tag.contains('<') && tag.matches('"').count().is_multiple_of(2), "{tag}");
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(name));
        } else if !tag.ends_with('/') {
            open.push(tag.split_whitespace().next().unwrap());
        }
        rest = &rest[end + 1..];
    }
    assert!(open.is_empty(), "{open:?}");
    for (at, _) in svg.match_indices('&') {
        assert!(["&amp;", "&lt;", "&gt;"].iter().any(|entity| svg[at..].starts_with(entity)));
    }
    for wrong in ["NaN", "inf", "-nan"] {
        assert!(!svg.contains(wrong), "{wrong}");
    }
}

#[test]
fn picture_is_well_formed_whatever_was_measured() {
    assert_well_formed(&picture("", []));
    assert_well_formed(&picture("--rate 10000", [(1, 1)]));
    assert_well_formed(&picture("--mode stream", [(u64::from(u32::MAX), 3)]));
    assert_well_formed(&picture("", [(50_000, 1_000_000), (80_000, 100_000), (3_000_000, 200)]));
}

#[test]
fn rare_percentiles_are_drawn_only_with_enough_values() {
    let few = picture("", [(50_000, 1000)]);
    assert!(few.contains("p99<") && !few.contains("p99.9<"));
    let many = picture("", [(50_000, 1_000_000)]);
    assert!(many.contains("p99.999<") && !many.contains("p99.9999<"));
}

#[test]
fn slower_is_higher_and_rarer_is_further_right() {
    let scale = Scale { low: 1, high: 4, decades: 3 };
    assert!(scale.y(100.0) > scale.y(1000.0));
    assert!(scale.x(1.0) < scale.x(2.0));
    assert!((scale.y(10.0) - (HEIGHT - BOTTOM)).abs() < 1e-9 && (scale.y(10_000.0) - TOP).abs() < 1e-9);
}
