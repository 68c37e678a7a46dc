use tempfile::TempDir;
use tidegate_tests::eventually::eventually;

use arc_swap::ArcSwap;

use super::*;
use crate::policies::{load, parse};

/// A file of one policy, and the policies in force.
struct Watching {
    folder: TempDir,
    policies: Arc<ArcSwap<PolicySet>>,
    metrics: Metrics,
}

impl Watching {
    fn new(when: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("policies.toml");
        fs::write(&path, text(when)).expect("the folder can be written");
        let set = load(&path, 1).unwrap_or_else(|errors| panic!("{errors}"));
        Self { folder, policies: Arc::new(ArcSwap::from_pointee(set)), metrics: Metrics::new() }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("policies.toml")
    }

    fn watched(&self) -> Watched {
        Watched::new(&self.path(), self.policies.load().fingerprint(), self.apply(), &self.metrics)
    }

    fn apply(&self) -> Apply {
        let policies = Arc::clone(&self.policies);
        Box::new(move |bytes| {
            let set = parse(&String::from_utf8_lossy(&bytes), "policies.toml", 1)?;
            let set = Arc::new(set.with_version(policies.load().version() + 1));
            policies.store(Arc::clone(&set));
            Ok(set)
        })
    }

    /// The expression of the policy in force, and the version of the set it is in.
    fn in_force(&self) -> (String, u64) {
        let set = self.policies.load();
        let namespace = set.namespace("test").expect("declared");
        let when = namespace.policies()[0].when.as_ref().expect("it has one");
        (when.text().to_owned(), set.version())
    }

    fn tells(&self, line: &str) -> bool {
        self.metrics.encode().lines().any(|told| told == line)
    }
}

fn text(when: &str) -> String {
    format!(
        "[[policies]]\nname = 'one'\nnamespace = 'test'\nkey_by = []\nunlimited = true\nwhen = '{when}'\n"
    )
}

const VALID: &str = "tidegate_ratelimit_policies_valid 1";
const FAULTY: &str = "tidegate_ratelimit_policies_valid 0";

fn reloads(outcome: &str, count: u32) -> String {
    format!("tidegate_ratelimit_policy_reloads_total{{outcome=\"{outcome}\"}} {count}")
}

#[test]
fn a_new_content_is_put_in_force_with_the_next_version() {
    let watching = Watching::new("cost > 1");
    let mut watched = watching.watched();
    fs::write(watching.path(), text("cost > 2")).expect("written");
    watched.look();
    assert_eq!(watching.in_force(), ("cost > 2".to_owned(), 2));
    assert!(watching.tells(VALID) && watching.tells(&reloads("applied", 1)));
}

/// Whether the file was read in each of three looks, one after the other.
fn reads(watched: &mut Watched) -> [bool; 3] {
    [(); 3].map(|()| {
        let seen = std::mem::replace(&mut watched.seen, Seen::Text(0));
        watched.look_unless_settled();
        let is_read = watched.seen != Seen::Text(0);
        if !is_read {
            watched.seen = seen;
        }
        is_read
    })
}

#[test]
fn a_file_that_rests_is_read_twice_and_any_change_makes_it_be_read() {
    let watching = Watching::new("cost > 1");
    let mut watched = watching.watched();
    assert_eq!(reads(&mut watched), [true, true, false]);
    fs::write(watching.path(), text("cost > 22")).expect("written");
    assert_eq!(reads(&mut watched), [true, true, false]);
    assert_eq!(watching.in_force().0, "cost > 22");
    let other = watching.folder.path().join("other.toml");
    fs::write(&other, text("cost > 33")).expect("written");
    fs::rename(other, watching.path()).expect("moved");
    assert_eq!(reads(&mut watched), [true, true, false]);
    assert_eq!(watching.in_force().0, "cost > 33");
    watched.look_after_change();
    assert_eq!(reads(&mut watched), [true, true, false], "a change was told");
}

