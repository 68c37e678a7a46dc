use clap::Parser;
use tidegate_proto::ratelimit::v1::{Override, r#override::KeyEntry};

use super::*;
use crate::policies::entry::Entry;

#[derive(Debug, Parser)]
struct Line {
    #[command(subcommand)]
    command: OverridesCommand,
}

fn read(line: &str) -> Result<OverridesCommand, clap::Error> {
    let words = ["overrides"].into_iter().chain(line.split(' '));
    Line::try_parse_from(words).map(|line| line.command)
}

fn of(policy: &str, key: &[(&str, &str)]) -> Override {
    let entry = |(key, value): &(&str, &str)| KeyEntry { key: (*key).into(), value: (*value).into() };
    Override {
        namespace: "shop".into(),
        policy: policy.into(),
        limit: "minute".into(),
        key: key.iter().map(entry).collect(),
        ..Override::default()
    }
}

#[test]
fn an_override_is_named_by_its_policy_its_limit_and_its_key() {
    let OverridesCommand::Delete(args) =
        read("delete shop/eu:calls gold/minute -k user=a=b --key path=/v1/*").unwrap()
    else {
        panic!("another command");
    };
    let key = args.target.key().unwrap();
    let patterns = [("path".to_owned(), "/v1/*".to_owned()), ("user".to_owned(), "a=b".to_owned())];
    let expected =
        Key::Override("shop/eu".into(), "calls".into(), "gold/minute".into(), patterns.into_iter().collect());
    assert_eq!(key, expected);
    assert_eq!(key.to_string(), "override shop/eu:calls gold/minute of path=/v1/*, user=a=b");
    // A policy that counts its namespace together has no key.
    let OverridesCommand::Delete(args) = read("delete shop:all minute").unwrap() else {
        panic!("another command");
    };
    assert_eq!(args.target.key().unwrap().to_string(), "override shop:all minute");
    let OverridesCommand::Delete(args) = read("delete shop:calls minute -k user=a -k user=b").unwrap() else {
        panic!("another command");
    };
    assert_eq!(args.target.key().unwrap_err().to_string(), "--key user=… is there twice");
    for wrong in ["delete shop:calls", "delete calls minute -k user=a", "delete shop:calls minute -k user"] {
        assert!(read(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn numbers_are_a_rate_or_tokens_with_or_without_a_period() {
    for right in ["--rate 60/min", "--tokens 5", "--tokens 5 --period 1m", "--rate 5/s --burst 9"] {
        assert!(read(&format!("set shop:calls minute -k user=a {right}")).is_ok(), "{right}");
    }
    for wrong in
        ["", " --period 1m", " --rate 60/min --tokens 5", " --rate 60/min --period 1m", " --tokens -1"]
    {
        assert!(read(&format!("set shop:calls minute -k user=a{wrong}")).is_err(), "{wrong}");
    }
}

#[test]
fn overrides_are_chosen_by_the_very_patterns_of_their_keys() {
    let both = [("user", "ann"), ("path", "/v1/*")];
    let entry = Entry::Override(of("calls", &both));
    let has = |patterns: &[&str]| {
        let patterns: Vec<_> = patterns.iter().map(|text| attribute::parse(text).unwrap()).collect();
        list::has(&entry, &patterns)
    };
    assert!(has(&[]) && has(&["user=ann"]) && has(&["path=/v1/*", "user=ann"]));
    assert!(
        !has(&["user=an*"]) && !has(&["path=/v1/a"]) && !has(&["user=ann", "path=*"]) && !has(&["team=red"])
    );
}

#[test]
fn numbers_are_told_in_few_words() {
    let told = |rate: &str, tokens: u64, period: &str, burst: u64| {
        let (rate, period) = (rate.to_owned(), period.to_owned());
        list::numbers(&Override { rate, tokens, period, burst, ..of("calls", &[]) })
    };
    assert_eq!(told("50/min", 0, "", 0), "50/min");
    assert_eq!(told("", 200, "", 0), "200");
    assert_eq!(told("", 100, "5m", 300), "100/5m, burst 300");
}