#[test]
fn a_file_that_cannot_be_read_is_read_as_soon_as_it_can() {
    let watching = Watching::new("cost > 1");
    let mut watched = watching.watched();
    let aside = watching.folder.path().join("aside.toml");
    fs::rename(watching.path(), &aside).expect("moved");
    // It can be opened, not read.
    fs::create_dir(watching.path()).expect("made");
    assert_eq!(reads(&mut watched), [true, true, true]);
    fs::remove_dir(watching.path()).expect("removed");
    assert_eq!(reads(&mut watched), [true, true, true]);
    fs::write(aside.as_path(), text("cost > 22")).expect("written");
    fs::rename(aside, watching.path()).expect("moved");
    assert_eq!(reads(&mut watched), [true, true, false]);
    assert_eq!(watching.in_force().0, "cost > 22");
}

#[test]
fn a_content_that_is_the_same_changes_nothing() {
    let watching = Watching::new("cost > 1");
    let mut watched = watching.watched();
    fs::write(watching.path(), text("cost > 1")).expect("written");
    watched.look();
    assert_eq!(watching.in_force(), ("cost > 1".to_owned(), 1));
}

#[test]
fn a_content_with_a_fault_changes_nothing_and_is_told_once() {
    let watching = Watching::new("cost > 1");
    let mut watched = watching.watched();
    for (count, faulty) in
        [(1, text("cost >").into_bytes()), (2, text("host == 1").into_bytes()), (3, vec![0xff])]
    {
        fs::write(watching.path(), faulty).expect("written");
        watched.look();
        watched.look();
        assert_eq!(watching.in_force(), ("cost > 1".to_owned(), 1));
        assert!(watching.tells(FAULTY) && watching.tells(&reloads("rejected", count)));
    }
}

#[test]
fn a_file_that_is_gone_changes_nothing_and_is_read_when_it_is_back() {
    let watching = Watching::new("cost > 1");
    let mut watched = watching.watched();
    fs::remove_file(watching.path()).expect("it is there");
    watched.look();
    watched.look();
    assert_eq!(watching.in_force(), ("cost > 1".to_owned(), 1));
    assert!(watching.tells(VALID) && watching.tells(&reloads("unreadable", 1)));
    fs::write(watching.path(), text("cost > 3")).expect("written");
    watched.look();
    assert_eq!(watching.in_force(), ("cost > 3".to_owned(), 2));
}

#[test]
fn a_check_under_way_keeps_the_policies_it_began_with() {
    let watching = Watching::new("cost > 1");
    let mut watched = watching.watched();
    let began_with = watching.policies.load();
    fs::write(watching.path(), text("cost > 2")).expect("written");
    watched.look();
    assert_eq!(began_with.version(), 1);
    assert!(began_with.namespace("test").is_some());
    assert_eq!(watching.policies.load().version(), 2);
}

#[tokio::test]
async fn an_edit_is_seen_while_the_watch_lives() {
    let watching = Watching::new("cost > 1");
    let path = watching.path();
    let before = watching.policies.load().fingerprint();
    let watch =
        PolicyWatch::start(&path, before, watching.apply(), &watching.metrics, &CancellationToken::new());
    // In place, and by another file that takes its place.
    for (version, replaces) in [(2, false), (3, true)] {
        let written = if replaces { path.with_extension("new") } else { path.clone() };
        fs::write(&written, text(&format!("cost > {version}"))).expect("written");
        fs::rename(written, &path).expect("renamed");
        let seen = async || Ok(watching.in_force().1 == version);
        let within = Duration::from_secs(20);
        eventually("the edit is in force", within, seen).await.unwrap_or_else(|error| panic!("{error}"));
    }
    drop(watch);
}

#[test]
fn a_watch_needs_a_runtime() {
    let watching = Watching::new("cost > 1");
    let (path, metrics) = (watching.path(), &watching.metrics);
    let started = PolicyWatch::start(&path, 0, watching.apply(), metrics, &CancellationToken::new());
    assert!(started.is_err());
}
